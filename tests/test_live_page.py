"""The live page in a real browser, whose microphone is a file of real speech."""

from __future__ import annotations

import base64
import json
import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from live_helpers import WAIT_S, Follower, Room, Voice, serving, speech

from vozmetro.audio import SPEECH_RATE
from vozmetro.quality.listen.guard import Access
from vozmetro.serve.app import Serving, build
from vozmetro.serve.live import routes

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not (CHROMIUM and DRIVER), reason="needs chromium and chromedriver (apt: chromium-driver)"
    ),
]
SHOTS = os.environ.get("LIVE_SHOTS")
"""A folder for screenshots; none are taken without it."""
HOSTILE = "turn on <img src=x onerror=alert(1)> the light"
TOKEN = "correct-horse-battery"
WATCH = """
const state = document.getElementById("state");
window.states = [state.dataset.t];
new MutationObserver(() => {
  if (window.states.at(-1) !== state.dataset.t) window.states.push(state.dataset.t);
}).observe(state, { attributes: true });
window.words = [];
new MutationObserver(() => {
  const shown = document.querySelector("#said .words").textContent;
  if (window.words.at(-1) !== shown) window.words.push(shown);
}).observe(document.getElementById("said"), {
  childList: true, subtree: true, characterData: true,
});
"""
"""Keeps what the page says of itself, and of what was said, in their order."""


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    # A word or two, a second of silence, a word or two again, and silence.
    said = [speech(1).samples, speech(4).samples, np.zeros(20 * SPEECH_RATE, np.float32)]
    file = tmp_path_factory.mktemp("microphone") / "speech.wav"
    soundfile.write(file, np.concatenate(said), SPEECH_RATE, "PCM_16")
    options = webdriver.ChromeOptions()
    options.binary_location = str(CHROMIUM)
    for word in (
        "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
        "--disable-background-networking", "--disable-component-update", "--disable-sync",
        "--disable-dev-shm-usage", "--mute-audio", "--use-fake-device-for-media-stream",
        "--use-fake-ui-for-media-stream", f"--use-file-for-fake-audio-capture={file}",
        f"--user-data-dir={tmp_path_factory.mktemp('profile')}", "--window-size=1280,800",
        "--lang=en", "--no-proxy-server",
    ):  # fmt: skip
        options.add_argument(word)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(str(DRIVER)))
    yield driver
    driver.quit()


class Page:
    """What a visitor sees and does."""

    def __init__(self, driver: Any, address: str) -> None:
        self.driver, self.address = driver, address
        driver.get_log("performance")
        driver.get_log("browser")
        driver.get(f"http://{address}/live")
        self.wait("return document.getElementById('state').dataset.t === 'ready'")
        self.click("[data-lang=en]")
        driver.execute_script(WATCH)

    def wait(self, script: str) -> Any:
        from selenium.common.exceptions import TimeoutException
        from selenium.webdriver.support.ui import WebDriverWait

        wait = WebDriverWait(self.driver, WAIT_S, poll_frequency=0.05)
        try:
            return wait.until(lambda driver: driver.execute_script(script))
        except TimeoutException:
            seen = "return [window.states, document.querySelector('main').innerText]"
            told = self.driver.execute_script(seen), self.driver.get_log("browser")
            raise AssertionError(f"{script}: {told}") from None

    def find(self, css: str) -> Any:
        return self.driver.find_element("css selector", css)

    def all(self, css: str) -> list[Any]:
        return self.driver.find_elements("css selector", css)

    def click(self, css: str) -> None:
        self.find(css).click()

    def states(self) -> list[str]:
        return self.driver.execute_script("return window.states")

    def passes(self, *states: str) -> None:
        """Waits until the page has been in these states, in this order."""
        walk = "const left = [...arguments]; window.states.forEach((one) => {"
        walk += " if (left[0] === one) left.shift(); }); return left.length === 0"
        words = json.dumps(list(states))
        self.wait(f"return (function () {{ {walk} }})(...{words})")

    def clean(self) -> None:
        """Nothing failed in the browser, and nothing was asked of anybody else."""
        errors = [one for one in self.driver.get_log("browser") if one["level"] == "SEVERE"]
        assert errors == []
        asked = []
        for entry in self.driver.get_log("performance"):
            message = json.loads(entry["message"])["message"]
            if message["method"] == "Network.requestWillBeSent":
                asked.append(message["params"]["request"]["url"])
        own = (f"http://{self.address}/", "data:", "chrome", "about:")
        assert asked
        assert [one for one in asked if not one.startswith(own)] == []

    def shots(self, name: str) -> None:
        """The page fits a phone; with SHOTS, pictures of it in both languages and themes."""
        command = self.driver.execute_cdp_cmd
        for lang in ("es", "en"):
            self.click(f"[data-lang={lang}]")
            self.wait(f"return document.documentElement.lang === '{lang}'")
            for width in (390, 1280):
                size = {"width": width, "height": 844, "deviceScaleFactor": 1, "mobile": False}
                command("Emulation.setDeviceMetricsOverride", size)
                wide = self.driver.execute_script(
                    "return document.documentElement.scrollWidth - window.innerWidth"
                )
                assert wide <= 0, f"{name} is wider than {width} px in {lang}"
                for theme in ("light", "dark") if SHOTS else ():
                    media = {"features": [{"name": "prefers-color-scheme", "value": theme}]}
                    command("Emulation.setEmulatedMedia", media)
                    tall = self.driver.execute_script(
                        "return document.documentElement.scrollHeight"
                    )
                    clip = {"x": 0, "y": 0, "width": width, "height": tall, "scale": 1}
                    shot = command(
                        "Page.captureScreenshot", {"captureBeyondViewport": True, "clip": clip}
                    )
                    Path(SHOTS or "").mkdir(parents=True, exist_ok=True)
                    file = Path(SHOTS or "") / f"{name}-{lang}-{theme}-{width}.png"
                    file.write_bytes(base64.b64decode(shot["data"]))
        command("Emulation.clearDeviceMetricsOverride", {})


@contextmanager
def page(browser: Any, room: Room, token: str = "") -> Iterator[Page]:
    state = Serving(room, Access(token=token))
    with serving(build(state, routes(state))) as address:
        shown = Page(browser, address)
        yield shown
        browser.get("about:blank")


def test_talk_hear_and_see_where_the_time_went(browser: Any) -> None:
    from selenium.webdriver.common.keys import Keys

    room = Room(ears=Follower(HOSTILE))
    with page(browser, room) as shown:
        # By keyboard alone: after the languages comes the microphone.
        browser.switch_to.active_element.send_keys(Keys.TAB)
        assert browser.switch_to.active_element.get_attribute("id") == "mic"
        browser.switch_to.active_element.send_keys(Keys.ENTER)
        turn = ("hearing", "thinking", "speaking")
        shown.passes("listening", *turn, *turn, "listening")
        shown.wait("return document.querySelectorAll('#rows tr').length === 2")
        shown.click("#mic")
        assert shown.states()[-1] == "ready"
        assert shown.find("#mic").get_attribute("aria-pressed") == "false"

        assert shown.find("#said .user .words").text == HOSTILE
        assert shown.find("#said .answer .words").text == f"You said: {HOSTILE}."
        assert shown.all("#said img, #rows img") == []
        assert [one.text for one in shown.all("#rows .words")] == [HOSTILE] * 2
        grown = browser.execute_script("return window.words")
        assert grown.index("turn") < grown.index(HOSTILE)

        assert len(room.told) == 2
        told = room.told[-1]
        parts = [told[one] for one in ("endpoint", "stt", "reply", "tts_first_audio")]
        *values, total = [
            int(one.text.split()[0].replace(",", "")) for one in shown.all(".waterfall .value")
        ]
        assert values == pytest.approx(parts, abs=0.6)
        assert total == pytest.approx(sum(parts), abs=0.6)
        # Each bar begins where the one before it ends, and all are as long as their time is.
        rects = [one.rect for one in shown.all(".waterfall .bar")]
        scale = shown.find(".waterfall .track").rect["width"] / max(500, sum(parts)) / 1.04
        begun = rects[0]["x"]
        for rect, ms in zip(rects, parts, strict=False):
            assert rect["x"] == pytest.approx(begun, abs=2)
            assert rect["width"] == pytest.approx(max(2, ms * scale), abs=2)
            begun += ms * scale
        limit = shown.find(".waterfall .mark.limit").rect["x"] - rects[0]["x"]
        assert limit == pytest.approx(240 * scale, abs=2)
        verdict = shown.find(".verdict").text
        assert verdict.startswith("✓" if sum(parts) < 240 else "✗")
        assert "240 ms" in verdict
        assert shown.find("#summary").text.count("from 10 turns on") == 1
        shown.shots("turn")
        shown.click("[data-lang=es]")
        assert shown.find("#history-title").text == "Últimos turnos"
        assert "from 10" not in shown.find("#summary").text
        shown.clean()


def test_speech_stops_the_answer(browser: Any) -> None:
    held = threading.Event()
    with page(browser, Room(voice=Voice(held=held))) as shown:
        shown.click("#mic")
        shown.passes("listening", "hearing", "thinking", "speaking", "hearing")
        held.set()
        shown.wait("return document.querySelector('.note').textContent === 'Interrupted.'")
        shown.passes("speaking", "hearing", "thinking", "speaking", "listening")
        assert len(shown.all("#said li")) == 2
        shown.clean()


def test_a_button_stops_the_answer(browser: Any) -> None:
    """The voice would go on for a minute, which the page has got by then."""
    with page(browser, Room(voice=Voice(pieces=300))) as shown:
        shown.click("#mic")
        shown.passes("speaking", "hearing", "speaking")
        assert shown.find("#quiet").is_enabled()
        shown.click("#quiet")
        shown.passes("speaking", "hearing", "speaking", "listening")
        assert not shown.find("#quiet").is_enabled()
        shown.clean()


def test_a_server_with_a_token_asks_for_it_and_one_that_ends_says_so(browser: Any) -> None:
    with page(browser, Room(), TOKEN) as shown:
        shown.click("#mic")
        shown.wait("return !document.getElementById('token-form').hidden")
        for given, code in (("wrong", "error_no_token"), (TOKEN, "")):
            shown.find("#token").send_keys(given)
            shown.click("#token-form button")
            if code:
                shown.wait("return document.getElementById('problem').textContent")
                assert shown.find("#problem").get_attribute("data-t") == code
        shown.passes("listening")
        assert not shown.find("#token-form").is_displayed()
        shown.shots("listening")
        shown.clean()
    state = Serving(Room(), Access())
    with serving(build(state, routes(state))) as address:
        shown = Page(browser, address)
        shown.click("#mic")
        shown.passes("listening")
    shown.wait("return document.getElementById('problem').dataset.t === 'error_offline'")
    assert shown.find("#mic").get_attribute("aria-pressed") == "false"
    browser.get("about:blank")
