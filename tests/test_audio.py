"""Waveforms and log-mel frames, against known answers and a peer."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from vozmetro.audio import Waveform, log_mel, read, resample, synthetic_speech
from vozmetro.errors import InputError


def test_reads_stereo_at_another_rate_as_mono_16k(tmp_path: Path) -> None:
    time = np.arange(48_000) / 48_000
    tone = np.sin(2 * np.pi * 440 * time)
    path = tmp_path / "tone.wav"
    soundfile.write(path, np.stack([tone, np.zeros_like(tone)], axis=1), 48_000, subtype="FLOAT")
    waveform = read(path)
    assert waveform.rate == 16_000
    assert waveform.samples.dtype == np.float32
    assert len(waveform.samples) == 16_000
    # The mean of a full-scale tone and silence is a tone at half scale, still at 440 Hz.
    spectrum = np.abs(np.fft.rfft(waveform.samples))
    assert int(spectrum.argmax()) == 440
    assert np.abs(waveform.samples[4000:12_000]).max() == pytest.approx(0.5, abs=0.005)


def test_flac_and_wav_give_the_same_samples(tmp_path: Path) -> None:
    samples = (synthetic_speech(0.3).samples * 32767).astype(np.int16)
    for suffix in ("wav", "flac"):
        soundfile.write(tmp_path / f"a.{suffix}", samples, 16_000)
    assert np.array_equal(read(tmp_path / "a.wav").samples, read(tmp_path / "a.flac").samples)


@pytest.mark.parametrize(
    ("content", "code"), [(None, "file_missing"), (b"not a sound at all", "not_audio")]
)
def test_bad_files_are_named(tmp_path: Path, content: bytes | None, code: str) -> None:
    path = tmp_path / "bad.wav"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError) as caught:
        read(path)
    assert caught.value.code == code
    assert str(path) in str(caught.value)


def test_empty_audio_is_an_error(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "empty.wav", np.zeros(0), 16_000)
    with pytest.raises(InputError) as caught:
        read(tmp_path / "empty.wav")
    assert caught.value.code == "empty_audio"


@pytest.mark.parametrize("bands", [80, 128])
def test_log_mel_equals_the_one_of_faster_whisper(bands: int) -> None:
    from faster_whisper.feature_extractor import FeatureExtractor

    waveform = synthetic_speech(1.7, seed=3)
    peer = FeatureExtractor(feature_size=bands)(waveform.samples, padding=0)
    ours = log_mel(waveform, bands)
    assert ours.shape == (bands, 170)
    # The peer pads and keeps a frame more or less at the end; frames in common must agree.
    frames = min(ours.shape[1], peer.shape[1]) - 2
    assert np.allclose(ours[:, :frames], peer[:, :frames], atol=2e-4)


@settings(max_examples=25, deadline=None)
@given(seconds=st.floats(0.05, 3.0), seed=st.integers(0, 1000))
def test_synthetic_speech_is_seeded_bounded_and_as_long_as_asked(seconds: float, seed: int) -> None:
    one, two = synthetic_speech(seconds, seed), synthetic_speech(seconds, seed)
    assert np.array_equal(one.samples, two.samples)
    assert len(one.samples) == round(seconds * 16_000)
    assert np.abs(one.samples).max() <= 0.5 + 1e-6
    assert log_mel(one).shape == (80, len(one.samples) // 160)


def test_resampling_keeps_length_in_seconds() -> None:
    waveform = Waveform(synthetic_speech(1.0).samples, 16_000)
    assert resample(waveform, 8_000).seconds == pytest.approx(1.0)
    assert resample(waveform, 16_000) is waveform
