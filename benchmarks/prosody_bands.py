"""Measures the prosodic activity of human readers and writes the bands that reports compare with.

    python benchmarks/prosody_bands.py --corpus es-ivr,en-ivr [--limit N] [--write]

Utterances under 1.5 s are left out: a word or two have no intonation of a sentence. `--write`
replaces src/vozmetro/quality/prosody_bands.toml, else the bands are printed.
"""

from __future__ import annotations

import argparse

import numpy as np

from vozmetro.audio import read
from vozmetro.quality.prosody import FEATURES, prosody
from vozmetro.quality.prosody_bands import FILE
from vozmetro.speech.corpus import Utterance, load_corpus

LEAST_SECONDS = 1.5
LEAST_UTTERANCES = 20


def table(language: str, corpus: str, utterances: list[Utterance], command: str) -> str:
    measured = [prosody(read(one.path), one.text, language) for one in utterances]
    speakers = sorted({one.speaker or "one reader, unnamed" for one in utterances})
    lines = [
        f"[{language}]",
        f'corpus = "{corpus}"',
        f'speaker = "{", ".join(speakers)}"',
        f"utterances = {len(measured)}",
        f'command = "{command}"',
        f"[{language}.features]",
    ]
    for name in FEATURES:
        values = [v for one in measured if (v := getattr(one, name)) is not None]
        if len(values) >= LEAST_UTTERANCES:
            low, high = np.percentile(values, (5, 95))
            lines.append(f"{name} = [{low:.3f}, {high:.3f}]  # {len(values)} utterances")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--corpus", default="es-ivr,en-ivr")
    parser.add_argument("--limit", type=int)
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    limit = f" --limit {options.limit}" if options.limit else ""
    command = f"python benchmarks/prosody_bands.py --corpus {options.corpus}{limit} --write"
    tables = []
    for corpus in options.corpus.split(","):
        found = load_corpus(corpus, limit=options.limit)
        if any(one.synthetic for one in found):
            raise SystemExit(f"{corpus} is spoken by a machine: no human band comes of it")
        for language in sorted({one.language for one in found}):
            kept = [o for o in found if o.language == language and o.seconds >= LEAST_SECONDS]
            tables.append(table(language, corpus, kept, command))
    text = "# Percentiles 5 and 95 of one reader's utterances, written by the command in it.\n"
    text += "\n" + "\n".join(tables)
    if options.write:
        FILE.write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
