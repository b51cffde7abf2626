"""Which evidence answers which claim, and which must not count."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from fnmatch import fnmatchcase

from vozmetro.judge.claims import PAIRED, Claim, Matcher, Work
from vozmetro.judge.evidence import FIRST_TOKEN, PER_TOKEN, About, Evidence
from vozmetro.judge.language import typical

QUALITY = frozenset({"wer", "wer_increase", "mos"})
"""Metrics that random weights cannot answer."""
SPEED = frozenset({"latency_p50_ms", "latency_p99_ms", "throughput"})
"""Metrics that hang on how many words are said and on how many threads do it."""
COMPUTED = frozenset({"floor", "floor_compute"})
"""Sources whose figures were computed from a machine's ceilings."""
FEWEST_BITS = 4
"""Of the weights that are made here: a floor at these holds for every precision of them."""
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
    """First token and the ones after it, of the same record.

    Of each record the longest prompt that is not longer than the claim's counts: a shorter one than
    that is only a lower bound, and so are the tokens alone where nothing tells of a prompt.
    """
    records: dict[tuple[str, str, str, About], list[Evidence]] = {}
    for one in mine:
        if one.metric in (FIRST_TOKEN, PER_TOKEN):
            records.setdefault(_origin(one), []).append(one)
    found = []
    for record in records.values():
        prompts = [one for one in record if one.metric == FIRST_TOKEN]
        tokens = [one for one in record if one.metric == PER_TOKEN]
        short = [one for one in prompts if one.prompt_tokens <= work.prompt_tokens]
        if short:
            first = max(short, key=lambda one: one.prompt_tokens)
            found.append(_answer(work, first, _nearest(first, tokens)))
        elif tokens and not prompts and work.answer_tokens > 1:
            found.append(_later_tokens(work, min(tokens, key=lambda one: one.value)))
    return found


def _nearest(first: Evidence, tokens: Sequence[Evidence]) -> Evidence | None:
    """The tokens after a prompt of about that length: each one looks back on all before it."""
    return min(tokens, key=lambda one: abs(one.prompt_tokens - first.prompt_tokens), default=None)


def _answer(work: Work, first: Evidence, token: Evidence | None) -> Evidence:
    more = work.answer_tokens - 1
    whole = not more or token is not None or bool(first.token_ms)
    short = first.prompt_tokens < work.prompt_tokens or not whole
    total = replace(
        first,
        metric="latency_p50_ms",
        relation="at_least" if short else first.relation,
        answer_tokens=work.answer_tokens if whole else 1,
    )
    if more and first.token_ms:
        each = zip(first.first_ms, first.token_ms, strict=True)
        sums = [first_ms + more * token_ms for first_ms, token_ms in each]
        found = typical(sums, sequential=first.sequential)
        return replace(total, value=found.value, low=found.low, high=found.high)
    if more and token is not None:
        # Computed figures have no samples. Where each interval holds with 95 %, both together do
        # with at least 90 % (Bonferroni).
        return replace(
            total,
            value=first.value + more * token.value,
            low=_plus(first.low, token.low, more),
            high=_plus(first.high, token.high, more),
        )
    return total


def _later_tokens(work: Work, token: Evidence) -> Evidence:
    more = work.answer_tokens - 1
    return replace(
        token,
        metric="latency_p50_ms",
        value=more * token.value,
        low=None if token.low is None else more * token.low,
        high=None,
        relation="at_least",
        answer_tokens=work.answer_tokens,
    )


def _plus(first: float | None, later: float | None, times: int) -> float | None:
    return None if first is None or later is None else first + times * later


def left_out(claim: Claim, one: Evidence) -> str:
    """Returns why a figure must not count for the claim, as a code; empty where it may."""
    least, whole = claim.subject.least_parameters, one.about.parameters
    partial = least is not None and whole is not None and whole < least
    computed = one.source in COMPUTED
    # Fewer bits would move fewer bytes: such a floor is not every implementation's.
    coarse = computed and not claim.subject.precision and bits(one) > FEWEST_BITS
    # Random weights say as many words as they may, and none that a voice could be timed with.
    hears = one.about.kind in ("stt", "cascade") or one.part == "tts_first_audio"
    reasons = (
        (bool(one.unsound), one.unsound),
        (claim.metric in QUALITY and one.about.dummy, "dummy_quality"),
        (claim.metric in QUALITY and one.synthetic, "synthetic_quality"),
        (claim.metric in SPEED and one.about.dummy and hears, "dummy_words"),
        (one.about.device != claim.subject.device, "other_device"),
        (partial and not one.extrapolated, "not_whole"),
        (claim.metric in (*SPEED, "warmup") and one.threads < one.cores, "threads"),
        (computed and bool(claim.subject.parts), "floor_part"),
        (coarse, "floor_precision"),
    )
    return next((why for holds, why in reasons if holds), "")


def bits(one: Evidence) -> int:
    """Returns the bits of most weights behind a figure; the most there are where unknown."""
    return _BITS.get(one.about.precision, max(_BITS.values()))
