"""`vozmetro models` as a person uses it: exit codes, both languages, 80 columns, JSON."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import onnx_zoo as zoo
import pytest
from hub_server import Hub
from rich.cells import cell_len

from vozmetro.cli.localized import LocalizedGroup
from vozmetro.cli.models import commands, sizes
from vozmetro.cli.run import run
from vozmetro.errors import InputError
from vozmetro.models import hub

Said = tuple[int, str, str]
Call = Callable[..., Said]
REPO = "voces/prueba"


@pytest.fixture
def call(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Call:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("VOZMETRO_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("HF_HUB_DISABLE_IMPLICIT_TOKEN", "1")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(hub, "WAITS_S", ())

    def call(*words: object, lang: str = "en") -> Said:
        group = LocalizedGroup("vozmetro", lang=lang)
        for command in commands(lang):
            group.add_command(command)
        code = run(group, ["models", *map(str, words)], lang)
        said = capsys.readouterr()
        return code, said.out, said.err

    return call


def narrow(text: str) -> bool:
    """Whether lines without paths fit in 80 columns."""
    lines = [line for line in text.splitlines() if "/" not in line]
    return max(map(cell_len, lines)) <= 80


@pytest.mark.parametrize("lang", ["es", "en"])
def test_list(call, lang):
    code, out, err = call("list", lang=lang)
    assert (code, err) == (0, "")
    assert narrow(out)
    for name in ("whisper-base", "piper-joe", "piper-davefx", "whisper-small-encoder"):
        assert name in out
    told = json.loads(call("list", "--json")[1])
    by_name = {one["name"]: one for one in told}
    assert by_name["piper-joe"]["state"] == "here"
    assert by_name["piper-davefx"]["state"] == "absent"
    assert by_name["piper-davefx"]["hub"]["repo"] == "rhasspy/piper-voices"


@pytest.mark.parametrize("lang", ["es", "en"])
def test_help_of_every_command(call, lang):
    for words in ((), ("list",), ("fetch",), ("verify",), ("inspect",), ("dummy",)):
        code, out, _ = call(*words, "--help", lang=lang)
        assert code == 0
        assert {"es": "Uso:", "en": "Usage:"}[lang] in out


def test_fetch_from_a_hub_then_verify_then_inspect(call, tmp_path, monkeypatch):
    content = zoo.waveform_model(tmp_path / "m.onnx").read_bytes()
    with Hub() as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        commit = server.repo(REPO).push({"m.onnx": content, "config.json": b"{}"})
        code, out, err = call("fetch", f"hub:{REPO}@{commit}", "--out", tmp_path / "out")
        assert (code, err) == (0, "")
        assert commit in out
        assert f"vozmetro models verify {tmp_path / 'out' / 'm.onnx'}" in out
        told = json.loads(call("fetch", f"hub:{REPO}@{commit}", "--json")[1])
        assert told["received"] == len(content) + 2
        code, _, err = call("fetch", f"hub:{REPO}@main")
        assert code == 2
        assert commit in err
    assert call("fetch", f"hub:{REPO}@{commit}")[0] == 0  # the server is gone
    assert call("verify", tmp_path / "out" / "m.onnx")[0] == 0
    assert call("inspect", tmp_path / "out" / "m.onnx")[0] == 0


@pytest.mark.parametrize("lang", ["es", "en"])
def test_no_hub_is_one_line_that_says_what_else_serves(call, lang):
    code, out, err = call("fetch", f"hub:{REPO}@{'a' * 40}", lang=lang)
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert "vozmetro[demo]" in err
    assert "Traceback" not in err


@pytest.mark.parametrize("lang", ["es", "en"])
def test_verify_says_what_and_why(call, tmp_path, lang):
    good = zoo.external_data_model(tmp_path / "m.onnx")
    code, out, err = call("verify", good, lang=lang)
    assert (code, err) == (0, "")
    assert narrow(out)
    (tmp_path / "m.onnx.data").unlink()
    code, out, _ = call("verify", good, lang=lang)
    assert code == 1
    assert "❌" in out
    code, out, _ = call("verify", good, "--json")
    assert code == 1
    assert json.loads(out)["ok"] is False
    assert call("verify", tmp_path / "none.onnx")[0] == 2


@pytest.mark.parametrize("lang", ["es", "en"])
def test_inspect(call, tmp_path, lang):
    model = zoo.tokens_model(tmp_path / "m.onnx")
    code, out, err = call("inspect", model, "--dims", "sequence=4", lang=lang)
    assert (code, err) == (0, "")
    assert narrow(out)
    assert "past_key_values.0.key" in out
    told = json.loads(call("inspect", model, "--json")[1])
    assert told["parts"][0]["operations"]["macs"] > 0


def test_a_claim_that_is_not_true_is_1(call, tmp_path):
    model = zoo.tokens_model(tmp_path / "Qwen3-VL-4B-Instruct.onnx")
    code, out, _ = call("inspect", model)
    assert code == 0
    assert "cannot hear" in " ".join(out.split())
    for option in ("--as", "--claimed-modality"):
        code, out, _ = call("inspect", model, option, "audio", lang="es")
        assert code == 1
        assert "texto, imagen y vídeo" in " ".join(out.split())
    (told,) = json.loads(call("inspect", model, "--json", "--as", "audio")[1])["told"]
    assert "STT + this + TTS" in told
    assert call("inspect", zoo.waveform_model(tmp_path / "a.onnx"), "--as", "audio")[0] == 0


def test_inspect_catalogue_models(call):
    code, out, _ = call("inspect", "piper-joe")
    assert code == 0
    assert narrow(out)
    assert "15.7 M" in out


@pytest.mark.parametrize("text", ["x", "a=", "=3", "a=-1", "a=1.5", "a=9999999999", "a=1,b", "a=٣"])
def test_sizes_that_are_none(text):
    with pytest.raises(InputError) as caught:
        sizes(text)
    assert caught.value.code == "dims_invalid"


def test_sizes():
    assert sizes("sequence=64, past=0") == {"sequence": 64, "past": 0}
    assert sizes(None) == {}


def test_dummy_writes_a_marked_model(call, tmp_path):
    words = ("--precision", "int8", "--layers", "1", "--output", tmp_path / "d")
    code, out, err = call("dummy", "whisper-small", *words)
    assert (code, err) == (0, "")
    assert str(tmp_path / "d") in out
    code, out, _ = call("inspect", tmp_path / "d")
    assert code == 0
    assert "random (dummy)" in " ".join(out.split())
    assert call("dummy", "no-such-thing", "--precision", "int8")[0] == 2


@pytest.mark.parametrize(("lang", "said"), [("es", "Interrumpido."), ("en", "Interrupted.")])
def test_an_interrupted_command_says_nothing_of_measuring(call, tmp_path, monkeypatch, lang, said):
    def give_up(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("vozmetro.models.fetch.fetch", give_up)
    code, out, err = call("fetch", "whisper-base", lang=lang)
    assert (code, out) == (130, "")
    assert said in err
    assert "measur" not in err
    assert "med" not in err
