"""Words as they are compared: without case, punctuation and typographic variants."""

from __future__ import annotations

import unicodedata


def normalize(text: str) -> str:
    """Returns the words of a sentence, in lower case, one space between them.

    Compatibility forms are unified (NFKC), punctuation and symbols separate words, apostrophes
    inside a word go without a trace (`don't` is `dont`). Accents stay: in Spanish they tell words
    apart (`esta`, `está`). Numbers stay as they are written.
    """
    plain = unicodedata.normalize("NFKC", text).casefold()
    kept = []
    for character in plain:
        category = unicodedata.category(character)
        if character in "'’ʼ":
            continue
        # Letters, marks and numbers make words; everything else ends one.
        kept.append(character if category[0] in "LMN" else " ")
    return " ".join("".join(kept).split())
