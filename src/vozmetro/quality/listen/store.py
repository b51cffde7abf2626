"""Listeners and their answers in SQLite; what is acknowledged is on disk."""

from __future__ import annotations

import hashlib
import secrets
import sqlite3
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Literal

from vozmetro.errors import InputError, OutputError
from vozmetro.quality.listen.study import RATINGS_FILE

MOST_LISTENERS = 5000
_VERSION = 1
_SCHEMA = """
CREATE TABLE meta (study TEXT NOT NULL, version INTEGER NOT NULL);
CREATE TABLE listeners (
  number INTEGER PRIMARY KEY, token TEXT NOT NULL UNIQUE, joined REAL NOT NULL,
  lang TEXT NOT NULL, name TEXT NOT NULL, first_language TEXT NOT NULL, hearing TEXT NOT NULL,
  plan TEXT NOT NULL, device TEXT, tones_right INTEGER, comment TEXT NOT NULL DEFAULT '');
CREATE TABLE trials (
  listener INTEGER NOT NULL REFERENCES listeners, position INTEGER NOT NULL,
  heard REAL, done REAL, plays INTEGER, PRIMARY KEY (listener, position));
CREATE TABLE fetched (
  listener INTEGER NOT NULL, position INTEGER NOT NULL, clip TEXT NOT NULL,
  PRIMARY KEY (listener, position, clip));
CREATE TABLE ratings (
  listener INTEGER NOT NULL, position INTEGER NOT NULL, scale TEXT NOT NULL,
  stimulus INTEGER NOT NULL, value INTEGER NOT NULL,
  PRIMARY KEY (listener, position, scale, stimulus));
"""

_LISTENERS = """
SELECT l.number, l.joined, l.lang, l.name, l.first_language, l.hearing, l.device, l.tones_right,
  l.comment, l.plan,
  (SELECT COUNT(*) FROM trials AS t WHERE t.listener = l.number AND t.done IS NOT NULL)
FROM listeners AS l"""

Outcome = Literal["stored", "same", "different"]


@dataclass(frozen=True)
class Profile:
    """What listeners say of themselves; see `Listener`."""

    lang: str
    name: str
    first_language: str
    hearing: str


@dataclass(frozen=True)
class Listener:
    """Somebody who takes part.

    Attributes:
        number: From 0 on, in the order of joining; it decides the trials.
        joined: Seconds since 1970.
        lang: Language of the page.
        name: As given, or empty.
        first_language: Code, or `other`.
        hearing: `normal`, `reduced` or `unsure`.
        device: `headphones` or `speakers`; None before that page is done.
        tones_right: Rounds of the headphone check answered right; None where it was skipped.
        comment: At the end, or empty.
        plan: The trials, as `plan.dumped` writes them.
        done: Trials answered.
    """

    number: int
    joined: float
    lang: str
    name: str
    first_language: str
    hearing: str
    device: str | None
    tones_right: int | None
    comment: str
    plan: str
    done: int


@dataclass(frozen=True)
class Answered:
    """The answers to one trial.

    Attributes:
        listener: Number.
        position: Of the trial.
        seconds: From the first request for one of its clips to the answer, by the server's clock.
        values: Answers by scale and place.
    """

    listener: int
    position: int
    seconds: float
    values: Mapping[str, Sequence[int]]


class Store:
    """The ratings of one study. Safe to use from several threads.

    A write returns after SQLite has synchronised it to disk (WAL, synchronous=FULL): neither a
    killed process nor a power cut loses it.
    """

    def __init__(self, folder: Path, study: str) -> None:
        """Opens the ratings of a study, made if there are none.

        Args:
            folder: The study's.
            study: Digest of the study, which must be the one that the ratings were given for.

        Raises:
            InputError: `listen_ratings_damaged` or `listen_study_changed`.
            OutputError: `listen_ratings_unwritable`.
        """
        self.path = folder / RATINGS_FILE
        self._lock = threading.Lock()
        if self.path.is_symlink():
            raise InputError("listen_ratings_damaged", path=self.path, detail="symbolic link")
        try:
            self.path.touch(mode=0o600, exist_ok=True)
            self._db = sqlite3.connect(
                self.path, timeout=10, isolation_level=None, check_same_thread=False
            )
        except (OSError, sqlite3.OperationalError) as error:
            raise OutputError("listen_ratings_unwritable", path=self.path, detail=error) from error
        try:
            for pragma in ("trusted_schema=OFF", "journal_mode=WAL", "synchronous=FULL"):
                self._db.execute(f"PRAGMA {pragma}")
            self._prepare(study)
        except sqlite3.DatabaseError as error:
            self._db.close()
            raise InputError("listen_ratings_damaged", path=self.path, detail=error) from error
        except InputError:
            self._db.close()
            raise

    def _prepare(self, study: str) -> None:
        with self._writing() as db:
            if not db.execute("SELECT 1 FROM sqlite_master WHERE name = 'meta'").fetchone():
                for statement in _SCHEMA.split(";"):
                    db.execute(statement)
                db.execute("INSERT INTO meta VALUES (?, ?)", (study, _VERSION))
            found = db.execute("SELECT study, version FROM meta").fetchone()
        if found != (study, _VERSION):
            raise InputError("listen_study_changed", path=self.path)

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield self._db
                self._db.execute("COMMIT")
            except BaseException:
                # A commit that failed may have ended the transaction, or left it open.
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise

    def _read(self, query: str, values: Sequence[object] = ()) -> list[tuple[object, ...]]:
        with self._lock:
            return self._db.execute(query, values).fetchall()

    def close(self) -> None:
        """Closes the file."""
        with self._lock:
            self._db.close()

    def join(self, now: float, who: Profile, plan: Callable[[int], str]) -> str | None:
        """Takes a listener in and returns their token; None where the study is full.

        Args:
            now: Seconds since 1970.
            who: What they say of themselves.
            plan: Gives the trials of the listener with a number.
        """
        token = secrets.token_urlsafe(24)
        with self._writing() as db:
            number = db.execute("SELECT COALESCE(MAX(number) + 1, 0) FROM listeners").fetchone()[0]
            if number >= MOST_LISTENERS:
                return None
            db.execute(
                "INSERT INTO listeners (number, token, joined, lang, name, first_language, hearing,"
                " plan) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (number, _hashed(token), now, *astuple(who), plan(number)),
            )
        return token

    def find(self, token: str) -> Listener | None:
        """Returns the listener that a token belongs to."""
        found = self._read(_LISTENERS + " WHERE l.token = ?", (_hashed(token),))
        return Listener(*found[0]) if found else None  # type: ignore[arg-type]

    def listeners(self) -> list[Listener]:
        """Returns the listeners in the order in which they joined."""
        return [Listener(*row) for row in self._read(_LISTENERS + " ORDER BY l.number")]  # type: ignore[arg-type]

    def set_up(self, listener: int, device: str, tones_right: int | None) -> None:
        """Stores what a listener listens with."""
        with self._writing() as db:
            db.execute(
                "UPDATE listeners SET device = ?, tones_right = ? WHERE number = ?",
                (device, tones_right, listener),
            )

    def comment(self, listener: int, text: str) -> None:
        """Stores a listener's comment, in place of an earlier one."""
        with self._writing() as db:
            db.execute("UPDATE listeners SET comment = ? WHERE number = ?", (text, listener))

    def fetched(self, listener: int, position: int, clip: str, now: float) -> None:
        """Notes that a clip of a trial was asked for; the time of the first one begins the trial.

        A time in the future, from a clock that was put back since, is replaced.
        """
        with self._writing() as db:
            db.execute(
                "INSERT INTO trials (listener, position, heard) VALUES (?, ?, ?) ON CONFLICT DO"
                " UPDATE SET heard = excluded.heard WHERE heard > excluded.heard",
                (listener, position, now),
            )
            db.execute("INSERT OR IGNORE INTO fetched VALUES (?, ?, ?)", (listener, position, clip))

    def heard(self, listener: int, position: int) -> tuple[float | None, set[str]]:
        """Returns when the first clip of a trial was asked for, and which were."""
        rows = self._read(
            "SELECT heard FROM trials WHERE listener = ? AND position = ?", (listener, position)
        )
        clips = self._read(
            "SELECT clip FROM fetched WHERE listener = ? AND position = ?", (listener, position)
        )
        return (rows[0][0] if rows else None), {str(row[0]) for row in clips}  # type: ignore[return-value]

    def rate(
        self,
        listener: int,
        position: int,
        answers: Mapping[str, Sequence[int]],
        plays: int,
        now: float,
    ) -> Outcome:
        """Stores the answers to a trial. Once stored, they stay.

        Returns:
            `stored`; `same` where these very answers were there; `different` where others were.
        """
        given = {(scale, n): v for scale, values in answers.items() for n, v in enumerate(values)}
        with self._writing() as db:
            key = (listener, position)
            rows = db.execute(
                "SELECT scale, stimulus, value FROM ratings WHERE listener = ? AND position = ?",
                key,
            ).fetchall()
            if rows:
                return "same" if {(s, n): v for s, n, v in rows} == given else "different"
            db.executemany(
                "INSERT INTO ratings VALUES (?, ?, ?, ?, ?)",
                [(*key, scale, n, value) for (scale, n), value in given.items()],
            )
            db.execute(
                "INSERT INTO trials (listener, position, heard, done, plays) VALUES (?, ?, ?, ?, ?)"
                " ON CONFLICT DO UPDATE SET done = excluded.done, plays = excluded.plays",
                (*key, now, now, plays),
            )
        return "stored"

    def answered(self) -> list[Answered]:
        """Returns all answers, by listener and position."""
        times = {
            (listener, position): seconds
            for listener, position, seconds in self._read(
                "SELECT listener, position, done - heard FROM trials WHERE done IS NOT NULL"
            )
        }
        found: dict[tuple[object, object], dict[str, list[int]]] = {}
        for listener, position, scale, value in self._read(
            "SELECT listener, position, scale, value FROM ratings"
            " ORDER BY listener, position, scale, stimulus"
        ):
            values = found.setdefault((listener, position), {}).setdefault(str(scale), [])
            values.append(value)  # type: ignore[arg-type]
        return [
            Answered(*key, times.get(key, 0.0), values)  # type: ignore[arg-type]
            for key, values in found.items()
        ]


def _hashed(token: str) -> str:
    """Only this is stored: the file does not let anybody answer in a listener's place."""
    return hashlib.sha256(token.encode(errors="replace")).hexdigest()
