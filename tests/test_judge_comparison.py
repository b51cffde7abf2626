"""Comparisons: the ratio's interval, the verdict and the recommendation."""

import math

import numpy as np
import pytest
from judge_helpers import make_run

from vozmetro.i18n import LANGUAGES, t
from vozmetro.judge.comparison import compare_record, median_ratio
from vozmetro.measure.records import ComparisonRecord, Note

ITEMS = {"x": (1.0, 150.0), "y": (2.0, 200.0)}


def record_of(a, b, unfair=()):
    return ComparisonRecord(
        id="c", created="2026-01-01T00:00:00Z", mode="interleaved", unfair=list(unfair), a=a, b=b
    )


def run_of(name, factor=1.0, rounds=60, **options):
    items = {item: (seconds, ms * factor) for item, (seconds, ms) in ITEMS.items()}
    return make_run(items, rounds, name=name, **options)


def codes(comparison):
    return [note.code.removeprefix("decision.") for note in comparison.recommendation]


def test_a_known_shift_is_found():
    found = compare_record(record_of(run_of("a", 0.9, seed=1), run_of("b", seed=2)))
    assert found.verdict == "a_faster"
    assert found.pairs == 120
    assert found.ratio.value == pytest.approx(0.9, abs=0.01)
    assert found.ratio.low < 0.9 < found.ratio.high < 1
    assert codes(found) == ["rec_faster", "rec_a_faster"]
    assert found.recommendation[0].fields == {"name": "a", "other": "b"}
    back = compare_record(record_of(run_of("b", seed=2), run_of("a", 0.9, seed=1)))
    assert back.verdict == "b_faster"
    assert back.ratio.value == pytest.approx(1 / found.ratio.value)


@pytest.mark.parametrize("phi", [0.0, 0.6])
def test_a_against_a_holds_one_about_95_percent(phi):
    rng = np.random.default_rng(6)
    held = []
    for _ in range(400):
        noise = rng.normal(size=100)
        for i in range(1, 100):
            noise[i] = phi * noise[i - 1] + math.sqrt(1 - phi**2) * noise[i]
        ratio = median_ratio(0.05 * noise)
        held.append(ratio.low <= 1 <= ratio.high)
    # 95 % less three standard errors of 400 runs.
    assert np.mean(held) >= 0.917


def test_no_difference_and_who_meets_the_budget():
    same = compare_record(record_of(run_of("a", seed=1), run_of("b", seed=2)))
    assert same.verdict == "no_difference_shown"
    assert codes(same) == ["rec_either", "rec_no_difference_shown"]
    one = compare_record(record_of(run_of("a"), run_of("b", 4, seed=2)))
    assert codes(one)[0] == "rec_only"
    assert "P50" in one.recommendation[0].fields["failing"]
    heavy = compare_record(record_of(run_of("a"), run_of("b", 0.5, peak_rss=5 * 10**9)))
    assert codes(heavy) == ["rec_only", "rec_b_faster"]
    assert heavy.recommendation[0].fields["failing"] == "RAM"
    none = compare_record(record_of(run_of("a", 4), run_of("b", 5)))
    assert codes(none)[0] == "rec_neither"
    waiting = compare_record(record_of(run_of("a"), run_of("b", status="failed")))
    assert codes(waiting)[0] == "rec_only_decided"
    open_ = compare_record(record_of(run_of("a", rounds=2), run_of("b", rounds=2)))
    assert codes(open_) == ["rec_undecided", "rec_few_pairs"]
    assert median_ratio(np.array([])).n_needed == median_ratio(np.zeros(2)).n_needed == 6
    assert open_.verdict == "no_difference_shown"


def test_spanish_first():
    english, both = run_of("tiny.en", 0.5, languages=["en"]), run_of("base", languages=["en", "es"])
    found = compare_record(record_of(english, both))
    assert codes(found)[0] == "rec_no_spanish"
    assert "no habla español" in t(
        found.recommendation[0].code, "es", **found.recommendation[0].fields
    )
    any_language = compare_record(record_of(run_of("base"), english))
    assert codes(any_language)[0] == "rec_no_spanish"
    french = run_of("fr", languages=["en", "es", "fr"])
    assert codes(compare_record(record_of(both, french)))[-1] == "rec_language"
    assert "rec_language" not in codes(compare_record(record_of(both, both)))


def test_unfair_comparisons_say_so():
    found = compare_record(
        record_of(run_of("a"), run_of("b"), [Note(code="unfair_kind", fields={"a": "x", "b": "y"})])
    )
    assert codes(found)[-1] == "rec_unfair"


def test_every_sentence_reads_in_both_languages():
    cases = [
        record_of(run_of("a", left, languages=["en"]), run_of("b", right, rounds=rounds))
        for left, right, rounds in [(1, 1, 60), (0.5, 1, 60), (4, 1, 60), (4, 5, 60), (1, 1, 2)]
    ]
    for record in cases:
        for note in compare_record(record).recommendation:
            said = {t(note.code, lang, **note.fields) for lang in LANGUAGES}
            assert len(said) == 2


def test_pairs_share_item_and_round():
    a, b = run_of("a"), run_of("b", 2)
    cut = b.model_copy(update={"samples": list(reversed(b.samples[:100]))})
    found = compare_record(record_of(a, cut))
    assert found.pairs == 100
    assert found.ratio.value == pytest.approx(0.5, rel=0.02)
    none = compare_record(record_of(a, b.model_copy(update={"samples": []})))
    assert none.pairs == 0
    assert math.isnan(none.ratio.value)
    assert none.verdict == "no_difference_shown"


def test_paths_are_called_by_their_last_part_unless_both_are_the_same():
    a, b = run_of("models/new/net.onnx", seed=1), run_of("models/old/base.onnx", seed=2)
    fields = compare_record(record_of(a, b)).recommendation[0].fields
    assert fields == {"a": "net", "b": "base"}
    twin = run_of("models/old/net.onnx", seed=2)
    fields = compare_record(record_of(a, twin)).recommendation[0].fields
    assert fields == {"a": "models/new/net.onnx", "b": "models/old/net.onnx"}
