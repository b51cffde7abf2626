"""Words that name runs: a path, an id, the last ones, or conditions."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from vozmetro.errors import InputError
from vozmetro.history.moments import moment
from vozmetro.history.scan import scan
from vozmetro.history.store import Filter, History
from vozmetro.judge.differences import digest, machine
from vozmetro.judge.gate import RUNS
from vozmetro.judge.rows import Row
from vozmetro.measure.records import ComparisonRecord, Run
from vozmetro.measure.storage import COMPARISON_FILE, RUN_FILE, load_any
from vozmetro.packages import is_dir, is_file

_LAST = re.compile(r"last(?::(\d{1,4}))?")
_KEYS = ("subject", "machine", "precision", "since", "until", "status", "model", "threads", "last")
Record = Run | ComparisonRecord


def is_selector(words: str) -> bool:
    """Whether words speak of the history: `last`, `last:5` or conditions."""
    name = words.partition("=")[0]
    return bool(_LAST.fullmatch(words)) or ("=" in words and name in _KEYS)


def records(words: str, history: History) -> list[Record]:
    """Returns the records that a path or the beginning or end of an id names.

    Args:
        words: A record, its folder, a folder with records below, or an id.
        history: Where ids are looked for.

    Raises:
        InputError: `run_missing`, `history_unknown`, `history_ambiguous`, and what `load_any`
            raises.
    """
    path = Path(words)
    if is_file(path) or (is_dir(path) and any(is_file(path / name) for name in _FILES)):
        return [_record(path)]
    if is_dir(path):
        files = [Path(one.path) for one in scan([path]) if Path(one.path).name in _FILES]
        if not files:
            raise InputError("run_missing", path=path)
        return [_record(file) for file in sorted(files)]
    return [load(one(words, history))]


_FILES = (RUN_FILE, COMPARISON_FILE)


def _record(path: Path) -> Record:
    found = load_any(path)
    if not isinstance(found, Run | ComparisonRecord):
        raise InputError("run_unreadable", path=path, detail=f"type: {found.type}")
    return found


def one(words: str, history: History) -> Row:
    """Returns the one row that the beginning or the end of an id names.

    Raises:
        InputError: `history_unknown` or `history_ambiguous`.
    """
    found = history.by_id(words) if words else []
    exact = [row for row in found if row.id == words] or found
    different = {(row.id, row.part): row for row in exact}
    if not different:
        raise InputError("history_unknown", given=words)
    if len({row.id for row in different.values()}) > 1:
        shown = ", ".join(row.id for row in list(different.values())[:4])
        raise InputError("history_ambiguous", given=words, ids=shown)
    return exact[0]


def load(row: Row) -> Run:
    """Returns the run of a row.

    Raises:
        InputError: `history_unknown` for a row of a quality study; `run_missing` where the file
            went away, and what `load_any` raises.
    """
    found = load_any(Path(row.file))
    if isinstance(found, ComparisonRecord):
        return found.b if row.part == "b" else found.a
    if not isinstance(found, Run):
        raise InputError("history_unknown", given=row.id)
    return found


def selected(
    words: str, history: History, candidates: Sequence[Run], *, new_model: bool = False
) -> list[Run]:
    """Returns the complete runs that a selector names, without the candidates, the newest first.

    Conditions that are not given are taken from the first candidate: its subject, machine and
    threads, and its model unless that is what changed.

    Args:
        words: `last`, `last:N`, or `subject=*base*,machine=*,precision=INT8,last=5` and so on;
            10 runs where no number is given.
        history: Where to look.
        candidates: Runs that are held against those.
        new_model: The model is what changed.

    Raises:
        InputError: `bad_selector`, `bad_date`, or `gate_nothing_selected`.
    """
    given, count = _conditions(words)
    first = candidates[0]
    like = Filter(
        subject=None if new_model and "subject" in given else _literal(first.subject.name),
        machine=_literal(machine(first)),
        threads=first.settings.threads,
        model=None if new_model else digest(first)[:32],
        record="run",
    )
    chosen = replace(like, **given)
    own = {run.id for run in candidates}
    rows = history.rows(chosen)
    rows = [row for row in rows if row.id not in own and row.state == "complete"]
    rows = [row for row in rows if row.clock == first.subject.clock][:count]
    if not rows:
        raise InputError("gate_nothing_selected", given=words)
    return [load(row) for row in rows]


def _literal(text: str) -> str:
    """A glob that stands for itself."""
    return re.sub(r"([\[*?\\])", r"[\1]", text)


def _conditions(words: str) -> tuple[dict[str, Any], int]:
    last = _LAST.fullmatch(words)
    if last:
        return {}, int(last[1] or 1)
    given: dict[str, Any] = {}
    count = RUNS
    for part in words.split(","):
        name, sign, value = (piece.strip() for piece in part.partition("="))
        if not sign or name not in _KEYS or not value:
            raise InputError("bad_selector", given=part, known=", ".join(_KEYS))
        if name in ("last", "threads"):
            if not value.isdecimal() or not 1 <= int(value[:9]) <= 10_000:
                raise InputError("bad_selector", given=part, known=", ".join(_KEYS))
            number = int(value)
            count = number if name == "last" else count
            given |= {"threads": number} if name == "threads" else {}
        elif name in ("since", "until"):
            given[name] = moment(value, end=name == "until")
        else:
            given[name] = value
    return given, count
