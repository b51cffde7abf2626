"""How many syllables a text has when it is spoken: Spanish by rule, English by a close guess.

Numbers are words first. Spanish spelling says where the syllables are (Ortografía de la lengua
española, RAE 2010, chapter II); English spelling does not: counting vowel letters misses some words
by one, both ways, and how many was not measured.
"""

from __future__ import annotations

import re

from vozmetro.speech.normalize import normalize

LANGUAGES = ("es", "en")
_STRONG, _WEAK = "aeoáéóíú", "iuü"
_SILENT_U = re.compile(r"(?<=q)u(?=[eiéí])|(?<=g)u(?=[eiéí])")
_VOWELS_ES = re.compile(f"[{_STRONG}{_WEAK}]+")
_GROUPS_EN = re.compile(r"[aeiouy]+")
_SILENT_E = re.compile(r"(?:[^aeiouyl]|[aeiouy]l)es?$")
_SPOKEN_ES = re.compile(r"(?:[sxzcg]|ch|sh)es$")
_HIATUS = re.compile(r"eat(?:ing|ed|or|ion)|(?<![cstgh])i[ao]|[^cst]ien|[aeu]ing|dea$|rea$")
_WORD = re.compile(r"[^\W\d_]+")


def syllables(text: str, language: str) -> int | None:
    """Returns the number of syllables, or None in other languages than Spanish and English."""
    code = language.partition("-")[0].casefold()
    if code not in LANGUAGES:
        return None
    count = _spanish if code == "es" else _english
    return sum(count(word) for word in _WORD.findall(normalize(text, code)))


def _spanish(word: str) -> int:
    """Each open vowel or accented í, ú is a syllable; closed vowels alone are one as well."""
    word = _SILENT_U.sub("", word)
    word = re.sub(r"y$", "i", word)
    total = 0
    for group in _VOWELS_ES.findall(word):
        strong = sum(letter in _STRONG for letter in group)
        total += strong or 1
    return total or len(word)


def _english(word: str) -> int:
    """Groups of vowel letters, without the silent e, with -le and hiatus as syllables."""
    bare = re.sub(r"[^a-z]", "", word)
    total = len(_GROUPS_EN.findall(bare))
    if _SILENT_E.search(bare) and not _SPOKEN_ES.search(bare):
        total -= 1
    if re.search(r"[^aeioutd]ed$", bare):
        total -= 1
    # creating, idea, radio, science, being, fluent; but not nation, special, patient.
    total += len(_HIATUS.findall(bare))
    return max(1, total)
