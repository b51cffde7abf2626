"""Claims against evidence: each status from figures whose answer is known."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypotheses_factory import claim, latency, verdict
from hypothesis import given, settings
from hypothesis import strategies as st

from vozmetro.judge.claims import Claim
from vozmetro.judge.evidence import About

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


def named(name: str) -> About:
    return replace(latency(1, 2).about, name=name)


def test_one_configuration_keeps_a_promise_and_all_must_keep_a_guarantee() -> None:
    good, bad = latency(70, 80, id="a"), latency(200, 210, id="b", about=named("small-2"))
    assert verdict(claim(), bad, good).status == "confirmed"
    guarantee = verdict(claim(scope="all"), bad, good)
    assert guarantee.status == "undecided"
    assert guarantee.reason.code == "hypotheses.because_mixed"
    assert verdict(claim(promise=False), bad, good).status == "undecided"


def test_the_best_of_several_measurements_of_the_same_does_not_keep_a_promise() -> None:
    good, bad = latency(70, 80, id="a"), latency(200, 210, id="b")
    found = verdict(claim(), bad, good)
    assert found.status == "undecided"
    assert found.reason.code == "hypotheses.because_mixed"
    # Measured again on the limit, nothing contradicts it.
    assert verdict(claim(), latency(90, 100, id="b"), good).status == "confirmed"
    other = replace(good.about, options="context=3.0")
    assert verdict(claim(), bad, good, latency(70, 80, about=other)).status == "confirmed"


def test_a_figure_without_an_interval_says_nothing() -> None:
    few, bad = latency(None, None), latency(200, 210, id="b", about=named("small-2"))
    found = verdict(claim(), few, bad)
    assert found.status == "refuted"
    assert found.decisive == bad
    alone = verdict(claim(), few)
    assert (alone.status, alone.reason.code) == ("not_tested", "hypotheses.untested_silent")
    open_one = verdict(claim(), latency(90, 100), bad)
    assert open_one.reason.code == "hypotheses.because_undecided"


def test_where_weights_decide_the_smallest_must_have_been_tried() -> None:
    ram = claim(metric="ram", compare="below", value=4.0, unit="GB")
    large = latency(4.5e9, 4.5e9, metric="ram")
    found = verdict(ram, large)
    assert (found.status, found.reason.code) == ("undecided", "hypotheses.because_untried")
    small = replace(large.about, precision="INT4")
    assert verdict(ram, large, replace(large, id="b", about=small)).status == "refuted"
    precise = claim(
        metric="ram",
        compare="below",
        value=4.0,
        unit="GB",
        subject={"names": ["whisper-small*"], "precision": ["INT8"]},
    )
    assert verdict(precise, large).status == "refuted"


def test_nothing_that_was_tried_keeps_it_is_said_as_such() -> None:
    assert verdict(claim(), latency(200, 210)).reason.code == "hypotheses.because_none"
    described = verdict(claim(promise=False), latency(200, 210))
    assert described.reason.code == "hypotheses.because_over"


def test_what_was_measured_decides_before_what_was_computed() -> None:
    floor = latency(110, None, source="floor_compute", relation="at_least", id="floor")
    floor = replace(floor, about=replace(floor.about, precision="INT4"))
    measured = latency(200, 210)
    assert verdict(claim(), floor, measured).decisive == measured
    assert verdict(claim(), floor).reason.code == "hypotheses.because_kernels"


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
    any_kind = claim(subject={"names": ["whisper-small*"]})
    dummy = replace(latency(70, 80).about, kind="graph", dummy=True)
    found = verdict(any_kind, latency(70, 80, about=dummy))
    assert found.status == "confirmed"
    assert found.decisive is not None
    assert found.decisive.about.dummy


@pytest.mark.parametrize("changes", [{}, {"kind": "cascade"}, {"kind": "tts"}])
def test_random_weights_do_not_time_a_transcript(changes: dict[str, Any]) -> None:
    any_kind = claim(subject={"names": ["whisper-small*"], "parts": ["tts_first_audio"]})
    about = replace(latency(70, 80).about, dummy=True, **changes)
    part = "tts_first_audio" if changes.get("kind") == "tts" else ""
    found = verdict(any_kind, latency(200, 210, about=about, part=part))
    assert (found.status, found.weighed[0].why) == ("not_tested", "dummy_words")


def test_fewer_threads_than_cores_do_not_answer_for_the_machine() -> None:
    found = verdict(claim(), latency(200, 210, threads=1, cores=16))
    assert (found.status, found.weighed[0].why) == ("not_tested", "threads")
    assert verdict(claim(), latency(200, 210, threads=16, cores=16)).status == "refuted"
    ram = claim(metric="ram", compare="below", value=4.0, unit="GB")
    one = latency(2e9, 2e9, metric="ram", threads=1, cores=16)
    assert verdict(ram, one).status == "confirmed"


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


def test_another_machine_replaces_nothing_of_this_one() -> None:
    guessed = latency(300, 310, source="depths", extrapolated=True, id="guess")
    away = latency(70, 80, machine="Another CPU × 64", id="away")
    found = verdict(claim(), guessed, away)
    assert found.status == "refuted"
    assert found.decisive == guessed
    # What says nothing here does not silence what was measured elsewhere.
    about = replace(away.about, precision="INT4")
    silent = latency(10, None, relation="at_least", id="floor", source="floor", about=about)
    assert verdict(claim(), silent, away).status == "confirmed"


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
