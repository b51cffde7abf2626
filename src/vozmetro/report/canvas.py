"""What plots are drawn on: one code for PNG files and for the figures of a page.

matplotlib is imported inside the functions: most commands draw nothing, and it takes half a second.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Any

from vozmetro.errors import MissingExtraError
from vozmetro.i18n import t
from vozmetro.report.formatting import clip
from vozmetro.units import plain

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SIZE = (8.0, 4.6)
"""Inches of a figure; at _DPI about 1200 pixels wide."""
_DPI = 150
# A spread wider than this hides the fast samples on a linear axis.
_LOG_SPREAD = 20.0
_WIDE_SPREAD = 200.0
# Dark to light, so that grey prints keep them apart; each also has its own dashes or marker.
DARK, BLUE, ORANGE = "#1a1a1a", "#1f5fa8", "#e08214"
BARS, PALE, PALE_EDGE, BAND, RULE = "#9dbbe0", "#c9d7e8", "#8fa5bf", "#e9e9e9", "#999999"
GRID, GREEN, PURPLE = "#dddddd", "#5b8c5a", "#8e5ea2"


@contextmanager
def drawing(
    rows: int = 1,
    columns: int = 1,
    *,
    inches: tuple[float, float] = SIZE,
    style: Mapping[str, Any] | None = None,
    **options: Any,
) -> Iterator[tuple[Figure, Any]]:
    """Yields a figure and its axes, with settings that outside text cannot upset.

    Args:
        rows: Of axes.
        columns: Of axes.
        inches: Width and height.
        style: More settings of matplotlib.
        **options: Of `Figure.subplots`.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    try:
        import matplotlib as mpl
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtraError("plots", "matplotlib") from error
    settings: Any = {
        "text.parse_math": False,  # a "$" in a model's name is a "$"
        "font.size": 9,
        "axes.titlesize": 11,
        "axes.grid": True,
        "axes.axisbelow": True,
        "grid.color": GRID,
        "grid.linewidth": 0.6,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "legend.framealpha": 0.9,
        "legend.fontsize": 8,
        **(style or {}),
    }
    with mpl.rc_context(settings), warnings.catch_warnings():
        # A name in a script that the font lacks shows as boxes; that is no reason to stop.
        warnings.filterwarnings("ignore", message="Glyph")
        figure = Figure(figsize=inches, dpi=_DPI, layout="constrained")
        FigureCanvasAgg(figure)
        yield figure, figure.subplots(rows, columns, **options)


def png(figure: Figure) -> bytes:
    """Returns a figure as PNG."""
    data = io.BytesIO()
    # No date or version inside: the same run gives the same bytes.
    figure.savefig(data, format="png", metadata={"Software": None})
    return data.getvalue()


def label_name(text: str, width: int = 44) -> str:
    """Returns a name that fits a plot."""
    return clip(plain(text), width)


def scale(axis: Any, which: str, values: Sequence[float]) -> bool:
    """Makes an axis logarithmic where the values spread too far; returns whether it did."""
    low, high = min(values), max(values)
    if low <= 0 or high / low <= _LOG_SPREAD:
        return False
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    getattr(axis, f"set_{which}scale")("log")
    ticks = getattr(axis, f"{which}axis")
    # Over several decades the names of more ticks would run into each other.
    parts = (1, 2, 5) if high / low < _WIDE_SPREAD else (1,)
    ticks.set_major_locator(LogLocator(10, subs=parts))
    ticks.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    ticks.set_minor_formatter(NullFormatter())
    return True


def legend(figure: Figure, axis: Axes) -> None:
    """Puts the legend under the axes, where it hides no sample."""
    handles, labels = axis.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncol=3)


class Canvas:
    """Where a plot is drawn: here a PNG file in one language, with its title.

    Attributes:
        lang: Of titles and labels.
        most_marks: More marks than these are drawn as pixels where marks are vectors.
        stacked: Whether panels stand above each other, for a narrow page.
    """

    most_marks = 0
    stacked = False

    def __init__(self, lang: str) -> None:
        self.lang = lang

    def say(self, key: str, **fields: object) -> str:
        """Returns the words `plots.<key>`."""
        return self.words(f"plots.{key}", **fields)

    def words(self, key: str, **fields: object) -> str:
        """Returns the words of a key of the catalogues."""
        return t(key, self.lang, **fields)

    def drawing(
        self, rows: int = 1, columns: int = 1, *, tall: float = 1.0, **options: Any
    ) -> AbstractContextManager[tuple[Figure, Any]]:
        """Gives a figure and its axes.

        Args:
            rows: Of axes.
            columns: Of axes.
            tall: Height, in usual heights.
            **options: Of `Figure.subplots`.
        """
        return drawing(rows, columns, inches=(SIZE[0], SIZE[1] * tall), **options)

    def title(self, axis: Axes, text: str) -> None:
        """Writes what the figure shows, where nothing around it does."""
        axis.set_title(text)

    def suptitle(self, figure: Figure, text: str) -> None:
        """Writes what several panels show together, where nothing around them does."""
        figure.suptitle(text, fontsize=11)

    def legend(self, figure: Figure, axis: Axes) -> None:
        """Explains the marks of an axis under the figure."""
        legend(figure, axis)

    def own_legend(self, axis: Axes) -> None:
        """Explains the marks of one axis of several, under it."""
        axis.legend(loc="upper center", bbox_to_anchor=(0.5, -0.18), ncol=1)

    def finish(self, figure: Figure) -> bytes:
        """Returns the figure as a file."""
        return png(figure)


Where = str | Canvas
"""A language, for a PNG file, or a canvas."""


def canvas_of(where: Where) -> Canvas:
    """Returns the canvas that is meant."""
    return where if isinstance(where, Canvas) else Canvas(where)
