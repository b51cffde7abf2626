"""Words nobody said: a worked example of the rate, loops found, and repetition that was said."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vozmetro.quality.hallucination import false_words_per_minute, has_loop, repeats


def test_false_words_by_hand() -> None:
    # 10 words in 2 minutes. Garwood's interval of a count of 10: 4.795 to 18.390 (tables).
    found = false_words_per_minute(["Gracias por ver el video.", "", "¡Suscríbete ya a mi canal!"],
                                   [60, 30, 30])  # fmt: skip
    assert found.value == 5
    assert (found.low, found.high) == pytest.approx((4.795 / 2, 18.390 / 2), abs=0.001)
    assert found.n == 3


def test_silence_heard_as_silence() -> None:
    # Nothing in a minute: up to -ln 0.025 = 3.689 words are not excluded.
    found = false_words_per_minute(["..."], [60])
    assert (found.value, found.low) == (0, 0)
    assert found.high == pytest.approx(3.689, abs=0.001)


def test_no_sound_has_no_rate() -> None:
    for texts, seconds in (([], []), (["a"], [0.0]), (["a"], [1.0, 2.0])):
        with pytest.raises(ValueError, match="no sound"):
            false_words_per_minute(texts, seconds)


@pytest.mark.parametrize(
    ("output", "reference"),
    [
        ("Gracias. " * 30, ""),
        ("y luego, y luego, y luego, y luego", "y luego se fue"),
        ("pulse uno para continuar " * 5, "Pulse uno para continuar."),
        ("Hola. " + "no se puede, no se puede, " * 6, "Hola, no se puede conectar"),
        ("uno dos tres cuatro cinco seis siete ocho nueve diez " * 4, "uno dos tres"),
        ("no " * 40, "no, no, no"),
    ],
)
def test_loops_are_found(output: str, reference: str) -> None:
    assert has_loop(output, reference)


@pytest.mark.parametrize(
    ("output", "reference"),
    [
        ("no no no", "No, no, no."),
        ("no no no no no", "No, no, no, no, no."),
        ("ocho ocho ocho ocho", "8 8 8 8"),
        ("uno uno uno uno dos", "uno uno uno uno dos"),
        ("el perro y el gato y el ratón y el pato", "otra cosa"),
        ("", ""),
        ("sí", ""),
    ],
)
def test_what_was_said_is_no_loop(output: str, reference: str) -> None:
    assert not has_loop(output, reference)


def test_repeats_by_hand() -> None:
    assert repeats("") == 0
    assert repeats("uno dos tres") == 1
    assert repeats("ha ha ha") == 3
    assert repeats("a b a b a") == 2


@given(
    st.lists(st.sampled_from("abcdef"), min_size=1, max_size=12, unique=True),
    st.integers(1, 9),
    st.text("xyz", max_size=3),
)
def test_repeats_of_any_unit(unit: list[str], times: int, before: str) -> None:
    assert repeats(" ".join([f"{before}z", *unit * times])) == times
