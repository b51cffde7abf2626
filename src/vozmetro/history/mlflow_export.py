"""Runs as MLflow runs: parameters, metrics with their intervals, tags and the record itself.

Needs the extra `mlflow`: `mlflow-skinny`, and SQLAlchemy with Alembic for a store in a local SQLite
file. Each run is exported once: the tag `vozmetro.id` tells which are there.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vozmetro.errors import InputError, MissingExtraError
from vozmetro.judge.rows import Row
from vozmetro.measure.storage import check_writable
from vozmetro.report.places import REPORT
from vozmetro.units import plain

EXPERIMENT = "vozmetro"
_METRICS = (
    "p50_ms", "p50_low", "p50_high", "p90_ms", "p90_low", "p90_high", "p99_ms", "p99_low",
    "p99_high", "rtf", "load_ms", "first_ms", "peak_ram", "wer", "wer_low", "wer_high", "n",
)  # fmt: skip
_NAMES = {"peak_ram": "peak_ram_bytes"}
_PARAMETERS = ("subject", "precision", "kind", "threads", "clock")
_TAGS = ("machine", "model", "verdict", "record", "part", "vozmetro")
_MOST_TEXT = 250
# Where one was chosen it stays; else nothing of what is exported is told to anybody.
_QUIET = {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true"}


@dataclass(frozen=True)
class Exported:
    """What an export did.

    Attributes:
        new: Ids that were written.
        known: Ids that were there already.
        uri: The store.
    """

    new: tuple[str, ...]
    known: tuple[str, ...]
    uri: str


def export(rows: Sequence[Row], store: str, experiment: str = EXPERIMENT) -> Exported:
    """Writes rows to an MLflow store, those that it does not have yet.

    Args:
        rows: Of the history.
        store: A tracking URI (`http://...`, `sqlite:///...`), or a folder: there the runs go into
            `mlflow.db` and their files into `artifacts`.
        experiment: Name; made where there is none.

    Raises:
        InputError: `mlflow_failed`, with what MLflow says.
        MissingExtraError: MLflow, or SQLAlchemy for a folder, is not installed.
        OutputError: The folder cannot be written to.
    """
    uri, artifacts = _place(store)
    with _quiet():
        client = _client(uri)
        try:
            found = client.get_experiment_by_name(experiment)
            home = (
                found.experiment_id
                if found is not None
                else client.create_experiment(experiment, artifact_location=artifacts)
            )
            new, known = [], []
            for row in rows:
                key = f"{row.id}/{row.part}" if row.part else row.id
                if _is_there(client, home, key):
                    known.append(key)
                else:
                    _write(client, home, row, key)
                    new.append(key)
        except InputError:
            raise
        except Exception as error:  # of a store far away anything may come
            raise _failed(uri, error) from error
    return Exported(tuple(new), tuple(known), uri)


def _place(store: str) -> tuple[str, str | None]:
    """Returns the tracking URI and where artifacts go; None for the server's own choice."""
    if "://" in store:
        return store, None
    folder = Path(store).absolute()
    check_writable(folder)
    return f"sqlite:///{folder / 'mlflow.db'}", (folder / "artifacts").as_uri()


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Turns MLflow's telemetry and its chatter off."""
    before = {name: os.environ.get(name) for name in _QUIET}
    os.environ.update(_QUIET)
    loggers = [logging.getLogger(name) for name in ("mlflow", "alembic")]
    levels = [one.level for one in loggers]
    for one in loggers:
        one.setLevel(logging.WARNING)
    try:
        yield
    finally:
        for one, level in zip(loggers, levels, strict=True):
            one.setLevel(level)
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _client(uri: str) -> Any:
    try:
        from mlflow.tracking import MlflowClient
    except ImportError as error:
        raise MissingExtraError("mlflow", "mlflow-skinny") from error
    if not uri.startswith(("http://", "https://", "file:")):
        try:
            import alembic  # noqa: F401
            import sqlalchemy  # noqa: F401
        except ImportError as error:
            raise MissingExtraError("mlflow", "sqlalchemy") from error
    try:
        return MlflowClient(tracking_uri=uri, registry_uri=uri)
    except Exception as error:
        raise _failed(uri, error) from error


def _failed(uri: str, error: Exception) -> InputError:
    # A password may stand in an address.
    shown = uri.rpartition("@")[2]
    detail = (str(error).splitlines() or [type(error).__name__])[0].replace(uri, shown)
    return InputError("mlflow_failed", uri=shown, detail=detail[:300])


def _is_there(client: Any, home: str, key: str) -> bool:
    # A quote would end the value; ids that a file made up may hold one.
    safe = key.replace("'", "").replace('"', "").replace("\\", "")
    found = client.search_runs([home], f"tags.`vozmetro.id` = '{safe}'", max_results=1)
    return bool(found)


def _write(client: Any, home: str, row: Row, key: str) -> None:
    from mlflow.entities import Metric, Param, RunTag

    safe = key.replace("'", "").replace('"', "").replace("\\", "")
    at = int(1000 * (row.at or 0.0))
    made = client.create_run(home, start_time=at, run_name=plain(row.name)[:_MOST_TEXT])
    told = {name: getattr(row, name) for name in _METRICS}
    client.log_batch(
        made.info.run_id,
        metrics=[
            Metric(_NAMES.get(name, name), float(value), at, 0)
            for name, value in told.items()
            if value is not None
        ],
        params=[Param(name, str(getattr(row, name))[:_MOST_TEXT]) for name in _PARAMETERS],
        tags=[RunTag(f"vozmetro.{name}", str(getattr(row, name))) for name in _TAGS],
    )
    record = Path(row.file)
    for file in (record, record.with_name(REPORT)):
        if file.is_file():
            client.log_artifact(made.info.run_id, str(file))
    # Last of all: an export that broke off is made again.
    client.set_tag(made.info.run_id, "vozmetro.id", safe)
    client.set_terminated(made.info.run_id, "FINISHED" if row.state == "complete" else "FAILED")
