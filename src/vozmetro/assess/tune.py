"""`vozmetro tune`: every way to run a Whisper, on the same real speech, and the best one kept."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from vozmetro.assess.options import QualityOptions
from vozmetro.assess.study import quality
from vozmetro.errors import InputError
from vozmetro.measure.quality_records import QualityStudy
from vozmetro.measure.schedule import Listener
from vozmetro.models import profile
from vozmetro.models.catalogue import catalogue
from vozmetro.models.resolve import resolve, split_options
from vozmetro.quality.tuning import NARROW, Change, Tuning

ENGINE = "whisper-onnx"
_CONTEXTS = ("3.0", "1.0")
_STREAMS = (
    "lookahead=0.5,tail=0.5,silence=2.0",
    "lookahead=1.0,tail=0.5,silence=4.0",
    "lookahead=1.0,tail=1.0,silence=4.0",
    "lookahead=1.0,tail=3.0,silence=0.0",
)
_GUIDE = "session.disable_prepacking=0,session.use_ort_model_bytes_directly=1"


def changes(subject: str) -> list[Change]:
    """Returns what is tried for a model, the baseline first.

    Args:
        subject: A catalogue name of which there are ONNX graphs (`whisper-base`), or a Whisper
            that runs on ONNX Runtime.

    Raises:
        InputError: `tune_kind` for anything else; `tune_options` where it has options already.
    """
    bare, options = split_options(subject)
    if options:
        raise InputError("tune_options", name=bare)
    entries = [one for one in catalogue().values() if one.converted_from == bare]
    by_precision = {one.precision: one.name for one in entries}
    if not by_precision:
        found = resolve(bare)
        if found.engine != ENGINE:
            raise InputError("tune_kind", name=bare)
        return [Change(f"{bare}@context=full", ""), *_contexts(bare, f"{bare}@context=full")]
    full = {precision: f"{name}@context=full" for precision, name in by_precision.items()}
    plain, small = full["fp32"], by_precision["int8"]
    return [
        Change(bare, ""),
        Change(plain, bare, "engine"),
        Change(full["int8"], plain, "int8", (0.20, 0.30)),
        Change(full["int4"], plain, "int4", (0.20, 0.30)),
        Change(f"{full['int8']},{_GUIDE}", full["int8"], "session", (0.05, 0.10)),
        *_contexts(small, full["int8"]),
        Change(f"{by_precision['int4']}@context=stream,{_STREAMS[2]}", full["int4"], "stream"),
        Change(
            f"{small}@context=stream,{_STREAMS[2]},threads=1",
            f"{small}@context=stream,{_STREAMS[2]}",
            "one_thread",
        ),
    ]


def _contexts(name: str, against: str) -> list[Change]:
    cut = [Change(f"{name}@context={one}", against, "context") for one in _CONTEXTS]
    streams = [Change(f"{name}@context=stream,{one}", against, "stream") for one in _STREAMS]
    return [*cut, *streams]


def tune(
    tried: list[Change], options: QualityOptions, *, out: Path, listen: Listener = lambda _: None
) -> QualityStudy:
    """Measures all changes on the same speech, clean and at 8 kHz.

    Args:
        tried: From `changes`.
        options: How; `conditions` is not for this.
        out: Folder for `quality.json`.
        listen: Told about progress.

    Raises:
        VozmetroError: As for `quality`.
    """
    chosen = replace(options, conditions=f"clean,{NARROW}", baseline=tried[0].words)
    return quality([one.words for one in tried], chosen, out=out, listen=listen, predict=False)


def keep(subject: str, found: Tuning, comments: list[str]) -> Path | None:
    """Writes the best as the profile `tuned` of its model; returns where, None for the reference.

    Args:
        subject: The model's name, as it was tuned.
        found: What was found.
        comments: Lines that say where it comes from.
    """
    if found.best is None:
        return None
    name, options = split_options(found.best.change.words)
    if not options:
        return None
    return profile.write(name, options, [f"{subject}: {found.best.change.words}", *comments])
