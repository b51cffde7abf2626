"""Quantizes a model and proves what it changed: size, error, latency and words."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from vozmetro import __version__, packages
from vozmetro.errors import InputError, VozmetroError
from vozmetro.measure.memory import peak_rss
from vozmetro.models import checks, dummy, receipt
from vozmetro.models.quantize.plan import Plan, QuantizeReport
from vozmetro.models.quantize.stream import check_places, quantize
from vozmetro.models.resolve import WHISPER_GRAPHS
from vozmetro.prepare import gains, records
from vozmetro.prepare.calibrate import Method, calibrate
from vozmetro.prepare.records import Conversion, Parity

Listener = Callable[[str, int, int], None]
"""Told the phase (`calibrating`, `quantizing`, `checking`, `measuring`), what is done and all."""

_BESIDE = (".json", ".txt", ".model")
"""Configuration and tokenizer, which a folder's new version needs as well."""
_RECORDS = (records.FILE, receipt.NAME, dummy.RECORD)
"""What these say of the files beside them is not true of the new ones."""


@dataclass(frozen=True)
class Quantized:
    """Where the new model is, what was done to each graph, and the record beside it."""

    path: Path
    reports: tuple[QuantizeReport, ...]
    record: Conversion


@dataclass(frozen=True)
class _How:
    """What the steps share."""

    plan: Plan
    corpus: str | None
    method: Method
    listen: Listener


def default_output(model: Path, plan: Plan) -> Path:
    """Returns `F-int8.onnx` or `F-int4.onnx` beside `F.onnx`, and the same for a folder."""
    mark = f"-int{plan.bits}"
    if packages.is_dir(model):
        return model.with_name(f"{model.name}{mark}")
    return model.with_name(f"{model.stem}{mark}.onnx")


def quantize_model(
    model: Path,
    output: Path | None,
    plan: Plan,
    *,
    corpus: str | None = None,
    method: Method = "percentile",
    measure: bool = True,
    command: Sequence[str] = (),
    listen: Listener = lambda phase, done, total: None,
) -> Quantized:
    """Quantizes an `.onnx` or a Whisper folder, measures what changed, and writes the record.

    Args:
        model: The float model.
        output: Where to; None for `default_output`.
        plan: How; for `static`, its ranges are found here.
        corpus: Real speech for calibration and measurements; None for the packaged one.
        method: How `static` chooses ranges.
        measure: Whether to compare outputs, latency and words; else only weights are compared.
        command: Command line, for the record.
        listen: Told about progress.

    Raises:
        VozmetroError: The model, the plan or the disk; nothing is left half written. What cannot
            be measured afterwards is noted in the record instead.
    """
    output = output or default_output(model, plan)
    how = _How(plan, corpus, method, listen)
    is_folder = packages.is_dir(model)
    reports = _folder(model, output, how) if is_folder else [_graph(model, output, how)]
    peak = peak_rss()
    found: dict[str, Any] = {"graphs": [_said(report) for report in reports]}
    parity: Parity | None = None
    if measure:
        parity, measured = _measure(model, output, corpus, listen)
        found |= measured
    record = Conversion(
        kind="quantization",
        created=records.now(),
        vozmetro=__version__,
        command=list(command),
        versions=records.versions_of(["numpy", "onnx", "onnxruntime"]),
        source=records.described(_files(model)),
        output=records.described(_files(output)),
        scheme=_scheme(plan, method, reports),
        seconds=round(sum(report.seconds for report in reports), 2),
        peak_rss=peak,
        parity=parity,
        report=found,
    )
    records.save(record, output)
    return Quantized(output, tuple(reports), record)


def _graph(model: Path, output: Path, how: _How) -> QuantizeReport:
    plan = how.plan
    check_places(model, output)  # before minutes of calibration
    if plan.mode == "static" and not plan.ranges:
        how.listen("calibrating", 0, 0)
        plan = replace(plan, ranges=calibrate(model, how.corpus, how.method))
    return quantize(
        model, output, plan, lambda name, done, total: how.listen("quantizing", done, total)
    )


def _folder(model: Path, output: Path, how: _How) -> list[QuantizeReport]:
    """Quantizes both graphs of a Whisper folder and copies what else it needs.

    Raises:
        InputError: `quantize_folder`, `quantize_taken`.
    """
    if not all(packages.is_file(model / name) for name in WHISPER_GRAPHS):
        raise InputError("quantize_folder", path=model)
    if output.exists():
        raise InputError("quantize_taken", path=output)
    output.parent.mkdir(parents=True, exist_ok=True)
    made = Path(tempfile.mkdtemp(dir=output.parent, prefix=f".{output.name}."))
    try:
        reports = []
        for name in WHISPER_GRAPHS:
            # The decoder reads one token at a time, for which known ranges gain nothing, and what
            # it reads is its own past, which no corpus gives.
            chosen = how
            if how.plan.mode == "static" and name == "decoder.onnx":
                chosen = replace(how, plan=replace(how.plan, mode="dynamic"))
            one = _graph(model / name, made / name, chosen)
            reports.append(replace(one, output=output / name))
        for file in sorted(model.iterdir()):
            if file.suffix in _BESIDE and file.name not in _RECORDS and file.is_file():
                shutil.copyfile(file, made / file.name)
        made.chmod(0o755)
        made.replace(output)
    except BaseException:
        shutil.rmtree(made, ignore_errors=True)
        raise
    return reports


def _measure(
    model: Path, output: Path, corpus: str | None, listen: Listener
) -> tuple[Parity | None, dict[str, Any]]:
    """Returns the error of the outputs, and what changed; where it cannot be had, why."""
    parity: Parity | None = None
    found: dict[str, Any] = {}
    first = [path / WHISPER_GRAPHS[0] if path.is_dir() else path for path in (model, output)]
    listen("checking", 0, 0)
    try:
        parity = gains.output_error(first[0], first[1], corpus)
    except VozmetroError as error:
        found["output_skipped"] = {"code": error.code, "fields": error.fields}
    listen("measuring", 0, 0)
    try:
        found["gain"] = gains.measure_gain(model, output, corpus, _ignore).model_dump(mode="json")
    except VozmetroError as error:
        found["gain_skipped"] = {"code": error.code, "fields": error.fields}
    return parity, found


def _ignore(_: object) -> None:
    return None


def _said(report: QuantizeReport) -> dict[str, Any]:
    """A report as plain JSON; paths by their name, because folders move."""
    table = asdict(report)
    table["source"], table["output"] = report.source.name, report.output.name
    table["share"], table["share_parameters"] = report.share, report.share_parameters
    plain: dict[str, Any] = json.loads(json.dumps(table))
    return plain


def _scheme(plan: Plan, method: Method, reports: Sequence[QuantizeReport]) -> dict[str, str]:
    # The two graphs of a Whisper may differ.
    precision = " + ".join(dict.fromkeys(report.precision for report in reports))
    said = {"precision": precision, "bits": str(plan.bits), "mode": plan.mode}
    if plan.mode == "weight-only":
        said["block"] = str(plan.block)
    if plan.mode == "static":
        said["calibration"] = method
    said["embeddings"] = "int8" if plan.embeddings else "left"
    return said


def _files(model: Path) -> list[Path]:
    """The graphs of a model and their external data."""
    graphs = [model / name for name in WHISPER_GRAPHS] if model.is_dir() else [model]
    data = [file for graph in graphs for file in checks.check_onnx(graph).external]
    return [*graphs, *dict.fromkeys(data)]
