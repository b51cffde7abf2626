"""Corpora that are fetched: whole or not at all, checked at every load, offline afterwards."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import corpus_debs
import numpy as np
import pytest
import soundfile

from vozmetro.errors import InputError, ModelError
from vozmetro.measure.schedule import Progress
from vozmetro.planning import utterances_for
from vozmetro.speech import fetched, known
from vozmetro.speech.corpus import corpora_info, load_corpus


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "vozmetro" / "corpora"


@pytest.fixture
def debs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cache: Path) -> Path:
    """A folder with the packages of a corpus that the catalogue calls `prueba`."""
    folder = tmp_path / "debs"
    table = {**known.table(), "prueba": corpus_debs.corpus(folder)}
    monkeypatch.setattr(known, "table", lambda: table)
    return folder


def entry() -> dict:
    return known.table()["prueba"]


def test_a_folder_of_packages(debs, cache):
    told: list[str] = []
    record = fetched.fetch(entry(), given=debs, listen=told.append)
    assert told == ["sounds-es-g722", "sounds-es"]
    assert [one.pinned for one in record.packages] == [True, True]
    found = load_corpus("prueba")
    assert [(u.id, u.text, u.language, u.speaker, u.corpus) for u in found] == [
        ("digits/1F", "una", "es", "ella", "prueba"),
        ("hola", "¡Hola!", "es", "ella", "prueba"),
    ]
    samples, rate = soundfile.read(found[1].path, dtype="int16")
    # The codec delays by 22 samples (11 per band); the tone itself comes through.
    assert (rate, len(samples)) == (16_000, 8_000)
    peak = np.abs(np.fft.rfft(samples.astype(float))).argmax() / 0.5
    assert peak == 300
    (info,) = corpora_info("prueba", found)
    assert (info.licence, info.voice, info.utterances, info.seconds) == ("CC0", "human", 2, 0.9)
    assert info.sha256 == record.sha256
    assert info.source == "sounds-es-g722 1-1, sounds-es 1-1"
    assert sorted(one.name for one in cache.iterdir()) == ["prueba"]


def test_the_cache_may_lie_elsewhere(debs, tmp_path, monkeypatch):
    monkeypatch.setenv("VOZMETRO_CACHE", str(tmp_path / "elsewhere"))
    fetched.fetch(entry(), given=debs)
    assert load_corpus("prueba")[0].path.is_relative_to(tmp_path / "elsewhere" / "corpora")


def test_afterwards_nothing_is_needed(debs, monkeypatch):
    fetched.fetch(entry(), given=debs)
    shutil.rmtree(debs)
    monkeypatch.setenv("PATH", "")
    assert len(load_corpus("prueba")) == 2
    assert fetched.fetch(entry()).name == "prueba"


def test_a_damaged_package(debs, cache):
    path = debs / "sounds-es_1-1_all.deb"
    path.write_bytes(path.read_bytes() + b"\n")
    with pytest.raises(ModelError) as caught:
        fetched.fetch(entry(), given=debs)
    assert caught.value.code == "corpus_package_damaged"
    assert not cache.exists()


def test_a_version_that_nobody_checked_is_not_taken_from_a_folder(debs):
    path = debs / "sounds-es_1-1_all.deb"
    path.write_bytes(path.read_bytes() + b"\n")
    path.rename(debs / "sounds-es_1-2_all.deb")
    with pytest.raises(ModelError, match="1-1"):
        fetched.fetch(entry(), given=debs)


def test_a_package_that_is_not_in_the_folder(debs):
    (debs / "sounds-es-g722_1-1_all.deb").unlink()
    with pytest.raises(InputError, match="sounds-es-g722") as caught:
        fetched.fetch(entry(), given=debs)
    assert caught.value.code == "deb_not_given"


def broken(debs: Path, monkeypatch: pytest.MonkeyPatch) -> dict:
    """The corpus with packages that are as recorded, and hold nothing of use."""
    empty = corpus_debs.deb(corpus_debs.tar({"a": b""}))
    for path in debs.iterdir():
        path.write_bytes(empty)
    return {**known.table(), "prueba": corpus_debs.entry(empty, empty)}


def test_a_fetch_that_fails_leaves_nothing(debs, cache, monkeypatch):
    table = broken(debs, monkeypatch)
    with pytest.raises(ModelError):
        fetched.fetch(table["prueba"], given=debs)
    assert not cache.exists() or list(cache.iterdir()) == []


@pytest.mark.parametrize("when", ["unpacking", "writing", "putting"])
def test_a_fetch_that_fails_leaves_the_old_one(when, debs, cache, monkeypatch):
    fetched.fetch(entry(), given=debs)
    before = [one.path.read_bytes() for one in load_corpus("prueba")]
    wanted = entry()
    if when == "unpacking":
        wanted = broken(debs, monkeypatch)["prueba"]
    elif when == "writing":

        def full(*_: object) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(fetched, "_kept", full)
    else:
        rename = Path.rename

        def refuse(self: Path, target: Path) -> Path:
            if Path(target).name == "prueba" and not self.name.endswith(".old"):
                raise PermissionError(13, "Permission denied")
            return rename(self, target)

        monkeypatch.setattr(Path, "rename", refuse)
    with pytest.raises(ModelError) as caught:
        fetched.fetch(wanted, given=debs, refresh=True)
    assert when == "unpacking" or caught.value.code == "fetch_unwritable"
    monkeypatch.undo()
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache.parents[1]))
    assert [one.audio.read_bytes() for one in fetched.sources("prueba")] == before[::1]
    assert [one.name for one in cache.iterdir()] == ["prueba"]


def test_refresh_puts_the_new_one_in_its_place(debs, cache):
    fetched.fetch(entry(), given=debs)
    extra = cache / "prueba" / "audio" / "hola.wav"
    extra.write_bytes(b"")
    with pytest.raises(ModelError, match="--refresh"):
        load_corpus("prueba")
    fetched.fetch(entry(), given=debs)  # is here, so it is left alone
    with pytest.raises(ModelError):
        load_corpus("prueba")
    fetched.fetch(entry(), given=debs, refresh=True)
    assert len(load_corpus("prueba")) == 2
    assert [one.name for one in cache.iterdir()] == ["prueba"]


@pytest.mark.parametrize("name", ["audio/hola.wav", "manifest.jsonl"])
@pytest.mark.parametrize("change", ["longer", "other", "gone"])
def test_a_file_that_has_changed_is_found(name, change, debs, cache):
    fetched.fetch(entry(), given=debs)
    path = cache / "prueba" / name
    data = path.read_bytes()
    if change == "gone":
        path.unlink()
    else:
        path.write_bytes(data + b"\n" if change == "longer" else b"X" + data[1:])
    with pytest.raises(ModelError) as caught:
        load_corpus("prueba")
    assert caught.value.code == "corpus_damaged"


def test_a_record_that_leads_out_of_the_folder(debs, cache, tmp_path):
    fetched.fetch(entry(), given=debs)
    outside = tmp_path / "outside"
    outside.write_bytes(b"")
    path = cache / "prueba" / fetched.RECEIPT
    record = json.loads(path.read_text())
    record["files"].append({"name": "../../../../outside", "bytes": 0, "sha256": "0" * 64})
    path.write_text(json.dumps(record))
    with pytest.raises(ModelError) as caught:
        load_corpus("prueba")
    assert caught.value.code == "corpus_damaged"


def test_a_record_that_names_no_manifest_has_checked_nothing(debs, cache):
    fetched.fetch(entry(), given=debs)
    path = cache / "prueba" / fetched.RECEIPT
    record = json.loads(path.read_text())
    record["files"] = []
    path.write_text(json.dumps(record))
    with pytest.raises(ModelError) as caught:
        load_corpus("prueba")
    assert caught.value.code == "corpus_receipt"


def test_a_sound_that_the_record_does_not_name_is_not_taken(debs, cache):
    fetched.fetch(entry(), given=debs)
    path = cache / "prueba" / fetched.RECEIPT
    record = json.loads(path.read_text())
    record["files"] = [one for one in record["files"] if one["name"] != "audio/hola.wav"]
    path.write_text(json.dumps(record))
    with pytest.raises(ModelError) as caught:
        load_corpus("prueba")
    assert caught.value.code == "corpus_damaged"


def test_what_a_killed_process_set_aside_comes_back_without_a_download(debs, cache):
    fetched.fetch(entry(), given=debs)
    (cache / "prueba").rename(cache / ".prueba.abc.old")
    left = cache / ".prueba.def"
    left.mkdir()
    os.utime(left, (0, 0))
    assert fetched.fetch(entry(), given=debs / "nowhere").name == "prueba"
    assert [one.name for one in cache.iterdir()] == ["prueba"]


def test_of_two_that_fetch_at_once_one_stays(debs, cache, monkeypatch):
    written = fetched._written

    def meanwhile(*words, **named):
        made = written(*words, **named)
        if not (cache / "prueba").exists():
            monkeypatch.setattr(fetched, "_written", written)
            fetched.fetch(entry(), given=debs, refresh=True)
        return made

    monkeypatch.setattr(fetched, "_written", meanwhile)
    fetched.fetch(entry(), given=debs)
    assert len(load_corpus("prueba")) == 2
    assert [one.name for one in cache.iterdir()] == ["prueba"]


@pytest.mark.parametrize("text", ["", "{}", "[" * 50_000, '{"schema_version": 9}'])
def test_a_record_that_cannot_be_read(text, debs, cache):
    fetched.fetch(entry(), given=debs)
    (cache / "prueba" / fetched.RECEIPT).write_text(text)
    with pytest.raises(ModelError, match="--refresh") as caught:
        load_corpus("prueba")
    assert caught.value.code == "corpus_receipt"
    assert fetched.fetch(entry(), given=debs, refresh=True).name == "prueba"


# apt ----------------------------------------------------------------------------------------


def fake_apt(folder: Path, script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    folder.mkdir()
    path = folder / "apt-get"
    path.write_text("#!/bin/sh\n" + script)
    path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")


def test_without_apt(debs, monkeypatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(InputError, match="--from") as caught:
        load_corpus("prueba")
    assert caught.value.code == "apt_missing"


def test_apt_that_fails(debs, cache, tmp_path, monkeypatch):
    script = "echo 'W: old lists' >&2; echo 'E: Unable to locate package' >&2; exit 100\n"
    fake_apt(tmp_path / "bin", script, monkeypatch)
    with pytest.raises(InputError, match="Unable to locate package") as caught:
        load_corpus("prueba")
    assert caught.value.code == "apt_failed"
    assert not cache.exists() or list(cache.iterdir()) == []


def test_apt_that_brings_nothing(debs, tmp_path, monkeypatch):
    fake_apt(tmp_path / "bin", "exit 0\n", monkeypatch)
    with pytest.raises(InputError) as caught:
        load_corpus("prueba")
    assert caught.value.code == "apt_failed"


def test_naming_a_corpus_fetches_it(debs, tmp_path, monkeypatch):
    script = f'test "$1" = download && cp {debs}/"$3"_*.deb .\n'
    fake_apt(tmp_path / "bin", script, monkeypatch)
    told: list[str] = []
    assert len(load_corpus("prueba", listen=told.append)) == 2
    assert told == ["sounds-es-g722", "sounds-es"]
    assert len(load_corpus("prueba", listen=told.append)) == 2
    assert len(told) == 2


def test_whoever_measures_is_told_of_the_download(debs, tmp_path, monkeypatch):
    fake_apt(tmp_path / "bin", f'cp {debs}/"$3"_*.deb .\n', monkeypatch)
    told: list[Progress] = []
    found, _ = utterances_for("prueba", [], 1, [], told.append)
    assert len(found) == 1
    assert told == [Progress("fetching", "sounds-es-g722"), Progress("fetching", "sounds-es")]


def test_another_version_of_apt_is_taken_and_recorded(debs, tmp_path, monkeypatch):
    # apt writes the colon of an epoch as %3a.
    script = f'cp {debs}/"$3"_1-1_all.deb "$3"_1%3a2-1_all.deb\n'
    fake_apt(tmp_path / "bin", script, monkeypatch)
    record = fetched.fetch(entry())
    assert [(one.version, one.pinned) for one in record.packages] == [("1:2-1", False)] * 2


def test_apt_that_brings_a_damaged_known_version(debs, tmp_path, monkeypatch):
    script = f'cp {debs}/"$3"_*.deb . && echo >> "$3"_1-1_all.deb\n'
    fake_apt(tmp_path / "bin", script, monkeypatch)
    with pytest.raises(ModelError) as caught:
        load_corpus("prueba")
    assert caught.value.code == "corpus_package_damaged"


@pytest.mark.slow
def test_the_real_packages(cache, tmp_path):
    apt = shutil.which("apt-get")
    words = [apt or "", "download", "pocketsphinx-testdata"]
    # Asked without our code, so that a download of ours that fails is a failure.
    if (
        apt is None
        or subprocess.run(words, cwd=tmp_path, capture_output=True, check=False).returncode
    ):
        pytest.skip("apt-get cannot download here")
    facts = known.table()["en-read"]
    fetched.fetch(facts)
    found = load_corpus("en-read")
    assert len(found) == facts["count"]
    assert sum(one.seconds for one in found) == pytest.approx(facts["seconds"], abs=0.1)
    assert found[0].text.split()
