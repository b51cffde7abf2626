"""`vozmetro listen` on the command line."""

from __future__ import annotations

import builtins
import http.client
import json
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from listen_helpers import sounds, study_in
from rich.console import Console
from test_listen_results import MUSHRA, by_rule, taken

from vozmetro.cli.app import build
from vozmetro.cli.run import run
from vozmetro.measure import listening_records
from vozmetro.quality.listen.create import Wish
from vozmetro.quality.listen.plan import Trial, dumped, trials
from vozmetro.quality.listen.store import Profile, Store
from vozmetro.quality.listen.study import digest, load
from vozmetro.report.listening import ends_text, print_listening, score_text


def vozmetro(*words: str, lang: str = "en") -> int:
    return run(build(lang), ["listen", *words], lang)


@pytest.fixture
def folders(tmp_path: Path) -> list[str]:
    items = ["s1", "s2", "s3", "s4"]
    return [f"{name}={sounds(tmp_path / name, items, 9 * n)}" for n, name in enumerate("ab")]


def test_a_study_is_made_and_its_results_asked_for(
    folders: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a" / "only-here.wav").write_bytes((tmp_path / "a" / "s1.wav").read_bytes())
    words = [word for folder in folders for word in ("--system", folder)]
    assert vozmetro("new", *words, "--scale", "quality", "--scale", "empathy", "--items", "2") == 0
    said = capsys.readouterr().out
    assert "questions per listener 12" in said
    assert "left out: 1" in said
    assert "vozmetro listen serve listening" in said
    study = load(Path("listening"))
    assert (study.scales, study.items_per_listener) == (["quality", "empathy"], 2)
    assert vozmetro("results", "listening") == 2
    assert "vozmetro listen serve" in capsys.readouterr().err
    assert vozmetro("new", *words) == 2
    assert "--out" in capsys.readouterr().err
    Store(Path("listening"), digest(study)).close()
    assert vozmetro("results", "listening") == 2
    store = Store(Path("listening"), digest(study))
    store.join(0.0, Profile("es", "Ana", "es", "normal"), lambda n: dumped(trials(study, n)))
    store.comment(0, "Bien")
    store.close()
    capsys.readouterr()
    assert vozmetro("results", "listening", lang="es") == 0
    said = capsys.readouterr().out
    assert "incompleta (0 de 12)" in said
    assert "Bien" not in said
    assert "--comments" in said
    assert vozmetro("results", "listening", "--comments") == 0
    assert "1 Ana: Bien" in capsys.readouterr().out
    assert vozmetro("results", "listening", "--json") == 0
    assert json.loads(capsys.readouterr().out)["type"] == "listening"
    assert listening_records.load(Path("listening")).screened == 1


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["serve", "nowhere"], "vozmetro listen new"),
        (["start", "--token", "short", "x=y"], "--token"),
        (["start", "x=nowhere", "y=nowhere"], "nowhere"),
        (["start"], "--help"),
        (["start", "x=y", "--port", "70000"], "--port"),
        (["new", "--system", "gold=x"], "NAME=FOLDER"),
        (["new", "--method", "best"], "acr"),
        (["results", "nowhere"], "vozmetro listen new"),
    ],
)
def test_bad_words_end_with_two_and_say_what_helps(
    words: list[str], hint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert vozmetro(*words) == 2
    assert hint in capsys.readouterr().err


def test_without_the_extra_the_install_command_is_given(
    folders: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    real = builtins.__import__

    def without(name: str, *more: Any, **kinds: Any) -> Any:
        if name.partition(".")[0] in ("uvicorn", "pyloudnorm"):
            raise ModuleNotFoundError(name=name)
        return real(name, *more, **kinds)

    monkeypatch.setattr(builtins, "__import__", without)
    assert vozmetro("start", *folders) == 2
    assert "pip install 'vozmetro[listen]'" in capsys.readouterr().err
    assert not Path("listening").exists(), "a study that cannot be served was made"
    assert vozmetro("new", *(f"--system={folder}" for folder in folders)) == 2
    assert "pip install 'vozmetro[listen]'" in capsys.readouterr().err


def asked(address: str, path: str = "/") -> int:
    found = re.match(r"http://([^/:]+):(\d+)", address)
    assert found is not None
    connection = http.client.HTTPConnection("127.0.0.1", int(found[2]), timeout=10)
    connection.request("GET", path, headers={"Host": f"{found[1]}:{found[2]}"})
    status = connection.getresponse().status
    connection.close()
    return status


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
def test_served_until_ctrl_c(tmp_path: Path, host: str) -> None:
    study_in(tmp_path)
    command = [sys.executable, "-m", "vozmetro", "listen", "serve", str(tmp_path / "study"),
               "--port", "0", "--host", host, "--lang", "es"]  # fmt: skip
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stderr is not None
    first = process.stdout.readline()
    found = re.search(r"http://\S+", first)
    assert found is not None, first
    query = found[0].partition("/?")[2]
    # Ctrl-C is only sent once the server answers: it does so by then, or the test fails.
    if host == "127.0.0.1":
        assert query == ""
        assert asked(found[0]) == 200
    else:
        assert re.fullmatch(r"token=[\w-]{32}", query)
        assert asked(found[0]) == 401
        assert asked(found[0], f"/?{query}") == 303
    process.send_signal(signal.SIGINT)
    # Lines that were read ahead with the first one are in the stream, where communicate() is not.
    with process:
        out, error = process.stdout.read(), process.stderr.read()
    assert (process.returncode, error) == (0, "")
    assert "vozmetro listen results" in out
    assert ("HTTPS" in out) == (host != "127.0.0.1")


@pytest.mark.parametrize("method", ["acr", "ab", "ccr", "mushra"])
def test_results_fit_eighty_columns_in_both_languages(tmp_path: Path, method: str) -> None:
    names = ("a-voice-with-a-very-long-name-of-40-char", "qwen3-omni-30b-int4")
    wish = Wish(method=method)  # type: ignore[arg-type]
    study = study_in(tmp_path, wish, systems=names, items=3, reference=True).study
    level = {names[0]: 3, names[1]: 2, "reference": 5}

    def rule(one: Trial) -> list[int]:
        got = [level.get(name, 1) for name in one.conditions]
        if method == "mushra":
            marks = MUSHRA | {names[0]: 70, names[1]: 50}
            return [marks[name] for name in one.conditions]
        if method == "acr":
            return got
        return [int(got[1] > got[0])] if method == "ab" else [got[1] - got[0]]

    careful = rule if method == "mushra" else by_rule(method, rule)
    record = taken(study, [careful, careful, careful], [2.0, 2.0, 0.0])
    assert (record.kept, record.screened) == (2, 1)
    for lang in ("es", "en"):
        console = Console(width=80, record=True, color_system=None)
        print_listening(console, record, lang, [(1, "Ana\x1b[2J", "hola")])
        text = console.export_text()
        assert max(map(len, text.splitlines())) <= 80
        assert "\x1b" not in text
        assert "…" not in text, "a column is cut"
        for name in ("a-voice", "qwen3-omni-30b-int4", "reference"):
            assert name in text


def test_scores_as_each_method_writes_them() -> None:
    assert score_text("acr", 4.126) == "4.13"
    assert score_text("ab", 0.625) == "62 %"
    assert score_text("ccr", 1.1) == "+1.10"
    assert score_text("mushra", 78.25) == "78.2"
    assert ends_text("acr", 3.9, 4.31) == "3.90–4.31"
    assert ends_text("ab", 0.4, 0.8) == "40–80"
    assert ends_text("ccr", -0.5, 0.5) == "-0.50, +0.50"
    assert ends_text("acr", None, 4.0) == "–"
