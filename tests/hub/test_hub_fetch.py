"""Fetching: the real hub client against a small server on this machine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading

import onnx_zoo as zoo
import pytest
from hub_words import BIG, REPO, SOURCE, digest, refusal

from vozmetro import packages
from vozmetro.cli.models import _state
from vozmetro.errors import InputError, ModelError, VozmetroError
from vozmetro.models import hub, receipt, verify
from vozmetro.models.catalogue import catalogue
from vozmetro.models.fetch import fetch
from vozmetro.models.fetched import Progress
from vozmetro.models.resolve import resolve

# What comes ---------------------------------------------------------------------------------


def test_a_commit_is_fetched_verified_and_recorded(server, files):
    commit = server.repo(REPO).push(files)
    found = fetch(f"{SOURCE}@{commit}")
    there = {f.relative_to(found.folder).as_posix() for f in found.folder.rglob("*") if f.is_file()}
    wanted = {
        "onnx/model.onnx",
        "onnx/model.onnx_data",
        "onnx/small.onnx",
        "config.json",
        "tokenizer.json",
    }
    assert there == {*wanted, "fetch.json"}
    record = json.loads((found.folder / "fetch.json").read_text())
    assert record["schema_version"] == 1
    (source,) = record["sources"]
    assert (source["source"], source["commit"], source["complete"]) == (SOURCE, commit, True)
    assert source["endpoint"] == server.url
    for file in source["files"]:
        content = (found.folder / file["name"]).read_bytes()
        assert content == files[file["name"]]
        assert (file["bytes"], file["sha256"]) == (len(content), digest(content))
    assert found.received == sum(len(files[name]) for name in wanted)


def test_nothing_that_runs_code_is_ever_asked_for(server, files):
    commit = server.repo(REPO).push(files)
    fetch(f"{SOURCE}@{commit}", include=["*"])
    assert not [one for one in server.asked if "pytorch_model.bin" in one]
    error = refusal(ModelError, f"{SOURCE}@{commit}", include=["*.bin"])
    assert error.code == "hub_only_pickles"


def test_patterns_choose_and_bring_the_data_of_what_they_choose(server, files):
    commit = server.repo(REPO).push(files)
    found = fetch(f"{SOURCE}@{commit}", include=["onnx/model.onnx"])
    names = {file.name for file in found.source.files}
    assert names == {"onnx/model.onnx", "onnx/model.onnx_data", "config.json", "tokenizer.json"}
    assert found.path == found.folder / "onnx/model.onnx"


@pytest.mark.parametrize(
    "name",
    ["chat_template.pkl", "chat_template.py", "small.onnx.data.pkl", "onnx/small.onnx_data.pt"],
)
def test_no_pickle_comes_along(server, files, name):
    """By a name that belongs to a graph or to the configuration."""
    extra = {name: b"\x80\x02pickle", "chat_template.jinja": b"{{ x }}"}
    commit = server.repo(REPO).push({**files, **extra, "small.onnx": files["onnx/small.onnx"]})
    there = {file.name for file in fetch(f"{SOURCE}@{commit}").source.files}
    assert name not in there
    assert "chat_template.jinja" in there


def test_other_patterns_keep_what_came_before(server, files):
    commit = server.repo(REPO).push(files)
    one = fetch(f"{SOURCE}@{commit}", include=["onnx/model.onnx"])
    two = fetch(f"{SOURCE}@{commit}", include=["onnx/small.onnx"])
    assert one.folder == two.folder
    assert two.received == len(files["onnx/small.onnx"])
    for name in ("onnx/model.onnx", "onnx/model.onnx_data", "onnx/small.onnx", "config.json"):
        assert receipt.expected(one.folder / name) is not None
    with (one.folder / "onnx/model.onnx_data").open("r+b") as file:
        file.write(b"damage")
    with pytest.raises(ModelError) as caught:
        resolve(str(one.path))
    assert caught.value.code == "fetch_damaged"


def test_an_unfinished_fetch_does_not_undo_a_finished_one(server, files):
    commit = server.repo(REPO).push(files)
    found = fetch(f"{SOURCE}@{commit}", include=["onnx/small.onnx"])
    server.status = 503
    before = receipt.read(found.folder)
    half = found.source.model_copy(update={"include": ("*",), "complete": False})
    receipt.write(found.folder, receipt.Receipt(sources=(half, *before.sources)))
    assert len(resolve(str(found.path)).files) == 1


def test_nothing_matches(server):
    commit = server.repo(REPO).push({"model.safetensors": b"x"})
    error = refusal(ModelError, f"{SOURCE}@{commit}")
    assert error.code == "hub_nothing"
    assert "model.safetensors" in str(error)


def test_progress_is_told_in_bytes(server, files):
    commit = server.repo(REPO).push({"a.onnx": BIG, "config.json": b"{}"})
    told: list[Progress] = []
    fetch(f"{SOURCE}@{commit}", listen=told.append)
    done = [one.done for one in told]
    assert done == sorted(done)
    assert {one.total for one in told} == {len(BIG) + 2}
    assert done[-1] == len(BIG) + 2
    assert len(done) > 3


def test_into_a_folder(server, files, tmp_path):
    commit = server.repo(REPO).push(files)
    found = fetch(f"{SOURCE}@{commit}", tmp_path / "models" / "onnx")
    assert found.folder == tmp_path / "models" / "onnx"
    assert (found.folder / "onnx" / "small.onnx").is_file()


# Offline first ------------------------------------------------------------------------------


def test_what_is_here_needs_no_server(server, files):
    commit = server.repo(REPO).push(files)
    first = fetch(f"{SOURCE}@{commit}")
    server.close()
    again = fetch(f"{SOURCE}@{commit}")
    assert (again.received, again.folder, again.source) == (0, first.folder, first.source)


def test_what_is_here_is_not_asked_for(server, files):
    commit = server.repo(REPO).push(files)
    fetch(f"{SOURCE}@{commit}")
    server.asked.clear()
    fetch(f"{SOURCE}@{commit}")
    assert server.asked == []


@pytest.mark.parametrize("damage", [b"", b"x", None])
def test_a_damaged_file_alone_comes_again(server, files, damage):
    commit = server.repo(REPO).push(files)
    found = fetch(f"{SOURCE}@{commit}")
    victim = found.folder / "onnx" / "small.onnx"
    victim.unlink()
    if damage is not None:
        victim.write_bytes(damage)
    server.asked.clear()
    again = fetch(f"{SOURCE}@{commit}")
    assert victim.read_bytes() == files["onnx/small.onnx"]
    assert again.received == len(files["onnx/small.onnx"])
    assert len(server.bodies()) == 1


def test_no_hub_at_all():
    error = refusal(ModelError, f"{SOURCE}@{'a' * 40}")
    assert error.code == "hub_unreachable"
    for lang in ("es", "en"):
        said = error.message(lang)
        for way in ("whisper-base", "vozmetro[demo]", "vozmetro models fetch", "HF_ENDPOINT"):
            assert way in said


def test_a_hub_that_is_down(server, files):
    commit = server.repo(REPO).push(files)
    server.status = 503
    error = refusal(ModelError, f"{SOURCE}@{commit}")
    assert error.code == "hub_unreachable"
    assert "503" in str(error)


def test_something_that_is_no_hub(server):
    server.status = 200  # an empty JSON object for everything
    error = refusal(ModelError, f"{SOURCE}@{'a' * 40}")
    assert error.code == "hub_answer_invalid"


@pytest.mark.parametrize("address", ["espejo", "ftp://x", "http://", "http://[", "http://x:port"])
def test_an_address_that_is_none(address, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", address)
    assert refusal(InputError, f"{SOURCE}@{'a' * 40}").code == "hub_endpoint_invalid"


def test_without_the_client(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub.constants", None)
    with pytest.raises(VozmetroError, match=r"vozmetro\[hub\]"):
        fetch(f"{SOURCE}@{'a' * 40}")


# Resumed ------------------------------------------------------------------------------------


def test_a_cut_connection_is_gone_on_with(server):
    commit = server.repo(REPO).push({"a.onnx": BIG})
    server.cut = [100_000]
    found = fetch(f"{SOURCE}@{commit}")
    assert (found.folder / "a.onnx").read_bytes() == BIG
    assert any(one.endswith("bytes=100000-") for one in server.asked)
    assert server.served == len(BIG)


def test_a_line_that_is_cut_again_and_again_is_given_up_and_gone_on_with(server):
    commit = server.repo(REPO).push({"a.onnx": BIG})
    server.cut = [50_000] * 4
    error = refusal(ModelError, f"{SOURCE}@{commit}")
    assert error.code == "hub_unreachable"
    found = fetch(f"{SOURCE}@{commit}")
    assert (found.folder / "a.onnx").read_bytes() == BIG
    assert found.received == len(BIG) - 200_000
    assert server.served == len(BIG)


def test_a_server_without_ranges_sends_all_again(server):
    commit = server.repo(REPO).push({"a.onnx": BIG})
    server.cut, server.ignores_ranges = [100_000], True
    found = fetch(f"{SOURCE}@{commit}")
    assert (found.folder / "a.onnx").read_bytes() == BIG


FETCH = """
import sys
from pathlib import Path
from vozmetro.models.fetch import fetch
fetch(sys.argv[1], Path(sys.argv[2]), listen=lambda p: print(p.done, flush=True))
"""


def test_a_killed_process_leaves_its_bytes(server, tmp_path):
    commit = server.repo(REPO).push({"a.onnx": BIG})
    server.hold, server.hold_after = threading.Event(), 200_000
    command = [sys.executable, "-c", FETCH, f"{SOURCE}@{commit}", str(tmp_path / "out")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        while int(process.stdout.readline()) < 200_000:
            pass
        process.kill()
    assert receipt.read(tmp_path / "out").sources[0].complete is False
    server.hold.set()
    server.hold = None
    server.asked.clear()
    found = fetch(f"{SOURCE}@{commit}", tmp_path / "out")
    assert found.received == len(BIG) - 200_000
    assert any(one.endswith("bytes=200000-") for one in server.asked)
    assert (tmp_path / "out" / "a.onnx").read_bytes() == BIG
    assert sorted(f.name for f in (tmp_path / "out").iterdir()) == ["a.onnx", "fetch.json"]


def test_half_a_download_is_not_a_model(server, files, tmp_path):
    commit = server.repo(REPO).push(files)
    out = tmp_path / "out"

    def give_up(progress: Progress) -> None:
        if progress.name == "config.json":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch(f"{SOURCE}@{commit}", out, listen=give_up)
    path = out / "onnx" / "small.onnx"
    with pytest.raises(ModelError) as caught:
        receipt.check([(path, path.stat().st_size, digest(path.read_bytes()))])
    assert caught.value.code == "fetch_incomplete"
    assert f"{SOURCE}@{commit}" in str(caught.value)


# The catalogue's models on a hub ------------------------------------------------------------


@pytest.fixture
def voice(server, monkeypatch, tmp_path):
    """The catalogue's Spanish voice with small files of our own behind its name."""
    from dataclasses import replace

    entry = catalogue()["piper-davefx"]
    graph, config = (file.name for file in entry.files)
    made = zoo.piper_like(tmp_path / "v.onnx").read_bytes()
    files = {graph: made, config: b'{"espeak": {"voice": "es"}}', "en/other.onnx": b"x"}
    commit = server.repo(entry.hub.repo).push(files)
    pinned = tuple(
        replace(f, bytes=len(files[f.name]), sha256=digest(files[f.name])) for f in entry.files
    )
    place = replace(entry.hub, revision=commit)
    made_entry = replace(entry, hub=place, files=pinned)
    table = {**catalogue(), "piper-davefx": made_entry}
    for name in ("catalogue", "fetch", "overview", "resolve", "verify"):
        where = sys.modules[f"vozmetro.models.{name}"]
        monkeypatch.setattr(where, "catalogue", lambda: table)
    return made_entry


def test_a_catalogue_name_on_a_hub(voice, server):
    with pytest.raises(ModelError, match="vozmetro models fetch piper-davefx") as caught:
        resolve("piper-davefx")
    assert caught.value.code == "not_fetched"
    found = fetch("piper-davefx")
    assert {file.name for file in found.source.files} == {file.name for file in voice.files}
    server.close()
    assert fetch("piper-davefx").received == 0
    ref = resolve("piper-davefx")
    assert (ref.task, ref.engine, ref.path) == ("tts", "piper", found.path)
    assert len(ref.files) == 2
    assert all(len(sha256) == 64 for _, _, sha256 in ref.files)


def test_other_files_beside_a_catalogue_model(voice, server):
    fetch("piper-davefx")
    spec = f"hub:{voice.hub.repo}@{voice.hub.revision}"
    found = fetch(spec, include=["en/*"])
    assert "en/other.onnx" in {file.name for file in found.source.files}
    assert len(resolve("piper-davefx").files) == 2


def test_a_part_of_a_catalogue_model(voice, server):
    graph, config = (file.name for file in voice.files)
    found = fetch("piper-davefx", include=[config])
    assert [file.name for file in found.source.files] == [config]
    assert graph.endswith(".onnx")
    with pytest.raises(ModelError) as caught:
        resolve("piper-davefx")
    assert caught.value.code == "not_fetched"
    fetch("piper-davefx")
    resolve("piper-davefx")


def test_a_part_of_a_catalogue_model_is_pinned_too(voice, server):
    repo = server.repo(voice.hub.repo)
    (commit,) = repo.commits
    graph = next(file.name for file in voice.files if file.name.endswith(".onnx"))
    repo.commits[commit][graph] = b"taken over"
    assert refusal(ModelError, "piper-davefx", include=[graph]).code == "hub_hash"


def test_a_list_says_what_is_here_without_hashing(voice, monkeypatch):
    assert _state(voice) == "absent"
    found = fetch("piper-davefx")
    monkeypatch.setattr(packages, "sha256", lambda path: pytest.fail(str(path)))
    assert _state(voice) == "here"
    with found.path.open("ab") as file:
        file.write(b"more")
    assert _state(voice) == "broken"


def test_what_lies_beside_a_catalogue_model_is_not_vouched_for(voice, tmp_path):
    found = fetch("piper-davefx")
    known = frozenset(found.folder / file.name for file in found.source.files)
    stray = zoo.waveform_model(tmp_path / "stray.onnx")
    assert verify._files("m", sorted(known), known).status == "pass"
    assert verify._files("m", [stray], known).status == "skip"
    assert verify._files("m", [tmp_path / "missing.onnx"], known).status == "skip"
    assert verify.verify("piper-davefx", trial=False).ok


def test_a_catalogue_model_is_hashed_once(voice, monkeypatch):
    found = fetch("piper-davefx")
    hashed = []
    real = packages.sha256
    monkeypatch.setattr(packages, "sha256", lambda path: (hashed.append(path), real(path))[1])
    assert verify.verify("piper-davefx", trial=False).checks[0].status == "pass"
    assert len(hashed) == len(found.source.files)


def test_the_catalogues_hashes_count_more_than_the_hubs(voice, server):
    """A hub that was taken over lists and serves its own files, hashes and all."""
    repo = server.repo(voice.hub.repo)
    (commit,) = repo.commits
    repo.commits[commit][voice.files[0].name] = b"taken over"
    assert refusal(ModelError, "piper-davefx").code == "hub_hash"


def test_a_fetched_model_is_checked_at_load(voice):
    found = fetch("piper-davefx")
    with found.path.open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"?")
    with pytest.raises(ModelError) as caught:
        resolve("piper-davefx")
    assert caught.value.code == "fetch_damaged"


def test_pins_of_the_catalogue_are_pins():
    on_hub = [entry for entry in catalogue().values() if entry.hub is not None]
    assert on_hub
    for entry in on_hub:
        assert hub.is_commit(entry.hub.revision)
        assert entry.path in {file.name for file in entry.files}
