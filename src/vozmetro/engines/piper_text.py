"""Text to a Piper voice's phoneme numbers, within the process: nothing is started per sentence."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from vozmetro.errors import ModelError
from vozmetro.models import safety
from vozmetro.speech.clauses import sentences

MOST_PHONEMES = 600
"""Of a piece: the text encoder's work grows with their square. A long sentence has 250."""
_ESPEAK = threading.Lock()
"""eSpeak NG has one state for the whole process."""


class VoiceText:
    """A voice's configuration and its way from text to numbers.

    Attributes:
        sample_rate: Hz.
        scales: float32-able noise, length and duration noise, as the voice asks for them.
        speakers: How many it has.
        known: Every phoneme number.
    """

    def __init__(self, path: Path) -> None:
        """Reads `VOICE.onnx.json`.

        Raises:
            ModelError: `voice_config_invalid`.
        """
        from piper import PiperVoice
        from piper.config import PiperConfig

        table = safety.read_json(path)
        try:
            config = PiperConfig.from_dict(dict(table or {}))
            self.sample_rate = int(config.sample_rate)
            self.speakers = int(config.num_speakers)
            self.scales = tuple(
                float(scale)
                for scale in (config.noise_scale, config.length_scale, config.noise_w_scale)
            )
            numbers = _numbers(config.phoneme_id_map)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ModelError("voice_config_invalid", path=path) from error
        if not (self.sample_rate > 0 and numbers):
            raise ModelError("voice_config_invalid", path=path)
        self._gaps = frozenset(numbers.get(" ", ()))
        self._marks = frozenset(number for mark in ",;:—" for number in numbers.get(mark, ()))
        self.known = tuple(number for found in numbers.values() for number in found)
        # Only its way from text to numbers is used: it gets no session.
        self._voice: Any = PiperVoice(session=None, config=config)

    def pieces(self, text: str) -> Iterator[list[int]]:
        """Yields the phoneme numbers of each sentence, the first before the others are read.

        A sentence of more than `MOST_PHONEMES` comes in pieces, cut between words.
        """
        for sentence in sentences(text):
            with _ESPEAK:
                found = self._voice.phonemize(sentence)
            for phonemes in found:
                for piece in _bounded(phonemes):
                    yield self._voice.phonemes_to_ids(piece)

    def pause(self, numbers: Sequence[int], soonest: int, latest: int) -> int:
        """Returns where a sentence is best taken up anew, between `soonest` and `latest`.

        Args:
            numbers: Of a sentence, longer than `latest`.
            soonest: First place that will do.
            latest: Last place that will do.

        Returns:
            The beginning of the first word behind a comma or its like, else of the first word,
            else `soonest`.
        """
        words = [at for at in range(soonest, latest) if numbers[at] in self._gaps]
        behind = [at for at in words if self._marks.intersection(numbers[max(0, at - 3) : at])]
        return (behind or words or [soonest])[0]


def _numbers(table: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    return {
        str(phoneme): tuple(int(number) for number in found) for phoneme, found in table.items()
    }


def _bounded(phonemes: list[str]) -> Iterator[list[str]]:
    while len(phonemes) > MOST_PHONEMES:
        spaces = [at for at in range(1, MOST_PHONEMES) if phonemes[at] == " "]
        cut = spaces[-1] if spaces else MOST_PHONEMES
        yield phonemes[:cut]
        phonemes = phonemes[cut:]
    if phonemes:
        yield phonemes
