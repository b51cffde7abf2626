"""What a hub says is pinned to a commit, checked against hashes, and kept in its folder."""

from __future__ import annotations

import shutil

import pytest
from hub_words import BIG, REPO, SOURCE, digest, refusal

from vozmetro.errors import InputError, ModelError
from vozmetro.models.fetch import fetch
from vozmetro.models.fetched import Progress

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


def test_odd_names_that_nobody_asked_for(server, files):
    odd = {"a: b?.txt": b"x", "../up.md": b"x", "readme.MD": b"x", "README.md": b"x"}
    commit = server.repo(REPO).push({**files, **odd})
    assert "config.json" in {file.name for file in fetch(f"{SOURCE}@{commit}").source.files}


def test_names_that_differ_in_case_only(server, files):
    commit = server.repo(REPO).push({**files, "onnx/SMALL.onnx": b"x"})
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
