"""What it costs to put one subject in the place of another, measured and saved."""

from __future__ import annotations

from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from vozmetro.errors import InputError
from vozmetro.measure import environment
from vozmetro.measure import swap as measuring
from vozmetro.measure.schedule import Listener, Progress
from vozmetro.measure.subject import resolve_subject
from vozmetro.measure.swap_records import Swap, save
from vozmetro.planning import Options, fit_together, new_id, work_for


def swap(
    a: str,
    b: str,
    options: Options | None = None,
    *,
    swaps: int = 5,
    out: Path | None = None,
    listen: Listener = lambda _: None,
) -> Swap:
    """Measures two subjects alone, together where they fit, and in each other's place.

    Args:
        a: A subject, as for `bench`.
        b: Another one of the same kind.
        options: How; `iterations` is the number of rounds once warm.
        swaps: Times that each takes the other's place.
        out: Folder for `swap.json`; None saves nothing.
        listen: Told about progress.

    Raises:
        InputError: `swap_kinds`, `swaps_range`, and what naming a subject raises.
        ModelError: `does_not_fit`, or a file is missing, damaged or unsafe.
        MeasurementError: A model failed.
    """
    chosen = options or Options()
    if not 1 <= swaps <= 1000:
        raise InputError("swaps_range", given=swaps)
    settings = [chosen.settings(name) for name in (a, b)]
    listen(Progress("verifying", f"{a}, {b}"))
    first, second = (resolve_subject(one.subject, device=chosen.device) for one in settings)
    if first.kind != second.kind:
        raise InputError("swap_kinds", a=first.kind, b=second.kind)
    work, _ = work_for(settings[0], [first, second], listen)
    plan = measuring.Plan(
        targets=(first, second),
        work=work,
        threads=settings[0].threads,
        rounds=chosen.iterations,
        swaps=swaps,
        together=fit_together([first, second]),
    )
    found = measuring.measure(plan, lambda step: listen(Progress("loading", step)))
    record = Swap(
        id=new_id(f"{Path(a).stem}-swap-{Path(b).stem}"),
        created=datetime.now(UTC).isoformat(timespec="milliseconds"),
        vozmetro=version("vozmetro"),
        cpu=environment.read().cpu,
        threads=plan.threads,
        items=len(work),
        rounds=plan.rounds,
        interleaved=plan.together,
        a=found.a,
        b=found.b,
        both_peak_rss=found.both_peak_rss,
        swap_peak_rss=found.swap_peak_rss,
        command=list(chosen.command),
    )
    if out is not None:
        save(record, out)
    return record
