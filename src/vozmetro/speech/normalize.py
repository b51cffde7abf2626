"""Words as they are compared: without case, punctuation, and what only writing tells apart.

English follows the normaliser that Whisper was evaluated with (Radford et al. 2022, appendix C;
the package `whisper-normalizer`), Spanish the rules of `normalize_es`; other languages only lose
case and punctuation.
"""

from __future__ import annotations

import re
import unicodedata
from functools import cache, lru_cache
from typing import Any

SPELLED = ("es", "en")
"""Languages in which numbers in digits and in words are the same."""
MOST_CHARACTERS = 20_000
"""What is longer than this is cut before it is normalised: no utterance is."""
_LONG_DIGITS = re.compile(r"\d{100}")
# Acute, grave, circumflex, diaeresis and tilde; ñ and ç are letters of their own.
_MARKS = frozenset("\u0300\u0301\u0302\u0303\u0308")
_LETTERS = frozenset("ñç")


def normalize(text: str, language: str = "", *, accents: bool = True) -> str:
    """Returns the words of a sentence, in lower case, one space between them.

    What is normalised once stays the same when normalised again, but for English, where the
    package does not promise it.

    Args:
        text: A sentence.
        language: ISO 639-1: `es` and `en` have rules of their own, numbers among them. In other
            languages numbers stay as they are written.
        accents: Whether written accents stay. In Spanish they tell words apart (`esta`, `está`),
            but many references lack them. ñ stays in any case: it is another letter.
    """
    primary = language.partition("-")[0].casefold()
    found = _normalized(text[:MOST_CHARACTERS], primary)
    if accents:
        return found
    bare = without_accents(found)
    if primary == "es" and bare != found:
        # Without its accent a word may be one that has another form: `ÀM`.
        bare = without_accents(_normalized(bare, primary))
    return bare


def normalizer_name(language: str) -> str:
    """Returns how words of a language are made comparable, for reports."""
    from importlib.metadata import version

    if language == "es":
        return f"vozmetro es 1, num2words {version('num2words')}"
    if language == "en":
        return f"whisper-normalizer {version('whisper-normalizer')}"
    return "vozmetro 1"


@lru_cache(maxsize=65_536)
def _normalized(text: str, language: str) -> str:
    if language == "es":
        from vozmetro.speech.normalize_es import spelled

        return spelled(text)
    if language == "en":
        # Python refuses to read longer numbers, and the package with it.
        return plain_words(_english()(_LONG_DIGITS.sub(r"\g<0> ", text)))
    return plain_words(text)


@cache
def _english() -> Any:
    from whisper_normalizer.english import EnglishTextNormalizer

    return EnglishTextNormalizer()


def plain_words(text: str) -> str:
    """Returns the words in lower case without punctuation.

    Compatibility forms are unified (NFKC), punctuation and symbols separate words, apostrophes
    inside a word go without a trace (`don't` is `dont`).
    """
    plain = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    return " ".join("".join(map(_part_of_word, plain)).split())


@lru_cache(maxsize=4096)
def _part_of_word(character: str) -> str:
    if character in "'’ʼ":
        return ""
    # Letters, marks and numbers make words; everything else ends one.
    return character if unicodedata.category(character)[0] in "LMN" else " "


def without_accents(text: str) -> str:
    """Returns words whose letters have lost their accents, but for ñ and ç."""
    if text.isascii():
        return text
    bare = "".join(map(_bare, unicodedata.normalize("NFC", text)))
    # An accent that stood alone leaves nothing.
    return " ".join(bare.split())


@lru_cache(maxsize=4096)
def _bare(character: str) -> str:
    if character in _LETTERS:
        return character
    parts = unicodedata.normalize("NFD", character)
    return unicodedata.normalize("NFC", "".join(part for part in parts if part not in _MARKS))
