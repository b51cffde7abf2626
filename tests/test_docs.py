"""The documents say what the program does: commands, options, notes, records, examples, links."""

from __future__ import annotations

import contextlib
import io
import re
import shlex
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

import click
import onnx_zoo
import pytest
from pydantic import BaseModel

from vozmetro.cli.app import build
from vozmetro.cli.measure import EXIT_CODES
from vozmetro.cli.run import INTERRUPTED
from vozmetro.engines import registry
from vozmetro.i18n import catalogue
from vozmetro.judge.budget import QUALITY_METRICS, Budget
from vozmetro.measure import (
    depth_records,
    graph_inputs,
    listening_records,
    quality_records,
    records,
    roofline_records,
    swap_records,
)
from vozmetro.measure.depths import DEPTHS
from vozmetro.measure.workload import NEW_TOKENS, PROMPT_TOKENS
from vozmetro.models import architectures, profile, receipt
from vozmetro.models.catalogue import catalogue as models
from vozmetro.models.dummy_name import PRECISIONS, is_dummy
from vozmetro.models.resolve import split_options
from vozmetro.prepare import records as prepare_records

ROOT = Path(__file__).parents[1]
READMES = ("README.md", "README.es.md")
PAIRS = (
    READMES,
    ("docs/measuring.md", "docs/medicion.md"),
    ("docs/verdict.md", "docs/veredicto.md"),
    ("docs/models.md", "docs/modelos.md"),
)
DOCUMENTS = (
    *(name for pair in PAIRS for name in pair),
    "docs/run-schema.md",
    "docs/first-audio.md",
    "docs/html-report.md",
    "docs/pipeline.md",
    "docs/realtime.md",
    "docs/fleet.md",
    "docs/scale.md",
    "docs/serving.md",
    "docs/tiers.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    "CHANGELOG.md",
)
# What the maintainers' tools take, not vozmetro.
FOREIGN_OPTIONS = {"--check", "--head", "--labels", "--resources"}
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
OPTION = re.compile(r"(?<![\w-])--[a-z][a-z0-9-]*")
SCRIPTS = ("guide", "convert", "quantize")
"""Modules of the command line that `scripts/` call as well."""
NAMED = re.compile(r"\bvozmetro ([a-z]+(?: [a-z]+)*)")
"""The words of a command, up to the first that is no plain word."""


@dataclass(frozen=True)
class Block:
    """A fenced code block: its language and what is in it."""

    language: str
    text: str


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def blocks(name: str) -> list[Block]:
    return [Block(found[1], found[2]) for found in FENCE.finditer(read(name))]


def prose(name: str) -> str:
    """The document without its code blocks."""
    return FENCE.sub("", read(name))


def headings(name: str) -> list[tuple[int, str]]:
    found = re.finditer(r"^(#+) (.+)$", prose(name), re.MULTILINE)
    return [(len(one[1]), one[2]) for one in found]


def section(name: str, title: str) -> str:
    """What stands under a heading of the second level."""
    found = re.search(rf"^## {re.escape(title)}\n(.*?)(?=^## |\Z)", read(name), re.M | re.S)
    assert found is not None, f"{name} has no section {title}"
    return found[1]


def rows(text: str) -> list[str]:
    """First cells of the tables in a text that are one piece of code."""
    return re.findall(r"^\| `([^`]+)` \|", text, re.MULTILINE)


def group() -> click.Group:
    return build("en")


def options_of(command: click.Command) -> set[str]:
    named = {name for param in command.params for name in param.opts if name.startswith("--")}
    return named | {"--help"}


def leaves(of: click.Group | None = None, before: str = "") -> dict[str, click.Command]:
    """The commands that do something, by the words that call them: `bench`, `models fetch`."""
    found: dict[str, click.Command] = {}
    for name, command in (of or group()).commands.items():
        words = f"{before}{name}"
        if isinstance(command, click.Group):
            found |= leaves(command, f"{words} ")
        else:
            found[words] = command
    return found


def groups(of: click.Group | None = None, before: str = "") -> dict[str, click.Group]:
    """The commands that hold others, by the words that call them; the program itself by none."""
    here = of or group()
    found = {before.strip(): here}
    for name, command in here.commands.items():
        if isinstance(command, click.Group):
            found |= groups(command, f"{before}{name} ")
    return found


def called(words: list[str]) -> tuple[str, list[str]]:
    """The command that words call, and the words left for it; fails where there is none."""
    known = leaves()
    for count in range(1, len(words) + 1):
        name = " ".join(words[:count])
        if name in known:
            return name, words[count:]
        assert name in groups(), f"there is no command {name}"
    return " ".join(words), []


def own_options() -> set[str]:
    commands = [*leaves().values(), *groups().values()]
    return set().union(*map(options_of, commands))


def script_options() -> set[str]:
    sources = [ROOT / f"src/vozmetro/cli/{name}.py" for name in SCRIPTS]
    sources += (ROOT / "benchmarks").glob("*.py")
    text = "".join(source.read_text(encoding="utf-8") for source in sources)
    return set(re.findall(r'(?:add_argument|option)\(\s*"(--[a-z0-9-]+)"', text))


def named_in(name: str) -> list[list[str]]:
    """Words after `vozmetro` of each command in running text."""
    code = "\n".join(re.findall(r"`([^`\n]+)`", prose(name)))
    return [words.split() for words in NAMED.findall(code)]


def command_lines(name: str) -> Iterator[list[str]]:
    """Words after `vozmetro` of each command line in the code blocks."""
    for block in blocks(name):
        if block.language not in ("", "bash"):
            continue
        for line in block.text.splitlines():
            found = re.search(r"(?:^|/)vozmetro (.+)$", line)
            if found:
                yield shlex.split(found[1])


@pytest.mark.parametrize("name", READMES)
@pytest.mark.parametrize(
    ("extra", "then"), [("demo", ".venv/bin/vozmetro demo"), ("test", ".venv/bin/pytest -n 2")]
)
def test_the_two_commands_stand_alone_and_once(name: str, extra: str, then: str) -> None:
    command = f"python3 -m venv .venv && .venv/bin/pip install -e '.[{extra}]' && {then}"
    assert read(name).count(command) == 1
    assert [block.text for block in blocks(name) if command in block.text] == [command + "\n"]


def test_ci_finds_the_test_command_in_the_readme() -> None:
    pattern = "pip install -e '.[test]' && .venv/bin/pytest -n 2"
    assert [line for line in read("README.md").splitlines() if pattern in line] == [
        f"python3 -m venv .venv && .venv/bin/{pattern}"
    ]


@pytest.mark.parametrize("name", DOCUMENTS)
def test_commands_that_are_named_exist(name: str) -> None:
    for words in [*named_in(name), *command_lines(name)]:
        called(words)


@pytest.mark.parametrize("name", READMES)
def test_every_command_and_option_is_in_the_readme(name: str) -> None:
    named = {called(words)[0] for words in named_in(name)}
    assert named - set(groups()) == set(leaves())
    assert own_options() - set(OPTION.findall(read(name))) == set()


@pytest.mark.parametrize("name", DOCUMENTS)
def test_options_that_are_named_exist(name: str) -> None:
    named = set(OPTION.findall(read(name)))
    assert named - own_options() - script_options() - FOREIGN_OPTIONS == set()


@pytest.mark.parametrize("name", [*READMES, "docs/models.md", "docs/modelos.md"])
def test_command_lines_parse(name: str) -> None:
    lines = list(command_lines(name))
    assert len(lines) > 5
    for words in lines:
        command, rest = called(words)
        with leaves()[command].make_context(command, rest):
            pass


@pytest.mark.parametrize("name", READMES)
def test_defaults_are_those_of_the_program(name: str) -> None:
    params = {param.name: param for param in group().commands["bench"].params}
    for option, default in (("iterations", "20"), ("until", "`decided`"), ("max_time", "600")):
        row = re.search(rf"^\| `--{option.replace('_', '-')}.*$", read(name), re.MULTILINE)
        assert row is not None
        assert row[0].endswith(f"| {default} |")
        assert params[option].default in (20, "decided", 600.0)
    lists = {"prompt-tokens": PROMPT_TOKENS, "new-tokens": [NEW_TOKENS], "layers": DEPTHS}
    for option, numbers in lists.items():
        row = re.search(rf"^\| `--{option}\b.*$", read(name), re.MULTILINE)
        assert row is not None
        assert row[0].endswith(f"| {','.join(map(str, numbers))} |")


@pytest.mark.parametrize("name", READMES)
def test_exit_codes(name: str) -> None:
    documented = {int(code) for code in re.findall(r"^\| (\d+) \|", read(name), re.MULTILINE)}
    assert documented == {*EXIT_CODES.values(), 2, INTERRUPTED}


@pytest.mark.parametrize("name", READMES)
def test_catalogue_names_in_examples_exist(name: str) -> None:
    cascades = [word for words in command_lines(name) for word in words if "+" in word]
    assert cascades
    for cascade in cascades:
        assert {split_options(part)[0] for part in cascade.split("+")} <= set(models())


@pytest.mark.parametrize("name", DOCUMENTS)
def test_options_behind_names_in_examples_exist(name: str) -> None:
    words = [part for line in command_lines(name) for word in line for part in word.split("+")]
    for bare, options in map(split_options, words):
        if bare in models():
            known = {*registry.find(models()[bare].engine).defaults, profile.OPTION}
            assert {one for one in options if not one.startswith("session.")} <= known


@pytest.mark.parametrize("name", DOCUMENTS)
def test_dummies_in_examples_exist(name: str) -> None:
    given = [word for line in command_lines(name) for word in line if is_dummy(word)]
    given += re.findall(r"`(dummy:[a-z0-9:-]+)`", prose(name))
    for word in given:
        _, architecture, precision = word.split(":")
        assert architecture in architectures.names()
        assert precision in PRECISIONS


@pytest.mark.parametrize("name", ["docs/models.md", "docs/modelos.md"])
def test_architectures_are_all_listed(name: str) -> None:
    assert set(architectures.names()) <= set(rows(read(name)))


@pytest.mark.parametrize("name", READMES)
def test_the_budget_example_holds_the_defaults(name: str) -> None:
    (example,) = [block.text for block in blocks(name) if block.language == "toml"]
    table = tomllib.loads(example)
    shown = Budget.from_mapping(table)
    # Complete: every key that a budget may have is shown; those of quality have no default.
    assert tuple(metric for metric, _ in shown.quality) == QUALITY_METRICS
    assert table.keys() == shown.to_mapping().keys()
    assert table["limits"].keys() == shown.to_mapping()["limits"].keys()
    plain = {key: table["limits"][key] for key in Budget().to_mapping()["limits"]}
    assert Budget.from_mapping({"limits": plain}) == Budget()


def test_the_api_example_runs(tmp_path: Path) -> None:
    onnx_zoo.waveform_model(tmp_path / "model.onnx")
    onnx_zoo.waveform_model(tmp_path / "other.onnx", channels=8)
    python = [block.text for block in blocks("README.md") if block.language == "python"]
    (example,) = [text for text in python if "import vozmetro" in text]
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        exec(compile(example, "README.md", "exec"), {"__name__": "readme"})
    lines = said.getvalue().splitlines()
    assert lines[0].split()[0] in ("pass", "fail", "undecided")
    assert lines[-1] == "pass"
    assert (tmp_path / "runs" / "pair" / "comparison.json").is_file()


@pytest.mark.parametrize("name", ["docs/measuring.md", "docs/medicion.md"])
def test_every_note_is_described(name: str) -> None:
    described = [row for row in rows(read(name)) if row.startswith("notes.")]
    known = [key for key in catalogue("en") if key.startswith("notes.")]
    assert sorted(described) == sorted(known)


@pytest.mark.parametrize(
    ("name", "title"),
    [
        ("docs/measuring.md", "Inputs of a graph, by rule"),
        ("docs/medicion.md", "Entradas de un grafo, por regla"),
    ],
)
def test_the_input_rules_are_those_of_the_code_in_their_order(name: str, title: str) -> None:
    in_code = re.findall(r"^`([a-z -]+)`", graph_inputs.__doc__ or "", re.MULTILINE)
    documented = rows(section(name, title))
    # Both tables are for people: content rules may stand in either order.
    assert sorted(documented) == sorted(in_code)
    assert documented[0] == in_code[0] == "shape option"


RECORDS = [
    one
    for module in (
        records,
        depth_records,
        roofline_records,
        swap_records,
        quality_records,
        listening_records,
        prepare_records,
        receipt,
    )
    for one in vars(module).values()
    if isinstance(one, type) and issubclass(one, BaseModel) and one is not records.Record
    if one.__module__ == module.__name__ and not one.__name__.startswith("_")
]


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: record.__name__)
def test_every_field_of_a_record_is_described(record: type[BaseModel]) -> None:
    described = rows(section("docs/run-schema.md", record.__name__))
    assert sorted(described) == sorted(record.model_fields)


def test_the_schema_version_is_the_documented_one() -> None:
    assert f"`schema_version` {records.SCHEMA_VERSION}." in read("docs/run-schema.md")


@pytest.mark.parametrize("name", ["docs/verdict.md", "docs/veredicto.md"])
def test_printed_figures_are_what_their_command_prints(name: str) -> None:
    found = blocks(name)
    at = next(index for index, block in enumerate(found) if "python -c" in block.text)
    program = re.search(r'python -c "\n(.*)"', found[at].text, re.DOTALL)
    assert program is not None
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        exec(program[1], {})
    assert found[at + 1] == Block("text", said.getvalue())


@pytest.mark.parametrize("name", DOCUMENTS)
def test_relative_links_resolve(name: str) -> None:
    for target in LINK.findall(prose(name)):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = unquote(target).partition("#")
        place = (ROOT / name).parent / path if path else ROOT / name
        assert place.exists(), target
        if anchor:
            there = place.resolve().relative_to(ROOT.resolve()).as_posix()
            assert anchor in {slug(title) for _, title in headings(there)}, target


def slug(title: str) -> str:
    """The anchor that GitHub gives to a heading."""
    kept = "".join(char for char in title.lower() if char.isalnum() or char in " -_")
    return kept.replace(" ", "-")


@pytest.mark.parametrize(("english", "spanish"), PAIRS)
def test_both_languages_have_the_same_parts(english: str, spanish: str) -> None:
    levels = [[level for level, _ in headings(name)] for name in (english, spanish)]
    assert levels[0] == levels[1]
    tables = [re.findall(r"^\|", prose(name), re.MULTILINE) for name in (english, spanish)]
    assert len(tables[0]) == len(tables[1])
    assert len(blocks(english)) == len(blocks(spanish))
    for left, right in zip(blocks(english), blocks(spanish), strict=True):
        assert left.language == right.language
        # What a program printed may be in either language.
        assert left.text == right.text or left.language == "text"


@pytest.mark.parametrize(("english", "spanish"), PAIRS)
def test_both_languages_link_to_each_other_at_the_top(english: str, spanish: str) -> None:
    for name, other in ((english, spanish), (spanish, english)):
        assert f"]({Path(other).name})" in "\n".join(read(name).splitlines()[:4])


GENERATED = {"en": "docs/hypotheses.md", "es": "docs/hipotesis.md"}


@pytest.mark.parametrize(("lang", "name"), GENERATED.items())
def test_generated_page_names_its_command_and_holds_every_claim(lang: str, name: str) -> None:
    from vozmetro.hypotheses.files import read_claims
    from vozmetro.report.escape import escape

    text = read(name)
    assert f"`vozmetro hypotheses check guia vozmetro-runs --out {name} --lang {lang}`" in text
    for claim in read_claims("guia").claims:
        assert escape(getattr(claim.says, lang)) in text


def test_generated_pages_come_to_the_same_findings() -> None:
    found = [re.findall(r"[✅❌🚫❔⏳](?= )", read(name)) for name in GENERATED.values()]
    assert found[0] == found[1]
