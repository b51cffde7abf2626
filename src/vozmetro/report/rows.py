"""What tables hold, as text: the same rows for the terminal, the guide's layout and Markdown."""

from __future__ import annotations

import math
from dataclasses import dataclass
from os.path import commonpath

from vozmetro.i18n import t
from vozmetro.judge.comparison import Comparison
from vozmetro.judge.decision import Check, Decision
from vozmetro.judge.statistics import RunSummary
from vozmetro.measure.records import Environment, Memory, Run, Session, Subject
from vozmetro.report.formatting import (
    ICONS,
    Cleaner,
    Pair,
    check_interval,
    in_seconds,
    limit_text,
    number,
    pair_names,
    part_name,
    rate,
    ratio_text,
    seconds,
    subject_name,
    when,
)
from vozmetro.report.words import percentage, words_of
from vozmetro.units import GB, count, ms, percent, plain, size

PHASES = ("start", "loaded", "warm", "end")
"""Phases of a worker's life at which its RAM is looked at, in order."""
INPUT_COLUMNS = ("item", "input", "dtype", "shape", "rule")
"""Keys `report.col_<key>` of the headings of `input_rows`."""


@dataclass(frozen=True)
class ComparisonRow:
    """One line of the comparison table.

    Attributes:
        key: `model`, `load`, `warmup`, `p50`, `p99`, `meets`, `throughput`, `ram`, `wer`,
            `ratio`.
        label: In the guide's words.
        a: The first subject's value.
        b: The second's.
        difference: A - B with its arrow and percentage, or `N/A`.
    """

    key: str
    label: str
    a: str
    b: str
    difference: str


def head_rows(run: Run, lang: str, clean: Cleaner = plain) -> list[Pair]:
    """Returns the first facts of the guide's report: date, hardware, ONNX Runtime.

    Args:
        run: What was measured.
        lang: `es` or `en`.
        clean: Makes text from outside harmless for the output at hand.
    """
    env = run.environment
    hardware = t(
        "report.hardware",
        lang,
        cpu=clean(env.cpu),
        cores=env.cores_allowed,
        ram=size(env.ram_total).replace(" ", ""),
        device=t("report.cpu_only", lang)
        if run.subject.device == "cpu"
        else clean(env.gpu or run.subject.device),
    )
    version = env.versions.get("onnxruntime", "")
    rows = (
        ("date", clean(when(run.created, lang))),
        ("hardware", hardware),
        ("ort", clean(version) if version else t("report.not_used", lang)),
    )
    return [(t(f"report.head_{key}", lang), value) for key, value in rows]


def model_rows(
    run: Run, lang: str, clean: Cleaner = plain, path: Cleaner | None = None
) -> list[Pair]:
    """Returns the guide's facts of the model.

    Args:
        run: What was measured.
        lang: `es` or `en`.
        clean: Makes text from outside harmless for the output at hand.
        path: The same for the path of its files.
    """
    subject = run.subject
    label = f"{subject.format} {subject.precision}"
    if subject.weights == "dummy":
        label += f", {t('report.dummy_weights', lang)}"
    rows = [
        ("name", clean(subject_name(run))),
        ("path", (path or clean)(_folder(run)) or t("report.no_files", lang)),
        ("size", size(subject.bytes) if subject.files else "–"),
        ("format", clean(label)),
        ("parameters", count(subject.parameters)),
        ("engines", clean(", ".join(subject.engines)) or "–"),
        ("threads", str(run.settings.threads)),
    ]
    return [(t(f"report.model_{key}", lang), value) for key, value in rows]


def _folder(run: Run) -> str:
    paths = [file.path for file in run.subject.files]
    try:
        return commonpath(paths) if paths else ""
    except ValueError:  # absolute and relative paths mixed
        return paths[0]


def subject_parts(run: Run, lang: str) -> list[str]:
    """Returns what the subject is, in short pieces: format, parameters, size, threads."""
    subject = run.subject
    threads = run.settings.threads
    words = [
        plain(f"{subject.format} {subject.precision}"),
        t("report.parameters", lang, n=count(subject.parameters)) if subject.parameters else "",
        size(subject.bytes) if subject.files else "",
        t("report.threads" if threads != 1 else "report.thread", lang, n=threads),
        t("report.on_cuda", lang) if subject.device == "cuda" else "",
        dummy_text(subject, lang),
    ]
    return [word for word in words if word]


def dummy_text(subject: Subject, lang: str) -> str:
    """Returns that the weights are random, with what makes them again; empty for real ones."""
    if subject.weights != "dummy":
        return ""
    told = [
        plain(subject.architecture),
        "" if subject.seed is None else t("report.dummy_seed", lang, seed=subject.seed),
        plain(subject.architecture_sha256[:12]),
    ]
    words = ", ".join(one for one in told if one)
    return t("report.dummy_weights", lang) + (f" ({words})" if words else "")


def time_rows(run: Run, summary: RunSummary, lang: str) -> list[Pair]:
    """Returns load, first inference, warm-up, steady state and after-idle, apart."""
    enough = "report.warmup_enough" if summary.warmup_sufficient else "report.warmup_short"
    overall = summary.overall
    gap = max((session.idle_gap_s for session in run.sessions), default=0.0)
    idle = (
        t("report.idle_value", lang, value=ms(summary.idle_ms), gap=seconds(gap))
        if summary.idle_ms is not None
        else t("report.not_measured", lang)
    )
    rows = [
        (t("report.time_load", lang), f"{in_seconds(summary.load_ms)} s"),
        (t("report.time_first", lang), ms(summary.first_ms)),
        (
            t("report.time_warmup", lang),
            t(enough, lang, value=ms(summary.warmup_ms), n=summary.warmup_runs),
        ),
        (
            t("report.time_steady", lang),
            t(
                "report.steady_value",
                lang,
                mean=ms(overall.mean),
                sd=number(overall.sd),
                low=number(overall.min),
                high=number(overall.max),
            ),
        ),
        (t("report.time_idle", lang), idle),
    ]
    if summary.rtf:
        speed = t("report.rtf_value", lang, rtf=f"{summary.rtf:.3f}", rtfx=f"{1 / summary.rtf:.1f}")
        rows.append(("RTF", speed))
    rows.extend(
        (part_name(name, lang), f"P50 {ms(value)}") for name, value in summary.parts_p50.items()
    )
    if summary.cpu_cores is not None:
        cores = t(
            "report.cpu_value",
            lang,
            used=f"{summary.cpu_cores:.2f}",
            allowed=run.environment.cores_allowed,
        )
        rows.append((t("report.cpu", lang), cores))
    return rows


def memory_rows(run: Run, summary: RunSummary, lang: str) -> list[tuple[str, str, str, str]]:
    """Returns phase, RSS, USS and PSS of the session with the highest peak, then the peak."""
    worst = heaviest(run)
    if worst is None:
        return []
    rows = [
        (t(f"report.phase_{phase}", lang), *_memory(worst.memory[phase]))
        for phase in PHASES
        if phase in worst.memory
    ]
    rows.append((t("report.phase_peak", lang), size(summary.peak_rss), "–", "–"))
    return rows


def heaviest(run: Run) -> Session | None:
    """Returns the session with the highest peak; None where there is none."""
    return max(run.sessions, key=lambda session: session.peak_rss, default=None)


def _memory(memory: Memory) -> tuple[str, str, str]:
    return size(memory.rss), size(memory.uss), size(memory.pss)


def item_state_heading(decision: Decision) -> str:
    """Returns the heading of the items' states: the limit that they are held against."""
    return limit_text(decision.check("p50"))


def item_rows(
    run: Run, summary: RunSummary, decision: Decision
) -> list[tuple[str, str, str, str, str, str, str]]:
    """Returns item, seconds, n, P50, P90, max (ms) and the P50's state, for each utterance."""
    lengths = {item.id: item.seconds for item in run.items}
    rows = []
    for name, item in summary.per_item.items():
        check = decision.per_item.get(name)
        rows.append(
            (
                plain(name),
                seconds(lengths[name]) if lengths.get(name) else "–",
                str(item.n),
                number(item.p50.value),
                number(item.p90.value),
                number(item.max),
                ICONS[check.status] if check else "–",
            )
        )
    return rows


def input_rows(run: Run) -> list[tuple[str, str, str, str, str]]:
    """Returns how the inputs of a graph got their shapes, see INPUT_COLUMNS."""
    return [
        (
            plain(item.id),
            plain(found.name),
            plain(found.dtype),
            "×".join(map(str, found.shape)),
            plain(found.rule),
        )
        for item in run.items
        for found in item.inputs
    ]


def transcript_rows(run: Run) -> list[tuple[str, str, str]]:
    """Returns item, reference and what the model heard, for speech to text and cascades."""
    if run.subject.kind not in ("stt", "cascade"):
        return []
    measured = {sample.item for sample in run.samples}
    return [
        (plain(item.id), plain(item.text) or "–", plain(item.output) or "–")
        for item in run.items
        if item.id in measured
    ]


def environment_rows(environment: Environment, lang: str) -> list[Pair]:
    """Returns the machine and its state; what could not be read is left out."""
    env = environment
    cores = t(
        "report.env_cores_value",
        lang,
        allowed=env.cores_allowed,
        logical=env.cores_logical,
        physical=env.cores_physical or "–",
        quota="–" if env.cgroup_quota is None else f"{env.cgroup_quota:g}",
    )
    memory = t(
        "report.env_ram_value",
        lang,
        total=size(env.ram_total),
        available=size(env.ram_available),
        limit=size(env.ram_limit),
    )
    frequency = "" if env.frequency_mhz is None else f"{env.frequency_mhz:.0f} MHz"
    versions = ", ".join(f"{name} {value}" for name, value in sorted(env.versions.items()))
    rows = [
        ("cpu", plain(env.cpu)),
        ("cores", cores),
        ("frequency", " · ".join(part for part in (frequency, plain(env.governor)) if part)),
        ("power", t(f"report.power_{env.power}", lang)),
        ("ram", memory),
        ("os", plain(env.os)),
        ("virtualization", plain(env.virtualization)),
        ("load", "" if env.load is None else f"{env.load:.2f}"),
        ("python", plain(env.python)),
        ("versions", plain(versions)),
        ("gpu", plain(env.gpu)),
        ("noise", noise_text(env, lang)),
    ]
    return [(t(f"report.env_{key}", lang), value) for key, value in rows if value]


def noise_text(environment: Environment, lang: str) -> str:
    """Returns the smallest difference that this machine resolves today."""
    noise = environment.noise
    if noise is None:
        return t("report.noise_none", lang)
    return t(
        "report.noise_value",
        lang,
        percent=f"{noise.resolvable * 100:.2f}",
        pairs=noise.pairs,
        ratio=f"{noise.ratio:.3f}",
        spread=f"{noise.spread:.2f}",
    )


def limit_row(check: Check, lang: str) -> tuple[str, str, str]:
    """Returns a check's name, interval and limit."""
    return t(f"report.metric_{check.metric}", lang), check_interval(check), limit_text(check)


def difference(a: float, b: float, digits: int) -> str:
    """Returns `⬇️ -1.23 (-7%)`: how far A is from B, `=` where it rounds to nothing."""
    if math.isnan(a) or math.isnan(b):
        return "–"
    text = f"{a - b:+.{digits}f}"
    if float(text) == 0:
        return "="
    arrow = "⬇️" if a < b else "⬆️"
    return f"{arrow} {text} ({percent(a / b if b else None)})"


def _ms_digits(*values: float) -> int:
    smallest = min(abs(value) for value in values)
    return 0 if smallest >= 100 else 1 if smallest >= 10 else 3


def comparison_rows(comparison: Comparison, lang: str) -> list[ComparisonRow]:
    """Returns the guide's comparison table, with RAM, WER and the ratio's interval added."""
    a, b = comparison.a, comparison.b
    check_a, check_b = comparison.decision_a.check("p50"), comparison.decision_b.check("p50")
    record = comparison.record

    def row(key: str, text_a: str, text_b: str, change: str = "N/A") -> ComparisonRow:
        label = t(f"guide.row_{key}", lang, limit=limit_text(check_a))
        return ComparisonRow(key, label, text_a, text_b, change)

    def time(key: str, of_a: float, of_b: float) -> ComparisonRow:
        change = difference(of_a / 1000, of_b / 1000, 2)
        return row(key, in_seconds(of_a), in_seconds(of_b), change)

    def in_ms(key: str, of_a: float, of_b: float, mark: str = "") -> ComparisonRow:
        change = difference(of_a, of_b, _ms_digits(of_a, of_b)) + mark
        return row(key, number(of_a), number(of_b), change)

    pace_a, pace_b = (
        decision.check("throughput").value
        for decision in (comparison.decision_a, comparison.decision_b)
    )
    ram_a, ram_b = a.peak_rss / GB, b.peak_rss / GB
    ratio, _, interval = ratio_text(comparison.ratio).partition(" ")
    words = [words_of(record.a), words_of(record.b)]
    heard = [row("wer", *map(percentage, words))] if any(words) else []
    return [
        row("model", *pair_names(record)),
        time("load", a.load_ms, b.load_ms),
        time("warmup", a.warmup_ms, b.warmup_ms),
        in_ms("p50", a.overall.p50.value, b.overall.p50.value, " 🎯"),
        in_ms("p99", a.overall.p99.value, b.overall.p99.value),
        *(
            [in_ms("per_token", a.parts_p50["per_token"], b.parts_p50["per_token"])]
            if "per_token" in a.parts_p50 and "per_token" in b.parts_p50
            else []
        ),
        row("meets", *(t(f"guide.meets_{check.status}", lang) for check in (check_a, check_b))),
        row("throughput", rate(pace_a), rate(pace_b), difference(pace_a, pace_b, 2)),
        row("ram", f"{ram_a:.2f}", f"{ram_b:.2f}", difference(ram_a, ram_b, 2)),
        *heard,
        row("ratio", ratio, interval, t("guide.pairs", lang, n=comparison.pairs)),
    ]
