"""Claims against evidence: confirmed, refuted, impossible, undecided or not tested. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from vozmetro.judge.claims import HIGHER_IS_BETTER, Claim
from vozmetro.judge.evidence import About, Evidence
from vozmetro.judge.findings import Finding, Status, Verdict, Weighed, weigh
from vozmetro.judge.impossible import by_arithmetic, by_modality
from vozmetro.judge.matching import COMPUTED, FEWEST_BITS, QUALITY, answers, bits, fits, left_out
from vozmetro.measure.records import Note

MACHINE_BOUND = frozenset(
    {"latency_p50_ms", "latency_p99_ms", "throughput", "load", "warmup", "gain"}
)
"""Metrics of which a figure from another machine says nothing about this one."""
IMPOSSIBLE_FROM = 1.5
"""Floor over the claim's limit from which the machine forbids it: a floor takes for granted that
the best bandwidth seen is the best there is, and moments of more have been seen."""


def check(
    claims: Sequence[Claim], evidence: Sequence[Evidence], machine: str = ""
) -> list[Finding]:
    """Returns what became of each claim, in their order.

    Args:
        claims: What is claimed.
        evidence: All that is known.
        machine: The machine whose figures come first; where it has none, those of others answer,
            each with its machine.
    """
    return [_check(claim, evidence, machine) for claim in claims]


def _check(claim: Claim, evidence: Sequence[Evidence], machine: str) -> Finding:
    mine = [one for one in evidence if fits(claim, one)]
    settled = by_arithmetic(claim) or by_modality(claim, mine)
    if settled is not None:
        return settled
    weighed = []
    for one in answers(claim, mine):
        why = left_out(claim, one)
        weighed.append(Weighed(one, "left_out" if why else weigh(claim, one), why))
    return _conclude(claim, _superseded(claim, weighed, machine))


def _superseded(claim: Claim, weighed: list[Weighed], machine: str) -> list[Weighed]:
    """Leaves out other machines where this one answers, then estimates of what was measured."""
    here = claim.metric in MACHINE_BOUND and any(
        one.evidence.machine == machine for one in _telling(weighed) if machine
    )
    near = [
        _out(one, "other_machine") if here and one.evidence.machine not in ("", machine) else one
        for one in weighed
    ]
    measured = {
        one.evidence.about.precision
        for one in _telling(near)
        if one.evidence.source not in COMPUTED and not one.evidence.extrapolated
    }
    return [
        _out(one, "extrapolated")
        if one.evidence.extrapolated and one.evidence.about.precision in measured
        else one
        for one in near
    ]


def _telling(weighed: Sequence[Weighed]) -> list[Weighed]:
    return [one for one in weighed if one.verdict not in ("left_out", "silent")]


def _out(one: Weighed, why: str) -> Weighed:
    return one if one.verdict == "left_out" else Weighed(one.evidence, "left_out", why)


def _conclude(claim: Claim, weighed: list[Weighed]) -> Finding:
    """Puts the verdicts together.

    A promise is kept where one configuration keeps it (or all, by its scope) and broken where all
    that were tried break it. A description must hold of all of them.
    """
    by_verdict: dict[Verdict, list[Weighed]] = {}
    for one in weighed:
        by_verdict.setdefault(one.verdict, []).append(one)
    for group in by_verdict.values():
        # What was measured first, then the best figure.
        sign = -1 if claim.metric in HIGHER_IS_BETTER else 1
        group.sort(key=lambda w: (w.evidence.source in COMPUTED, sign * w.evidence.value))
    refutes, straddles = by_verdict.get("refutes", []), by_verdict.get("straddles", [])
    # The best of several measurements of the same thing is luck: one that breaks the claim counts.
    broken = {_configuration(one.evidence) for one in refutes}
    kept = by_verdict.get("confirms", [])
    confirms = [one for one in kept if _configuration(one.evidence) not in broken]
    enough = claim.promise and claim.scope == "some"
    alone = enough or not (refutes or straddles)
    untried = refutes and enough and _smaller_untried(claim, refutes)
    cases: tuple[tuple[Status, str, list[Weighed]], ...] = (
        ("confirmed", "", confirms if alone else []),
        ("impossible", "because_floor", [w for w in refutes if _forbids(claim, w.evidence)]),
        ("undecided", "because_mixed", [*straddles, *kept] if kept and refutes else []),
        ("undecided", "because_undecided", straddles),
        ("undecided", "because_untried", refutes if untried else []),
        ("refuted", "", refutes),
    )
    for status, code, found in cases:
        if found:
            return _finding(claim, status, code, found[0].evidence, weighed)
    return _finding(claim, "not_tested", "", None, weighed)


def _configuration(one: Evidence) -> tuple[About, str, str, int, str]:
    """What measurements of the same thing have in common."""
    return one.about, one.part, one.machine, one.threads, one.pair


def _forbids(claim: Claim, one: Evidence) -> bool:
    most = claim.bounds[1]
    return one.source == "floor" and most is not None and one.value >= IMPOSSIBLE_FROM * most


def _smaller_untried(claim: Claim, refutes: Sequence[Weighed]) -> bool:
    """Whether the claim leaves the precision open, hangs on it, and the smallest was not tried."""
    hangs = claim.metric == "ram" or claim.work is not None
    tried = min(bits(one.evidence) for one in refutes)
    return hangs and not claim.subject.precision and tried > FEWEST_BITS


def _finding(
    claim: Claim, status: Status, code: str, decisive: Evidence | None, weighed: Sequence[Weighed]
) -> Finding:
    better = status == "confirmed" and decisive is not None and _more_than_kept(claim, decisive)
    ordered = sorted(weighed, key=lambda w: (w.evidence is not decisive, w.verdict == "left_out"))
    if decisive is None:
        reason = _untested(claim, ordered)
    elif status == "confirmed":
        reason = Note(code=f"hypotheses.because_{'better' if better else 'confirmed'}")
    else:
        reason = Note(code=f"hypotheses.{code or _because(claim, decisive)}")
    return Finding(claim, status, reason, decisive, tuple(ordered), better)


def _more_than_kept(claim: Claim, decisive: Evidence) -> bool:
    end = claim.better_than
    if end is None:
        return False
    if claim.metric in HIGHER_IS_BETTER:
        return decisive.low is not None and decisive.low > end
    return decisive.high is not None and decisive.high < end


def _because(claim: Claim, decisive: Evidence) -> str:
    """Why a claim is refuted."""
    most = claim.bounds[1]
    if most is None or decisive.value < most:
        return "because_under"
    computed = {"floor": "because_floor", "floor_compute": "because_kernels"}
    tried = "because_none" if claim.promise and claim.scope == "some" else "because_over"
    return computed.get(decisive.source, tried)


def _untested(claim: Claim, weighed: Sequence[Weighed]) -> Note:
    out = [one.why for one in weighed if one.verdict == "left_out"]
    if out:
        return Note(code=f"hypotheses.left_{out[0]}")
    if weighed:
        return Note(code="hypotheses.untested_silent")
    return Note(code=f"hypotheses.untested_{claim.metric if claim.metric in QUALITY else 'none'}")
