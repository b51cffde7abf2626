import errno
import json
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import omni_tiny
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vozmetro import packages
from vozmetro.errors import InputError, ModelError
from vozmetro.models import architectures, dummy
from vozmetro.models.architectures import Architecture
from vozmetro.models.convert.dummy_source import CHUNK, DEVIATION, DummySource
from vozmetro.models.dummy import stored_bytes, write

TINY = architectures.load("whisper-tiny")
TABLE = "model.decoder.embed_tokens.weight"
ROWS, WIDTH = TINY.shapes("whisper")[TABLE]
SOURCE = DummySource(TINY.config, seed=5)
WHOLE = SOURCE.read(TABLE)


def hashes(folder: Path) -> dict[str, str]:
    return {path.name: packages.sha256(path) for path in sorted(folder.iterdir())}


def marks(path: Path) -> dict[str, str]:
    model = onnx.load(path, load_external_data=False)
    return {prop.key: prop.value for prop in model.metadata_props}


# The source ------------------------------------------------------------------------------------


@given(st.integers(0, ROWS), st.integers(0, 4 * CHUNK // WIDTH))
@settings(max_examples=30, deadline=None)
def test_rows_are_the_same_whatever_the_range(start: int, count: int) -> None:
    stop = min(start + count, ROWS)
    assert np.array_equal(SOURCE.read_rows(TABLE, start, stop), WHOLE[start:stop])


def test_values() -> None:
    assert np.all(WHOLE != 0)
    assert abs(WHOLE.mean()) < 1e-4
    assert WHOLE.std() == pytest.approx(DEVIATION, rel=1e-3)
    norm = SOURCE.read("model.encoder.layers.0.self_attn_layer_norm.weight")
    assert norm.mean() == pytest.approx(1, abs=0.01)
    assert SOURCE.read("model.encoder.layers.0.self_attn_layer_norm.bias").mean() < 0.01


def test_every_tensor_has_bytes_of_its_own() -> None:
    """Equal initializers would be kept once, and the model would use less memory than it should."""
    names = [n for n in SOURCE.names() if n != TABLE]
    assert len({SOURCE.read(name).tobytes() for name in names}) == len(names) == 166
    starts = Counter(SOURCE.read(name).ravel()[:64].tobytes() for name in names)
    assert max(starts.values()) == 1


def test_the_seed_makes_the_weights() -> None:
    name = "model.encoder.layers.3.fc1.weight"
    same, other = DummySource(TINY.config, seed=5), DummySource(TINY.config, seed=6)
    assert np.array_equal(SOURCE.read(name), same.read(name))
    assert not np.array_equal(SOURCE.read(name), other.read(name))
    # On every machine: the number is from the first run.
    assert float(SOURCE.read(name)[0, 0]) == pytest.approx(0.00676603, rel=1e-5)


def test_progress_and_unknown_names() -> None:
    told: list[int] = []
    source = DummySource(TINY.config, told=told.append)
    source.read("model.encoder.conv1.weight")
    source.read_rows(TABLE, 10, 20)
    assert told == [384 * 80 * 3, 10 * 384]
    with pytest.raises(ModelError) as caught:
        source.read("model.encoder.conv3.weight")
    assert caught.value.code == "weight_missing"


# Whole models ----------------------------------------------------------------------------------


def test_same_seed_same_files(tmp_path: Path) -> None:
    one = write("whisper-tiny", "int8", 1, tmp_path / "a", seed=7)
    two = write("whisper-tiny", "int8", 1, tmp_path / "b", seed=7)
    other = write("whisper-tiny", "int8", 1, tmp_path / "c", seed=8)
    assert hashes(one) == hashes(two)
    assert set(hashes(one)) == {
        "config.json", "decoder.onnx", "decoder.onnx.data", "dummy.json", "encoder.onnx",
        "encoder.onnx.data",
    }  # fmt: skip
    for name in ("encoder.onnx.data", "decoder.onnx.data"):
        assert hashes(one)[name] != hashes(other)[name]
    for name in ("encoder.onnx", "decoder.onnx"):
        found = marks(one / name)
        assert found["weights"] == "dummy"
        assert found["vozmetro.seed"] == "7"
        assert found["vozmetro.layers"] == "1"
        assert found["vozmetro.architecture"] == "whisper-tiny"
        assert found["vozmetro.architecture_sha256"] == TINY.sha256
    assert json.loads((one / "config.json").read_text())["encoder_layers"] == 1


@pytest.mark.parametrize("precision", ["fp32", "int8", "int4"])
def test_the_disk_is_asked_for_what_is_written(precision: str, tmp_path: Path) -> None:
    path = write("whisper-tiny", precision, output=tmp_path / "model")
    found = sum(file.stat().st_size for file in path.glob("*.onnx*"))
    expected = stored_bytes(TINY.shapes("whisper"), precision, 128)
    assert expected == pytest.approx(found, rel=0.1)


def test_a_full_disk_is_refused_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=10**10)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(ModelError, match=r"10\.0 GB free") as caught:
        write("qwen3-omni-30b-a3b", "int4", output=tmp_path / "omni")
    # 34.4 B weights at 4 bits and a scale per 128, 0.4 B at 8 bits and 0.1 B at 32.
    needed = float(caught.value.fields["needed"].removesuffix(" GB"))
    assert needed == pytest.approx(34.4 * (0.5 + 4 / 128) + 0.4 + 0.4, rel=0.03)
    assert list((tmp_path / "omni").iterdir()) == []


def test_what_is_intact_is_not_written_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VOZMETRO_CACHE", str(tmp_path))
    told: list[tuple[str, int, int]] = []
    folder = write("whisper-tiny", "int4", 1, listen=lambda *state: told.append(state))
    assert folder.is_relative_to(tmp_path)
    assert told[-1][0] == "whisper"
    assert 0 < told[0][1] < told[-1][1] <= told[-1][2]
    before = hashes(folder)
    told.clear()
    assert write("whisper-tiny", "int4", 1, listen=lambda *state: told.append(state)) == folder
    assert told == []
    data = folder / "encoder.onnx.data"
    with data.open("r+b") as file:
        file.write(b"damage")
    write("whisper-tiny", "int4", 1)
    assert hashes(folder) == before
    assert write("whisper-tiny", "int4", 1, seed=1) != folder


def test_an_interrupted_one_is_begun_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def give_up(*_: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write("whisper-tiny", "int4", 1, tmp_path / "out", listen=give_up)
    assert (tmp_path / "out" / "config.json").exists()
    write("whisper-tiny", "int4", 1, tmp_path / "out")
    record = json.loads((tmp_path / "out" / dummy.RECORD).read_text())
    assert set(record["graphs"]) == {"whisper"}
    # Files of another version's writer are not taken for this one's.
    before = (tmp_path / "out" / "encoder.onnx").stat().st_mtime_ns
    monkeypatch.setattr("vozmetro.models.converted.writer", lambda: "other")
    write("whisper-tiny", "int4", 1, tmp_path / "out")
    assert (tmp_path / "out" / "encoder.onnx").stat().st_mtime_ns > before


def test_nothing_else_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(InputError) as caught:
        write("whisper-tiny", "int8", output=tmp_path)
    assert caught.value.code == "dummy_taken"
    graph = tmp_path / "model.onnx"
    graph.write_bytes(b"mine")
    with pytest.raises(InputError):
        write("qwen3-vl-4b", "int8", 1, output=graph)
    assert graph.read_bytes() == b"mine"


def test_mistakes_are_answered_with_what_is_right(tmp_path: Path) -> None:
    for words, code, said in (
        (("whisper-huge", "int8"), "architecture_unknown", "whisper-tiny"),
        (("whisper-tiny", "int3"), "dummy_precision", "int4"),
        (("whisper-tiny", "int8", 5), "dummy_layers", "4"),
        (("whisper-tiny", "int8", 0), "dummy_layers", "4"),
    ):
        with pytest.raises(InputError, match=said) as caught:
            write(*words, output=tmp_path / "out")
        assert caught.value.code == code
    with pytest.raises(InputError, match="thinker"):
        write("qwen3-omni-30b-a3b", "int8", output=tmp_path, components=["ears"])
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(ModelError) as failed:
        write("whisper-tiny", "int8", output=blocked / "under")
    assert failed.value.code == "dummy_unwritable"


def test_a_disk_that_fills_up_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("vozmetro.models.quantize.datafile._write_at", full)
    with pytest.raises(ModelError, match="No space left") as failed:
        write("whisper-tiny", "int8", 1, output=tmp_path / "tiny")
    assert failed.value.code == "dummy_unwritable"


@pytest.fixture
def tiny_omni(monkeypatch: pytest.MonkeyPatch) -> Architecture:
    tiny = Architecture("qwen3-omni-30b-a3b", omni_tiny.CONFIG, {}, "a test")
    monkeypatch.setattr(architectures, "load", lambda _: tiny)
    return tiny


@pytest.mark.parametrize("precision", ["fp32", "int8", "int4"])
def test_omni_in_parts(precision: str, tmp_path: Path, tiny_omni: Architecture) -> None:
    folder = write("tiny", precision, output=tmp_path / "omni", components=["talker"])
    assert {path.stem for path in folder.glob("*.onnx")} == {"talker", "talker_projection"}
    first = hashes(folder)
    write("tiny", precision, output=folder)
    graphs = {path.stem: path for path in folder.glob("*.onnx")}
    assert set(graphs) == {*tiny_omni.graphs, "talker_projection", "codec_embedding"}
    assert hashes(folder)["talker.onnx.data"] == first["talker.onnx.data"]
    for name, path in graphs.items():
        found = marks(path)
        assert (found["weights"], found["vozmetro.seed"]) == ("dummy", "0")
        if name in {"thinker", "talker"}:
            assert found["vozmetro.routing"] == "forced"
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        for given_ in omni_tiny.feeds(name):
            for output in omni_tiny.run(session, given_):
                assert np.isfinite(output).all()
                assert output.std() > 0


def test_dummy_of_fewer_layers_has_the_same_first_layers(
    tmp_path: Path, tiny_omni: Architecture
) -> None:
    one = write("tiny", "fp32", 1, tmp_path / "1", components=["thinker"])
    two = write("tiny", "fp32", 2, tmp_path / "2", components=["thinker"])
    assert tiny_omni.graphs[0] == "thinker"

    def weights(folder: Path) -> dict[str, bytes]:
        return {t.name: t.raw_data for t in onnx.load(folder / "thinker.onnx").graph.initializer}

    few, all_ = weights(one), weights(two)
    shared = {name for name in few if "layers.0" in name}
    assert shared
    assert all(few[name] == all_[name] for name in shared)
    assert dummy.RECORD in {path.name for path in one.iterdir()}
