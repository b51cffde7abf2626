"""How seconds, bytes and text from outside are printed. Decimal bytes: 1 GB = 10^9 bytes."""

from __future__ import annotations

import math
import re
import unicodedata

NS_PER_MS = 1_000_000
NS_PER_S = 1_000_000_000
MB = 10**6
GB = 10**9


def ms(value: float | None, digits: int | None = None) -> str:
    """Returns milliseconds as text with four significant digits or so, `–` for none."""
    if value is None or math.isnan(value):
        return "–"
    if digits is None:
        digits = 1 if abs(value) >= 10 else 3
    return f"{value:.{digits}f} ms"


def size(value: float | None) -> str:
    """Returns bytes as `1.1 GB`, `63.2 MB`, `512 kB` or `17 B`; `–` for none."""
    if value is None:
        return "–"
    for unit, scale in (("GB", GB), ("MB", MB), ("kB", 1000)):
        if abs(value) >= scale:
            return f"{value / scale:.1f} {unit}"
    return f"{value:.0f} B"


def count(value: float | None) -> str:
    """Returns a number of parameters as `4.4 B`, `72.6 M` or `910`; `–` for none."""
    if value is None:
        return "–"
    for unit, scale in (("B", 1e9), ("M", 1e6), ("k", 1e3)):
        if abs(value) >= scale:
            return f"{value / scale:.1f} {unit}"
    return f"{value:.0f}"


def percent(ratio: float | None, digits: int = 0) -> str:
    """Returns a signed change, `ratio` - 1, in percent: 0.93 -> `-7%`; `–` for none."""
    if ratio is None or math.isnan(ratio):
        return "–"
    return f"{(ratio - 1) * 100:+.{digits}f}%"


def duration(seconds: float) -> str:
    """Returns a wall-clock duration as `45 s` or `3 min 20 s`."""
    whole = round(seconds)
    return f"{whole} s" if whole < 60 else f"{whole // 60} min {whole % 60} s"


def plain(text: object) -> str:
    """Returns text from outside on one line, with nothing that a terminal would act on.

    Escape sequences, bidirectional marks and lone surrogates become a replacement character;
    runs of white space become one space.
    """
    shown = (
        "\N{REPLACEMENT CHARACTER}"
        if unicodedata.category(char) in ("Cc", "Cf", "Cs") and not char.isspace()
        else char
        for char in str(text)
    )
    return " ".join("".join(shown).split())


def file_name(text: str) -> str:
    """Returns the last part of a name or path as a plain file name; empty for none."""
    last = re.split(r"[/\\]", text)[-1]
    return re.sub(r"[^A-Za-z0-9._-]+", "-", last).strip("-.")[:40]
