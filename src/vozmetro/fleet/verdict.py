"""From a fleet's folder to its verdict."""

from __future__ import annotations

from vozmetro.fleet.plan import Plan
from vozmetro.fleet.tasks import DEAF, Failed, Results, Task, tasks
from vozmetro.judge.fleet import FleetVerdict, Missing, Placed, fleet_verdict
from vozmetro.measure.quality_records import QualityStudy
from vozmetro.measure.records import Run
from vozmetro.report.quality_judged import Beside, verdict


def judged(plan: Plan, results: Results) -> FleetVerdict:
    """Judges what lies in a fleet's folder.

    Raises:
        InputError: A record cannot be read.
    """
    placed = [_placed(plan, results, task) for task in tasks(plan) if task.stage == "bench"]
    return fleet_verdict(placed, {name: one.price for name, one in plan.classes.items()})


def _placed(plan: Plan, results: Results, task: Task) -> Placed:
    run, study, missing = None, None, []
    scored = Task(task.machine_class, task.place, task.subject, "quality")
    for part in (task, scored) if plan.quality else (task,):
        found = results.outcome(part)
        if isinstance(found, Run):
            run = found
            if run.failure is not None:
                missing.append(Missing(run.failure.code, run.failure.fields))
        elif isinstance(found, QualityStudy):
            # Words heard until something broke off tell nothing of the rest.
            if found.status == "complete":
                study = found
            else:
                failure = found.failure
                missing.append(
                    Missing(failure.code, failure.fields) if failure else Missing("fleet_not_yet")
                )
        elif isinstance(found, Failed):
            if found.code != DEAF:
                missing.append(Missing(found.code, found.fields))
        else:
            missing.append(Missing("fleet_not_yet"))
    decision = None
    if run is not None and run.samples:
        decision = verdict(run, Beside.of([study] if study else []))
    return Placed(
        task.machine_class, task.place, task.subject, run, decision, study, tuple(missing)
    )
