"""The arithmetic of quantization: bounds, known answers, and what ONNX Runtime makes of it."""

from __future__ import annotations

import numpy as np
import onnxruntime as ort
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from onnx import TensorProto as T
from onnx import helper as h
from onnx import numpy_helper

from vozmetro.models.quantize import kernels

FINITE = st.floats(-1e6, 1e6, width=32, allow_subnormal=False)
MATRICES = arrays(np.float32, array_shapes(min_dims=2, max_dims=2, max_side=40), elements=FINITE)


@settings(deadline=None)
@given(MATRICES)
def test_int8_rows_are_within_half_a_scale(weights: np.ndarray) -> None:
    for paired in (True, False):
        values, scales = kernels.int8_rows(weights, paired=paired)
        error = np.abs(values * scales[:, None].astype(np.float64) - weights)
        assert (error <= scales[:, None] * 0.50001).all()
        assert np.abs(values.astype(int)).max() <= 127


@settings(deadline=None)
@given(MATRICES)
def test_no_pair_can_saturate_sixteen_bits(weights: np.ndarray) -> None:
    values = kernels.int8_rows(weights)[0].astype(int)
    even = weights.shape[1] // 2 * 2
    sums = values[:, 0:even:2] + values[:, 1:even:2]
    assert np.abs(sums).max(initial=0) * 255 <= 2**15 - 1


@settings(deadline=None)
@given(MATRICES)
def test_columns_give_the_scales_of_rows(weights: np.ndarray) -> None:
    turned = np.ascontiguousarray(weights.T)
    for paired in (True, False):
        peaks = kernels.column_peaks(turned, paired=paired)
        np.testing.assert_array_equal(peaks, kernels.row_peaks(weights, paired=paired))
    halves = [kernels.column_peaks(turned[:4]), kernels.column_peaks(turned[4:])]
    np.testing.assert_array_equal(np.maximum(*halves), kernels.row_peaks(weights))


@settings(deadline=None)
@given(MATRICES, st.sampled_from([32, 64, 128]))
def test_blocks_are_within_their_scale(weights: np.ndarray, block: int) -> None:
    inputs = weights.shape[1]
    packed, scales = kernels.int4_blocks(weights, block)
    steps = np.repeat(np.abs(scales), block, axis=1)[:, :inputs]
    error = np.abs(kernels.int4_values(packed, scales, inputs).astype(np.float64) - weights)
    # The end opposite to the largest value has one step less.
    assert (error <= steps * 1.00001 + 1e-37).all()
    assert np.quantile(error / np.maximum(steps, 1e-30), 0.5) <= 0.50001
    values, scales = kernels.int8_blocks(weights, block)
    steps = np.repeat(scales, block, axis=1)[:, :inputs]
    error = np.abs(kernels.int8_block_values(values, scales, inputs).astype(np.float64) - weights)
    assert (error <= steps * 0.50001 + 1e-37).all()


def test_known_values() -> None:
    weights = np.array([[1.27, -0.635, 0, 0.01], [0, 0, 0, 0]], np.float32)
    values, scales = kernels.int8_rows(weights)
    np.testing.assert_allclose(scales, [0.01, 1])
    np.testing.assert_array_equal(values, [[127, -64, 0, 1], [0, 0, 0, 0]])
    # Neighbours of one sign share the range of two.
    values, scales = kernels.int8_rows(np.array([[1, 1, 0, 0]], np.float32))
    np.testing.assert_allclose(scales, [2 / 127])
    np.testing.assert_array_equal(values, [[64, 64, 0, 0]])
    # Neighbours of opposite signs do not.
    assert kernels.int8_rows(np.array([[1, -1, 0, 0]], np.float32))[1][0] == np.float32(1 / 127)
    packed, scales = kernels.int4_blocks(np.array([[-8, 7, 0, 1] + [0] * 28], np.float32), 32)
    assert scales.tolist() == [[1]]
    assert packed[0, 0, :3].tolist() == [0x0 | 0xF << 4, 0x8 | 0x9 << 4, 0x8 | 0x8 << 4]


def test_a_row_with_an_outlier_keeps_its_neighbours_exact() -> None:
    weights = np.full((2, 64), 0.01, np.float32)
    weights[0, 5] = 100.0
    values, scales = kernels.int8_rows(weights)
    assert values[0, 5] == 127
    np.testing.assert_allclose(values[1] * scales[1], weights[1], rtol=0.01)


@pytest.mark.parametrize("value", [1e-45, 1e-39, 0.0])
def test_denormal_weights_become_zeros_not_nan(value: float) -> None:
    weights = np.full((3, 40), value, np.float32)
    values, scales = kernels.int8_rows(weights)
    assert np.isfinite(values * scales[:, None]).all()
    for pack, unpack in (
        (kernels.int4_blocks, kernels.int4_values),
        (kernels.int8_blocks, kernels.int8_block_values),
    ):
        packed, scales = pack(weights, 32)
        np.testing.assert_allclose(unpack(packed, scales, 40), 0, atol=1e-38)


def test_four_bits_are_those_of_onnxruntime() -> None:
    from onnxruntime.capi._pybind_state import quantize_matmul_4bits

    rng = np.random.default_rng(0)
    weights = rng.standard_normal((24, 256)).astype(np.float32)
    for block in (32, 64, 128):
        blocks = 256 // block
        packed = np.zeros((24, blocks, block // 2), np.uint8)
        scales = np.zeros(24 * blocks, np.float32)
        unused = np.zeros(24 * ((blocks + 1) // 2), np.uint8)
        turned = np.ascontiguousarray(weights.T)
        quantize_matmul_4bits(packed, turned, scales, unused, block, 24, 256, True)
        ours, our_scales = kernels.int4_blocks(weights, block)
        np.testing.assert_allclose(our_scales.ravel(), scales, rtol=1e-6)
        # Ties may round either way.
        assert (ours != packed).mean() < 0.001


def test_eight_bits_without_pairs_are_those_of_onnxruntime() -> None:
    from onnxruntime.quantization.quant_utils import quantize_data

    rng = np.random.default_rng(0)
    weights = rng.standard_normal((24, 256)).astype(np.float32)
    ours, our_scales = kernels.int8_rows(weights, paired=False)
    for row, values, scale in zip(weights, ours, our_scales, strict=True):
        found = quantize_data(row, T.INT8, symmetric=True)
        theirs, their_scale = found[-1], found[-2]
        np.testing.assert_allclose(scale, their_scale, rtol=1e-6)
        assert np.abs(values.astype(int) - np.asarray(theirs).astype(int)).max() <= 1
        assert (values != theirs).mean() < 0.02


def _product(values: np.ndarray, scales: np.ndarray, x: np.ndarray) -> np.ndarray:
    nodes = [
        h.make_node("DynamicQuantizeLinear", ["x"], ["q", "s", "z"]),
        h.make_node(
            "MatMulIntegerToFloat", ["q", "w", "s", "c", "z"], ["y"], domain="com.microsoft"
        ),
    ]
    stored = [
        numpy_helper.from_array(np.ascontiguousarray(values.T), "w"),
        numpy_helper.from_array(scales, "c"),
    ]
    inputs = [h.make_tensor_value_info("x", T.FLOAT, list(x.shape))]
    outputs = [h.make_tensor_value_info("y", T.FLOAT, None)]
    graph = h.make_graph(nodes, "g", inputs, outputs, stored)
    imports = [h.make_opsetid("", 21), h.make_opsetid("com.microsoft", 1)]
    model = h.make_model(graph, opset_imports=imports, ir_version=10)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"x": x})[0])


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 9), st.integers(1, 40), st.integers(1, 200), st.integers(0, 2**32 - 1),
    st.sampled_from(["gaussian", "uniform", "equal"]),
)  # fmt: skip
def test_the_processor_multiplies_them_exactly(
    rows: int, outputs: int, inputs: int, seed: int, kind: str
) -> None:
    # The largest uint8 everywhere is what saturates VPMADDUBSW on x86 without VNNI.
    rng = np.random.default_rng(seed)
    weights = {
        "gaussian": rng.standard_normal((outputs, inputs)),
        "uniform": rng.uniform(-1, 1, (outputs, inputs)),
        "equal": np.ones((outputs, inputs)) * rng.choice([-1, 1], (outputs, 1)),
    }[kind].astype(np.float32)
    values, scales = kernels.int8_rows(weights)
    x = np.full((rows, inputs), 255.0, np.float32)
    wanted = 255 * values.astype(np.int64).sum(axis=1) * scales.astype(np.float64)
    found = _product(values, scales, x)
    np.testing.assert_allclose(found, np.tile(wanted, (rows, 1)), rtol=1e-5, atol=1e-3)
