"""Corpora that come as data packages, listed in `corpora.toml` and verified at every load."""

from __future__ import annotations

import tomllib
from functools import cache
from importlib import resources
from typing import Any

from vozmetro import packages
from vozmetro.speech.manifest import Source


@cache
def _table() -> dict[str, dict[str, Any]]:
    text = resources.files(__package__).joinpath("corpora.toml").read_text(encoding="utf-8")
    return {corpus["name"]: corpus for corpus in tomllib.loads(text)["corpora"]}


def names() -> tuple[str, ...]:
    """Returns the names of the packaged corpora."""
    return tuple(_table())


def sources(name: str) -> list[Source]:
    """Returns a packaged corpus's utterances, after checking every recording.

    Transcripts are part of the table, so they need no check. The package is a pytest plugin: it
    is located, never imported.

    Raises:
        MissingExtraError: It is not installed.
        ModelError: `package_version`, `package_file_missing` or `package_file_damaged`.
    """
    corpus = _table()[name]
    package, version = corpus["package"], corpus["version"]
    found = []
    for entry in corpus["utterances"]:
        audio = packages.locate(package, version, entry["audio"], corpus["extra"])
        packages.verify(audio, entry["audio_bytes"], entry["audio_sha256"], package, version)
        synthetic = corpus["voice"] == "synthetic"
        found.append(Source(entry["id"], audio, entry["text"], entry["language"], synthetic))
    return found
