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

from vozmetro.cli.app import build
from vozmetro.cli.measure import EXIT_CODES
from vozmetro.cli.run import INTERRUPTED
from vozmetro.i18n import catalogue
from vozmetro.judge.budget import Budget
from vozmetro.measure import graph_inputs, records
from vozmetro.models.catalogue import catalogue as models

ROOT = Path(__file__).parents[1]
READMES = ("README.md", "README.es.md")
PAIRS = (
    READMES,
    ("docs/measuring.md", "docs/medicion.md"),
    ("docs/verdict.md", "docs/veredicto.md"),
)
DOCUMENTS = (
    *(name for pair in PAIRS for name in pair),
    "docs/run-schema.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    "CHANGELOG.md",
)
# What the maintainers' tools take, not vozmetro.
FOREIGN_OPTIONS = {"--check"}
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
OPTION = re.compile(r"(?<![\w-])--[a-z][a-z-]*")


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


def own_options() -> set[str]:
    return options_of(group()).union(*map(options_of, group().commands.values()))


def script_options() -> set[str]:
    sources = [ROOT / "src/vozmetro/cli/guide.py", *(ROOT / "benchmarks").glob("*.py")]
    text = "".join(source.read_text(encoding="utf-8") for source in sources)
    return set(re.findall(r'(?:add_argument|option)\("(--[a-z-]+)"', text))


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
    ("extra", "then"), [("demo", ".venv/bin/vozmetro demo"), ("test", ".venv/bin/pytest")]
)
def test_the_two_commands_stand_alone_and_once(name: str, extra: str, then: str) -> None:
    command = f"python3 -m venv .venv && .venv/bin/pip install -e '.[{extra}]' && {then}"
    assert read(name).count(command) == 1
    assert [block.text for block in blocks(name) if command in block.text] == [command + "\n"]


def test_ci_finds_the_test_command_in_the_readme() -> None:
    pattern = "pip install -e '.[test]' && .venv/bin/pytest"
    assert [line for line in read("README.md").splitlines() if pattern in line] == [
        f"python3 -m venv .venv && .venv/bin/{pattern}"
    ]


@pytest.mark.parametrize("name", DOCUMENTS)
def test_commands_that_are_named_exist(name: str) -> None:
    code = "\n".join(re.findall(r"`([^`\n]+)`", prose(name)))
    named = set(re.findall(r"\bvozmetro ([a-z]+)", code))
    named |= {words[0] for words in command_lines(name)}
    assert named <= set(group().commands)


@pytest.mark.parametrize("name", READMES)
def test_every_command_and_option_is_in_the_readme(name: str) -> None:
    named = set(re.findall(r"`vozmetro ([a-z]+)", prose(name)))
    assert named == set(group().commands)
    assert own_options() - set(OPTION.findall(read(name))) == set()


@pytest.mark.parametrize("name", DOCUMENTS)
def test_options_that_are_named_exist(name: str) -> None:
    named = set(OPTION.findall(read(name)))
    assert named - own_options() - script_options() - FOREIGN_OPTIONS == set()


@pytest.mark.parametrize("name", READMES)
def test_command_lines_parse(name: str) -> None:
    lines = list(command_lines(name))
    assert len(lines) > 5
    for words in lines:
        with group().commands[words[0]].make_context(words[0], words[1:]):
            pass


@pytest.mark.parametrize("name", READMES)
def test_defaults_are_those_of_the_program(name: str) -> None:
    params = {param.name: param for param in group().commands["bench"].params}
    for option, default in (("iterations", "20"), ("until", "`decided`"), ("max_time", "600")):
        row = re.search(rf"^\| `--{option.replace('_', '-')}.*$", read(name), re.MULTILINE)
        assert row is not None
        assert row[0].endswith(f"| {default} |")
        assert params[option].default in (20, "decided", 600.0)


@pytest.mark.parametrize("name", READMES)
def test_exit_codes(name: str) -> None:
    documented = {int(code) for code in re.findall(r"^\| (\d+) \|", read(name), re.MULTILINE)}
    assert documented == {*EXIT_CODES.values(), 2, INTERRUPTED}


@pytest.mark.parametrize("name", READMES)
def test_catalogue_names_in_examples_exist(name: str) -> None:
    cascades = [word for words in command_lines(name) for word in words if "+" in word]
    assert cascades
    for cascade in cascades:
        assert set(cascade.split("+")) <= set(models())


@pytest.mark.parametrize("name", READMES)
def test_the_budget_example_holds_the_defaults(name: str) -> None:
    (example,) = [block.text for block in blocks(name) if block.language == "toml"]
    assert Budget.from_mapping(tomllib.loads(example)) == Budget()
    # Complete: every key that a budget may have is shown.
    assert tomllib.loads(example).keys() == Budget().to_mapping().keys()
    assert tomllib.loads(example)["limits"].keys() == Budget().to_mapping()["limits"].keys()


def test_the_api_example_runs(tmp_path: Path) -> None:
    onnx_zoo.waveform_model(tmp_path / "model.onnx")
    onnx_zoo.waveform_model(tmp_path / "other.onnx", channels=8)
    (example,) = [block.text for block in blocks("README.md") if block.language == "python"]
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
    for one in vars(records).values()
    if isinstance(one, type) and issubclass(one, records.Record) and one is not records.Record
]


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: record.__name__)
def test_every_field_of_a_record_is_described(record: type[records.Record]) -> None:
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
