"""Claims against evidence: each status from figures whose answer is known."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx_zoo
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len
from run_factory import make_comparison, make_environment, make_run

from vozmetro.cli.hypotheses import commands
from vozmetro.cli.run import run as run_command
from vozmetro.errors import InputError
from vozmetro.hypotheses.files import known_architectures, read_claims, read_evidence
from vozmetro.i18n import LANGUAGES, t
from vozmetro.judge.claims import Claim, parse_claims
from vozmetro.judge.derived import from_depths, from_roofline
from vozmetro.judge.evidence import (
    About,
    Evidence,
    difference,
    from_comparison,
    from_run,
    machine_of,
    spoken,
)
from vozmetro.judge.findings import STATUSES, Finding
from vozmetro.judge.hypotheses import check
from vozmetro.judge.impossible import frames_of
from vozmetro.judge.word_errors import from_error_pairs, from_errors
from vozmetro.measure.depth_records import DepthPart, DepthStudy, DepthTask
from vozmetro.measure.records import ComparisonRecord, FileInfo, Item, Note, Run, Sample
from vozmetro.measure.roofline_records import Floor, Machine, Roofline, Step
from vozmetro.measure.storage import save
from vozmetro.report.hypotheses import claimed_text, found_text, reason_text, verdict_text
from vozmetro.report.hypotheses_page import Header, render_page

HERE = machine_of(make_environment())
VL4B = "qwen3-vl-4b"
GUIDE = {claim.id: claim for claim in read_claims("guia").claims}


def claim(**changes: Any) -> Claim:
    """A promise of at most about 80 ms (64 to 96) of any Whisper-small."""
    words = {"es": "Tarda unos 80 ms", "en": "It takes about 80 ms"}
    values: dict[str, Any] = {
        "id": "c",
        "section": words,
        "says": words,
        "metric": "latency_p50_ms",
        "compare": "about",
        "value": 80.0,
        "unit": "ms",
        "promise": True,
        "subject": {"names": ["whisper-small*"], "kinds": ["stt"]},
    }
    return Claim.model_validate(values | changes)


def latency(low: float | None, high: float | None, **changes: Any) -> Evidence:
    ends = [end for end in (low, high) if end is not None] or [80.0]
    base = Evidence(
        metric="latency_p50_ms",
        value=sum(ends) / len(ends),
        low=low,
        high=high,
        about=About(name="whisper-small", kind="stt", names=("whisper-small",), precision="INT8"),
        source="run",
        id="run-1",
        machine=HERE,
    )
    return replace(base, **changes)


def verdict(one: Claim, *evidence: Evidence, machine: str = HERE) -> Finding:
    (found,) = check([one], evidence, machine)
    return found


# --- Status by interval ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("low", "high", "status"),
    [
        (70.0, 90.0, "confirmed"),
        (70.0, 96.0, "confirmed"),  # +20 % of 80
        (90.0, 100.0, "undecided"),
        (96.1, 120.0, "refuted"),
        (None, 90.0, "confirmed"),  # a promise has no lower end to resolve
        (70.0, None, "undecided"),
        (20.0, 30.0, "confirmed"),
    ],
)
def test_a_promise_is_judged_by_its_upper_end(
    low: float | None, high: float | None, status: str
) -> None:
    assert verdict(claim(), latency(low, high)).status == status


@pytest.mark.parametrize(
    ("low", "high", "status"),
    [
        (70.0, 90.0, "confirmed"),
        (20.0, 30.0, "refuted"),  # faster than described is not as described
        (60.0, 70.0, "undecided"),
        (None, 90.0, "undecided"),
    ],
)
def test_a_description_has_two_ends(low: float | None, high: float | None, status: str) -> None:
    assert verdict(claim(promise=False), latency(low, high)).status == status


def test_better_than_promised_is_said() -> None:
    assert verdict(claim(), latency(20.0, 30.0)).better
    assert not verdict(claim(), latency(70.0, 80.0)).better


def test_a_strict_limit_is_not_kept_on_the_limit() -> None:
    below = claim(compare="below", value=80.0)
    assert verdict(below, latency(70.0, 80.0)).status == "undecided"
    assert verdict(below, latency(80.0, 90.0)).status == "refuted"
    at_most = claim(compare="at_most", value=80.0)
    assert verdict(at_most, latency(70.0, 80.0)).status == "confirmed"


def test_without_evidence_it_is_not_tested() -> None:
    found = verdict(claim())
    assert (found.status, found.decisive) == ("not_tested", None)


def test_one_configuration_keeps_a_promise_and_all_must_keep_a_guarantee() -> None:
    good, bad = latency(70, 80, id="a"), latency(200, 210, id="b")
    assert verdict(claim(), bad, good).status == "confirmed"
    guarantee = verdict(claim(scope="all"), bad, good)
    assert guarantee.status == "undecided"
    assert guarantee.reason.code == "hypotheses.because_mixed"
    assert verdict(claim(promise=False), bad, good).status == "undecided"


# --- What must not count -----------------------------------------------------------------------


@pytest.mark.parametrize("metric", ["wer", "mos"])
def test_dummy_weights_never_answer_quality(metric: str) -> None:
    unit = {"wer": "%", "mos": "MOS"}[metric]
    quality = claim(metric=metric, value=4.0, unit=unit)
    dummy = replace(latency(4, 4).about, dummy=True)
    found = verdict(quality, latency(4.0, 4.0, metric=metric, about=dummy))
    assert found.status == "not_tested"
    assert found.weighed[0].why == "dummy_quality"
    assert verdict(quality, latency(4.0, 4.0, metric=metric)).status == "confirmed"


def test_dummy_weights_answer_latency_and_are_labelled() -> None:
    dummy = replace(latency(70, 80).about, dummy=True)
    found = verdict(claim(), latency(70, 80, about=dummy))
    assert found.status == "confirmed"
    assert found.decisive is not None
    assert found.decisive.about.dummy


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"unsound": "run_failed"}, "run_failed"),
        ({"unsound": "suspect"}, "suspect"),
        ({"unsound": "unfair"}, "unfair"),
    ],
)
def test_unsound_measurements_do_not_count(changes: dict[str, Any], why: str) -> None:
    found = verdict(claim(), latency(70, 80, **changes))
    assert (found.status, found.weighed[0].why) == ("not_tested", why)


def test_a_gpu_does_not_answer_for_the_cpu() -> None:
    gpu = replace(latency(7, 8).about, device="cuda")
    assert verdict(claim(), latency(7, 8, about=gpu)).weighed[0].why == "other_device"


def test_a_part_of_the_model_does_not_answer_for_the_whole() -> None:
    whole = claim(subject={"names": ["whisper-small*"], "least_parameters": 200e6})
    shallow = replace(latency(7, 8).about, parameters=40e6)
    assert verdict(whole, latency(7, 8, about=shallow)).weighed[0].why == "not_whole"


def test_this_machine_first_and_others_labelled() -> None:
    away = latency(70, 80, machine="Another CPU × 64", id="away")
    found = verdict(claim(), away, latency(300, 310))
    assert found.status == "refuted"
    assert {w.why for w in found.weighed} == {"", "other_machine"}
    alone = verdict(claim(), away)
    assert alone.status == "confirmed"
    assert alone.decisive is not None
    assert alone.decisive.machine == "Another CPU × 64"


def test_a_measurement_replaces_its_extrapolation() -> None:
    guessed = latency(70, 80, source="depths", extrapolated=True, id="guess")
    found = verdict(claim(), guessed, latency(300, 310))
    assert found.status == "refuted"
    assert verdict(claim(), guessed).status == "confirmed"


# --- Impossible --------------------------------------------------------------------------------


def test_thirty_billion_parameters_do_not_fit_in_a_gigabyte_at_one_bit() -> None:
    found = verdict(GUIDE["omni-ram"])
    assert found.status == "impossible"
    # 30e9 bits are 3.75 GB; 1.1 GB hold 1.1e9 parameters at INT8.
    assert found.decisive is not None
    assert found.decisive.value == 3.75e9
    assert found.reason.fields["holds"] == "1.1 B"


def test_the_same_sum_leaves_possible_claims_alone() -> None:
    roomy = GUIDE["omni-ram"].model_copy(update={"value": 20.0})
    assert verdict(roomy).status == "not_tested"


@pytest.mark.parametrize("rate", [8_000, 11_025, 16_000, 44_100, 48_000])
@pytest.mark.parametrize("seconds", [1, 7, 30])
def test_frames_do_not_depend_on_the_rate_of_the_recording(rate: int, seconds: int) -> None:
    assert frames_of(seconds, rate, 16_000, 100) == seconds * 100


def test_eight_kilohertz_gain_nothing_where_the_model_hears_sixteen() -> None:
    found = verdict(GUIDE["gain-8khz"])
    assert found.status == "impossible"
    assert found.decisive is not None
    assert found.decisive.value == 0.0


def test_quality_of_a_modality_that_the_model_does_not_have() -> None:
    facts = known_architectures()
    for name in ("vl4b-wer", "vl4b-mos"):
        assert verdict(GUIDE[name], *facts).status == "impossible"
    assert verdict(GUIDE["vl4b-audio"], *facts).status == "refuted"
    # Omni hears and speaks: its quality is open, not impossible.
    for name in ("omni-wer", "omni-mos"):
        assert verdict(GUIDE[name], *facts).status == "not_tested"


def test_published_sizes() -> None:
    facts = known_architectures()
    assert verdict(GUIDE["vl4b-parameters"], *facts).status == "refuted"
    assert verdict(GUIDE["omni-parameters"], *facts).status == "confirmed"


def roofline(precision: str, memory_ms: float, compute_ms: float, **changes: Any) -> Roofline:
    """A prompt of 16 and of 32 tokens and one token after them."""

    def floor(name: str, unit: Any, tokens: int) -> Floor:
        step = Step(
            name=name,
            times=1,
            bytes=10**9,
            macs={},
            memory_ms=memory_ms,
            compute_ms=compute_ms if unit == "prefill" else 0.0,
            floor_ms=max(memory_ms, compute_ms if unit == "prefill" else 0.0),
        )
        return Floor(
            item=name,
            unit=unit,
            length=tokens,
            steps=[step],
            bytes=step.bytes,
            macs={},
            floor_ms=step.floor_ms,
            bound="memory",
        )

    environment = make_environment()
    machine = Machine(
        cpu=environment.cpu,
        threads=environment.cores_allowed,
        bandwidth=4e10,
        bandwidth_median=4e10,
    )
    items = [
        floor("16", "prefill", 16),
        floor("32", "prefill", 32),
        floor("token", "decode", 32),
    ]
    values: dict[str, Any] = {
        "id": f"roofline-{precision}",
        "created": "2025-10-29T10:31:00Z",
        "vozmetro": "0.1.0",
        "subject": f"models/{VL4B}-{precision.lower()}.onnx",
        "precision": precision,
        "parameters": 4_022_000_000,
        "machine": machine,
        "items": items,
    }
    return Roofline(**(values | changes))


def test_below_the_floor_is_impossible() -> None:
    # 8 tokens of 51 ms are 408 ms; 240 are claimed.
    floors = from_roofline(roofline("INT4", 51.0, 10.0))
    found = verdict(GUIDE["vl4b-latency"], *floors)
    assert found.status == "impossible"
    assert found.decisive is not None
    assert found.decisive.value == pytest.approx(408.0)
    # One token of 51 ms is not.
    assert verdict(GUIDE["vl4b-first-token"], *floors).status == "not_tested"


def test_a_floor_at_more_bits_does_not_rule_out_fewer() -> None:
    floors = from_roofline(roofline("FP32", 400.0, 10.0))
    found = verdict(GUIDE["vl4b-latency"], *floors)
    assert found.status == "not_tested"
    assert {w.why for w in found.weighed} == {"floor_precision"}


def test_a_floor_of_measured_kernels_refutes_and_does_not_forbid() -> None:
    floors = from_roofline(roofline("INT4", 51.0, 250.0))
    found = verdict(GUIDE["vl4b-first-token"], *floors)
    assert found.status == "refuted"
    assert found.reason.code == "hypotheses.because_kernels"


def test_a_floor_confirms_nothing() -> None:
    floors = from_roofline(roofline("INT4", 1.0, 1.0))
    assert verdict(GUIDE["vl4b-latency"], *floors).status == "not_tested"


def study(
    component: str = "model",
    stages: tuple[str, ...] = (),
    bend: float = 0.0,
    depths: tuple[int, ...] = (1, 2, 4),
    **subject: Any,
) -> DepthStudy:
    """Of n layers a prompt takes 30 + 5n ms and a token 5 + 1.7n; other stages 20 ms each."""
    whole = make_run(
        "models/qwen3-vl-4b-int4.onnx",
        "graph",
        subject={"kind": "lm", "precision": "INT4", "weights": "dummy", "parameters": None}
        | subject,
    )

    def part(name: str, layers: int, full: int) -> DepthPart:
        return DepthPart(
            id=f"{name}/{layers}",
            component=name,
            layers=layers,
            full_layers=full,
            expected_ram=100_000_000 + layers * 60_000_000,
            files=[],
        )

    parts = [part(component, layers, 36) for layers in depths]
    tasks = [
        DepthTask(
            id=f"{one.id} · {tokens}",
            part=one.id,
            stage=f"{component} · {tokens}",
            tokens=tokens,
            new_tokens=9,
        )
        for one in parts
        for tokens in (16, 32)
    ]
    for stage in stages:
        name = stage.split(" · ")[0]
        parts.append(part(name, 1, 1))
        heard = 3.0 if name == "audio_encoder" else 0.08
        tasks.append(DepthTask(id=stage, part=f"{name}/1", stage=stage, seconds=heard))
    layers_of = {one.id: one.layers for one in parts}
    samples = []
    for number in range(24):
        for task in tasks:
            layers = layers_of[task.part]
            ms = 30 + 5 * layers + bend * layers**2 if task.tokens else 20.0
            later = {"per_token": 5 + 1.7 * layers} if task.tokens else {}
            samples.append(
                Sample(
                    item=task.id,
                    session=0,
                    block=number,
                    round=number,
                    at_s=float(number),
                    ms=ms,
                    cpu_ms=ms,
                    parts=later,
                )
            )
    kept = whole.model_dump(exclude={"type", "items", "samples", "schema_version"})
    return DepthStudy(**kept, full_layers=36, parts=parts, tasks=tasks, samples=samples)


def test_depths_answer_for_the_whole_and_are_labelled() -> None:
    found = verdict(GUIDE["vl4b-latency"], *from_depths(study()))
    assert found.status == "refuted"
    assert found.decisive is not None
    assert found.decisive.extrapolated
    # 36 layers: 210 ms, and seven tokens of 66.2.
    assert found.decisive.value == pytest.approx(210 + 7 * 66.2)
    assert verdict(GUIDE["vl4b-first-token"], *from_depths(study())).status == "confirmed"
    # 100 MB and 36 times 60.
    ram = verdict(GUIDE["vl4b-ram"], *from_depths(study()))
    assert ram.status == "confirmed"
    assert ram.decisive is not None
    assert ram.decisive.value == pytest.approx(2.26e9)


def test_depths_that_bend_or_are_too_few_do_not_count() -> None:
    found = verdict(GUIDE["vl4b-latency"], *from_depths(study(bend=40.0)))
    assert (found.status, found.weighed[0].why) == ("not_tested", "not_linear")
    assert from_depths(study(depths=(1, 2))) == []


def test_the_first_sound_of_a_model_that_speaks() -> None:
    stages = ("audio_encoder · 3 s", "talker · 1", "code_predictor · 1", "code2wav · 1")
    omni = study("thinker", stages, name="qwen3-omni-30b-a3b", architecture="qwen3-omni-30b-a3b")
    found = verdict(GUIDE["omni-latency"], *from_depths(omni))
    assert found.decisive is not None
    # Four stages of 20 ms, 210 of the prompt, and one token of 66.2: far below 2870.
    assert found.decisive.value == pytest.approx(80 + 210 + 66.2)
    assert found.status == "refuted"
    assert found.reason.code == "hypotheses.because_under"


# --- From records ------------------------------------------------------------------------------


def language_run(first_ms: float, token_ms: float, **changes: Any) -> Run:
    """Prompts of 16 and 32 tokens; the longer takes twice as long."""
    whole = make_run(
        f"models/{VL4B}-int4.onnx",
        "graph",
        source="synthetic",
        subject={
            "kind": "lm",
            "clock": "time-to-first-token",
            "architecture": VL4B,
            "parameters": 4_022_000_000,
            "precision": "INT4",
            "weights": "dummy",
        },
    )
    items, samples = [], []
    for tokens in (16, 32):
        one = Item(id=f"{tokens}", seconds=0, source="synthetic", tokens=tokens, new_tokens=9)
        items.append(one)
        for number in range(30):
            ms = first_ms * tokens / 16 * (1 + 0.001 * (number % 5))
            samples.append(
                Sample(
                    item=one.id,
                    session=0,
                    block=number,
                    round=number,
                    at_s=float(number),
                    ms=ms,
                    cpu_ms=ms,
                    parts={"first_token": ms, "per_token": token_ms},
                )
            )
    return whole.model_copy(update={"items": items, "samples": samples, **changes})


def test_an_answer_is_its_prompt_and_its_tokens() -> None:
    evidence = from_run(language_run(100.0, 60.0))
    found = verdict(GUIDE["vl4b-latency"], *evidence)
    assert found.status == "refuted"
    assert found.decisive is not None
    # 32 tokens of prompt take 200 ms, and seven more tokens 420.
    assert found.decisive.value == pytest.approx(620.0, rel=0.01)
    assert (found.decisive.prompt_tokens, found.decisive.answer_tokens) == (32, 8)
    first = verdict(GUIDE["vl4b-first-token"], *evidence)
    assert first.status == "confirmed"
    assert first.better


def test_shorter_prompts_are_only_a_lower_bound() -> None:
    run = language_run(100.0, 10.0)
    short = run.model_copy(
        update={"items": run.items[:1], "samples": [s for s in run.samples if s.item == "16"]}
    )
    # 16 tokens and 7 more take 170 ms: 32 may keep the claim or not.
    assert verdict(GUIDE["vl4b-latency"], *from_run(short)).status == "not_tested"
    slow = language_run(300.0, 10.0)
    slow = slow.model_copy(update={"samples": [s for s in slow.samples if s.item == "16"]})
    assert verdict(GUIDE["vl4b-latency"], *from_run(slow)).status == "refuted"


def test_ram_of_a_whole_dummy_model_counts() -> None:
    evidence = from_run(language_run(100.0, 60.0))
    assert verdict(GUIDE["vl4b-ram"], *evidence).status == "confirmed"
    session = language_run(1, 1).sessions[0].model_copy(update={"peak_rss": 5_000_000_000})
    large = from_run(language_run(100.0, 60.0, sessions=[session]))
    assert verdict(GUIDE["vl4b-ram"], *large).status == "refuted"


def test_a_cascade_answers_for_its_parts() -> None:
    run = make_run("whisper-small+piper-joe", "cascade", median_ms=300.0)
    evidence = from_run(run)
    # Four fifths of 300 ms are Whisper's, one fifth is Piper's.
    assert verdict(GUIDE["whisper-small"], *evidence).status == "refuted"
    assert verdict(GUIDE["piper"], *evidence).status == "confirmed"
    assert verdict(GUIDE["pipeline-total"], *evidence).status == "refuted"
    assert verdict(GUIDE["pipeline-guarantee"], *evidence).status == "refuted"


def test_other_models_do_not_answer() -> None:
    base = from_run(make_run("whisper-base", median_ms=70.0))
    assert verdict(GUIDE["whisper-small"], *base).status == "not_tested"
    voice = from_run(make_run("piper:voices/es_ES-davefx-medium.onnx", "tts", median_ms=50.0))
    assert verdict(GUIDE["piper"], *voice).status == "confirmed"


def test_the_file_called_30b_is_counted() -> None:
    small = make_run("models/agi_audio_core_int8.onnx", "graph", subject={"parameters": 1_100_000})
    assert verdict(GUIDE["omni-file-parameters"], *from_run(small)).status == "refuted"
    # And what was measured with it does not answer for 30 B.
    precise = small.model_copy(
        update={"subject": small.subject.model_copy(update={"precision": "INT8"})}
    )
    found = verdict(GUIDE["omni-latency"], *from_run(precise))
    assert (found.status, found.weighed[0].why) == ("not_tested", "not_whole")


def test_load_warmup_and_throughput() -> None:
    run = make_run(
        "qwen3-omni-30b-a3b",
        "graph",
        median_ms=2870.0,
        subject={"precision": "INT8", "parameters": 35_000_000_000},
    )
    evidence = from_run(run)
    assert verdict(GUIDE["omni-latency"], *evidence).status == "confirmed"
    assert verdict(GUIDE["omni-throughput"], *evidence).status == "confirmed"
    loads = verdict(GUIDE["omni-load"], *evidence)
    assert loads.decisive is not None
    assert loads.decisive.value == pytest.approx(1.234)
    assert loads.status == "refuted"
    assert verdict(GUIDE["omni-warmup"], *evidence).status == "refuted"


def sides(a: dict[str, Any], b: dict[str, Any], **changes: Any) -> ComparisonRecord:
    def side(given: dict[str, Any], seed: int) -> Run:
        words = {"parameters": 72_600_000, "precision": "FP32"} | given
        ms = words.pop("median_ms")
        return make_run("whisper-base", "graph", median_ms=ms, seed=seed, sigma=0.02, subject=words)

    return make_comparison(side(a, 1), side(b, 2), **changes)


OPTIONS = {"session.disable_prepacking": "0", "session.use_ort_model_bytes_directly": "1"}


@pytest.mark.parametrize(
    ("ms", "status"),
    [(75.0, "confirmed"), (40.0, "confirmed"), (98.0, "refuted"), (150.0, "refuted")],
)
@pytest.mark.parametrize("swapped", [False, True])
def test_gain_of_quantizing(ms: float, status: str, swapped: bool) -> None:
    slow, fast = {"median_ms": 100.0}, {"median_ms": ms, "precision": "INT8"}
    record = sides(fast, slow) if swapped else sides(slow, fast)
    found = verdict(GUIDE["gain-quantized"], *from_comparison(record))
    assert found.status == status
    assert found.decisive is not None
    assert found.decisive.value == pytest.approx(100 - ms, abs=2.0)
    assert found.decisive.pair == "precision FP32>INT8"


def test_gains_that_disagree_leave_it_open() -> None:
    kept = from_comparison(sides({"median_ms": 100.0}, {"median_ms": 70.0, "precision": "INT8"}))
    lost = from_comparison(
        sides({"median_ms": 100.0}, {"median_ms": 120.0, "precision": "INT4"}, id="other")
    )
    assert verdict(GUIDE["gain-quantized"], *kept, *lost).status == "undecided"


@pytest.mark.parametrize(
    "other",
    [
        {"median_ms": 70.0, "precision": "INT8", "parameters": 37_800_000},  # another model
        {"median_ms": 70.0, "precision": "INT8", "options": {"context": "1.0"}},  # two changes
        {"median_ms": 70.0, "precision": "INT8", "parameters": None},  # who knows
    ],
)
def test_two_changes_at_once_answer_nothing(other: dict[str, Any]) -> None:
    evidence = from_comparison(sides({"median_ms": 100.0}, other))
    assert verdict(GUIDE["gain-quantized"], *evidence).status == "not_tested"


def test_an_unfair_comparison_does_not_count() -> None:
    record = sides(
        {"median_ms": 100.0},
        {"median_ms": 75.0, "precision": "INT8"},
        unfair=[Note(code="unfair_inputs", fields={"a": "float32", "b": "float16"})],
    )
    found = verdict(GUIDE["gain-quantized"], *from_comparison(record))
    assert found.weighed[0].why == "unfair"


@pytest.mark.parametrize(("ms", "status"), [(100.0, "refuted"), (92.5, "confirmed")])
def test_gain_of_session_options(ms: float, status: str) -> None:
    record = sides({"median_ms": 100.0}, {"median_ms": ms, "options": OPTIONS})
    found = verdict(GUIDE["gain-options"], *from_comparison(record))
    assert found.status == status


def test_options_must_be_those_of_the_claim_and_the_file_the_same() -> None:
    some = dict(list(OPTIONS.items())[:1])
    record = sides({"median_ms": 100.0}, {"median_ms": 92.0, "options": some})
    assert verdict(GUIDE["gain-options"], *from_comparison(record)).status == "not_tested"
    other = record.b.subject.model_copy(
        update={"options": OPTIONS, "files": [FileInfo(path="x", bytes=1, sha256="0" * 64)]}
    )
    assert difference(record.a.subject, other) is None


def test_a_model_file_says_what_it_is(tmp_path: Path) -> None:
    model = onnx_zoo.waveform_model(tmp_path / "agi_audio_core_int8.onnx")
    evidence = read_evidence([model])
    found = verdict(GUIDE["omni-file-parameters"], *evidence)
    assert found.status == "refuted"
    assert found.decisive is not None
    assert found.decisive.source == "file"
    # A file that hears, called like one that does not, is believed.
    hears = onnx_zoo.waveform_model(tmp_path / "my-qwen3-vl-4b.onnx")
    told = [one for one in read_evidence([hears]) if one.modality and one.source == "file"]
    assert "audio_input" in told[0].modality


def test_names_are_matched_without_paths_and_endings() -> None:
    assert spoken("C:\\models\\Qwen3-VL-4B-Instruct_INT4.onnx@provider=cpu,context=1.0") == (
        "qwen3-vl-4b-instruct-int4",
    )
    assert spoken("piper:voices/es_ES-x.onnx") == ("es-es-x",)


# --- Word errors -------------------------------------------------------------------------------


def test_no_errors_in_few_words_do_not_prove_two_percent() -> None:
    run = make_run("qwen3-omni-30b-a3b", subject={"parameters": None})
    (few,) = from_errors(run, [(0, 8)] * 5)
    assert few.value == few.low == 0.0
    # Clopper and Pearson, 0 of 40: 1 - 0.025^(1/40).
    assert few.high == pytest.approx(100 * (1 - 0.025 ** (1 / 40)))
    assert verdict(GUIDE["omni-wer"], few).status == "undecided"
    (many,) = from_errors(run, [(0, 8)] * 500)
    assert verdict(GUIDE["omni-wer"], many).status == "confirmed"
    (bad,) = from_errors(run, [(2, 8)] * 50)
    assert verdict(GUIDE["omni-wer"], bad).status == "refuted"


def test_the_interval_is_the_same_each_time_and_holds_the_rate() -> None:
    run = make_run()
    counts = [(index % 3, 7 + index % 4) for index in range(40)]
    (one,), (two,) = from_errors(run, counts), from_errors(run, counts)
    assert one == two
    assert one.low is not None
    assert one.high is not None
    assert one.low < one.value < one.high


def test_loss_of_int4() -> None:
    record = sides({"median_ms": 100.0}, {"median_ms": 90.0, "precision": "INT4"})
    same = [(1, 10)] * 300
    (kept,) = from_error_pairs(record, same, same)
    assert kept.value == 0.0
    assert verdict(GUIDE["quality-int4"], kept).status == "confirmed"
    (lost,) = from_error_pairs(record, same, [(3, 10)] * 300)
    assert lost.value == pytest.approx(20.0)
    assert verdict(GUIDE["quality-int4"], lost).status == "refuted"
    (few,) = from_error_pairs(record, same[:5], same[:5])
    assert verdict(GUIDE["quality-int4"], few).status == "undecided"


def test_synthetic_audio_answers_no_quality(tmp_path: Path) -> None:
    made = make_run("whisper-base", source="synthetic")
    real = make_run("whisper-base", run_id="real")
    save(made, tmp_path / "made" / "run.json")
    save(real, tmp_path / "real" / "run.json")
    found = [one for one in read_evidence([tmp_path]) if one.metric == "wer"]
    assert [one.id for one in found] == ["real"]


# --- Properties --------------------------------------------------------------------------------

ENDS = st.tuples(st.floats(1, 5000), st.floats(0, 2000)).map(lambda e: (e[0], e[0] + e[1]))
PROMISES = st.builds(
    lambda compare, value, scope: claim(
        compare=compare, value=value, low=value / 2, high=value, scope=scope
    ),
    st.sampled_from(["about", "between", "below", "at_most"]),
    st.floats(1, 3000),
    st.sampled_from(["some", "all"]),
)


@settings(max_examples=200)
@given(PROMISES, st.lists(ENDS, min_size=1, max_size=4), st.floats(0, 3000), st.data())
def test_slower_never_turns_refuted_into_confirmed(
    promise: Claim, ends: list[tuple[float, float]], slower: float, data: st.DataObject
) -> None:
    evidence = [latency(*end, id=str(n)) for n, end in enumerate(ends)]
    before = verdict(promise, *evidence)
    index = data.draw(st.integers(0, len(evidence) - 1))
    one = evidence[index]
    evidence[index] = replace(
        one, value=one.value + slower, low=ends[index][0] + slower, high=ends[index][1] + slower
    )
    after = verdict(promise, *evidence)
    order = ["confirmed", "undecided", "refuted"]
    assert order.index(after.status) >= order.index(before.status)


@settings(max_examples=100)
@given(PROMISES, st.lists(ENDS, max_size=4), st.randoms())
def test_the_status_is_a_function_of_the_evidence(
    promise: Claim, ends: list[tuple[float, float]], random: Any
) -> None:
    evidence = [latency(*end, id=str(n)) for n, end in enumerate(ends)]
    shuffled = list(evidence)
    random.shuffle(shuffled)
    once, again = verdict(promise, *evidence), verdict(promise, *shuffled)
    assert once == verdict(promise, *evidence)
    assert once.status == again.status


# --- The file ----------------------------------------------------------------------------------

GOOD = """
title = { es = "t", en = "t" }
source = { es = "s", en = "s" }

[[claims]]
id = "one"
section = { es = "x", en = "x" }
says = { es = "x", en = "x" }
metric = "latency_p50_ms"
compare = "below"
value = 80.0
unit = "ms"

[[claims]]
id = "two"
section = { es = "x", en = "x" }
says = { es = "x", en = "x" }
metric = "ram"
compare = "below"
value = 4
unit = "GB"
[claims.subject]
names = ["x"]
"""


@pytest.mark.parametrize(
    ("old", "new", "code", "line", "key"),
    [
        ('names = ["x"]', 'nombres = ["x"]', "claims_unknown_key", 23, "claims[2].subject.nombres"),
        ('unit = "GB"', 'unit = "ms"', "claims_bad_value", 21, "claims[2].unit"),
        ("value = 4\n", "", "claims_bad_value", 14, "claims[2].value"),
        ("value = 80.0", 'value = "80"', "claims_bad_value", 11, "claims[1].value"),
        ("value = 80.0", "value = nan", "claims_bad_value", 11, "claims[1].value"),
        ('metric = "ram"', 'metric = "colour"', "claims_bad_value", 18, "claims[2].metric"),
        ('id = "two"\n', "", "claims_missing_key", 14, "claims[2].id"),
        ('id = "two"', 'id = "one"', "claims_duplicate", 15, ""),
        ('id = "two"', 'id = "dos cosas"', "claims_bad_value", 15, "claims[2].id"),
        (', en = "s" }', " }", "claims_missing_key", 3, "source.en"),
        ("value = 4\n", "value = = 4\n", "claims_syntax", 20, ""),
    ],
)  # fmt: skip
def test_bad_files_are_one_clear_error(old: str, new: str, code: str, line: int, key: str) -> None:
    assert GOOD.count(old) == 1
    with pytest.raises(InputError) as raised:
        parse_claims(GOOD.replace(old, new), "mine.toml")
    error = raised.value
    assert error.code == code
    assert error.fields["line"] == str(line)
    for lang in LANGUAGES:
        said = error.message(lang)
        assert "mine.toml" in said
        assert key in said


def test_the_good_file_is_good() -> None:
    assert [one.id for one in parse_claims(GOOD, "mine.toml").claims] == ["one", "two"]


@given(st.text(max_size=200))
def test_any_text_is_parsed_or_refused(text: str) -> None:
    with pytest.raises(InputError):
        parse_claims(text, "x")


def test_the_guide_holds_what_its_readers_ask_about() -> None:
    metrics = {one.metric for one in GUIDE.values()}
    assert metrics == {
        "modality", "parameters", "latency_p50_ms", "latency_p99_ms", "wer", "mos", "ram",
        "throughput", "load", "warmup", "gain", "wer_increase",
    }  # fmt: skip
    assert GUIDE["vl4b-latency"].bounds == (None, 240.0)
    assert GUIDE["omni-latency"].bounds == pytest.approx((2296.0, 3444.0))
    assert GUIDE["gain-quantized"].bounds == (20.0, None)
    assert GUIDE["omni-ram"].bounds[1] == pytest.approx(1.32e9)


# --- What is shown -----------------------------------------------------------------------------


def everything() -> list[Evidence]:
    """Evidence that makes every status appear."""
    evidence = known_architectures()
    evidence += from_roofline(roofline("INT4", 51.0, 10.0), "roofline.json")
    evidence += from_run(
        make_run("whisper-small+piper-joe", "cascade", median_ms=300.0), "a|b.json"
    )
    evidence += from_comparison(
        sides({"median_ms": 100.0}, {"median_ms": 78.0, "precision": "INT8"})
    )
    evidence += from_comparison(
        sides({"median_ms": 100.0}, {"median_ms": 91.0, "options": OPTIONS})
    )
    return evidence


@pytest.mark.parametrize("lang", LANGUAGES)
def test_the_page_has_every_claim_in_a_valid_table(lang: str) -> None:
    claims = read_claims("guia")
    findings = check(claims.claims, everything(), HERE)
    page = render_page(claims, findings, Header("2025-10-29T10:31:00Z", HERE, "vozmetro `x`"), lang)
    rows = [line for line in page.splitlines() if line.startswith("|")]
    cells = [re.split(r"(?<!\\)\|", row) for row in rows]
    assert {len(row) for row in cells} == {7}
    assert re.fullmatch(r"\| (:?-+:? \| ){4}:?-+:? \|", rows[1])
    assert len(rows) == len(claims.claims) + 2
    for one in claims.claims:
        assert one.says.text(lang).split(":")[0].replace("<", "&lt;").split("_")[0] in page
    # Links to evidence lead somewhere, and each place is there once.
    targets = re.findall(r"\(#(e\d+)\)", page)
    anchors = re.findall(r'<a id="(e\d+)">', page)
    assert set(targets) == set(anchors)
    assert len(anchors) == len(set(anchors))
    assert "a\\|b.json" in page
    for status in STATUSES[:1] + STATUSES[1:3]:
        assert t(f"hypotheses.status_{status}", lang) in page


@pytest.mark.parametrize("lang", LANGUAGES)
def test_every_text_can_be_filled(lang: str) -> None:
    for finding in check(list(GUIDE.values()), everything(), HERE):
        assert claimed_text(finding.claim, lang)
        sentence = reason_text(finding, lang)
        assert " " in sentence
        assert "{" not in sentence
        assert finding.claim.says.text(lang)
        for weighed in finding.weighed:
            assert found_text(weighed.evidence, lang)
            assert verdict_text(weighed, lang)


def test_every_reason_is_in_the_catalogues() -> None:
    out = (
        "run_failed", "suspect", "unfair", "dummy_quality", "synthetic_quality", "other_device",
        "not_whole", "floor_precision", "not_linear", "other_machine", "extrapolated",
    )  # fmt: skip
    for lang in LANGUAGES:
        for why in out:
            assert t(f"hypotheses.left_{why}", lang)


def call(*words: object, lang: str = "es") -> int:
    (group,) = commands(lang)
    return run_command(group, [str(word) for word in words], lang)


def saved(folder: Path) -> Path:
    save(make_run("whisper-small+piper-joe", "cascade", median_ms=300.0), folder / "a" / "run.json")
    record = sides({"median_ms": 100.0}, {"median_ms": 78.0, "precision": "INT8"})
    save(record, folder / "b" / "comparison.json")
    (folder / "roofline.json").write_text(roofline("INT4", 51.0, 10.0).model_dump_json())
    (folder / "other.json").write_text('{"type": "something else"}')
    return folder


@pytest.mark.parametrize("lang", LANGUAGES)
def test_check_prints_within_80_columns_and_writes_the_page(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, lang: str
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    folder = saved(tmp_path / "runs")
    page = tmp_path / f"page-{lang}.md"
    assert call("check", "guia", folder, "--out", page, lang=lang) == 0
    out = capsys.readouterr().out
    assert max(cell_len(line) for line in out.splitlines()[:-1]) <= 80
    for symbol in "✅❌🚫⏳":
        assert symbol in out
    assert page.read_text(encoding="utf-8").startswith("# ")


def test_check_as_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("check", "guia", saved(tmp_path / "runs"), "--json") == 0
    found = {one["id"]: one for one in json.loads(capsys.readouterr().out)["findings"]}
    assert found["pipeline-guarantee"]["status"] == "refuted"
    assert found["vl4b-latency"]["status"] == "impossible"
    assert found["gain-quantized"]["status"] == "confirmed"
    assert found["gain-quantized"]["evidence"][0]["file"].endswith("comparison.json")


def test_a_record_given_twice_counts_once(tmp_path: Path) -> None:
    folder = saved(tmp_path / "runs")
    once, twice = read_evidence([folder]), read_evidence([folder, folder / "a"])
    assert len(once) == len(twice)


def test_list_shows_the_claims_and_the_format(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("list", lang="en") == 0
    assert "vl4b-latency" in capsys.readouterr().out
    assert call("list", "--format") == 0
    assert parse_claims(capsys.readouterr().out, "guia").claims == read_claims("guia").claims
    assert call("list", "--json") == 0
    assert len(json.loads(capsys.readouterr().out)["claims"]) == len(GUIDE)


@pytest.mark.parametrize("lang", LANGUAGES)
@pytest.mark.parametrize(
    "words",
    [
        ["check", "nowhere.toml"],
        ["check", "guia", "nowhere"],
        ["check", "guia", "empty"],
        ["check", "guia", "bad.json"],
        ["check", "guia", "bad-roofline.json"],
        ["check", "bad.json"],
        ["check"],
    ],
)
def test_bad_input_is_one_line_and_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], lang: str
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "bad.json").write_text("[1, 2")
    (tmp_path / "bad-roofline.json").write_text('{"type": "roofline", "schema_version": 1}')
    assert call(*words, lang=lang) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert len(said.err.strip().splitlines()) == 1
