"""Claims against evidence: floors, extrapolations and what arithmetic settles."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypotheses_factory import GUIDE, claim, language_run, roofline, study, verdict

from vozmetro.hypotheses.files import known_architectures
from vozmetro.judge.derived import from_depths, from_roofline
from vozmetro.judge.evidence import from_run
from vozmetro.measure.records import Note
from vozmetro.measure.roofline_records import Roofline


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


def test_eight_kilohertz_gain_nothing_where_the_model_hears_sixteen() -> None:
    found = verdict(GUIDE["gain-8khz"])
    # The guide says it of models that accept less, so that it is not impossible of every model.
    assert found.status == "refuted"
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


@pytest.mark.parametrize(
    ("ms", "status"), [(29.0, "not_tested"), (40.0, "refuted"), (46.0, "impossible")]
)
def test_a_floor_forbids_only_with_a_margin(ms: float, status: str) -> None:
    # Eight tokens; 240 ms are claimed, and from 360 on it is called impossible.
    found = verdict(GUIDE["vl4b-latency"], *from_roofline(roofline("INT4", ms, 1.0)))
    assert found.status == status
    if found.decisive is not None:
        assert found.reason.code == "hypotheses.because_floor"


def busy(record: Roofline) -> Roofline:
    machine = record.machine.model_copy(update={"others": 4.0})
    return record.model_copy(update={"machine": machine})


def beaten(record: Roofline) -> Roofline:
    first = record.items[0].model_copy(update={"measured_ms": 41.0, "ratio": 0.8})
    return record.model_copy(update={"items": [first, *record.items[1:]]})


def guessed(record: Roofline) -> Roofline:
    return record.model_copy(update={"notes": [Note(code="roofline_data", fields={"size": "9"})]})


def one_thread(record: Roofline) -> Roofline:
    machine = record.machine.model_copy(update={"threads": 1, "cores": 16})
    return record.model_copy(update={"machine": machine})


@pytest.mark.parametrize(
    ("spoil", "why"),
    [(busy, "ceilings"), (beaten, "ceilings"), (guessed, "assumed"), (one_thread, "threads")],
)
def test_floors_of_doubtful_ceilings_do_not_count(
    spoil: Callable[[Roofline], Roofline], why: str
) -> None:
    floors = from_roofline(spoil(roofline("INT4", 51.0, 10.0)))
    found = verdict(GUIDE["vl4b-latency"], *floors)
    assert found.status == "not_tested"
    assert {weighed.why for weighed in found.weighed} == {why}


def test_tokens_alone_are_a_lower_bound_of_the_answer() -> None:
    record = roofline("4 bits", 51.0, 10.0, architecture="qwen3-vl-4b")
    tokens = record.model_copy(update={"items": record.items[-1:]})
    found = verdict(GUIDE["vl4b-latency"], *from_roofline(tokens))
    # Seven tokens of 51 ms: 357, above 240 and below one and a half times that.
    assert found.status == "refuted"
    assert found.decisive is not None
    assert found.decisive.value == pytest.approx(357.0)
    # Of the first token it tells nothing.
    assert verdict(GUIDE["vl4b-first-token"], *from_roofline(tokens)).weighed == ()


def inferences(*memory_ms: float) -> Roofline:
    record = roofline("INT4", 1.0, 1.0, subject="whisper-small", parameters=244_000_000)
    items = []
    for ms in memory_ms:
        step = record.items[0].steps[0].model_copy(update={"memory_ms": ms, "floor_ms": ms})
        changed = {"item": f"{ms}", "unit": "inference", "steps": [step], "floor_ms": ms}
        items.append(record.items[0].model_copy(update=changed))
    return record.model_copy(update={"items": items})


def test_of_recordings_of_several_lengths_the_least_floor_counts() -> None:
    floors = from_roofline(inferences(20.0, 300.0))
    assert [one.value for one in floors] == [20.0, 20.0]
    assert verdict(claim(), *floors).status == "not_tested"
    assert verdict(claim(), *from_roofline(inferences(200.0, 300.0))).status == "impossible"


def test_the_floor_of_all_the_audio_is_not_that_of_the_first() -> None:
    part = claim(subject={"names": ["whisper-small*"], "parts": ["first_audio"]})
    found = verdict(part, *from_roofline(inferences(200.0)))
    assert {weighed.why for weighed in found.weighed} == {"floor_part"}


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


def test_expected_ram_is_an_estimate() -> None:
    (ram,) = [one for one in from_depths(study()) if one.metric == "ram"]
    assert ram.extrapolated
    assert (ram.low, ram.high) == pytest.approx((0.7 * 2.26e9, 1.3 * 2.26e9))
    near = GUIDE["vl4b-ram"].model_copy(update={"value": 2.5})
    assert verdict(near, ram).status == "undecided"
    # It gives way to what a run took.
    found = verdict(near, ram, *from_run(language_run(100.0, 60.0)))
    assert found.status == "confirmed"
    assert {weighed.why for weighed in found.weighed} == {"", "extrapolated"}


def test_the_first_sound_of_a_model_that_speaks_is_a_lower_bound() -> None:
    stages = ("audio_encoder · 3 s", "talker · 1", "code_predictor · 1", "code2wav · 1")
    omni = study("thinker", stages, name="qwen3-omni-30b-a3b", architecture="qwen3-omni-30b-a3b")
    evidence = from_depths(omni)
    assert {one.metric for one in evidence} == {"latency_p50_ms", "ram"}
    # Four stages of 20 ms, 210 of the prompt, and one token of 66.2; the talker's prompt and more
    # are not in it, so that a claim of more is not refuted.
    assert evidence[0].value == pytest.approx(80 + 210 + 66.2)
    found = verdict(GUIDE["omni-latency"], *evidence)
    assert (found.status, found.reason.code) == ("not_tested", "hypotheses.untested_silent")
    less = GUIDE["omni-latency"].model_copy(update={"value": 100.0})
    assert verdict(less, *evidence).status == "refuted"
