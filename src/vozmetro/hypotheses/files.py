"""Claims and evidence read from disk. The only place that knows how records become evidence."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from importlib import resources
from pathlib import Path

from vozmetro.errors import InputError
from vozmetro.judge.claims import Claims, parse_claims
from vozmetro.judge.derived import from_depths, from_roofline
from vozmetro.judge.evidence import About, Evidence, from_comparison, from_run, label, spoken
from vozmetro.judge.word_errors import Counts, from_error_pairs, from_errors
from vozmetro.measure.quality_records import QualityStudy
from vozmetro.measure.records import ComparisonRecord, Item, Run
from vozmetro.measure.roofline_records import Roofline
from vozmetro.measure.storage import load_any
from vozmetro.models import architectures
from vozmetro.models.architectures import Architecture
from vozmetro.models.modality import FAMILIES
from vozmetro.models.overview import overview
from vozmetro.quality.wer import heard_items, word_errors

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
        InputError: `evidence_missing` for a folder without any, and what `load_any` raises.
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
    record = load_any(path)
    if isinstance(record, Roofline):
        return from_roofline(record, shown)
    if isinstance(record, Run):
        (counts,) = _word_counts(record)
        return from_run(record, shown) + from_errors(record, counts, shown)
    if isinstance(record, ComparisonRecord):
        a, b = _word_counts(record.a, record.b)
        return from_comparison(record, shown) + from_error_pairs(record, a, b, shown)
    if isinstance(record, QualityStudy):
        return []
    return from_depths(record, shown)


def _short(path: Path) -> str:
    """The path as people know it: from here where it lies below."""
    full = path.resolve()
    here = Path.cwd()
    return str(full.relative_to(here)) if full.is_relative_to(here) else str(path)


def _word_counts(*runs: Run) -> list[Counts]:
    """Errors and words of each utterance of recorded speech that all of the runs reached."""
    each = [{one.id: one for one in heard_items(run) if one.source == "corpus"} for run in runs]
    shared = [name for name in each[0] if all(name in items for items in each)]
    return [[_count(items[name]) for name in shared] for items in each]


def _count(item: Item) -> tuple[int, int]:
    found = word_errors([item.text], [item.output], [item.language])
    return found.errors, found.words


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
