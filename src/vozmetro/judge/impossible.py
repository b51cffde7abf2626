"""Claims that no measurement need answer: sums and known facts contradict them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from vozmetro.judge.claims import Claim
from vozmetro.judge.evidence import About, Evidence
from vozmetro.judge.findings import Finding, Status, Verdict, Weighed, weigh
from vozmetro.measure.records import Note
from vozmetro.units import count, size


def by_arithmetic(claim: Claim) -> Finding | None:
    """Returns a finding where sums alone settle the claim; None where they do not."""
    if claim.metric == "ram" and claim.holds is not None:
        return _too_many_parameters(claim, claim.holds)
    if claim.pair is not None and claim.pair.differs == "sample_rate":
        return _same_frames(claim)
    return None


def by_modality(claim: Claim, mine: Sequence[Evidence]) -> Finding | None:
    """Returns a finding where it matters what a model takes and gives; None where it does not.

    Quality claimed of a modality that the model does not have is impossible; that it has one is a
    claim that a fact refutes.

    Args:
        claim: The claim.
        mine: Evidence about its subject.
    """
    quality = claim.metric in ("wer", "mos")
    if not claim.modality or not (quality or claim.metric == "modality"):
        return None
    told = [one for one in mine if one.modality]
    # A file that goes by the model's name knows better than what was published.
    known = min(told, key=lambda one: one.source != "file", default=None)
    if known is None:
        open_one = Finding(claim, "not_tested", Note(code="hypotheses.untested_none"), None, ())
        return None if quality else open_one
    missing = [name for name in claim.modality if name not in known.modality]
    if not missing and quality:
        return None
    verdict: Verdict = "refutes" if missing else "confirms"
    status: Status = "impossible" if quality else "refuted" if missing else "confirmed"
    code = f"lacks_{missing[0] if len(missing) == 1 else 'audio'}" if missing else "has_modality"
    reason = Note(code=f"hypotheses.{code}", fields={"name": known.about.name})
    return Finding(claim, status, reason, known, (Weighed(known, verdict),))


def _too_many_parameters(claim: Claim, parameters: float) -> Finding | None:
    most = claim.bounds[1]
    if most is None or parameters / 8 <= most:
        return None
    claimed = (claim.value or claim.high or 0.0) * claim.scale
    said = Note(
        code="hypotheses.sum_ram",
        fields={
            "parameters": count(parameters),
            "one_bit": size(parameters / 8),
            "int8": size(parameters),
            "claimed": size(claimed),
            "holds": count(claimed),
        },
    )
    one = _sum(claim, parameters / 8, "at_least", said)
    return Finding(claim, "impossible", said, one, (Weighed(one, "refutes"),))


def _same_frames(claim: Claim) -> Finding | None:
    """A model with a front end of its own gets as many frames, whatever the recording's rate."""
    pair = claim.pair
    if pair is None or not pair.model_rate:
        return None
    rates = {"base": int(pair.base[0]), "other": int(pair.other[0]), "model": pair.model_rate}
    fields = {name: f"{rate / 1000:g}" for name, rate in rates.items()}
    said = Note(code="hypotheses.sum_frames", fields=fields)
    one = _sum(claim, 0.0, "is", said)
    verdict = weigh(claim, one)
    status: Status = "refuted" if verdict == "refutes" else "confirmed"
    return Finding(claim, status, said, one, (Weighed(one, verdict),))


def _sum(claim: Claim, value: float, relation: Literal["is", "at_least"], said: Note) -> Evidence:
    architecture = claim.subject.architecture
    return Evidence(
        metric=claim.metric,
        value=value,
        low=value,
        high=None if relation == "at_least" else value,
        about=About(name=architecture, architecture=architecture),
        source="arithmetic",
        relation=relation,
        said=said,
    )
