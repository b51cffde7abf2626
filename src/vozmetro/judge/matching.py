"""Which evidence answers which claim, and which must not count."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from fnmatch import fnmatchcase

from vozmetro.judge.claims import PAIRED, Claim, Matcher, Work
from vozmetro.judge.evidence import FIRST_TOKEN, PER_TOKEN, About, Evidence

QUALITY = frozenset({"wer", "wer_increase", "mos"})
"""Metrics that random weights cannot answer."""
FEWEST_BITS = 4
"""Weights of fewer bits are not made here: a floor at these holds for every precision."""
_BITS = {"FP32": 32, "FP16": 16, "BF16": 16, "INT8": 8, "INT4": 4}


def fits(claim: Claim, one: Evidence) -> bool:
    """Whether the evidence is about the claim's subject, whatever it says of it."""
    wanted = claim.subject
    if one.source == "architecture":
        return bool(wanted.architecture) and one.about.architecture == wanted.architecture
    if claim.metric in PAIRED:
        return one.metric == claim.metric and _fits_pair(claim, one)
    # Floors of what is no language model do not tell the kind.
    if wanted.kinds and one.about.kind and one.about.kind not in wanted.kinds:
        return False
    if wanted.precision and one.about.precision not in wanted.precision:
        return False
    return _named(wanted, one.about)


def _named(wanted: Matcher, whose: About) -> bool:
    """Whether a subject goes by one of the names, or is of the architecture."""
    if wanted.architecture and whose.architecture == wanted.architecture:
        return True
    if not wanted.names:
        return not wanted.architecture
    return any(fnmatchcase(name, pattern) for name in whose.names for pattern in wanted.names)


def _fits_pair(claim: Claim, one: Evidence) -> bool:
    differs, _, what = one.pair.partition(" ")
    if claim.pair is None or differs != claim.pair.differs:
        return False
    if not _named(claim.subject, one.about):
        return False
    if differs == "precision":
        base, _, other = what.partition(">")
        return base in claim.pair.base and other in claim.pair.other
    said = dict(word.partition("=")[::2] for word in what.split(","))
    return said == claim.pair.options


def answers(claim: Claim, mine: Sequence[Evidence]) -> list[Evidence]:
    """Returns the figures on the claim's metric, the answers of language models put together."""
    if claim.work is not None:
        return _answers_of_tokens(claim.work, mine)
    figures = [one for one in mine if one.metric == claim.metric]
    parts = claim.subject.parts
    parted = {_origin(one) for one in figures if one.part in parts}
    return [
        one for one in figures
        if one.part in parts or (not one.part and _origin(one) not in parted)
    ]  # fmt: skip


def _origin(one: Evidence) -> tuple[str, str, str, About]:
    """What evidence of the same subject in the same record has in common."""
    return one.source, one.id, one.file, one.about


def _answers_of_tokens(work: Work, mine: Sequence[Evidence]) -> list[Evidence]:
    """First token and the ones after it, of the same record, added up.

    Both intervals together hold with at least 90 % where each does with 95 % (Bonferroni). Of each
    record the longest prompt that is not longer than the claim's counts: a shorter one than that
    is only a lower bound.
    """
    best: dict[tuple[str, str, str, About], Evidence] = {}
    for first in mine:
        if first.metric != FIRST_TOKEN or first.prompt_tokens > work.prompt_tokens:
            continue
        key = _origin(first)
        if key in best and best[key].prompt_tokens >= first.prompt_tokens:
            continue
        later = [one for one in mine if one.metric == PER_TOKEN and _origin(one) == key]
        # The nearest length: every token looks back on the ones before it.
        later.sort(key=lambda one: abs(one.prompt_tokens - first.prompt_tokens))
        best[key] = _added_up(work, first, later[0] if later else None)
    return list(best.values())


def _added_up(work: Work, first: Evidence, token: Evidence | None) -> Evidence:
    more = work.answer_tokens - 1
    short = first.prompt_tokens < work.prompt_tokens or (more > 0 and token is None)
    total = replace(
        first,
        metric="latency_p50_ms",
        relation="at_least" if short else first.relation,
        answer_tokens=1 if token is None else work.answer_tokens,
    )
    if not more or token is None:
        return total
    return replace(
        total,
        value=first.value + more * token.value,
        low=_plus(first.low, token.low, more),
        high=_plus(first.high, token.high, more),
    )


def _plus(first: float | None, later: float | None, times: int) -> float | None:
    return None if first is None or later is None else first + times * later


def left_out(claim: Claim, one: Evidence) -> str:
    """Returns why a figure must not count for the claim, as a code; empty where it may."""
    least, whole = claim.subject.least_parameters, one.about.parameters
    partial = least is not None and whole is not None and whole < least
    bits = _BITS.get(one.about.precision, max(_BITS.values()))
    # Fewer bits would move fewer bytes: such a floor is not every implementation's.
    is_floor = one.source in ("floor", "floor_compute")
    coarse = is_floor and not claim.subject.precision and bits > FEWEST_BITS
    reasons = (
        (bool(one.unsound), one.unsound),
        (claim.metric in QUALITY and one.about.dummy, "dummy_quality"),
        (claim.metric in QUALITY and one.synthetic, "synthetic_quality"),
        (one.about.device != claim.subject.device, "other_device"),
        (partial and not one.extrapolated, "not_whole"),
        (coarse, "floor_precision"),
    )
    return next((why for holds, why in reasons if holds), "")
