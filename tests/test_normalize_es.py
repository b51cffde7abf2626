"""Words as they are compared: Spanish by rules of our own, English as Whisper's normaliser."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vozmetro.speech.normalize import MOST_CHARACTERS, normalize, normalizer_name

SAME_SPANISH = [
    # Thousands and decimals, of Spain, of Mexico, and as the Academy writes them.
    ("1.250,50", "mil doscientos cincuenta coma cincuenta"),
    ("1,250.50", "mil doscientos cincuenta coma cincuenta"),
    ("1,250.50", "mil doscientos cincuenta punto cincuenta"),
    ("1 250", "mil doscientos cincuenta"),
    ("1\u00a0250", "1250"),
    ("1.250", "1250"),
    ("1,250", "1250"),
    ("1.250.000", "un millón doscientos cincuenta mil"),
    ("1 000 000", "un millón"),
    ("3 000,5", "tres mil coma cinco"),
    ("3,5", "tres coma cinco"),
    ("0,05", "cero coma cero cinco"),
    ("0.500", "cero coma cinco cero cero"),
    ("3,1416", "tres coma uno cuatro uno seis"),
    ("-3", "menos tres"),
    ("\u22123", "menos tres"),
    ("10-20", "diez veinte"),
    # Gender and apocope were never in the digits.
    ("21 personas", "veintiuna personas"),
    ("21 euros", "veintiún euros"),
    ("200 personas", "doscientas personas"),
    ("1 mensaje", "un mensaje"),
    ("101", "ciento uno"),
    # Ordinals.
    ("12.º", "duodécimo"),
    ("12º", "decimosegundo"),
    ("la 12.ª planta", "la duodécima planta"),
    ("1er piso", "primer piso"),
    ("la 2a vez", "la segunda vez"),
    ("el 3ro", "el tercero"),
    ("21.º", "vigésimo primero"),
    ("13.er", "decimotercero"),
    # Hours.
    ("A las 3:45.", "a las tres cuarenta y cinco"),
    ("15:30 h", "quince treinta horas"),
    ("a las 3:00", "a las tres"),
    ("las 3 p.m.", "las tres p. m."),
    ("las 3PM", "las tres p. m."),
    # Amounts, shares, measures.
    ("1.250,50 €", "mil doscientos cincuenta coma cincuenta euros"),
    ("$1,250.50", "mil doscientos cincuenta punto cincuenta dólares"),
    ("1 €", "un euro"),
    ("50 %", "cincuenta por ciento"),
    ("50%", "50 por ciento"),
    ("25 °C", "veinticinco grados centígrados"),
    ("25°", "veinticinco grados"),
    ("100 km/h", "cien kilómetros por hora"),
    ("2 h 30 min", "dos horas treinta minutos"),
    ("1/2", "medio"),
    ("2 ½", "dos y medio"),
    ("2½", "dos y medio"),
    ("3/4 de hora", "tres cuartos de hora"),
    # Codes, telephones, addresses.
    ("007", "cero cero siete"),
    ("600 123 456", "seiscientos ciento veintitrés cuatrocientos cincuenta y seis"),
    ("55 1234 5678", "cincuenta y cinco 1234 5678"),
    ("+34 600 123 456", "más treinta y cuatro seiscientos ciento veintitrés 456"),
    ("192.168.1.1", "ciento noventa y dos ciento sesenta y ocho uno uno"),
    ("1.5.2", "uno cinco dos"),
    ("1, 2, 3", "uno dos tres"),
    ("Marque 9.", "marque nueve"),
    ("5G", "cinco g"),
    ("9" * 15, " ".join(["nueve"] * 15)),
    # Abbreviations and symbols.
    ("Sr. García", "señor García"),
    ("la Sra. y el Dr Ruiz", "la señora y el doctor Ruiz"),
    ("n.º 5", "número cinco"),
    ("núm. 5", "no. 5"),
    ("pág. 3", "página tres"),
    ("EE. UU.", "Estados Unidos"),
    ("p. ej., esto", "por ejemplo esto"),
    ("Juan & Ana", "Juan y Ana"),
    # Writing alone.
    ("¿Qué hora es?", "qué hora es"),
    ("ÑANDÚ", "ñandú"),
    ("cafe\u0301", "café"),
    ("１２", "doce"),
    ("٣٥", "treinta y cinco"),
    ("setiembre", "septiembre"),
]  # fmt: skip

DIFFERENT_SPANISH = [
    ("esta", "está"),
    ("1.250", "1,25"),
    ("12", "12.º"),
    ("-3", "3"),
    ("50", "50 %"),
    ("ano", "año"),
    ("no cinco", "no. 5"),
    ("007", "7"),
    ("3 €", "3 $"),
    ("dos", "doce"),
    ("arte", "art. e"),
]

SAME_ENGLISH = [
    ("ten", "10"),
    ("Mr. Park", "mister Park"),
    ("don't", "do not"),
    ("colour", "color"),
    ("twenty one", "21"),
    ("$20", "20 dollars"),
    ("um, yes", "yes"),
    ("1,250", "1250"),
    ("one hundred and one", "101"),
    ("twelfth", "12th"),
]

WRITTEN = st.one_of(
    st.text(max_size=60),
    st.text(alphabet="0123456789.,:/-+º ª°½%$€msrhdnopag\u00a0²①Ⅷ¨'", max_size=40),
    st.lists(
        st.sampled_from([left for left, _ in SAME_SPANISH] + ["un", "punto", "coma", "no.", "ª"]),
        max_size=5,
    ).map(" ".join),
    st.lists(st.sampled_from(["1.250,50", "12.º", "Sr.", "3:45", "-3", "½", "km/h"])).map("".join),
)


@pytest.mark.parametrize(("one", "other"), SAME_SPANISH)
def test_the_same_said_in_spanish(one: str, other: str) -> None:
    assert normalize(one, "es") == normalize(other, "es")


@pytest.mark.parametrize(("one", "other"), DIFFERENT_SPANISH)
def test_not_the_same_said_in_spanish(one: str, other: str) -> None:
    assert normalize(one, "es") != normalize(other, "es")


def test_spanish_is_spelled_as_it_is_said() -> None:
    # Pairs alone would pass if both sides were emptied.
    said = normalize("El Sr. Ruiz pagó 1.250,50 € el 3:45.", "es")
    assert said == "el señor ruiz pagó mil doscientos cincuenta coma cincuenta euros el tres " + (
        "cuarenta y cinco"
    )


@pytest.mark.parametrize(("one", "other"), SAME_ENGLISH)
def test_the_same_said_in_english(one: str, other: str) -> None:
    assert normalize(one, "en") == normalize(other, "en") != ""


def test_a_language_without_rules_keeps_its_numbers() -> None:
    assert normalize("Dix, 10.", "fr") == "dix 10"
    assert normalize("ten", "") != normalize("10", "")


def test_regional_codes_have_the_rules_of_their_language() -> None:
    assert normalize("10", "es-MX") == "diez"
    assert normalize("ten", "EN-us") == "10"


def test_without_accents_keeps_letters_of_their_own() -> None:
    assert normalize("El pingüino está, mañana, à Barça", "es", accents=False) == (
        "el pinguino esta mañana a barça"
    )
    assert normalize("man\u0303ana", "es", accents=False) == "mañana"
    assert normalize("16", "es", accents=False) == "dieciseis"
    assert normalize("Zo\u0308e \u00a8 x", "", accents=False) == "zoe x"


@settings(max_examples=300, deadline=None)
@given(WRITTEN, st.booleans())
def test_spanish_twice_changes_nothing(text: str, accents: bool) -> None:
    words = normalize(text, "es", accents=accents)
    assert normalize(words, "es", accents=accents) == words
    assert words == " ".join(words.split())
    assert not any(one in ".,:;/%€$º¿?" for one in words)


@settings(max_examples=200, deadline=None)
@given(WRITTEN, st.sampled_from(["en", "", "de", "\0"]))
def test_no_text_is_too_odd(text: str, language: str) -> None:
    words = normalize(text, language)
    assert words == " ".join(words.split())


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 10**12 - 1))
def test_a_number_is_read_the_same_however_it_is_grouped(number: int) -> None:
    plain = normalize(str(number), "es")
    assert not any(one.isdigit() for one in plain)
    assert normalize(f"{number:,}", "es") == plain
    assert normalize(f"{number:,}".replace(",", "."), "es") == plain


@pytest.mark.parametrize("piece", ["1", "111 ", "1.111.", "12:", "1/", "$1", "-", "a.", "½", "º"])
@pytest.mark.parametrize("language", ["es", "en"])
def test_long_input_ends(piece: str, language: str) -> None:
    # What backtracks would take minutes: the run as a whole would not end.
    normalize(piece * (2 * MOST_CHARACTERS // len(piece)), language)


def test_what_is_too_long_is_cut() -> None:
    assert len(normalize("a" * (MOST_CHARACTERS + 5), "es")) == MOST_CHARACTERS


def test_reports_name_the_normaliser() -> None:
    assert normalizer_name("es").startswith("vozmetro es")
    assert normalizer_name("en").startswith("whisper-normalizer 0.")
    assert normalizer_name("fr") != normalizer_name("es")
