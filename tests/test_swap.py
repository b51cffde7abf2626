"""What one subject costs in place of another: measured, kept, and held against what it saves."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import onnx_zoo
import pytest
from click.testing import CliRunner
from rich.console import Console

from vozmetro.cli.app import build
from vozmetro.errors import InputError
from vozmetro.judge.swap import swap_ms, worth
from vozmetro.measure.storage import load as load_record
from vozmetro.measure.swap_records import Swap, SwapIn, SwapSide, load, save
from vozmetro.planning import Options
from vozmetro.prepare import swap as swapping
from vozmetro.report.swap import print_swap

MB = 10**6


def side(subject: str, steady: list[float], **changes: Any) -> SwapSide:
    values: dict[str, Any] = {
        "subject": subject, "kind": "cascade", "expected_ram": 300 * MB, "import_ms": 500.0,
        "load_ms": 900.0, "first_ms": 300.0, "loaded_rss": 200 * MB, "peak_rss": 250 * MB,
        "steady_ms": steady,
        "swaps": [
            SwapIn(drop_ms=10.0, load_ms=ms, first_ms=90.0) for ms in (500.0, 9000.0, 400.0)
        ],
    }  # fmt: skip
    return SwapSide(**(values | changes))


def record(a: list[float], b: list[float], **changes: Any) -> Swap:
    values: dict[str, Any] = {
        "id": "x", "created": "2025-10-29T10:31:00Z", "vozmetro": "0.1.0", "cpu": "i7",
        "threads": 2, "items": 2, "rounds": 6, "interleaved": True,
        "a": side("small", a), "b": side("large", b),
        "both_peak_rss": 480 * MB, "swap_peak_rss": 310 * MB,
    }  # fmt: skip
    return Swap(**(values | changes))


NOISE = [0.0, 3.0, -2.0, 1.0, 4.0, -1.0, 2.0, 0.5, -3.0, 1.5, 2.5, -0.5]
SLOW, FAST = [200.0 + one for one in NOISE], [80.0 - one for one in NOISE]


def test_a_swap_pays_after_its_cost_over_what_it_saves() -> None:
    for pair, faster in (((SLOW, FAST), "b"), ((FAST, SLOW), "a")):
        found = worth(record(*pair))
        assert found.faster == faster
        # 10 + 500 + 90 ms, the median of three, over 120 ms and twice the noise's median.
        assert found.cost_ms == 600.0
        assert abs(found.saved_ms.value) == pytest.approx(121.5)
        assert found.requests == 5


def test_without_a_sure_difference_no_swap_pays() -> None:
    even = [one if index % 2 else -one for index, one in enumerate(NOISE)]
    for a, b in (([100.0 + one for one in even], [100.0] * 12), (SLOW[:3], FAST[:3])):
        found = worth(record(a, b))
        assert (found.faster, found.requests) == (None, None)


def test_the_cost_is_the_median_of_all_three_steps() -> None:
    assert swap_ms(side("x", [1.0])) == 600.0


@pytest.mark.parametrize("lang", ["es", "en"])
def test_it_is_printed_within_80_columns(lang: str) -> None:
    console = Console(width=80, file=io.StringIO())
    print_swap(console, record(FAST, SLOW), lang)
    apart = record(SLOW[:3], FAST[:3], both_peak_rss=None, interleaved=False)
    dummy = apart.b.model_copy(update={"weights": "dummy"})
    print_swap(console, apart.model_copy(update={"b": dummy}), lang)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert max(map(len, text.splitlines())) <= 80
    flat = " ".join(text.split())
    for figure in ("600.0 ms", "121.5 ms", "310.0 MB", "480.0 MB", " 5 "):
        assert figure in flat
    assert flat.count("Random weights" if lang == "en" else "Pesos aleatorios") == 1
    assert ("A answers" if lang == "en" else "A contesta") in flat
    assert ("Neither is faster" if lang == "en" else "Ninguno es más rápido") in flat


def test_it_is_kept_and_read_as_what_it_is(tmp_path: Path) -> None:
    path = save(record(SLOW, FAST), tmp_path)
    assert load(path) == load(tmp_path) == record(SLOW, FAST)
    with pytest.raises(InputError) as caught:
        load_record(path)
    assert caught.value.code == "run_unreadable"


@pytest.fixture
def graphs(tmp_path: Path) -> tuple[Path, Path]:
    return (
        onnx_zoo.waveform_model(tmp_path / "small.onnx"),
        onnx_zoo.waveform_model(tmp_path / "large.onnx", channels=64),
    )


def test_two_models_measured_from_the_command_line(
    graphs: tuple[Path, Path], tmp_path: Path
) -> None:
    words = ["swap", *map(str, graphs), "--audio-seconds", "0.5,1", "--swaps", "2"]
    words += ["--iterations", "3", "--threads", "1", "--out", str(tmp_path / "out")]
    result = CliRunner().invoke(build("en"), words, standalone_mode=False)
    assert result.exception is None
    found = load(tmp_path / "out")
    assert (found.items, found.rounds, found.interleaved, found.threads) == (2, 3, True, 1)
    assert [Path(one.subject).name for one in (found.a, found.b)] == ["small.onnx", "large.onnx"]
    for one in (found.a, found.b):
        assert len(one.steady_ms) == 6
        assert len(one.swaps) == 2
        assert min(one.load_ms, one.first_ms, one.import_ms, *one.steady_ms) > 0
        assert all(min(swap.drop_ms, swap.load_ms, swap.first_ms) > 0 for swap in one.swaps)
        assert 20 * MB < one.loaded_rss <= one.peak_rss
    assert found.both_peak_rss is not None
    assert str(tmp_path / "out" / "swap.json") in result.output.replace("\n", "")


def test_what_does_not_fit_together_is_timed_apart(
    graphs: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(swapping, "fit_together", lambda _: False)
    options = Options(iterations=2, audio_seconds=[0.5], threads=1)
    found = swapping.swap(*map(str, graphs), options, swaps=1)
    assert (found.interleaved, found.both_peak_rss) == (False, None)
    assert [len(one.steady_ms) for one in (found.a, found.b)] == [2, 2]


@pytest.mark.parametrize(
    ("b", "swaps", "code"), [("piper-joe", 1, "swap_kinds"), ("", 0, "swaps_range")]
)
def test_what_cannot_be_swapped(graphs: tuple[Path, Path], b: str, swaps: int, code: str) -> None:
    with pytest.raises(InputError) as caught:
        swapping.swap(str(graphs[0]), b or str(graphs[1]), swaps=swaps)
    assert caught.value.code == code
