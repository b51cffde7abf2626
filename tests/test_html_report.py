"""The HTML report: whole, small, the same for the same input, and harmless whatever it is of."""

from __future__ import annotations

import base64
import builtins
import hashlib
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from html_helpers import Page, check_languages, check_page
from quality_factory import make_study, make_voices
from run_factory import make_comparison, make_items, make_run

from vozmetro.cli.app import build
from vozmetro.errors import InputError, MissingExtraError
from vozmetro.measure.records import ComparisonRecord, Failure, FileInfo, Note, Run
from vozmetro.measure.roofline_records import Claim, Floor, Machine, Roofline, Step
from vozmetro.measure.storage import save, write_atomic
from vozmetro.report.bundle import gather
from vozmetro.report.html.page import Content, render
from vozmetro.report.html.svg import Drawings
from vozmetro.report.html.text import MOST_CELLS, Text, markup, same, tidy
from vozmetro.report.quality_judged import Beside

pytest.importorskip("jinja2")
pytest.importorskip("matplotlib")

MB = 1_000_000
HOSTILE = (
    "<script>alert(1)</script>]]>--><svg onload=alert(2)>\"'` "
    "\x00\x1b[31m\u202e\ufffe{{ 7*7 }}{% raw %}$x^{ javascript:alert(3) " + "n" * 10_000
)


def content(
    runs: Sequence[Run] = (),
    comparisons: Sequence[ComparisonRecord] = (),
    beside: Beside | None = None,
    **more: Any,
) -> Content:
    judged, compared, unmeasured = gather(runs, comparisons, beside or Beside())
    return Content(judged, compared, unmeasured, beside=beside or Beside(), **more)


def make_roofline(subject: str = "m.onnx") -> Roofline:
    step = Step(
        name="inference", times=1, bytes=145_000_000, macs={"fp32": 10**9}, memory_ms=7.2,
        compute_ms=4.0, floor_ms=7.2,
    )  # fmt: skip
    floors = [
        Floor(item=f"{length:g} s", length=length, steps=[step], bytes=145_000_000,
              macs={"fp32": 10**9}, floor_ms=7.2 * length, bound=bound, measured_ms=20.0 * length,
              samples=20, ratio=2.8)
        for length, bound in ((1.0, "memory"), (3.0, "compute"))
    ]  # fmt: skip
    claim = Claim(
        bound="memory", subject=subject, precision="FP32", item="1 s", unit="inference",
        floor_ms=7.2, bytes=145_000_000, macs=10**9, bandwidth=2e10, rate=None, threads=4,
    )  # fmt: skip
    machine = Machine(cpu="Intel", threads=4, bandwidth=2e10, bandwidth_median=1.8e10,
                      bandwidths=[2e10, 1.8e10], operations={"fp32": 6e10})  # fmt: skip
    return Roofline(
        id="roof", created="2025-10-29T10:31:00Z", vozmetro="0.1.0", subject=subject,
        precision="FP32", machine=machine, items=floors, claim=claim,
    )  # fmt: skip


@pytest.fixture(scope="module")
def single() -> Page:
    """The report of one run of 1,000 samples, opened in Spanish."""
    run = make_run(rounds=200, slope=0.1, text="Buenos días, ¿qué tal?")
    return Page(render(content([run], records=["run.json"]), "es"))


@pytest.fixture(scope="module")
def many() -> Page:
    """The report of everything that goes into one: runs, a pair, a cascade, words, voices..."""
    record = make_comparison()
    cascade = make_run("whisper+piper", "cascade", seed=5)
    lost = make_run("roto", samples=[], sessions=[], status="failed",
                    failure=Failure(code="file_missing", fields={"path": "m.onnx"}))  # fmt: skip
    study = make_study(
        {
            "whisper-tiny": {
                "clean": ["uno dos", "cinco seis", "diez"],
                "ssn@10": ["uno", "seis", "diez"],
                "ssn@0": ["a", "b", "c"],
            },
        },
    )
    beside = Beside.of([study, make_voices()])
    found = content(
        [cascade, lost], [record], beside, rooflines=[make_roofline()],
        records=["a/run.json", "../pair 1/comparison.json"],
    )  # fmt: skip
    return Page(render(found, "en"))


def titles(page: Page, lang: str) -> list[str]:
    return [" ".join(one.text(lang).split()) for one in page.root.all("h2")]


def test_a_run_is_told_verdict_first_then_why(single: Page) -> None:
    check_page(single)
    assert titles(single, "en") == [
        "Decision", "Why: every limit", "Latency distribution", "Latency against audio length",
        "Inferences over time", "RAM by phase", "Start-up, steady state and idling", "Quality",
        "Environment", "Model and method", "Validation checklist", "Data",
    ]  # fmt: skip
    assert len(single.root.all("svg")) == 4
    words = single.text("en")
    assert words.index("VIABLE") < words.index("95 % CI")
    assert "Verdict with 95 % confidence" in words


def test_everything_has_its_section(many: Page) -> None:
    check_page(many)
    found = titles(many, "es")
    assert found[:2] == ["De un vistazo", "whisper+piper"]
    assert {"whisper-tiny", "whisper-base", "Resultados Benchmark: roto"} <= set(found)
    assert found.count("Calidad con voz real") == 2
    assert any(one.startswith("Roofline") for one in found)
    parts = [one.text("es").strip() for one in many.root.all("h3")]
    assert parts.count("A dónde va el tiempo de un turno") == 1
    assert "Comparación vs whisper-base" in parts
    words = many.text("es")
    assert "Está en la sección de whisper-tiny" in words
    assert "No existe el archivo m.onnx" in words
    links = [one.attrs["href"] for one in many.root.all("a")]
    assert links[-2:] == ["a/run.json", "../pair%201/comparison.json"]


@pytest.mark.parametrize("name", ["single", "many"])
def test_both_languages_are_whole(name: str, request: pytest.FixtureRequest) -> None:
    page: Page = request.getfixturevalue(name)
    check_languages(page)
    spanish, english = page.text("es"), page.text("en")
    for word in ("Por qué: cada límite", "Checklist de Validación", "Latencia P50"):
        assert word in spanish
        assert word not in english
    for word in ("Why: every limit", "Validation checklist", "P50 latency"):
        assert word in english
        assert word not in spanish


def test_the_language_asked_for_is_the_one_it_opens_in(single: Page, many: Page) -> None:
    for page, lang, title in (
        (single, "es", "Resultados Benchmark: whisper-base"),
        (many, "en", "Benchmark results"),
    ):
        assert page.root.all("html")[0].attrs["lang"] == lang
        assert page.root.all("title")[0].inner == [title]
        assert set(page.root.all("title")[0].attrs) == {"data-es", "data-en"}
        pressed = [one.attrs["data-lang"] for one in page.root.all("button")
                   if one.attrs["aria-pressed"] == "true"]  # fmt: skip
        assert pressed == [lang]


def test_a_thousand_samples_are_less_than_a_megabyte(single: Page) -> None:
    assert len(single.source.encode()) < MB / 3


@pytest.mark.slow
def test_a_thousand_clips_are_less_than_a_megabyte() -> None:
    lengths = tuple(0.5 + 0.01 * index for index in range(1000))
    run = make_run(rounds=1, lengths=lengths, text="una frase larga de verdad " * 5)
    source = render(content([run]), "es")
    assert len(source.encode()) < MB
    page = Page(source)
    assert "… y 800 más, en los datos." in page.text("es")


def test_many_marks_become_pixels() -> None:
    run = make_run(rounds=900, lengths=(1.0, 2.0, 3.0, 4.0, 5.0))
    source = render(content([run]), "es")
    assert source.count("data:image/png;base64,") == 2
    assert len(source.encode()) < MB
    check_page(Page(source))


def test_equal_input_gives_equal_bytes() -> None:
    found = content([make_run(rounds=6)], rooflines=[make_roofline()])
    assert render(found, "es") == render(found, "es")


def test_nothing_but_its_own_style_and_script_may_run(single: Page) -> None:
    policy = next(
        one.attrs["content"] for one in single.root.all("meta")
        if one.attrs.get("http-equiv") == "Content-Security-Policy"
    )  # fmt: skip
    rules = dict(rule.split(" ", 1) for rule in policy.split("; "))
    assert rules["default-src"] == "'none'"
    for tag in ("style", "script"):
        (text,) = re.findall(rf"<{tag}>(.*?)</{tag}>", single.source, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert rules[f"{tag}-src"] == f"'sha256-{digest}'"
    assert "unsafe" not in policy
    assert not re.search(r"https?:|@import|//\w+\.", single.source)


def hostile_run(**changes: Any) -> Run:
    items = [
        one.model_copy(update={"id": f"{at}{HOSTILE}", "text": HOSTILE, "output": HOSTILE})
        for at, one in enumerate(make_items((1.0, 2.0)))
    ]
    run = make_run(
        HOSTILE, rounds=6, lengths=(1.0, 2.0),
        files=[FileInfo(path=HOSTILE, bytes=1, sha256=HOSTILE)],
        notes=[Note(code="corpus_skipped", fields={"path": HOSTILE}),
               Note(code=HOSTILE, fields={HOSTILE: HOSTILE})],
        status="failed", failure=Failure(code=HOSTILE), **changes,
    )  # fmt: skip
    samples = [
        one.model_copy(update={"item": items[number % 2].id})
        for number, one in enumerate(run.samples)
    ]
    machine = run.environment.model_copy(
        update={"cpu": HOSTILE, "os": HOSTILE, "versions": {HOSTILE: HOSTILE}}
    )
    settings = run.settings.model_copy(update={"command": [HOSTILE]})
    return run.model_copy(
        update={"items": items, "samples": samples, "environment": machine, "settings": settings}
    )


def test_hostile_names_are_words_and_nothing_else() -> None:
    run = hostile_run()
    other = make_run("b", lengths=(1.0, 2.0), rounds=6)
    study = make_study({HOSTILE: {"clean": (HOSTILE,) * 3, "ssn@10": (HOSTILE,) * 3}})
    found = content(
        [run], [make_comparison(run, other)], Beside.of([study]),
        rooflines=[make_roofline(HOSTILE)],
        records=["javascript:alert(1)", f"../{HOSTILE}/run.json"],
    )  # fmt: skip
    source = render(found, "es")
    page = Page(source)
    check_page(page)
    check_languages(page)
    assert [one.tag for one in page.root.all("script")] == ["script"]
    assert "<script>alert" not in source
    assert not set("\x00\x1b\u202e\ufffe") & set(source)
    assert "{{ 7*7 }}" in page.text("es")
    assert not [a for a in page.root.all("a") if a.attrs["href"].lower().startswith("javascript:")]
    # Ten thousand letters are cut wherever they stand, but for the address of a record.
    assert max(map(len, re.findall("n+", page.text()))) < 700
    assert len(source.encode()) < MB


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("<b>&\"'", "&lt;b&gt;&amp;&quot;&#x27;"),
        ("a `b <c>` d", "a <code>b &lt;c&gt;</code> d"),
        ("one\n- two", "one<br>• two"),
        ("\u202eabc\x07", "\ufffdabc\ufffd"),
        ("` `` <i>", "` `` &lt;i&gt;"),
    ],
)
def test_markup(text: str, shown: str) -> None:
    assert markup(text) == shown


def test_words_stand_once_where_both_languages_agree() -> None:
    assert same("P50").__html__() == "P50"
    assert Text("sí", "yes").__html__() == (
        '<span class="es" lang="es">sí</span><span class="en" lang="en">yes</span>'
    )
    assert len(tidy("x" * 5_000_000)) == MOST_CELLS


def drawn(make: Callable[[Any], bytes | None]) -> tuple[str, str]:
    drawings = Drawings()
    found = drawings.draw(make)
    assert found is not None
    return found[1], drawings.css()


def test_figures_take_their_colours_from_the_theme(single: Page) -> None:
    css = "".join(str(one) for one in single.root.all("style")[0].inner)
    rules = [line for line in css.splitlines() if re.match(r"\.p\d+\{", line)]
    assert len(rules) > 10
    assert not [rule for rule in rules if re.search(r"(fill|stroke):#", rule)]
    used = set(re.findall(r"var\((--p-[a-z]+)\)", css))
    for theme in re.findall(r"color-scheme: (?:light|dark);(.*?)\}", css, re.DOTALL):
        assert used <= set(re.findall(r"(--p-[a-z]+):", theme))
    # No style attribute: the policy would refuse it.
    assert " style=" not in single.source


def test_figures_can_be_told_apart_without_colours() -> None:
    from vozmetro.judge.decision import judge
    from vozmetro.judge.statistics import summarize_run
    from vozmetro.report import bars, plots

    run = make_run("a+b", "cascade")
    summary, decision = summarize_run(run), judge(run)
    _, css = drawn(lambda canvas: plots.latency_distribution(run, summary, decision, canvas))
    assert len(set(re.findall(r"stroke-dasharray:([^;}]+)", css))) >= 2
    svg, css = drawn(lambda canvas: bars.turn_waterfall(run, summary, decision, canvas))
    assert "<pattern" in svg
    assert set(re.findall(r"url\(#([^)]+)\)", css)) <= set(re.findall(r'id="([^"]+)"', svg))


def test_the_turn_bars_hold_the_parts_of_the_records() -> None:
    from vozmetro.judge.decision import judge
    from vozmetro.judge.statistics import summarize_run
    from vozmetro.report import bars
    from vozmetro.report.canvas import Canvas

    run = make_run("a+b", "cascade", lengths=(1.0, 2.0))
    parts = {"endpoint": 200.0, "stt": 100.0, "reply": 20.0, "tts_first_audio": 50.0}
    samples = [one.model_copy(update={"parts": parts}) for one in run.samples]
    run = run.model_copy(update={"samples": samples})
    seen: list[tuple[float, float]] = []

    class Spy(Canvas):
        def finish(self, figure: Any) -> bytes:
            bars_drawn = [one for one in figure.axes[0].patches if one.get_width()]
            seen.extend((one.get_x(), one.get_width()) for one in bars_drawn)
            return b""

    bars.turn_waterfall(run, summarize_run(run), judge(run), Spy("es"))
    # The P50 of each part, and the last turn of each of two clips: three bars of four parts.
    wanted = [(-200.0, 200.0), (0.0, 100.0), (100.0, 20.0), (120.0, 50.0)]
    assert sorted(seen) == sorted(wanted * 3)


def test_what_is_no_cascade_has_no_turns(single: Page) -> None:
    assert "A dónde va el tiempo" not in single.text("es")


def test_without_matplotlib_the_numbers_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    hide(monkeypatch, "matplotlib")
    page = Page(render(content([make_run(slope=0.1)]), "es"))
    check_page(page)
    assert page.root.all("svg") == []
    assert "pip install 'vozmetro[html]'" in page.text("es")
    assert "Percentiles de 120 inferencias" in page.text("es")


def hide(monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    real = builtins.__import__

    def without(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.partition(".")[0] == package:
            raise ModuleNotFoundError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)


def call(*words: str | Path) -> Any:
    return CliRunner().invoke(build("en"), ["report", *map(str, words)], standalone_mode=False)


def test_the_page_lies_beside_the_report(tmp_path: Path) -> None:
    save(make_run(rounds=6), tmp_path / "run.json")
    done = call(tmp_path, "--html")
    assert (done.exception, done.return_value) == (None, 0)
    assert done.output.count("Report: ") == 2
    page = Page((tmp_path / "report.html").read_text(encoding="utf-8"))
    assert page.root.all("html")[0].attrs["lang"] == "en"
    assert [a.attrs["href"] for a in page.root.all("a")][-1] == "run.json"
    assert not list(tmp_path.glob(".*"))


def test_the_page_goes_where_it_is_told_and_still_finds_its_data(tmp_path: Path) -> None:
    save(make_run(rounds=6), tmp_path / "runs" / "run.json")
    target = tmp_path / "pages" / "mine.html"
    assert call(tmp_path / "runs", f"--html={target}").return_value == 0
    page = Page(target.read_text(encoding="utf-8"))
    link = [a.attrs["href"] for a in page.root.all("a")][-1]
    assert (target.parent / link).resolve() == (tmp_path / "runs" / "run.json").resolve()
    # What the guide claims of Whisper is held against it; what nothing speaks to is left out.
    assert "not tested" not in page.text("en")


def test_the_demo_writes_it_with_the_claims_that_it_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vozmetro.cli.report import write_beside

    run = make_run("whisper-base+piper-joe", "cascade", median_ms=900.0, rounds=24)
    save(run, tmp_path / "cascade" / "run.json")
    assert write_beside(tmp_path, [run], [], "es") == tmp_path / "report.html"
    page = Page((tmp_path / "report.html").read_text(encoding="utf-8"))
    assert "Whisper + Piper garantiza <200 ms" in page.text("es")
    assert "✘ refutada" in page.text("es")
    hide(monkeypatch, "jinja2")
    assert write_beside(tmp_path, [run], [], "es") is None


def test_a_folder_is_no_name_of_a_page(tmp_path: Path) -> None:
    save(make_run(rounds=6), tmp_path / "run.json")
    done = call(tmp_path, "--html", tmp_path)
    assert isinstance(done.exception, InputError)
    assert done.exception.code == "report_html_name"
    assert "--html=FILE.html" in done.exception.message("en")
    assert {file.name for file in tmp_path.iterdir()} == {"run.json"}


def test_floors_are_shown_on_the_page_alone(tmp_path: Path) -> None:
    write_atomic(tmp_path / "roofline.json", make_roofline().model_dump_json().encode())
    done = call(tmp_path)
    assert isinstance(done.exception, InputError)
    assert done.exception.code == "report_roofline_alone"
    assert call(tmp_path, "--html").return_value == 0
    page = Page((tmp_path / "report.html").read_text(encoding="utf-8"))
    check_page(page)
    assert page.root.all("title")[0].inner == ["Roofline: the floor of m.onnx (FP32)"]
    assert not (tmp_path / "report.md").exists()


def test_without_jinja2_the_command_to_install_it_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(make_run(rounds=6), tmp_path / "run.json")
    hide(monkeypatch, "jinja2")
    done = call(tmp_path, "--html")
    assert isinstance(done.exception, MissingExtraError)
    assert "vozmetro[html]" in done.exception.message("en")
    assert {file.name for file in tmp_path.iterdir()} == {"run.json"}
