"""The Whisper engine: greedy search, windows, the cut context and its guard, special tokens."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
import whisper_zoo as zoo
from hypothesis import given, settings
from hypothesis import strategies as st

from vozmetro import audio
from vozmetro.audio import Waveform
from vozmetro.engines import registry, whisper_window
from vozmetro.engines.base import LoadRequest
from vozmetro.engines.whisper_onnx import WhisperOnnx
from vozmetro.errors import InputError, ModelError
from vozmetro.models.convert.builder import Scheme
from vozmetro.models.convert.ctranslate2_source import CTranslate2Source
from vozmetro.models.convert.safetensors import SafetensorsSource
from vozmetro.models.convert.whisper import write_whisper
from vozmetro.models.resolve import resolve
from vozmetro.prepare.parity_whisper import whisper_parity
from vozmetro.speech.corpus import load_corpus
from vozmetro.speech.whisper_tokens import WhisperTokens


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("whisper")
    source = SafetensorsSource(zoo.hugging_face(made / "source"))
    write_whisper(source, zoo.CONFIG, made / "onnx", Scheme())
    generation = (made / "source" / "generation_config.json").read_bytes()
    (made / "onnx" / "generation_config.json").write_bytes(generation)
    return made / "onnx"


def load(folder: Path, threads: int = 2, **options: str) -> WhisperOnnx:
    loaded = registry.find("whisper-onnx").load(LoadRequest(folder, threads, options))
    assert isinstance(loaded, WhisperOnnx)
    return loaded


def speech(seconds: float, seed: int = 0) -> Waveform:
    return audio.synthetic_speech(seconds, seed)


def plainly(folder: Path, frames: np.ndarray, prompt: list[int], most: int) -> list[int]:
    """Greedy search without a cache: everything anew for each token."""
    encoder = ort.InferenceSession(str(folder / "encoder.onnx"))
    decoder = ort.InferenceSession(str(folder / "decoder.onnx"))
    names = [port.name for port in encoder.get_outputs()]
    heard = dict(zip(names, encoder.run(names, {"input_features": frames[None]}), strict=True))
    empty = np.zeros((1, zoo.HEADS, 0, zoo.WIDTH // zoo.HEADS), np.float32)
    feeds = {
        port.name: empty if port.name.startswith("past") else heard.get(port.name)
        for port in decoder.get_inputs()
    }
    found: list[int] = []
    while len(found) < most:
        feeds["input_ids"] = np.array([prompt + found])
        logits = decoder.run(["logits"], feeds)[0].ravel()
        logits[zoo.GENERATION["suppress_tokens"]] = -np.inf
        if not found:
            logits[zoo.GENERATION["begin_suppress_tokens"]] = -np.inf
        token = int(logits.argmax())
        if token == zoo.GENERATION["eos_token_id"]:
            break
        found.append(token)
    return found


def test_tokens_are_those_of_a_plain_search(folder: Path) -> None:
    engine = load(folder)
    seen = set()
    for seed in range(3):
        recording = speech(2.0 + seed, seed)
        frames = whisper_window.padded(engine.features(recording), whisper_window.FRAMES)
        wanted = plainly(folder, frames, [101, 103, 105, 107], engine.decoder.limit)
        assert engine.transcribe_tokens(recording, "es") == wanted
        seen.update(wanted)
    assert len(seen) > 3
    assert not seen & {*zoo.GENERATION["suppress_tokens"]}


def test_an_empty_language_is_the_likeliest_one(folder: Path) -> None:
    engine = load(folder)
    recording = speech(2.0)
    found = engine.transcribe_tokens(recording, "")
    assert found in [engine.transcribe_tokens(recording, code) for code in ("en", "es")]


def test_an_unknown_language_is_refused_with_those_there_are(folder: Path) -> None:
    with pytest.raises(InputError) as caught:
        load(folder).transcribe(speech(1.0), "xx")
    assert caught.value.code == "whisper_language"
    assert "en, es" in str(caught.value)


def test_long_recordings_come_in_windows(folder: Path) -> None:
    engine = load(folder)
    long = speech(61.0)
    engine.transcribe_tokens(long, "es")
    assert engine.windows in (3, 4, 5)
    frames = engine.features(long)
    assert frames.shape == (zoo.BANDS, 6100)


def test_no_audio_is_no_text(folder: Path) -> None:
    assert load(folder).transcribe(Waveform(np.zeros(0, np.float32), 16_000), "es") == ""


def test_without_a_tokenizer_the_words_are_numbers(folder: Path) -> None:
    words = load(folder).transcribe(speech(1.0), "es").split()
    assert all(word.isdigit() and int(word) < 100 for word in words)


def test_engines_of_any_number_of_threads_live_together(folder: Path) -> None:
    found = [load(folder, threads).transcribe(speech(2.0), "es") for threads in (2, 1, 2)]
    assert found[0] == found[1] == found[2]


def test_a_loop_falls_back_to_the_full_window(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = load(folder).transcribe_tokens(speech(2.0), "es")
    monkeypatch.setattr(whisper_window, "plausible_tokens", lambda _: 1)
    engine = load(folder, context="1.0")
    assert engine.transcribe_tokens(speech(2.0), "es") == full
    assert (engine.windows, engine.fallbacks) == (1, 2)


def test_the_cut_window_is_filled_up_with_silence(folder: Path) -> None:
    engine = load(folder, context="1.0")
    recording = speech(2.0)
    silent = Waveform(np.concatenate([recording.samples, np.zeros(16_000, np.float32)]), 16_000)
    frames = engine.features(recording)
    filled = whisper_window.padded(frames, 300, float(frames.max()) - whisper_window.DYNAMICS)
    # The frames around the seam hear both sides of it.
    np.testing.assert_allclose(filled[:, 202:], engine.features(silent)[:, 202:300], atol=1e-5)


def test_the_full_window_has_no_guard(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(whisper_window, "plausible_tokens", lambda _: 1)
    engine = load(folder)
    engine.transcribe_tokens(speech(2.0), "es")
    assert engine.fallbacks == 0


@pytest.mark.parametrize("value", ["", "short", "-1", "31", "nan"])
def test_contexts_that_are_none(folder: Path, value: str) -> None:
    with pytest.raises(InputError) as caught:
        load(folder, context=value)
    assert caught.value.code == "whisper_context"
    assert str(caught.value)


def test_a_gpu_that_is_not_there(folder: Path) -> None:
    if "CUDAExecutionProvider" in ort.get_available_providers():
        pytest.skip("this machine has one")
    with pytest.raises(InputError):
        load(folder, provider="cuda")


def test_a_folder_without_its_graphs(tmp_path: Path) -> None:
    with pytest.raises(ModelError) as caught:
        load(tmp_path)
    assert caught.value.code == "file_missing"


def test_windows_are_cut_at_pauses() -> None:
    frames = np.ones((4, 7000), np.float32)
    for pause in (1000, 2400, 4100, 4300):
        frames[:, pause - 30 : pause + 30] = -1.0
    frames[:, 4270:4330] = -1.2
    spans = whisper_window.spans(frames)
    starts, ends = zip(*spans, strict=True)
    assert (starts[0], ends[-1]) == (0, 7000)
    assert starts[1:] == ends[:-1]
    # The one at 10 s is too early to cut at; of two, it is cut at the quieter one.
    assert [abs(end - pause) <= 15 for end, pause in zip(ends, (2400, 4300), strict=False)] == [
        True,
        True,
    ]
    assert whisper_window.spans(frames[:, :3000]) == [(0, 3000)]


@given(st.integers(1, 15_000), st.integers(0, 99))
@settings(deadline=None)
def test_windows_leave_nothing_out_and_fit(count: int, seed: int) -> None:
    frames = np.random.default_rng(seed).standard_normal((2, count)).astype(np.float32)
    spans = whisper_window.spans(frames)
    assert [end for _, end in spans][:-1] == [start for start, _ in spans][1:]
    assert (spans[0][0], spans[-1][1]) == (0, count)
    assert all(0 < end - start <= whisper_window.FRAMES for start, end in spans)


def test_the_window_grows_with_the_audio() -> None:
    assert whisper_window.lengths(500, None) == [3000]
    assert whisper_window.lengths(333, 100) == [434, 834, 3000]
    assert whisper_window.lengths(10, 0) == [100, 410, 3000]
    assert whisper_window.lengths(2700, 100) == [2800, 3000]
    assert whisper_window.lengths(2990, 100) == [3000]
    assert whisper_window.silence_frames("full") is None
    assert whisper_window.silence_frames("1.5") == 150


@given(
    st.lists(st.integers(0, 3), max_size=40), st.lists(st.integers(4, 9), min_size=1, max_size=9)
)
def test_loops_are_found_behind_any_text(text: list[int], part: list[int]) -> None:
    assert whisper_window.repeats(text + part * 12)


@given(st.lists(st.integers(), max_size=60, unique=True))
def test_text_without_repeats_is_no_loop(text: list[int]) -> None:
    assert not whisper_window.repeats(text)


def test_short_repeats_are_speech() -> None:
    assert not whisper_window.repeats([5, 5, 5])
    assert not whisper_window.repeats([9, 1, 2, 1, 2, 1, 2])
    assert whisper_window.repeats([1, 2, 3, 4] * 3)
    assert not whisper_window.repeats([1, 2, 3, 4] * 2)
    assert whisper_window.repeats([1, 2, 3, 4, 5] * 2)
    assert whisper_window.repeats([7, 8, *range(30), *range(30)])


def test_features_are_those_of_faster_whisper(folder: Path) -> None:
    from faster_whisper.feature_extractor import FeatureExtractor

    engine = load(folder)
    for utterance in load_corpus("audioeval"):
        recording = audio.read(utterance.path)
        wanted = FeatureExtractor()(recording.samples)[:, :-1]
        np.testing.assert_allclose(engine.features(recording), wanted, atol=1e-5)


# Special tokens ----------------------------------------------------------------------------------


def test_special_tokens_of_every_published_layout(tmp_path: Path) -> None:
    """Numbers as openai/whisper's tokenizers give them; nothing but the vocabulary is known."""
    base = WhisperTokens.read(tmp_path, 51865)
    assert base.prompt("es") == [50258, 50262, 50359, 50363]
    assert (base.end, base.no_speech, len(base.languages)) == (50257, 50362, 99)
    large = WhisperTokens.read(tmp_path, 51866)
    assert large.prompt("yue") == [50258, 50358, 50360, 50364]
    english = WhisperTokens.read(tmp_path, 51864)
    assert english.prompt("es") == [50257, 50362]
    assert (english.end, english.no_speech, english.languages) == (50256, 50361, {})


@pytest.mark.parametrize(
    ("name", "vocabulary"), [("whisper-base", 51865), ("whisper-tiny-en", 51864)]
)
def test_files_of_real_models_say_the_same(tmp_path: Path, name: str, vocabulary: int) -> None:
    real = WhisperTokens.read(resolve(name).path, vocabulary)
    layout = WhisperTokens.read(tmp_path, vocabulary)
    assert real.prompt("es") == layout.prompt("es")
    assert dict(real.languages) == dict(layout.languages)
    assert (real.end, real.no_speech) == (layout.end, layout.no_speech)
    # What suppress_tokens=-1 of openai/whisper stands for, and a blank or the end at first.
    assert {real.start, layout.no_speech} <= {*real.suppressed}
    assert real.suppressed_first == (220, real.end)


@pytest.mark.parametrize(
    "content",
    ["[]", "{", '{"suppress_tokens": 3}', '{"eos_token_id": 99999}', '{"lang_to_id": []}',
     '{"task_to_id": 1}'],
)  # fmt: skip
def test_damaged_configurations(tmp_path: Path, content: str) -> None:
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(ModelError) as caught:
        WhisperTokens.read(tmp_path, 51865)
    assert caught.value.code == "whisper_config_invalid"


def test_tokens_beyond_the_vocabulary_are_not_suppressed(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"suppress_ids": [5, 51865, -1]}))
    assert WhisperTokens.read(tmp_path, 51865).suppressed == (5,)


# The real model ----------------------------------------------------------------------------------


@pytest.mark.slow
def test_whisper_base_says_word_for_word_what_faster_whisper_says(tmp_path: Path) -> None:
    source = resolve("whisper-base").path
    config = json.loads((source / "config.json").read_bytes())
    write_whisper(CTranslate2Source(source), config, tmp_path / "onnx", Scheme())
    (tmp_path / "onnx" / "tokenizer.json").write_bytes((source / "tokenizer.json").read_bytes())
    speech = load_corpus("audioeval")
    found = whisper_parity(tmp_path / "onnx", source, speech, 2)
    assert found.reference == "faster-whisper float32"
    assert found.identical == found.utterances == len(speech)
    assert found.relative_error < 1e-5
    assert found.max_error < 2e-3
    said = load(tmp_path / "onnx").transcribe(audio.read(speech[-1].path), "en")
    assert said == "The quick brown fox jumps over the lazy dog."
