"""A listening test from the command line to its results, by listeners in a real browser."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from listen_helpers import sounds

from vozmetro.measure import listening_records
from vozmetro.quality.listen.plan import Trial, trials
from vozmetro.quality.listen.study import GOLD, Study, load

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not (CHROMIUM and DRIVER), reason="needs chromium and chromedriver (apt: chromium-driver)"
    ),
]
SHOTS = os.environ.get("LISTEN_SHOTS")
"""A folder for screenshots of every step; none are taken without it."""
WAIT_S = 30
PLAY = """
const [place, done] = arguments;
const player = document.querySelectorAll(".player")[place];
const button = player.querySelector("button");
button.click();
const watch = new MutationObserver(() => {
  if (button.getAttribute("aria-disabled")) return;
  watch.disconnect();
  done(player.classList.contains("heard"));
});
watch.observe(button, { attributes: true });
"""
"""Presses a button, and tells whether the browser has then played its sound to the end."""


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[object]:
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = str(CHROMIUM)
    for word in (
        "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
        "--disable-background-networking", "--disable-component-update", "--disable-sync",
        "--autoplay-policy=no-user-gesture-required", "--disable-dev-shm-usage", "--mute-audio",
        f"--user-data-dir={tmp_path_factory.mktemp('profile')}", "--window-size=1280,800",
        "--lang=es", "--no-proxy-server",
    ):  # fmt: skip
        options.add_argument(word)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(str(DRIVER)))
    yield driver
    driver.quit()


class Served:
    """`vozmetro listen start` in a process of its own, ended with Ctrl-C."""

    def __init__(self, *words: str) -> None:
        command = [
            sys.executable,
            "-m",
            "vozmetro",
            "listen",
            *words,
            "--port",
            "0",
            "--lang",
            "en",
        ]
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert self.process.stdout is not None
        self.address = ""
        for line in self.process.stdout:
            if found := re.search(r"http://\S+", line):
                self.address = found[0]
                break
        assert self.address, self.process.stderr and self.process.stderr.read()

    def stop(self) -> str:
        self.process.send_signal(signal.SIGINT)
        out, error = self.process.communicate(timeout=WAIT_S)
        assert (self.process.returncode, error) == (0, "")
        return out


class Page:
    """What a listener sees and does."""

    def __init__(self, driver: object, study: Study) -> None:
        self.driver, self.study = driver, study

    def wait(self, css: str, enabled: bool = True):
        from selenium.webdriver.common.by import By
        from selenium.webdriver.support.ui import WebDriverWait

        def found(driver):
            ones = driver.find_elements(By.CSS_SELECTOR, css)
            return ones[0] if ones and (not enabled or ones[0].is_enabled()) else False

        return WebDriverWait(self.driver, WAIT_S, poll_frequency=0.02).until(found, css)

    def click(self, css: str) -> None:
        self.driver.execute_script("arguments[0].click()", self.wait(css))

    def heading(self) -> str:
        return self.wait("h1", enabled=False).text

    def next_step(self, act: Callable[[], None]) -> None:
        from selenium.webdriver.support import expected_conditions
        from selenium.webdriver.support.ui import WebDriverWait

        before = self.wait("h1", enabled=False)
        act()
        gone = expected_conditions.staleness_of(before)
        WebDriverWait(self.driver, WAIT_S, poll_frequency=0.02).until(gone)

    def shot(self, name: str) -> None:
        if not SHOTS:
            return
        heard = self.driver.execute_script("return document.querySelector('h1').innerText")
        assert heard
        for lang in ("es", "en"):
            self.click(f"[data-lang={lang}]")
            self.wait(f"html[lang={lang}]", enabled=False)
            for size, (width, height) in {"phone": (390, 844), "desktop": (1280, 800)}.items():
                metrics = {
                    "width": width, "height": height, "deviceScaleFactor": 1, "mobile": False,
                }  # fmt: skip
                self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
                wide = "return document.documentElement.scrollWidth - window.innerWidth"
                assert self.driver.execute_script(wide) <= 0, f"{name} is wider than a {size}"
                tall = self.driver.execute_script("return document.documentElement.scrollHeight")
                whole = {**metrics, "height": max(height, tall)}
                self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", whole)
                Path(SHOTS).mkdir(parents=True, exist_ok=True)
                self.driver.save_screenshot(str(Path(SHOTS) / f"{name}-{lang}-{size}.png"))
        self.driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})

    def begin(self, name: str, headphones: bool) -> None:
        from selenium.webdriver.support.ui import Select

        start = self.wait("button[type=submit]", enabled=False)
        assert not start.is_enabled(), "begins without consent"
        Select(self.wait("#first")).select_by_value("es")
        self.click("input[value=normal]")
        self.wait("#name").send_keys(name)
        self.shot("1-welcome")
        self.click("#consent")
        self.next_step(lambda: self.click("button[type=submit]"))
        self.shot("2-volume")
        go = self.wait("button.main", enabled=False)
        assert not go.is_enabled(), "the volume is set before anything is heard"
        self.play(1)
        self.next_step(lambda: self.click("button.main"))
        self.click(f"input[value={'headphones' if headphones else 'speakers'}]")
        self.shot("3-device")
        self.next_step(lambda: self.click("button[type=submit]"))
        if headphones:
            self.shot("4-tones")
            self.next_step(lambda: self.click("button.second"))
        self.shot("5-intro")
        self.next_step(lambda: self.click("button.main"))

    def play(self, times: int) -> None:
        """Plays every sound of the page to its end."""
        from selenium.webdriver.common.by import By

        for place in range(len(self.driver.find_elements(By.CSS_SELECTOR, ".player"))):
            for _ in range(times):
                assert self.driver.execute_async_script(PLAY, place), self.complaint()

    def complaint(self) -> str:
        return self.driver.execute_script("return document.querySelector('#status').innerText")

    def rate(self, value: int, times: int) -> None:
        inputs = "form fieldset input"
        assert not self.wait(inputs, enabled=False).is_enabled(), "answers before it was heard"
        self.play(times)
        self.click(f"{inputs}[value='{value}']")
        self.next_step(lambda: self.click("button[type=submit]"))

    def take(self, listener: int, answer: Callable[[Trial], int], times: int) -> None:
        plan = trials(self.study, listener)
        for position, trial in enumerate(plan):
            if self.heading() in ("Now the test begins", "Ahora empieza la prueba"):
                self.shot("7-counts")
                self.next_step(lambda: self.click("button.main"))
            shown = self.wait(".progress span", enabled=False).text
            assert str(position + 1) in shown and str(len(plan)) in shown
            if position == 0:
                self.shot("6-practice")
            if trial.kind == "trap":
                self.shot("8-trap")
            self.rate(answer(trial), times)


def test_three_listeners_one_of_them_careless(browser, tmp_path: Path) -> None:
    items = ["s1", "s2", "s3"]
    for seed, name in enumerate(("fine", "poor")):
        sounds(tmp_path / name, items, 50 * seed, 0.3)
    served = Served("start", f"fine={tmp_path / 'fine'}", f"poor={tmp_path / 'poor'}",
                    "--out", str(tmp_path / "study"), "--repeats", "1", "--traps", "1",
                    "--golds", "1",
                    "--title", "<b>Voces</b> & más")  # fmt: skip
    study = load(tmp_path / "study")
    page = Page(browser, study)

    def careful(shift: int) -> Callable[[Trial], int]:
        def answer(trial: Trial) -> int:
            if trial.kind == "trap":
                return int(trial.expected or 0)
            if GOLD in trial.conditions:
                return 1
            return {"fine": 5, "poor": 3}[trial.conditions[0]] - shift

        return answer

    browser.get(served.address)
    page.begin("Ana <script>alert(1)</script>", headphones=True)
    page.take(0, careful(0), times=2)
    page.wait("#comment").send_keys("Muy bien <img src=x onerror=alert(1)>")
    page.shot("9-thanks")
    page.next_step(lambda: page.click("button[type=submit]"))
    page.next_step(lambda: page.click("button.second"))

    # The second one closes the tab half-way, and goes on where it was.
    page.begin("", headphones=False)
    plan = trials(study, 1)
    for trial in plan[:4]:
        if page.heading() in ("Now the test begins", "Ahora empieza la prueba"):
            page.next_step(lambda: page.click("button.main"))
        page.rate(careful(1)(trial), times=2)
    browser.switch_to.new_window("tab")
    browser.switch_to.window(browser.window_handles[0])
    browser.close()
    browser.switch_to.window(browser.window_handles[0])
    browser.get(served.address)
    for position, trial in enumerate(plan[4:], 4):
        assert str(position + 1) in page.wait(".progress span", enabled=False).text
        page.rate(careful(1)(trial), times=2)
    page.next_step(lambda: page.click("button.second"))

    page.begin("prisa", headphones=False)
    page.take(2, lambda trial: 5, times=1)
    assert page.heading() in ("Thank you!", "¡Gracias!")
    errors = [one for one in browser.get_log("browser") if one["level"] == "SEVERE"]
    assert errors == []
    assert "listen results" in served.stop()

    command = [sys.executable, "-m", "vozmetro", "listen", "results", str(tmp_path / "study"),
               "--comments", "--lang", "en"]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "Muy bien <img src=x onerror=alert(1)>" in done.stdout
    record = listening_records.load(tmp_path / "study")
    assert (record.kept, record.screened) == (2, 1)
    reasons = {reason.code for reason in record.listeners[2].reasons}
    assert {"listen.screen_traps", "listen.screen_gold"} <= reasons
    found = {score.name: (score.value, score.ratings) for score in record.systems}
    # Items s1 to s3, one of them set aside: two ratings each of 5 and 4, and of 3 and 2.
    assert found == {"fine": (4.5, 4), "poor": (2.5, 4)}
    assert [one.tones_right for one in record.listeners] == [None] * 3
    assert [one.device for one in record.listeners] == ["headphones", "speakers", "speakers"]


def test_a_comparison_by_keyboard_alone(browser, tmp_path: Path) -> None:
    """P listens, a digit answers, Enter goes on: no mouse from the practice to the end."""
    from selenium.webdriver.common.keys import Keys

    for seed, name in enumerate(("fine", "poor")):
        sounds(tmp_path / name, ["s1"], 50 * seed, 0.2)
    served = Served("start", f"fine={tmp_path / 'fine'}", f"poor={tmp_path / 'poor'}",
                    "--method", "ccr", "--scale", "quality", "--scale", "empathy",
                    "--out", str(tmp_path / "study"), "--golds", "0", "--traps", "1",
                    "--repeats", "0")  # fmt: skip
    page = Page(browser, load(tmp_path / "study"))
    browser.get(served.address)
    page.begin("", headphones=False)

    def press(*keys: str) -> None:
        browser.switch_to.active_element.send_keys(*keys)

    for position, trial in enumerate(trials(page.study, 0)):
        if position == 1:
            page.next_step(lambda: press(Keys.TAB, Keys.ENTER))
        page.wait(".progress span", enabled=False)
        for heard in (1, 2):
            press("p")
            page.wait(f".player:nth-of-type({heard}).heard button")
        page.shot("ccr")
        answer = str(4 - (trial.expected or 1))
        press(answer)
        press(answer)
        page.next_step(lambda: press(Keys.ENTER))
    assert page.heading() in ("Thank you!", "¡Gracias!")
    served.stop()
    from vozmetro.quality.listen.store import Store
    from vozmetro.quality.listen.study import digest

    store = Store(tmp_path / "study", digest(page.study))
    given = [one.values for one in store.answered()]
    store.close()
    wanted = [trial.expected or 1 for trial in trials(page.study, 0)]
    assert given == [{"quality": [value], "empathy": [value]} for value in wanted]


def test_mushra_on_the_page(browser, tmp_path: Path) -> None:
    for seed, name in enumerate(("fine", "poor", "original")):
        sounds(tmp_path / name, ["s1"], 50 * seed, 0.2)
    served = Served("start", f"fine={tmp_path / 'fine'}", f"poor={tmp_path / 'poor'}",
                    "--method", "mushra", "--reference", str(tmp_path / "original"),
                    "--out", str(tmp_path / "study"), "--repeats", "0")  # fmt: skip
    page = Page(browser, load(tmp_path / "study"))
    browser.get(served.address)
    page.begin("", headphones=False)
    marks = {"fine": 80, "poor": 50, "reference": 100, "anchor-3.5k": 10, "anchor-7k": 40}
    slide = (
        "const [input, value] = arguments; input.value = value;"
        "input.dispatchEvent(new Event('input', {bubbles: true}))"
    )
    for position, trial in enumerate(trials(page.study, 0)):
        if position == 1:
            page.next_step(lambda: page.click("button.main"))
        page.wait(".stimulus", enabled=False)
        page.play(1)
        for place, name in enumerate(trial.conditions, 1):
            next_button = page.wait("button[type=submit]", enabled=False)
            assert not next_button.is_enabled(), "goes on before every slider was moved"
            # The words above the sliders are the set's first div.
            slider = page.wait(f".stimulus:nth-of-type({place + 1}) input")
            browser.execute_script(slide, slider, str(marks[name]))
        page.shot("mushra")
        page.next_step(lambda: page.click("button[type=submit]"))
    served.stop()
    from vozmetro.quality.listen.results import read

    record, _ = read(tmp_path / "study")
    assert record.kept == 1
    assert {one.name: one.value for one in record.systems} == marks
