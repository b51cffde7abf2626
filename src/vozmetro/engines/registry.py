"""Finds engines through the entry points `vozmetro.engines`, importing only what is used."""

from __future__ import annotations

import importlib
from importlib.metadata import PackageNotFoundError, entry_points, version

from vozmetro.engines.base import Engine
from vozmetro.errors import InputError, MissingExtraError

GROUP = "vozmetro.engines"


def names() -> list[str]:
    """Returns the names of all registered engines, sorted, importing none."""
    return sorted({entry.name for entry in entry_points(group=GROUP)})


def find(name: str) -> Engine:
    """Returns the engine `name`.

    Raises:
        InputError: `unknown_engine`, naming those there are.
    """
    for entry in entry_points(group=GROUP):
        if entry.name == name:
            engine: Engine = entry.load()
            return engine
    raise InputError("unknown_engine", name=name, known=", ".join(names()))


def import_modules(engine: Engine) -> None:
    """Imports what the engine needs, so that loading a model is timed without it.

    Raises:
        MissingExtraError: With the install command.
    """
    for module in engine.modules:
        try:
            importlib.import_module(module)
        except ImportError as error:
            raise MissingExtraError(engine.extra, engine.package) from error


def label(engine: Engine) -> str:
    """Returns the engine with its package's version, e.g. `faster-whisper 1.2.1`."""
    try:
        return f"{engine.package} {version(engine.package)}"
    except PackageNotFoundError:
        # ONNX Runtime for GPUs comes as another distribution with the same module.
        known = importlib.import_module(engine.modules[0]).__version__
        return f"{engine.package} {known}"
