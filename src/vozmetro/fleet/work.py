"""What a machine does for a fleet: one task at a time, by the functions that `bench` calls."""

from __future__ import annotations

import contextlib
import platform
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from vozmetro import api
from vozmetro.assess import study
from vozmetro.assess.options import QualityOptions
from vozmetro.errors import InputError, VozmetroError
from vozmetro.fleet.parcels import Packed, unpacked
from vozmetro.fleet.plan import Plan
from vozmetro.fleet.tasks import DEAF, Failed, Outcome, Task
from vozmetro.measure.quality_records import QualityStudy
from vozmetro.measure.records import Run
from vozmetro.measure.subject import resolve_subject
from vozmetro.packages import cache_dir


@dataclass(frozen=True)
class Order:
    """A task with all that a machine needs for it.

    Attributes:
        task: Which.
        plan: All of it: how to measure.
        subject: The subject's words.
        corpus: The corpus' words, of the task's stage; None for synthetic audio.
        command: Command line for the record.
    """

    task: Task
    plan: Plan
    subject: Packed
    corpus: Packed | None
    command: tuple[str, ...] = ()


class InterruptedHereError(Exception):
    """Ctrl-C, while the machine worked: what there is of the result does not count."""


def carry_out(order: Order) -> Outcome:
    """Measures or scores a subject on this machine, alone.

    What goes wrong by the subject's fault, or the corpus', is the result. Waits while another fleet
    measures on this machine.

    Raises:
        InterruptedHereError: Ctrl-C.
    """
    words = unpacked(order.subject)
    corpus = None if order.corpus is None else unpacked(order.corpus)
    try:
        with _alone():
            found = (
                _bench(order, words, corpus)
                if order.task.stage == "bench"
                else _score(order, words, str(corpus))
            )
    except VozmetroError as error:
        fields = {name: str(value) for name, value in error.fields.items()}
        return Failed(code=error.code, fields=fields)
    if found.status == "interrupted":
        raise InterruptedHereError
    return found


def _bench(order: Order, words: str, corpus: str | None) -> Run:
    options = replace(order.plan.options(), corpus=corpus, command=order.command)
    run = api.bench(words, options)
    return run.model_copy(
        update={"subject": run.subject.model_copy(update={"name": order.task.subject})}
    )


def _score(order: Order, words: str, corpus: str) -> QualityStudy:
    plan = order.plan
    if resolve_subject(words).kind not in ("stt", "cascade"):
        raise InputError(DEAF, name=order.task.subject)
    options = QualityOptions(
        corpus=corpus,
        languages=plan.languages,
        limit=plan.quality_limit,
        threads=plan.threads,
        seed=plan.seed,
        budget=plan.options().budget,
        command=order.command,
    )
    with tempfile.TemporaryDirectory(prefix="vozmetro-fleet-") as folder:
        found = study.quality([words], options, out=Path(folder), predict=False)
    [system] = found.systems
    named = system.subject.model_copy(update={"name": order.task.subject})
    return found.model_copy(update={"systems": [system.model_copy(update={"subject": named})]})


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    """Holds this machine's slot: what another fleet of this user measures here waits.

    The system lets go of it when the process ends, however it does.
    """
    path = cache_dir() / "fleet" / f"slot-{platform.node()}"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as file:
        try:
            import fcntl
        except ImportError:  # Windows: the slot of the cluster is all there is
            yield
            return
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
