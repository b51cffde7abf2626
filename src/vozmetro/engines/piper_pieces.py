"""A voice's decoder run on a few frames at a time, with the frames around them that they need."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vozmetro.audio import Samples

Frames = NDArray[np.float32]
"""float32 [1, channels, frames]."""


@dataclass(frozen=True)
class Geometry:
    """What joins a voice's graphs; see `piper_split.Parts`.

    Attributes:
        hop: Samples of a frame.
        flow_reach: Frames on either side that the flow needs.
        vocoder_reach: Frames on either side that the vocoder needs.
    """

    hop: int
    flow_reach: int
    vocoder_reach: int


@dataclass(frozen=True)
class Schedule:
    """Frames of each piece: few at first, so that it is there soon; then more at a time.

    Attributes:
        first: Of the first piece.
        growth: Factor from one to the next. A piece must be made while the one before it plays.
        most: Of any piece.
    """

    first: int = 12
    growth: float = 1.6
    most: int = 96

    def sizes(self) -> Iterator[int]:
        """Yields the frames of each piece, without end."""
        size = float(self.first)
        while True:
            yield min(self.most, int(size))
            size = min(self.most, size * self.growth)


class Decoder:
    """Latent frames to audio, piece by piece; joined, the pieces are what the whole would give.

    Args:
        flow: Session of the flow.
        vocoder: Session of the vocoder.
        geometry: Of the voice.
        schedule: Of the pieces.
        speaker: Input of both that names the speaker; none of a voice with only one.

    Attributes:
        early_needs: Latent frames that the first two pieces are made from. While they play there is
            time for much else.
    """

    def __init__(
        self,
        flow: Any,
        vocoder: Any,
        geometry: Geometry,
        schedule: Schedule | None = None,
        speaker: Mapping[str, NDArray[np.int64]] | None = None,
    ) -> None:
        self._speaker = dict(speaker or {})
        self._flow = flow
        self._vocoder = vocoder
        self._geometry = geometry
        self._schedule = schedule or Schedule()
        reaches = geometry.flow_reach + geometry.vocoder_reach
        sizes = self._schedule.sizes()
        self.early_needs = next(sizes) + next(sizes) + reaches

    def stream(self, latents: Iterable[Frames]) -> Iterator[Samples]:
        """Yields audio, float32 [samples].

        Args:
            latents: Consecutive latent frames, asked for when they are needed.
        """
        source = _Growing(iter(latents))
        given = self._speaker
        reach = self._geometry.vocoder_reach
        frames = _Flowed(source, self._flow, self._geometry.flow_reach, given)
        start = 0
        for size in self._schedule.sizes():
            seen = frames.up_to(start + size + reach)
            end = min(start + size, seen.shape[2])
            if end <= start:
                return
            before = max(0, start - reach)
            window = np.ascontiguousarray(seen[:, :, before : end + reach])
            audio = self._vocoder.run(None, {"frames": window, **given})[0].reshape(-1)
            hop = self._geometry.hop
            yield audio[(start - before) * hop : (end - before) * hop]
            start = end


class _Growing:
    """Latent frames so far, and whether there are more."""

    def __init__(self, source: Iterator[Frames]) -> None:
        self._source = source
        self._held: Frames | None = None
        self.ended = False

    def up_to(self, count: int) -> Frames:
        """Returns all frames so far, at least `count` of them if there are so many."""
        while not self.ended and (self._held is None or self._held.shape[2] < count):
            block = next(self._source, None)
            if block is None:
                self.ended = True
            elif self._held is None:
                self._held = block
            else:
                self._held = np.concatenate((self._held, block), axis=2)
        return np.zeros((1, 0, 0), np.float32) if self._held is None else self._held


class _Flowed:
    """Frames behind the flow so far. Each is made once."""

    def __init__(self, source: _Growing, session: Any, reach: int, given: dict[str, Any]) -> None:
        self._source = source
        self._session = session
        self._reach = reach
        self._given = given
        self._held: Frames | None = None

    def up_to(self, count: int) -> Frames:
        """Returns all frames so far, at least `count` of them if there are so many."""
        done = 0 if self._held is None else self._held.shape[2]
        if self._held is not None and done >= count:
            return self._held
        latents = self._source.up_to(count + self._reach)
        # At the end there is nothing behind the last frame, and the graph pads as the whole does.
        end = min(count, latents.shape[2])
        if end > done:
            before = max(0, done - self._reach)
            window = np.ascontiguousarray(latents[:, :, before : end + self._reach])
            made = self._session.run(None, {"latent": window, **self._given})[0]
            made = made[:, :, done - before : end - before]
            self._held = made if self._held is None else np.concatenate((self._held, made), axis=2)
        return latents if self._held is None else self._held
