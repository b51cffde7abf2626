"""What a page is made of. Each has a `kind`, by which the template knows how it looks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal

from vozmetro.report.html.text import Text

Tone = Literal["", "pass", "fail", "undecided", "warn", "quiet", "strong"]


@dataclass(frozen=True)
class Para:
    """A paragraph."""

    text: Text
    tone: Tone = ""
    kind: ClassVar[str] = "para"


@dataclass(frozen=True)
class Bullets:
    """A list of sentences; `marks` are letters or numbers of the catalogues."""

    items: Sequence[Text]
    tone: Tone = ""
    marks: Sequence[str] = ()
    title: Text | None = None
    kind: ClassVar[str] = "bullets"


@dataclass(frozen=True)
class Table:
    """Rows under headings.

    Attributes:
        caption: What it shows.
        head: Titles of the columns.
        rows: Cells; the first of a row names it.
        right: For each column `r` (numbers), `t` (what people said, in any script) or anything
            else.
        tones: For each row; empty for none.
        id: Unique within the page.
        links: For each row the place on the page that its name leads to; empty for none.
        hidden: Whether the caption is for screen readers alone, as a heading says the same.
    """

    caption: Text
    head: Sequence[Text]
    rows: Sequence[Sequence[Text]]
    id: str
    right: str = ""
    tones: Sequence[Tone] = ()
    links: Sequence[str] = ()
    hidden: bool = False
    kind: ClassVar[str] = "table"

    def side(self, column: int) -> str:
        """Returns how a column stands."""
        return self.right[column : column + 1] if column < len(self.right) else ""


@dataclass(frozen=True)
class Facts:
    """Labels and their values."""

    rows: Sequence[Sequence[Text]]
    kind: ClassVar[str] = "facts"


@dataclass(frozen=True)
class Figure:
    """A drawing, and what stands beside it.

    Attributes:
        id: Unique within the page.
        svg: Trusted markup, from `svg.Drawings`.
        caption: What it shows; its name for screen readers too.
        beside: The same numbers as text.
    """

    id: str
    svg: str
    caption: Text
    beside: Sequence[Block] = ()
    kind: ClassVar[str] = "figure"


@dataclass(frozen=True)
class Fold:
    """Blocks that open on demand; whole on paper."""

    title: Text
    blocks: Sequence[Block]
    kind: ClassVar[str] = "fold"


@dataclass(frozen=True)
class Tile:
    """One number that decides."""

    label: Text
    value: str
    detail: Text
    state: Text
    tone: Tone


@dataclass(frozen=True)
class Verdict:
    """The answer, before anything else."""

    label: Text
    tone: Tone
    headline: Text
    lines: Sequence[Text]
    tiles: Sequence[Tile]
    kind: ClassVar[str] = "verdict"


@dataclass(frozen=True)
class Boxes:
    """A checklist."""

    items: Sequence[tuple[bool, Text]]
    kind: ClassVar[str] = "boxes"


@dataclass(frozen=True)
class Links:
    """Files beside the page: relative addresses, already quoted, and their names."""

    lead: Text
    items: Sequence[tuple[str, str]]
    kind: ClassVar[str] = "links"


Block = Para | Bullets | Table | Facts | Figure | Fold | Verdict | Boxes | Links


@dataclass(frozen=True)
class Section:
    """A heading and what stands under it.

    Attributes:
        id: Unique within the page.
        title: Its heading.
        blocks: What stands under it.
        parts: Sections within it.
        fold: Whether it opens and closes, as one of several subjects does, and how it begins.
    """

    id: str
    title: Text
    blocks: Sequence[Block] = ()
    parts: Sequence[Section] = field(default=())
    fold: Literal["", "open", "closed"] = ""
