"""Figures of a page: matplotlib's SVG made small, safe and of the page's own colours.

No style attributes are left, which a Content-Security-Policy would have to allow: every style
becomes a class of the page's one style sheet, its colours variables of the theme.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from html import escape
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree as ET

from vozmetro.i18n import t
from vozmetro.report import canvas as colors
from vozmetro.report.canvas import Canvas, drawing

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INCHES = (5.2, 3.8)
"""Of a figure: half as wide as a PNG, or its text would be too small on a phone."""
THEME = {
    "#000000": "ink",
    "#ffffff": "paper",
    "#cccccc": "grid",
    colors.GRID: "grid",
    colors.RULE: "rule",
    colors.DARK: "dark",
    colors.BLUE: "blue",
    colors.ORANGE: "orange",
    colors.GREEN: "green",
    colors.PURPLE: "purple",
    colors.BARS: "bars",
    colors.PALE: "pale",
    colors.PALE_EDGE: "edge",
    colors.BAND: "band",
}
"""Variables `--p-<name>` of the page's themes, by the colours that plots are drawn in."""
_STYLE = {
    "svg.fonttype": "none",
    "font.size": 10.5,
    "axes.labelsize": 10.5,
    "legend.fontsize": 10,
    "legend.frameon": False,
    "legend.handlelength": 2.4,
    "hatch.linewidth": 0.5,
}
_BELOW = 30
"""Points from an axis to its own legend."""
_LONG = 27
"""Letters of a legend's entry beyond which two do not stand beside each other."""
_TAGS = frozenset(
    ("svg", "g", "path", "use", "text", "defs", "clipPath", "rect", "image", "pattern")
)
_KEPT = frozenset(("viewBox", "d", "x", "y", "width", "height", "transform", "patternUnits"))
_NUMBER = re.compile(r"-?\d+\.\d+")
_LOCAL = re.compile(r"url\(#([^)]+)\)")
_PIXELS = "data:image/png;base64,"


class SvgCanvas(Canvas):
    """A figure in both languages, without its title: the page's caption says it.

    Args:
        number: Tells the figures of a page apart.
    """

    most_marks = 4000
    stacked = True

    def __init__(self, number: int) -> None:
        super().__init__("es")
        self.number = number
        self.both: dict[str, tuple[str, str]] = {}

    def words(self, key: str, **fields: object) -> str:
        """Returns the longer of both languages, for which there must be room, and keeps both."""
        found = (t(key, "es", **fields), t(key, "en", **fields))
        longer = max(found, key=len)
        if found[0] != found[1]:
            self.both[longer] = found
        return longer

    def drawing(
        self, rows: int = 1, columns: int = 1, *, tall: float = 1.0, **options: Any
    ) -> AbstractContextManager[tuple[Figure, Any]]:
        """See `Canvas.drawing`."""
        high = INCHES[1] * tall * (1.0 if rows == 1 else 1.35)
        # Equal input gives equal bytes.
        style = {**_STYLE, "svg.hashsalt": f"vozmetro-{self.number}"}
        return drawing(rows, columns, inches=(INCHES[0], high), style=style, **options)

    def title(self, axis: Axes, text: str) -> None:
        """Leaves the title to the caption."""

    def suptitle(self, figure: Figure, text: str) -> None:
        """Leaves the title to the caption."""

    def legend(self, figure: Figure, axis: Axes) -> None:
        """See `Canvas.legend`."""
        handles, labels = axis.get_legend_handles_labels()
        columns = 2 if all(len(label) <= _LONG for label in labels) else 1
        figure.legend(handles, labels, loc="outside lower left", ncol=columns)

    def own_legend(self, axis: Axes) -> None:
        """See `Canvas.own_legend`."""
        from matplotlib.transforms import ScaledTranslation

        # Under the name of the axis, however high the panel is.
        below = ScaledTranslation(0, -_BELOW / 72, axis.figure.dpi_scale_trans)
        axis.legend(
            loc="upper left", bbox_to_anchor=(0, 0), bbox_transform=axis.transAxes + below, ncol=2
        )

    def finish(self, figure: Figure) -> bytes:
        """Returns the figure as SVG."""
        data = io.BytesIO()
        bare = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        figure.savefig(data, format="svg", metadata=bare, transparent=True)
        return data.getvalue()


class Drawings:
    """The figures of one page, and the style sheet that they share."""

    def __init__(self) -> None:
        self._classes: dict[str, str] = {}
        self._count = 0

    def draw(self, make: Callable[[Canvas], bytes | None]) -> tuple[str, str] | None:
        """Draws a figure.

        Args:
            make: Draws it on a canvas.

        Returns:
            Its id and its markup; None where there is nothing to draw.

        Raises:
            MissingExtraError: matplotlib is not installed.
        """
        self._count += 1
        found = SvgCanvas(self._count)
        drawn = make(found)
        if drawn is None:
            return None
        name = f"f{self._count}"
        return name, _Writer(name, found.both, self._class).page_svg(drawn)

    def css(self) -> str:
        """Returns the rules of all figures drawn so far."""
        return "".join(f".{name}{{{rule}}}\n" for rule, name in self._classes.items())

    def _class(self, rule: str) -> str:
        return self._classes.setdefault(rule, f"p{len(self._classes)}")


class _Writer:
    """Writes one of matplotlib's drawings anew, from the few elements and attributes it needs."""

    def __init__(
        self, name: str, both: Mapping[str, tuple[str, str]], class_of: Callable[[str], str]
    ) -> None:
        self._name, self._both, self._class_of = name, both, class_of
        self._ids: dict[str, str] = {}

    def page_svg(self, drawn: bytes) -> str:
        # Two characters that a record may hold, and XML may not.
        for forbidden in ("\ufffe", "\uffff"):
            drawn = drawn.replace(forbidden.encode(), "\ufffd".encode())
        root = ET.fromstring(drawn)  # noqa: S314 matplotlib's own output, without entities
        for node in root.iter():
            for value in node.attrib.values():
                for used in (*_LOCAL.findall(value), *re.findall(r"^#(.+)$", value)):
                    self._ids.setdefault(used, f"{self._name}-{len(self._ids)}")
        box = self._attributes(root)
        inner = "".join(map(self._node, root))
        label = f'role="img" aria-labelledby="{self._name}-c" focusable="false"'
        return f"<svg{box} {label}>{inner}</svg>"

    def _node(self, node: ET.Element) -> str:
        tag = node.tag.rpartition("}")[2]
        if tag not in _TAGS or tag == "svg":
            return ""
        inner = "".join(map(self._node, node))
        attributes = self._attributes(node)
        if tag == "text":
            return self._text(attributes, "".join(node.itertext()))
        if tag == "g":
            return self._group(attributes, inner)
        if tag == "defs" and not inner:
            return ""
        return f"<{tag}{attributes}>{inner}</{tag}>" if inner else f"<{tag}{attributes}/>"

    def _group(self, attributes: str, inner: str) -> str:
        if not inner:
            return ""
        # Marks of one series differ in their place alone: what they share stands once.
        shared = set(re.findall(r'<use[^>]*?( class="p\d+")/>', inner))
        if len(shared) == 1 and " class=" not in attributes and _only_marks(inner):
            (one,) = shared
            inner, attributes = inner.replace(one, ""), attributes + one
        return f"<g{attributes}>{inner}</g>" if attributes else inner

    def _text(self, attributes: str, said: str) -> str:
        found = self._both.get(said)
        if found is None:
            return f"<text{attributes}>{escape(said)}</text>"
        return "".join(
            f'<text{_with_class(attributes, lang)} lang="{lang}">{escape(one)}</text>'
            for lang, one in zip(("es", "en"), found, strict=True)
        )

    def _attributes(self, node: ET.Element) -> str:
        found: dict[str, str] = {}
        rules = _declarations(node.attrib.get("style", ""))
        for full, value in node.attrib.items():
            name = full.rpartition("}")[2]
            if name == "id" and value in self._ids:
                found["id"] = self._ids[value]
            elif name == "href" and value.startswith("#"):
                found["href"] = f"#{self._ids[value[1:]]}"
            elif name == "href" and value.startswith(_PIXELS):
                found["href"] = re.sub(r"\s", "", value)
            elif name == "clip-path":
                found["clip-path"] = self._local(value)
            elif name in ("fill", "stroke"):
                rules[name] = value
            elif name in _KEPT:
                rounded = _NUMBER.sub(_round, value)
                found[name] = " ".join(rounded.split())
        if rules:
            rule = ";".join(f"{key}:{self._value(value)}" for key, value in sorted(rules.items()))
            found["class"] = self._class_of(rule)
        return "".join(f' {name}="{escape(value)}"' for name, value in found.items())

    def _local(self, value: str) -> str:
        return _LOCAL.sub(lambda one: f"url(#{self._ids[one[1]]})", value)

    def _value(self, value: str) -> str:
        theme = THEME.get(value.lower())
        return f"var(--p-{theme})" if theme else self._local(value)


def _declarations(style: str) -> dict[str, str]:
    """The rules of a style attribute; the page chooses the font."""
    pairs = (one.partition(":") for one in style.split(";") if ":" in one)
    found = {name.strip(): value.strip() for name, _, value in pairs}
    found.pop("font-family", None)
    return {name: value for name, value in found.items() if not re.search(r"[{}<>\\]", value)}


def _round(found: re.Match[str]) -> str:
    return f"{float(found[0]):.2f}".rstrip("0").rstrip(".")


def _only_marks(inner: str) -> bool:
    return re.fullmatch(r"(?:<use[^>]*/>)+", inner) is not None


def _with_class(attributes: str, name: str) -> str:
    if ' class="' in attributes:
        return attributes.replace(' class="', f' class="{name} ', 1)
    return f'{attributes} class="{name}"'
