"""Text from outside made harmless in Markdown, and tables of it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from vozmetro.units import plain

# `$` opens mathematics on GitHub.
_ENTITIES = {"&": "&amp;", "<": "&lt;", ">": "&gt;", "$": "&#36;"}
_BACKSLASHED = re.compile(r"([\\`*_{}\[\]|~#])")
_LIST_START = re.compile(r"^([-+=]|\d+(?=[.)](?:\s|$)))")
_ADDRESS = re.compile(r"(?i)\b(https?|ftp)://|\bwww\.")


def escape(text: object) -> str:
    """Returns text that shows as it is in a paragraph, a heading, a list or a table cell."""
    shown = _BACKSLASHED.sub(r"\\\1", plain(text))
    shown = "".join(_ENTITIES.get(char, char) for char in shown)
    # A transcript or model name must not become a link that somebody follows.
    shown = _ADDRESS.sub(lambda found: found[0].replace(":", "&#58;").replace(".", "&#46;"), shown)
    return _LIST_START.sub(_unlisted, shown)


def _unlisted(found: re.Match[str]) -> str:
    # "12." would open a numbered list; a digit cannot be backslashed, but an entity opens nothing.
    start = found[1]
    return f"&#{ord(start[0])};{start[1:]}" if start.isdigit() else f"\\{start}"


def code(text: object) -> str:
    """Returns text set as code, in a paragraph, a list or a table cell; empty for none."""
    shown = plain(text)
    if not shown:
        return ""
    # A code span cannot escape: a backtick would end it, a pipe the table's cell.
    return f"<code>{escape(shown)}</code>" if set(shown) & set("`|<>") else f"`{shown}`"


def link_target(path: str) -> str:
    """Returns a relative path for a link or an image: everything unusual as %XX."""
    from urllib.parse import quote

    return quote(path, safe="/-_.")


def table(header: Sequence[str], rows: Iterable[Sequence[str]], right: str = "") -> list[str]:
    """Returns a Markdown table, its cells already escaped.

    Args:
        header: Column titles.
        rows: Cells in Markdown.
        right: For each column `r` (numbers, to the right) or anything else.
    """
    rules = ["---:" if kind == "r" else "---" for kind in right.ljust(len(header))]
    lines = [header, rules, *rows]
    return ["| " + " | ".join(line) + " |" for line in lines]
