"""Errors that add up: in any order, in any division, exactly those of all utterances at once."""

from __future__ import annotations

import random
from zlib import crc32

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vozmetro.measure.quality_records import Merged, SpeechItem
from vozmetro.quality.merging import (
    EVERY_LANGUAGE,
    MOST_LATENCIES,
    Counted,
    count,
    merge,
    merged_rate,
    people_drawn,
    with_rest,
)
from vozmetro.quality.summary import MergedRow, Take, summarize
from vozmetro.resampling import rate

WORDS = ("uno", "está", "esta", "perro", "casa", "ten", "¿", "")


def sentence() -> st.SearchStrategy[str]:
    return st.lists(st.sampled_from(WORDS), max_size=6).map(" ".join)


@st.composite
def utterances(draw: st.DrawFn) -> list[Counted]:
    rows = draw(
        st.lists(
            st.tuples(
                sentence(), sentence(), st.sampled_from(["es", "en", ""]),
                st.sampled_from(["", *(f"speaker {n}" for n in range(14))]),
                st.integers(1, 9000), st.integers(1, 900),
            ),
            max_size=40,
        )
    )  # fmt: skip
    return [
        Counted(f"u{at}", said, heard, language, speaker, ms / 1000, took / 10)
        for at, (said, heard, language, speaker, ms, took) in enumerate(rows)
    ]


@given(utterances(), st.integers(1, 12), st.randoms(use_true_random=False))
@settings(max_examples=60, deadline=None)
def test_parts_in_any_order_add_up_to_the_whole(
    heard: list[Counted], shards: int, order: random.Random
) -> None:
    parts: list[list[Counted]] = [[] for _ in range(shards)]
    for one in heard:
        parts[crc32((one.speaker or one.id).encode()) % shards].append(one)
    order.shuffle(parts)
    merged = merge(row for part in parts for row in count(part).merged)
    assert merged == merge(count(heard).merged)
    takes = [
        Take(
            SpeechItem(id=one.id, text=one.text, language=one.language, speaker=one.speaker,
                       seconds=one.seconds),
            one.output,
            (one.ms,),
        )
        for one in heard
    ]  # fmt: skip
    # What is read of a record that holds every utterance says the same.
    one_by_one = summarize("a", takes)
    summed = summarize("a", [], merged) if merged else one_by_one
    assert [row.language for row in summed.rows] == [row.language for row in one_by_one.rows]
    for row, other in zip(summed.rows, one_by_one.rows, strict=True):
        assert row.wer.value == other.wer.value
        assert row.wer_exact.value == other.wer_exact.value
        assert (row.wer.n, row.wer.speakers) == (other.wer.n, other.wer.speakers)
        assert row.folded.cer == other.folded.cer
        assert (row.loops, row.speakers) == (other.loops, other.speakers)
        assert row.rtfx == pytest.approx(other.rtfx, rel=0.02)
        for kind in ("substitutions", "deletions", "insertions", "words", "chars"):
            for accents in ("exact", "folded"):
                ours = getattr(getattr(row, accents), kind).sum()
                assert ours == getattr(getattr(other, accents), kind).sum()


def test_no_utterance_gives_nothing() -> None:
    assert merge([]) == []
    assert count([Counted("a", "¿?", "hola", "es", "", 1.0, 1.0)]).merged == ()


def simulated(speakers: int, each: int, seed: int) -> tuple[np.ndarray, np.ndarray, list[str]]:
    draw = np.random.default_rng(seed)
    words = draw.integers(1, 25, speakers * each)
    hard = np.repeat(draw.beta(2, 14, speakers), each)
    return draw.binomial(words, hard), words, [f"s{n // each:04d}" for n in range(len(words))]


def merged_of(errors: np.ndarray, words: np.ndarray, speakers: list[str]) -> Merged:
    """The sums of utterances with these numbers of errors, made of words that are wrong."""
    rows = [
        Counted(f"u{at}", " ".join(["bien"] * said), " ".join(["mal"] * wrong
                + ["bien"] * (said - wrong)), "es", speaker, 1.0, 1.0)
        for at, (wrong, said, speaker) in enumerate(zip(errors, words, speakers, strict=True))
    ]  # fmt: skip
    return next(one for one in merge(count(rows).merged) if one.language == EVERY_LANGUAGE)


@pytest.mark.parametrize(("speakers", "each"), [(600, 3), (2000, 1)])
def test_the_interval_of_sums_is_that_of_draws(speakers: int, each: int) -> None:
    errors, words, names = simulated(speakers, each, seed=4)
    if each == 1:
        names = [""] * len(names)
    merged = merged_of(errors, words, names)
    ours, drawn = merged_rate(merged, merged.folded), rate(errors, words, names)
    assert people_drawn(merged) == drawn.speakers == (speakers if each > 1 else 0)
    assert ours.value == drawn.value
    width = drawn.high - drawn.low
    assert abs(ours.low - drawn.low) < 0.05 * width
    assert abs(ours.high - drawn.high) < 0.05 * width


def test_the_interval_of_sums_holds_the_truth() -> None:
    """With 60 speakers of very different rates, over 300 simulated corpora."""
    held = 0
    for seed in range(300):
        draw = np.random.default_rng(seed)
        words = draw.integers(20, 200, 60)
        errors = draw.binomial(words, draw.beta(2, 14, 60))
        sums = {
            "units": 60, "errors": int(errors.sum()), "words": int(words.sum()),
            "errors_squared": int((errors**2).sum()), "words_squared": int((words**2).sum()),
            "errors_words": int((errors * words).sum()),
        }  # fmt: skip
        counts = {"by_speaker": sums, "words": sums["words"]}
        merged = Merged.model_validate(
            {"language": "es", "utterances": 60, "speakers": [f"s{n}" for n in range(10)],
             "folded": counts}
        )  # fmt: skip
        found = merged_rate(merged, merged.folded)
        held += found.low <= 2 / 16 <= found.high
    assert 0.92 <= held / 300 <= 0.985


def test_no_error_at_all_still_leaves_an_interval() -> None:
    merged = merged_of(np.zeros(50, int), np.full(50, 4), [""] * 50)
    found = merged_rate(merged, merged.folded)
    assert found.value == found.low == 0
    assert 0.01 < found.high < 0.03


def test_of_many_utterances_the_worst_and_a_last_row_for_the_others_are_kept() -> None:
    errors, words, names = simulated(40, 5, seed=1)
    merged = merged_of(errors, words, names)
    item = SpeechItem(id="u", text="uno dos", language="es", speaker="s", seconds=1.0)
    spanish = merged.model_copy(update={"language": "es"})
    found = summarize("a", [Take(item, "uno", (5.0,))], [merged, spanish])
    (row,) = found.rows
    assert isinstance(row, MergedRow)
    assert row.folded.errors[0] == 1
    assert row.folded.errors.sum() == errors.sum()
    assert row.folded.words.sum() == words.sum() == with_rest(None, merged.folded).words[0]
    assert row.wer.n == 200
    assert len(row.ms) == 200 <= MOST_LATENCIES
