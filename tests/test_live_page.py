"""The live page in a real browser, whose microphone is a file of real speech."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator

import pytest
import soundfile
from live_helpers import speech

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not (CHROMIUM and DRIVER), reason="needs chromium and chromedriver (apt: chromium-driver)"
    ),
]
SHOTS = os.environ.get("LIVE_SHOTS")
"""A folder for screenshots; none are taken without it."""


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[object]:
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    said = speech()
    file = tmp_path_factory.mktemp("microphone") / "speech.wav"
    soundfile.write(file, said.samples, said.rate, "PCM_16")
    options = webdriver.ChromeOptions()
    options.binary_location = str(CHROMIUM)
    for word in (
        "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
        "--disable-background-networking", "--disable-component-update", "--disable-sync",
        "--disable-dev-shm-usage", "--mute-audio", "--use-fake-device-for-media-stream",
        "--use-fake-ui-for-media-stream", f"--use-file-for-fake-audio-capture={file}%noloop",
        f"--user-data-dir={tmp_path_factory.mktemp('profile')}", "--window-size=1280,800",
        "--lang=en", "--no-proxy-server",
    ):  # fmt: skip
        options.add_argument(word)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(str(DRIVER)))
    yield driver
    driver.quit()
