"""What Whisper's encoder has made of an utterance so far, so that it need not hear it again.

The encoder of openai/whisper looks at the whole window at once: every position attends to every
other. Here, positions that lie a little way back are kept as they were made, with all that came
before them and `lookahead` after them in view, and later ones attend to what is kept. And the
silence that Whisper expects behind the words is not encoded again either: its keys and values are
made once, for every place in the window, and lie in the memory where no speech has come yet.

Encoding the rest of an utterance so takes as long as what is new is long, and not the utterance or
the window. What that does to the words is measured, not assumed: `vozmetro tune`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vozmetro.audio import MEL_HOP, MEL_WINDOW, Samples, mel_powers, whisper_scaled

POSITIONS = 1500
"""Of a window of 30 s: one for two frames, 50 a second."""
_GROWTH = 100
"""Positions by which a memory grows: 2 s."""
_FLOOR = -0.65
"""Features of the silence that is made once: what they are below speech of usual loudness. The
silence next to the speech has the features that it has there."""

Arrays = Mapping[str, NDArray[np.float32]]


class Features:
    """Log-mel frames of audio that is still coming in.

    In the end they are those that `audio.log_mel` makes of the whole and silence behind it; audio
    shorter than half a window has none.

    Args:
        bands: Mel bands.
    """

    def __init__(self, bands: int) -> None:
        self._bands = bands
        self._samples: list[Samples] = []
        # What no window has begun with yet.
        self._rest: Samples = np.zeros(0, np.float32)
        self._begun = False
        self._powers = np.full((bands, 0), -10.0, np.float32)

    def feed(self, samples: Samples) -> None:
        """Appends audio, float32 mono [T] at 16 kHz."""
        self._samples.append(samples)

    def frames(self, *, final: bool) -> Samples:
        """Returns the scaled frames so far [bands, even number].

        Args:
            final: As if silence followed: also those whose windows reach beyond the audio.
        """
        self._take()
        powers = self._powers
        if final and self._begun:
            tail = np.pad(self._rest, (0, MEL_WINDOW // 2 - MEL_HOP))
            if len(tail) >= MEL_WINDOW:
                powers = np.concatenate([powers, mel_powers(tail, self._bands)], axis=1)
            powers = np.pad(powers, ((0, 0), (0, powers.shape[1] % 2)), constant_values=-10.0)
        even = powers.shape[1] - powers.shape[1] % 2
        return whisper_scaled(powers[:, :even])

    def _take(self) -> None:
        """Makes frames of all whole windows."""
        new = np.concatenate([self._rest, *self._samples])
        self._samples = []
        if not self._begun:
            if len(new) <= MEL_WINDOW // 2:
                self._rest = new
                return
            # The first windows reach back beyond the start, where the audio is mirrored.
            new = np.concatenate([new[MEL_WINDOW // 2 : 0 : -1], new])
            self._begun = True
        whole = max(0, (len(new) - MEL_WINDOW) // MEL_HOP + 1)
        if whole:
            powers = mel_powers(new, self._bands)
            self._powers = np.concatenate([self._powers, powers], axis=1)
        self._rest = new[whole * MEL_HOP :]


class Encoder:
    """An encoder that can go on where it was (`models.convert.whisper`).

    Args:
        session: An `onnxruntime.InferenceSession` of it.

    Attributes:
        bands: Mel bands of its features.
        own: Names of its keys and values, and
        cross: of those that it makes for the decoder.
        remembers: Whether the graph can do it.
    """

    def __init__(self, session: Any) -> None:
        self._session = session
        self.bands = int(session.get_inputs()[0].shape[1])
        names = [port.name for port in session.get_outputs()]
        self.own = [name for name in names if name.startswith("own.")]
        self.cross = [name for name in names if name.startswith("cross.")]
        self.remembers = bool(self.own)
        self._silence: dict[str, NDArray[np.float32]] = {}

    def run(
        self, frames: Samples, kept: tuple[int, int], offset: int, remembered: Arrays
    ) -> dict[str, NDArray[np.float32]]:
        """Encodes some frames of a window.

        Args:
            frames: [bands, even number].
            kept: First and last (excluded) of the positions made of them that are wanted.
            offset: Number of the first one wanted in the window.
            remembered: Keys and values of others, by `own.*` name, [1, positions, width].

        Returns:
            `own.*` [1, positions, width] and `cross.*` [1, heads, positions, head width].
        """
        feeds: dict[str, NDArray[Any]] = {
            "input_features": frames[None],
            "kept_from": np.array([kept[0]]),
            "kept_to": np.array([kept[1]]),
            "offset": np.array([offset]),
        }
        for name, values in remembered.items():
            feeds[f"remembered.{name.removeprefix('own.')}"] = values
        names = [*self.own, *self.cross]
        return dict(zip(names, self._session.run(names, feeds), strict=True))

    def silence(self) -> dict[str, NDArray[np.float32]]:
        """Returns what it makes of 30 s of silence; kept, since it takes as long as a window."""
        if not self._silence:
            quiet = np.full((self.bands, 2 * POSITIONS), _FLOOR, np.float32)
            self._silence = self.run(quiet, (0, POSITIONS), 0, {})
        return self._silence


class Memory:
    """An utterance as the encoder has heard it so far, at most 30 s.

    Args:
        encoder: The encoder.
        lookahead: Positions that must lie behind one before it is kept.
        tail: Positions of silence that are encoded with the speech, so that it ends as speech
            does.
        silence: Positions of silence behind that, at least.

    Attributes:
        kept: Positions that will not be encoded again.
        heard: Positions of speech that the last `hear` has seen.
    """

    def __init__(self, encoder: Encoder, lookahead: int, tail: int, silence: int) -> None:
        self._encoder = encoder
        self._lookahead = lookahead
        self._tail = tail
        self._silence = silence
        self._arrays: dict[str, NDArray[np.float32]] = {}
        self._filled = 0
        self.kept = 0
        self.heard = 0

    def hear(self, frames: Samples) -> dict[str, NDArray[np.float32]]:
        """Encodes what is new; returns `cross.*` of speech and silence [1, heads, positions, head].

        Args:
            frames: All frames of the utterance [bands, even number], at most 3000.
        """
        floor = float(frames.max(initial=-1.5)) - 2.0
        self.heard = frames.shape[1] // 2
        edge = min(self._tail, POSITIONS - self.heard)
        self._make_room(self.heard + edge)
        begin = max(0, self.kept - 1)
        # One position more on either side: at an edge the convolutions see zeros.
        quiet = np.full((frames.shape[0], 2 * (edge + 1)), floor, np.float32)
        new = np.concatenate([frames[:, 2 * begin :], quiet], axis=1)
        count = self.heard + edge - self.kept
        first = self.kept - begin
        remembered = {name: self._arrays[name] for name in self._encoder.own}
        made = self._encoder.run(new, (first, first + count), self.kept, remembered)
        self._keep(made, self.kept + count)
        return {name: self._arrays[name] for name in self._encoder.cross}

    def _keep(self, made: Arrays, end: int) -> None:
        start, self.kept = self.kept, max(self.kept, self.heard - self._lookahead)
        for name in self._encoder.cross:
            self._arrays[name][:, :, start:end] = made[name]
        # What will be encoded again must not be attended to as it was.
        silence = self._encoder.silence()
        for name in self._encoder.own:
            self._arrays[name][:, start : self.kept] = made[name][:, : self.kept - start]
            self._arrays[name][:, self.kept : end] = silence[name][:, self.kept : end]
        self._filled = end

    def _make_room(self, needed: int) -> None:
        """Grows the arrays, with silence where no speech has come yet."""
        room = min(POSITIONS, -(-(needed + self._silence) // _GROWTH) * _GROWTH)
        names = [*self._encoder.own, *self._encoder.cross]
        before = self._arrays[names[0]].shape[1] if self._arrays else 0
        if needed + self._silence <= before or room <= before:
            return
        silence = self._encoder.silence()
        for name in names:
            axis = 1 if name in self._encoder.own else 2
            grown = np.ascontiguousarray(silence[name].take(range(room), axis))
            if self._filled:
                part = (slice(None),) * axis + (slice(self._filled),)
                grown[part] = self._arrays[name][part]
            self._arrays[name] = grown
