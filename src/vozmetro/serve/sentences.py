"""Text that comes in pieces, cut where it can be spoken."""

from __future__ import annotations

import re

LONGEST = 240
"""Characters after which a sentence is cut at a comma or a space, for its audio to begin."""
_END = re.compile(r"[.!?…。！？]+[\"'»”)\]]*\s+|\n+")
_SOFT = re.compile(r"[,;:]\s+")


class Sentences:
    """Collects pieces of text; gives out whole sentences."""

    def __init__(self) -> None:
        self._text = ""

    def add(self, piece: str) -> list[str]:
        """Returns the sentences that have become whole."""
        self._text += piece
        found = []
        while at := self._cut():
            found.append(self._text[:at])
            self._text = self._text[at:]
        return [one.strip() for one in found if one.strip()]

    def end(self) -> list[str]:
        """Returns what is left."""
        text, self._text = self._text.strip(), ""
        return [text] if text else []

    def _cut(self) -> int:
        """Returns where the next sentence ends; 0 where that is not known yet."""
        found = _END.search(self._text)
        if found is not None and found.end() <= LONGEST:
            return found.end()
        if len(self._text) <= LONGEST:
            return 0
        soft = [one.end() for one in _SOFT.finditer(self._text, 0, LONGEST)]
        space = self._text.rfind(" ", 0, LONGEST) + 1
        return soft[-1] if soft else space or LONGEST
