"""What a study tells: rows, differences, figures for a budget, and the curve, wired right."""

from __future__ import annotations

import pytest
from run_factory import make_run

from vozmetro.measure.quality_records import SpeechItem
from vozmetro.quality.summary import (
    EVERY_LANGUAGE,
    SystemQuality,
    Take,
    figures,
    pairs,
    run_takes,
    summarize,
)
from vozmetro.resampling import holm, rate_difference

TEN = "uno dos tres cuatro cinco seis siete ocho nueve diez"


def takes(wrong: int, condition: str = "clean", n: int = 40, language: str = "es") -> list[Take]:
    """Returns utterances of ten words, of which the first so many are heard wrongly."""
    heard = " ".join(["otro"] * wrong + TEN.split()[wrong:])
    return [
        Take(
            SpeechItem(id=f"{language}{index}", condition=condition, text=TEN, language=language,
                       seconds=2.0),
            heard,
            (100.0,),
        )
        for index in range(n)
    ]  # fmt: skip


def sound(condition: str, output: str) -> Take:
    return Take(SpeechItem(id="none", condition=condition, seconds=30.0), output, (50.0,))


def test_rows_by_language_and_condition() -> None:
    heard = [*takes(4, "ssn@10"), *takes(2), *takes(1, language="en", n=20)]
    found = summarize("a", heard)
    assert [(row.condition, row.language, len(row.takes)) for row in found.rows] == [
        ("clean", EVERY_LANGUAGE, 60), ("clean", "es", 40), ("clean", "en", 20),
        ("ssn@10", EVERY_LANGUAGE, 40), ("ssn@10", "es", 40),
    ]  # fmt: skip
    row = found.row("clean", "es")
    assert row is not None
    assert row.wer.value == pytest.approx(0.2)
    assert row.rtfx == pytest.approx(20)
    whole = found.row()
    assert whole is not None
    assert whole.wer.value == pytest.approx((40 * 2 + 20 * 1) / 600)
    assert found.row("phone") is None


def test_accents_loops_and_utterances_without_words() -> None:
    item = SpeechItem(id="x", text="está ahí", language="es", seconds=1.0)
    silent = item.model_copy(update={"id": "y", "text": "..."})
    found = summarize("a", [Take(item, "esta ahi " * 5, (9.0,)), Take(silent, "ruido", (9.0,))])
    row = found.row()
    assert row is not None
    assert (len(row.takes), row.loops) == (1, 1)
    assert row.wer.value == 8 / 2
    assert row.wer_exact.value == 10 / 2


def test_false_words_are_no_word_errors() -> None:
    found = summarize("a", [*takes(0), sound("silence", "gracias por ver"), sound("noise", "")])
    assert found.false_words["silence"].value == 6
    assert found.false_words["noise"].value == 0
    assert {row.condition for row in found.rows} == {"clean"}


def three() -> list[SystemQuality]:
    return [summarize(name, takes(wrong)) for name, wrong in (("a", 2), ("b", 5), ("c", 2))]


def test_pairs_against_the_baseline() -> None:
    worse, same = pairs(three())
    assert (worse.a, worse.b, worse.utterances) == ("a", "b", 40)
    assert worse.difference.value == pytest.approx(0.3)
    assert worse.better == "a"
    assert same.difference.value == 0
    assert same.better == ""
    alone = [one.difference.p for one in (worse, same)]
    assert [worse.p, same.p] == holm(alone)
    assert worse.p == 2 * worse.difference.p
    turned = pairs(three(), baseline=1)
    assert [one.better for one in turned] == ["a", "c"]


def test_pairs_rest_on_what_both_heard() -> None:
    a, b = summarize("a", takes(2)), summarize("b", list(reversed(takes(3)[:25])))
    (found,) = pairs([a, b])
    assert found.utterances == 25
    assert found.difference.value == pytest.approx(0.1)
    assert found.difference == rate_difference([2] * 25, [3] * 25, [10] * 25)
    assert pairs([a, summarize("c", takes(1, "ssn@10"))]) == []


def test_figures_for_a_budget() -> None:
    heard = [*takes(1), *takes(1, "ssn@20"), *takes(3, "ssn@10"), *takes(8, "ssn@0")]
    a, b = summarize("a", heard), summarize("b", takes(4))
    found = {one.metric: one for one in figures(a, is_baseline=True)}
    assert found["wer"].value == pytest.approx(0.1)
    assert found["wer"].n == 40
    assert found["wer_delta"].value == 0
    # From 1 error at 20 dB to 3 at 10 dB: 2, the double of clean, lies half way.
    assert a.curves["ssn"].doubling.snr is not None
    assert found["snr_double"].value == pytest.approx(15)
    other = {one.metric: one for one in figures(b, pairs([a, b]))}
    assert other["wer_delta"].value == pytest.approx(0.3)
    assert other["wer_delta"].low is not None
    assert other["wer_delta"].low > 0
    assert "snr_double" not in other
    assert figures(summarize("none", [sound("silence", "")])) == []


def test_a_double_beyond_the_grid_is_open() -> None:
    never = summarize("a", [*takes(1), *takes(1, "ssn@20"), *takes(1, "ssn@0")])
    found = {one.metric: one for one in figures(never)}["snr_double"]
    assert found.value == 0
    assert found.low is None


def test_takes_of_a_measured_run() -> None:
    run = make_run(rounds=3)
    found = run_takes(run)
    assert [take.item.id for take in found] == [item.id for item in run.items]
    assert {len(take.ms) for take in found} == {3}
    assert found[0].ms == tuple(run.latencies_ms(run.items[0].id))
    whole = summarize("run", found).row()
    assert whole is not None
    assert whole.wer.value == 0
    assert run_takes(make_run(kind="graph")) == []
