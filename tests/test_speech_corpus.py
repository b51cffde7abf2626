"""Corpora from folders, manifests and packages, and everything that can be wrong with them."""

import json
import string
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from vozmetro.errors import InputError, ModelError
from vozmetro.speech import known, manifest
from vozmetro.speech.corpus import DEFAULT_CORPUS, load_corpus


def record(path: Path, seconds: float = 0.5, text: str | None = "hola", rate: int = 16_000) -> Path:
    """Writes a tone, and its transcript unless `text` is None."""
    path.parent.mkdir(parents=True, exist_ok=True)
    time = np.arange(round(seconds * rate)) / rate
    soundfile.write(path, 0.1 * np.sin(2 * np.pi * 200 * time), rate)
    if text is not None:
        path.with_suffix(".txt").write_text(text, encoding="utf-8")
    return path


def refusal(spec: object, **options) -> InputError:
    with pytest.raises(InputError) as caught:
        load_corpus(str(spec), **options)
    for lang in ("es", "en"):
        assert caught.value.message(lang)
    return caught.value


# The packaged corpus ------------------------------------------------------------------------


def test_the_packaged_corpus():
    found = load_corpus(DEFAULT_CORPUS)
    assert [u.id for u in found] == [
        "es/conteo",
        "es/hola_mundo",
        "es/pangrama",
        "en/counting",
        "en/hello_world",
        "en/quick_brown_fox",
    ]
    assert [u.language for u in found] == ["es"] * 3 + ["en"] * 3
    for utterance in found:
        assert utterance.path.is_file()
        assert utterance.seconds == pytest.approx(soundfile.info(utterance.path).duration)
        assert utterance.text == utterance.path.with_suffix(".txt").read_text().strip()


def test_languages_are_kept_and_limits_taken_in_turn():
    assert {u.language for u in load_corpus("audioeval", ["en"])} == {"en"}
    assert [u.language for u in load_corpus("audioeval", limit=3)] == ["es", "es", "en"]
    assert len(load_corpus("audioeval", limit=100)) == 6


def test_a_damaged_package_is_refused(monkeypatch):
    table = json.loads(json.dumps(known.table()))
    table["audioeval"]["utterances"][0]["audio_sha256"] = "0" * 64
    monkeypatch.setattr(known, "table", lambda: table)
    with pytest.raises(ModelError, match="pytest-audioeval") as caught:
        load_corpus("audioeval")
    assert caught.value.code == "package_file_damaged"


def test_the_package_is_never_imported():
    program = (
        "import sys; from vozmetro.speech.corpus import load_corpus; load_corpus('audioeval');"
        "assert not any(name.startswith('pytest') for name in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


# Folders ------------------------------------------------------------------------------------


def test_a_folder(tmp_path):
    record(tmp_path / "en-US" / "b.wav", 1.0, "good  morning\n")
    record(tmp_path / "es" / "maria" / "z.FLAC", 0.25, "buenos días", rate=8000)
    record(tmp_path / "a.wav", text="sin idioma")
    (tmp_path / "notes.md").write_text("ignored")
    found = load_corpus(str(tmp_path))
    assert [(u.id, u.language, u.text, u.seconds) for u in found] == [
        ("es/maria/z", "es", "buenos días", 0.25),
        ("a", "", "sin idioma", 0.5),
        ("en-US/b", "en", "good morning", 1.0),
    ]


def test_the_folder_itself_can_name_the_language(tmp_path):
    record(tmp_path / "es" / "a.wav")
    assert load_corpus(str(tmp_path / "es"))[0].language == "es"


def test_transcripts_may_begin_with_a_mark(tmp_path):
    record(tmp_path / "a.wav", text="\ufeffhola")
    assert load_corpus(str(tmp_path))[0].text == "hola"


def test_missing_corpus_names_the_packaged_ones(tmp_path):
    error = refusal(tmp_path / "none")
    assert error.code == "corpus_missing"
    assert "audioeval" in str(error)


@pytest.mark.parametrize("spec", ["", "a\0b", "x" * 5000])
def test_corpora_that_cannot_be_paths(spec, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert refusal(spec).code in {"corpus_missing", "corpus_empty"}


def test_empty_folder(tmp_path):
    assert refusal(tmp_path).code == "corpus_empty"


def test_missing_transcript(tmp_path):
    record(tmp_path / "a.wav", text=None)
    error = refusal(tmp_path)
    assert error.code == "transcript_missing"
    assert "a.txt" in str(error)


def test_empty_transcript(tmp_path):
    record(tmp_path / "a.wav", text=" \n")
    assert refusal(tmp_path).code == "transcript_empty"


def test_transcript_that_is_not_text(tmp_path):
    record(tmp_path / "a.wav").with_suffix(".txt").write_bytes(b"ma\xf1ana")
    assert refusal(tmp_path).code == "transcript_unreadable"


def test_a_file_that_is_not_sound(tmp_path):
    record(tmp_path / "a.wav").write_text("not sound")
    assert refusal(tmp_path).code == "not_audio"


def test_empty_sound(tmp_path):
    record(tmp_path / "a.wav", 0.0)
    assert refusal(tmp_path).code == "empty_audio"


def test_two_recordings_with_one_name(tmp_path):
    record(tmp_path / "a.wav")
    record(tmp_path / "a.flac")
    assert refusal(tmp_path).code == "corpus_duplicate"


def test_a_language_that_is_not_there(tmp_path):
    record(tmp_path / "es" / "a.wav")
    error = refusal(tmp_path, languages=["en", "fr"])
    assert error.code == "corpus_no_language"
    assert error.fields["found"] == "es"


@pytest.mark.parametrize("limit", [0, -1])
def test_limits_below_one(limit):
    assert refusal("audioeval", limit=limit).code == "limit_invalid"


# Manifests ----------------------------------------------------------------------------------


def write_manifest(folder: Path, *lines: object) -> Path:
    path = folder / "manifest.jsonl"
    texts = (line if isinstance(line, str) else json.dumps(line) for line in lines)
    path.write_text("\n".join(texts), encoding="utf-8")
    return path


def test_a_manifest(tmp_path):
    record(tmp_path / "sound" / "a.wav", text=None)
    outside = record(tmp_path / "elsewhere.flac", text=None)
    folder = tmp_path / "corpus"
    folder.mkdir()
    path = write_manifest(
        folder,
        {"audio": "../sound/a.wav", "text": "uno  dos", "language": "es-MX"},
        "",
        {"audio": str(outside), "text": "three", "language": "EN", "speaker": "ignored"},
    )
    for spec in (path, folder):
        assert [(u.language, u.text) for u in load_corpus(str(spec))] == [
            ("es", "uno dos"),
            ("en", "three"),
        ]


@pytest.mark.parametrize(
    ("line", "detail"),
    [
        ("{", "JSON"),
        ("[" * 100_000, "JSON"),
        ("[]", "{…}"),
        ('{"text": "a"}', "audio"),
        ('{"audio": 3, "text": "a"}', "audio"),
        ('{"audio": "a\\u0000.wav", "text": "a"}', "audio"),
        ('{"audio": "a.wav"}', "text"),
        ('{"audio": "a.wav", "text": "a \\ud800"}', "text"),
        ('{"audio": "a.wav", "text": ["a"]}', "text"),
        ('{"audio": "a.wav", "text": "a", "language": "spanish?"}', "language"),
        ('{"audio": "a.wav", "text": "a", "language": null}', "language"),
    ],
)
def test_a_bad_line_is_named_by_number(line, detail, tmp_path):
    record(tmp_path / "ok.wav", text=None)
    path = write_manifest(tmp_path, {"audio": "ok.wav", "text": "ok"}, "", line)
    error = refusal(path)
    assert (error.code, error.fields["line"], error.fields["detail"]) == (
        "manifest_line",
        "3",
        detail,
    )
    assert '{"audio": "a.wav"' in str(error)


@pytest.mark.parametrize("audio", ["none.wav", "x" * 5000, "/", "."])
def test_a_recording_that_is_not_there(audio, tmp_path):
    error = refusal(write_manifest(tmp_path, {"audio": audio, "text": "a"}))
    assert (error.code, error.fields["line"]) == ("manifest_audio_missing", "1")


def test_an_empty_manifest(tmp_path):
    assert refusal(write_manifest(tmp_path, "", " ")).code == "corpus_empty"


def test_a_manifest_that_is_not_text(tmp_path):
    assert refusal(record(tmp_path / "a.wav")).code == "manifest_unreadable"


def test_the_same_recording_twice(tmp_path):
    record(tmp_path / "a.wav", text=None)
    line = {"audio": "a.wav", "text": "a"}
    assert refusal(write_manifest(tmp_path, line, line)).code == "corpus_duplicate"


HERE = Path("/corpus/manifest.jsonl")
words = st.text(min_size=1).filter(lambda text: text.split())
paths = st.text(min_size=1).filter(lambda text: text.strip() and "\0" not in text)
tags = st.text(string.ascii_letters, min_size=2, max_size=3)


@settings(deadline=None)
@given(audio=paths, text=words, language=st.just("") | tags)
def test_every_well_formed_line_is_read_back(audio, text, language):
    line = json.dumps({"audio": audio, "text": text, "language": language})
    source = manifest.parse_line(line, HERE, 1)
    assert source.audio == HERE.parent / audio
    assert source.text.split() == text.split()
    assert source.language == language.lower()
    assert source.id


json_values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)
almost = st.fixed_dictionaries(
    {}, optional={"audio": json_values, "text": json_values, "language": json_values}
)


@settings(deadline=None)
@given(line=st.text() | json_values.map(json.dumps) | almost.map(json.dumps))
def test_every_other_line_is_one_error(line):
    try:
        source = manifest.parse_line(line, HERE, 7)
    except InputError as error:
        assert (error.code, error.fields["line"]) == ("manifest_line", "7")
        assert error.message("es")
    else:
        assert source.id
        assert source.text
