"""Progress of what takes minutes: bytes that come, and tensors that are written."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vozmetro.cli.progress import Bar
from vozmetro.i18n import t
from vozmetro.units import plain

if TYPE_CHECKING:
    from vozmetro.models.fetched import Progress

_NAME = 30


class FetchBar(Bar):
    """Bytes, rate and time left of a fetch. Use it in a `with` block."""

    def __init__(self, lang: str) -> None:
        from rich.progress import (
            BarColumn,
            DownloadColumn,
            TextColumn,
            TimeRemainingColumn,
            TransferSpeedColumn,
        )

        super().__init__(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=16),
            DownloadColumn(),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
        )
        self._doing = t("models.fetching", lang)
        self._task = self.bar.add_task(self._doing, total=None)

    def __call__(self, progress: Progress) -> None:
        """Shows how far a fetch is."""
        name = plain(progress.name)
        short = name if len(name) <= _NAME else "…" + name[-_NAME + 1 :]
        self.bar.update(
            self._task,
            description=short,
            completed=progress.done,
            total=progress.total or None,
        )


class WriteBar(Bar):
    """Weights that are written, graph by graph. Use it in a `with` block."""

    def __init__(self) -> None:
        from rich.progress import BarColumn, TextColumn, TimeRemainingColumn

        super().__init__(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=20),
            TextColumn("{task.percentage:>3.0f} %"),
            TimeRemainingColumn(),
        )
        self._task = self.bar.add_task("", total=None)

    def __call__(self, graph: str, made: int, total: int) -> None:
        """Shows how many of a graph's weights are made."""
        name = plain(graph)[:_NAME]
        self.bar.update(self._task, description=name, completed=made, total=total or None)
