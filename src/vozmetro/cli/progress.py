"""Progress on standard error, drawn only between blocks: a busy parent would raise P99."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from vozmetro.i18n import t
from vozmetro.units import duration, plain

if TYPE_CHECKING:
    from vozmetro.measure.schedule import Progress


class Bar:
    """A bar on standard error if that is a terminal, nothing elsewhere."""

    def __init__(self, *columns: Any, auto_refresh: bool = True) -> None:
        from rich.console import Console
        from rich.progress import Progress as Drawn

        console = Console(stderr=True)
        self.bar = Drawn(
            *columns,
            console=console,
            auto_refresh=auto_refresh,
            transient=True,
            disable=not console.is_terminal,
        )

    def __enter__(self) -> Self:
        self.bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.bar.stop()


class ProgressLine(Bar):
    """How far a measurement is. Use it in a `with` block."""

    def __init__(self, lang: str) -> None:
        from rich.progress import BarColumn, TextColumn

        super().__init__(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=20),
            TextColumn("{task.fields[state]}", markup=False),
            auto_refresh=False,
        )
        self._lang = lang
        self._task = self.bar.add_task("", state="", total=None)

    def __call__(self, progress: Progress) -> None:
        """Shows how far a measurement is."""
        lang = self._lang
        subject = plain(progress.subject)
        if len(subject) > 28:
            subject = "…" + subject[-27:]
        state = ""
        if progress.phase == "measuring":
            state = f"{progress.rounds}/{progress.expected}"
            if progress.rounds >= progress.expected:
                state = t("cli.until_decided", lang, rounds=str(progress.rounds))
                if progress.audio_s is not None:
                    state = f"{progress.rounds}/{progress.expected}"
            elif progress.eta_s is not None:
                state += "  " + t("cli.eta", lang, time=duration(progress.eta_s))
        if progress.audio_s is not None:
            hours, speed = f"{progress.audio_s / 3600:.2f}", f"{progress.speed:.1f}"
            state += "  " + t("cli.audio_heard", lang, hours=hours, speed=speed)
        self.bar.update(
            self._task,
            description=f"{t('cli.phase_' + progress.phase, lang)} {subject}",
            completed=min(progress.rounds, progress.expected),
            total=progress.expected or None,
            state=state,
        )
        self.bar.refresh()
