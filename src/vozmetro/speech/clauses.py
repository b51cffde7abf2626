"""Text in the pieces that a voice is given: a short first clause, then whole sentences.

A first clause lets a voice start early; whole sentences keep its melody. The same cuts come out
whether the text is there at once or arrives letter by letter, because a cut is made only where
nothing that could follow would change it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

LONGEST = 400
"""Characters of a clause at most: text without punctuation is cut at a space, or anywhere."""
FIRST_WORDS = 2
"""Words before a comma (or its like) may end the first clause: one alone sounds clipped."""

_PARAGRAPH = "\n"
_PAUSES = frozenset(",;:—–")
_ENDS = frozenset(".!?…")
_WIDE_ENDS = frozenset("。！？")
"""End a sentence without a space behind them."""
_CLOSERS = frozenset("\"')]}»”’")
_SHORT_FORMS = (
    # Not `etc`, which ends a sentence as often as not: the letter behind it tells.
    "sr sra sres sras srta d dr dra dña da ud uds vd vds prof profa lic ing arq gral cnel núm nro "
    "pág págs tel av avda ej ee ff art cap fig vol dpto depto pza sto sta "
    "mr mrs ms messrs st jr gen col capt lt sgt rev hon vs eg ie"
)
_SHORTENED = frozenset(_SHORT_FORMS.split())
_SHORTENED_BEFORE_NUMBERS = frozenset(("no", "nos", "p", "pp"))
_PART = re.compile(rf"\s+|\S{{1,{LONGEST}}}")


class ClauseCutter:
    """Cuts text that arrives in pieces.

    Runs of white space come out as one space, and no clause begins or ends with any; nothing else
    of the text changes. At most `LONGEST` characters are held.

    Args:
        short_first: The first clause may end within a sentence.
    """

    def __init__(self, *, short_first: bool = True) -> None:
        self._short_first = short_first
        self._start()

    def _start(self) -> None:
        self._held = ""
        self._first = self._short_first
        self._spaced = False
        self._lines = 0
        self._seen()

    def _seen(self) -> None:
        """Nothing of what is held has been looked at yet."""
        self._at = 1
        self._marked = 0
        self._words = 0
        self._pause = 0

    def feed(self, piece: str) -> list[str]:
        """Appends text.

        Args:
            piece: Any length, cut anywhere, also within a word.

        Returns:
            The clauses that this piece has completed, in order; often none.
        """
        done = []
        for part in _PART.findall(piece):
            if part.isspace():
                self._spaced = True
                self._lines += part.count("\n")
                continue
            self._append(part)
            while cut := self._cut():
                done.append(self._held[:cut].rstrip())
                self._held = self._held[cut:].lstrip()
                self._first = False
                self._seen()
        return done

    def rest(self) -> str:
        """Returns what no cut has completed, empty if nothing; the next `feed` starts anew."""
        rest = self._held
        self._start()
        return rest

    def _append(self, part: str) -> None:
        gap = (_PARAGRAPH if self._lines > 1 else " ") if self._spaced else ""
        self._held += gap + part if self._held else part
        self._spaced = False
        self._lines = 0

    def _cut(self) -> int:
        """Returns where the clause that is held ends, 0 while more text could change that.

        Every mark is judged by what is before it, the space behind it and the character behind
        that, so the marks within the first `LONGEST` - 2 characters are all decided once `LONGEST`
        characters are there, and none is looked at twice.
        """
        text = self._held
        while self._at <= min(len(text) - 2, LONGEST - 2):
            at = self._at
            self._at += 1
            if text[at - 1] not in _CLOSERS:
                self._marked = at
            if text[at] == _PARAGRAPH or _ends_sentence(text, self._marked, at):
                return at
            if text[at] == " ":
                self._words += any(map(str.isalnum, text[text.rfind(" ", 0, at) + 1 : at]))
                if self._marked and text[self._marked - 1] in _PAUSES:
                    self._pause = at
                    if self._first and self._words >= FIRST_WORDS:
                        return at
        if len(text) < LONGEST:
            return 0
        space = text.rfind(" ", 1, LONGEST)
        return self._pause or (space if space > 0 else LONGEST)


def clauses(text: str) -> list[str]:
    """Cuts a whole text.

    Args:
        text: Any text.

    Returns:
        A first clause of at least `FIRST_WORDS` words (fewer only where the first sentence has
        fewer), then whole sentences. Joined they are the text, up to white space.
    """
    cutter = ClauseCutter()
    done = cutter.feed(text)
    rest = cutter.rest()
    return [*done, rest] if rest else done


def sentences(text: str) -> Iterator[str]:
    """Yields a whole text's sentences (`LONGEST` characters each at most), the first one at once.

    Args:
        text: Any text.
    """
    cutter = ClauseCutter(short_first=False)
    for start in range(0, len(text), LONGEST):
        yield from cutter.feed(text[start : start + LONGEST])
    rest = cutter.rest()
    if rest:
        yield rest


def _ends_sentence(text: str, marked: int, at: int) -> bool:
    """Says whether a sentence ends just before `at`.

    Args:
        text: With at least two characters from `at` on.
        marked: Where the closing quotes and brackets before `at` begin.
        at: Where the next sentence, or the space before it, would begin.
    """
    mark = text[marked - 1] if marked else ""
    if mark in _WIDE_ENDS:
        return text[at] not in _CLOSERS and text[at] not in _WIDE_ENDS
    if mark not in _ENDS or text[at] != " ":
        return False
    following = text[at + 1]
    if mark in "!?":
        return True
    return not following.islower() and not (
        mark == "." and _is_shortened(text, marked - 1, following)
    )


def _is_shortened(text: str, stop: int, following: str) -> bool:
    """Says whether the full stop at `stop` belongs to the word before it: `Sr.`, `J.`, `1.`."""
    start = text.rfind(" ", 0, stop) + 1
    word = text[start:stop].strip("\"'([{«“‘¿¡")
    if not start and word.isdigit():
        return True
    # An initial; of one letter only `I` ends sentences.
    if len(word) == 1 and word.isalpha() and word != "I":
        return True
    lower = word.lower().replace(".", "")
    return lower in _SHORTENED or (lower in _SHORTENED_BEFORE_NUMBERS and following.isdigit())
