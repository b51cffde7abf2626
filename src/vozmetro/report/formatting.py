"""Records as words: notes, metrics, states and names, shared by every kind of output."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from rich.cells import cell_len, chop_cells

from vozmetro.i18n import catalogue, t
from vozmetro.judge.budget import QUALITY_METRICS
from vozmetro.units import GB, plain, size

if TYPE_CHECKING:
    # Lists of what is known need none of these, and they take longer to import than to print.
    from vozmetro.judge.comparison import Comparison
    from vozmetro.judge.decision import Check, Decision
    from vozmetro.judge.statistics import Interval, RunSummary
    from vozmetro.measure.records import ComparisonRecord, Failure, Note, Run

ICONS = {"pass": "✅", "fail": "❌", "undecided": "❔"}
LATENCY = ("p50", "p90", "p99")
SUMMARY_PERCENT = "95"
"""Of the intervals in summaries and ratios; those of checks follow the budget's alpha."""

Pair = tuple[str, str]
Cleaner = Callable[[object], str]
"""Makes text from outside harmless for one kind of output."""

QUALITY_UNITS = {"wer": " %", "wer_delta": " %", "snr_double": " dB", "mos": ""}
_UNRESOLVED = "notes.percentile_unresolved"
# A fast answer from these is no reason to adopt them.
_UNFIT = ("notes.verdict_suspect", "notes.dummy_weights")
# What `guide.<verdict>` says already, with the ratio.
_SPEED = ("decision.rec_a_faster", "decision.rec_b_faster", "decision.rec_no_difference_shown")


def finite(value: Any) -> Any:
    """Returns a value for JSON: replaces NaN and infinity, which JSON does not have, by None."""
    if isinstance(value, dict):
        return {name: finite(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def note_text(
    note: Note | Failure,
    lang: str,
    clean: Cleaner | None = None,
    section: str = "notes",
) -> str:
    """Returns a note's sentence, or its bare code where this version does not know it.

    Args:
        note: The code may name its section (`decision.adopt`), else it is one of `section`.
        lang: `es` or `en`.
        clean: Makes a field harmless for the output at hand.
        section: Section of the catalogues for a code that names none.
    """
    clean = clean or plain
    key = note.code if "." in note.code else f"{section}.{note.code}"
    fields = {name: clean(value) for name, value in note.fields.items()}
    try:
        # Not through t(): a field may be called `key` or `lang`.
        return catalogue(lang)[key].format(**fields)
    except (KeyError, IndexError, ValueError, AttributeError, TypeError):
        return clean(note.code)


def subject_name(run: Run) -> str:
    """Returns the subject's name; of a path to a model the last part alone, as in the guide."""
    files = [file.path for file in run.subject.files]
    return "+".join(_short(part, files) for part in plain(run.subject.name).split("+"))


def _short(name: str, files: Sequence[str]) -> str:
    bare, at, options = name.rpartition("@")
    if at and "=" in options:
        return f"{_short(bare, files)}@{options}"
    path = name.removeprefix("piper:").removeprefix("piper-onnx:").rstrip("/\\")
    if not path.lower().endswith(".onnx") and not any(file.startswith(path) for file in files):
        return name
    last = path.replace("\\", "/").rsplit("/", 1)[-1]
    return last[: -len(".onnx")] if last.lower().endswith(".onnx") else last


def pair_names(record: ComparisonRecord) -> tuple[str, str]:
    """Returns what to call two compared subjects: whole paths where their last parts are equal."""
    a, b = subject_name(record.a), subject_name(record.b)
    return (a, b) if a != b else (plain(record.a.subject.name), plain(record.b.subject.name))


def partial_text(run: Run, lang: str, clean: Cleaner = plain) -> str:
    """Returns that a run is not complete, and why."""
    text = t("report.partial", lang, status=t(f"report.status_{run.status}", lang))
    if run.failure is None:
        return text
    return f"{text} {note_text(run.failure, lang, clean, 'errors')}"


def all_notes(run: Run, decision: Decision) -> list[Note]:
    """Returns the run's notes and the decision's, each once, in order.

    Percentiles that are not resolvable stand beside their limits instead: see `unresolved`.
    """
    from vozmetro.measure.records import Note

    notes: list[Note] = []
    for note in (*run.notes, *decision.notes):
        if note.code == _UNRESOLVED:
            continue
        bare = Note(code=note.code.removeprefix("notes."), fields=note.fields)
        if bare not in notes:
            notes.append(bare)
    return notes


def number(value: float | None) -> str:
    """Returns milliseconds without the unit: one decimal, three below 10; `–` for none."""
    if value is None or math.isnan(value):
        return "–"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.3f}"


def in_seconds(milliseconds: float) -> str:
    """Returns milliseconds as seconds without the unit, as the guide writes them: `26.88`."""
    return "–" if math.isnan(milliseconds) else f"{milliseconds / 1000:.2f}"


def rate(value: float | None) -> str:
    """Returns inferences per second without the unit; `–` for none."""
    if value is None or math.isnan(value):
        return "–"
    return f"{value:.2f}" if abs(value) < 100 else f"{value:.0f}"


def metric_value(metric: str, value: float, gap: str = " ") -> str:
    """Returns a metric with its unit: `231.2 ms`, `4.33 inf/s`, `1.1 GB`, `18.9 %`.

    Args:
        metric: One of METRICS or QUALITY_METRICS.
        value: In the metric's unit.
        gap: Between number and unit; the guide writes `231.2ms`.
    """
    if math.isnan(value):
        return "–"
    if metric == "throughput":
        return f"{rate(value)} inf/s"
    if metric == "ram":
        return size(value).replace(" ", gap)
    if metric in QUALITY_METRICS:
        return f"{_end(metric, value)}{QUALITY_UNITS[metric].replace(' ', gap)}"
    return f"{number(value)}{gap}ms"


def limit_text(check: Check) -> str:
    """Returns a limit as the guide writes it: `<240ms`, `>4 inf/s`, `<4GB`."""
    if check.metric == "throughput":
        return f">{check.limit:g} inf/s"
    if check.metric == "ram":
        return f"<{check.limit / GB:g}GB"
    if check.metric in QUALITY_METRICS:
        scale = 100 if check.metric in ("wer", "wer_delta") else 1
        sign = "≥" if check.metric == "mos" else "≤"
        return f"{sign}{scale * check.limit:g}{QUALITY_UNITS[check.metric].strip()}"
    return f"<{check.limit:g}ms"


def ends(low: float | None, high: float | None, show: Callable[[float | None], str]) -> str:
    """Returns `[low, high]`, with `–` for an end that is not resolved."""
    return f"[{show(low)}, {show(high)}]"


def check_interval(check: Check) -> str:
    """Returns a check's interval without the unit; empty for RAM, which is one number."""
    if check.metric == "ram":
        return ""
    if check.metric in QUALITY_METRICS:
        return ends(check.low, check.high, lambda one: _end(check.metric, one))
    show = rate if check.metric == "throughput" else number
    return ends(check.low, check.high, show)


def _end(metric: str, value: float | None) -> str:
    if value is None or not math.isfinite(value):
        return "–"
    if metric == "mos":
        return f"{value:.2f}"
    return f"{100 * value if metric in ('wer', 'wer_delta') else value:.1f}"


def ratio_text(ratio: Interval) -> str:
    """Returns `0.512 [0.498, 0.527]`."""

    def show(value: float | None) -> str:
        return "–" if value is None or math.isnan(value) else f"{value:.3f}"

    return f"{show(ratio.value)} {ends(ratio.low, ratio.high, show)}"


def seconds(value: float) -> str:
    """Returns an audio length: at most two decimals, no trailing zeros."""
    return f"{value:.2f}".rstrip("0").rstrip(".")


def lengths_text(summary: RunSummary, lang: str) -> str:
    """Returns what the guide's "promedio" goes over: how many inputs, of which lengths."""
    lengths = [seconds(value) for value in summary.lengths_s if value > 0]
    lengths = list(dict.fromkeys(lengths))
    items = len(summary.per_item)
    if summary.prompt_tokens:
        tokens = ", ".join(map(str, summary.prompt_tokens))
        return t("report.over_prompts", lang, items=items, tokens=tokens)
    if not lengths:
        return t("report.over_inputs", lang, items=items)
    if len(lengths) > 8:
        return t("report.over_range", lang, items=items, shortest=lengths[0], longest=lengths[-1])
    return t("report.over_lengths", lang, items=items, lengths=", ".join(lengths))


def confidence_text(decision: Decision, summary: RunSummary, lang: str) -> str:
    """Returns "con una confianza del 95 %, 120 inferencias"."""
    percent = f"{decision.confidence * 100:g}"
    return t("report.confidence", lang, percent=percent, n=summary.overall.n)


def sure_text(decision: Decision, summary: RunSummary, lang: str) -> str:
    """Returns how sure the verdict is, or that there is none yet."""
    key = "report.sure_open" if decision.status == "undecided" else "report.sure"
    return t(key, lang, text=confidence_text(decision, summary, lang))


def unresolved(summary: RunSummary, decision: Decision, lang: str) -> list[str]:
    """Returns a sentence for each overall percentile that the samples do not resolve."""
    said = {
        note.fields.get("metric"): note_text(note, lang)
        for note in decision.notes
        if note.code == _UNRESOLVED
    }
    found = []
    for name in LATENCY:
        check = decision.check(name)
        if check.low is None or check.high is None:
            needed = getattr(summary.overall, name).n_needed
            key = "report.unresolved" if needed else "report.unresolved_open"
            worth = f"{summary.overall.n_effective:.0f}"
            fields = {"name": name.upper(), "n": worth, "needed": needed}
            found.append(said.get(name.upper()) or t(key, lang, **fields))
    return found


def pair_notes(comparison: Comparison, lang: str, clean: Cleaner = plain) -> list[str]:
    """Returns the notes on both sides, each with its letter; what holds for both is said once."""
    record = comparison.record
    said: dict[str, str] = {}
    for letter, run, decision in (
        ("A", record.a, comparison.decision_a),
        ("B", record.b, comparison.decision_b),
    ):
        for note in all_notes(run, decision):
            text = note_text(note, lang, clean)
            said[text] = f"{said[text]}, {letter}" if text in said else letter
    return [f"{letters}: {text}" for text, letters in said.items()]


def unfit(decision: Decision) -> bool:
    """Whether a latency that holds says nothing: suspect output or random weights."""
    return any(note.code in _UNFIT for note in decision.notes)


def recommendation(comparison: Comparison, lang: str, clean: Cleaner = plain) -> list[str]:
    """Returns the sentences on which of two to use, without the one on their ratio."""
    notes = [note for note in comparison.recommendation if note.code not in _SPEED]
    return [note_text(note, lang, clean) for note in notes]


def steps(decision: Decision, lang: str, clean: Cleaner = plain) -> tuple[str, list[Pair]]:
    """Returns a title and the next steps, each with its mark.

    Scenario C leaves the choice to a person: the guide letters its options instead of numbering.
    """
    notes = decision.next_steps
    options = bool(notes) and notes[0].code.startswith("decision.option_")
    marks = [f"{chr(ord('A') + n)})" if options else f"{n + 1}." for n in range(len(notes))]
    title = t("report.options" if options else "report.next_steps", lang)
    texts = [note_text(note, lang, clean) for note in notes]
    return title, list(zip(marks, texts, strict=True))


def waiting_text(decision: Decision, lang: str) -> str:
    """Returns what an undecided verdict waits for, in words."""
    if not any(check.gates and check.status == "undecided" for check in decision.checks):
        return t("report.waits_for_sound_run", lang)
    return runs_needed_text(decision.runs_needed, lang)


def runs_needed_text(needed: int | None, lang: str) -> str:
    """Returns how many more inferences would decide one limit, in words."""
    if needed is None:
        return t("report.runs_unknown", lang)
    return t("report.runs_needed", lang, n=needed)


def state(status: str, lang: str) -> str:
    """Returns `✅ cumple`, `❌ no cumple` or `❔ sin decidir`."""
    return f"{ICONS[status]} {t(f'report.state_{status}', lang)}"


def failing_gates(decision: Decision) -> list[Check]:
    """Returns the gating checks that fail."""
    return [check for check in decision.checks if check.gates and check.status == "fail"]


def clock_text(run: Run, lang: str) -> str:
    """Returns the name of the run's clock with what it spans."""
    if (run.subject.kind, run.subject.clock) == ("stt", "post-endpoint"):
        return t("report.clock_post_endpoint_stt", lang)
    return t(f"report.clock_{run.subject.clock.replace('-', '_')}", lang)


def part_name(name: str, lang: str) -> str:
    """Returns a latency part's name, or the record's own word for an unknown one."""
    return catalogue(lang).get(f"report.part_{name}", plain(name))


def when(created: str, lang: str) -> str:
    """Returns an ISO 8601 moment as `29 octubre 2025, 10:31 UTC`; as it is if it is not one."""
    try:
        year, month, day = (int(part) for part in created[:10].split("-"))
        name = t("report.months", lang).split()[month - 1]
    except (ValueError, IndexError):
        return plain(created)
    date = t("report.date", lang, day=day, month=name, year=year)
    clock = created[11:16]
    return f"{date}, {clock} UTC" if len(clock) == 5 else date


def clip(text: str, width: int) -> str:
    """Returns text in at most `width` cells, its middle replaced by `…` where it is longer.

    The end of a name often tells models apart (`-int8`), so both ends are kept.
    """
    if cell_len(text) <= width:
        return text
    tail = (width - 1) // 2
    start = chop_cells(text, width - 1 - tail)[0]
    end = chop_cells(text[::-1], tail)[0][::-1] if tail else ""
    return f"{start}…{end}"


def pad(text: str, width: int) -> str:
    """Returns text filled with spaces to `width` cells; an emoji takes two."""
    return text + " " * max(0, width - cell_len(text))


def wrap(text: str, width: int, first: str = "", rest: str | None = None) -> list[str]:
    """Returns text in lines of at most `width` cells; words longer than a line are broken.

    Args:
        text: Line breaks in it are kept.
        width: In cells.
        first: Put before the first line.
        rest: Put before the others; as many spaces as `first` is wide if left out.
    """
    rest = " " * cell_len(first) if rest is None else rest
    lines: list[str] = []
    for part in text.split("\n"):
        indent = part[: len(part) - len(part.lstrip(" "))]
        line = (first if not lines else rest) + indent
        filled = False
        for word in _fitting(part.split(), width - cell_len(rest + indent)):
            if filled and cell_len(line) + 1 + cell_len(word) > width:
                lines.append(line)
                line, filled = rest + indent, False
            line += f" {word}" if filled else word
            filled = True
        lines.append(line.rstrip())
    return lines


def _fitting(words: Sequence[str], width: int) -> list[str]:
    return [piece for word in words for piece in chop_cells(word, max(1, width))]
