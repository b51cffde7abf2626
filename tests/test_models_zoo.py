"""The zoo's models do what their docstrings say in onnxruntime."""

import numpy as np
import onnx_zoo as zoo
import onnxruntime
import pytest

F, I64 = np.float32, np.int64
CASES = {
    "waveform_model": ({"audio": np.ones((1, 1600), F)}, (1, 4, 11)),
    "mel_model": ({"input_features": np.ones((2, 80, 30), F)}, (2, 8, 30)),
    "mel_static_model": ({"mel": np.ones((1, 80, 3000), F)}, (1, 8, 3000)),
    "tokens_model": (
        {
            "input_ids": np.ones((1, 3), I64),
            "attention_mask": np.ones((1, 8), I64),
            "position_ids": np.arange(5, 8, dtype=I64)[None],
            "past_key_values.0.key": np.ones((1, 2, 5, 8), F),
            "past_key_values.0.value": np.ones((1, 2, 5, 8), F),
        },
        (1, 3, 32),
    ),
    "piper_like": (
        {
            "input": np.ones((1, 7), I64),
            "input_lengths": np.array([7]),
            "scales": np.array([0.667, 1, 0.8], F),
        },
        (1, 1, 7 * 256),
    ),
    "fp16_model": ({"audio": np.ones((1, 100), np.float16)}, (1, 100, 64)),
    "constant_model": ({"audio": np.ones((1, 100), F)}, (1, 4)),
    "nan_model": ({"audio": np.ones((1, 100), F)}, (1, 100)),
    "raises_model": ({"audio": np.ones((1, 20_000), F)}, (1, 1)),
    "external_data_model": ({"x": np.ones((2, 64), F)}, (2, 64)),
    "function_model": ({"audio": np.ones((1, 100), F)}, (1, 100)),
    "big_claim_model": ({"ids": np.ones((1, 5), I64)}, (1, 5, 100)),
    "int_inputs": (
        {
            "counts": np.ones((1, 5), np.int32),
            "flags": np.ones((1, 5), np.bool_),
            "bytes": np.ones((1, 5), np.uint8),
        },
        (1, 5),
    ),
    "matmul_nbits_int4_model": ({"x": np.ones((2, 64), F)}, (2, 128)),
    "int4_model": ({"x": np.ones((2, 64), F)}, (2, 32)),
    "int8_dynamic_model": ({"x": np.ones((2, 64), F)}, (2, 32)),
    "branches_model": ({"x": np.ones(8, F), "flag": np.array(True)}, (8,)),
    "string_input_model": ({"text": np.array([["hola", "mundo"]], object)}, (1, 2)),
}


def session(path):
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


@pytest.mark.parametrize("name", CASES)
def test_runs(name, tmp_path):
    feeds, shape = CASES[name]
    outputs = session(getattr(zoo, name)(tmp_path / "m.onnx")).run(None, feeds)
    assert outputs[0].shape == shape


def test_outputs_follow_the_input_except_in_the_stub(tmp_path):
    rng = np.random.default_rng(0)
    first, second = rng.standard_normal((2, 1, 1600)).astype(F)
    stub = session(zoo.constant_model(tmp_path / "stub.onnx"))
    real = session(zoo.waveform_model(tmp_path / "real.onnx"))
    answers = [model.run(None, {"audio": a})[0] for model in (stub, real) for a in (first, second)]
    assert np.array_equal(answers[0], answers[1])
    assert not np.array_equal(answers[2], answers[3])


def test_nan_model_gives_nan(tmp_path):
    model = session(zoo.nan_model(tmp_path / "m.onnx"))
    assert np.isnan(model.run(None, {"audio": np.full((1, 4), -1, F)})[0]).all()


def test_raises_model_raises_beyond_its_limit(tmp_path):
    model = session(zoo.raises_model(tmp_path / "m.onnx", limit=100))
    model.run(None, {"audio": np.ones((1, 100), F)})
    with pytest.raises(Exception, match="out of data bounds"):
        model.run(None, {"audio": np.ones((1, 101), F)})


def test_custom_op_does_not_load(tmp_path):
    with pytest.raises(Exception, match=r"my\.company"):
        session(zoo.custom_op_model(tmp_path / "m.onnx"))
