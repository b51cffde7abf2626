"""Shared by the tests of fetching: nothing outside is asked, and a hub with a small repository."""

from __future__ import annotations

from pathlib import Path

import onnx_zoo as zoo
import pytest
from hub_server import Hub

from vozmetro.models import hub


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
