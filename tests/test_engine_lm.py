"""The language-model engine: its cache, its errors, and other people's exports."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import decoder_tiny
import numpy as np
import onnx
import onnx_zoo
import onnxruntime
import pytest
from onnx import helper

from vozmetro.engines import language_model, registry
from vozmetro.engines.language_model import ENGINE, tokenizer
from vozmetro.errors import InputError, ModelError

WORDS = 11


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return decoder_tiny.write(tmp_path_factory.mktemp("lm") / "m.onnx")


def adding_model(path: Path, *, positions: bool = False, drop: str = "") -> Path:
    """An export as Hugging Face's: the cache comes back longer, logits are of every token.

    Its "attention" adds up all tokens so far: after 3, 4 the likeliest token is 7. With positions,
    their last one is added too.
    """
    f32, i64 = onnx.TensorProto.FLOAT, onnx.TensorProto.INT64
    past = ["past_key_values.0.key", "past_key_values.0.value"]
    inputs = [
        helper.make_tensor_value_info("input_ids", i64, ["batch", "sequence"]),
        helper.make_tensor_value_info("attention_mask", i64, ["batch", "total"]),
        *(helper.make_tensor_value_info(name, f32, ["batch", 1, "past", 1]) for name in past),
    ]
    if positions:
        inputs.append(helper.make_tensor_value_info("position_ids", i64, ["batch", "sequence"]))
    outputs = [
        helper.make_tensor_value_info("logits", f32, ["batch", "sequence", WORDS]),
        *(
            helper.make_tensor_value_info(f"present.0.{part}", f32, ["batch", 1, "total", 1])
            for part in ("key", "value")
        ),
    ]
    shape = onnx.numpy_helper.from_array(np.array([1, 1, -1, 1]), "shape")
    column = onnx.numpy_helper.from_array(np.array([1, -1, 1]), "column")
    axis = onnx.numpy_helper.from_array(np.array(2), "axis")
    words = onnx.numpy_helper.from_array(np.arange(WORDS, dtype=np.float32)[None, None], "words")
    extra = [helper.make_node("Cast", ["position_ids"], ["where"], to=f32)] if positions else []
    nodes = [
        helper.make_node("Cast", ["input_ids"], ["tokens"], to=f32),
        helper.make_node("Reshape", ["tokens", "shape"], ["new"]),
        helper.make_node("Concat", [past[0], "new"], ["present.0.key"], axis=2),
        helper.make_node("Concat", [past[1], "new"], ["present.0.value"], axis=2),
        helper.make_node("CumSum", ["present.0.key", "axis"], ["sums"]),
        helper.make_node("Reshape", ["sums", "column"], ["sum"]),
        *extra,
        *([helper.make_node("Reshape", ["where", "column"], ["place"])] if positions else []),
        helper.make_node("ReduceMax", ["place"], ["at"], keepdims=0)
        if positions
        else helper.make_node("Identity", ["zero"], ["at"]),
        helper.make_node("Add", ["sum", "at"], ["target"]),
        helper.make_node("Sub", ["words", "target"], ["away"]),
        helper.make_node("Abs", ["away"], ["distance"]),
        helper.make_node("Neg", ["distance"], ["logits"]),
    ]
    zero = onnx.numpy_helper.from_array(np.array(0, np.float32), "zero")
    graph = helper.make_graph(
        nodes,
        "adding",
        [port for port in inputs if port.name != drop],
        [port for port in outputs if port.name != drop],
        [shape, column, axis, words, zero],
    )
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), path)
    return path


def test_it_is_registered() -> None:
    assert registry.find("language-model") is ENGINE


def test_token_by_token_says_what_all_at_once_says(tiny: Path) -> None:
    model, tokens = decoder_tiny.load(tiny), decoder_tiny.ids()
    stepwise = decoder_tiny.said(model)
    for row, length in enumerate(range(decoder_tiny.PROMPT, len(tokens) + 1)):
        assert np.abs(model.prefill(tokens[:length]) - stepwise[row]).max() < 1e-5


def test_prefill_forgets_what_was_before(tiny: Path) -> None:
    model, tokens = decoder_tiny.load(tiny), decoder_tiny.ids()
    first = model.prefill(tokens[:5])
    for token in tokens:
        model.decode(int(token))
    assert np.array_equal(model.prefill(tokens[:5]), first)


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("keep", [0, 1, 12, 18])
def test_reading_on_says_what_reading_all_says(
    tiny: Path, tmp_path: Path, shared: bool, keep: int
) -> None:
    growing = onnx_zoo.tokens_model(tmp_path / "m.onnx", vocabulary=199)
    model, tokens = decoder_tiny.load(tiny if shared else growing), decoder_tiny.ids()
    wanted = [model.prefill(tokens), model.decode(3)]
    # What is forgotten leaves no trace.
    model.prefill(tokens[: max(keep, 1)])
    for token in (5, 7, 9):
        model.decode(token)
    found = [model.extend(tokens[keep:], keep), model.decode(3)]
    assert model.length == len(tokens) + 1
    assert max(np.abs(a - b).max() for a, b in zip(found, wanted, strict=True)) < 1e-5


def test_what_was_not_seen_cannot_be_kept(tiny: Path) -> None:
    model = decoder_tiny.load(tiny)
    model.prefill(decoder_tiny.ids()[:5])
    with pytest.raises(ValueError, match="6 of 5"):
        model.extend(decoder_tiny.ids(), 6)
    for ids, code in (([], "lm_empty"), ([-1], "lm_token"), ([3] * 600, "lm_context")):
        with pytest.raises(InputError) as caught:
            model.extend(np.array(ids, np.int64), 2)
        assert caught.value.code == code


def test_logits_stay_as_they_were_when_more_are_asked_for(tiny: Path) -> None:
    model = decoder_tiny.load(tiny)
    first = model.prefill(decoder_tiny.ids())
    kept = first.copy()
    model.decode(3)
    assert np.array_equal(first, kept)


def test_the_cache_lies_in_one_place_and_grows_with_the_same_words(
    tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = decoder_tiny.said(decoder_tiny.load(tiny))
    monkeypatch.setattr(language_model, "CAPACITY", decoder_tiny.PROMPT + 1)
    model = decoder_tiny.load(tiny)
    found = [model.prefill(decoder_tiny.ids()[: decoder_tiny.PROMPT])]
    places = []
    for token in decoder_tiny.ids()[decoder_tiny.PROMPT :]:
        found.append(model.decode(int(token)))
        runner: Any = model._runner
        # Present is past: ONNX Runtime writes where it reads.
        written = {value.data_ptr() for value in runner._binding.get_outputs()}
        assert written > {buffer.data_ptr() for buffer in runner._buffers}
        places.append(runner._buffers[0].data_ptr())
    assert np.array_equal(np.stack(found), wanted)
    assert len(set(places)) < 4  # 8, 16, 32 tokens: it is not moved for each


def test_cache_bytes_are_of_the_tokens_seen(tiny: Path) -> None:
    model = decoder_tiny.load(tiny)
    assert model.cache_bytes == 0
    model.prefill(np.arange(10))
    model.decode(3)
    layers, heads, width, float32 = 3, 2, 32, 4
    assert model.cache_bytes == 11 * 2 * layers * heads * width * float32


def test_generate_takes_the_likeliest_token_each_time(tiny: Path) -> None:
    model, tokens = decoder_tiny.load(tiny), decoder_tiny.ids()
    made = model.generate(tokens, 6)
    scores, wanted = model.prefill(tokens), []
    for _ in range(6):
        wanted.append(int(scores.argmax()))
        scores = model.decode(wanted[-1])
    assert made == wanted
    assert model.generate(tokens, 6, stop={wanted[2]}) == wanted[: wanted.index(wanted[2]) + 1]
    assert model.generate(tokens, 0) == []


@pytest.mark.parametrize("positions", [False, True])
def test_an_export_with_a_growing_cache_runs(positions: bool, tmp_path: Path) -> None:
    model = decoder_tiny.load(adding_model(tmp_path / "m.onnx", positions=positions))
    add = int(positions)
    assert int(model.prefill(np.array([1, 2])).argmax()) == 3 + add
    assert int(model.decode(4).argmax()) == 7 + 2 * add
    assert int(model.decode(0).argmax()) == 7 + 3 * add
    assert model.cache_bytes == 4 * 2 * 4
    assert int(model.prefill(np.array([5])).argmax()) == 5


def test_both_ways_to_keep_the_cache_agree(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shared = decoder_tiny.said(decoder_tiny.load(tiny))
    monkeypatch.setattr(language_model, "shares_cache", lambda path: False)
    assert np.array_equal(decoder_tiny.said(decoder_tiny.load(tiny)), shared)


def test_a_cache_is_shared_only_where_all_attention_can(tiny: Path, tmp_path: Path) -> None:
    assert language_model.shares_cache(tiny)
    mixed = onnx.load(tiny, load_external_data=False)
    past, length = "past_key_values.0.key", "past_length"
    mixed.graph.node.append(helper.make_node("Shape", [past], [length]))
    (tmp_path / "mixed.onnx").write_bytes(mixed.SerializeToString())
    (tmp_path / "m.onnx.data").write_bytes(tiny.with_name("m.onnx.data").read_bytes())
    assert not language_model.shares_cache(tmp_path / "mixed.onnx")


@pytest.mark.parametrize("drop", ["attention_mask", "logits", "present.0.value"])
def test_a_graph_without_the_ports_is_refused_by_name(drop: str, tmp_path: Path) -> None:
    path = adding_model(tmp_path / "m.onnx", drop=drop)
    with pytest.raises(ModelError, match=drop) as refused:
        decoder_tiny.load(path)
    assert refused.value.code == "lm_ports"


@pytest.mark.parametrize(
    ("call", "code"),
    [
        (lambda model: model.decode(199), "lm_token"),
        (lambda model: model.decode(-1), "lm_token"),
        (lambda model: model.prefill(np.array([3, -1])), "lm_token"),
        (lambda model: model.prefill(np.array([], np.int64)), "lm_empty"),
        (lambda model: model.prefill(np.zeros(21, np.int64)), "lm_context"),
        (lambda model: model.generate(np.zeros(20, np.int64), 2), "lm_context"),
    ],
)
def test_what_cannot_be_read_is_said_before_it_runs(call: Any, code: str, tiny: Path) -> None:
    model = decoder_tiny.load(tiny, max_length="20")
    with pytest.raises(InputError) as refused:
        call(model)
    assert refused.value.code == code
    assert model.prefill(np.zeros(20, np.int64)).shape == (199,)  # and it still works


def test_max_length_does_not_go_beyond_the_models_context(tiny: Path) -> None:
    assert decoder_tiny.load(tiny, max_length="9999").limit == 512
    assert decoder_tiny.load(tiny, max_length="20").limit == 20


@pytest.mark.parametrize("given", ["0", "-3", "many", "1.5"])
def test_a_max_length_that_is_none_is_refused(given: str, tiny: Path) -> None:
    with pytest.raises(InputError, match=given) as refused:
        decoder_tiny.load(tiny, max_length=given)
    assert refused.value.code == "lm_max_length"


@pytest.mark.skipif(
    "CUDAExecutionProvider" in onnxruntime.get_available_providers(), reason="there is CUDA here"
)
def test_cuda_without_cuda_names_the_fix(tiny: Path) -> None:
    with pytest.raises(InputError, match="onnxruntime-gpu"):
        decoder_tiny.load(tiny, provider="cuda")


def test_the_tokenizer_beside_the_model_is_used(tmp_path: Path) -> None:
    import tokenizers

    assert tokenizer(tmp_path / "m.onnx") is None
    words = tokenizers.models.WordLevel({"hola": 0, "mundo": 1, "?": 2}, unk_token="?")
    made = tokenizers.Tokenizer(words)
    made.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    made.save(str(tmp_path / "tokenizer.json"))
    assert tokenizer(tmp_path / "m.onnx").encode("mundo hola").ids == [1, 0]
