"""Claims and evidence read from disk. The only place that knows how records become evidence."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from importlib import resources
from pathlib import Path

from pydantic import ValidationError

from vozmetro.errors import InputError
from vozmetro.judge.claims import Claims, parse_claims
from vozmetro.judge.derived import from_depths, from_roofline
from vozmetro.judge.evidence import About, Evidence, from_comparison, from_run, label, spoken
from vozmetro.judge.word_errors import Counts, from_error_pairs, from_errors
from vozmetro.measure.records import SCHEMA_VERSION, ComparisonRecord, Run
from vozmetro.measure.roofline_records import Roofline
from vozmetro.measure.storage import load
from vozmetro.models import architectures
from vozmetro.models.architectures import Architecture
from vozmetro.models.modality import FAMILIES
from vozmetro.models.overview import overview
from vozmetro.quality.wer import word_errors
from vozmetro.speech.normalize import normalize

BUILT_IN = ("guia",)
"""Names of the claims that come with vozmetro."""
RECORDS = ("run", "comparison", "depths", "roofline")
"""Values of `type` in files that hold evidence."""


def read_claims(name: str) -> Claims:
    """Returns the claims of a file.

    Args:
        name: One of BUILT_IN, or the path of a TOML file.

    Raises:
        InputError: `claims_missing`, `claims_unreadable`, and what `parse_claims` raises.
    """
    if name in BUILT_IN:
        place = resources.files("vozmetro.hypotheses").joinpath(f"{name}.toml")
        return parse_claims(place.read_text(encoding="utf-8"), name)
    try:
        text = Path(name).read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise InputError("claims_missing", path=name, known=", ".join(BUILT_IN)) from error
    except (OSError, UnicodeDecodeError, ValueError) as error:
        raise InputError("claims_unreadable", path=name, detail=type(error).__name__) from error
    return parse_claims(text, name)


def read_evidence(paths: Sequence[Path]) -> list[Evidence]:
    """Returns all that the given records tell, and what is known of architectures.

    Args:
        paths: Records, folders that are searched for them, or models (`.onnx`) to be inspected.

    Raises:
        InputError: `evidence_missing` for a folder without any, and what `load` raises.
        ModelError: A model cannot or must not be read.
    """
    found = known_architectures()
    seen: set[str] = set()
    for path in paths:
        for file in _records_in(path):
            told = _evidence(file)
            # The same record, given twice, counts once.
            found += [one for one in told if one.id not in seen]
            seen |= {one.id for one in told}
    return found


def _records_in(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    files = sorted(file for file in path.rglob("*.json") if _kind(file) in RECORDS)
    if not files:
        raise InputError("evidence_missing", path=path)
    return files


def _kind(path: Path) -> str:
    """Returns a record's `type`; empty for what is none."""
    try:
        raw = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return ""
    return str(raw.get("type", "")) if isinstance(raw, dict) else ""


def _evidence(path: Path) -> list[Evidence]:
    shown = _short(path)
    if path.suffix.lower() == ".onnx":
        return _from_model(path)
    if _kind(path) == "roofline":
        return from_roofline(_roofline(path), shown)
    record = load(path)
    if isinstance(record, Run):
        return from_run(record, shown) + from_errors(record, _word_counts(record), shown)
    if isinstance(record, ComparisonRecord):
        sides = (_word_counts(record.a), _word_counts(record.b))
        return from_comparison(record, shown) + from_error_pairs(record, *sides, shown)
    return from_depths(record, shown)


def _roofline(path: Path) -> Roofline:
    raw = json.loads(path.read_bytes())
    version = raw.get("schema_version")
    if not isinstance(version, int) or version > SCHEMA_VERSION:
        raise InputError("run_newer", path=path, version=version, known=SCHEMA_VERSION)
    try:
        return Roofline.model_validate(raw)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise InputError("run_unreadable", path=path, detail=f"{where}: {first['msg']}") from error


def _short(path: Path) -> str:
    """The path as people know it: from here where it lies below."""
    full = path.resolve()
    here = Path.cwd()
    return str(full.relative_to(here)) if full.is_relative_to(here) else str(path)


def _word_counts(run: Run) -> Counts:
    """Errors and words of each utterance of recorded speech; none where it does not listen."""
    if run.subject.kind not in ("stt", "cascade"):
        return []
    spoken_items = [i for i in run.items if i.source == "corpus" and normalize(i.text)]
    counted = [word_errors([item.text], [item.output]) for item in spoken_items]
    return [(one.errors, one.words) for one in counted]


def known_architectures() -> list[Evidence]:
    """Returns what the published configurations tell without any measurement."""
    found: list[Evidence] = []
    for name in architectures.names():
        found += _facts(architectures.load(name))
    return found


def _facts(one: Architecture) -> Iterable[Evidence]:
    about = About(name=one.name, names=spoken(one.name), architecture=one.name)
    count = float(one.parameters())
    yield Evidence("parameters", count, count, count, about, "architecture")
    kind = str(one.config["model_type"])
    for family in FAMILIES:
        if re.search(family.pattern, kind):
            known = _modality(family.inputs, family.outputs)
            yield Evidence("modality", 1.0, None, None, about, "architecture", modality=known)
            return


def _modality(inputs: Iterable[str], outputs: Iterable[str]) -> frozenset[str]:
    taken, given = (f"{kind}_input" for kind in inputs), (f"{kind}_output" for kind in outputs)
    return frozenset((*taken, *given))


def _from_model(path: Path) -> list[Evidence]:
    """Returns what a model file says of itself: its size, and what it takes and gives."""
    found = overview(str(path))
    shown = _short(path)
    inspections = [part.inspection for part in found.parts]
    about = About(
        name=path.name,
        names=spoken(path.name),
        precision=" + ".join(dict.fromkeys(label(one.precision) for one in inspections)),
        dummy=any(one.weights == "dummy" for one in inspections),
    )
    known = [one.parameters for one in inspections if one.parameters is not None]
    told = []
    if known:
        count = float(sum(known))
        sized = replace(about, parameters=count)
        told.append(
            Evidence("parameters", count, count, count, sized, "file", id=shown, file=shown)
        )
    it = found.modality
    # What the file has, and what the model has that it is a part of.
    inputs = (*it.inputs, *(it.model_inputs or ()))
    if inputs:
        known_kinds = _modality(inputs, (*it.outputs, *(it.model_outputs or ())))
        one = Evidence("modality", 1.0, None, None, about, "file", id=shown, file=shown)
        told.append(replace(one, modality=known_kinds))
    return told
