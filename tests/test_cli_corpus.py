"""`vozmetro corpus` as a person uses it: exit codes, both languages, 80 columns, JSON."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import corpus_debs
import pytest
from rich.cells import cell_len
from run_factory import make_environment, make_run

from vozmetro.cli.corpus import commands
from vozmetro.cli.localized import LocalizedGroup
from vozmetro.cli.run import run
from vozmetro.measure.quality_records import (
    Heard,
    QualitySettings,
    QualityStudy,
    SpeechItem,
    System,
)
from vozmetro.measure.storage import QUALITY_FILE
from vozmetro.speech import known
from vozmetro.speech.corpus import load_corpus

Said = tuple[int, str, str]
Call = Callable[..., Said]


@pytest.fixture
def debs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    table = {**known.table(), "prueba": corpus_debs.corpus(tmp_path / "debs")}
    monkeypatch.setattr(known, "table", lambda: table)
    return tmp_path / "debs"


@pytest.fixture
def call(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Call:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", "")

    def call(*words: object, lang: str = "en") -> Said:
        group = LocalizedGroup("vozmetro", lang=lang)
        for command in commands(lang):
            group.add_command(command)
        code = run(group, ["corpus", *map(str, words)], lang)
        said = capsys.readouterr()
        return code, said.out, said.err

    return call


def narrow(text: str) -> bool:
    """Whether lines without paths fit in 80 columns."""
    return max(cell_len(line) for line in text.splitlines() if "/" not in line) <= 80


@pytest.mark.parametrize("lang", ["es", "en"])
def test_list(lang, call):
    code, out, err = call("list", lang=lang)
    assert (code, err) == (0, "")
    assert narrow(out)
    for name in known.names():
        assert f" {name} " in out
    assert ("ausente" if lang == "es" else "absent") in out


def test_list_says_what_is_here(debs, call):
    states = lambda: {one["name"]: one["state"] for one in json.loads(call("list", "--json")[1])}  # noqa: E731
    assert states() == {**dict.fromkeys(known.names(), "absent"), "audioeval": "here"}
    call("fetch", "prueba", "--from", debs)
    assert states()["prueba"] == "here"


def test_fetch(debs, call, tmp_path):
    code, out, _ = call("fetch", "prueba", "--from", debs, "--json")
    (told,) = json.loads(out)
    assert (code, told["name"], told["utterances"], len(told["sha256"])) == (0, "prueba", 2, 64)
    assert Path(told["folder"]).is_relative_to(tmp_path / "cache")
    assert "2 frases" in call("fetch", "prueba", lang="es")[1]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["fetch", "ninguno"], "es-ivr"),
        (["fetch", ","], "es-ivr"),
        (["fetch", "audioeval"], "vozmetro[demo]"),
        (["fetch", "es-ivr"], "--from"),
        (["fetch", "es-ivr,en-ivr", "--from", "."], "asterisk-core-sounds-es-g722"),
        (["show", "ninguno"], "es-ivr"),
        (["show", "audioeval", "--with", "none.json"], "none.json"),
    ],
)
def test_what_cannot_be_done_says_why(words, said, call):
    for lang in ("es", "en"):
        code, out, err = call(*words, lang=lang)
        assert (code, out) == (2, "")
        assert said in err
        assert len(err.splitlines()) == 1


@pytest.mark.parametrize("lang", ["es", "en"])
def test_show(lang, debs, call, tmp_path):
    call("fetch", "prueba", "--from", debs)
    code, out, err = call("show", "prueba", "audioeval", lang=lang)
    assert (code, err) == (0, "")
    assert narrow(out)
    for told in ("CC0", "MIT", "sounds-es 1-1", "16000 Hz: 2"):
        assert told in out
    assert ("No se halló nada mal." if lang == "es" else "Nothing wrong was found.") in out


def study(path: Path, outputs: list[list[str]]) -> Path:
    """A study in which subjects heard `prueba`, clean and noisy."""
    utterances = load_corpus("prueba")
    items = [
        SpeechItem(
            id=one.id, condition=name, text=one.text, seconds=one.seconds, path=str(one.path)
        )
        for name in ("clean", "white@0")
        for one in utterances
    ]
    systems = [
        System(
            subject=make_run().subject,
            heard=[Heard(item=at, output=text, ms=1.0) for at, text in enumerate(heard)],
        )
        for heard in outputs
    ]
    record = QualityStudy(
        id="s",
        created="2026-01-01",
        vozmetro="0",
        status="complete",
        settings=QualitySettings(subjects=["a", "b"], corpus="prueba", threads=1),
        environment=make_environment(),
        items=items,
        systems=systems,
    )
    path.write_text(record.model_dump_json())
    return path


def test_references_that_all_engines_miss(debs, call, tmp_path):
    call("fetch", "prueba", "--from", debs)
    # `digits/1F`, then `hola`; what was heard in noise says nothing of the reference.
    heard = [["otra", "hola", "una", "nada"], ["dos", "nada", "una", "nada"]]
    path = study(tmp_path / QUALITY_FILE, heard)
    (told,) = json.loads(call("show", "prueba", "--with", path, "--json")[1])
    assert told["missed"] == ["digits/1F"]
    assert "digits/1F" in call("show", "prueba", "--with", path)[1]
    path = study(tmp_path / QUALITY_FILE, [["una", "hola"], ["dos", "nada"]])
    assert "No transcript is missed" in call("show", "prueba", "--with", path)[1]
    path = study(tmp_path / QUALITY_FILE, [["una", "hola"]])
    code, _, err = call("show", "prueba", "--with", path)
    assert (code, "at least 2" in err) == (2, True)
