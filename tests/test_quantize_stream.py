"""Quantizing whole files: what is replaced, what stays, what is refused, and at which cost."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_zoo
import onnxruntime as ort
import pytest
import quantize_zoo as zoo
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vozmetro.errors import InputError, ModelError, OutputError, VozmetroError
from vozmetro.models import checks, weights
from vozmetro.models.quantize import datafile, stream
from vozmetro.models.quantize.plan import Plan, QuantizeReport
from vozmetro.models.quantize.stream import quantize

INT8, INT4 = Plan(), Plan(bits=4, mode="weight-only", block=32)
PLANS = {
    "int8": (INT8, 0.03),
    "int8-b64": (Plan(mode="weight-only", block=64), 0.03),
    "int4-b32": (INT4, 0.15),
    "int4-b128": (Plan(bits=4, mode="weight-only"), 0.2),
}


def run(path: Path, feeds: dict[str, Any]) -> list[np.ndarray]:
    options = ort.SessionOptions()
    options.log_severity_level = 3
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return [np.asarray(one) for one in session.run(None, feeds)]


def error(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.linalg.norm(a - b) / np.linalg.norm(a))


def x(*shape: int) -> np.ndarray:
    return np.random.default_rng(1).standard_normal(shape).astype(np.float32)


def quantized(
    tmp_path: Path, make: Callable[[Path], Path], plan: Plan = INT8
) -> tuple[Path, Path, QuantizeReport]:
    source = make(tmp_path / "m.onnx")
    output = tmp_path / "out" / "q.onnx"
    return source, output, quantize(source, output, plan)


def ops(path: Path) -> list[str]:
    return [node.op_type for node in weights.nodes(onnx.load(path, load_external_data=False))]


@pytest.mark.parametrize("name", PLANS)
@pytest.mark.parametrize("bias", [False, True])
def test_a_layer_stays_close(tmp_path: Path, name: str, bias: bool) -> None:
    plan, bound = PLANS[name]
    source, output, report = quantized(tmp_path, lambda p: zoo.matmul(p, bias=bias), plan)
    feeds = {"x": x(9, zoo.INPUTS)}
    assert error(run(source, feeds)[0], run(output, feeds)[0]) < bound
    # The bias is added by the product itself.
    assert "Add" not in ops(output)
    assert report.share == 1 if not bias else 0.98 < report.share < 1
    (layer,) = report.layers
    assert (layer.name, layer.outputs, layer.inputs) == ("layer", zoo.OUTPUTS, zoo.INPUTS)
    assert 0 < layer.error < bound
    assert layer.bytes_before == 4 * zoo.INPUTS * zoo.OUTPUTS


@pytest.mark.parametrize("turn_a", [False, True])
@pytest.mark.parametrize("turn_b", [False, True])
@pytest.mark.parametrize(
    ("alpha", "beta", "bias"),
    [
        (1.0, 1.0, None),
        (1.0, 1.0, (zoo.OUTPUTS,)),
        (0.5, 2.0, (zoo.OUTPUTS,)),
        (-3.0, 1.0, (1, zoo.OUTPUTS)),
        (1.0, 0.25, (5, 1)),
    ],
)
def test_gemm_means_the_same(
    tmp_path: Path, turn_a: bool, turn_b: bool, alpha: float, beta: float, bias: Any
) -> None:
    source = zoo.gemm(
        tmp_path / "g.onnx", turn_a=turn_a, turn_b=turn_b, alpha=alpha, beta=beta, bias=bias
    )
    feeds = {"x": x(*((zoo.INPUTS, 5) if turn_a else (5, zoo.INPUTS)))}
    for name, (plan, bound) in PLANS.items():
        quantize(source, tmp_path / f"{name}.onnx", plan)
        assert error(run(source, feeds)[0], run(tmp_path / f"{name}.onnx", feeds)[0]) < bound


def test_int8_is_exactly_what_its_numbers_say(tmp_path: Path) -> None:
    source, output, _ = quantized(tmp_path, zoo.matmul)
    model = onnx.load(output)
    stored = {t.name: onnx.numpy_helper.to_array(t) for t in model.graph.initializer}
    values, scale = stored["w_q8"].astype(np.float64), stored["w_scale"]
    feeds = {"x": x(6, zoo.INPUTS)}
    step = np.float32((feeds["x"].max() - feeds["x"].min()) / 255)
    zero = np.rint(-feeds["x"].min() / step)
    rounded = np.clip(np.rint(feeds["x"] / step) + zero, 0, 255) - zero
    wanted = (rounded @ values) * (step * scale)
    np.testing.assert_allclose(run(output, feeds)[0], wanted, rtol=1e-4, atol=1e-5)
    original = onnx.numpy_helper.to_array(onnx.load(source).graph.initializer[0])
    assert (np.abs(values * scale - original) <= scale * 0.50001).all()


def test_every_large_product_computes_in_eight_bits(tmp_path: Path) -> None:
    for plan in (INT4, Plan(mode="weight-only")):
        output = tmp_path / f"{plan.label}.onnx"
        source = zoo.branches(tmp_path / f"{plan.label}-source.onnx")
        quantize(source, output, plan)
        nodes = [n for n in weights.nodes(onnx.load(output)) if n.op_type == "MatMulNBits"]
        assert len(nodes) == 4
        for node in nodes:
            found = {a.name: a.i for a in node.attribute}
            assert found["accuracy_level"] == 4
            assert (found["bits"], found["block_size"]) == (plan.bits, plan.block)


def test_a_node_without_accuracy_level_is_caught(tmp_path: Path) -> None:
    path = onnx_zoo.matmul_nbits_int4_model(tmp_path / "m.onnx")
    stream.check_written(path)
    model = onnx.load(path)
    (node,) = model.graph.node
    at = next(at for at, one in enumerate(node.attribute) if one.name == "accuracy_level")
    del node.attribute[at]
    path.write_bytes(model.SerializeToString())
    with pytest.raises(ModelError) as caught:
        stream.check_written(path)
    assert caught.value.code == "quantize_accuracy"


def test_a_shared_weight_is_stored_once(tmp_path: Path) -> None:
    source, output, report = quantized(tmp_path, zoo.shared)
    feeds = {"x": x(4, zoo.INPUTS)}
    assert error(run(source, feeds)[0], run(output, feeds)[0]) < 0.05
    # w as it lies for two layers, w turned for one, v.
    assert [(one.weight, one.nodes) for one in report.layers] == [("w", 2), ("w", 1), ("v", 1)]
    names = {t.name for t in onnx.load(output, load_external_data=False).graph.initializer}
    assert not names & {"w", "v"}
    # The input is quantized once for the two layers that read it.
    assert ops(output).count("DynamicQuantizeLinear") == 3
    assert report.share == 1


@pytest.mark.parametrize("plan", [INT8, INT4])
def test_branches_are_quantized(tmp_path: Path, plan: Plan) -> None:
    source, output, report = quantized(tmp_path, zoo.branches, plan)
    for flag in (True, False):
        feeds = {"x": x(3, zoo.INPUTS), "flag": np.array(flag)}
        assert error(run(source, feeds)[0], run(output, feeds)[0]) < 0.15
    assert {(one.weight, one.nodes) for one in report.layers} == {
        ("outer", 2), ("then_w", 1), ("else_w", 1),
    }  # fmt: skip
    assert report.share == report.share_parameters == 1
    assert "MatMul" not in ops(output)


def test_loop_bodies_are_quantized(tmp_path: Path) -> None:
    source, output, report = quantized(tmp_path, zoo.loop)
    feeds = {"x": x(3, zoo.INPUTS)}
    assert error(run(source, feeds)[0], run(output, feeds)[0]) < 0.05
    assert [one.name for one in report.layers] == ["inside"]


def test_tables_are_left_unless_asked_for(tmp_path: Path) -> None:
    source = zoo.tied(tmp_path / "m.onnx", metadata={"vozmetro.tied": "other, table"})
    feeds = {"ids": np.array([[0, 47, 3, 3]])}
    wanted = run(source, feeds)[0]
    with pytest.raises(ModelError) as caught:
        quantize(source, tmp_path / "left.onnx", INT8)
    assert caught.value.code == "quantize_nothing"
    assert not (tmp_path / "left.onnx").exists()
    both = quantize(source, tmp_path / "both.onnx", Plan(embeddings=True))
    assert both.left == ()
    assert both.share == 1
    assert error(wanted, run(both.output, feeds)[0]) < 0.03
    marks = {p.key: p.value for p in onnx.load(both.output).metadata_props}
    # Not a copy any more under its old name; `table_2` is the form for looking up.
    assert marks["vozmetro.tied"].startswith("other,table")
    assert marks["vozmetro.tied"].split(",")[1] in {
        t.name for t in onnx.load(both.output).graph.initializer
    }


def test_what_is_left_has_its_reason(tmp_path: Path) -> None:
    source, output, report = quantized(tmp_path, zoo.mixed)
    assert {one.name: one.reason for one in report.left} == {
        "kernel": "conv", "left": "left-hand", "batch": "batched", "gain": "vector",
    }  # fmt: skip
    assert [one.name for one in report.layers] == ["layer"]
    total = report.parameters
    assert total == 3 + 25 + 2 * 70 * 70 + 70 * 48 + 48
    assert report.share_parameters == 70 * 48 / total
    feeds = {"x": x(5, zoo.INPUTS)}
    assert error(run(source, feeds)[0], run(output, feeds)[0]) < 0.05


@pytest.mark.parametrize("make", [zoo.typed_weight, zoo.constant_weight, zoo.old_opset])
@pytest.mark.parametrize("name", ["int8", "int4-b32"])
def test_every_way_of_storing_is_read(
    tmp_path: Path, make: Callable[[Path], Path], name: str
) -> None:
    plan, bound = PLANS[name]
    source, output, report = quantized(tmp_path, make, plan)
    feeds = {"x": x(3, zoo.INPUTS)}
    assert error(run(source, feeds)[0], run(output, feeds)[0]) < bound
    assert report.share == 1


def test_an_old_opset_is_raised_only_where_needed(tmp_path: Path) -> None:
    source = zoo.old_opset(tmp_path / "old.onnx")
    for plan, wanted in ((INT8, 13), (INT4, 10)):
        output = tmp_path / f"{plan.label}.onnx"
        quantize(source, output, plan)
        versions = {one.domain: one.version for one in onnx.load(output).opset_import}
        assert versions == {"": wanted, "com.microsoft": 1}


def test_external_data_is_read_and_the_source_untouched(tmp_path: Path) -> None:
    inline = zoo.mixed(tmp_path / "inline.onnx")
    source = zoo.external(inline, tmp_path / "m.onnx")
    before = [path.read_bytes() for path in (source, tmp_path / "m.onnx.weights")]
    reports = [quantize(path, tmp_path / f"q-{path.stem}.onnx", INT8) for path in (inline, source)]
    feeds = {"x": x(5, zoo.INPUTS)}
    found = [run(report.output, feeds)[0] for report in reports]
    np.testing.assert_array_equal(*found)
    assert [one.error for one in reports[0].layers] == [one.error for one in reports[1].layers]
    assert [path.read_bytes() for path in (source, tmp_path / "m.onnx.weights")] == before
    # The new file needs nothing of the old one.
    assert checks.check_onnx(reports[1].output).external == (tmp_path / "q-m.onnx.data",)


def test_marks_and_ports_stay(tmp_path: Path) -> None:
    marks = {"weights": "dummy", "vozmetro.seed": "7", "vozmetro.precision": "fp32", "author": "ñ"}
    source = zoo.matmul(tmp_path / "m.onnx", metadata=marks)
    for plan in (Plan(mode="weight-only", block=64), INT8):
        quantize(source, tmp_path / f"{plan.label}.onnx", plan)
        found = checks.check_onnx(tmp_path / f"{plan.label}.onnx").inspection
        assert found.weights == "dummy"
        assert dict(found.marks) == {**marks, "vozmetro.precision": plan.label}
    was = checks.check_onnx(source).inspection
    assert (found.inputs, found.outputs) == (was.inputs, was.outputs)
    assert found.parameters == was.parameters


def test_a_language_model_like_graph(tmp_path: Path) -> None:
    source = onnx_zoo.tokens_model(tmp_path / "t.onnx", vocabulary=512, heads=4, width=32)
    feeds = {
        "input_ids": np.array([[1, 500, 7]]),
        "attention_mask": np.ones((1, 3), np.int64),
        "position_ids": np.arange(3)[None],
        **{f"past_key_values.0.{k}": np.zeros((1, 4, 0, 32), np.float32) for k in ("key", "value")},
    }
    wanted = run(source, feeds)
    for plan, _ in PLANS.values():
        report = quantize(source, tmp_path / f"{plan.label}.onnx", plan)
        for a, b in zip(wanted, run(report.output, feeds), strict=True):
            assert error(a, b) < 0.15
        assert report.output_bytes < report.source_bytes


def test_static_ranges_are_used_where_known(tmp_path: Path) -> None:
    source = zoo.shared(tmp_path / "m.onnx")
    feeds = {"x": x(4, zoo.INPUTS)}
    limits = (float(feeds["x"].min()), float(feeds["x"].max()))
    report = quantize(source, tmp_path / "s.onnx", Plan(mode="static", ranges={"x": limits}))
    assert set(report.dynamic_fallback) == {"positive", "rest"}
    found = ops(report.output)
    assert (found.count("QuantizeLinear"), found.count("DynamicQuantizeLinear")) == (1, 2)
    assert error(run(source, feeds)[0], run(report.output, feeds)[0]) < 0.05


@pytest.mark.parametrize(
    ("make", "code"),
    [
        (zoo.only_conv, "quantize_nothing"),
        (onnx_zoo.fp16_model, "quantize_nothing"),
        (onnx_zoo.constant_model, "quantize_nothing"),
        (onnx_zoo.matmul_nbits_int4_model, "quantize_already"),
        (onnx_zoo.int8_dynamic_model, "quantize_already"),
        (onnx_zoo.int4_model, "quantize_already"),
        (onnx_zoo.custom_op_model, "custom_ops"),
    ],
)
def test_what_cannot_be_quantized_is_refused(
    tmp_path: Path, make: Callable[[Path], Path], code: str
) -> None:
    source = make(tmp_path / "m.onnx")
    with pytest.raises(ModelError) as caught:
        quantize(source, tmp_path / "q.onnx", INT8)
    assert caught.value.code == code
    assert [path.name for path in tmp_path.iterdir()] == ["m.onnx"]


def test_the_refusal_says_what_there_is(tmp_path: Path) -> None:
    with pytest.raises(ModelError) as caught:
        quantize(zoo.only_conv(tmp_path / "m.onnx"), tmp_path / "q.onnx", INT8)
    assert "Conv 40.3 kB" in str(caught.value)


@pytest.mark.parametrize("value", [np.nan, np.inf, -1e30])
def test_weights_that_are_no_numbers_are_refused(tmp_path: Path, value: float) -> None:
    broken = zoo.weight("w", zoo.INPUTS, zoo.OUTPUTS)
    broken[33, 7] = value
    node = onnx.helper.make_node("MatMul", ["x", "w"], ["y"])
    source = zoo.save(tmp_path / "m.onnx", [node], [zoo.stored("w", broken)])
    for plan, _ in PLANS.values():
        with pytest.raises(ModelError) as caught:
            quantize(source, tmp_path / "q.onnx", plan)
        assert caught.value.code == "quantize_not_finite"
        assert [path.name for path in tmp_path.iterdir()] == ["m.onnx"]


@pytest.mark.parametrize("block", [0, 16, 96, 256, 512])
def test_other_blocks_are_refused(block: int) -> None:
    with pytest.raises(InputError) as caught:
        Plan(bits=4, mode="weight-only", block=block)
    assert caught.value.code == "quantize_block"


def test_four_bits_are_weights_only() -> None:
    with pytest.raises(InputError) as caught:
        Plan(bits=4, mode="static")
    assert caught.value.code == "quantize_int4_mode"


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    source = zoo.matmul(tmp_path / "m.onnx")
    before = source.read_bytes()
    cases = {"m.onnx": "quantize_same", "link.onnx": "quantize_same", "q": "quantize_suffix"}
    (tmp_path / "link.onnx").symlink_to(source)
    for name in ("old.onnx", "half.onnx.data"):
        (tmp_path / name).write_bytes(b"mine")
    cases |= {"old.onnx": "quantize_taken", "half.onnx": "quantize_taken"}
    for name, code in cases.items():
        with pytest.raises(InputError) as caught:
            quantize(source, tmp_path / name, INT8)
        assert caught.value.code == code
    assert source.read_bytes() == before
    assert (tmp_path / "old.onnx").read_bytes() == b"mine"


def test_too_little_disk_is_said_before_writing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = zoo.matmul(tmp_path / "m.onnx")
    monkeypatch.setattr(datafile.shutil, "disk_usage", lambda _: type("U", (), {"free": 1000}))
    with pytest.raises(OutputError) as caught:
        quantize(source, tmp_path / "q.onnx", INT8)
    assert caught.value.code == "quantize_disk"
    assert [path.name for path in tmp_path.iterdir()] == ["m.onnx"]


def test_a_failure_in_the_middle_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = zoo.shared(tmp_path / "m.onnx")

    def interrupt(name: str, done: int, total: int) -> None:
        if done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        quantize(source, tmp_path / "q.onnx", INT8, interrupt)
    assert [path.name for path in tmp_path.iterdir()] == ["m.onnx"]


def test_progress_ends_at_all(tmp_path: Path) -> None:
    seen: list[tuple[str, int, int]] = []
    source = zoo.shared(tmp_path / "m.onnx")
    quantize(source, tmp_path / "q.onnx", INT8, lambda *given: seen.append(given))
    assert seen[-1][1] == seen[-1][2] == 3 * 4 * zoo.INPUTS * zoo.OUTPUTS
    assert [name for name, _, _ in seen] == ["first", "turning", "third", ""]


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("name", ["int8", "int8-b64", "int4-b32"])
def test_strips_give_what_the_whole_gives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, turned: bool, name: str
) -> None:
    source = zoo.gemm(
        tmp_path / "g.onnx", turn_a=False, turn_b=turned, alpha=1.0, beta=1.0, bias=None
    )
    source = zoo.external(source, tmp_path / "e.onnx")
    plan = PLANS[name][0]
    whole = quantize(source, tmp_path / "whole.onnx", plan)
    monkeypatch.setattr("vozmetro.models.quantize.store.PART", 700)
    parts = quantize(source, tmp_path / "parts.onnx", plan)
    data = [tmp_path / f"{one}.onnx.data" for one in ("whole", "parts")]
    assert data[0].read_bytes() == data[1].read_bytes()
    assert parts.layers[0].error == pytest.approx(whole.layers[0].error, rel=1e-4)


_MEASURED = """
import sys
from pathlib import Path
from vozmetro.measure.memory import peak_rss
from vozmetro.models.quantize.plan import Plan
from vozmetro.models.quantize.stream import quantize
plan = Plan() if sys.argv[3] == "8" else Plan(bits=4, mode="weight-only")
report = quantize(Path(sys.argv[1]), Path(sys.argv[2]), plan)
print(peak_rss(), report.share)
"""


def _write_inline(path: Path, model: onnx.ModelProto, pieces: int, piece: bytes) -> None:
    """Writes a model whose one weight holds `pieces` times `piece`, without holding it here."""

    def field(number: int, size: int) -> bytes:
        out = bytearray([number << 3 | 2])
        while size > 0x7F:
            out.append(size & 0x7F | 0x80)
            size >>= 7
        return bytes([*out, size])

    (tensor,) = model.graph.initializer
    head = tensor.SerializeToString()
    raw = field(9, pieces * len(piece))
    graph = onnx.GraphProto()
    graph.CopyFrom(model.graph)
    del graph.initializer[:]
    rest = graph.SerializeToString()
    size = len(head) + len(raw) + pieces * len(piece)
    stored = field(5, size)
    model.ClearField("graph")
    with path.open("wb") as file:
        file.write(model.SerializeToString())
        file.write(field(7, len(rest) + len(stored) + size) + rest + stored + head + raw)
        for _ in range(pieces):
            file.write(piece)


@pytest.mark.slow
@pytest.mark.parametrize(("bits", "inline"), [(8, True), (4, False)])
def test_memory_stays_far_below_the_weights(tmp_path: Path, bits: int, inline: bool) -> None:
    # One matrix of 600 MB, as a head is: inline, and beside the model.
    inputs, outputs = 1500, 100_000
    piece = zoo.weight("block", 100, outputs).tobytes()
    tensor = onnx.TensorProto(name="w", data_type=1, dims=[inputs, outputs])
    node = onnx.helper.make_node("MatMul", ["x", "w"], ["y"])
    source = tmp_path / "big.onnx"
    if not inline:
        with (tmp_path / "w.bin").open("wb") as file:
            for _ in range(inputs // 100):
                file.write(piece)
        tensor.data_location = tensor.EXTERNAL
        tensor.external_data.add(key="location", value="w.bin")
    zoo.save(source, [node], [tensor], [zoo.port("x", ["rows", inputs])])
    if inline:
        _write_inline(source, onnx.load(source), inputs // 100, piece)
    words = [sys.executable, "-c", _MEASURED, str(source), str(tmp_path / "q.onnx"), str(bits)]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    peak, share = done.stdout.split()
    assert float(share) == 1
    assert int(peak) < 450e6


def test_weights_outside_the_folder_are_not_read(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(bytes(64 * 64 * 4))
    inside = tmp_path / "in"
    inside.mkdir()
    for location in ("../secret", str(tmp_path / "secret")):
        source = onnx_zoo.external_data_model(inside / "m.onnx", location=location)
        with pytest.raises(ModelError) as caught:
            quantize(source, inside / "q.onnx", INT8)
        assert caught.value.code == "external_outside"


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.data())
def test_damaged_files_give_one_of_our_errors(tmp_path: Path, data: st.DataObject) -> None:
    make = data.draw(st.sampled_from([zoo.shared, zoo.branches, zoo.typed_weight, zoo.mixed]))
    source, output = tmp_path / "m.onnx", tmp_path / "q.onnx"
    content = bytearray(make(source).read_bytes())
    # Structure is at both ends of these files, between and behind the weights.
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, 400)) * data.draw(st.sampled_from([1, -1]))
        content[at] = data.draw(st.integers(0, 255))
    cut = data.draw(st.sampled_from([0, 0, 1, 50, 5000]))
    source.write_bytes(content[: len(content) - cut])
    plan = data.draw(st.sampled_from([INT8, INT4, Plan(embeddings=True)]))
    try:
        quantize(source, output, plan)
        checks.check_onnx(output)
    except VozmetroError as caught:
        assert caught.message("es")
    for path in (output, tmp_path / "q.onnx.data"):
        path.unlink(missing_ok=True)
    assert [path.name for path in tmp_path.iterdir()] == ["m.onnx"]
