"""`vozmetro decide`: from measured runs to parts and to `pipeline.toml`."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from quality_factory import make_voices
from run_factory import make_comparison, make_run

from vozmetro.cli.app import build
from vozmetro.cli.run import run as run_command
from vozmetro.errors import InputError
from vozmetro.judge.decision import judge
from vozmetro.judge.roles import Judged, Roles, assign
from vozmetro.measure.records import Note, Run
from vozmetro.measure.storage import save
from vozmetro.pipeline.config import ChatConfig, EchoConfig, LocalConfig, load, parse
from vozmetro.pipeline.endpoint import HANGOVER_S
from vozmetro.report.tiers import plan

DATA = Path(__file__).parent / "data"
GB = 10**9


def cascade(name: str = "whisper-base+piper-joe", **changes: Any) -> Run:
    subject = {"expected_ram": GB, **changes.pop("subject", {})}
    return make_run(name, "cascade", subject=subject, **{"median_ms": 90.0, **changes})


def lm(name: str, **changes: Any) -> Run:
    words = {"kind": "lm", "clock": "time-to-first-token", "expected_ram": GB}
    subject = {**words, **changes.pop("subject", {})}
    return make_run(name, "graph", subject=subject, **{"median_ms": 120.0, **changes})


def roles(*runs: Run) -> Roles:
    return assign([Judged(run, judge(run)) for run in runs])


def told(found: Roles) -> dict[str, str]:
    return {one.run.subject.name: reason for one, reason in found.left_out}


def written(*runs: Run) -> str:
    return plan(roles(*runs)).text()


# Parts


def test_the_best_pipeline_is_the_default_by_verdict_before_latency() -> None:
    quick_but_big = cascade("a+b", median_ms=50.0, peak_rss=5_000_000_000)
    found = roles(cascade("c+d", median_ms=200.0), quick_but_big, cascade("e+f", median_ms=150.0))
    assert found.fast is found.winner
    assert found.fast is not None
    assert found.fast.run.subject.name == "e+f"
    assert [one.run.subject.name for one in found.swap] == ["a+b", "c+d"]


def test_of_the_same_subject_the_last_measurement_counts() -> None:
    old = cascade(median_ms=90.0, created="2025-01-01T00:00:00Z", run_id="old")
    new = cascade(median_ms=600.0, created="2025-02-01T00:00:00Z", run_id="new")
    for runs in ((old, new), (new, old)):
        found = roles(*runs)
        assert found.winner.run.id == "new"
        assert found.winner.decision.scenario == "B"
        assert not found.swap


def test_what_takes_no_part_and_why() -> None:
    found = roles(
        cascade(),
        cascade("dummy+x", subject={"weights": "dummy"}),
        cascade("nan+x", notes=[Note(code="nan_output")]),
        cascade("failed+x", status="failed"),
        make_run("whisper-base", "stt"),
        make_run("piper-joe", "tts"),
        make_run("m.onnx", "graph"),
        lm("good.onnx"),
        lm("slow.onnx", median_ms=900.0),
    )
    assert told(found) == {
        "dummy+x": "dummy",
        "nan+x": "suspect",
        "failed+x": "failed",
        "whisper-base": "part",
        "piper-joe": "part",
        "m.onnx": "graph",
        "slow.onnx": "slower",
    }
    assert found.language is not None
    assert found.language.run.subject.name == "good.onnx"


def test_a_language_model_is_no_verdict_on_the_pipeline_that_is_served() -> None:
    found = roles(cascade(median_ms=700.0), lm("good.onnx", median_ms=60.0))
    assert found.winner is found.fast
    assert found.status == "fail"


def test_what_can_take_no_part_gives_no_verdict() -> None:
    found = roles(cascade(subject={"weights": "dummy"}))
    assert (found.fast, found.status) == (None, "undecided")
    assert found.winner.decision.status == "pass"


def test_a_language_model_cannot_speak_alone() -> None:
    found = roles(lm("good.onnx"))
    assert (found.fast, found.language) == (None, None)
    assert told(found) == {"good.onnx": "no_cascade"}
    assert found.winner.run.subject.name == "good.onnx"


# The file


def test_the_file_has_what_was_measured_and_nothing_else_that_counts() -> None:
    text = written(
        cascade("whisper-base@context=1.0+piper-joe", budget={"limits": {"p90_ms": 250}})
    )
    config = parse(text, "x")
    (fast,) = config.tiers
    assert (fast.name, fast.stt, fast.tts) == ("fast", "whisper-base@context=1.0", "piper-joe")
    assert (fast.reply, fast.language, fast.pinned) == (EchoConfig(), "", True)
    assert (config.budget_p90_ms, config.ram_gb, config.threads) == (250, 4, 4)
    assert "# Scenario A: whisper-base@context=1.0+piper-joe." in text
    assert re.search(
        r"# FAST, the default. .*: P50 (89|90)\.\d ms, P90 9\d\.\d ms, peak RAM 8", text
    )
    assert "run run-whisper-base@context=1.0+piper-joe, 2025-10-29" in text
    for name in ("quality", "max"):
        assert f"# {name.upper()} was not measured" in text
        assert f'# name = "{name}"' in text


def test_the_wait_that_was_measured_is_served() -> None:
    turns = cascade()
    settings = turns.settings.model_copy(update={"hangover_s": 0.48})
    assert parse(written(turns.model_copy(update={"settings": settings})), "x").hangover_s == 0.48
    assert parse(written(cascade()), "x").hangover_s == HANGOVER_S


def test_proposed_tiers_are_whole_once_their_marks_are_taken_away() -> None:
    text = written(cascade())
    bare = ""
    for part in text.split("\n\n"):
        head, mark, lines = part.partition("# [[tiers]]\n")
        bare += head + (mark + lines).replace("# ", "") + "\n\n"
    config = parse(bare, "x")
    assert [tier.name for tier in config.tiers] == ["fast", "quality", "max"]
    assert isinstance(config.tiers[1].reply, LocalConfig)
    assert isinstance(config.tiers[2].reply, ChatConfig)


def test_the_language_of_a_corpus_in_one_language_is_told_to_the_model() -> None:
    run = cascade()
    items = [item.model_copy(update={"language": "es"}) for item in run.items]
    config = parse(written(run.model_copy(update={"items": items})), "x")
    assert config.tiers[0].language == "es"


def test_other_pipelines_are_loaded_on_demand_where_they_fit() -> None:
    big = cascade("a+b", median_ms=400.0, subject={"expected_ram": 2 * GB})
    huge = cascade("c+d", median_ms=900.0, subject={"expected_ram": 5 * GB})
    text = written(cascade(), big, huge)
    config = parse(text, "x")
    assert [tier.name for tier in config.tiers] == ["fast", "swap"]
    assert config.tiers[0].pinned
    assert "# It is expected to need 5.0 GB, and there is room for 4.0 GB." in text
    assert '# name = "swap-2"' in text


def test_the_default_is_not_pinned_where_another_needs_its_room() -> None:
    big = cascade("a+b", median_ms=400.0, subject={"expected_ram": 35 * GB // 10})
    config = parse(written(cascade(), big), "x")
    assert not config.tiers[0].pinned
    assert config.tiers[0].ttl_s == 86_400
    assert len(config.tiers) == 2


def test_the_ceiling_holds_the_default_whatever_the_budget() -> None:
    config = parse(written(cascade(subject={"expected_ram": 5_001_000_000})), "x")
    assert config.ram_gb == 5.01


@pytest.mark.parametrize("tokenizer", [True, False])
def test_a_language_model_answers_where_it_has_words(tmp_path: Path, tokenizer: bool) -> None:
    if tokenizer:
        (tmp_path / "tokenizer.json").write_text("{}")
    model = str(tmp_path / "m.onnx")
    text = written(cascade(), lm(model))
    config = parse(text, "x")
    assert [tier.name for tier in config.tiers] == ["fast", "quality"][: 1 + tokenizer]
    assert "each on its own" in text
    assert ("no tokenizer.json" in text) != tokenizer
    if tokenizer:
        assert config.tiers[1].reply == LocalConfig(model=model)
        assert config.tiers[1].stt == config.tiers[0].stt


def test_the_device_that_was_measured_is_served() -> None:
    run = cascade("a@x=1+b@provider=cpu")
    settings = run.settings.model_copy(update={"device": "cuda"})
    config = parse(written(run.model_copy(update={"settings": settings})), "x")
    assert config.tiers[0].stt == "a@x=1,provider=cuda"
    assert config.tiers[0].tts == "b@provider=cpu"


@pytest.mark.parametrize(
    ("runs", "example"),
    [
        ([make_run("m.onnx", "graph")], "whisper-base+piper-joe"),
        ([make_run("ears", "stt"), make_run("mouth", "tts")], "ears+mouth"),
    ],
)
def test_without_a_pipeline_there_is_no_file(runs: list[Run], example: str) -> None:
    with pytest.raises(InputError) as caught:
        plan(roles(*runs))
    assert caught.value.code == "decide_no_cascade"
    assert str(caught.value).endswith(f"vozmetro bench {example}")


# The command


def decide(*words: object, lang: str = "en") -> Result:
    return CliRunner().invoke(build(lang), ["decide", *map(str, words)], standalone_mode=False)


def saved(folder: Path, record: Any) -> Path:
    name = "comparison.json" if record.type == "comparison" else "run.json"
    save(record, folder / name)
    return folder


@pytest.mark.parametrize(
    ("median", "code", "scenario"), [(90.0, 0, "✅ A"), (350.0, 1, "❌ C"), (700.0, 1, "❌ B")]
)
@pytest.mark.parametrize("lang", ["es", "en"])
def test_the_scenario_is_printed(
    tmp_path: Path, median: float, code: int, scenario: str, lang: str
) -> None:
    run = saved(tmp_path / "r", cascade(median_ms=median))
    result = decide(run, lang=lang)
    assert result.return_value == code
    assert scenario in result.output
    assert "FAST" in result.output
    assert list(tmp_path.iterdir()) == [tmp_path / "r"]
    assert decide(run, "--no-gate").return_value == 0


def test_a_comparison_gives_both_of_its_runs(tmp_path: Path) -> None:
    pair = make_comparison(cascade("a+b", median_ms=90.0), cascade("c+d", median_ms=300.0))
    target = tmp_path / "pipeline.toml"
    result = decide(saved(tmp_path / "r", pair), "--write-config", target, "--json")
    found = json.loads(result.output)
    assert found["scenario"] == "A"
    assert [(one["subject"], one["part"]) for one in found["runs"]] == [
        ("a+b", "fast"),
        ("c+d", "swap"),
    ]
    assert [tier.name for tier in load(target).tiers] == ["fast", "swap"]


def test_nothing_is_written_over_unless_asked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, target = saved(tmp_path / "r", cascade()), tmp_path / "pipeline.toml"
    target.write_text("mine")
    words = ["decide", str(run), "--write-config", str(target)]
    assert run_command(build("en"), words, "en") == 2
    assert "--force" in capsys.readouterr().err
    assert target.read_text() == "mine"
    assert run_command(build("en"), [*words, "--force"], "en") == 0
    assert load(target).first == "fast"
    assert str(target) in capsys.readouterr().out


@pytest.mark.parametrize("code", ["decide_record", "decide_nothing", "run_missing"])
def test_records_of_other_kinds_are_refused(tmp_path: Path, code: str) -> None:
    path = tmp_path / "record.json"
    if code == "decide_record":
        path = DATA / "depths-v2.json"
    elif code == "decide_nothing":
        save(make_voices(), path)
    error = decide(path).exception
    assert isinstance(error, InputError)
    assert error.code == code
