"""Reverberation: the impulse response of a room by the image source method."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from vozmetro.audio import SPEECH_RATE, Samples, Waveform
from vozmetro.errors import MissingExtraError
from vozmetro.speech.level import active_level
from vozmetro.speech.seeded import generator

SIZES = ((4.0, 7.0), (3.5, 5.5), (2.5, 3.2))
"""From and to which length, width and height rooms are drawn (metres)."""
DISTANCE = (1.0, 2.5)
"""From and to which distance the speaker stands from the microphone (metres)."""
WALL = 0.5
"""Least distance of speaker and microphone from any wall (metres)."""
SOUND = 343.0
"""Speed of sound (m/s)."""
TOLERANCE = 0.03
"""How far the response's RT60 may lie from the wanted one, relative."""
_TRIES = 6


def reverberate(waveform: Waveform, rt60: float, seed: int) -> Waveform:
    """Returns speech as heard in a room.

    Speech keeps its length, its place in time (the direct sound comes without delay) and its active
    level (P.56). What rings on after the end of the recording is cut.

    Args:
        waveform: Speech at 16 kHz.
        rt60: Seconds in which the sound of the room falls by 60 dB.
        seed: Which room of that reverberation time.

    Raises:
        MissingExtraError: `pyroomacoustics` is not installed.
    """
    from scipy.signal import oaconvolve

    before = active_level(waveform)
    length = len(waveform.samples)
    response, direct = impulse_response(rt60, seed)
    wet = oaconvolve(waveform.samples, response)[direct : direct + length]
    heard = Waveform(wet.astype(np.float32), waveform.rate)
    after = active_level(heard)
    if not (before.activity > 0 and after.activity > 0):
        return heard
    gain = np.float32(10 ** ((before.db - after.db) / 20))
    return Waveform(heard.samples * gain, waveform.rate)


@lru_cache(maxsize=32)
def impulse_response(rt60: float, seed: int) -> tuple[Samples, int]:
    """Returns the impulse response of a shoebox room at 16 kHz, and where its direct sound lies.

    The image source method (Allen and Berkley 1979) as pyroomacoustics computes it. The room's
    size and both places are drawn from the seed. Its walls absorb what Sabine's formula asks for,
    then corrected until Schroeder's decay (-5 to -35 dB) has the wanted time: images between
    parallel walls ring longer than the diffuse sound that Sabine assumes.

    Args:
        rt60: Seconds.
        seed: Which room.

    Returns:
        The response, shape [K], float32, not to be changed (later calls get the same array), and
        the index at which the direct sound arrives in it.

    Raises:
        MissingExtraError: `pyroomacoustics` is not installed.
    """
    try:
        import pyroomacoustics
        from pyroomacoustics.experimental import measure_rt60
    except ImportError as error:
        raise MissingExtraError("quality", "pyroomacoustics") from error
    size, speaker, microphone = _geometry(seed)
    # Sabine: RT60 = 24 ln(10) / c * V / (S a), with absorption a of walls of area S.
    volume = float(np.prod(size))
    area = 2 * float(size[0] * size[1] + size[1] * size[2] + size[0] * size[2])
    absorption = min(0.95, 24 * np.log(10) / SOUND * volume / (area * rt60))
    # So many reflections hold every image of about the first two thirds of the time (a fall of 40
    # dB), and part of the later ones.
    order = int(np.ceil(SOUND * rt60 / float(size.min())))
    for _ in range(_TRIES):
        response = _images(size, speaker, microphone, absorption, order)
        ratio = float(measure_rt60(response, SPEECH_RATE, decay_db=30)) / rt60
        if abs(ratio - 1) < TOLERANCE:
            break
        # Eyring: the time is inverse to -ln(1 - absorption).
        absorption = float(np.clip(1 - (1 - absorption) ** ratio, 0.01, 0.99))
    # The library centres each image in a filter of fractional delay.
    delay = pyroomacoustics.constants.get("frac_delay_length") // 2
    distance = float(np.linalg.norm(speaker - microphone))
    result = response.astype(np.float32)
    result.setflags(write=False)
    return result, delay + round(distance / SOUND * SPEECH_RATE)


def _geometry(seed: int) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Draws a room's size and where speaker and microphone stand, each of shape [3], metres."""
    draws = generator(seed, "room")
    while True:
        size = np.array([draws.uniform(*span) for span in SIZES])
        speaker, microphone = (draws.uniform(WALL, size - WALL) for _ in range(2))
        if DISTANCE[0] <= np.linalg.norm(speaker - microphone) <= DISTANCE[1]:
            return size, speaker, microphone


def _images(
    size: NDArray[np.float64],
    speaker: NDArray[np.float64],
    microphone: NDArray[np.float64],
    absorption: float,
    order: int,
) -> NDArray[np.float64]:
    """Returns the response, shape [K], for walls that absorb this share of the energy."""
    import pyroomacoustics

    material = pyroomacoustics.Material(absorption)
    room = pyroomacoustics.ShoeBox(size, fs=SPEECH_RATE, materials=material, max_order=order)
    room.add_source(speaker)
    room.add_microphone(microphone)
    room.compute_rir()
    return np.asarray(room.rir[0][0], dtype=np.float64)
