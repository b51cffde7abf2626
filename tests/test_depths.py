"""Depths: the line, how far it can be trusted, and whole studies of tiny models."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import omni_tiny
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from vozmetro import api, studies
from vozmetro.cli.app import build
from vozmetro.cli.report import report as report_again
from vozmetro.errors import InputError, ModelError
from vozmetro.judge.budget import Budget
from vozmetro.judge.depth_report import Figure, depth_report
from vozmetro.judge.depths import fit
from vozmetro.judge.statistics import Interval
from vozmetro.measure import environment, storage
from vozmetro.measure.components import CODES, stages
from vozmetro.measure.depth_records import DepthStudy
from vozmetro.measure.records import Note, Run
from vozmetro.measure.schedule import Progress
from vozmetro.models import architectures, dummy_name
from vozmetro.models.architectures import Architecture
from vozmetro.planning import Options
from vozmetro.report.depths import check_rows, study_json

ROPE = {"rope_theta": 1e6, "rope_scaling": {"mrope_section": [6, 5, 5], "rope_type": "default"}}
VL: dict[str, Any] = {
    "model_type": "qwen3_vl",
    "tie_word_embeddings": True,
    "text_config": {
        "model_type": "qwen3_vl_text",
        "attention_bias": False,
        "head_dim": 32,
        "hidden_act": "silu",
        "hidden_size": 64,
        "intermediate_size": 96,
        "max_position_embeddings": 512,
        "num_attention_heads": 4,
        "num_hidden_layers": 12,
        "num_key_value_heads": 2,
        "rms_norm_eps": 1e-6,
        "tie_word_embeddings": True,
        "vocab_size": 300,
        **ROPE,
    },
}
OMNI = copy.deepcopy(omni_tiny.CONFIG)
OMNI["thinker_config"]["text_config"]["num_hidden_layers"] = 10
OMNI["talker_config"]["num_code_groups"] = CODES + 1
OMNI["talker_config"]["code_predictor_config"]["num_code_groups"] = CODES + 1
OMNI["code2wav_config"] |= {"num_quantizers": CODES + 1, "codebook_size": 128}
QUICK = Options(
    iterations=6,
    until="iterations",
    threads=1,
    prompt_tokens=(4, 8),
    new_tokens=3,
    layers=(1, 2, 4),
)
VL_NAME, OMNI_NAME = "dummy:qwen3-vl-4b:fp32", "dummy:qwen3-omni-30b-a3b:fp32"


def options(**changes: object) -> Options:
    return Options(**{**QUICK.__dict__, **changes})  # type: ignore[arg-type]


@pytest.fixture(autouse=True)
def _tiny(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Both architectures at a size for tests, made by the real writers into a new cache."""
    known = {"qwen3-vl-4b": VL, "qwen3-omni-30b-a3b": OMNI}
    monkeypatch.setattr(
        architectures, "load", lambda name: Architecture(name, known[name], {}, "a test")
    )
    # The real ones have a part that sees images, which takes no part in this.
    monkeypatch.setattr(Architecture, "components", property(_components))
    monkeypatch.setenv("VOZMETRO_CACHE", str(tmp_path / "cache"))


def _components(self: Architecture) -> tuple[str, ...]:
    from vozmetro.models import tensors

    return tuple(one for one in tensors.components(self.config) if one != "vision")


# The line ----------------------------------------------------------------------------------------


def test_a_line_is_found() -> None:
    found = fit({1: [3.0], 2: [5.0], 4: [9.0]}, 36)
    assert (found.intercept, found.slope) == (pytest.approx(1.0), pytest.approx(2.0))
    assert found.value == pytest.approx(73.0)
    assert (found.low, found.high) == (pytest.approx(73.0), pytest.approx(73.0))
    assert found.r2 == pytest.approx(1.0)
    assert found.warnings == ()
    assert found.reach == 9.0


def test_the_interval_is_students() -> None:
    # By hand: medians 2, 4, 7 at 1, 2, 3: line -2/3 + 2.5 x, residuals 1/6, -1/3, 1/6, s^2 = 1/6,
    # and at 4 the variance is s^2 (1 + 1/3 + 4/2); t(0.975, 1) = 12.7062.
    found = fit({1: [2.0], 2: [4.0], 3: [7.0]}, 4)
    assert found.value == pytest.approx(28 / 3)
    half = 12.7062 * np.sqrt(1 / 6 * (1 + 1 / 3 + 2))
    assert found.high - found.value >= half - 1e-3
    # It would reach below nothing; but more layers do not take less time.
    assert found.low == 7.0
    # R^2 = 1 - (1/6) / (38/3).
    assert found.r2 == pytest.approx(1 - 1 / 76)


def test_what_was_measured_once_is_the_median() -> None:
    found = fit({1: [1, 2, 90], 2: [4, 3, 5], 4: [8, 7, 9]}, 8)
    assert found.medians == (2.0, 4.0, 8.0)


@pytest.mark.parametrize("count", [0, 1, 2])
def test_fewer_than_three_depths_are_refused(count: int) -> None:
    with pytest.raises(InputError) as caught:
        fit({depth: [1.0] for depth in range(1, count + 1)}, 36)
    assert caught.value.code == "depths_few"


def test_a_bend_and_a_long_reach_are_warned_of() -> None:
    assert fit({1: [1.0], 2: [4.0], 4: [5.0]}, 8).warnings == ("depths_not_linear",)
    assert fit({1: [1.0], 2: [2.0], 4: [4.0]}, 49).warnings == ("depths_far",)
    assert fit({1: [1.0], 2: [2.0], 4: [4.0]}, 48).warnings == ()


@given(
    st.lists(st.integers(1, 30), min_size=3, max_size=6, unique=True),
    st.floats(0, 50),
    st.floats(0.01, 50),
    st.floats(0.01, 100),
)
def test_the_line_does_not_hang_on_the_unit(
    depths: list[int], intercept: float, slope: float, unit: float
) -> None:
    noise = np.random.default_rng(0).normal(1, 0.02, (len(depths), 5))
    samples = {
        depth: list((intercept + slope * depth) * row)
        for depth, row in zip(depths, noise, strict=True)
    }
    scaled = {depth: [unit * one for one in values] for depth, values in samples.items()}
    one, other = fit(samples, 36), fit(scaled, 36)
    assert one.low <= one.value <= one.high
    for name in ("value", "high", "slope"):
        assert getattr(other, name) == pytest.approx(unit * getattr(one, name), rel=1e-6)
    assert other.r2 == pytest.approx(one.r2, abs=1e-9)


@pytest.mark.parametrize("depths", [(1, 2, 4), (1, 2, 4, 8)])
@pytest.mark.parametrize("grows", [True, False], ids=["noise grows", "noise is equal"])
@pytest.mark.parametrize("drift", [0.0, 0.05], ids=["steady", "drifting"])
def test_the_interval_covers_at_least_as_often_as_it_says(
    depths: tuple[int, ...], grows: bool, drift: float
) -> None:
    """The median at full depth of a run like those that the line was drawn through."""
    random = np.random.default_rng(7)
    runs, rounds, full, held = 300, 20, 36, 0
    for _ in range(runs):
        common = random.normal(0, drift, rounds)

        def taken(layers: int, common: np.ndarray = common) -> np.ndarray:
            level = 2.0 + 1.6 * layers
            off = random.normal(0, 0.03, rounds) + common
            return np.asarray(level * np.exp(off) if grows else level + 3 * off)

        found = fit({depth: list(taken(depth)) for depth in depths}, full)
        held += found.low <= float(np.median(taken(full))) <= found.high
    assert held / runs >= 0.95


# Studies -----------------------------------------------------------------------------------------


def test_a_study_times_every_depth_in_every_round(tmp_path: Path) -> None:
    seen: list[str] = []

    def listen(progress: Progress) -> None:
        seen.append(progress.phase)

    study = studies.study(VL_NAME, QUICK, out=tmp_path / "out", listen=listen)
    assert study == storage.load(tmp_path / "out")
    assert study.status == "complete"
    assert {"building", "loading", "measuring"} <= set(seen)
    assert [one.id for one in study.parts] == ["text/1", "text/2", "text/4"]
    assert {one.full_layers for one in study.parts} == {12}
    assert len(study.tasks) == 6
    orders = []
    for number in range(6):
        mine = [sample.item for sample in study.samples if sample.round == number]
        assert sorted(mine) == sorted(task.id for task in study.tasks)
        orders.append(tuple(mine))
    # Depths take turns, in another order each time.
    assert len(set(orders)) > 1
    assert all(sample.probe_gbs is not None for sample in study.samples)
    # One process, one load of each.
    assert len(study.sessions) == 1
    assert all(one.load_ms > 0 for one in study.parts)
    # Twice the layers, twice the cache: 2 heads x 32 x keys and values x 4 bytes.
    for task in study.tasks:
        layers = int(task.part.split("/")[1])
        assert task.cache_bytes == layers * 2 * 2 * 32 * 4 * (task.tokens + task.new_tokens - 1)
    subject = study.subject
    assert (subject.weights, subject.architecture, subject.seed) == ("dummy", "qwen3-vl-4b", 0)
    assert subject.architecture_sha256 == architectures.canonical_sha256(VL)


def test_what_it_comes_to_is_said_to_be_extrapolated(tmp_path: Path) -> None:
    study = studies.study(VL_NAME, QUICK)
    report = depth_report(study)
    assert report.depths == (1, 2, 4)
    assert [(one.name, one.kind) for one in report.figures] == [
        ("text · 4 tokens", "first_token"),
        ("text · 4 tokens", "per_token"),
        ("text · 8 tokens", "first_token"),
        ("text · 8 tokens", "per_token"),
    ]
    assert all(one.extrapolated and one.fit is not None for one in report.figures)
    assert report.subject.tokens == 8
    codes = [note.code for note in report.notes]
    assert {"extrapolated", "dummy_weights", "language_stage"} <= set(codes)
    told = study_json(study, report)
    assert told["extrapolated"] is True
    assert all(one["extrapolated"] for one in told["figures"])
    json.dumps(told, allow_nan=False)
    # What they need was known well enough before they were written.
    dummy = dummy_name.parse(VL_NAME)
    for part in study.parts:
        assert dummy.ram_of("text", part.layers) == pytest.approx(part.expected_ram, rel=0.05)
    # Bytes grow in an exact line with the layers: of 12, as three depths tell.
    parts = {one.layers: sum(file.bytes for file in one.files) for one in study.parts}
    layer = (parts[4] - parts[1]) / 3
    assert report.bytes == pytest.approx(parts[1] + 11 * layer, rel=0.02)


def test_the_full_depth_checks_the_extrapolation(tmp_path: Path) -> None:
    study = studies.study(VL_NAME, options(check_full=True, iterations=20))
    assert [one.layers for one in study.parts] == [1, 2, 4, 12]
    report = depth_report(study)
    for one in report.figures:
        assert one.measured is not None
        assert not one.extrapolated
        assert one.value == one.measured.value
        assert one.fit is not None
        assert one.fit.layers == (1, 2, 4)
        assert one.error == pytest.approx(one.fit.value / one.measured.value - 1)
    assert "extrapolated" not in {note.code for note in report.notes}


def test_an_interval_that_nothing_could_miss_gets_no_tick() -> None:
    line, bent = fit({1: [3.0], 2: [5.0], 4: [9.0]}, 12), fit({1: [3.0], 2: [6.0], 4: [9.0]}, 12)
    figures = [
        Figure("a", "call", 0, 0.0, {}, found, Interval(value, value, value))
        for found, value in ((line, 25.0), (line, 26.0), (bent, 24.0))
    ]
    last = [row[-1] for row in check_rows(figures, "en")]
    assert last == ["✅ yes", "❌ no", f"±{100 * (bent.high / bent.value - 1):.0f} %"]


def test_omni_is_measured_by_component_and_added_up(tmp_path: Path) -> None:
    study = studies.study(OMNI_NAME, options(prompt_tokens=(8, 64)), out=tmp_path / "out")
    components = [one.component for one in study.parts]
    assert components[:3] == ["thinker"] * 3
    assert set(components) == {"thinker", "talker", "code_predictor", "audio_encoder", "code2wav"}
    report = depth_report(study)
    whole = {one.name: one for one in report.figures if one.kind == "call"}
    assert set(whole) == {
        "audio_encoder · 1 s",
        "audio_encoder · 3 s",
        "talker · token",
        f"code_predictor · {CODES} steps",
        "code2wav · frame",
    }
    # Of these all the layers were there.
    assert not any(one.extrapolated for one in whole.values())
    assert [one.tokens for one in report.first_audio] == [1, 4]
    first, later = report.first_audio
    assert first.extrapolated
    assert first.value < later.value
    # The sum of the medians is near the median of the sums.
    ttft, each = (
        next(
            one for one in report.figures if one.name == "thinker · 64 tokens" and one.kind == kind
        )
        for kind in ("first_token", "per_token")
    )
    around = sum(one.value for name, one in whole.items() if name != "audio_encoder · 1 s")
    assert first.value == pytest.approx(around + ttft.value + each.value, rel=0.5)
    assert report.subject is first
    assert "first_audio_sum" in {note.code for note in report.notes}


def test_the_verdict_follows_the_interval_and_the_memory() -> None:
    study = on_a_line(studies.study(VL_NAME, QUICK))
    quick = depth_report(study, Budget(p50_ms=1e6, slow_ms=2e6))
    assert [check.status for check in quick.checks] == ["pass", "pass"]
    assert quick.status == "pass"
    low = quick.subject.low
    assert low is not None
    slow = depth_report(study, Budget(p50_ms=max(low / 2, 1e-9), slow_ms=2e6))
    assert slow.status == "fail"
    heavy = depth_report(study, Budget(p50_ms=1e6, slow_ms=2e6, ram_bytes=1000.0))
    assert heavy.checks[1].status == "fail"
    assert heavy.status == "fail"
    surroundings = study.environment.model_copy(update={"ram_available": 1000})
    assert not depth_report(study.model_copy(update={"environment": surroundings})).fits


def on_a_line(study: DepthStudy, bend: float = 0.0) -> DepthStudy:
    """The same with made-up times: 5 ms and 2 a layer, more with its square where bent."""
    parts = {task.id: part.layers for task in study.tasks for part in study.parts
             if part.id == task.part}  # fmt: skip
    samples = [
        one.model_copy(update={"ms": 5 + 2 * parts[one.item] + bend * parts[one.item] ** 2})
        for one in study.samples
    ]
    return study.model_copy(update={"samples": samples})


def test_what_is_doubtful_is_never_a_pass() -> None:
    study = on_a_line(studies.study(VL_NAME, QUICK))
    easy = Budget(p50_ms=1e6, slow_ms=2e6)
    assert depth_report(study, easy).status == "pass"
    bent = depth_report(on_a_line(study, bend=20.0), easy)
    assert "depths_not_linear" in {note.code for note in bent.notes}
    assert bent.status == "undecided"
    failed = study.model_copy(update={"status": "failed"})
    assert depth_report(failed, easy).status == "undecided"
    nan = study.model_copy(update={"notes": [*study.notes, Note(code="nan_output")]})
    assert depth_report(nan, easy).status == "undecided"
    # The RAM is only estimated: near the limit it decides nothing.
    near = Budget(p50_ms=1e6, slow_ms=2e6, ram_bytes=1.1 * depth_report(study).ram)
    assert depth_report(study, near).checks[1].status == "undecided"


def test_a_broken_off_study_is_resumed(tmp_path: Path) -> None:
    out = tmp_path / "out"
    whole = studies.study(VL_NAME, options(iterations=3), out=out)
    asked = whole.settings.model_copy(update={"iterations": 6})
    storage.save(
        whole.model_copy(update={"status": "running", "settings": asked}), out / "depths.json"
    )
    resumed = api.resume(out)
    assert isinstance(resumed, DepthStudy)
    assert resumed.status == "complete"
    assert resumed.samples[: len(whole.samples)] == whole.samples
    assert {sample.round for sample in resumed.samples} == set(range(6))
    assert len(resumed.sessions) == 2
    assert "resumed" in {note.code for note in resumed.notes}
    # With other weights it would be another model.
    part = whole.parts[0].model_copy(update={"files": []})
    storage.save(whole.model_copy(update={"parts": [part, *whole.parts[1:]]}), out / "depths.json")
    with pytest.raises(InputError) as caught:
        api.resume(out)
    assert caught.value.code == "resume_changed"


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"layers": (1, 2)}, "depths_few"),
        ({"layers": (1, 2, 12)}, "depths_range"),
        ({"layers": (0, 1, 2)}, "depths_range"),
    ],
)
def test_depths_that_make_no_sense_are_refused(changes: dict[str, Any], code: str) -> None:
    with pytest.raises(InputError) as caught:
        studies.study(VL_NAME, options(**changes))
    assert caught.value.code == code


@pytest.mark.parametrize(
    "name", ["dummy:", "dummy:qwen3-vl-4b", "dummy:qwen3-vl-4b:int3", "dummy::"]
)
def test_a_name_that_is_none_says_which_there_are(name: str) -> None:
    with pytest.raises(InputError) as caught:
        dummy_name.parse(name)
    assert caught.value.code == "dummy_name"


def test_random_weights_are_no_stage_of_a_cascade() -> None:
    with pytest.raises(InputError, match=r"Measure it alone: dummy:whisper-small:int8$"):
        dummy_name.parse("dummy:whisper-small:int8+piper-joe-onnx")


def test_what_does_not_fit_is_studied_or_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    plain = Options()
    assert not studies.wants_study("model.onnx", options())
    assert not studies.wants_study(VL_NAME, plain)
    assert studies.wants_study(VL_NAME, QUICK)
    assert studies.wants_study(OMNI_NAME, plain)
    monkeypatch.setattr(environment, "available_ram", lambda: 1_000_000)
    assert studies.wants_study(VL_NAME, plain)
    with pytest.raises(ModelError) as caught:
        studies.study(VL_NAME, options(check_full=True))
    assert caught.value.code == "full_does_not_fit"
    with pytest.raises(ModelError) as caught:
        studies.study(VL_NAME, QUICK)
    assert caught.value.code == "depths_do_not_fit"
    # Nothing was written for it.
    assert not list(tmp_path.rglob("*.onnx"))


def test_a_dummy_that_fits_is_a_subject_like_any_other(tmp_path: Path) -> None:
    run = api.bench(VL_NAME, options(layers=()))
    assert isinstance(run, Run)
    assert run.subject.name == VL_NAME
    assert (run.subject.kind, run.subject.weights, run.subject.seed) == ("lm", "dummy", 0)
    assert run.subject.architecture_sha256 == architectures.canonical_sha256(VL)
    with pytest.raises(InputError) as caught:
        api.bench(OMNI_NAME, options(layers=()))
    assert caught.value.code == "dummy_parts"


def test_the_command_says_extrapolated_everywhere(tmp_path: Path) -> None:
    out = tmp_path / "out"
    words = ["bench", VL_NAME, "--layers", "1,2,4", "--prompt-tokens", "4,8", "--new-tokens", "3"]
    words += ["--iterations", "4", "--threads", "1", "--out", str(out), "--no-gate"]
    done = CliRunner().invoke(build("es"), words, standalone_mode=False)
    assert done.exception is None, done.exception
    assert done.return_value == 0
    lines = [line for line in done.output.splitlines() if str(out) not in line]
    assert max(map(len, lines)) <= 80
    report = (out / "report.md").read_text()
    for text in (done.output, report):
        assert text.count("EXTRAPOLADO") >= 5
        assert "pesos aleatorios" in text
    # Saved studies have their section in a common report.
    assert report_again([out], tmp_path / "other", None, "en") == 0
    assert "EXTRAPOLATED" in (tmp_path / "other" / "report.md").read_text()


def test_depths_are_for_bench_only() -> None:
    words = ["compare", VL_NAME, VL_NAME, "--layers", "1,2,4"]
    done = CliRunner().invoke(build("en"), words, standalone_mode=False)
    assert "vozmetro bench" in str(done.exception)
    for command, shown in (("bench", True), ("compare", False)):
        said = CliRunner().invoke(build("en"), [command, "--help"]).output
        assert ("--layers" in said, "--check-full" in said) == (shown, shown)


def test_every_stage_of_a_component_has_a_name_of_its_own() -> None:
    names = [
        stage.name
        for component in ("audio_encoder", "talker", "code_predictor", "code2wav")
        for stage in stages(component)
    ]
    assert len(set(names)) == len(names)
    (steps,) = stages("code_predictor")
    # The first step reads two tokens; after it the cache holds one more each time.
    assert [call.past for call in steps.calls] == [0, *range(2, CODES + 1)]
    assert len(steps.calls) == CODES
