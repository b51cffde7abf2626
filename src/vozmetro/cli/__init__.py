"""The command line: parse, call, print."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from vozmetro.i18n import resolve_language


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs `vozmetro` and exits.

    Exit codes: 0 measured and pass; 1 measured and fail; 2 usage or bad input; 3 undecided; 130
    interrupted.
    """
    from vozmetro.cli.app import build
    from vozmetro.cli.run import run

    words = list(sys.argv[1:] if arguments is None else arguments)
    lang = language_in(words)
    # Workers and libraries of this process read it too.
    os.environ["VOZMETRO_LANG"] = lang
    sys.exit(run(build(lang), words, lang))


def language_in(words: Sequence[str]) -> str:
    """Returns the language said with `--lang`, else what `resolve_language` finds.

    It is needed before parsing, because the help is in it.
    """
    said = None
    for index, word in enumerate(words):
        if word == "--lang" and index + 1 < len(words):
            said = words[index + 1]
        elif word.startswith("--lang="):
            said = word.split("=", 1)[1]
    return resolve_language(said if said in ("es", "en") else None)
