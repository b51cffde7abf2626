"""Shared by all tests: a neutral language and no writing outside the test's folder."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def _neutral(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("VOZMETRO_LANG", raising=False)
    monkeypatch.setenv("LC_ALL", "C.UTF-8")
    monkeypatch.chdir(tmp_path)
    # After-idle latency needs real silence on a real machine, not in tests of everything else.
    monkeypatch.setattr("vozmetro.measure.live.IDLE_GAP_S", 0.01)
