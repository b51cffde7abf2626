"""Whisper while one speaks: features, the encoder's memory, guesses, the stream itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import whisper_zoo as zoo
from hypothesis import given, settings
from hypothesis import strategies as st

from vozmetro import audio
from vozmetro.audio import Waveform
from vozmetro.engines import registry
from vozmetro.engines.base import LoadRequest
from vozmetro.engines.whisper_decoding import Decoded
from vozmetro.engines.whisper_memory import POSITIONS, Encoder, Features, Memory
from vozmetro.engines.whisper_onnx import WhisperOnnx
from vozmetro.errors import InputError, ModelError
from vozmetro.models.convert.builder import Scheme
from vozmetro.models.convert.safetensors import SafetensorsSource
from vozmetro.models.convert.whisper import write_whisper


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("whisper")
    source = SafetensorsSource(zoo.hugging_face(made / "source"))
    write_whisper(source, zoo.CONFIG, made / "onnx", Scheme())
    generation = (made / "source" / "generation_config.json").read_bytes()
    (made / "onnx" / "generation_config.json").write_bytes(generation)
    return made / "onnx"


def load(folder: Path, **options: str) -> WhisperOnnx:
    loaded = registry.find("whisper-onnx").load(LoadRequest(folder, 2, options))
    assert isinstance(loaded, WhisperOnnx)
    return loaded


@pytest.fixture(scope="module")
def engine(folder: Path) -> WhisperOnnx:
    return load(folder)


@pytest.fixture(scope="module")
def encoder(folder: Path) -> Encoder:
    return Encoder(ort.InferenceSession(str(folder / "encoder.onnx")))


# Features ----------------------------------------------------------------------------------------


@given(st.integers(201, 9000), st.lists(st.integers(1, 3000), max_size=6))
@settings(deadline=None, max_examples=40)
def test_features_in_pieces_are_those_of_the_whole(
    engine: WhisperOnnx, count: int, sizes: list[int]
) -> None:
    recording = audio.synthetic_speech(1.0, 3)
    samples = recording.samples[:count]
    pieces = Features(zoo.BANDS)
    at = 0
    for size in sizes:
        pieces.feed(samples[at : at + size])
        at += size
        pieces.frames(final=False)
    pieces.feed(samples[at:])
    whole = engine.features(Waveform(samples, 16_000))
    found = pieces.frames(final=True)
    assert found.shape[1] == whole.shape[1] + whole.shape[1] % 2
    np.testing.assert_allclose(found[:, : whole.shape[1]], whole, atol=1e-5)
    assert (found[:, whole.shape[1] :] <= whole.min() + 1e-6).all()


def test_half_a_window_has_no_features() -> None:
    pieces = Features(zoo.BANDS)
    pieces.feed(np.ones(200, np.float32))
    assert pieces.frames(final=True).shape == (zoo.BANDS, 0)


# The encoder's memory ----------------------------------------------------------------------------


def test_the_encoder_goes_on_exactly_where_it_was(encoder: Encoder) -> None:
    rng = np.random.default_rng(0)
    frames = rng.standard_normal((zoo.BANDS, 300)).astype(np.float32)
    whole = encoder.run(frames, (0, POSITIONS), 0, {})
    before = {name: np.ascontiguousarray(whole[name][:, :100]) for name in encoder.own}
    # One position more on the left, for the convolutions.
    rest = encoder.run(frames[:, 198:], (1, POSITIONS), 100, before)
    for name in encoder.own:
        np.testing.assert_allclose(rest[name], whole[name][:, 100:], atol=1e-4)
    for name in encoder.cross:
        np.testing.assert_allclose(rest[name], whole[name][:, :, 100:], atol=1e-4)


def test_what_is_not_kept_leaves_no_trace(encoder: Encoder) -> None:
    frames = audio.log_mel(audio.synthetic_speech(3.0, 1))
    hasty = Memory(encoder, lookahead=POSITIONS, tail=4, silence=100)
    for end in (60, 140, 250):
        hasty.hear(frames[:, :end])
    patient = Memory(encoder, lookahead=POSITIONS, tail=4, silence=100)
    wanted = patient.hear(frames)
    found = hasty.hear(frames)
    assert hasty.kept == 0
    for name in encoder.cross:
        size = min(found[name].shape[2], wanted[name].shape[2])
        # The floor of the features was another one when the first silence was made.
        np.testing.assert_allclose(found[name][:, :, :150], wanted[name][:, :, :150], atol=5e-2)
        assert size >= 250


def test_positions_are_kept_once_enough_lies_behind_them(encoder: Encoder) -> None:
    frames = audio.log_mel(audio.synthetic_speech(4.0, 2))
    memory = Memory(encoder, lookahead=25, tail=4, silence=100)
    first = {name: array.copy() for name, array in memory.hear(frames[:, :200]).items()}
    assert memory.kept == 75
    again = memory.hear(frames[:, :300])
    assert memory.kept == 125
    changed = False
    for name in encoder.cross:
        np.testing.assert_array_equal(again[name][:, :, :75], first[name][:, :, :75])
        changed |= not np.array_equal(again[name][:, :, 75:100], first[name][:, :, 75:100])
    assert changed, "what was not kept was not encoded again"


def test_a_memory_grows_to_the_window_and_no_further(encoder: Encoder) -> None:
    memory = Memory(encoder, lookahead=25, tail=4, silence=100)
    frames = np.zeros((zoo.BANDS, 3000), np.float32)
    sizes = [memory.hear(frames[:, :end])["cross.0.key"].shape[2] for end in (100, 1000, 3000)]
    assert sizes == [200, 700, POSITIONS]
    assert memory.heard == POSITIONS


# Guesses -----------------------------------------------------------------------------------------


@given(st.lists(st.integers(3, 99), max_size=12), st.integers(0, 12))
@settings(deadline=None, max_examples=30)
def test_a_guess_changes_nothing_but_the_time(
    engine: WhisperOnnx, noise: list[int], right: int
) -> None:
    recording = audio.synthetic_speech(2.0, 5)
    memory = Memory(Encoder(engine.session), 25, 4, 100)
    step = engine.decoder.on(memory.hear(engine.features(recording)))
    wanted, language = engine.decoder.decode(step, "es", 30)
    guess = [*wanted.tokens[:right], *noise]
    found, _ = engine.decoder.decode(step, "es", 30, guess)
    assert found.tokens == wanted.tokens
    assert found.complete == wanted.complete
    assert found.confidence == pytest.approx(wanted.confidence, abs=1e-3)
    assert language == "es"


def test_a_language_is_detected_once_and_a_guess_still_checked(engine: WhisperOnnx) -> None:
    memory = Memory(Encoder(engine.session), 25, 4, 100)
    heard = memory.hear(engine.features(audio.synthetic_speech(2.0, 6)))
    step = engine.decoder.on(heard)
    wanted, spoken = engine.decoder.decode(step, "", 30)
    found, again = engine.decoder.decode(step, "", 30, wanted.tokens)
    assert spoken in ("es", "en")
    assert (found.tokens, again) == (wanted.tokens, spoken)


def test_a_sentence_said_twice_is_said_once() -> None:
    sentence = (5, 6, 7, 8, 9)
    assert Decoded(sentence * 2, -0.1, False).once() == Decoded(sentence, -0.1, True)
    for other in (
        Decoded(sentence * 2, -0.1, True),
        Decoded((5, 6) * 2, -0.1, False),
        Decoded((*sentence, *sentence, 1), -0.1, False),
        Decoded((*sentence, 5, 6, 7, 8, 1), -0.1, False),
    ):
        assert other.once() is other


# The stream --------------------------------------------------------------------------------------


def test_looks_in_between_change_nothing_where_nothing_is_kept(folder: Path) -> None:
    engine = load(folder, lookahead="30")
    recording = audio.synthetic_speech(2.6, 4)
    plain = engine.open_stream("es")
    plain.feed(recording.samples)
    looked = engine.open_stream("es")
    for start in range(0, len(recording.samples), 8000):
        looked.feed(recording.samples[start : start + 8000])
        looked.partial()
    assert looked.finish() == plain.finish()


def test_a_stream_goes_on_after_its_end(engine: WhisperOnnx) -> None:
    recording = audio.synthetic_speech(3.0, 8)
    stream = engine.open_stream("es")
    stream.feed(recording.samples[:20_000])
    first = stream.finish()
    assert stream.finish() == first
    stream.feed(recording.samples[20_000:])
    assert len(stream.finish().split()) > 0
    assert stream.language == "es"


def test_silence_is_made_with_the_first_stream_whatever_the_loudness(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = load(folder)
    lengths: list[int] = []
    plain = Encoder.run

    def noted(self: Encoder, frames: audio.Samples, *rest: Any) -> Any:
        lengths.append(frames.shape[1])
        return plain(self, frames, *rest)

    monkeypatch.setattr(Encoder, "run", noted)
    engine.open_stream("es")
    assert lengths == [2 * POSITIONS]
    recording = audio.synthetic_speech(2.0, 3)
    for gain in (1.0, 0.1, 0.001):
        stream = engine.open_stream("es")
        stream.feed(gain * recording.samples)
        stream.finish()
    assert len(lengths) >= 4
    assert max(lengths[1:]) < 2 * POSITIONS


def test_an_empty_stream_says_nothing(engine: WhisperOnnx) -> None:
    stream = engine.open_stream("es")
    assert (stream.partial(), stream.finish()) == ("", "")
    stream.feed(np.zeros(100, np.float32))
    assert (stream.partial(), stream.finish()) == ("", "")


def test_longer_than_a_window_is_transcribed_at_leisure(folder: Path) -> None:
    engine = load(folder, context="stream")
    recording = audio.synthetic_speech(31.0, 1)
    assert engine.transcribe(recording, "es") == load(folder, context="3.0").transcribe(
        recording, "es"
    )
    assert engine.fallbacks > 0


def test_the_context_stream_is_a_stream_that_is_fed_at_once(folder: Path) -> None:
    engine = load(folder, context="stream")
    recording = audio.synthetic_speech(2.0, 9)
    stream = engine.open_stream("en")
    stream.feed(recording.samples)
    assert engine.transcribe(recording, "en") == stream.finish()


@pytest.mark.parametrize("value", ["soon", "-1", "31", "nan"])
def test_an_option_that_is_no_length(folder: Path, value: str) -> None:
    with pytest.raises(InputError) as caught:
        load(folder, lookahead=value)
    assert (caught.value.code, caught.value.fields["name"]) == ("whisper_seconds", "lookahead")


def test_an_unknown_language_is_refused_at_once(engine: WhisperOnnx) -> None:
    with pytest.raises(InputError) as caught:
        engine.open_stream("xx")
    assert caught.value.code == "whisper_language"


def test_an_encoder_from_elsewhere_cannot_stream(folder: Path, tmp_path: Path) -> None:
    for file in folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    model = onnx.load(tmp_path / "encoder.onnx", load_external_data=False)
    kept = [port for port in model.graph.output if not port.name.startswith("own.")]
    del model.graph.output[:]
    model.graph.output.extend(kept)
    onnx.save(model, tmp_path / "encoder.onnx")
    engine = load(tmp_path)
    assert engine.transcribe(audio.synthetic_speech(1.0), "es")
    with pytest.raises(ModelError) as caught:
        engine.open_stream("es")
    assert caught.value.code == "whisper_no_memory"
