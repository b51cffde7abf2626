"""Makes blocks: draws figures, numbers tables, and cuts what no reader would read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from vozmetro.errors import MissingExtraError
from vozmetro.report.canvas import Canvas
from vozmetro.report.html.blocks import Block, Figure, Para, Table
from vozmetro.report.html.svg import Drawings
from vozmetro.report.html.text import Text, say

MOST_ROWS, MOST_TRANSCRIPTS = 1000, 200
"""Rows of a table; the record holds the others."""


class Maker:
    """What the parts of one page share.

    Attributes:
        drawings: Its figures.
        plots_missing: Whether figures could not be drawn.
    """

    def __init__(self) -> None:
        self.drawings = Drawings()
        self.plots_missing = False
        self._tables = 0

    def figure(
        self,
        make: Callable[[Canvas], bytes | None],
        caption: Text,
        beside: Sequence[Block] = (),
        *,
        needed: bool = False,
    ) -> list[Block]:
        """Returns a figure with what stands beside it.

        Args:
            make: Draws it.
            caption: What it shows.
            beside: The same as text, which stays where the figure cannot be drawn.
            needed: Whether that says nothing without the figure.
        """
        try:
            drawn = self.drawings.draw(make)
        except MissingExtraError:
            self.plots_missing = True
            return list(beside)
        if drawn is None:
            return [] if needed else list(beside)
        name, svg = drawn
        return [Figure(name, svg, caption, list(beside))]

    def table(
        self,
        caption: Text,
        head: Sequence[Text],
        rows: Sequence[Sequence[Text]],
        right: str = "",
        *,
        most: int = MOST_ROWS,
        **options: Any,
    ) -> list[Block]:
        """Returns a table; nothing without rows, and a remark where rows were left out."""
        if not rows:
            return []
        self._tables += 1
        shown = Table(caption, head, rows[:most], f"t{self._tables}", right, **options)
        if len(rows) <= most:
            return [shown]
        return [shown, Para(say("html.more", n=len(rows) - most), "quiet")]
