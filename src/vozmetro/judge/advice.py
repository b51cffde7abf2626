"""What a verdict says in words: catalogue codes with their fields, after the guide's scenarios.

The texts are the guide's wherever it fixes them; `decision.*` and `notes.*` in the catalogues hold
them. Numbers that the guide expects but nobody measured here are labelled as such there.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vozmetro.judge.budget import QUALITY_METRICS, Budget
from vozmetro.judge.checks import Check, Scenario, Status
from vozmetro.judge.rounds import Rounds
from vozmetro.judge.stationarity import MIN_TO_CHECK, Stability
from vozmetro.judge.statistics import samples_to_decide
from vozmetro.measure.records import Note, Run
from vozmetro.units import duration, ms

LABELS = {
    "p50": "P50",
    "p90": "P90",
    "p99": "P99",
    "throughput": "throughput",
    "ram": "RAM",
    "wer": "WER",
    "wer_delta": "ΔWER",
    "snr_double": "SNR (2×WER)",
    "mos": "MOS",
}
"""Names of metrics that read the same in every language."""

SUSPECT_NOTES = ("constant_output", "nan_output", "silent_output")
"""Notes of `measure` after which a fast answer proves nothing."""

# Dependence smaller than this is not worth a sentence.
_TAU_WORTH_SAYING = 1.2
_NAMELESS = "modelo"


@dataclass(frozen=True)
class Case:
    """All that the words depend on.

    Attributes:
        run: What was measured; None for plain latencies.
        budget: The limits.
        checks: In the order of METRICS.
        slow: The P50 against `Budget.slow_ms`.
        per_item: P50 check by item.
        status: Overall.
        candidates: Scenarios still possible.
        how: Stability of the run.
        rounds: Its complete rounds.
    """

    run: Run | None
    budget: Budget
    checks: tuple[Check, ...]
    slow: Check
    per_item: dict[str, Check]
    status: Status
    candidates: tuple[Scenario, ...]
    how: Stability
    rounds: Rounds

    @property
    def failed(self) -> bool:
        """The measurement failed and what it showed before decides nothing."""
        return self.run is not None and self.run.status == "failed" and self.status != "fail"

    @property
    def scenario(self) -> Scenario | None:
        """The scenario, None while undecided."""
        return self.candidates[0] if len(self.candidates) == 1 and not self.failed else None

    @property
    def kind(self) -> str:
        """Subject kind; plain latencies count as a graph's."""
        return self.run.subject.kind if self.run else "graph"

    @property
    def suspect(self) -> str:
        """Codes of the run's notes that make its outputs suspect, empty for none."""
        return ", ".join(suspect_codes(self.run)) if self.run else ""

    @property
    def dummy(self) -> bool:
        """The weights are random."""
        return self.run is not None and self.run.subject.weights == "dummy"

    def gating(self, status: Status) -> str:
        """Names of the gating limits in that state."""
        names = [LABELS[c.metric] for c in self.checks if c.gates and c.status == status]
        return ", ".join(names)

    def fields(self) -> dict[str, str]:
        """Values that any of the texts may use."""
        p50, subject = self.checks[0], self.run.subject if self.run else None
        name = short_name(self.run) if self.run else _NAMELESS
        models = [file.path for file in subject.files] if subject else []
        onnx = [path for path in models if path.endswith(".onnx")]
        file = _base(onnx[0]) if len(onnx) == 1 else name
        return {
            "name": name,
            "file": file,
            "p50": ms(p50.value),
            "low": ms(p50.low),
            "high": ms(p50.high),
            "fast": f"{self.budget.p50_ms:g}",
            "slow": f"{self.budget.slow_ms:g}",
            "candidates": "/".join(self.candidates),
            "failing": self.gating("fail"),
            "waiting": self.gating("undecided"),
            "reason": self.suspect,
        }


def suspect_codes(run: Run) -> list[str]:
    """Returns the run's notes that make its outputs suspect, in the order of SUSPECT_NOTES."""
    found = [note.code for note in run.notes]
    return [code for code in SUSPECT_NOTES if code in found]


def headline(case: Case) -> Note:
    """Returns the decision in one sentence (for C with the guide's analysis below it)."""
    if case.failed:
        return _say(case, "headline_failed")
    if case.scenario is None:
        fails = case.candidates == ("C", "B")
        return _say(case, "headline_c_or_b" if fails else "headline_undecided")
    if case.scenario == "A":
        return _say(case, _headline_a(case))
    if case.scenario == "B":
        return _say(case, "headline_b")
    return _say(case, "headline_c_cascade" if case.kind == "cascade" else "headline_c")


def _headline_a(case: Case) -> str:
    if case.status == "fail":
        return "headline_a_blocked"
    if case.suspect:
        return "headline_a_suspect"
    if case.dummy:
        return "headline_a_dummy"
    if case.status == "undecided":
        return "headline_a_waiting"
    if case.kind == "lm":
        return "headline_a_lm"
    return "headline_a" if case.kind == "graph" else f"headline_a_{case.kind}"


def next_steps(case: Case) -> tuple[Note, ...]:
    """Returns what to do next, in order, without numbers."""
    if case.failed:
        return (_say(case, "step_fix_failure"),)
    if case.scenario is None:
        return _more_steps(case, case.slow if case.candidates == ("C", "B") else case.checks[0])
    if case.scenario == "A":
        return _steps_a(case)
    return _steps_b(case) if case.scenario == "B" else _steps_c(case)


def timeline(case: Case) -> Note:
    """Returns how long the next steps take."""
    if case.failed or case.scenario is None:
        return _say(case, "timeline_open")
    if case.scenario == "A":
        if case.status == "fail" or case.suspect or case.dummy:
            return _say(case, "timeline_blocked")
        return _say(case, "timeline_a" if case.status == "pass" else "timeline_open")
    if case.scenario == "B" and case.kind != "graph":
        # The guide's 1-2 days are for building the pipeline that this subject is a part of.
        return _say(case, "timeline_b_parts")
    return _say(case, f"timeline_{case.scenario.lower()}")


def notes(case: Case) -> tuple[Note, ...]:
    """Returns what a reader must know about the verdict."""
    found = [*_run_notes(case)]
    if case.rounds.ms.size:
        found += _series_notes(case)
    for check in case.checks[1:3]:
        if check.runs_used and (check.low is None or check.high is None):
            p = {"p90": 0.9, "p99": 0.99}[check.metric]
            fields = {
                "metric": LABELS[check.metric],
                "n": f"{check.runs_used:.0f}",
                "needed": str(samples_to_decide(p, case.budget.alpha)),
            }
            found.append(Note(code="notes.percentile_unresolved", fields=fields))
    return tuple(found)


def _run_notes(case: Case) -> list[Note]:
    if case.run is None:
        plain = "ram" in case.budget.gates
        return [Note(code="notes.ram_unknown")] if plain else []
    found = []
    if case.run.status == "failed":
        found.append(Note(code="notes.run_failed"))
    elif case.run.status in ("interrupted", "running"):
        found.append(Note(code="notes.run_interrupted"))
    if case.suspect and case.status != "fail":
        found.append(Note(code="notes.verdict_suspect", fields={"reason": case.suspect}))
    if case.dummy:
        found.append(Note(code="notes.dummy_weights"))
    if case.kind == "lm":
        found.append(Note(code="notes.language_stage"))
    if math.isnan(case.checks[4].value):
        found.append(Note(code="notes.ram_unknown_run"))
    return found


def _series_notes(case: Case) -> list[Note]:
    found = []
    rounds, items = case.rounds.ms.shape
    start, tau = int(case.how.start[0]), float(case.how.tau[0])
    kept = (rounds - start) * items
    if start:
        fields = {
            "left_out": str(start * items),
            "n": str(kept),
            "change": f"{math.expm1(float(case.how.change[0])) * 100:+.0f}%",
        }
        found.append(Note(code="notes.drift_left_out", fields=fields))
    if case.how.drifting[0]:
        found.append(Note(code="notes.still_drifting"))
    if tau >= _TAU_WORTH_SAYING:
        fields = {
            "rho": f"{float(case.how.rho[0]):.2f}",
            "n": str(kept),
            "effective": f"{kept / tau:.0f}",
        }
        found.append(Note(code="notes.autocorrelated", fields=fields))
    if rounds * items < MIN_TO_CHECK and case.checks[0].status != "undecided":
        fields = {"n": str(rounds * items), "needed": str(MIN_TO_CHECK)}
        found.append(Note(code="notes.few_samples", fields=fields))
    sides: dict[str, list[str]] = {"pass": [], "fail": []}
    for item, check in case.per_item.items():
        if check.status in sides:
            sides[check.status].append(item)
    if sides["pass"] and sides["fail"]:
        fields = {"passing": _some(sides["pass"]), "failing": _some(sides["fail"])}
        found.append(Note(code="notes.items_disagree", fields=fields))
    return found


def _steps_a(case: Case) -> tuple[Note, ...]:
    if case.status == "fail":
        return _all(case, "step_fix_gates", "step_measure_again")
    if case.suspect:
        return _all(case, "step_check_output", "step_measure_again")
    if case.dummy:
        return _all(case, "step_real_weights", "step_measure_again")
    if case.status == "undecided":
        waiting = next(c for c in case.checks if c.gates and c.status == "undecided")
        return _more_steps(case, waiting)
    steps = ["step_a_integrate", "step_a_quality", "step_a_keep", "step_a_hybrid"]
    if case.kind in ("stt", "tts"):
        steps[1:2] = ["step_measure_cascade", f"step_a_quality_{case.kind}"]
    if case.kind == "lm":
        steps[1:2] = ["step_a_speech", "step_a_quality_lm"]
    return _all(case, *steps)


def _steps_b(case: Case) -> tuple[Note, ...]:
    over_second = case.checks[0].value >= 1000
    if case.kind == "cascade":
        tiers = "step_b_tiers_cascade_slow" if over_second else "step_b_tiers_cascade"
        return (*_dominant(case), *_all(case, "step_b_keep", tiers))
    if case.kind in ("stt", "tts"):
        return _all(case, f"step_b_lighter_{case.kind}", "step_measure_cascade", "step_b_keep")
    tiers = "step_b_tiers_slow" if over_second else "step_b_tiers"
    return _all(case, "step_b_pipeline", "step_b_keep", tiers)


def _steps_c(case: Case) -> tuple[Note, ...]:
    if case.kind == "cascade":
        return (*_all(case, "option_c_accept", "option_c_tier_cascade"), *_dominant(case))
    return _all(case, "option_c_accept", "option_c_tier", "option_c_optimize")


def _dominant(case: Case) -> tuple[Note, ...]:
    """Says which part of a cascade takes most of its latency, and how to speed it up."""
    rows = case.run.samples if case.run else []
    taken = {
        part: [row.parts[key] for row in rows if key in row.parts]
        for part, key in (("stt", "stt"), ("tts", "tts_first_audio"))
    }
    known = {part: float(np.median(values)) for part, values in taken.items() if values}
    if len(known) < 2:
        return _all(case, "option_c_optimize")
    part = max(known, key=lambda name: known[name])
    share = known[part] / sum(known.values())
    extra = {"part": part.upper(), "part_ms": ms(known[part]), "share": f"{share * 100:.0f} %"}
    return (_say(case, f"step_dominant_{part}", **extra),)


def _more_steps(case: Case, check: Check) -> tuple[Note, ...]:
    if check.metric in QUALITY_METRICS:
        known = bool(check.runs_used)
        if check.metric == "mos":
            key = "step_mos_more" if known else "step_mos_measure"
        else:
            key = "step_quality_more" if known else "step_quality_measure"
        asked = {"wer_delta": " --baseline MODEL", "snr_double": " --conditions ssn"}
        more = asked.get(check.metric, "")
        return (_say(case, key, metric=LABELS[check.metric], options=more),)
    if check.runs_needed is not None:
        runs = check.runs_needed
        mean = float(case.rounds.ms.mean()) if case.rounds.ms.size else math.nan
        extra = {"runs": str(runs), "time": duration(runs * mean / 1000)}
        # A run that was to stop at its iterations has nothing to resume.
        resumable = case.run is not None and case.run.settings.until == "decided"
        return (_say(case, "step_more_runs" if resumable else "step_more_iterations", **extra),)
    if not case.rounds.ms.size or math.isnan(check.value):
        return (_say(case, "step_measure"),)
    if case.how.drifting[0]:
        return (_say(case, "step_more_drift"),)
    return (_say(case, "step_too_close", metric=LABELS[check.metric]),)


def _all(case: Case, *keys: str) -> tuple[Note, ...]:
    return tuple(_say(case, key) for key in keys)


def _say(case: Case, key: str, **extra: str) -> Note:
    return Note(code=f"decision.{key}", fields={**case.fields(), **extra})


def _some(names: Sequence[str], most: int = 5) -> str:
    """Joins names, the first few of many."""
    more = f" +{len(names) - most}" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def short_name(run: Run) -> str:
    """Returns the subject's name; of a path to a model the last part without `.onnx`."""
    files = [file.path for file in run.subject.files]

    def short(part: str) -> str:
        bare, at, options = part.rpartition("@")
        if at and "=" in options:
            return f"{short(bare)}@{options}"
        known = any(file.startswith(part) for file in files)
        if not known and not part.lower().endswith(".onnx"):
            return part
        return re.sub(r"\.onnx$", "", _base(part.rstrip("/\\")), flags=re.IGNORECASE)

    return "+".join(short(part) for part in run.subject.name.split("+"))


def _base(path: str) -> str:
    """Returns the last part of a path."""
    return path.replace("\\", "/").rsplit("/", 1)[-1]
