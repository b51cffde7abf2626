"""Claims against evidence: confirmed, refuted, impossible, undecided or not tested. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from vozmetro.judge.claims import HIGHER_IS_BETTER, Claim
from vozmetro.judge.evidence import Evidence
from vozmetro.judge.findings import Finding, Status, Verdict, Weighed, weigh
from vozmetro.judge.impossible import by_arithmetic, by_modality
from vozmetro.judge.matching import QUALITY, answers, fits, left_out
from vozmetro.measure.records import Note

MACHINE_BOUND = frozenset(
    {"latency_p50_ms", "latency_p99_ms", "throughput", "load", "warmup", "gain"}
)
"""Metrics of which a figure from another machine says nothing about this one."""


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
    """Leaves out other machines where this one answers, and extrapolations of what was measured."""
    counted = [one for one in weighed if one.verdict != "left_out"]
    here = claim.metric in MACHINE_BOUND and any(
        one.evidence.machine == machine for one in counted if machine
    )
    measured = {
        one.evidence.about.precision
        for one in counted
        if one.evidence.source in ("run", "comparison", "depths")
        and not one.evidence.extrapolated
        and one.verdict != "silent"
    }
    found = []
    for one in weighed:
        whose = one.evidence
        why = ""
        if here and whose.machine not in ("", machine):
            why = "other_machine"
        elif whose.extrapolated and whose.about.precision in measured:
            why = "extrapolated"
        out = why and one.verdict != "left_out"
        found.append(Weighed(whose, "left_out", why) if out else one)
    return found


def _conclude(claim: Claim, weighed: list[Weighed]) -> Finding:
    """Puts the verdicts together.

    A promise is kept where one configuration keeps it (or all, by its scope) and broken where all
    that were tried break it. A description must hold of all of them.
    """
    verdicts: dict[Verdict, list[Weighed]] = {}
    for one in weighed:
        verdicts.setdefault(one.verdict, []).append(one)
    for group in verdicts.values():
        group.sort(key=lambda w: w.evidence.value, reverse=claim.metric in HIGHER_IS_BETTER)
    confirms, refutes = verdicts.get("confirms", []), verdicts.get("refutes", [])
    straddles = verdicts.get("straddles", [])
    floors = [one for one in refutes if one.evidence.source == "floor"]
    enough = claim.promise and claim.scope == "some"
    if confirms and (enough or not (refutes or straddles)):
        return _finding(claim, "confirmed", confirms[0].evidence, weighed)
    if floors:
        return _finding(claim, "impossible", floors[0].evidence, weighed)
    if straddles or (confirms and refutes):
        return _finding(claim, "undecided", (straddles or confirms)[0].evidence, weighed)
    if refutes:
        return _finding(claim, "refuted", refutes[0].evidence, weighed)
    return _finding(claim, "not_tested", None, weighed)


def _finding(
    claim: Claim, status: Status, decisive: Evidence | None, weighed: Sequence[Weighed]
) -> Finding:
    better = status == "confirmed" and decisive is not None and _more_than_kept(claim, decisive)
    ordered = sorted(weighed, key=lambda w: (w.evidence is not decisive, w.verdict == "left_out"))
    reason = _reason(claim, status, decisive, ordered, better)
    return Finding(claim, status, reason, decisive, tuple(ordered), better)


def _more_than_kept(claim: Claim, decisive: Evidence) -> bool:
    end = claim.better_than
    if end is None:
        return False
    if claim.metric in HIGHER_IS_BETTER:
        return decisive.low is not None and decisive.low > end
    return decisive.high is not None and decisive.high < end


def _reason(
    claim: Claim,
    status: Status,
    decisive: Evidence | None,
    weighed: Sequence[Weighed],
    better: bool,
) -> Note:
    if decisive is None:
        return _untested(claim, weighed)
    code = {
        "confirmed": "because_better" if better else "because_confirmed",
        "impossible": "because_floor",
        "undecided": "because_undecided",
        "refuted": "because_under",
    }[status]
    most = claim.bounds[1]
    if status == "refuted" and most is not None and decisive.value >= most:
        code = "because_kernels" if decisive.source == "floor_compute" else "because_over"
    if status == "undecided" and any(one.verdict == "refutes" for one in weighed):
        code = "because_mixed"
    return Note(code=f"hypotheses.{code}")


def _untested(claim: Claim, weighed: Sequence[Weighed]) -> Note:
    out = [one.why for one in weighed if one.verdict == "left_out"]
    if out:
        return Note(code=f"hypotheses.left_{out[0]}")
    if weighed:
        return Note(code="hypotheses.untested_silent")
    return Note(code=f"hypotheses.untested_{claim.metric if claim.metric in QUALITY else 'none'}")
