"""Tuned options of a model, kept in a file: `MODEL@profile=tuned`.

`vozmetro tune` writes them; what is measured with a profile is recorded with the options in it.
"""

from __future__ import annotations

import json
import os
import tomllib
from collections.abc import Mapping
from pathlib import Path

from vozmetro import packages
from vozmetro.errors import InputError, OutputError

OPTION, TUNED = "profile", "tuned"
_MOST_BYTES = 1 << 16


def place(model: str) -> Path:
    """Returns where the profile of a model lies, by the name that the user gave it."""
    plain = "".join(one if one.isalnum() or one in "-_." else "_" for one in model)
    return packages.cache_dir() / "profiles" / f"{plain}.toml"


def _quoted(text: str) -> str:
    """A string as TOML has it: as JSON does, but for one control character."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def read(model: str, value: str) -> dict[str, str]:
    """Returns the options of a profile.

    Args:
        model: The model's name.
        value: `tuned` for the one that `vozmetro tune` wrote, or a path.

    Raises:
        InputError: `profile_missing` or `profile_invalid`.
    """
    path = place(model) if value == TUNED else Path(value).expanduser()
    if not packages.is_file(path):
        raise InputError("profile_missing", path=path, model=model)
    try:
        with path.open("rb") as file:
            text = file.read(_MOST_BYTES).decode()
        found = tomllib.loads(text)["options"]
        if not isinstance(found, dict) or OPTION in found:
            raise ValueError(OPTION)
        return {str(key): str(item) for key, item in found.items()}
    except (OSError, ValueError, KeyError) as error:
        raise InputError("profile_invalid", path=path, detail=error) from error


def write(model: str, options: Mapping[str, str], comments: list[str]) -> Path:
    """Writes a model's profile; returns where.

    Args:
        model: The model's name.
        options: Its options.
        comments: Lines that say where they come from.

    Raises:
        OutputError: `unwritable`.
    """
    path = place(model)
    lines = [f"# {plain}" for line in comments for plain in line.splitlines()]
    lines += ["", "[options]"]
    lines += [f"{_quoted(key)} = {_quoted(value)}" for key, value in options.items()]
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text("\n".join([*lines, ""]), encoding="utf-8")
        temporary.replace(path)
    except OSError as error:
        raise OutputError("unwritable", path=path, detail=error.strerror or error) from error
    return path
