"""`vozmetro serve` on the command line, before anything is served; and its one tier."""

from __future__ import annotations

import builtins
import io
import json
import logging
from pathlib import Path
from typing import Any

import pytest
from serve_helpers import ABOUT, TIER, Ears, Voice

from vozmetro.cli.app import build
from vozmetro.cli.run import run
from vozmetro.errors import InputError
from vozmetro.models.resolve import resolve
from vozmetro.pipeline.fixed import LEAST, FixedTiers
from vozmetro.pipeline.reply.echo import Echo
from vozmetro.pipeline.tiers import Ask, Stages
from vozmetro.serve import live
from vozmetro.serve.about import about
from vozmetro.serve.logs import LOGGER, log, to_stderr
from vozmetro.serve.network import announcement


def vozmetro(*words: str, lang: str = "en") -> int:
    return run(build(lang), ["serve", "--port", "0", "--wyoming-port", "0", *words], lang)


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        ([], "vozmetro serve whisper-base-onnx-int8+piper-joe"),
        (["whisper-base"], "STT+TTS"),
        (["piper-joe+whisper-base"], "STT+TTS"),
        (["nobody+piper-joe"], "nobody"),
        (["whisper-base+piper-joe", "--token", "short"], "12"),
        (["whisper-base+piper-joe", "--threads", "0"], "--threads"),
        (["whisper-base+piper-joe", "--language", "¿?"], "ISO 639-1"),
        (["whisper-base+piper-joe", "--host", "no.such.host.example"], "--host"),
        (["whisper-base+piper-joe", "--port", "70000"], "--port"),
        (["whisper-base+piper-joe", "--zeroconf"], "--wyoming-host"),
        (["whisper-base+piper-joe", "--hangover", "9"], "0.032"),
    ],
)
def test_bad_words_end_with_two_and_say_what_helps(
    words: list[str], hint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert vozmetro(*words) == 2
    assert hint in capsys.readouterr().err


TIERS = (
    '[[tiers]]\nname = "fast"\nstt = "whisper-base-onnx-int8"\ntts = "piper-joe-onnx"\n'
    'language = "en"\n[[tiers]]\nname = "slow"\nstt = "whisper-base"\ntts = "piper-joe"\n'
)


@pytest.mark.parametrize("lang", ["es", "en"])
@pytest.mark.parametrize(
    ("text", "hint"),
    [
        (None, "pipeline.toml"),
        ("", "tiers"),
        ("[[tiers", "TOML"),
        (TIERS + 'colour = "red"\n', "colour"),
        (TIERS.replace("slow", "fast"), "tiers[2].name"),
        ('default = "best"\n' + TIERS, '"fast" | "slow"'),
        (TIERS.replace("whisper-base-onnx-int8", "nobody"), "nobody"),
    ],
)
def test_a_bad_file_of_tiers_ends_with_two(
    text: str | None, hint: str, lang: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "pipeline.toml"
    if text is not None:
        path.write_text(text)
    assert vozmetro("--config", str(path), lang=lang) == 2
    said = capsys.readouterr().err
    assert hint in said
    assert len(said.strip().splitlines()) == 1


def test_a_subject_and_a_file_of_tiers_are_one_too_many(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "pipeline.toml").write_text(TIERS)
    words = ["whisper-base+piper-joe", "--config", str(tmp_path / "pipeline.toml")]
    assert vozmetro(*words) == 2
    assert "--config" in capsys.readouterr().err


def test_a_file_of_tiers_is_served_and_its_default_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "pipeline.toml"
    path.write_text("budget_p90_ms = 450\nhangover_s = 0.3\n" + TIERS)
    served: list[Any] = []

    async def serve(serving: Any, *words: Any, **options: Any) -> bool:
        states = {one.name: one.residence for one in serving.tiers.states()}
        served.append((tuple(serving.tiers.names), states, serving.about))
        with serving.tiers.lease(Ask("fast")) as stages:
            served.append((stages.tier, stages.language, type(stages.reply)))
        return True

    told: dict[str, Any] = {}

    def routes(*words: Any, **options: Any) -> list[Any]:
        told.update(options)
        return plain(*words, **options)

    plain = live.routes
    monkeypatch.setattr("vozmetro.serve.live.routes", routes)
    monkeypatch.setattr("vozmetro.serve.running.serve", serve)
    assert vozmetro("--config", str(path), "--no-wyoming", "--threads", "1") == 0
    assert told["budget"].p90_ms == 450
    assert told["talks"].keywords["endpointing"].hangover_s == 0.3
    (names, states, known), lent = served
    assert names == ("fast", "slow")
    # The default one is warm, the other is loaded when it is asked for.
    assert states == {"fast": "resident", "slow": "cold"}
    assert lent == ("fast", "en", Echo)
    assert [one.stt.licence for one in known] == ["MIT", "MIT"]
    assert str(path) in capsys.readouterr().out


def test_without_the_extra_the_install_command_is_given(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def without(name: str) -> Any:
        if name == "wyoming":
            raise ModuleNotFoundError(name=name)
        return builtins.__import__(name)

    monkeypatch.setattr("importlib.import_module", without)
    assert vozmetro("whisper-base+piper-joe") == 2
    assert "pip install 'vozmetro[serve]'" in capsys.readouterr().err


def test_nothing_is_announced_that_nobody_can_reach() -> None:
    with pytest.raises(InputError) as caught:
        announcement("127.0.0.1", 1)
    assert caught.value.code == "serve_zeroconf_loopback"
    assert announcement("192.0.2.7", 1) is not None


def test_one_tier() -> None:
    tiers = FixedTiers(Stages(TIER, Ears(), Echo(), Voice()))
    with tiers.lease(Ask()) as default, tiers.lease(Ask(TIER)) as named:
        assert default is named
    with pytest.raises(InputError), tiers.lease(Ask("other")):
        pass
    for ms in range(1, LEAST):
        tiers.finished(TIER, {"endpoint": 500.0, "stt": float(ms)})
    assert [state.p90_ms for state in tiers.states()] == [None]
    tiers.finished(TIER, {"stt": 6.0, "tts_first_audio": 4.0})
    [state] = tiers.states()
    # 1 to 10 ms: the endpoint's wait is no work of the tier's.
    assert (state.turns, state.residence) == (10, "resident")
    assert state.p90_ms == pytest.approx(9.1)


def test_what_the_catalogue_knows_of_models() -> None:
    known = about("a", resolve("whisper-base"), resolve("piper-joe"), "es")
    assert (known.stt.licence, known.stt.author, known.stt.languages) == ("MIT", "Systran", ("es",))
    assert (known.tts.licence, known.tts.author) == ("CC0-1.0", "rhasspy")
    assert ABOUT.stt.author == "who"


def test_the_log_is_one_line_of_json() -> None:
    with io.StringIO() as stream:
        to_stderr(stream)
        log("request", {"turn": "1", "name": "a\nb\x1b[31mñ", "none": None})
        try:
            raise ValueError("inside")
        except ValueError:
            log("error", level=logging.ERROR, failed=True)
        lines = stream.getvalue().splitlines()
    logging.getLogger(LOGGER).handlers = []
    assert lines[0].isascii()
    first, second = (json.loads(line) for line in lines)
    assert (first["event"], first["turn"], first["level"]) == ("request", "1", "info")
    assert "none" not in first
    assert "ValueError: inside" in second["trace"]
