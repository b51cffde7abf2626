"""The HTML report in a real browser: phone and desktop, languages, themes, keyboard, paper."""

from __future__ import annotations

import base64
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from quality_factory import make_study
from run_factory import make_comparison, make_run
from test_html_report import content, hostile_run, make_roofline

from vozmetro.report.html.page import render
from vozmetro.report.quality_judged import Beside

pytest.importorskip("jinja2")
pytest.importorskip("matplotlib")

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not (CHROMIUM and DRIVER), reason="needs chromium and chromedriver (apt: chromium-driver)"
    ),
]
SHOTS = os.environ.get("REPORT_SHOTS")
"""A folder for screenshots in both languages, themes and widths; none are taken without it."""
WIDTHS = {"phone": (390, 844), "desktop": (1280, 900)}


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = str(CHROMIUM)
    for word in (
        "--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-quic",
        "--disable-background-networking", "--disable-component-update", "--disable-sync",
        "--disable-dev-shm-usage", "--no-proxy-server", "--force-prefers-reduced-motion",
        f"--user-data-dir={tmp_path_factory.mktemp('profile')}",
    ):  # fmt: skip
        options.add_argument(word)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(str(DRIVER)))
    driver.set_script_timeout(120)
    yield driver
    driver.quit()


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Three reports: of one run, of everything, and of one whose names attack."""
    folder = tmp_path_factory.mktemp("pages")
    study = make_study(
        {
            "whisper-tiny": {
                "clean": ["uno dos", "cinco seis", "diez"],
                "ssn@10": ["uno", "seis", "diez"],
                "ssn@0": ["a", "b", "c"],
            }
        }
    )
    cascade = make_run("whisper-base-onnx-int8@context=3.0+piper-joe-onnx", "cascade", seed=5)
    hostile = hostile_run()
    made = {
        "single": content([make_run(rounds=30, slope=0.1)], records=["run.json"]),
        "many": content(
            [cascade], [make_comparison()], Beside.of([study]), rooflines=[make_roofline()],
            records=["run.json", "../a/comparison.json"],
        ),
        "hostile": content(
            [hostile], [make_comparison(hostile, make_run("b", lengths=(1.0, 2.0), rounds=6))],
            records=["javascript:alert(1)"],
        ),
    }  # fmt: skip
    for name, found in made.items():
        (folder / f"{name}.html").write_text(render(found, "es"), encoding="utf-8")
    return {name: folder / f"{name}.html" for name in made}


class Reader:
    """What somebody with the page open sees and does."""

    def __init__(self, driver: Any, path: Path) -> None:
        self.driver, self.path = driver, path
        self.size("desktop")
        driver.get(path.as_uri())
        driver.execute_script("localStorage.clear()")
        driver.get_log("browser")
        driver.get_log("performance")
        driver.get(path.as_uri())

    def size(self, name: str, height: int | None = None) -> None:
        width, usual = WIDTHS[name]
        metrics = {"width": width, "height": height or usual, "deviceScaleFactor": 1,
                   "mobile": False}  # fmt: skip
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)

    def run(self, script: str, *values: Any) -> Any:
        return self.driver.execute_script(script, *values)

    def click(self, css: str) -> None:
        self.run("document.querySelector(arguments[0]).click()", css)

    def color(self, css: str, what: str = "backgroundColor") -> str:
        return str(self.run(
            "return getComputedStyle(document.querySelector(arguments[0]))[arguments[1]]", css, what
        ))  # fmt: skip

    def shown(self) -> str:
        return str(self.run("return document.body.innerText"))

    def complaints(self) -> list[str]:
        return [one["message"] for one in self.driver.get_log("browser")]

    def requests(self) -> set[str]:
        logged = (json.loads(one["message"])["message"] for one in
                  self.driver.get_log("performance"))  # fmt: skip
        sent = [one["params"]["request"]["url"] for one in logged
                if one["method"] == "Network.requestWillBeSent"]  # fmt: skip
        return {url for url in sent if not url.startswith("data:")}


@pytest.mark.parametrize("name", ["single", "many", "hostile"])
def test_it_fits_phone_and_desktop_in_both_languages_and_themes(
    browser: Any, pages: dict[str, Path], name: str
) -> None:
    reader = Reader(browser, pages[name])
    for size in WIDTHS:
        for lang, themes in (("es", ("light", "dark")), ("en", ("dark", "light"))):
            # Colours change no widths: each language is looked at in one theme, unless for people.
            for theme in themes if SHOTS else themes[:1]:
                reader.size(size)
                reader.click(f"[data-lang={lang}]")
                if reader.run("return document.documentElement.dataset.theme || 'light'") != theme:
                    reader.click(".theme")
                wide = "return document.documentElement.scrollWidth - innerWidth"
                assert reader.run(wide) <= 0, f"{name} is wider than a {size}"
                shoot(reader, f"{name}-{lang}-{theme}-{size}", size)
    assert reader.complaints() == []
    assert reader.requests() == {pages[name].as_uri()}
    assert reader.run("return performance.getEntriesByType('resource').length") == 0


def shoot(reader: Reader, name: str, size: str) -> None:
    if not SHOTS:
        return
    tall = reader.run("return document.documentElement.scrollHeight")
    reader.size(size, tall)
    Path(SHOTS).mkdir(parents=True, exist_ok=True)
    reader.driver.save_screenshot(str(Path(SHOTS) / f"{name}.png"))


def test_the_language_changes_every_word_and_is_remembered(
    browser: Any, pages: dict[str, Path]
) -> None:
    reader = Reader(browser, pages["single"])
    assert "Por qué: cada límite" in reader.shown()
    assert browser.title == "Resultados Benchmark: whisper-base"
    reader.click("[data-lang=en]")
    assert "Why: every limit" in reader.shown()
    assert "Por qué" not in reader.shown()
    assert browser.title == "Benchmark results: whisper-base"
    # The words in the figures too.
    labels = "return [...document.querySelectorAll('svg text')].filter("
    labels += "one => getComputedStyle(one).display !== 'none').map(one => one.textContent)"
    assert "Cumulative fraction" in reader.run(labels)
    assert "Fracción acumulada" not in reader.run(labels)
    assert reader.run("return document.querySelector('[data-lang=en]').ariaPressed") == "true"
    browser.refresh()
    assert reader.run("return document.documentElement.lang") == "en"
    reader.click("[data-lang=es]")
    assert "Why: every limit" not in reader.shown()


def test_the_theme_follows_the_system_until_somebody_chooses(
    browser: Any, pages: dict[str, Path]
) -> None:
    reader = Reader(browser, pages["single"])

    def system(scheme: str) -> None:
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})

    grounds = {}
    for scheme in ("light", "dark"):
        system(scheme)
        grounds[scheme] = reader.color("body")
        pressed = reader.run("return document.querySelector('.theme').ariaPressed")
        assert pressed == str(scheme == "dark").lower()
    assert grounds["light"] != grounds["dark"]
    reader.click(".theme")
    assert reader.color("body") == grounds["light"]
    browser.refresh()
    assert reader.color("body") == grounds["light"], "a choice is remembered"
    # Figures are drawn in the theme's colours.
    light = reader.color("svg text", "fill")
    reader.click(".theme")
    assert reader.color("svg text", "fill") != light
    system("light")
    reader.run("localStorage.clear()")


def test_hostile_names_do_nothing(browser: Any, pages: dict[str, Path]) -> None:
    reader = Reader(browser, pages["hostile"])
    assert "<script>alert(1)</script>" in reader.shown()
    assert reader.run("return document.scripts.length") == 1
    assert reader.run("return document.querySelectorAll('[onload]').length") == 0
    link = "return [...document.links].map(one => new URL(one.href).protocol)"
    assert set(reader.run(link)) == {"file:"}
    # The policy holds where escaping would not: what is put in afterwards does not run either.
    reader.run("document.body.insertAdjacentHTML('beforeend', '<img src=x onerror=\"document."
               "title=1\">')")  # fmt: skip
    assert any("Content Security Policy" in one for one in reader.complaints())
    assert browser.title != "1"


def test_everything_is_reached_by_keyboard(browser: Any, pages: dict[str, Path]) -> None:
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.keys import Keys

    reader = Reader(browser, pages["single"])

    def press(key: str) -> None:
        ActionChains(browser).send_keys(key).perform()

    active = "const one = document.activeElement; return one.className || one.textContent"
    press(Keys.TAB)
    assert reader.run(active) == "skip"
    box = reader.run("return document.activeElement.getBoundingClientRect().toJSON()")
    assert box["left"] >= 0, "the skip link is seen once it has the focus"
    seen = []
    for _ in range(60):
        press(Keys.TAB)
        seen.append(reader.run("return document.activeElement.tagName"))
        ring = reader.run("return getComputedStyle(document.activeElement).outlineStyle")
        assert seen[-1] == "BODY" or ring != "none", "the focus is seen"
        if seen[-1] == "BODY":
            break
    wanted = "return document.querySelectorAll(arguments[0]).length"
    assert seen.count("BUTTON") == reader.run(wanted, "button") == 3
    assert seen.count("SUMMARY") == reader.run(wanted, "summary")
    assert seen.count("A") == reader.run(wanted, "main a")
    # A fold opens with the space bar.
    reader.run("document.querySelector('.fold > summary').focus()")
    press(Keys.SPACE)
    assert reader.run("return document.querySelector('.fold').open") is True
    reader.run("document.querySelector('.skip').focus()")
    press(Keys.ENTER)
    assert reader.run("return document.activeElement.id") == "main"


def test_a_link_opens_what_it_leads_to(browser: Any, pages: dict[str, Path]) -> None:
    reader = Reader(browser, pages["many"])
    folded = "return !document.querySelector('#s3 > details').open"
    assert reader.run(folded), "of three subjects only the first is open"
    reader.click("#overview a[href='#s3']")
    from selenium.webdriver.support.ui import WebDriverWait

    WebDriverWait(browser, 20).until(lambda _: not reader.run(folded))


@pytest.mark.parametrize(
    ("name", "theme", "size"), [("single", "light", "phone"), ("many", "dark", "desktop")]
)
def test_axe_finds_nothing(
    browser: Any, pages: dict[str, Path], name: str, theme: str, size: str
) -> None:
    axe = pytest.importorskip("axe_core_python.selenium")
    reader = Reader(browser, pages[name])
    reader.size(size)
    reader.run("document.documentElement.dataset.theme = arguments[0]", theme)
    reader.run("for (const one of document.querySelectorAll('details')) one.open = true")
    found = axe.Axe().run(browser)
    assert len(found["passes"]) > 20
    assert [(one["id"], one["nodes"][0]["html"][:200]) for one in found["violations"]] == []


def test_without_scripts_it_is_whole_in_the_language_asked_for(
    browser: Any, pages: dict[str, Path]
) -> None:
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        browser.get(pages["single"].as_uri())
        browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})
        reader_text = browser.execute_script("return document.body.innerText")
        assert "Por qué: cada límite" in reader_text
        assert "Why: every limit" not in reader_text
        # Buttons that would do nothing are not shown.
        assert "English" not in reader_text
    finally:
        browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})


def test_paper_is_light_whole_and_without_buttons(browser: Any, pages: dict[str, Path]) -> None:
    reader = Reader(browser, pages["many"])
    reader.click("[data-lang=en]")
    reader.run("document.documentElement.dataset.theme = 'dark'")
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    try:
        ink = reader.color("body", "color")
        assert sum(map(int, ink[4:-1].split(","))) < 200, "dark words on white paper"
        assert reader.color(".tools", "display") == "none"
        # Folds are open on paper, whether a script ran or not.
        hidden = "return [...document.querySelectorAll('.fold table')].filter("
        hidden += "one => one.getBoundingClientRect().height < 10).length"
        assert reader.run(hidden) == 0
        found = browser.execute_cdp_cmd("Page.printToPDF", {"printBackground": False})
    finally:
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})
    data = base64.b64decode(found["data"])
    assert data.startswith(b"%PDF")
    if SHOTS:
        (Path(SHOTS) / "many.pdf").write_bytes(data)
