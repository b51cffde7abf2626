"""Plots: whole PNG files with something in them, whatever the latencies and names are."""

from __future__ import annotations

import io

import numpy as np
import pytest
from run_factory import make_comparison, make_run

from vozmetro.judge.comparison import compare_record
from vozmetro.judge.decision import judge
from vozmetro.judge.statistics import summarize_run
from vozmetro.measure.records import Run
from vozmetro.report import canvas, plots

image = pytest.importorskip("matplotlib.image")

HOSTILE = "$x^{$ \\frac{ | <b> 模型 😀 " + "n" * 300


def pixels(png: bytes) -> np.ndarray:
    assert png.startswith(b"\x89PNG\r\n\x1a\n")
    return np.asarray(image.imread(io.BytesIO(png), format="png"))[..., :3]


def check(png: bytes | None) -> np.ndarray:
    """Holds that it is about 1200 pixels wide, mostly background, and has drawn marks."""
    assert png is not None
    found = pixels(png)
    assert 1150 <= found.shape[1] <= 1250
    ink = float((found.min(axis=2) < 0.95).mean())
    assert 0.01 < ink < 0.6
    grey = found.mean(axis=2)
    # Readable in grey: near-black lines, white paper and shades between.
    assert grey.min() < 0.2
    assert len(np.unique(np.round(grey, 2))) > 20
    return found


def all_plots(run: Run, lang: str = "es") -> list[bytes | None]:
    summary, decision = summarize_run(run), judge(run)
    return [
        plots.latency_distribution(run, summary, decision, lang),
        plots.latency_by_length(run, summary, decision, lang),
        plots.samples_over_time(run, lang),
    ]


@pytest.mark.parametrize("lang", ["es", "en"])
def test_plots_of_a_run(lang: str) -> None:
    for png in all_plots(make_run(slope=0.1), lang):
        check(png)


@pytest.mark.parametrize("median_ms", [0.05, 90_000.0])
def test_plots_of_extreme_latencies(median_ms: float) -> None:
    for png in all_plots(make_run(median_ms=median_ms, sigma=1.5, rounds=8)):
        check(png)


def test_plots_of_equal_samples_and_hostile_names() -> None:
    for png in all_plots(make_run(HOSTILE, sigma=0.0, rounds=2)):
        check(png)


def test_one_length_has_no_plot_against_length() -> None:
    run = make_run(lengths=(2.0,))
    assert plots.latency_by_length(run, summarize_run(run), judge(run), "es") is None


def test_comparison_plot_differs_with_the_data() -> None:
    one = check(plots.comparison_plot(compare_record(make_comparison()), "es"))
    even = make_comparison(make_run(HOSTILE, seed=3), make_run("b", seed=4))
    other = check(plots.comparison_plot(compare_record(even), "es"))
    assert one.shape == other.shape
    assert float(np.abs(one - other).mean()) > 0.005


def test_language_changes_the_labels() -> None:
    run = make_run()
    assert plots.samples_over_time(run, "es") != plots.samples_over_time(run, "en")


def test_the_same_run_gives_the_same_bytes() -> None:
    run = make_run()
    assert plots.samples_over_time(run, "es") == plots.samples_over_time(run, "es")


def spread(low: float, high: float) -> Run:
    run = make_run(sigma=0.0, rounds=2)
    samples = list(run.samples)
    samples[0] = samples[0].model_copy(update={"ms": low})
    samples[1] = samples[1].model_copy(update={"ms": high})
    return run.model_copy(update={"samples": samples})


@pytest.mark.parametrize(("high", "log"), [(190.0, False), (30_000.0, True)])
def test_axis_is_logarithmic_only_over_a_twentyfold_spread(
    high: float, log: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []
    real = canvas.png

    def spy(figure: object) -> bytes:
        seen.append(figure.axes[0].get_yscale())  # type: ignore[attr-defined]
        return real(figure)  # type: ignore[arg-type]

    monkeypatch.setattr(canvas, "png", spy)
    plots.samples_over_time(spread(100.0, high), "es")
    assert seen == ["log" if log else "linear"]
