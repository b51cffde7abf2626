"""A plan, carried out: what is missing is ordered, what comes home is kept once."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from vozmetro.fleet.executor import Executor, Listener
from vozmetro.fleet.parcels import Packed, pack_corpus, pack_subject
from vozmetro.fleet.plan import Plan
from vozmetro.fleet.tasks import Outcome, Results, Task
from vozmetro.fleet.work import Order


def run(
    plan: Plan,
    executor: Executor,
    out: Path,
    *,
    command: Sequence[str] = (),
    listen: Listener = lambda _: None,
) -> Results:
    """Carries a plan out, or what of it is not done yet.

    Args:
        plan: What and where.
        executor: By whom.
        out: Folder for the results; one of the same plan is gone on with.
        command: Command line for the records.
        listen: Told about each task.

    Returns:
        The folder with all its results.

    Raises:
        VozmetroError: The plan names what is not there, or the folder holds something else.
        KeyboardInterrupt: Ctrl-C; what is kept stays kept.
    """
    # Everything that can be wrong with the words is known before anything is measured.
    subjects = {words: pack_subject(words) for words in plan.subjects}
    corpora: dict[str, Packed | None] = {
        "bench": pack_corpus(plan.corpus) if plan.corpus else None,
        "quality": pack_corpus(plan.quality) if plan.quality else None,
    }
    results = Results(out, plan)
    results.claim()
    orders = [
        Order(task, plan, subjects[task.subject], corpora[task.stage], tuple(command))
        for task in results.missing()
    ]

    def keep(task: Task, outcome: Outcome) -> None:
        results.keep(task, outcome)

    executor.run(orders, keep, listen)
    return results
