"""Clauses: the cuts that a listener expects, and the same ones however the text arrives."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vozmetro.speech.clauses import FIRST_WORDS, LONGEST, ClauseCutter, clauses

KNOWN = {
    "Hola.": ["Hola."],
    "": [],
    "  \n ": [],
    "Claro que sí, mañana a las 10:30, en la sala 3.": [
        "Claro que sí,",
        "mañana a las 10:30, en la sala 3.",
    ],
    # One word before the comma is no clause.
    "Hola, ¿qué tal estás? Bien.": ["Hola, ¿qué tal estás?", "Bien."],
    "¡Buenos días! ¿En qué puedo ayudarle, Sr. Pérez? Dígame.": [
        "¡Buenos días!",
        "¿En qué puedo ayudarle, Sr. Pérez?",
        "Dígame.",
    ],
    "El total son 3,5 euros; el resto, 1.250,75 euros. Gracias.": [
        "El total son 3,5 euros;",
        "el resto, 1.250,75 euros.",
        "Gracias.",
    ],
    "La Sra. Gómez y el Dr. Ruiz llegan hoy. D. Juan y la Srta. M. Paz, no.": [
        "La Sra. Gómez y el Dr. Ruiz llegan hoy.",
        "D. Juan y la Srta. M. Paz, no.",
    ],
    "Vive en EE. UU. desde 2010. Antes no.": ["Vive en EE. UU. desde 2010.", "Antes no."],
    "Frutas, verduras, etc. También pan, p. ej. Integral.": [
        "Frutas, verduras,",
        "etc.",
        "También pan, p. ej. Integral.",
    ],
    "Tengo prisa, etc. y nada más.": ["Tengo prisa,", "etc. y nada más."],
    "Mr. Smith is here. No. I mean No. 5. So do I. Yes.": [
        "Mr. Smith is here.",
        "No.",
        "I mean No. 5.",
        "So do I.",
        "Yes.",
    ],
    "1. Abra la puerta. 2. Entre.": ["1. Abra la puerta.", "2. Entre."],
    "Pues... no sé... Quizá. «¿Seguro?» (Sí.) Vale.": [
        "Pues... no sé...",
        "Quizá.",
        "«¿Seguro?»",
        "(Sí.)",
        "Vale.",
    ],
    "Es un caso —raro— de verdad. Otro — también.": [
        "Es un caso —raro—",
        "de verdad.",
        "Otro — también.",
    ],
    "Sin punto final\nen dos líneas\n\nOtro párrafo": [
        "Sin punto final en dos líneas",
        "Otro párrafo",
    ],
    "https://a.es/b,c?d=1.2 funciona bien": ["https://a.es/b,c?d=1.2 funciona bien"],
    "你好。再见！": ["你好。", "再见！"],
}

TEXTS = st.text(st.sampled_from("aBñI1 \n,.;:!?¿¡—…()\"'»。Sr\t\u2003"), max_size=120) | st.text(
    max_size=60
)


@pytest.mark.parametrize("text", KNOWN)
def test_clauses_are_where_a_listener_hears_them(text: str) -> None:
    assert clauses(text) == KNOWN[text]


@given(TEXTS)
def test_nothing_is_lost_but_white_space(text: str) -> None:
    pieces = clauses(text)
    assert "".join("".join(pieces).split()) == "".join(text.split())
    assert all(piece == piece.strip() and piece for piece in pieces)


@given(TEXTS, st.data())
def test_pieces_of_any_size_give_the_same_clauses(text: str, data: st.DataObject) -> None:
    cutter = ClauseCutter()
    done = []
    left = text
    while left:
        size = data.draw(st.integers(1, len(left)))
        done += cutter.feed(left[:size])
        left = left[size:]
    rest = cutter.rest()
    assert [*done, *([rest] if rest else [])] == clauses(text)


@given(
    st.lists(st.sampled_from(["a" * 150, "palabra", "coma,", "fin.", "b" * 900, "Y"]), max_size=40),
    st.integers(1, 500),
)
def test_no_clause_is_longer_than_the_limit(words: list[str], size: int) -> None:
    text = " ".join(words)
    cutter = ClauseCutter()
    done = [
        clause
        for start in range(0, len(text), size)
        for clause in cutter.feed(text[start : start + size])
    ]
    rest = cutter.rest()
    assert [*done, *([rest] if rest else [])] == clauses(text)
    assert all(len(clause) <= LONGEST for clause in clauses(text))


@given(st.lists(st.sampled_from(["uno,", "dos", "tres;", "Cuatro.", "—"]), max_size=12))
def test_the_first_clause_has_words_enough(words: list[str]) -> None:
    first, *others = clauses(" ".join(words)) or [""]
    if others and not first.endswith("."):
        assert sum(any(map(str.isalnum, word)) for word in first.split()) >= FIRST_WORDS


def test_a_clause_comes_out_with_the_first_letter_behind_it() -> None:
    cutter = ClauseCutter()
    assert cutter.feed("De acuerdo") == []
    assert cutter.feed(",") == []
    assert cutter.feed(" ") == []
    assert cutter.feed("ma") == ["De acuerdo,"]
    assert cutter.feed("ñana. ") == []
    assert cutter.rest() == "mañana."
    assert cutter.rest() == ""


def test_after_the_rest_a_new_text_begins() -> None:
    cutter = ClauseCutter()
    cutter.feed("Uno dos, tres. Cuatro")
    assert cutter.rest() == "Cuatro"
    assert cutter.feed("Uno dos, tres. Cuatro") == ["Uno dos,", "tres."]
