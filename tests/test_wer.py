"""Word errors: known right answers, and what must hold for any sentences."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from run_factory import make_run

from vozmetro.errors import InputError, ModelError
from vozmetro.quality.wer import (
    Transcribed,
    corpus_wer,
    run_word_errors,
    score,
    word_errors,
)
from vozmetro.speech.normalize import normalize

sentences = st.lists(st.sampled_from(["uno", "dos", "tres", "está"]), min_size=1, max_size=8).map(
    " ".join
)


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        ("¿Qué hora es?", "qué hora es"),
        ("Don’t  stop—now!", "dont stop now"),
        ("  ", ""),
        ("ﬁn, 25 €", "fin 25"),
        ("El coche (rojo)", "el coche rojo"),
    ],
)
def test_normalize(raw: str, words: str) -> None:
    assert normalize(raw) == words


@given(st.text())
def test_normalize_twice_changes_nothing(text: str) -> None:
    assert normalize(normalize(text)) == normalize(text)


def test_counts_by_hand() -> None:
    # "pon" heard as "por" (1 substitution), "la" missed (1 deletion), "ya" added (1 insertion).
    found = word_errors(["Pon la música.", "Apaga todo"], ["por música", "apaga todo ya"])
    assert (found.substitutions, found.deletions, found.insertions) == (1, 1, 1)
    assert (found.words, found.utterances) == (5, 2)
    assert found.rate == pytest.approx(3 / 5)


def test_utterances_without_words_do_not_count() -> None:
    assert word_errors(["...", "hola"], ["ruido", "hola"]).errors == 0
    with pytest.raises(InputError) as error:
        word_errors(["..."], ["hola"])
    assert error.value.code == "no_reference_words"


@given(st.lists(sentences, min_size=1, max_size=4))
def test_the_same_words_have_no_errors(said: list[str]) -> None:
    assert corpus_wer(said, [one.upper() + "." for one in said]) == 0


@given(st.lists(sentences, min_size=1, max_size=4))
def test_hearing_nothing_is_one_hundred_percent(said: list[str]) -> None:
    assert corpus_wer(said, [""] * len(said)) == 1


def test_dummy_weights_have_no_word_errors() -> None:
    run = make_run()
    items = [item.model_copy(update={"text": "hola", "output": "hola"}) for item in run.items]
    heard = run.model_copy(
        update={"items": items, "subject": run.subject.model_copy(update={"kind": "stt"})}
    )
    found = run_word_errors(heard)
    assert found is not None
    assert found.errors == 0
    dummy = heard.model_copy(
        update={"subject": heard.subject.model_copy(update={"weights": "dummy"})}
    )
    with pytest.raises(ModelError) as error:
        run_word_errors(dummy)
    assert error.value.code == "dummy_quality"
    deaf = heard.model_copy(update={"subject": heard.subject.model_copy(update={"kind": "graph"})})
    assert run_word_errors(deaf) is None


def test_kinds_of_errors_and_characters_by_hand() -> None:
    found = score(
        [
            Transcribed("Pon la música.", "por música", "es", "ana"),
            Transcribed("Son 10.", "son diez ya", "es"),
        ]
    )
    assert found.substitutions.tolist() == [1, 0]
    assert found.deletions.tolist() == [1, 0]
    assert found.insertions.tolist() == [0, 1]
    assert found.words.tolist() == [3, 2]
    assert found.rate == 3 / 5
    # n for r, and "la " left out; " ya" added to "son diez".
    assert found.char_errors.tolist() == [4, 3]
    assert found.chars.tolist() == [13, 8]
    assert found.cer == 7 / 21
    assert found.speakers == ("ana", "")


def test_accents_count_only_where_asked() -> None:
    said = [Transcribed("el numero está", "el número esta", "es")]
    assert score(said).rate == 2 / 3
    assert score(said, accents=False).rate == 0


def test_empty_references_and_hypotheses() -> None:
    found = score([Transcribed("...", "ruido y más"), Transcribed("sí", "")])
    assert found.insertions.tolist() == [3, 0]
    assert found.deletions.tolist() == [0, 1]
    assert found.char_errors.tolist() == [len("ruido y más"), 2]
    assert found.rate == 4
    for nothing in ([], [Transcribed("...", "hola")]):
        with pytest.raises(InputError) as error:
            score(nothing)
        assert error.value.code == "no_reference_words"


@given(st.lists(st.tuples(sentences, st.one_of(st.just(""), sentences)), min_size=1, max_size=5))
def test_rates_agree_with_jiwer_and_kaldialign(pairs: list[tuple[str, str]]) -> None:
    import jiwer
    import kaldialign

    found = score([Transcribed(said, heard) for said, heard in pairs])
    said, heard = [one for one, _ in pairs], [one for _, one in pairs]
    assert found.rate == pytest.approx(jiwer.wer(said, heard))
    assert found.cer == pytest.approx(jiwer.cer(said, heard))
    theirs = [kaldialign.edit_distance(a.split(), b.split())["total"] for a, b in pairs]
    assert found.errors.tolist() == theirs
    theirs = [kaldialign.edit_distance(list(a), list(b))["total"] for a, b in pairs]
    assert found.char_errors.tolist() == theirs
