"""The history: records on disk as a table that DuckDB answers from.

What a record comes to is kept in the user's cache as one Parquet file, because 10,000 records are
a gigabyte of JSON. The cache needs no attention: a row counts only while its file has the same
path, size and time; everything else is read again; and what is broken or of another version is
made anew. It is replaced as a whole, so that readers at the same time see the old file or the new
one.
"""

from __future__ import annotations

import contextlib
import glob
import json
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vozmetro.errors import MissingExtraError
from vozmetro.history.scan import Found, scan
from vozmetro.judge.rows import Row
from vozmetro.packages import cache_dir
from vozmetro.units import plain

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from duckdb import DuckDBPyConnection

SCHEMA = 1
"""Raised by any change of Row, or of what its numbers mean."""
MOST_ROWS = 2_000_000
"""A cache with more is begun anew: it holds folders that are no longer asked for."""
_ENOUGH_FOR_MANY = 64  # files from which on it is worth to start other processes
_CHUNK = 16
_NEWEST = 'ORDER BY "at" DESC NULLS LAST, id, part'

_TYPES = {"str": "VARCHAR", "int": "BIGINT", "float": "DOUBLE", "float | None": "DOUBLE"}
_ROW = {one.name: _TYPES[str(one.type)] for one in fields(Row)}
_COLUMNS = {**_ROW, "size": "BIGINT", "mtime_ns": "BIGINT"}

Listener = Callable[[int, int], None]
"""Told how many files were read, and of how many."""


@dataclass(frozen=True)
class Filter:
    """What to list; every condition that is given must hold.

    Attributes:
        subject: Glob on the name as it was given, or on the short one; case does not count.
        machine: Glob on the machine; case does not count.
        precision: As recorded; case does not count.
        since: Seconds since 1970, included.
        until: Seconds since 1970, not included.
        status: `pass`, `fail` or `undecided`, or the status of a record that is not complete.
        model: First digits of the model's digest.
        record: `run`, `comparison` or `quality`.
        threads: Of the engine.
    """

    subject: str | None = None
    machine: str | None = None
    precision: str | None = None
    since: float | None = None
    until: float | None = None
    status: str | None = None
    model: str | None = None
    record: str | None = None
    threads: int | None = None


class History:
    """Records below folders. Use it in a `with` block."""

    def __init__(
        self, connection: DuckDBPyConnection, files: int, parsed: int, odd: Sequence[Row]
    ) -> None:
        self._connection = connection
        self._odd = odd
        self.files = files
        """Records found."""
        self.parsed = parsed
        """Of these, those that were read anew."""

    @classmethod
    @contextlib.contextmanager
    def open(
        cls,
        folders: Sequence[Path],
        *,
        listen: Listener = lambda _done, _of: None,
        jobs: int = 1,
        cache: Path | None = None,
    ) -> Iterator[History]:
        """Finds records and reads what is new.

        Args:
            folders: Searched with all that lies below; or records themselves.
            listen: Told about reading.
            jobs: Processes that read, where there is much to read; 0 for one on each core that
                may be used. Other than 1 only in programs whose main module may be imported.
            cache: File to keep what was read in; in the user's cache by default.

        Raises:
            MissingExtraError: DuckDB is not installed.
        """
        connection = _connect()
        try:
            every = scan(folders)
            found = [one for one in every if _is_text(one.path)]
            odd = [
                Row(file=plain(one.path), record="unreadable", detail="UnicodeEncodeError")
                for one in every
                if not _is_text(one.path)
            ]
            place = cache or _place()
            changed = _load(connection, place)
            roots = [os.path.abspath(folder) for folder in folders]  # noqa: PTH100
            parsed, others = _update(connection, found, roots, listen, jobs)
            if parsed or changed:
                _keep(connection, place)
            _restrict(connection, found, others=others)
            yield cls(connection, len(every), parsed, odd)
        finally:
            connection.close()

    def rows(self, chosen: Filter | None = None, limit: int | None = None) -> list[Row]:
        """Returns rows, the newest first; unreadable files are not among them.

        Args:
            chosen: Conditions.
            limit: Most rows.
        """
        where, values = _where(chosen or Filter())
        names = ", ".join(f'"{name}"' for name in _ROW)
        text = f"SELECT {names} FROM here WHERE {where} {_NEWEST}"  # noqa: S608
        if limit is not None:
            text += " LIMIT ?"
            values.append(limit)
        found = self._connection.execute(text, values).fetchall()
        return [Row(*one) for one in found]

    def count(self, chosen: Filter | None = None) -> int:
        """Returns how many rows there are; unreadable files are not among them."""
        where, values = _where(chosen or Filter())
        text = f"SELECT count(*) FROM here WHERE {where}"  # noqa: S608
        return int((self._connection.execute(text, values).fetchone() or [0])[0])

    def unreadable(self) -> list[Row]:
        """Returns the files that could not be read, each with why."""
        names = ", ".join(f'"{name}"' for name in _ROW)
        text = f"SELECT {names} FROM here WHERE record = 'unreadable' ORDER BY file"  # noqa: S608
        found = self._connection.execute(text).fetchall()
        return [Row(*one) for one in found] + list(self._odd)

    def by_id(self, words: str) -> list[Row]:
        """Returns the rows whose id begins or ends with these words, the newest first."""
        names = ", ".join(f'"{name}"' for name in _ROW)
        text = (
            f"SELECT {names} FROM here WHERE record <> 'unreadable' AND "  # noqa: S608
            f"(starts_with(id, ?) OR ends_with(id, '-' || ?)) {_NEWEST}"
        )
        found = self._connection.execute(text, [words, words]).fetchall()
        return [Row(*one) for one in found]


def _where(chosen: Filter) -> tuple[str, list[Any]]:
    """Returns conditions and their values; what a user wrote is a value and never SQL."""
    texts: Mapping[str, tuple[Any, ...]] = {
        "(lower(subject) GLOB lower(?) OR lower(name) GLOB lower(?))": (chosen.subject,) * 2,
        "lower(machine) GLOB lower(?)": (chosen.machine,),
        "lower(precision) = lower(?)": (chosen.precision,),
        '"at" >= ?': (chosen.since,),
        '"at" < ?': (chosen.until,),
        "(verdict = ? OR (state = ? AND state <> 'complete'))": (chosen.status,) * 2,
        "starts_with(model, ?)": (chosen.model,),
        "record = ?": (chosen.record,),
        "threads = ?": (chosen.threads,),
    }
    used = {text: values for text, values in texts.items() if values[0] is not None}
    every = ["record <> 'unreadable'", *used]
    return " AND ".join(every), [value for values in used.values() for value in values]


def _place() -> Path:
    from importlib.metadata import version

    return cache_dir() / "history" / f"rows-{SCHEMA}-{version('vozmetro')}.parquet"


def _connect() -> DuckDBPyConnection:
    try:
        import duckdb
    except ImportError as error:
        raise MissingExtraError("history", "duckdb") from error
    # Nothing is fetched and nothing but the cache is opened.
    return duckdb.connect(
        ":memory:",
        config={
            "autoinstall_known_extensions": "false",
            "autoload_known_extensions": "false",
            "preserve_insertion_order": "false",
        },
    )


def _load(connection: DuckDBPyConnection, place: Path) -> bool:
    """Makes the table `rows` of the cache; returns whether the cache was of no use."""
    import duckdb

    expected = list(_COLUMNS.items())
    # Parquet cannot give more memory than it names, but a broken size could; ours are small.
    with contextlib.suppress(duckdb.Error, OSError):
        if place.is_file() and place.stat().st_size < 1 << 30:
            connection.execute(
                "CREATE TABLE rows AS SELECT * FROM read_parquet(?)", [glob.escape(str(place))]
            )
            told = connection.execute("DESCRIBE rows").fetchall()
            count = connection.execute("SELECT count(*) FROM rows").fetchone() or [0]
            if [(one[0], one[1]) for one in told] == expected and count[0] <= MOST_ROWS:
                return False
    connection.execute("DROP TABLE IF EXISTS rows")
    columns = ", ".join(f'"{name}" {kind}' for name, kind in _COLUMNS.items())
    connection.execute(f"CREATE TABLE rows ({columns})")
    return True


def _update(
    connection: DuckDBPyConnection,
    found: Sequence[Found],
    roots: Sequence[str],
    listen: Listener,
    jobs: int,
) -> tuple[int, bool]:
    """Brings `rows` up to date.

    Returns:
        How many files were read or forgotten, and whether `rows` holds files of other folders.
    """
    told = connection.execute("SELECT DISTINCT file, size, mtime_ns FROM rows").fetchall()
    known = {Found(*one) for one in told}
    here = set(found)
    new = [one for one in found if one not in known]
    paths = {one.path for one in new}
    missing = known - here
    gone = [
        one.path
        for one in missing
        if one.path in paths or any(_is_below(one.path, root) for root in roots)
    ]
    if gone:
        connection.execute("DELETE FROM rows WHERE file IN (SELECT unnest(?))", [gone])
    if new:
        _insert(connection, _read_all(new, listen, jobs))
    return len(new) + len(gone), len(missing) > len(gone)


def _is_text(path: str) -> bool:
    """Whether a path is Unicode; of the others the file system knows bytes alone."""
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return True


def _is_below(path: str, root: str) -> bool:
    return path == root or path.startswith(root.rstrip(os.sep) + os.sep)


def _read_all(
    new: Sequence[Found], listen: Listener, jobs: int
) -> Iterator[tuple[Found, list[Row]]]:
    listen(0, len(new))
    if not jobs and len(new) >= _ENOUGH_FOR_MANY:
        from vozmetro.measure.environment import cores_allowed

        jobs = cores_allowed()
    if jobs < 2 or len(new) < _ENOUGH_FOR_MANY:
        for number, one in enumerate(new, 1):
            yield one, _read(one)
            listen(number, len(new))
        return
    from concurrent.futures import ProcessPoolExecutor
    from multiprocessing import get_context

    pool: Executor
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        every = pool.map(_read, new, chunksize=_CHUNK)
        for number, (one, rows) in enumerate(zip(new, every, strict=True), 1):
            yield one, rows
            if number % _CHUNK == 0 or number == len(new):
                listen(number, len(new))


def _read(one: Found) -> list[Row]:
    # Imported here: what reads and judges records takes longer to import than to answer.
    from vozmetro.history.rows import read

    return read(one.path, one.size)


def _insert(connection: DuckDBPyConnection, told: Iterator[tuple[Found, list[Row]]]) -> None:
    """Adds rows by way of a file of JSON lines: one by one would take longer than reading."""
    with tempfile.TemporaryDirectory(prefix="vozmetro-") as folder:
        lines = Path(folder) / "rows.ndjson"
        with lines.open("w", encoding="utf-8") as file:
            for found, rows in told:
                for row in rows:
                    kept = {**asdict(row), "file": found.path}
                    kept |= {"size": found.size, "mtime_ns": found.mtime_ns}
                    file.write(json.dumps(_clean(kept)) + "\n")
        connection.execute(
            "INSERT INTO rows SELECT * FROM read_json(?, format = 'newline_delimited', "  # noqa: S608
            f"columns = {_struct(_COLUMNS)})",
            [glob.escape(str(lines))],
        )


def _clean(row: dict[str, Any]) -> dict[str, Any]:
    # JSON has no infinity; a number that is none is not known.
    return {
        name: None if isinstance(value, float) and not abs(value) < float("inf") else value
        for name, value in row.items()
    }


def _struct(columns: Mapping[str, str]) -> str:
    """A struct of SQL; its names and types are this module's own."""
    return "{" + ", ".join(f"'{name}': '{kind}'" for name, kind in columns.items()) + "}"


def _keep(connection: DuckDBPyConnection, place: Path) -> None:
    """Writes the cache; where it cannot be written, the next call reads everything again."""
    import duckdb

    with contextlib.suppress(duckdb.Error, OSError):
        place.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=place.parent, prefix=".rows-")
        os.close(handle)
        try:
            quoted = temporary.replace("'", "''")
            connection.execute(f"COPY rows TO '{quoted}' (FORMAT parquet)")
            Path(temporary).replace(place)
        finally:
            Path(temporary).unlink(missing_ok=True)


def _restrict(connection: DuckDBPyConnection, found: Sequence[Found], *, others: bool) -> None:
    """Makes `here` of the rows whose files are there now, and shuts the door to all files."""
    if not others:
        connection.execute("CREATE VIEW here AS SELECT * FROM rows")
    else:
        connection.execute(
            "CREATE TABLE here AS SELECT * FROM rows WHERE file IN (SELECT unnest(?))",
            [[one.path for one in found]],
        )
    connection.execute("SET enable_external_access = false")
