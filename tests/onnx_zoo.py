"""Tiny ONNX models, made in place, one for each kind of input that a test needs.

Every function writes one model and returns its path. Weights are seeded. All of them load and run
in onnxruntime (and `raises_model`, `custom_op_model` and `empty_graph_model` fail where they are
meant to), which `test_models_zoo.py` holds.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto as T
from onnx import helper as h
from onnx import numpy_helper

OPSET, IR = 17, 10


def _info(name: str, dtype: int, shape: Sequence[int | str | None]) -> onnx.ValueInfoProto:
    return h.make_tensor_value_info(name, dtype, shape)


def _array(name: str, values: np.ndarray) -> onnx.TensorProto:
    return numpy_helper.from_array(np.ascontiguousarray(values), name)


def _noise(name: str, *shape: int, dtype: type = np.float32, seed: int = 0) -> onnx.TensorProto:
    rng = np.random.default_rng([seed, *name.encode()])
    return _array(name, (rng.standard_normal(shape) * 0.1).astype(dtype))


def _model(
    nodes: Sequence[onnx.NodeProto],
    inputs: Sequence[onnx.ValueInfoProto],
    outputs: Sequence[onnx.ValueInfoProto],
    weights: Sequence[onnx.TensorProto] = (),
    *,
    domains: Sequence[tuple[str, int]] = (),
    metadata: dict[str, str] | None = None,
    opset: int = OPSET,
    ir: int = IR,
) -> onnx.ModelProto:
    graph = h.make_graph(list(nodes), "zoo", list(inputs), list(outputs), list(weights))
    imports = [h.make_opsetid("", opset), *(h.make_opsetid(*domain) for domain in domains)]
    model = h.make_model(graph, opset_imports=imports, ir_version=ir)
    h.set_model_props(model, metadata or {})
    return model


def _save(model: onnx.ModelProto, path: Path) -> Path:
    path.write_bytes(model.SerializeToString())
    return path


def waveform_model(
    path: Path,
    *,
    channels: int = 4,
    metadata: dict[str, str] | None = None,
    opset: int = OPSET,
    ir: int = IR,
) -> Path:
    """`audio` float32 [1, samples] -> `features` [1, channels, samples / 160]: one convolution.

    It has 400 x channels + channels parameters: 1604.
    """
    nodes = [
        h.make_node("Unsqueeze", ["audio", "axis"], ["planes"]),
        h.make_node(
            "Conv", ["planes", "weight", "bias"], ["features"], strides=[160], pads=[200, 200]
        ),
    ]
    weights = [
        _array("axis", np.array([1], np.int64)),
        _noise("weight", channels, 1, 400),
        _noise("bias", channels),
    ]
    return _save(
        _model(
            nodes,
            [_info("audio", T.FLOAT, [1, "samples"])],
            [_info("features", T.FLOAT, [1, channels, "frames"])],
            weights,
            metadata=metadata,
            opset=opset,
            ir=ir,
        ),
        path,
    )


def _mel(path: Path, name: str, shape: Sequence[int | str], bands: int) -> Path:
    nodes = [h.make_node("Conv", [name, "weight"], ["encoded"], pads=[1, 1])]
    outputs = [_info("encoded", T.FLOAT, [shape[0], 8, shape[2]])]
    weights = [_noise("weight", 8, bands, 3)]
    return _save(_model(nodes, [_info(name, T.FLOAT, shape)], outputs, weights), path)


def mel_model(path: Path, *, bands: int = 80) -> Path:
    """`input_features` float32 [batch, bands, frames] -> `encoded` [batch, 8, frames]."""
    return _mel(path, "input_features", ["batch", bands, "frames"], bands)


def mel_static_model(path: Path) -> Path:
    """`mel` float32 [1, 80, 3000] and no other length, as stock Whisper encoders are exported."""
    return _mel(path, "mel", [1, 80, 3000], 80)


def tokens_model(path: Path, *, vocabulary: int = 32, heads: int = 2, width: int = 8) -> Path:
    """A decoder step with a KV cache, as Hugging Face exports name its inputs.

    `input_ids`, `attention_mask`, `position_ids` int64 [batch, sequence] (the mask [batch,
    past + sequence]), `past_key_values.0.key` and `.value` float32 [batch, heads, past, width] ->
    `logits` [batch, sequence, vocabulary], `present.0.key` and `.value`.
    """
    hidden = heads * width
    past = ["batch", heads, "past_sequence_length", width]
    nodes = [
        h.make_node("Gather", ["embedding", "input_ids"], ["words"]),
        h.make_node("Gather", ["positions", "position_ids"], ["places"]),
        h.make_node("Add", ["words", "places"], ["states"]),
        h.make_node("MatMul", ["states", "head"], ["raw"]),
        # New keys are the states themselves: [batch, sequence, heads, width], heads first.
        h.make_node("Reshape", ["states", "split"], ["apart"]),
        h.make_node("Transpose", ["apart"], ["fresh"], perm=[0, 2, 1, 3]),
    ]
    for kind in ("key", "value"):
        joined = ["past_key_values.0." + kind, "fresh"]
        nodes.append(h.make_node("Concat", joined, ["present.0." + kind], axis=2))
    nodes += [
        # The mask takes part as its mean, so that leaving it out would show.
        h.make_node("Cast", ["attention_mask"], ["mask"], to=T.FLOAT),
        h.make_node("ReduceMean", ["mask"], ["share"], keepdims=0),
        h.make_node("ReduceMean", ["present.0.key"], ["memory"], keepdims=0),
        h.make_node("Add", ["share", "memory"], ["context"]),
        h.make_node("Add", ["raw", "context"], ["logits"]),
    ]
    inputs = [
        _info("input_ids", T.INT64, ["batch", "sequence"]),
        _info("attention_mask", T.INT64, ["batch", "total_sequence"]),
        _info("position_ids", T.INT64, ["batch", "sequence"]),
        _info("past_key_values.0.key", T.FLOAT, past),
        _info("past_key_values.0.value", T.FLOAT, past),
    ]
    outputs = [
        _info("logits", T.FLOAT, ["batch", "sequence", vocabulary]),
        _info("present.0.key", T.FLOAT, ["batch", heads, "total", width]),
        _info("present.0.value", T.FLOAT, ["batch", heads, "total", width]),
    ]
    weights = [
        _noise("embedding", vocabulary, hidden),
        _noise("positions", 4096, hidden),
        _noise("head", hidden, vocabulary),
        _array("split", np.array([0, 0, heads, width], np.int64)),
    ]
    return _save(_model(nodes, inputs, outputs, weights), path)


def piper_like(path: Path, *, symbols: int = 256, samples_per_phoneme: int = 256) -> Path:
    """A voice with Piper's inputs.

    `input` int64 [batch, phonemes], `input_lengths` int64 [batch], `scales` float32 [3] ->
    `output` float32 [batch, 1, phonemes x samples_per_phoneme].
    """
    nodes = [
        h.make_node("Gather", ["sounds", "input"], ["spoken"]),
        h.make_node("Flatten", ["spoken"], ["joined"], axis=1),
        h.make_node("Slice", ["scales", "first", "second"], ["volume"]),
        h.make_node("Mul", ["joined", "volume"], ["loud"]),
        h.make_node("Cast", ["input_lengths"], ["lengths"], to=T.FLOAT),
        h.make_node("ReduceMin", ["lengths"], ["least"], keepdims=0),
        h.make_node("Clip", ["least", "zero", "tiny"], ["touch"]),
        h.make_node("Add", ["loud", "touch"], ["flat"]),
        h.make_node("Unsqueeze", ["flat", "second"], ["output"]),
    ]
    weights = [
        _noise("sounds", symbols, samples_per_phoneme),
        _array("first", np.array([0], np.int64)),
        _array("second", np.array([1], np.int64)),
        _array("zero", np.float32(0)),
        _array("tiny", np.float32(1e-6)),
    ]
    inputs = [
        _info("input", T.INT64, ["batch_size", "phonemes"]),
        _info("input_lengths", T.INT64, ["batch_size"]),
        _info("scales", T.FLOAT, [3]),
    ]
    return _save(_model(nodes, inputs, [_info("output", T.FLOAT, None)], weights), path)


def fp16_model(path: Path) -> Path:
    """`audio` float16 [1, samples] -> `doubled` float16 [1, samples, 64]; 64 FP16 weights."""
    nodes = [
        h.make_node("Unsqueeze", ["audio", "axis"], ["column"]),
        h.make_node("MatMul", ["column", "weight"], ["doubled"]),
    ]
    weights = [_noise("weight", 1, 64, dtype=np.float16), _array("axis", np.array([2], np.int64))]
    outputs = [_info("doubled", T.FLOAT16, [1, "samples", 64])]
    return _save(_model(nodes, [_info("audio", T.FLOAT16, [1, "samples"])], outputs, weights), path)


def constant_model(path: Path) -> Path:
    """`audio` float32 [1, samples] -> `answer` [1, 4], the same whatever the audio: a stub."""
    nodes = [
        h.make_node("ReduceSum", ["audio", "axis"], ["sum"], keepdims=1),
        h.make_node("Mul", ["sum", "zero"], ["nothing"]),
        h.make_node("Add", ["nothing", "weight"], ["answer"]),
    ]
    weights = [
        _array("axis", np.array([1], np.int64)),
        _array("zero", np.float32(0)),
        _noise("weight", 1, 4),
    ]
    outputs = [_info("answer", T.FLOAT, [1, 4])]
    return _save(_model(nodes, [_info("audio", T.FLOAT, [1, "samples"])], outputs, weights), path)


def nan_model(path: Path) -> Path:
    """`audio` float32 [1, samples] -> `log` [1, samples]: NaN wherever the audio is below zero."""
    nodes = [h.make_node("Log", ["audio"], ["log"])]
    ports = [_info(n, T.FLOAT, [1, "samples"]) for n in ("audio", "log")]
    return _save(_model(nodes, ports[:1], ports[1:]), path)


def raises_model(path: Path, *, limit: int = 20_000) -> Path:
    """`audio` float32 [1, samples] -> `last` [1, 1]; fails at run time beyond `limit` samples.

    The last sample's index is looked up in a table with `limit` rows, and Gather refuses indices
    out of range.
    """
    nodes = [
        h.make_node("Shape", ["audio"], ["shape"]),
        h.make_node("Slice", ["shape", "one", "two"], ["length"]),
        h.make_node("Sub", ["length", "one"], ["index"]),
        h.make_node("Gather", ["table", "index"], ["row"]),
        h.make_node("ReduceMean", ["audio"], ["mean"], keepdims=1),
        h.make_node("Add", ["mean", "row"], ["last"]),
    ]
    weights = [
        _array("one", np.array([1], np.int64)),
        _array("two", np.array([2], np.int64)),
        _noise("table", limit),
    ]
    outputs = [_info("last", T.FLOAT, [1, 1])]
    return _save(_model(nodes, [_info("audio", T.FLOAT, [1, "samples"])], outputs, weights), path)


def external_data_model(path: Path, *, location: str | None = None, width: int = 64) -> Path:
    """`x` float32 [rows, width] -> `y` [rows, width]; its weight lies in `<name>.data`.

    Args:
        path: The model; its data is written beside it.
        location: Written into the model instead of the true location, for broken models.
        width: The weight is [width, width].
    """
    data = path.name + ".data"
    weight = _noise("weight", width, width)
    path.with_name(data).write_bytes(weight.raw_data)
    entries = {"location": location or data, "offset": "0", "length": str(len(weight.raw_data))}
    weight.ClearField("raw_data")
    weight.data_location = T.EXTERNAL
    weight.external_data.extend(
        onnx.StringStringEntryProto(key=key, value=value) for key, value in entries.items()
    )
    nodes = [h.make_node("MatMul", ["x", "weight"], ["y"])]
    ports = [_info(n, T.FLOAT, ["rows", width]) for n in "xy"]
    return _save(_model(nodes, ports[:1], ports[1:], [weight]), path)


def custom_op_model(path: Path) -> Path:
    """Uses `my.company::Secret`, which no stock onnxruntime has: it does not load."""
    nodes = [h.make_node("Secret", ["audio"], ["out"], domain="my.company")]
    ports = [_info(n, T.FLOAT, [1, "samples"]) for n in ("audio", "out")]
    return _save(_model(nodes, ports[:1], ports[1:], domains=[("my.company", 1)]), path)


def function_model(path: Path) -> Path:
    """Uses `my.company::Double`, which the model defines itself: it does load."""
    double = h.make_function(
        "my.company",
        "Double",
        ["a"],
        ["b"],
        [h.make_node("Add", ["a", "a"], ["b"])],
        [h.make_opsetid("", OPSET)],
    )
    nodes = [h.make_node("Double", ["audio"], ["out"], domain="my.company")]
    ports = [_info(n, T.FLOAT, [1, "samples"]) for n in ("audio", "out")]
    model = _model(nodes, ports[:1], ports[1:], domains=[("my.company", 1)])
    model.functions.append(double)
    return _save(model, path)


def big_claim_model(path: Path, parameters: int = 1_000_000) -> Path:
    """An INT8 embedding of `parameters` weights: for claims about size that do not hold.

    `ids` int64 [1, tokens] -> `states` float32 [1, tokens, 100].
    """
    rows = parameters // 100
    values = np.random.default_rng(0).integers(-127, 128, (rows, 100), dtype=np.int8)
    nodes = [
        h.make_node("Gather", ["weight", "ids"], ["picked"]),
        h.make_node(
            "DequantizeLinear", ["picked", "weight_scale", "weight_zero_point"], ["states"]
        ),
    ]
    weights = [
        _array("weight", values),
        _array("weight_scale", np.float32(0.01)),
        _array("weight_zero_point", np.int8(0)),
    ]
    inputs = [_info("ids", T.INT64, [1, "tokens"])]
    outputs = [_info("states", T.FLOAT, [1, "tokens", 100])]
    return _save(_model(nodes, inputs, outputs, weights), path)


def int_inputs(path: Path) -> Path:
    """`counts` int32 [1, n], `flags` bool [1, n], `bytes` uint8 [1, n] -> their sum, float32."""
    nodes = [
        *(
            h.make_node("Cast", [name], [name + "_f"], to=T.FLOAT)
            for name in ("counts", "flags", "bytes")
        ),
        h.make_node("Add", ["counts_f", "flags_f"], ["some"]),
        h.make_node("Add", ["some", "bytes_f"], ["total"]),
    ]
    inputs = [
        _info("counts", T.INT32, [1, "n"]),
        _info("flags", T.BOOL, [1, "n"]),
        _info("bytes", T.UINT8, [1, "n"]),
    ]
    return _save(_model(nodes, inputs, [_info("total", T.FLOAT, [1, "n"])]), path)


def matmul_nbits_int4_model(path: Path, *, k: int = 64, n: int = 128) -> Path:
    """`x` float32 [rows, k] -> `y` [rows, n] with one com.microsoft MatMulNBits.

    k x n INT4 weights, two in a byte, in blocks of 32 with one FP32 scale each.
    """
    rng = np.random.default_rng(0)
    blocks = k // 32
    node = h.make_node(
        "MatMulNBits",
        ["x", "packed", "scales"],
        ["y"],
        domain="com.microsoft",
        K=k,
        N=n,
        bits=4,
        block_size=32,
        accuracy_level=4,
    )
    weights = [
        _array("packed", rng.integers(0, 256, (n, blocks, 16), dtype=np.uint8)),
        _array("scales", np.full((n * blocks,), 0.01, np.float32)),
    ]
    inputs, outputs = [_info("x", T.FLOAT, ["rows", k])], [_info("y", T.FLOAT, ["rows", n])]
    model = _model([node], inputs, outputs, weights, domains=[("com.microsoft", 1)])
    return _save(model, path)


def int4_model(path: Path) -> Path:
    """`x` float32 [rows, 64] -> `y` [rows, 32] with ONNX's own INT4 through DequantizeLinear.

    2048 weights in 1024 bytes; needs opset 21.
    """
    rng = np.random.default_rng(0)
    packed = rng.integers(0, 256, 64 * 32 // 2, dtype=np.uint8).tobytes()
    weights = [
        h.make_tensor("weight", T.INT4, [64, 32], packed, raw=True),
        _array("scale", np.full((32,), 0.01, np.float32)),
    ]
    nodes = [
        h.make_node("DequantizeLinear", ["weight", "scale"], ["float"], axis=1),
        h.make_node("MatMul", ["x", "float"], ["y"]),
    ]
    inputs, outputs = [_info("x", T.FLOAT, ["rows", 64])], [_info("y", T.FLOAT, ["rows", 32])]
    return _save(_model(nodes, inputs, outputs, weights, opset=21), path)


def int8_dynamic_model(path: Path) -> Path:
    """`x` float32 [rows, 64] -> `y` [rows, 32] as dynamic quantization writes it.

    2048 INT8 weights and a scale per column, multiplied by a plain Mul.
    """
    rng = np.random.default_rng(0)
    nodes = [
        h.make_node("DynamicQuantizeLinear", ["x"], ["xq", "xs", "xz"]),
        h.make_node("MatMulInteger", ["xq", "w_quantized", "xz", "w_zero_point"], ["sums"]),
        h.make_node("Cast", ["sums"], ["sums_f"], to=T.FLOAT),
        h.make_node("Mul", ["xs", "w_scale"], ["scale"]),
        h.make_node("Mul", ["sums_f", "scale"], ["y"]),
    ]
    weights = [
        _array("w_quantized", rng.integers(-127, 128, (64, 32), dtype=np.int8)),
        _array("w_scale", np.full((32,), 0.01, np.float32)),
        _array("w_zero_point", np.zeros((32,), np.int8)),
    ]
    inputs, outputs = [_info("x", T.FLOAT, ["rows", 64])], [_info("y", T.FLOAT, ["rows", 32])]
    return _save(_model(nodes, inputs, outputs, weights), path)


def branches_model(path: Path) -> Path:
    """`x` float32 [8], `flag` bool [] -> `y` [8]: If with 8 weights in each branch."""
    branches = {}
    for name in ("then", "else"):
        constant = h.make_node("Constant", [], [name + "_w"], value=_noise(name + "_w", 8))
        add = h.make_node("Add", ["x", name + "_w"], [name + "_y"])
        branches[name] = h.make_graph([constant, add], name, [], [_info(name + "_y", T.FLOAT, [8])])
    node = h.make_node(
        "If", ["flag"], ["y"], then_branch=branches["then"], else_branch=branches["else"]
    )
    inputs = [_info("x", T.FLOAT, [8]), _info("flag", T.BOOL, [])]
    return _save(_model([node], inputs, [_info("y", T.FLOAT, [8])]), path)


def string_input_model(path: Path) -> Path:
    """`text` string [1, n] -> `same` string [1, n]."""
    nodes = [h.make_node("Identity", ["text"], ["same"])]
    ports = [_info(n, T.STRING, [1, "n"]) for n in ("text", "same")]
    return _save(_model(nodes, ports[:1], ports[1:]), path)


def empty_graph_model(path: Path) -> Path:
    """A model that declares no inputs and no outputs."""
    return _save(_model([], [], []), path)


def ctranslate2_bytes(
    variables: Sequence[tuple[str, np.ndarray]], *, version: int = 6, count: int | None = None
) -> bytes:
    """Returns a `model.bin` with these variables (float32, float16, int8, int16 or int32)."""
    ids = {"float32": 0, "int8": 1, "int16": 2, "int32": 3, "float16": 4}

    def number(value: int, size: int) -> bytes:
        return value.to_bytes(size, "little")

    def string(text: str) -> bytes:
        return number(len(text) + 1, 2) + text.encode() + b"\0"

    out = number(version, 4) + string("WhisperSpec") + number(3, 4)
    out += number(len(variables) if count is None else count, 4)
    for name, values in variables:
        out += string(name) + number(values.ndim, 1)
        out += b"".join(number(size, 4) for size in values.shape)
        out += number(ids[values.dtype.name], 1) + number(values.nbytes, 4) + values.tobytes()
    return out + number(0, 4)
