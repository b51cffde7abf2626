"""The safetensors reader: right numbers, and every kind of damage refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import whisper_zoo as zoo
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vozmetro.errors import ModelError
from vozmetro.models.convert.safetensors import MAX_HEADER, SafetensorsSource

A = np.arange(12, dtype=np.float32).reshape(4, 3) / 7
B = np.array([1.5, -2.25, 65504], np.float16)
SHARED = settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=150
)


def write(folder: Path, content: bytes, name: str = "model.safetensors") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(content)
    return folder


def code(folder: Path) -> str:
    with pytest.raises(ModelError) as caught:
        SafetensorsSource(folder)
    assert str(caught.value)
    return caught.value.code


def headed(header: Any, data: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def entry(shape: Any = (2,), begin: Any = 0, end: Any = 8, dtype: Any = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [begin, end]}


def test_reads_every_float_type_exactly(tmp_path: Path) -> None:
    bits = (A.view(np.uint32) >> 16).astype(np.uint16)  # bfloat16 is a float32's upper half
    content = zoo.safetensors_bytes({"a": A, "b": B, "c": bits, "ids": np.arange(3)}, format="pt")
    source = SafetensorsSource(write(tmp_path, content))
    assert list(source.names()) == ["a", "b", "c", "ids"]
    assert source.shape("a") == (4, 3)
    np.testing.assert_array_equal(source.read("a"), A)
    np.testing.assert_array_equal(source.read("b"), [1.5, -2.25, 65504])
    cut = (A.view(np.uint32) & 0xFFFF0000).view(np.float32)
    np.testing.assert_array_equal(source.read("c"), cut)
    np.testing.assert_array_equal(source.read_rows("c", 1, 3), cut[1:3])
    assert source.read("a").flags["C_CONTIGUOUS"]
    assert source.files == (tmp_path / "model.safetensors",)


def test_a_scalar_and_an_empty_tensor(tmp_path: Path) -> None:
    tensors = {"one": np.float32(2.5).reshape(()), "none": np.zeros((0, 4), np.float32)}
    source = SafetensorsSource(write(tmp_path, zoo.safetensors_bytes(tensors)))
    assert source.read("one") == 2.5
    assert source.read("none").shape == (0, 4)


def test_names_that_are_not_there_and_types_that_are_no_floats(tmp_path: Path) -> None:
    source = SafetensorsSource(write(tmp_path, zoo.safetensors_bytes({"ids": np.arange(3)})))
    for name, wanted in (("other", "weight_missing"), ("ids", "weight_dtype")):
        with pytest.raises(ModelError) as caught:
            source.read(name)
        assert caught.value.code == wanted


def test_shards_are_found_through_the_index(tmp_path: Path) -> None:
    write(tmp_path, zoo.safetensors_bytes({"a": A}), "model-1.safetensors")
    write(tmp_path, zoo.safetensors_bytes({"b": B}), "model-2.safetensors")
    index = {"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    source = SafetensorsSource(tmp_path)
    np.testing.assert_array_equal(source.read("a"), A)
    np.testing.assert_array_equal(source.read("b"), B.astype(np.float32))
    assert [path.name for path in source.files] == ["model-1.safetensors", "model-2.safetensors"]


@pytest.mark.parametrize(
    "shard",
    ["../model.safetensors", "/etc/model.safetensors", "a/m.safetensors", "..", "model.bin", 7,
     "C:\\m.safetensors", "missing.safetensors", "", "..\\m.safetensors", "a\0.safetensors"],
)  # fmt: skip
def test_shards_outside_the_folder_are_refused(tmp_path: Path, shard: Any) -> None:
    write(tmp_path, zoo.safetensors_bytes({"a": A}))
    folder = write(tmp_path / "inner", zoo.safetensors_bytes({"a": A}), "other.safetensors")
    index = json.dumps({"weight_map": {"a": shard}})
    (folder / "model.safetensors.index.json").write_text(index)
    assert code(folder) == "safetensors_shard"


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"weight_map": []}', "[" * 100_000, '{"a":1'])
def test_a_damaged_index(tmp_path: Path, text: str) -> None:
    (tmp_path / "model.safetensors.index.json").write_text(text)
    assert code(tmp_path) == "safetensors_damaged"


def test_one_whole_file_comes_before_an_index(tmp_path: Path) -> None:
    write(tmp_path, headed({"a": entry()}, bytes(8)))
    (tmp_path / "model.safetensors.index.json").write_text("{}")
    assert list(SafetensorsSource(tmp_path).names()) == ["a"]


def test_an_index_that_names_what_the_shard_has_not(tmp_path: Path) -> None:
    write(tmp_path, zoo.safetensors_bytes({"a": A}), "m.safetensors")
    index = json.dumps({"weight_map": {"b": "m.safetensors"}})
    (tmp_path / "model.safetensors.index.json").write_text(index)
    assert code(tmp_path) == "safetensors_damaged"


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "0 B"),
        (b"\1\0\0", "header"),
        ((1 << 60).to_bytes(8, "little") + b"{}", "header"),
        ((MAX_HEADER + 1).to_bytes(8, "little") + b"{}", "header"),
        (headed(b"[]"), "JSON object"),
        (headed(b"\xff\xfe"), "header"),
        (headed(b'{"a": 1, "a": 2}'), "repeated"),
        (headed(b"[" * 100_000), "header"),
        (headed({"a": 3}), "dtype"),
        (headed({"a": entry(dtype="F128")}, bytes(8)), "dtype"),
        (headed({"a": entry(dtype=["F32"])}, bytes(8)), "dtype"),
        (headed({"a": entry(shape=(-2,))}, bytes(8)), "shape"),
        (headed({"a": entry(shape=(True, 2))}, bytes(8)), "shape"),
        (headed({"a": entry(shape=(2.0,))}, bytes(8)), "shape"),
        (headed({"a": entry(shape=(1,) * 40 + (2,))}, bytes(8)), "shape"),
        (headed({"a": entry(shape=(1 << 40, 1 << 40))}, bytes(8)), "shape"),
        (headed({"a": entry(end=-8)}, bytes(8)), "data_offsets"),
        (headed({"a": entry(begin=8, end=0)}, bytes(8)), "data_offsets"),
        (headed({"a": entry()}, bytes(7)), "7 B"),
        (headed({"a": entry()}, bytes(9)), "9 B"),
        (headed({"a": entry(), "b": entry()}, bytes(8)), "expected 8"),
        (headed({"a": entry(begin=4, end=12)}, bytes(12)), "expected 0"),
        (headed({"a": entry(), "b": entry(begin=12, end=20)}, bytes(20)), "expected 8"),
    ],
)
def test_every_length_and_offset_is_checked(tmp_path: Path, content: bytes, why: str) -> None:
    write(tmp_path, content)
    with pytest.raises(ModelError) as caught:
        SafetensorsSource(tmp_path)
    assert caught.value.code == "safetensors_damaged"
    assert why in str(caught.value)


def test_folders_of_pickles_name_the_fix(tmp_path: Path) -> None:
    (tmp_path / "pytorch_model.bin").write_bytes(b"\x80\x04")
    with pytest.raises(ModelError) as caught:
        SafetensorsSource(tmp_path)
    assert caught.value.code == "weights_pickle"
    assert "pytorch_model.bin" in str(caught.value)
    assert "safetensors" in str(caught.value)


def test_folders_without_weights(tmp_path: Path) -> None:
    assert code(tmp_path) == "weights_none"
    assert code(tmp_path / "nowhere") == "file_missing"


def test_a_file_that_was_cut_after_it_was_opened(tmp_path: Path) -> None:
    content = zoo.safetensors_bytes({"a": A})
    source = SafetensorsSource(write(tmp_path, content))
    write(tmp_path, content[:-4])
    with pytest.raises(ModelError) as caught:
        source.read("a")
    assert caught.value.code == "safetensors_damaged"


@SHARED
@given(data=st.data())
def test_damaged_bytes_never_do_anything_but_raise(tmp_path: Path, data: st.DataObject) -> None:
    content = bytearray(zoo.safetensors_bytes({"a": A, "b": B}))
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(content) - 1))
        content[place] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(content)))
    write(tmp_path, bytes(content[:cut]) + data.draw(st.binary(max_size=8)))
    try:
        source = SafetensorsSource(tmp_path)
    except ModelError as error:
        assert error.code == "safetensors_damaged"
        return
    for name in source.names():
        try:
            assert source.read(name).shape == source.shape(name)
        except ModelError as error:
            assert error.code == "weight_dtype"


@SHARED
@given(shapes=st.lists(st.lists(st.integers(0, 4), max_size=3), max_size=5), seed=st.integers(0, 9))
def test_what_is_written_is_what_is_read(
    tmp_path: Path, shapes: list[list[int]], seed: int
) -> None:
    rng = np.random.default_rng(seed)
    tensors = {
        f"t{index}": rng.standard_normal(shape).astype(("float32", "float16")[index % 2])
        for index, shape in enumerate(np.array(one, int) for one in shapes)
    }
    source = SafetensorsSource(write(tmp_path, zoo.safetensors_bytes(tensors)))
    for name, array in tensors.items():
        np.testing.assert_array_equal(source.read(name), array.astype(np.float32))
