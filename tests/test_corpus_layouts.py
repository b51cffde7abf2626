"""Common Voice, LibriSpeech and data sets of a hub, on small ones made here."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from corpus_debs import tone
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vozmetro.errors import InputError, MissingExtraError
from vozmetro.speech import layouts
from vozmetro.speech.corpus import corpora_info, load_corpus


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def sound(path: Path, seconds: float = 0.2) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, tone(seconds), 16_000)
    return path


def refusal(spec: str) -> InputError:
    with pytest.raises(InputError) as caught:
        load_corpus(spec)
    assert caught.value.message("es")
    return caught.value


# Common Voice -------------------------------------------------------------------------------

HEAD = "client_id\tpath\tsentence\tlocale"


def table(folder: Path, *rows: str, head: str = HEAD) -> Path:
    path = folder / "test.tsv"
    path.write_text("\n".join([head, *rows]) + "\n", encoding="utf-8")
    return path


def test_common_voice(tmp_path):
    for name in ("a.wav", "b.wav"):
        sound(tmp_path / "clips" / name)
    path = table(tmp_path, 'f00\ta.wav\tDijo "sí', "f01\tb.wav\tGood  day\ten")
    found = load_corpus(f"commonvoice:{path}")
    corpus = f"commonvoice:{tmp_path.name}/test"
    assert [(u.id, u.text, u.language, u.speaker, u.corpus) for u in found] == [
        ("a", 'Dijo "sí', "", "f00", corpus),
        ("b", "Good day", "en", "f01", corpus),
    ]


def test_a_table_named_like_a_known_corpus_is_not_that_corpus(tmp_path):
    sound(tmp_path / "clips" / "a.wav")
    path = table(tmp_path, "f00\ta.wav\tHola\tes")
    path = path.rename(tmp_path / "es-ivr.tsv")
    spec = f"commonvoice:{path}"
    (info,) = corpora_info(spec, load_corpus(spec))
    assert (info.licence, info.sha256) == ("", "")
    assert info.name.endswith("/es-ivr")


def test_a_small_file_of_hours_is_refused(tmp_path):
    data = io.BytesIO()
    soundfile.write(data, np.zeros(8000 * 150, np.int16), 8000, format="FLAC")
    with pytest.raises(ValueError, match="150 s"):
        layouts._pcm({"bytes": data.getvalue()})


@pytest.mark.parametrize(
    ("row", "code"),
    [
        ("f\t../a.wav\tuno\tes", "layout_invalid"),
        ("f\t/etc/passwd\tuno\tes", "layout_invalid"),
        ("f\ta\0.wav\tuno\tes", "layout_invalid"),
        ("f\ta.wav\t \tes", "layout_invalid"),
        ("f", "layout_invalid"),
        ("f\tnone.wav\tuno\tes", "manifest_audio_missing"),
    ],
)
def test_common_voice_rows_that_cannot_be_used(row, code, tmp_path):
    sound(tmp_path / "a.wav")
    sound(tmp_path / "clips" / "a.wav")
    path = table(tmp_path, "f\ta.wav\tuno\tes", row)
    error = refusal(f"commonvoice:{path}")
    assert (error.code, error.fields["line"]) == (code, "3")


def test_common_voice_tables_that_cannot_be_used(tmp_path):
    assert refusal(f"commonvoice:{tmp_path}/none.tsv").code == "corpus_missing"
    assert refusal(f"commonvoice:{table(tmp_path, head='a,b')}").code == "layout_invalid"
    (tmp_path / "test.tsv").write_bytes(b"path\tsentence\n\xff\t\xff\n")
    assert refusal(f"commonvoice:{tmp_path}/test.tsv").code == "manifest_unreadable"
    assert refusal(f"commonvoice:{table(tmp_path)}").code == "corpus_empty"


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.binary() | st.text("\t\n\r\"'/.apathsentence\0").map(str.encode))
def test_any_table_is_utterances_or_one_error(data, tmp_path):
    path = tmp_path / "any.tsv"
    path.write_bytes(b"path\tsentence\n" + data)
    try:
        layouts.common_voice(str(path), lambda _: None)
    except InputError as error:
        assert error.message("es")


# LibriSpeech --------------------------------------------------------------------------------


def test_librispeech(tmp_path):
    root = tmp_path / "test-clean"
    for key in ("61-70968-0000", "61-70968-0001"):
        sound(root / "61" / "70968" / f"{key}.flac")
    texts = root / "61" / "70968" / "61-70968.trans.txt"
    texts.write_text("61-70968-0000 HE BEGAN\n\n61-70968-0001 GIVE NOT\n")
    found = load_corpus(f"librispeech:{root}")
    assert [(u.id, u.text, u.language, u.speaker, u.corpus) for u in found] == [
        ("61/70968/61-70968-0000", "HE BEGAN", "en", "61", "librispeech:test-clean"),
        ("61/70968/61-70968-0001", "GIVE NOT", "en", "61", "librispeech:test-clean"),
    ]


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("../../up WORDS", "layout_invalid"),
        ("a\0b WORDS", "layout_invalid"),
        ("61-1-0000", "layout_invalid"),
        ("61-1-0001 WORDS", "manifest_audio_missing"),
    ],
)
def test_librispeech_lines_that_cannot_be_used(line, code, tmp_path):
    sound(tmp_path / "61" / "1" / "61-1-0000.flac")
    sound(tmp_path.parent / "up.flac")
    (tmp_path / "61" / "1" / "61-1.trans.txt").write_text(f"\n{line}\n")
    error = refusal(f"librispeech:{tmp_path}")
    assert (error.code, error.fields["line"]) == (code, "2")


def test_librispeech_that_is_not_there(tmp_path):
    assert refusal(f"librispeech:{tmp_path}/none").code == "corpus_missing"
    (tmp_path / "a.trans.txt").write_bytes(b"\xff")
    assert refusal(f"librispeech:{tmp_path}").code == "manifest_unreadable"


# A hub --------------------------------------------------------------------------------------


def wav(rate: int = 8_000, channels: int = 1) -> bytes:
    out = io.BytesIO()
    samples = np.repeat(tone(0.5, rate=rate)[:, None], channels, axis=1)
    soundfile.write(out, samples, rate, format="WAV")
    return out.getvalue()


def test_rows_of_a_data_set():
    rows = [
        {"transcription": " uno  dos ", "audio": {"bytes": wav()}, "speaker_id": 7},
        {"transcription": " ", "audio": {"bytes": b""}},
        {"sentence": "three", "audio": {"bytes": wav(44_100, 2)}, "locale": "EN-us"},
        {"text": "x", "audio": {"bytes": wav()}, "locale": "?", "client_id": "a" * 999},
    ]
    found = list(layouts._taken(rows, "es_419"))
    assert [(key, fields["text"], fields["language"]) for key, _, fields in found] == [
        ("000000", "uno dos", "es"),
        ("000002", "three", "en"),
        ("000003", "x", ""),
    ]
    assert [fields["speaker"] for _, _, fields in found] == ["7", "", "a" * 64]
    for _, samples, _ in found:
        assert samples.dtype == np.int16
        assert len(samples) == 8_000
        assert np.abs(samples[1000:-1000]).max() == pytest.approx(8_000, rel=0.03)


def test_no_more_is_taken_than_the_limit(monkeypatch):
    monkeypatch.setattr(layouts, "HUB_MOST", 3)
    row = {"text": "a", "audio": {"bytes": wav()}}
    assert len(list(layouts._taken((row for _ in range(9)), ""))) == 3


@pytest.mark.parametrize(
    "place", ["", "one", "a/b/c/d", "../../etc", "a/b:", "a b/c", "https://x/y"]
)
def test_words_that_are_no_data_set(place):
    assert refusal(f"hub:{place}").code == "hub_corpus_spec"


def parquet(folder: Path) -> None:
    """As a hub keeps them: the files inside the table, whose column is marked as audio."""
    import pyarrow
    from datasets import Audio, Features, Value
    from pyarrow.parquet import write_table

    file = sound(folder / "a.wav", 0.5)
    columns = {"audio": [{"bytes": file.read_bytes(), "path": "a.wav"}], "transcription": ["hola"]}
    marked = Features({"audio": Audio(), "transcription": Value("string")}).arrow_schema
    table = pyarrow.table(columns).replace_schema_metadata(marked.metadata)
    write_table(table, folder / "train.parquet")
    file.unlink()


@pytest.mark.filterwarnings("ignore")
def test_a_data_set_on_disk(tmp_path, monkeypatch):
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    folder = tmp_path / "voces" / "prueba"
    parquet(folder)
    told: list[str] = []
    (one,) = load_corpus("hub:voces/prueba:train", listen=told.append)
    assert (one.id, one.text, one.seconds, told) == ("000000", "hola", 0.5, ["voces/prueba"])
    (info,) = corpora_info("hub:voces/prueba:train", [one])
    assert (info.name, info.source) == ("hub:voces/prueba:train", "hub:voces/prueba:train")
    assert len(info.sha256) == 64
    # From now on it is in the cache.
    for path in folder.iterdir():
        path.unlink()
    assert len(load_corpus("hub:voces/prueba:train", listen=told.append)) == 1
    assert len(told) == 1


@pytest.mark.filterwarnings("ignore")
def test_a_hub_that_cannot_be_reached(monkeypatch, tmp_path):
    import datasets

    def unreachable(*_: object, **__: object) -> None:
        raise ConnectionError("Couldn't reach the hub\nand more")

    monkeypatch.setattr(datasets, "load_dataset", unreachable)
    error = refusal("hub:voces/ninguna:test")
    assert (error.code, error.fields["detail"]) == ("hub_corpus_failed", "Couldn't reach the hub")
    assert not list(tmp_path.rglob("corpus.json"))


def test_without_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(MissingExtraError, match=r"vozmetro\[datasets\]"):
        load_corpus("hub:voces/ninguna")
