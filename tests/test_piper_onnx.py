"""The voice in pieces is the whole voice; a graph that is none is refused; nothing is unbounded."""

from __future__ import annotations

import dataclasses
import json
import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import onnx_zoo
import pytest
import voice_tiny
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vozmetro.engines import piper_onnx, piper_parts, piper_split
from vozmetro.engines.base import LoadRequest
from vozmetro.engines.onnx_graph import open_session
from vozmetro.engines.piper_onnx import PiperOnnx
from vozmetro.engines.piper_parts import FRONTEND, GEOMETRY, TOLERANCE, parts_of, probe
from vozmetro.engines.piper_pieces import Schedule
from vozmetro.engines.piper_text import MOST_PHONEMES, VoiceText
from vozmetro.errors import InputError, ModelError, VozmetroError
from vozmetro.models.resolve import resolve

QUIET = np.array([0, 1, 0], np.float32)
SHORT = "Good morning."
LONG = (
    "The weather service expects heavy rain in the northern valleys tonight, with strong winds "
    "along the coast and temperatures that will fall quickly towards the early morning hours."
)


@pytest.fixture(params=[False, True], ids=["one speaker", "three speakers"])
def tiny(request, tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("VOZMETRO_CACHE", str(tmp_path / "cache"))
    return voice_tiny.voice(tmp_path / "v.onnx", speakers=request.param)


@pytest.fixture(scope="module")
def joe() -> PiperOnnx:
    engine = PiperOnnx(LoadRequest(resolve("piper-joe").path, 1))
    engine.scales = QUIET
    return engine


@pytest.fixture(scope="module")
def whole_joe():
    return open_session(resolve("piper-joe").path, 1, {})


def whole(session, numbers: Sequence[int], speaker: int = 0):
    """What the unsplit voice says."""
    several = any(port.name == "sid" for port in session.get_inputs())
    feeds = probe(numbers, several, QUIET)
    if several:
        feeds["sid"][:] = speaker
    return session.run(None, feeds)[0].reshape(-1)


def spoken(engine: PiperOnnx, text: str):
    return np.concatenate(list(engine.stream(text)))


# The same samples -------------------------------------------------------------------------


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    numbers=st.lists(st.integers(4, 30), min_size=1, max_size=30),
    first=st.integers(1, 30),
    growth=st.sampled_from([1.0, 1.3, 3.0]),
)
def test_pieces_of_any_size_join_to_the_whole(tiny, numbers, first, growth) -> None:
    engine = PiperOnnx(LoadRequest(tiny, 1))
    engine.scales = QUIET
    engine._decoder._schedule = Schedule(first, growth, most=20)
    latent, durations = engine._encode(numbers)
    pieces = list(engine._decoder.stream([latent]))
    expected = whole(open_session(tiny, 1, {}), numbers)
    assert np.abs(np.concatenate(pieces) - expected).max() <= TOLERANCE
    assert int(durations.sum()) * voice_tiny.HOP == len(expected)
    assert len(pieces[0]) == min(first, 20) * voice_tiny.HOP or len(pieces) == 1


@pytest.mark.parametrize("text", [SHORT, "It leaves at 3.5, I think, from the second platform."])
def test_a_real_voice_says_the_same_in_pieces(joe, whole_joe, text) -> None:
    (numbers,) = joe._text.pieces(text)
    pieces = list(joe.stream(text))
    assert len(pieces[0]) == Schedule().first * 256
    assert np.abs(np.concatenate(pieces) - whole(whole_joe, numbers)).max() <= TOLERANCE


def test_a_long_sentence_starts_before_it_is_all_encoded(joe, whole_joe, monkeypatch) -> None:
    encoded: list[int] = []
    encode = joe._encode
    monkeypatch.setattr(
        joe, "_encode", lambda numbers: (encoded.append(len(numbers)), encode(numbers))[1]
    )
    (numbers,) = joe._text.pieces(LONG)
    stream = joe.stream(LONG)
    start = next(stream)
    assert encoded == [joe.head]
    audio = np.concatenate([start, *stream])
    assert encoded == [joe.head, len(numbers)]
    # From the seam on it is the whole sentence, but for what the decoder sees of the beginning.
    expected = whole(whole_joe, numbers)
    half = len(expected) // 2
    assert np.abs(audio[-half:] - expected[-half:]).max() <= TOLERANCE


def test_a_long_sentence_can_be_asked_for_whole(joe, whole_joe, monkeypatch) -> None:
    monkeypatch.setattr(joe, "head", 0)
    (numbers,) = joe._text.pieces(LONG)
    assert np.abs(spoken(joe, LONG) - whole(whole_joe, numbers)).max() <= TOLERANCE


def test_sentences_follow_one_another(joe) -> None:
    together = spoken(joe, "It is here. You can come.")
    assert np.array_equal(
        together, np.concatenate((spoken(joe, "It is here."), spoken(joe, "You can come.")))
    )
    assert list(joe.stream(" \n")) == []


def test_two_voices_at_once_do_not_mix(joe) -> None:
    texts = [SHORT, "You can come at eight.", "The train is late again."]
    alone = [spoken(joe, text) for text in texts]
    found: dict[int, object] = {}
    threads = [
        threading.Thread(target=lambda at=at: found.update({at: spoken(joe, texts[at])}))
        for at in range(len(texts))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for at, audio in enumerate(alone):
        np.testing.assert_allclose(found[at], audio, atol=TOLERANCE)


# The cut ----------------------------------------------------------------------------------


def test_what_a_frame_needs_is_read_off_the_graph(tiny) -> None:
    parts = piper_split.split(onnx.load(str(tiny)))
    # Five taps; then three taps (1), sixteen at a stride of eight (15/8), and seven samples three
    # apart where a frame has eight (9/8).
    assert (parts.hop, parts.flow_reach, parts.vocoder_reach) == (8, 2, 4)
    assert {node.op_type for node in parts.frontend.graph.node} >= {"RandomNormalLike", "Ceil"}
    assert "ConvTranspose" not in {node.op_type for node in parts.flow.graph.node}


def _without(op_type: str, path: Path) -> Path:
    model = onnx.load(str(path))
    for node in model.graph.node:
        if node.op_type == op_type:
            node.op_type = "Identity"
            del node.input[1:]
            del node.attribute[:]
    onnx.save(model, str(path))
    return path


@pytest.mark.parametrize(
    "broken",
    [
        onnx_zoo.piper_like,
        lambda path: voice_tiny.voice(path, decoder_reads_text=True),
        lambda path: _without("RandomNormalLike", voice_tiny.voice(path)),
        lambda path: _without("ConvTranspose", voice_tiny.voice(path)),
        lambda path: _without("Ceil", voice_tiny.voice(path)),
        onnx_zoo.fp16_model,
    ],
    ids=["no noise", "reads the text", "silent", "no upsampling", "no durations", "no voice"],
)
def test_what_is_no_voice_is_refused(broken, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("VOZMETRO_CACHE", str(tmp_path / "cache"))
    with pytest.raises(InputError) as caught:
        parts_of(broken(tmp_path / "v.onnx"), (4, 5))
    assert caught.value.code == "not_piper_voice"
    assert not [*(tmp_path / "cache").glob("models/piper-parts*")]


def test_bytes_that_are_no_graph_are_refused(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("VOZMETRO_CACHE", str(tmp_path / "cache"))
    (tmp_path / "v.onnx").write_bytes(b"\xff" * 100)
    with pytest.raises(ModelError) as caught:
        parts_of(tmp_path / "v.onnx", (4, 5))
    assert caught.value.code == "onnx_invalid"


@pytest.mark.parametrize("reach", ["flow_reach", "vocoder_reach"])
def test_parts_that_say_something_else_are_not_kept(reach, tiny, monkeypatch) -> None:
    """The check would notice a frame that is missing."""

    def wrong(model):
        return dataclasses.replace(split(model), **{reach: 0})

    split = piper_split.split
    monkeypatch.setattr(piper_parts, "split", wrong)
    with pytest.raises(InputError, match="differ"):
        parts_of(tiny, range(4, 30))


def test_parts_are_made_once_and_again_if_damaged(tiny, monkeypatch) -> None:
    made = parts_of(tiny, range(4, 30))
    monkeypatch.setattr(piper_parts, "split", None)
    assert parts_of(tiny, range(4, 30)) == made
    monkeypatch.undo()
    monkeypatch.setenv("VOZMETRO_CACHE", str(made.folder.parent.parent))
    before = (made.folder / FRONTEND).read_bytes()
    (made.folder / FRONTEND).write_bytes(before[:-1])
    (made.folder / GEOMETRY).unlink()
    assert parts_of(tiny, range(4, 30)) == made
    assert (made.folder / FRONTEND).read_bytes() == before


# Options and configuration ----------------------------------------------------------------


def test_a_speaker_is_chosen(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("VOZMETRO_CACHE", str(tmp_path / "cache"))
    path = voice_tiny.voice(tmp_path / "v.onnx", speakers=True)
    session = open_session(path, 1, {})
    for speaker in range(voice_tiny.SPEAKERS):
        engine = PiperOnnx(LoadRequest(path, 1, {"speaker": str(speaker)}))
        engine.scales = QUIET
        (numbers,) = engine._text.pieces("hola")
        expected = whole(session, numbers, speaker)
        assert np.abs(spoken(engine, "hola") - expected).max() <= TOLERANCE
        assert speaker == 0 or np.abs(expected - whole(session, numbers, 0)).max() > 10 * TOLERANCE


@pytest.mark.parametrize(
    "options", [{"speaker": "3"}, {"speaker": "-1"}, {"head": "x"}, {"first": "9" * 9}]
)
def test_an_option_out_of_range_names_what_is_right(options, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("VOZMETRO_CACHE", str(tmp_path / "cache"))
    path = voice_tiny.voice(tmp_path / "v.onnx", speakers=True)
    with pytest.raises(InputError) as caught:
        PiperOnnx(LoadRequest(path, 1, options))
    assert caught.value.code == "voice_option"
    assert set(options) <= set(piper_onnx.ENGINE.defaults)


@pytest.mark.parametrize(
    "change",
    [
        {"audio": None},
        {"audio": {"sample_rate": "fast"}},
        {"audio": {"sample_rate": 0}},
        {"phoneme_id_map": {}},
        {"phoneme_id_map": {"a": ["x"]}},
        {"phoneme_type": "smoke"},
        {"inference": {"noise_scale": "loud"}},
        {"espeak": []},
    ],
)
def test_a_configuration_that_is_none_is_refused(change, tmp_path) -> None:
    path = tmp_path / "v.onnx.json"
    path.write_text(json.dumps({**voice_tiny.config(False), **change}), encoding="utf-8")
    with pytest.raises(VozmetroError) as caught:
        VoiceText(path)
    assert caught.value.code == "voice_config_invalid"


def test_no_piece_of_text_is_too_long_for_the_encoder(tmp_path) -> None:
    path = tmp_path / "v.onnx.json"
    path.write_text(json.dumps(voice_tiny.config(False)), encoding="utf-8")
    text = VoiceText(path)
    for words in ("hola " * 2000, "a" * 5000):
        pieces = list(text.pieces(words))
        # A phoneme is two numbers, and three mark the ends.
        assert all(len(piece) <= 2 * MOST_PHONEMES + 3 for piece in pieces)
        assert sum(piece.count(4) for piece in pieces) == words.count("a")


def test_a_sentence_is_taken_up_behind_a_comma_if_there_is_one(tmp_path) -> None:
    path = tmp_path / "v.onnx.json"
    path.write_text(json.dumps(voice_tiny.config(False)), encoding="utf-8")
    text = VoiceText(path)
    (numbers,) = text.pieces("uno dos tres, cuatro cinco")
    gaps = [at for at, number in enumerate(numbers) if number == 3]
    assert text.pause(numbers, 4, len(numbers)) == gaps[2]
    assert text.pause(numbers, 4, gaps[2]) == gaps[0]
    assert text.pause(numbers, gaps[0] + 1, gaps[1]) == gaps[0] + 1


def test_the_same_voice_is_named_on_either_engine() -> None:
    stock, fast = resolve("piper-joe"), resolve("piper-joe-onnx")
    assert (stock.engine, fast.engine) == ("piper", "piper-onnx")
    assert stock.files == fast.files
    named = resolve(f"piper-onnx:{stock.path}@head=0")
    assert (named.engine, named.languages, named.options) == ("piper-onnx", ("en",), {"head": "0"})
