"""What becomes of a claim, and which evidence it rests on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from vozmetro.judge.claims import Claim
from vozmetro.judge.evidence import Evidence
from vozmetro.measure.records import Note

Status = Literal["confirmed", "refuted", "impossible", "undecided", "not_tested"]
Verdict = Literal["confirms", "refutes", "straddles", "silent", "left_out"]

STATUSES: tuple[Status, ...] = ("confirmed", "refuted", "impossible", "undecided", "not_tested")


@dataclass(frozen=True)
class Weighed:
    """Evidence and what it says of one claim.

    Attributes:
        evidence: The figure; for an answer of a language model, put together from its tokens.
        verdict: `silent` where a lower bound leaves the claim open or the samples are too few;
            `left_out` where the figure must not count.
        why: For `left_out`: the reason, `hypotheses.left_<why>` in the catalogues.
    """

    evidence: Evidence
    verdict: Verdict
    why: str = ""


@dataclass(frozen=True)
class Finding:
    """What became of one claim.

    Attributes:
        claim: The claim.
        status: See STATUSES.
        reason: Why, in a sentence: a code of the catalogues with its fields.
        decisive: The figure that decides; None where there is none.
        weighed: All that was looked at, the decisive figure first.
        better: The promise is more than kept.
    """

    claim: Claim
    status: Status
    reason: Note
    decisive: Evidence | None
    weighed: tuple[Weighed, ...]
    better: bool = False


def weigh(claim: Claim, one: Evidence) -> Verdict:
    """Returns what a figure that may count says: where its interval lies to the claim's.

    A lower bound is an interval without an upper end. It refutes a claim that it lies above and
    never confirms one with an upper end. A figure without either end says nothing.
    """
    least, most = claim.bounds
    low, high = one.low, None if one.relation == "at_least" else one.high
    if low is None and high is None:
        return "silent"
    strict = claim.compare == "below"
    over = low is not None and most is not None and (low >= most if strict else low > most)
    under = high is not None and least is not None and high < least
    if over or under:
        return "refutes"
    above = least is None or (low is not None and low >= least)
    below = most is None or (high is not None and (high < most if strict else high <= most))
    if above and below:
        return "confirms"
    return "silent" if one.relation == "at_least" else "straddles"
