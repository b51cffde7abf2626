"""Spanish as it is spoken: numbers, hours, amounts and abbreviations written out.

Rules of our own, described in docs/wer.md, after the Real Academia Española's `Ortografía de la
lengua española` (2010), chapter VIII, with the Mexican habit of 1,250.50 understood as well.
Number words lose gender and apocope (`doscientas`, `veintiún`), because digits never had them.
"""

from __future__ import annotations

import re
import unicodedata
from functools import cache, lru_cache

from vozmetro.speech.normalize import plain_words

LONGEST_NUMBER = 12
"""Digits of the longest number that is read as one; longer ones are read digit by digit."""

_SPACE = r"[ \u00a0\u2009\u202f]"
_SIGN = r"(?:(?<![\w.,)])-)?"
# What goes on after it (versions, addresses, lists) is no decimal and no thousand.
_END = r"(?![.,]?\d)"
_POINTED = rf"(?!0)\d{{1,3}}(?:(?:\.\d{{3}})+(?:,\d+)?|(?:,\d{{3}})+(?:\.\d+)?){_END}"
_SPACED = rf"(?<!\+)(?!0)\d{{1,3}}(?:{_SPACE}\d{{3}}){{1,3}}(?:[.,]\d+)?(?!{_SPACE}?\d|[.,]\d)"
_NUMBER = rf"(?:(?<!\d[.,])(?:{_POINTED}|{_SPACED}|\d+[.,]\d+{_END})|\d+)"

_ABBREVIATIONS = {
    "sr": "señor", "sra": "señora", "srta": "señorita", "sres": "señores",
    "dr": "doctor", "dra": "doctora", "ud": "usted", "uds": "ustedes", "vd": "usted",
    "vds": "ustedes", "dña": "doña", "núm": "número", "num": "número",
    "pág": "página", "págs": "páginas", "av": "avenida", "avda": "avenida", "tel": "teléfono",
    "tfno": "teléfono", "etc": "etcétera", "prof": "profesor", "profa": "profesora",
    "lic": "licenciado", "ing": "ingeniero", "art": "artículo", "cap": "capítulo",
    "dpto": "departamento", "depto": "departamento", "aprox": "aproximadamente",
    "máx": "máximo", "mín": "mínimo",
}  # fmt: skip
# Those that are written without a point too; the others need theirs to be told from words.
_POINTLESS = frozenset({"sr", "sra", "srta", "sres", "dr", "dra", "ud", "uds", "etc", "núm"})
_UNITS = {
    "%": "por ciento", "‰": "por mil", "km": "kilómetros", "m": "metros", "cm": "centímetros",
    "mm": "milímetros", "kg": "kilogramos", "g": "gramos", "mg": "miligramos", "l": "litros",
    "ml": "mililitros", "h": "horas", "hs": "horas", "hrs": "horas", "min": "minutos",
    "s": "segundos", "seg": "segundos", "ms": "milisegundos", "hz": "hercios",
    "khz": "kilohercios", "mhz": "megahercios", "ghz": "gigahercios", "db": "decibelios",
    "kb": "kilobytes", "mb": "megabytes", "gb": "gigabytes", "tb": "terabytes",
    "km/h": "kilómetros por hora", "°c": "grados centígrados", "ºc": "grados centígrados",
    "°": "grados", "€": "euros", "$": "dólares", "us$": "dólares", "usd": "dólares",
    "eur": "euros", "mxn": "pesos", "mx$": "pesos", "£": "libras", "¥": "yenes",
}  # fmt: skip
_SINGULAR = {"dólares": "dólar", "yenes": "yen", "por ciento": "por ciento", "por mil": "por mil"}
_SYMBOLS = {"&": " y ", "@": " arroba ", "+": " más ", "=": " igual a ", "º": " ", "ª": " "}

_ORDINAL_UNITS = ("", "primero", "segundo", "tercero", "cuarto", "quinto", "sexto", "séptimo",
                  "octavo", "noveno")  # fmt: skip
_ORDINAL_TENS = ("", "décimo", "vigésimo", "trigésimo", "cuadragésimo", "quincuagésimo",
                 "sexagésimo", "septuagésimo", "octogésimo", "nonagésimo")  # fmt: skip
_ORDINAL_OWN = {11: "undécimo", 12: "duodécimo"}
_FRACTIONS = {"1/2": "medio", "1/3": "un tercio", "2/3": "dos tercios", "1/4": "un cuarto",
              "3/4": "tres cuartos"}  # fmt: skip

# Words that stand for the same: gender and apocope of numbers, and spellings of the same ordinal.
_SAME = {
    "un": "uno", "una": "uno", "veintiún": "veintiuno", "veintiun": "veintiuno",
    "veintiuna": "veintiuno", "primer": "primero", "tercer": "tercero",
    "decimoprimero": "undécimo", "decimoprimera": "undécima",
    "decimosegundo": "duodécimo", "decimosegunda": "duodécima",
    "setiembre": "septiembre", "sétimo": "séptimo", "ciento": "cien", "quinientas": "quinientos",
    **{f"{stem}cientas": f"{stem}cientos"
       for stem in ("dos", "tres", "cuatro", "seis", "sete", "ocho", "nove")},
}  # fmt: skip

# Also right behind a number: `3PM`.
_HALF_DAY = re.compile(r"(?<![^\W\d])([ap])\.?\s?m\.?(?!\w)", re.IGNORECASE)
_CLOCK = re.compile(
    r"(?<![\d:.,])([01]?\d|2[0-4]):([0-5]\d)(?::([0-5]\d))?(\s?h(?:rs?|s)?\b)?(?![\d:])"
)
_ORDINAL = re.compile(
    r"(?<![\d.,])(\d{1,3})"
    r"(?:(?:\s?\.?\s?(?=[ºª])|\.(?=°))([ºª°])|\.?(er[oa]?|[rdtvmn]?[oa]))(?!\w)"
)
_NUMBER_SIGN = re.compile(r"\bn(?:\.\s?[ºo°]|º|°)\s?\.?|\bno\.\s?(?=\d)", re.IGNORECASE)
_FRACTION = re.compile(r"((?<=\d)\s+)?(?<![\d/.,])(\d{1,2}/\d{1,2})(?![\d/]|[.,]\d)")
_MONEY_FIRST = re.compile(rf"(us\$|mx\$|[€$£¥])\s?({_NUMBER})", re.IGNORECASE)
_UNIT_AFTER = re.compile(
    rf"({_SIGN}{_NUMBER})\s?("
    + "|".join(sorted((re.escape(unit) for unit in _UNITS), key=len, reverse=True))
    + r")(?![\w/])",
    re.IGNORECASE,
)
_ANY_NUMBER = re.compile(rf"{_SIGN}{_NUMBER}")
# Spain's telephone numbers have nine digits and begin with 6 to 9: said group by group.
_PHONE = re.compile(rf"[6-9]\d\d{_SPACE}\d{{3}}{_SPACE}\d{{3}}")
_LONG_DIGITS = re.compile(rf"\d{{{LONGEST_NUMBER + 1},}}")
_VULGAR = re.compile(r"(?=[\u00bc-\u00be\u2150-\u215e])")
_WITH_POINT = re.compile(r"(?<![\w.])([^\W\d_]{1,5})\.(?=\s|$|[,;:])")
_EXAMPLE = re.compile(r"\bp\.\s?ej\.", re.IGNORECASE)
_USA = re.compile(r"\bEE\.?\s?UU\.?(?!\w)")
# NFKC turns º and ª into plain letters: they are kept aside while it works.
_KEPT = {"º": "\ue000", "ª": "\ue001"}


def spelled(text: str) -> str:
    """Returns the words of a Spanish sentence as they are said, in lower case.

    Args:
        text: At most a few thousand characters.
    """
    text = _VULGAR.sub(" ", text)
    for mark, stand_in in _KEPT.items():
        text = text.replace(mark, stand_in)
    text = unicodedata.normalize("NFKC", text).replace("\u2212", "-").replace("\u2044", "/")
    for mark, stand_in in _KEPT.items():
        text = text.replace(stand_in, mark)
    # Before all others, whose time grows with the square of such a run.
    text = _LONG_DIGITS.sub(lambda found: " ".join(found[0]), text)
    text = _USA.sub(" estados unidos ", text)
    text = _EXAMPLE.sub(" por ejemplo ", text)
    text = _HALF_DAY.sub(lambda found: f" {found[1]} m ", text)
    text = _WITH_POINT.sub(_abbreviation, text)
    text = _NUMBER_SIGN.sub(" número ", text)
    if any(character.isdecimal() for character in text):
        text = _numbers(text)
    for symbol, words in _SYMBOLS.items():
        text = text.replace(symbol, words)
    return _same(plain_words(text).split())


def _numbers(text: str) -> str:
    """Writes out all digits, and what is said of them."""
    text = _CLOCK.sub(_clock, text)
    text = _ORDINAL.sub(_ordinal, text)
    text = _FRACTION.sub(_fraction, text)
    text = _MONEY_FIRST.sub(lambda found: f" {found[2]} {found[1]} ", text)
    text = _UNIT_AFTER.sub(_with_unit, text)
    return _ANY_NUMBER.sub(lambda found: f" {_number(found[0])} ", text)


def ordinal(number: int) -> str:
    """Returns an ordinal in words, masculine: `12` is `duodécimo`.

    Args:
        number: Others than those from 1 to 99 are read as cardinals.
    """
    if not 0 < number < 100:
        return _cardinal(number)
    tens, units = divmod(number, 10)
    if number in _ORDINAL_OWN:
        return _ORDINAL_OWN[number]
    if tens == 1 and units:
        # One word, whose first part loses its accent.
        return f"decimo{_ORDINAL_UNITS[units]}"
    return f"{_ORDINAL_TENS[tens]} {_ORDINAL_UNITS[units]}".strip()


def _abbreviation(found: re.Match[str]) -> str:
    known = _ABBREVIATIONS.get(found[1].casefold())
    return f"{known} " if known else found[0]


def _clock(found: re.Match[str]) -> str:
    hour, minute, second = int(found[1]), int(found[2]), int(found[3] or 0)
    parts = [hour, *([minute] if minute or second else []), *([second] if second else [])]
    said = [*(_cardinal(part) for part in parts), *(["horas"] if found[4] else [])]
    return f" {' '.join(said)} "


def _ordinal(found: re.Match[str]) -> str:
    words = ordinal(int(found[1]))
    if found[2] == "ª" or (found[3] or "").endswith("a"):
        words = " ".join(word[:-1] + "a" for word in words.split())
    return f" {words} "


def _fraction(found: re.Match[str]) -> str:
    known = _FRACTIONS.get(found[2])
    if not known:
        return found[0].replace("/", " ")
    return f" y {known} " if found[1] else f" {known} "


def _with_unit(found: re.Match[str]) -> str:
    if found[2] in "DGHMS":
        return found[0]  # 5G and 3D are names.
    unit = _UNITS[found[2].casefold()]
    if found[1] == "1":
        unit = _SINGULAR.get(unit, " ".join(word.removesuffix("s") for word in unit.split()))
    return f" {_number(found[1])} {unit} "


def _number(text: str) -> str:
    """Returns a number as it is said; its form tells which of point and comma is the decimal."""
    if _PHONE.fullmatch(text):
        return " ".join(_whole(group) for group in re.split(_SPACE, text))
    minus = "menos " if text[0] == "-" else ""
    whole, decimals = _split(re.sub(_SPACE, "", text.lstrip("-")))
    words = _whole(whole)
    if decimals:
        # Two decimals are read as a number, more of them one by one.
        tail = decimals.lstrip("0")
        zeros = ["cero"] * (len(decimals) - len(tail))
        one_by_one = len(decimals) > 2 or not tail
        said = _each(decimals) if one_by_one else [*zeros, _cardinal(int(tail))]
        words += " coma " + " ".join(said)
    return minus + words


def _split(digits: str) -> tuple[str, str]:
    """Whole part and decimals of digits with points and commas."""
    marks = [character for character in digits if character in ".,"]
    if not marks:
        return digits, ""
    whole, _, tail = digits.rpartition(marks[-1])
    alone = len(set(marks)) == 1
    # 1.250 and 1,250: thousands, whichever mark a country takes for them.
    thousands = len(tail) == 3 and len(whole) < 4 and not whole.startswith("0")
    if alone and (thousands or len(marks) > 1):
        return re.sub(r"[.,]", "", digits), ""
    return re.sub(r"[.,]", "", whole), tail


def _whole(digits: str) -> str:
    # A leading zero makes it a code, which is said digit by digit.
    if len(digits) > LONGEST_NUMBER or (len(digits) > 1 and digits[0] == "0"):
        return " ".join(_each(digits))
    return _cardinal(int(digits))


def _each(digits: str) -> list[str]:
    return [_cardinal(int(digit)) for digit in digits]


@lru_cache(maxsize=4096)
def _cardinal(number: int) -> str:
    from num2words import num2words

    return str(num2words(number, lang="es"))


def _same(words: list[str]) -> str:
    """Joins words, each as the one form that stands for it."""
    found = [
        _ABBREVIATIONS[word] if word in _POINTLESS else _SAME.get(word, word) for word in words
    ]
    # In Mexico decimals come after a point, in Spain after a comma.
    for index in range(1, len(found) - 1):
        if found[index] == "punto" and {found[index - 1], found[index + 1]} <= _number_words():
            found[index] = "coma"
    return " ".join(found)


@cache
def _number_words() -> frozenset[str]:
    """Words that numbers are made of, but for `y`."""
    numbers = (*range(31), *range(40, 101, 10), *range(200, 1001, 100))
    known = (_SAME.get(_cardinal(number), _cardinal(number)) for number in numbers)
    return frozenset((*known, "millón", "millones"))
