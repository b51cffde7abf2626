"""Debian packages: read as written, and one clear error for everything hostile or damaged."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import av
import numpy as np
import pytest
from corpus_debs import ar, deb, g722, tar, tone
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from vozmetro.errors import ModelError
from vozmetro.speech import deb as reader
from vozmetro.speech import debian
from vozmetro.speech.fetched import keep

PATH = Path("x.deb")


def put(tmp_path: Path, data: bytes) -> Path:
    path = tmp_path / "x.deb"
    path.write_bytes(data)
    return path


def everything(path: Path) -> dict[str, bytes]:
    return dict(reader.files(path, lambda _: True))


def refusal(path: Path) -> ModelError:
    with pytest.raises(ModelError) as caught:
        everything(path)
    for lang in ("es", "en"):
        assert caught.value.message(lang)
    return caught.value


@pytest.mark.parametrize(
    ("mode", "name"),
    [("w:", ""), ("w:gz", ".gz"), ("w:xz", ".xz"), ("w:bz2", ".bz2")],
)
def test_files_are_read_whatever_packs_them(mode, name, tmp_path):
    long = "a/" * 120 + "b"  # needs a header of its own
    held = {"./usr/a": b"uno", "usr/b": b"", long: bytes(100_000)}
    path = put(tmp_path, deb(tar(held, mode), f"data.tar{name}"))
    assert everything(path) == {"usr/a": b"uno", "usr/b": b"", long: bytes(100_000)}
    assert [key for key, _ in reader.files(path, lambda one: one == "usr/b")] == ["usr/b"]


def test_the_compression_that_python_lacks_is_named(tmp_path):
    error = refusal(put(tmp_path, deb(b"(\xb5/\xfd", "data.tar.zst")))
    assert error.code == "deb_compression"
    assert "data.tar.zst" in str(error)


def special(kind: bytes, name: str, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info


def test_links_devices_and_folders_are_no_files(tmp_path):
    kinds = (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE)
    odd = tuple(special(kind, f"odd{n}", "/etc/passwd") for n, kind in enumerate(kinds))
    assert everything(put(tmp_path, deb(tar({"a": b"1"}, entries=odd)))) == {"a": b"1"}


def test_nothing_is_written_by_the_names_in_a_package(tmp_path):
    names = {"../../up": b"1", "/abs": b"2"}
    path = put(tmp_path, deb(tar(names)))
    assert set(everything(path).values()) == {b"1", b"2"}
    assert [one.name for one in tmp_path.iterdir()] == ["x.deb"]


@pytest.mark.parametrize("key", ["../../up", "/tmp/abs", "a/../../../up"])
def test_no_sound_is_kept_outside_its_folder(key, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with pytest.raises(ModelError):
        keep("c", [(key, tone(0.1), {"text": "a"})])
    assert [one for one in tmp_path.rglob("*") if one.is_file()] == []


def test_a_bomb_is_stopped_by_its_size(tmp_path, monkeypatch):
    monkeypatch.setattr(reader, "MOST_BYTES", 1 << 20)
    assert "MiB" in str(refusal(put(tmp_path, deb(tar({"a": bytes(2 << 20)})))))


def test_a_bomb_in_a_file_that_nobody_wants(tmp_path, monkeypatch):
    monkeypatch.setattr(reader, "MOST_BYTES", 1 << 20)
    path = put(tmp_path, deb(tar({"a": bytes(2 << 20), "b": b""})))
    with pytest.raises(ModelError, match="MiB"):
        list(reader.files(path, lambda name: name == "b"))


def test_a_bomb_in_a_header(tmp_path, monkeypatch):
    """The name of a file may be as long as it likes, and would be read whole."""
    monkeypatch.setattr(reader, "MOST_BYTES", 1 << 20)
    head = special(tarfile.GNUTYPE_LONGNAME, "././@LongLink")
    head.size = 4 << 20
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:xz", format=tarfile.GNU_FORMAT) as archive:
        archive.addfile(head, io.BytesIO(bytes(4 << 20)))
    assert "MiB" in str(refusal(put(tmp_path, deb(out.getvalue()))))


def test_a_bomb_of_many_files(tmp_path, monkeypatch):
    monkeypatch.setattr(reader, "MOST_FILES", 20)
    held = {f"{n}": b"" for n in range(20)}
    assert len(everything(put(tmp_path, deb(tar(held))))) == 20
    assert "> 20" in str(refusal(put(tmp_path, deb(tar(held | {"more": b""})))))


def test_a_member_that_says_it_is_huge(tmp_path):
    whole = bytearray(deb(b""))
    at = whole.rindex(b"data.tar.xz")
    whole[at + 48 : at + 58] = b"9999999999"
    assert "MiB" in str(refusal(put(tmp_path, bytes(whole))))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"!<arch>\n",
        b"PK\3\4",
        ar(("debian-binary", b"2.0\n")),
        deb(b"junk"),
        deb(b"", "data.tar.gz"),
    ],
)
def test_what_is_no_package(data, tmp_path):
    assert refusal(put(tmp_path, data)).code == "deb_invalid"


def test_no_file_at_all(tmp_path):
    assert refusal(tmp_path / "none.deb").code == "deb_invalid"


WHOLE = deb(tar({"usr/a": bytes(range(256)) * 40, "usr/b": b"text"}))
PLAIN = deb(tar({"usr/a": b"abc" * 400, "usr/b": b"text"}, "w:"), "data.tar")


def test_every_truncated_package_is_refused(tmp_path):
    for length in range(0, len(WHOLE) - 1, 7):
        refusal(put(tmp_path, WHOLE[:length]))


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(whole=st.sampled_from([WHOLE, PLAIN]), at=st.integers(0), junk=st.binary(max_size=40))
@example(whole=PLAIN, at=200, junk=b"\xff" * 40)
def test_damage_is_one_error_or_none(whole, at, junk, tmp_path):
    at %= len(whole)
    path = put(tmp_path, whole[:at] + junk + whole[at + len(junk) :])
    try:
        found = everything(path)
    except ModelError as error:
        assert error.message("es")
    else:
        assert all(isinstance(data, bytes) for data in found.values())


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.binary())
def test_garbage_is_one_error(data, tmp_path):
    assert refusal(put(tmp_path, deb(data))).code == "deb_invalid"
    assert refusal(put(tmp_path, data)).code == "deb_invalid"


# Transcripts --------------------------------------------------------------------------------


def test_transcripts():
    lines = [
        "; a comment: with a colon", "hola: Hola,  mundo.", "no colon here", "beep: [tono]",
        "both: diga [pausa] algo (tono) <fin>", "hola: otra vez", "../up: a", "/abs: a",
        "a/../b: a", ".hidden: a", "digits/1: uno: dos", "empty:", "marks: ¡…!",
    ]  # fmt: skip
    assert dict(debian.transcripts("\r\n".join(lines).encode())) == {
        "hola": "Hola, mundo.",
        "both": "diga algo",
        "digits/1": "uno: dos",
    }


@settings(deadline=None)
@given(data=st.binary() | st.text().map(str.encode) | st.text("a/.:[]()<>;\n ").map(str.encode))
def test_transcripts_of_anything_are_plain_names_with_words(data):
    found = list(debian.transcripts(data))
    assert len({key for key, _ in found}) == len(found)
    for key, text in found:
        assert not key.startswith("/")
        assert not any(part in ("", ".", "..") for part in key.split("/"))
        assert any(map(str.isalnum, text))
        assert text == " ".join(text.split())


def test_keys_may_differ_in_case_where_there_is_no_doubt():
    said = {"a": "1", "digits/1f": "una", "b": "2", "B": "3", "twice": "4"}
    assert debian.matched(["a", "A", "digits/1F", "B", "TWICE", "Twice"], said) == {
        "a": "1",
        "digits/1F": "una",
        "B": "3",
    }


# G.722 --------------------------------------------------------------------------------------


def test_g722_is_decoded_as_another_library_does(tmp_path):
    random = np.random.default_rng(0)
    sound = (tone(1.0) + random.normal(0, 800, 16_000)).astype(np.int16)
    data = g722(sound)
    assert len(data) == 8_000
    path = tmp_path / "a.g722"
    path.write_bytes(data)
    with av.open(str(path), format="g722") as file:
        other = np.concatenate([frame.to_ndarray().ravel() for frame in file.decode(audio=0)])
    mine = debian.g722(data, PATH)
    assert mine.dtype == np.int16
    assert len(mine) == len(other) == 16_000
    # Two decoders of one standard give the same samples.
    assert np.array_equal(mine, other)


def test_a_sound_that_is_too_long(monkeypatch):
    monkeypatch.setattr(debian, "_MOST_SOUND", 100)
    with pytest.raises(ModelError):
        debian.g722(bytes(101), PATH)


@settings(deadline=None, max_examples=50)
@given(data=st.binary(max_size=4000))
def test_any_bytes_are_a_sound_of_two_samples_each(data):
    assert len(debian.g722(data, PATH)) == 2 * len(data)
