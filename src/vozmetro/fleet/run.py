"""A plan, carried out: what is missing is ordered, what comes home is kept once."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from vozmetro.fleet.executor import Executor, Listener
from vozmetro.fleet.parcels import Packed, pack_corpus, pack_subject, parcels
from vozmetro.fleet.plan import Plan, Stage
from vozmetro.fleet.tasks import Results
from vozmetro.fleet.work import Order
from vozmetro.planning import corpus_from_anywhere, from_anywhere
from vozmetro.speech.corpus import open_sources


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
    sends = executor.sends and not plan.shared
    subjects = {words: pack_subject(words) for words in plan.subjects}
    corpora: dict[Stage, Packed | None] = {
        "bench": _corpus(plan.corpus, sends) if plan.corpus else None,
        "quality": _corpus(plan.quality, sends) if plan.quality else None,
    }
    versions = {"vozmetro": version("vozmetro")}
    for words, packed in (*subjects.items(), *corpora.items()):
        if digests := [one.digest for one in parcels(packed or ())]:
            versions[words] = " ".join(digests)
    results = Results(out, plan)
    results.claim(versions)
    orders = [
        Order(
            task, plan, subjects[task.subject] if sends else (from_anywhere(task.subject),),
            corpora[task.stage], tuple(command),
        )
        for task in results.missing()
    ]  # fmt: skip
    executor.run(orders, results, listen)
    return results


def _corpus(words: str, sends: bool) -> Packed:
    """A corpus' words, which must name something that is here."""
    if sends:
        return pack_corpus(words)
    open_sources(words)
    return (corpus_from_anywhere(words),)
