"""Corpora that come as data packages, listed in `corpora.toml` and verified at every load."""

from __future__ import annotations

from vozmetro import packages
from vozmetro.speech import known
from vozmetro.speech.manifest import Source


def sources(name: str) -> list[Source]:
    """Returns a packaged corpus's utterances, after checking every recording.

    Transcripts are part of the table, so they need no check. The package is a pytest plugin: it
    is located, never imported.

    Raises:
        MissingExtraError: It is not installed.
        ModelError: `package_version`, `package_file_missing` or `package_file_damaged`.
    """
    corpus = known.table()[name]
    package, version = corpus["package"], corpus["version"]
    found = []
    for entry in corpus["utterances"]:
        audio = packages.locate(package, version, entry["audio"], corpus["extra"])
        packages.verify(audio, entry["audio_bytes"], entry["audio_sha256"], package, version)
        synthetic = corpus["voice"] == "synthetic"
        found.append(Source(entry["id"], audio, entry["text"], entry["language"], synthetic))
    return found
