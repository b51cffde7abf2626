"""What a user reads, in Spanish and English.

One TOML catalogue per language (`es.toml`, `en.toml`) with equal keys and placeholders, which the
tests hold. A key is `section.name`; placeholders are `str.format` fields.
"""

from __future__ import annotations

import locale
import os
import tomllib
from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import Any

LANGUAGES = ("es", "en")
"""Languages with a catalogue."""


@cache
def catalogue(lang: str) -> Mapping[str, str]:
    """Returns one language's messages as a flat mapping `section.name` -> template.

    Args:
        lang: `es` or `en`.
    """
    text = resources.files(__package__).joinpath(f"{lang}.toml").read_text(encoding="utf-8")
    flat: dict[str, str] = {}

    def walk(prefix: str, table: Mapping[str, Any]) -> None:
        for key, value in table.items():
            if isinstance(value, Mapping):
                walk(f"{prefix}{key}.", value)
            else:
                flat[prefix + key] = value

    walk("", tomllib.loads(text))
    return flat


def t(key: str, lang: str, **fields: object) -> str:
    """Returns the message `key` in `lang` with its placeholders filled.

    Args:
        key: `section.name` in the catalogues.
        lang: `es` or `en`.
        **fields: Values of the placeholders; numbers come already formatted.

    Raises:
        KeyError: The key or a placeholder is missing, which is a defect of vozmetro.
    """
    return catalogue(lang)[key].format(**fields)


def resolve_language(explicit: str | None = None) -> str:
    """Returns the language to speak: the argument, else VOZMETRO_LANG, else the locale.

    Where the locale says nothing (C, POSIX) it is Spanish, the language of the first users.
    """
    said_by_locale = os.environ.get("LC_ALL") or os.environ.get("LC_MESSAGES")
    said_by_locale = said_by_locale or os.environ.get("LANG") or locale.getlocale()[0]
    for said in (explicit, os.environ.get("VOZMETRO_LANG"), said_by_locale):
        if not said:
            continue
        prefix = said.replace("-", "_").split("_")[0].split(".")[0].lower()
        if prefix in ("c", "posix"):
            break
        # A locale in a third language reads English more likely than Spanish.
        return prefix if prefix in LANGUAGES else "en"
    return "es"
