"""What differs between two runs besides what was measured, and what makes them no match."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from vozmetro.judge.evidence import machine_of
from vozmetro.measure.records import Run

Section = Literal["subject", "settings", "environment", "versions"]

# What moves by itself from one moment to the next, or only says where things lie.
_SETTINGS_LEFT_OUT = frozenset({"command", "subject", "budget"})
_ENVIRONMENT_LEFT_OUT = frozenset({"noise", "versions", "ram_available", "load", "frequency_mhz"})
_SUBJECT_LEFT_OUT = frozenset({"files", "engines", "expected_ram"})
# What is the model and not the way in which it was measured: the options are its engine's.
_MODEL = ("name", "model", "options")
# Settings that change what a sample is; how many samples there are does not.
_DECISIVE = ("audio_seconds", "shapes", "prompt_tokens", "new_tokens", "hangover_s", "languages")


@dataclass(frozen=True)
class Unlike:
    """One thing that two runs do not share.

    Attributes:
        section: Where it stands in the record.
        name: The field.
        a: Its value in the first, as text; empty where there is none.
        b: Its value in the second.
    """

    section: Section
    name: str
    a: str
    b: str


def digest(run: Run) -> str:
    """Returns the SHA-256 of a run's model files, joined with `+`; empty for none."""
    return "+".join(sorted(file.sha256 for file in run.subject.files))


def machine(run: Run) -> str:
    """Returns what to call the machine that a run was measured on."""
    return machine_of(run.environment, run.subject.device)


def differences(a: Run, b: Run) -> list[Unlike]:
    """Returns all that differs in subject, settings, environment and versions, in this order."""
    found = [*_fields("subject", _subject(a), _subject(b))]
    found += _fields("settings", _settings(a), _settings(b))
    found += _fields("environment", _environment(a), _environment(b))
    found += _fields("versions", _versions(a), _versions(b))
    return found


def environments(a: Run, b: Run) -> list[Unlike]:
    """Returns what differs between the machines of two runs, and the versions on them."""
    found = [*_fields("environment", _environment(a), _environment(b))]
    return [*found, *_fields("versions", _versions(a), _versions(b))]


def mismatches(a: Run, b: Run, *, new_model: bool = False) -> list[Unlike]:
    """Returns what makes two runs no match for a gate; empty where they may be held together.

    Args:
        a: The first.
        b: The second.
        new_model: The model is what changed: its name, files and engine options may differ.
    """
    told_a, told_b = _identity(a), _identity(b)
    return [
        one for one in _fields("settings", told_a, told_b) if not (new_model and one.name in _MODEL)
    ]


def _identity(run: Run) -> dict[str, Any]:
    settings = run.settings.model_dump(mode="json")
    return {
        # A path says where a file lies; its digest says what it is.
        "model": digest(run)[:16] or run.subject.name,
        "kind": run.subject.kind,
        "clock": run.subject.clock,
        "options": run.subject.options,
        "machine": machine(run),
        "ram_limit": run.environment.ram_limit,
        "threads": run.settings.threads,
        **{name: settings[name] for name in _DECISIVE},
        "items": sorted((item.id, item.source, round(item.seconds, 3)) for item in run.items),
    }


def _subject(run: Run) -> dict[str, Any]:
    told = run.subject.model_dump(mode="json", exclude=set(_SUBJECT_LEFT_OUT))
    return {**told, "model": digest(run)[:16]}


def _settings(run: Run) -> dict[str, Any]:
    return run.settings.model_dump(mode="json", exclude=set(_SETTINGS_LEFT_OUT))


def _environment(run: Run) -> dict[str, Any]:
    return run.environment.model_dump(mode="json", exclude=set(_ENVIRONMENT_LEFT_OUT))


def _versions(run: Run) -> dict[str, Any]:
    engines = {one.rpartition(" ")[0] or one: one.rpartition(" ")[2] for one in run.subject.engines}
    return {**run.environment.versions, **engines, "vozmetro": run.vozmetro}


def _fields(section: Section, a: dict[str, Any], b: dict[str, Any]) -> Iterator[Unlike]:
    for name in dict.fromkeys([*a, *b]):
        one, other = a.get(name), b.get(name)
        if isinstance(one, dict) and isinstance(other, dict):
            # Of many options, those that are not the same.
            same = one.items() & other.items()
            one, other = (dict(sorted(told.items() - same)) for told in (one, other))
        if one != other:
            yield Unlike(section, name, _text(one), _text(other))


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, dict):
        return ", ".join(f"{name}={one}" for name, one in sorted(value.items()))
    if isinstance(value, list | tuple):
        shown = ", ".join(_text(one) for one in value[:4])
        return shown + (f" … ({len(value)})" if len(value) > 4 else "")
    return str(value)
