"""Words in both languages, harmless in HTML however hostile what they hold."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from html import escape

from vozmetro.i18n import t
from vozmetro.report.formatting import clip
from vozmetro.units import plain

MOST_CELLS = 120
"""Cells of a name, a path or another field from outside; the rest is in the record."""
MOST_TRANSCRIPT = 600
"""Cells of what somebody said or a model heard."""
MOST_TEXT = 4000
"""Cells of any one text, however it came about."""
_SIGNS = {
    "✅": "✔",
    "❌": "✘",
    "❔": "?",
    "⏳": "…",
    "🚫": "⊘",
    "⚠️": "⚠",
    "⬇️": "↓",
    "⬆️": "↑",
}
_PICTURES = re.compile("[\U0001f000-\U0001faff]\ufe0f? *|[\u2600-\u27bf]\ufe0f *")
_CODE = re.compile(r"`([^`\s][^`]{0,700})`")
_NO_CHARACTERS = dict.fromkeys((0xFFFE, 0xFFFF), "\N{REPLACEMENT CHARACTER}")


def tidy(value: object, most: int = MOST_CELLS) -> str:
    """Returns text from outside on one line, its middle cut out where it is long."""
    # The first cut keeps what follows fast on megabytes.
    return clip(plain(_shorter(str(value))), most)


def transcript(value: object) -> str:
    """Returns what was said or heard on one line, cut where it is very long."""
    return tidy(value, MOST_TRANSCRIPT)


def _shorter(text: str, most: int = 20_000) -> str:
    return text if len(text) <= most else f"{text[: most // 2]}…{text[-most // 2 :]}"


def quoted(value: object) -> str:
    """Returns text from outside that is shown as code, such as a command line."""
    return f"`{transcript(value).replace('`', ' ')}`" if str(value) else ""


@dataclass(frozen=True)
class Text:
    """The same words in both languages, in plain text.

    A piece between backticks is shown as code; lines are kept.
    """

    es: str
    en: str

    def __html__(self) -> str:
        """Returns the words as HTML: once where both languages say the same."""
        if self.es == self.en:
            return markup(self.es)
        spans = (("es", self.es), ("en", self.en))
        return "".join(f'<span class="{c}" lang="{c}">{markup(one)}</span>' for c, one in spans)

    def __bool__(self) -> bool:
        return bool(self.es or self.en)

    def of(self, lang: str) -> str:
        """Returns the words of one language, as plain text on one line."""
        return _line(self.es if lang == "es" else self.en)


def _line(text: str) -> str:
    """Plain text on one line, without what HTML forbids."""
    return plain(text).translate(_NO_CHARACTERS)


def markup(text: str) -> str:
    """Returns plain text as HTML."""
    lines = [escape(_line(line)) for line in _shorter(text, MOST_TEXT).split("\n")]
    # The catalogues' own lists: a dash at the start of a line.
    shown = "<br>".join(f"• {line[2:]}" if line.startswith("- ") else line for line in lines)
    return _CODE.sub(r"<code>\1</code>", shown)


def signs(text: str) -> str:
    """Returns the catalogues' words with signs for their emoji, which not every machine can show.

    Other pictures before headings are left out: the page has its own headings.
    """
    for emoji, sign in _SIGNS.items():
        text = text.replace(emoji, sign)
    return _PICTURES.sub("", text)


def _text(spanish: str, english: str) -> Text:
    return Text(signs(spanish), signs(english))


def both(make: Callable[[str], str]) -> Text:
    """Returns what a function of the language says in both.

    Args:
        make: Takes `es` or `en`.
    """
    return _text(make("es"), make("en"))


def say(key: str, **fields: object) -> Text:
    """Returns a message of the catalogues, its fields the same in both languages."""
    return both(lambda lang: t(key, lang, **fields))


def same(text: str) -> Text:
    """Returns a text that no language changes."""
    return Text(text, text)


def each(make: Callable[[str], Iterable[str]]) -> list[Text]:
    """Returns a list of texts that a function of the language makes, in the same order in both."""
    return [_text(es, en) for es, en in zip(make("es"), make("en"), strict=True)]


def rows(make: Callable[[str], Iterable[Sequence[str]]]) -> list[list[Text]]:
    """Returns the rows of a table that a function of the language makes."""
    return [
        [_text(es, en) for es, en in zip(*pair, strict=True)]
        for pair in zip(make("es"), make("en"), strict=True)
    ]
