"""What a listening test found, for a terminal of 80 columns."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial

from rich import box
from rich.console import Console, ConsoleRenderable, Group
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from vozmetro.i18n import t
from vozmetro.measure.listening_records import (
    ListeningRecord,
    PairTest,
    Separation,
    SystemScore,
)
from vozmetro.units import plain

_NONE = "–"
_DIGITS = {"acr": 2, "ab": 0, "ccr": 2, "mushra": 1}


def print_listening(
    console: Console,
    record: ListeningRecord,
    lang: str,
    comments: Iterable[tuple[int, str, str]] = (),
) -> None:
    """Prints scores, differences, who was left out and why.

    Args:
        console: Where to.
        record: The results.
        lang: `es` or `en`.
        comments: Number, name and words of those who left some, where they are asked for.
    """
    say = partial(t, lang=lang)
    parts: list[ConsoleRenderable] = [
        Text(say(f"listen.title_{record.method}"), style="bold"),
        Text(_people(record, lang)),
    ]
    if not record.systems:
        parts.append(Text(say("listen.nobody_kept"), style="yellow"))
    for scale in record.scales:
        parts += _scale(record, scale, lang)
    parts += _left_out(record, lang)
    told = list(comments)
    if told:
        parts += [Text(""), Text(say("listen.comments"), style="bold")]
        parts += [
            _inset(Text(f"{number} {plain(name)}".strip() + f": {plain(text)}"))
            for number, name, text in told
        ]
    console.print(Group(*parts))


def _people(record: ListeningRecord, lang: str) -> str:
    fields = {"kept": record.kept, "screened": record.screened}
    return t("listen.people", lang, **fields)


def _scale(record: ListeningRecord, scale: str, lang: str) -> list[ConsoleRenderable]:
    scores = [one for one in record.systems if one.scale == scale]
    if not scores:
        return []
    pairs = [one for one in record.pairs if one.scale == scale]
    heading = t(f"listen.scale_{scale}", lang)
    parts: list[ConsoleRenderable] = [
        Text(""),
        Text(heading, style="bold"),
        _inset(_scores(record, scores, lang)),
    ]
    if pairs:
        parts += [Text(""), _inset(_pairs(record, pairs, lang))]
    parts += [
        _inset(Text(separation_text(one, lang))) for one in record.separations if one.scale == scale
    ]
    parts.append(_inset(Text(t(f"listen.note_{record.method}", lang), style="dim")))
    return parts


def _scores(record: ListeningRecord, scores: Sequence[SystemScore], lang: str) -> Table:
    table = _table(lang, "system", "score", "interval", "t_interval", "votes", "place", "more")
    places = {(one.name, one.scale): one.place for one in record.strengths}
    for one in scores:
        place = places.get((one.name, one.scale))
        table.add_row(
            Text(plain(one.name)),
            score_text(record.method, one.value),
            ends_text(record.method, one.low, one.high),
            ends_text(record.method, one.t_low, one.t_high),
            str(one.ratings),
            _NONE if place is None else str(place),
            _NONE if one.more_listeners is None else str(one.more_listeners),
        )
    return table


def _pairs(record: ListeningRecord, pairs: Sequence[PairTest], lang: str) -> Table:
    table = _table(lang, "pair", "difference", "interval", "p")
    for one in pairs:
        table.add_row(
            Text(f"{plain(one.a)} − {plain(one.b)}"),
            score_text(record.method, one.difference, signed=True),
            ends_text(record.method, one.low, one.high, signed=True),
            "< 0.001" if one.p_holm < 0.001 else f"{one.p_holm:.3f}",
        )
    return table


def score_text(method: str, value: float, *, signed: bool = False) -> str:
    """Returns a score as its method has it: `4.12`, `62 %`, `+1.10`, `78.3`."""
    sign = "+" if signed or method == "ccr" else ""
    if method == "ab":
        return f"{100 * value:{sign}.0f} %"
    return f"{value:{sign}.{_DIGITS[method]}f}"


def ends_text(method: str, low: float | None, high: float | None, *, signed: bool = False) -> str:
    """Returns an interval as `3.90–4.31`, `–` for none."""
    if low is None or high is None:
        return _NONE
    # With signs, a dash between the ends would read as one of them.
    between = ", " if signed or method == "ccr" else "–"
    ends = [score_text(method, end, signed=signed).removesuffix(" %") for end in (low, high)]
    return between.join(ends)


def separation_text(one: Separation, lang: str) -> str:
    """Returns the sentence on the first two: told apart, or what it would take."""
    fields: dict[str, object] = {"first": plain(one.first), "second": plain(one.second)}
    if one.told_apart:
        return t("listen.told_apart", lang, **fields)
    if one.more_listeners is None:
        return t("listen.not_apart", lang, **fields)
    return t("listen.apart_with", lang, **fields, n=one.more_listeners)


def _left_out(record: ListeningRecord, lang: str) -> list[ConsoleRenderable]:
    out = [one for one in record.listeners if not one.kept]
    if not out:
        return []
    parts: list[ConsoleRenderable] = [
        Text(""),
        Text(t("listen.left_out", lang), style="bold"),
    ]
    for one in out:
        why = "; ".join(t(reason.code, lang, **reason.fields) for reason in one.reasons)
        parts.append(_inset(Text(f"{one.number}: {plain(why)}")))
    return parts


def _table(lang: str, *columns: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    for place, name in enumerate(columns):
        heading = Text(t(f"listen.col_{name}", lang))
        if place:
            table.add_column(heading, justify="right", no_wrap=name != "t_interval")
        else:
            table.add_column(heading, overflow="fold")
    return table


def _inset(part: Table | Text) -> Padding:
    return Padding(part, (0, 0, 0, 2), expand=False)
