"""Both catalogues say the same things, and everything that the code says is in them."""

from __future__ import annotations

import ast
import string
from pathlib import Path

import pytest

import vozmetro
from vozmetro.i18n import LANGUAGES, catalogue, resolve_language, t

SOURCE = Path(vozmetro.__file__).parent


def fields(template: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(template) if name}


def test_equal_keys_and_placeholders() -> None:
    spanish, english = catalogue("es"), catalogue("en")
    assert set(spanish) == set(english)
    different = [key for key in spanish if fields(spanish[key]) != fields(english[key])]
    assert different == []


def test_no_text_is_left_untranslated() -> None:
    spanish, english = catalogue("es"), catalogue("en")
    sentences = [key for key, text in english.items() if len(text.split()) > 5]
    assert [key for key in sentences if spanish[key] == english[key]] == []


def codes(kind: str) -> set[str]:
    """Codes that the source raises (`...Error("code"`) or notes (`Note(code="code"`)."""
    found = set()
    for path in SOURCE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call):
                continue
            name = getattr(node.func, "id", getattr(node.func, "attr", ""))
            if kind == "errors" and name.endswith("Error") and name != "MissingExtraError":
                first = node.args[0] if node.args else None
                if isinstance(first, ast.Constant) and isinstance(first.value, str):
                    found.add(first.value)
            if kind == "notes" and name == "Note":
                for keyword in node.keywords:
                    if keyword.arg == "code" and isinstance(keyword.value, ast.Constant):
                        found.add(str(keyword.value.value))
    return found


def test_every_error_that_is_raised_has_its_sentence() -> None:
    known = {key.removeprefix("errors.") for key in catalogue("en") if key.startswith("errors.")}
    builtin = {code for code in codes("errors") if " " in code}  # messages of Python's own errors
    assert codes("errors") - builtin - known == set()


def test_every_note_has_its_sentence() -> None:
    known = set(catalogue("en"))
    said = {code if "." in code else f"notes.{code}" for code in codes("notes")}
    assert said - known == set()


@pytest.mark.parametrize(
    ("said", "variable", "lc_all", "language"),
    [
        ("en", "es", "es_ES.UTF-8", "en"),
        (None, "en", "es_ES.UTF-8", "en"),
        (None, None, "es_MX.UTF-8", "es"),
        (None, None, "en_GB.UTF-8", "en"),
        (None, None, "fr_FR.UTF-8", "en"),
        (None, None, "C.UTF-8", "es"),
        (None, None, "POSIX", "es"),
    ],
)
def test_language_comes_from_option_variable_locale(
    monkeypatch: pytest.MonkeyPatch,
    said: str | None,
    variable: str | None,
    lc_all: str,
    language: str,
) -> None:
    monkeypatch.setenv("LC_ALL", lc_all)
    monkeypatch.delenv("VOZMETRO_LANG", raising=False)
    if variable:
        monkeypatch.setenv("VOZMETRO_LANG", variable)
    assert resolve_language(said) == language


def test_every_sentence_can_be_filled() -> None:
    for lang in LANGUAGES:
        for key, template in catalogue(lang).items():
            assert t(key, lang, **dict.fromkeys(fields(template), "x"))
