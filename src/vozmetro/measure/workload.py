"""What is run: utterances of a corpus, lengths of audio, or prompts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vozmetro.audio import SPEECH_RATE, Waveform, read, synthetic_speech
from vozmetro.errors import InputError

if TYPE_CHECKING:
    from vozmetro.measure.records import Item
    from vozmetro.speech.corpus import Utterance

AUDIO_SECONDS = (0.5, 1.0, 2.0, 3.0, 5.0)
"""Lengths (s) that a graph is timed at when no corpus is given."""
LONGEST_S = 600.0
"""Longest audio accepted for one item, in seconds."""
PROMPT_TOKENS, NEW_TOKENS = (16, 32, 64, 256), 16
"""Lengths of the prompts that a language model is timed with, and tokens it gives for each."""
MOST_TOKENS = 1 << 17
"""Longest prompt, and most tokens given for one."""


@dataclass(frozen=True)
class WorkItem:
    """One unit of work as it is sent to the worker.

    Attributes:
        id: Unique within the run.
        seconds: Audio length in seconds.
        language: ISO 639-1 or empty.
        text: Reference transcript or empty.
        paths: Sound files; several are joined and cut or repeated to `seconds`. None: synthetic.
        seed: Seeds synthetic audio and noise inputs.
        synthetic: No human speaks: audio made here, or recordings of a machine's voice.
        tokens: Length of a prompt; 0 for what is no prompt.
        new_tokens: Tokens to give for it, the first one included.
        speaker: Who speaks in the recording; empty where unknown.
    """

    id: str
    seconds: float
    language: str
    text: str
    paths: tuple[str, ...]
    seed: int
    synthetic: bool
    tokens: int = 0
    new_tokens: int = 0
    speaker: str = ""

    def as_json(self) -> dict[str, Any]:
        """Returns the message for the worker."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> WorkItem:
        """Reads `as_json` back."""
        return cls(**{**data, "paths": tuple(data["paths"])})

    def record(self) -> Item:
        """Returns the item for the run's record, not yet measured."""
        # Imported here: the worker shares this module and needs no records.
        from vozmetro.measure.records import Item

        return Item(
            id=self.id,
            seconds=self.seconds,
            language=self.language,
            text=self.text,
            source="synthetic" if self.synthetic else "corpus",
            path=self.paths[0] if len(self.paths) == 1 else "",
            tokens=self.tokens,
            new_tokens=self.new_tokens,
            speaker=self.speaker,
        )

    def audio(self) -> Waveform:
        """Returns the item's audio at 16 kHz."""
        if not self.paths:
            return synthetic_speech(self.seconds, self.seed)
        waveforms = [read(Path(path)) for path in self.paths]
        if len(waveforms) == 1 and abs(waveforms[0].seconds - self.seconds) < 0.01:
            return waveforms[0]
        joined = np.concatenate([waveform.samples for waveform in waveforms])
        return Waveform(np.resize(joined, round(self.seconds * SPEECH_RATE)), SPEECH_RATE)


def from_corpus(utterances: Sequence[Utterance], seed: int) -> list[WorkItem]:
    """Returns one item for each utterance, as long as it is.

    Raises:
        InputError: `audio_too_long` for one over `LONGEST_S`.
    """
    for utterance in utterances:
        if utterance.seconds > LONGEST_S:
            raise InputError("audio_too_long", path=utterance.path, limit=f"{LONGEST_S:g}")
    return [
        WorkItem(
            id=one.id,
            seconds=round(one.seconds, 3),
            language=one.language,
            text=one.text,
            paths=(str(one.path),),
            seed=seed + index,
            synthetic=one.synthetic,
            speaker=one.speaker,
        )
        for index, one in enumerate(utterances)
    ]


def from_lengths(
    seconds: Sequence[float], utterances: Sequence[Utterance], seed: int
) -> list[WorkItem]:
    """Returns one item for each length.

    Args:
        seconds: Lengths in seconds.
        utterances: Real speech of one language to cut the lengths from; empty for synthetic audio.
        seed: As in `Settings`.

    Raises:
        InputError: `audio_seconds_range` for a length outside 0.05 s..`LONGEST_S`.
    """
    items = []
    # Equal names would be equal items.
    for index, length in enumerate({f"{length:g}": length for length in seconds}.values()):
        if not 0.05 <= length <= LONGEST_S:
            raise InputError("audio_seconds_range", given=f"{length:g}", limit=f"{LONGEST_S:g}")
        # Each length starts at another utterance, so that the items are different speech.
        start = index % len(utterances) if utterances else 0
        order = [*utterances[start:], *utterances[:start]]
        paths = tuple(str(utterance.path) for utterance in order)
        language = utterances[0].language if utterances else ""
        synthetic = all(one.synthetic for one in utterances)
        name = f"{length:g} s"
        items.append(WorkItem(name, length, language, "", paths, seed + index, synthetic))
    return items


def from_prompts(lengths: Sequence[int], new_tokens: int, seed: int) -> list[WorkItem]:
    """Returns one item for each length of prompt, in tokens.

    Args:
        lengths: Tokens of each prompt.
        new_tokens: Tokens to give for each, the first one included.
        seed: Seeds the prompts.

    Raises:
        InputError: `tokens_range` for less than one token or more than `MOST_TOKENS`.
    """
    for given in (*lengths, new_tokens):
        if not 1 <= given <= MOST_TOKENS:
            raise InputError("tokens_range", given=given, most=MOST_TOKENS)
    return [
        WorkItem(
            id=f"{length} tokens",
            seconds=0.0,
            language="",
            text="",
            paths=(),
            seed=seed + index,
            synthetic=True,
            tokens=length,
            new_tokens=new_tokens,
        )
        # Equal names would be equal items.
        for index, length in enumerate(dict.fromkeys(lengths))
    ]
