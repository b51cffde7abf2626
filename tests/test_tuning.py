"""Tuning: what is tried, which way is kept, and the profile that keeps it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from quality_factory import make_study

from vozmetro.assess import tune
from vozmetro.cli.app import build
from vozmetro.cli.run import run
from vozmetro.errors import InputError
from vozmetro.measure.quality_records import QualityStudy
from vozmetro.models import profile
from vozmetro.models.catalogue import catalogue
from vozmetro.models.resolve import resolve, split_options
from vozmetro.quality.tuning import NARROW, Change, Tuning, tuning

WORDS = [f"palabra{number}" for number in range(40)]
SAID = tuple(" ".join(WORDS[at : at + 8]) for at in range(0, 40, 2))[:16] * 10
BASE, FAST, WRONG = "base", "fast", "wrong"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Profiles lie in a cache of their own; fetched models stay where they are."""
    monkeypatch.setattr(profile.packages, "cache_dir", lambda: tmp_path / "cache")
    return tmp_path / "cache"


def studied(heard: dict[str, Sequence[str]], factors: dict[str, float]) -> QualityStudy:
    """A study in which each subject hears that, and takes so many times its usual time."""
    study = make_study({name: {"clean": texts} for name, texts in heard.items()}, said=SAID)
    systems = [
        system.model_copy(update={"heard": [
            one.model_copy(update={"ms": (100 + one.item % 7) * factors[system.subject.name]})
            for one in system.heard
        ]})
        for system in study.systems
    ]  # fmt: skip
    return study.model_copy(update={"systems": systems})


def with_errors(share: float, seed: int) -> list[str]:
    """What is heard where each word is wrong with that probability."""
    rng = np.random.default_rng(seed)
    return [
        " ".join("otra" if rng.random() < share else word for word in text.split()) for text in SAID
    ]


CHANGES = [
    Change(BASE, ""),
    Change(FAST, BASE, "int8", (0.2, 0.3)),
    Change(WRONG, BASE, "context"),
]


# What is tried


def test_what_is_tried_of_a_catalogue_model() -> None:
    tried = tune.changes("whisper-base")
    words = [one.words for one in tried]
    assert words[0] == "whisper-base"
    assert len(set(words)) == len(words)
    assert {one.against for one in tried} <= {"", *words}
    for one in tried:
        name, _ = split_options(one.words)
        assert name in catalogue()
    by_tip = {one.tip: one for one in tried}
    assert by_tip["int8"].expected == (0.20, 0.30)
    assert "session.disable_prepacking" in by_tip["session"].words
    assert {"engine", "int8", "int4", "session", "context", "stream", "one_thread"} <= set(by_tip)


def test_what_is_tried_of_one_that_runs_on_onnx_runtime() -> None:
    tried = tune.changes("whisper-base-onnx-int8")
    assert tried[0].words == "whisper-base-onnx-int8@context=full"
    assert {one.tip for one in tried[1:]} == {"context", "stream"}


@pytest.mark.parametrize(
    ("subject", "code"),
    [("piper-joe", "tune_kind"), ("whisper-base@device=cpu", "tune_options")],
)
def test_what_cannot_be_tuned(subject: str, code: str) -> None:
    with pytest.raises(InputError) as caught:
        tune.changes(subject)
    assert caught.value.code == code


# What is kept


def found(study: QualityStudy, **limits: float) -> Tuning:
    return tuning(study, CHANGES, **limits)


def test_the_fastest_that_hears_as_well_is_best() -> None:
    heard = {BASE: SAID, FAST: SAID, WRONG: with_errors(0.2, 1)}
    told = found(studied(heard, {BASE: 1.0, FAST: 0.5, WRONG: 0.1}))
    assert told.best is not None
    assert told.best.change.words == FAST
    base, fast, wrong = told.tried
    assert (base.gain, base.cost, base.allowed) == (None, None, True)
    assert fast.gain is not None
    assert fast.gain.value == pytest.approx(0.5)
    assert fast.gain.low == pytest.approx(0.5)
    assert wrong.cost is not None
    assert wrong.cost.value == pytest.approx(0.2, abs=0.05)
    assert not wrong.allowed


def test_the_reference_is_kept_where_nothing_else_fits() -> None:
    heard = {name: with_errors(share, 2) for name, share in ((FAST, 0.1), (WRONG, 0.1))}
    told = found(studied({BASE: SAID, **heard}, {BASE: 1.0, FAST: 0.5, WRONG: 0.1}))
    assert told.best is not None
    assert told.best.change.words == BASE
    assert tune.keep("whisper-base", told, []) is None


def test_what_is_allowed_is_what_the_user_says() -> None:
    heard = {BASE: SAID, FAST: SAID, WRONG: with_errors(0.1, 3)}
    study = studied(heard, {BASE: 1.0, FAST: 0.5, WRONG: 0.1})
    told = found(study, allowed=0.5, allowed_high=0.5)
    assert told.best is not None
    assert told.best.change.words == WRONG


def test_few_utterances_show_nothing() -> None:
    study = studied({BASE: SAID, FAST: SAID, WRONG: SAID}, {BASE: 1.0, FAST: 0.5, WRONG: 0.1})
    few = 3
    systems = [
        system.model_copy(update={"heard": [one for one in system.heard if one.item < few]})
        for system in study.systems
    ]
    told = found(study.model_copy(update={"systems": systems}))
    assert told.best is not None
    assert told.best.change.words == BASE, "three utterances cannot show half a point"


@pytest.mark.slow
def test_a_way_that_hears_worse_is_seldom_kept() -> None:
    """Ten in a hundred words wrong on both sides, and two more where it may cost half of one."""
    kept = 0
    for seed in range(40):
        heard = {
            BASE: with_errors(0.10, 3 * seed),
            FAST: with_errors(0.12, 3 * seed + 1),
            WRONG: with_errors(0.3, 3 * seed + 2),
        }
        told = found(studied(heard, {BASE: 1.0, FAST: 0.5, WRONG: 0.1}))
        kept += told.best is not None and told.best.change.words == FAST
    assert kept <= 3


def test_8_khz_is_told_beside_the_best() -> None:
    study = make_study(
        {
            BASE: {"clean": SAID, NARROW: with_errors(0.1, 5)},
            FAST: {"clean": SAID, NARROW: with_errors(0.2, 6)},
        },
        said=SAID,
    )
    told = found(study)
    assert told.narrow is not None
    assert told.narrow.change.words == BASE
    assert told.narrow.cost is not None
    assert told.narrow.cost.value == pytest.approx(0.1, abs=0.04)
    assert told.narrow.change.expected == (0.15, 0.25)


# Profiles

keys = st.from_regex(r"[a-z][a-z_.]{0,20}", fullmatch=True).filter(lambda key: key != "profile")


@given(st.dictionaries(keys, st.text(max_size=20), min_size=1, max_size=5))
def test_a_profile_is_read_as_it_was_written(options: dict[str, str]) -> None:
    path = profile.write("model", options, ["a line\nand another"])
    assert profile.read("model", "tuned") == options
    assert profile.read("any", str(path)) == options
    path.unlink()


@pytest.mark.parametrize(
    "text",
    ["", "[options", "options = 3", "[options]\nprofile = 'tuned'", "a = 1", "x" * 70_000, "\xff"],
)
def test_a_profile_that_is_none(tmp_path: Path, text: str) -> None:
    path = tmp_path / "x.toml"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(InputError) as caught:
        profile.read("model", str(path))
    assert caught.value.code == "profile_invalid"
    assert "vozmetro tune" in caught.value.message("en")


def test_no_profile_yet() -> None:
    with pytest.raises(InputError) as caught:
        resolve("whisper-base-onnx-int8@profile=tuned")
    assert caught.value.code == "profile_missing"


def test_a_name_leads_nowhere_else(cache: Path) -> None:
    for name in ("../../x", "/etc/passwd", "a/b", "..", "C:\\x"):
        assert profile.place(name).parent == cache / "profiles"
        assert profile.place(name).name.endswith(".toml")


def test_a_profile_sets_the_options_and_is_told(cache: Path) -> None:
    profile.write("whisper-base-onnx-int8", {"context": "stream", "lookahead": "0.5"}, [])
    model = resolve("whisper-base-onnx-int8@profile=tuned,lookahead=0.7")
    assert model.options["context"] == "stream"
    assert model.options["lookahead"] == "0.7", "what is written out counts more"


# From the command line


def vozmetro(*words: str) -> int:
    return run(build("en"), ["tune", *words, "--lang", "en"], "en")


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["piper-joe", "--corpus", "audioeval"], "Whisper"),
        (["whisper-base", "--corpus", "nowhere"], "nowhere"),
        (["whisper-base@device=cpu", "--corpus", "audioeval"], "whisper-base"),
        (["whisper-base", "--corpus", "audioeval", "--limit", "0"], "--limit"),
    ],
)
def test_bad_words_end_with_two(
    words: list[str], hint: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert vozmetro(*words, "--out", str(tmp_path / "out")) == 2
    assert hint in capsys.readouterr().err


@pytest.mark.slow
def test_two_ways_of_a_real_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    name = "whisper-base-onnx-int8"
    tried = [
        Change(f"{name}@context=full", ""),
        Change(f"{name}@context=1.0", f"{name}@context=full", "context"),
    ]
    monkeypatch.setattr(tune, "changes", lambda subject: tried)
    out = tmp_path / "out"
    words = [name, "--corpus", "audioeval", "--languages", "en", "--limit", "2", "--out", str(out)]
    # Two utterances show nothing: everything is allowed.
    assert vozmetro(*words, "--allow", "2000", "--allow-high", "2000") == 0
    printed = capsys.readouterr().out
    assert f"→ 2 {tried[1].words}" in printed
    assert max(map(len, printed.splitlines())) <= 80 or "/" in printed
    study = json.loads((out / "quality.json").read_text())
    assert [one["subject"]["name"] for one in study["systems"]] == [one.words for one in tried]
    kept: Any = resolve(f"{name}@profile=tuned")
    assert kept.options["context"] == "1.0"
