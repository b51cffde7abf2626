"""Round trips: one language at a time, beside what the judge makes of people."""

from __future__ import annotations

import pytest

from vozmetro.errors import InputError
from vozmetro.quality.intelligibility import round_trip
from vozmetro.quality.wer import Transcribed


def heard(pairs: list[tuple[str, str]], language: str) -> list[Transcribed]:
    return [Transcribed(said, written, language) for said, written in pairs]


def test_each_language_has_its_rate_and_its_floor() -> None:
    spanish = heard([("la casa azul", "la casa azul"), ("el gato come", "el pato come")] * 10, "es")
    english = heard([("a blue house", "a blue mouse")] * 5, "en")
    people = heard([("buenos días señora", "buenos días señora")] * 40, "es")
    en, es = round_trip("whisper-base", [*spanish, *english], people, "es-ivr")
    assert (en.language, es.language) == ("en", "es")
    assert es.judge == "whisper-base" and es.wer.value == pytest.approx(1 / 6)
    assert es.wer.low < 1 / 6 < es.wer.high and es.wer.n == 20
    assert es.floor is not None and es.floor.value == 0 and es.floor_corpus == "es-ivr"
    assert es.above_floor is True
    assert en.wer.value == pytest.approx(1 / 3)
    assert en.floor is None and en.above_floor is None and en.floor_corpus == ""


def test_as_bad_on_people_is_not_above_the_floor() -> None:
    same = heard([("la casa azul", "la casa azul"), ("el gato come", "el pato come")] * 10, "es")
    (found,) = round_trip("judge", same, same, "people")
    assert found.above_floor is False


def test_a_judge_has_a_name_and_texts_have_words() -> None:
    with pytest.raises(ValueError, match="judge"):
        round_trip("", heard([("a", "a")], "es"))
    with pytest.raises(InputError) as caught:
        round_trip("judge", heard([("...", "a")], "es"))
    assert caught.value.code == "no_reference_words"
    assert round_trip("judge", []) == []
