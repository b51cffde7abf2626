"""The catalogue of corpora, `corpora.toml`: what there is to know of each before it is here."""

from __future__ import annotations

import tomllib
from functools import cache
from importlib import resources
from typing import Any


@cache
def table() -> dict[str, dict[str, Any]]:
    """Returns the catalogue's entries by name, in its order."""
    text = resources.files(__package__).joinpath("corpora.toml").read_text(encoding="utf-8")
    return {corpus["name"]: corpus for corpus in tomllib.loads(text)["corpora"]}


def names() -> tuple[str, ...]:
    """Returns the names of the corpora."""
    return tuple(table())


def is_fetched(name: str) -> bool:
    """Returns whether a corpus of the catalogue is fetched, rather than installed as a package."""
    return "packages" in table()[name]
