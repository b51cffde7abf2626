"""A part's results as a Parquet file: a row for each utterance, and sums in its description."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from vozmetro.assess.shard_hearing import Outcome
from vozmetro.assess.shard_plan import Piece
from vozmetro.errors import InputError
from vozmetro.measure.quality_records import CLEAN, Merged
from vozmetro.measure.records import Record, Subject
from vozmetro.quality.merging import Counted, count
from vozmetro.speech.corpus import Taken

if TYPE_CHECKING:
    import pyarrow

_ABOUT = b"vozmetro"
COUNTS = ("substitutions", "deletions", "insertions", "words", "char_errors", "chars")


class TakenRecord(Record):
    """How much of a corpus is in a part; as `speech.corpus.Taken`."""

    utterances: int
    seconds: float
    synthetic: int


class About(Record):
    """What a part's file says of itself.

    Attributes:
        shard: Its number.
        key: Digest of the plan that it belongs to.
        subject: What heard.
        load_ms: Loading it.
        peak_rss: Highest RSS of its process, in bytes.
        cpu: Name of the processor.
        vozmetro: Version that heard and counted.
        normalizers: By language, how words were made comparable.
        heard: Utterances that were heard; sounds without speech too.
        left_out: Those put aside.
        audio_s: Length of all that was heard, in seconds.
        wall_s: Time that the part took.
        taken: By corpus, how much.
        merged: Errors.
    """

    shard: int
    key: str
    subject: Subject
    load_ms: float
    peak_rss: int
    cpu: str
    vozmetro: str
    normalizers: dict[str, str]
    heard: int
    left_out: int
    audio_s: float
    wall_s: float
    taken: dict[str, TakenRecord] = Field(default_factory=dict)
    merged: list[Merged] = Field(default_factory=list)


@dataclass(frozen=True)
class Row:
    """An utterance of a part's file.

    Attributes:
        outcome: What became of it.
        errors: Word errors where accents do not count; -1 where nothing was counted.
    """

    outcome: Outcome
    errors: int


def about_outcomes(outcomes: Sequence[Outcome], **known: Any) -> tuple[About, list[list[int]]]:
    """Returns what a part's file will say of itself, and the counts of each row.

    Args:
        outcomes: Of all the part's utterances.
        **known: The fields of `About` that outcomes do not tell.
    """
    heard = [at for at, one in enumerate(outcomes) if one.output is not None]
    spoken = [at for at in heard if outcomes[at].piece.condition == CLEAN]
    counted = count([_counted(outcomes[at]) for at in spoken])
    table = [[-1] * (2 * len(COUNTS)) for _ in outcomes]
    names = {outcomes[at].piece.id: at for at in spoken}
    for row, one in enumerate(counted.rows):
        table[names[one.id]] = [
            int(getattr(scored, name)[row])
            for scored in (counted.folded, counted.exact)
            for name in COUNTS
        ]
    taken: dict[str, Taken] = {}
    for outcome in outcomes:
        piece = outcome.piece
        if piece.condition == CLEAN:
            more = Taken(1, outcome.seconds, int(piece.synthetic))
            taken[piece.corpus] = taken.get(piece.corpus, Taken()) + more
    about = About(
        heard=len(heard),
        left_out=len(outcomes) - len(heard),
        audio_s=sum(outcomes[at].seconds for at in heard),
        taken={name: TakenRecord(**asdict(one)) for name, one in taken.items()},
        merged=list(counted.merged),
        **known,
    )
    return about, table


def to_bytes(about: About, outcomes: Sequence[Outcome], table: Sequence[Sequence[int]]) -> bytes:
    """Returns a part's results as a Parquet file.

    Args:
        about: What it says of itself.
        outcomes: Of all its utterances.
        table: Counts of each, as from `about_outcomes`.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns: dict[str, Any] = {
        name: [getattr(one.piece, name) for one in outcomes] for name in Piece.model_fields
    }
    columns["seconds"] = pa.array([one.seconds for one in outcomes], pa.float64())
    columns["sha256"] = [one.sha256 for one in outcomes]
    columns["output"] = pa.array([one.output for one in outcomes], pa.string())
    columns["ms"] = pa.array([one.ms for one in outcomes], pa.float64())
    columns["code"] = [one.code for one in outcomes]
    columns["fields"] = [json.dumps(dict(one.fields)) for one in outcomes]
    for at, name in enumerate([*COUNTS, *(f"exact_{name}" for name in COUNTS)]):
        columns[name] = pa.array([row[at] for row in table], pa.int32())
    made = pa.table(columns).replace_schema_metadata({_ABOUT: about.model_dump_json().encode()})
    out = io.BytesIO()
    pq.write_table(made, out, compression="zstd")
    return out.getvalue()


def about_of(place: Path | bytes) -> About:
    """Returns what a part's file says of itself; no row is read.

    Args:
        place: The file, or what is in it.

    Raises:
        InputError: `shard_damaged`.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    name = place if isinstance(place, Path) else "–"
    try:
        schema = pq.read_schema(io.BytesIO(place) if isinstance(place, bytes) else place)
        return About.model_validate_json((schema.metadata or {})[_ABOUT])
    except (OSError, ValueError, KeyError, pa.ArrowException) as error:
        detail = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError("shard_damaged", path=name, detail=detail) from error


def rows_of(path: Path) -> Iterator[Row]:
    """Yields the utterances of a part's file.

    Raises:
        InputError: `shard_damaged`.
    """
    for raw in _read(path).to_pylist():
        wrong = raw["substitutions"] + raw["deletions"] + raw["insertions"]
        told = {name: raw[name] for name in Piece.model_fields}
        if raw["condition"] == CLEAN:
            # Its header told how long it is, not the plan.
            told["seconds"] = 0.0
        piece = Piece(**told)
        yield Row(
            Outcome(
                piece,
                raw["seconds"],
                raw["sha256"],
                raw["output"],
                raw["ms"],
                raw["code"],
                tuple(sorted(json.loads(raw["fields"]).items())),
            ),
            wrong if raw["words"] >= 0 else -1,
        )


def columns_of(path: Path, names: Sequence[str]) -> dict[str, list[Any]]:
    """Returns some columns of a part's file.

    Raises:
        InputError: `shard_damaged`.
    """
    found: dict[str, list[Any]] = _read(path, names).to_pydict()
    return found


def _read(path: Path, names: Sequence[str] | None = None) -> pyarrow.Table:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return pq.read_table(path, columns=None if names is None else list(names))
    except (OSError, pa.ArrowException) as error:
        detail = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError("shard_damaged", path=path, detail=detail) from error


def _counted(one: Outcome) -> Counted:
    piece = one.piece
    return Counted(
        id=piece.id,
        text=piece.text,
        output=one.output or "",
        language=piece.language,
        speaker=piece.speaker,
        seconds=round(one.seconds, 3),
        ms=one.ms,
    )
