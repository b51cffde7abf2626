"""Patterns on words, and answers with places to fill in.

Words are compared without case, accents and punctuation; numbers stay as they are written.
"""

from __future__ import annotations

import re
import string
from collections.abc import Sequence
from dataclasses import dataclass

from vozmetro.speech.normalize import plain_words, without_accents

TEXT = "text"
"""The place in an answer for all that was said."""
ANY = "*"
"""Any number of words, none among them."""
_NAME = re.compile(r"\{([a-z][a-z0-9_]*)\}")


@dataclass(frozen=True)
class Pattern:
    """Words and gaps, in order.

    Attributes:
        parts: Words; `*`; or `{name}`, which keeps one or more words.
    """

    parts: tuple[str, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the gaps that keep their words."""
        return tuple(found[1] for part in self.parts if (found := _NAME.fullmatch(part)))

    @classmethod
    def parse(cls, text: str) -> Pattern | None:
        """Returns a pattern from its text; None where a name is wrong or twice, or none is left."""
        parts: list[str] = []
        for word in text.split():
            if word == ANY or _NAME.fullmatch(word):
                parts.append(word)
            elif "{" in word or "}" in word or ANY in word:
                return None
            else:
                parts += without_accents(plain_words(word)).split()
        found = cls(tuple(parts))
        known = {TEXT, *found.names}
        return found if parts and len(known) == len(found.names) + 1 else None

    def match(self, words: Sequence[str]) -> dict[str, str] | None:
        """Returns what the gaps keep where the pattern fits all the words, else None.

        A gap takes as few words as it can. Only the last gap is ever widened, so that it takes
        time by words times parts at most: what was before it fits as early as it can, and widening
        an earlier gap would leave the last one fewer words to choose from.

        Args:
            words: What was said, in lower case; accents count for nothing.
        """
        bare = [without_accents(word) for word in words]
        spans: dict[int, tuple[int, int]] = {}  # gap's place in the pattern -> its words
        at = here = 0
        last = -1
        while here < len(bare):
            part = self.parts[at] if at < len(self.parts) else None
            if part is not None and _is_gap(part):
                least = 0 if part == ANY else 1
                last, spans[at] = at, (here, here + least)
                here, at = here + least, at + 1
            elif part is not None and part == bare[here]:
                here, at = here + 1, at + 1
            elif last >= 0:
                begin, end = spans[last]
                spans[last] = (begin, end + 1)
                here, at = end + 1, last + 1
            else:
                return None
        if here > len(bare) or any(part != ANY for part in self.parts[at:]):
            return None
        found = {}
        for place, (begin, end) in spans.items():
            if place < at and (name := _NAME.fullmatch(self.parts[place])):
                found[name[1]] = " ".join(words[begin:end])
        return found


def _is_gap(part: str) -> bool:
    return part == ANY or part.startswith("{")


def placeholders(answer: str) -> list[str] | None:
    """Returns the names in an answer; None where its braces are wrong or ask for more than names.

    `str.format` would also read attributes and items of what is filled in.
    """
    try:
        pieces = list(string.Formatter().parse(answer))
    except ValueError:
        return None
    names = [name for _, name, _, _ in pieces if name is not None]
    plain = all(not spec and not conversion for _, _, spec, conversion in pieces)
    sound = all(re.fullmatch(r"[a-z][a-z0-9_]*", name) for name in names)
    return names if plain and sound else None
