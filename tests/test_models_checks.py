"""What is refused before measuring, and what the files are said to hold."""

import os
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import onnx_zoo as zoo
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vozmetro.errors import InputError, ModelError, VozmetroError
from vozmetro.models import checks, ctranslate2, slim
from vozmetro.models.inspection import OVERHEAD, Inspection, Port


def refusal(path: Path, check=checks.check_onnx) -> ModelError:
    """The error that a file is refused with, which reads well in both languages."""
    with pytest.raises(ModelError) as caught:
        check(path)
    for lang in ("es", "en"):
        assert "{" not in caught.value.message(lang)
    return caught.value


@pytest.fixture
def model(tmp_path):
    return zoo.waveform_model(tmp_path / "m.onnx")


def rewritten(path: Path, change) -> Path:
    proto = onnx.load(path, load_external_data=False)
    change(proto)
    path.write_bytes(proto.SerializeToString())
    return path


# What the file says -------------------------------------------------------------------------


def test_waveform_model_is_described(model):
    found = checks.check_onnx(model).inspection
    assert (found.format, found.precision, found.parameters) == ("ONNX", "FP32", 1604)
    assert found.bytes_by_dtype == {"FP32": 1604 * 4, "INT64": 8}
    assert found.weight_bytes == 1604 * 4 + 8
    assert (found.opset, found.ir_version, found.weights) == (zoo.OPSET, zoo.IR, "real")
    assert found.inputs == (Port("audio", "float32", (1, "samples")),)
    assert found.outputs == (Port("features", "float32", (1, 4, "frames")),)


@pytest.mark.parametrize(
    ("make", "precision", "parameters"),
    [
        (zoo.fp16_model, "FP16", 64),
        (zoo.int8_dynamic_model, "INT8", 64 * 32),
        (zoo.int4_model, "INT4", 64 * 32),
        (zoo.matmul_nbits_int4_model, "INT4", 64 * 128),
        (zoo.big_claim_model, "INT8", 1_000_000),
        (zoo.branches_model, "FP32", 16),
        (zoo.string_input_model, "none", 0),
        (zoo.external_data_model, "FP32", 64 * 64),
    ],
)
def test_parameters_are_counted_without_scales_and_zero_points(
    make, precision, parameters, tmp_path
):
    found = checks.check_onnx(make(tmp_path / "m.onnx")).inspection
    assert (found.precision, found.parameters) == (precision, parameters)


def test_rows_filled_up_to_whole_blocks_hold_no_parameters(tmp_path):
    def shorten(proto):
        next(a for a in proto.graph.node[0].attribute if a.name == "K").i = 40

    path = zoo.matmul_nbits_int4_model(tmp_path / "m.onnx")
    whole = checks.check_onnx(path).inspection
    found = checks.check_onnx(rewritten(path, shorten)).inspection
    assert (found.parameters, found.weight_bytes) == (40 * 128, whole.weight_bytes)


def test_dtypes_of_ports(tmp_path):
    def dtypes(make):
        inputs = checks.check_onnx(make(tmp_path / "m.onnx")).inspection.inputs
        return [port.dtype for port in inputs]

    assert dtypes(zoo.int_inputs) == ["int32", "bool", "uint8"]
    assert dtypes(zoo.string_input_model) == ["string"]
    assert dtypes(zoo.fp16_model) == ["float16"]


def test_nameless_dimensions_are_question_marks(tmp_path):
    def forget(proto):
        proto.graph.input[0].type.tensor_type.shape.dim[1].Clear()

    path = rewritten(zoo.waveform_model(tmp_path / "m.onnx"), forget)
    assert checks.check_onnx(path).inspection.inputs[0].shape == (1, "?")


def test_dummy_mark(tmp_path):
    path = zoo.waveform_model(tmp_path / "m.onnx", metadata={"weights": "dummy"})
    assert checks.check_onnx(path).inspection.weights == "dummy"


def test_external_weights_are_charged_as_external(tmp_path):
    checked = checks.check_onnx(zoo.external_data_model(tmp_path / "m.onnx"))
    assert checked.external == (tmp_path / "m.onnx.data",)
    assert checked.inspection.expected_ram == round(64 * 64 * 4 * 1.1) + OVERHEAD["ONNX"]


def test_large_payloads_are_not_read(tmp_path):
    path = zoo.big_claim_model(tmp_path / "m.onnx", 2_000_000)
    assert path.stat().st_size > 2_000_000
    proto = slim.read(path)
    assert proto.ByteSize() < 2000
    assert list(proto.graph.initializer[0].dims) == [20_000, 100]


def test_field_numbers_are_those_of_onnx():
    """The walker's table against the descriptors that onnx ships."""
    children = {
        "Model": ["graph", "functions"],
        "Graph": ["node", "initializer", "sparse_initializer"],
        "Function": ["node", "attribute_proto"],
        "Node": ["attribute"],
        "Attribute": ["t", "g", "tensors", "graphs", "sparse_tensor", "sparse_tensors"],
        "Sparse": ["values", "indices"],
        "Tensor": [],
    }
    messages = {
        "Model": onnx.ModelProto,
        "Graph": onnx.GraphProto,
        "Function": onnx.FunctionProto,
        "Node": onnx.NodeProto,
        "Attribute": onnx.AttributeProto,
        "Sparse": onnx.SparseTensorProto,
        "Tensor": onnx.TensorProto,
    }
    for kind, names in children.items():
        fields = messages[kind].DESCRIPTOR.fields_by_name
        assert set(slim._CHILDREN[kind]) == {fields[name].number for name in names}
    payload = [f for f in onnx.TensorProto.DESCRIPTOR.fields if f.name.endswith("_data")]
    assert {f.number for f in payload if f.name != "external_data"} == slim._PAYLOAD
    model_fields = {f.number for f in onnx.ModelProto.DESCRIPTOR.fields}
    assert model_fields <= slim._MODEL_FIELDS


@pytest.mark.parametrize("make", [zoo.tokens_model, zoo.branches_model, zoo.int4_model])
def test_small_models_survive_slimming_but_for_payloads(make, tmp_path):
    path = make(tmp_path / "m.onnx")
    whole = onnx.load(path)
    for tensor in whole.graph.initializer:
        if len(tensor.raw_data) > slim.KEEP:
            tensor.ClearField("raw_data")
    assert slim.read(path) == whole


# Refused files ------------------------------------------------------------------------------


def test_missing_file(tmp_path):
    assert refusal(tmp_path / "none.onnx").code == "file_missing"


def test_empty_file(tmp_path):
    path = tmp_path / "m.onnx"
    path.touch()
    assert refusal(path).code == "onnx_empty"


@pytest.mark.parametrize(
    "content", [b"<!DOCTYPE html>", b"PK\x03\x04zip", b"hola\n", b"\0" * 64, b"\xff" * 64]
)
def test_other_files(content, tmp_path):
    path = tmp_path / "m.onnx"
    path.write_bytes(content)
    assert refusal(path).code == "onnx_invalid"


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_truncated_file(model, share):
    data = model.read_bytes()
    model.write_bytes(data[: int(len(data) * share)])
    assert refusal(model).code == "onnx_truncated"


def test_file_over_the_protobuf_limit(model):
    with model.open("r+b") as file:
        file.truncate(2**31)  # sparse: takes no disk
    assert refusal(model).code == "onnx_too_large"


def test_dimensions_beyond_the_file(model):
    def swell(proto):
        proto.graph.initializer[1].dims[:] = [10**9, 10**9]

    assert refusal(rewritten(model, swell)).code == "onnx_invalid"


def test_negative_dimensions(model):
    def negate(proto):
        proto.graph.initializer[1].dims[:] = [-4, -400]

    assert refusal(rewritten(model, negate)).code == "onnx_invalid"


def test_no_ports(tmp_path):
    assert refusal(zoo.empty_graph_model(tmp_path / "m.onnx")).code == "onnx_no_ports"


def test_custom_ops_are_named(tmp_path):
    error = refusal(zoo.custom_op_model(tmp_path / "m.onnx"))
    assert error.code == "custom_ops"
    assert "my.company::Secret" in str(error)


def test_a_models_own_functions_are_not_custom(tmp_path):
    checks.check_onnx(zoo.function_model(tmp_path / "m.onnx"))


@pytest.mark.parametrize(("opset", "ir"), [(99, 10), (17, 99)])
def test_newer_than_onnxruntime(opset, ir, tmp_path):
    error = refusal(zoo.waveform_model(tmp_path / "m.onnx", opset=opset, ir=ir))
    assert error.code == "opset_unsupported"


def test_newer_than_the_floor_but_known_to_onnxruntime(tmp_path, monkeypatch):
    monkeypatch.setattr(checks, "SURE_OPSET", 5)  # so that 17 is tried out
    checks.check_onnx(zoo.waveform_model(tmp_path / "m.onnx"))


# External data ------------------------------------------------------------------------------


def test_external_data_missing(tmp_path):
    path = zoo.external_data_model(tmp_path / "m.onnx")
    (tmp_path / "m.onnx.data").unlink()
    error = refusal(path)
    assert error.code == "external_missing"
    assert "m.onnx.data" in str(error)


def test_external_data_short(tmp_path):
    path = zoo.external_data_model(tmp_path / "m.onnx")
    os.truncate(tmp_path / "m.onnx.data", 1000)
    assert refusal(path).code == "external_short"


@pytest.mark.parametrize(
    ("key", "value"), [("offset", "-8"), ("offset", "much"), ("length", "12"), ("length", "-1")]
)
def test_external_data_with_false_figures(key, value, tmp_path):
    def change(proto):
        for item in proto.graph.initializer[0].external_data:
            if item.key == key:
                item.value = value

    path = rewritten(zoo.external_data_model(tmp_path / "m.onnx"), change)
    assert refusal(path).code == "onnx_invalid"


@pytest.mark.parametrize(
    "location", ["../secret", "/etc/passwd", "a/../../secret", "C:\\secret", "\\\\host\\share\\x"]
)
def test_external_data_outside_the_folder(location, tmp_path):
    (tmp_path / "secret").write_bytes(bytes(1 << 16))
    (tmp_path / "home").mkdir()
    path = zoo.external_data_model(tmp_path / "home" / "m.onnx", location=location)
    assert refusal(path).code == "external_outside"


def test_external_data_linked_out(tmp_path):
    (tmp_path / "secret").write_bytes(bytes(1 << 16))
    (tmp_path / "home").mkdir()
    path = zoo.external_data_model(tmp_path / "home" / "m.onnx")
    data = tmp_path / "home" / "m.onnx.data"
    data.unlink()
    data.symlink_to(tmp_path / "secret")
    assert refusal(path).code == "external_outside"


def test_external_data_of_a_linked_model(tmp_path):
    """As the Hugging Face cache lies: links in `snapshots` to files in `blobs`."""
    blobs, snapshot = tmp_path / "blobs", tmp_path / "snapshots"
    blobs.mkdir()
    snapshot.mkdir()
    zoo.external_data_model(snapshot / "m.onnx")
    for name in ("m.onnx", "m.onnx.data"):
        (snapshot / name).rename(blobs / name)
        (snapshot / name).symlink_to(blobs / name)
    assert checks.check_onnx(snapshot / "m.onnx").external == (snapshot / "m.onnx.data",)


# Damaged at random --------------------------------------------------------------------------


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_damaged_files_give_errors_of_ours_or_none(data, tmp_path):
    make = data.draw(st.sampled_from([zoo.external_data_model, zoo.branches_model]))
    path = make(tmp_path / "m.onnx")
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content[: data.draw(st.integers(1, len(content)))])
    try:
        checks.check_onnx(path)
    except VozmetroError as error:
        error.message("es")


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_damaged_ctranslate2_files_give_errors_of_ours_or_none(data, tmp_path):
    weights = [("decoder/w", np.zeros((3, 4), np.float16)), ("heads", np.array(8, np.int16))]
    content = bytearray(zoo.ctranslate2_bytes(weights))
    for _ in range(data.draw(st.integers(0, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    (tmp_path / "model.bin").write_bytes(content[: data.draw(st.integers(0, len(content)))])
    try:
        ctranslate2.inspect(tmp_path)
    except VozmetroError as error:
        error.message("es")


# CTranslate2 --------------------------------------------------------------------------------


def test_ctranslate2_is_described(tmp_path):
    weights = [
        ("decoder/embeddings/weight", np.zeros((51864, 2), np.int8)),
        ("decoder/embeddings/weight_scale", np.zeros(51864, np.float32)),
        ("decoder/layer_norm/gamma", np.zeros(2, np.float16)),
        ("decoder/num_heads", np.array(8, np.int16)),
    ]
    (tmp_path / "model.bin").write_bytes(zoo.ctranslate2_bytes(weights))
    found = ctranslate2.inspect(tmp_path)
    assert (found.format, found.precision) == ("CTranslate2", "INT8")
    assert found.parameters == 51864 * 2 + 2
    assert found.bytes_by_dtype == {"INT8": 103728, "FP32": 207456, "FP16": 4, "INT16": 2}
    assert found.english_only is True


@pytest.mark.parametrize("cut", [0, 3, 20, 60, -1])
def test_truncated_ctranslate2(cut, tmp_path):
    content = zoo.ctranslate2_bytes([("encoder/w", np.zeros((8, 8), np.float32))])
    (tmp_path / "model.bin").write_bytes(content[:cut])
    assert refusal(tmp_path, ctranslate2.inspect).code == "ctranslate2_damaged"


def test_ctranslate2_that_promises_more_variables(tmp_path):
    content = zoo.ctranslate2_bytes([("w", np.zeros(2, np.int8))], count=2**32 - 1)
    (tmp_path / "model.bin").write_bytes(content)
    assert refusal(tmp_path, ctranslate2.inspect).code == "ctranslate2_damaged"


def test_ctranslate2_of_another_version(tmp_path):
    (tmp_path / "model.bin").write_bytes(zoo.ctranslate2_bytes([], version=9))
    assert refusal(tmp_path, ctranslate2.inspect).code == "ctranslate2_version"


# Fitting and claims -------------------------------------------------------------------------


def subject(**changes) -> SimpleNamespace:
    values = {
        "format": "ONNX",
        "precision": "INT8",
        "parameters": 1_100_000_000,
        "bytes_by_dtype": {"INT8": 1_100_000_000},
        "weight_bytes": 1_100_000_000,
        "expected_ram": 2_410_000_000,
    }
    return SimpleNamespace(name="big", files=(), inspection=Inspection(**{**values, **changes}))


def test_a_model_that_fits_is_let_through():
    checks.check_fits(subject(), 2_410_000_000)


def test_a_model_that_does_not_fit_is_refused_with_the_arithmetic():
    with pytest.raises(ModelError) as caught:
        checks.check_fits(subject(), 2_000_000_000)
    text = str(caught.value)
    for figure in ("2.4 GB", "1.1 GB of INT8 weights x 2.1", "100.0 MB", "2.0 GB"):
        assert figure in text


def test_the_words_that_contradict_a_claim():
    note = checks.claim_note(subject(), 30e9)
    assert note is not None
    from vozmetro.i18n import t

    said = t(f"notes.{note.code}", "en", **note.fields)
    assert said == "1.1 GB at INT8 holds about 1.1 B parameters, not 30 B."
    assert "1.1 B parámetros" in t(f"notes.{note.code}", "es", **note.fields)


@pytest.mark.parametrize("claimed", [1.1e9, 1.0e9, 1.3e9])
def test_claims_within_a_fifth_pass(claimed):
    assert checks.claim_note(subject(), claimed) is None


@pytest.mark.parametrize("claimed", [0.8e9, 1.5e9])
def test_claims_beyond_a_fifth_do_not(claimed):
    assert checks.claim_note(subject(), claimed) is not None


def test_nothing_counted_contradicts_nothing():
    assert checks.claim_note(subject(parameters=None), 30e9) is None


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("30B", 30e9),
        ("72.6M", 72.6e6),
        ("30000000000", 30e9),
        ("4,4 b", 4.4e9),
        ("910", 910),
        ("30e9", 30e9),
        ("1T", 1e12),
        ("5k", 5e3),
    ],
)
def test_numbers_of_parameters(text, value):
    assert checks.parse_parameters(text) == pytest.approx(value)


@pytest.mark.parametrize("text", ["", "B", "30Q", "-3B", "0", "1.2.3M", "inf", "nan", "1e99"])
def test_nonsense_numbers_of_parameters(text):
    with pytest.raises(InputError) as caught:
        checks.parse_parameters(text)
    assert caught.value.code == "claimed_params_invalid"
