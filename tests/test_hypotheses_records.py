"""Claims against evidence read from measurements: runs, comparisons, files and word errors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnx_zoo
import pytest
from hypotheses_factory import GUIDE, OPTIONS, language_run, roofline, sides, verdict
from run_factory import make_comparison, make_run

from vozmetro.errors import InputError
from vozmetro.hypotheses.files import read_evidence
from vozmetro.judge.evidence import difference, from_comparison, from_run, spoken
from vozmetro.judge.word_errors import from_error_pairs, from_errors
from vozmetro.measure import storage
from vozmetro.measure.records import ComparisonRecord, FileInfo, Note, Run
from vozmetro.measure.storage import save


def test_an_answer_is_its_prompt_and_its_tokens() -> None:
    evidence = from_run(language_run(100.0, 60.0))
    found = verdict(GUIDE["vl4b-latency"], *evidence)
    assert found.status == "refuted"
    assert found.decisive is not None
    # 32 tokens of prompt take 200 ms, and seven more tokens 420.
    assert found.decisive.value == pytest.approx(620.0, rel=0.01)
    assert (found.decisive.prompt_tokens, found.decisive.answer_tokens) == (32, 8)
    first = verdict(GUIDE["vl4b-first-token"], *evidence)
    assert first.status == "confirmed"
    assert first.better


def test_an_answer_is_added_up_within_each_sample() -> None:
    run = language_run(100.0, 60.0)
    kinds = [(300.0, 10.0), (100.0, 40.0), (200.0, 30.0)]
    samples = [
        sample.model_copy(update={"ms": first, "parts": {"first_token": first, "per_token": later}})
        for sample in run.samples
        for first, later in [kinds[sample.round % 3]]
    ]
    evidence = from_run(run.model_copy(update={"samples": samples}))
    found = verdict(GUIDE["vl4b-latency"], *evidence)
    assert found.decisive is not None
    # 370, 380 and 410 ms; the medians of both parts would add up to 200 + 7 * 30.
    assert found.decisive.value == pytest.approx(380.0)


def test_prompts_are_no_synthetic_audio() -> None:
    assert not any(one.synthetic for one in from_run(language_run(100.0, 60.0)))
    assert all(one.synthetic for one in from_run(make_run(source="synthetic")))


def test_shorter_prompts_are_only_a_lower_bound() -> None:
    run = language_run(100.0, 10.0)
    short = run.model_copy(
        update={"items": run.items[:1], "samples": [s for s in run.samples if s.item == "16"]}
    )
    # 16 tokens and 7 more take 170 ms: 32 may keep the claim or not.
    assert verdict(GUIDE["vl4b-latency"], *from_run(short)).status == "not_tested"
    slow = language_run(300.0, 10.0)
    slow = slow.model_copy(update={"samples": [s for s in slow.samples if s.item == "16"]})
    assert verdict(GUIDE["vl4b-latency"], *from_run(slow)).status == "refuted"


def test_ram_of_a_whole_dummy_model_counts() -> None:
    evidence = from_run(language_run(100.0, 60.0))
    assert verdict(GUIDE["vl4b-ram"], *evidence).status == "confirmed"
    session = language_run(1, 1).sessions[0].model_copy(update={"peak_rss": 5_000_000_000})
    large = from_run(language_run(100.0, 60.0, sessions=[session]))
    assert verdict(GUIDE["vl4b-ram"], *large).status == "refuted"


def test_a_cascade_answers_for_its_parts() -> None:
    run = make_run("whisper-small+piper-joe", "cascade", median_ms=300.0)
    evidence = from_run(run)
    # Four fifths of 300 ms are Whisper's, one fifth is Piper's.
    assert verdict(GUIDE["whisper-small"], *evidence).status == "refuted"
    assert verdict(GUIDE["piper"], *evidence).status == "confirmed"
    assert verdict(GUIDE["pipeline-total"], *evidence).status == "refuted"
    assert verdict(GUIDE["pipeline-guarantee"], *evidence).status == "refuted"


def test_what_is_left_of_a_part_in_a_turn_is_no_time_of_its_model() -> None:
    run = make_run("whisper-small+piper-joe", "cascade", median_ms=30.0)
    turns = run.model_copy(update={"settings": run.settings.model_copy(update={"hangover_s": 0.2})})
    assert {one.part for one in from_run(run)} == {"", "stt", "tts_first_audio"}
    assert {one.part for one in from_run(turns)} == {""}


def test_other_models_do_not_answer() -> None:
    base = from_run(make_run("whisper-base", median_ms=70.0))
    assert verdict(GUIDE["whisper-small"], *base).status == "not_tested"
    voice = from_run(make_run("piper:voices/es_ES-davefx-medium.onnx", "tts", median_ms=50.0))
    assert verdict(GUIDE["piper"], *voice).status == "confirmed"


def test_the_file_called_30b_is_counted() -> None:
    small = make_run("models/agi_audio_core_int8.onnx", "graph", subject={"parameters": 1_100_000})
    assert verdict(GUIDE["omni-file-parameters"], *from_run(small)).status == "refuted"
    # And what was measured with it does not answer for 30 B.
    precise = small.model_copy(
        update={"subject": small.subject.model_copy(update={"precision": "INT8"})}
    )
    found = verdict(GUIDE["omni-latency"], *from_run(precise))
    assert (found.status, found.weighed[0].why) == ("not_tested", "not_whole")


def test_load_warmup_and_throughput() -> None:
    run = make_run(
        "qwen3-omni-30b-a3b",
        "graph",
        median_ms=2870.0,
        subject={"precision": "INT8", "parameters": 35_000_000_000},
    )
    evidence = from_run(run)
    assert verdict(GUIDE["omni-latency"], *evidence).status == "confirmed"
    assert verdict(GUIDE["omni-throughput"], *evidence).status == "confirmed"
    # One load has no interval; six have one.
    assert verdict(GUIDE["omni-load"], *evidence).status == "not_tested"
    assert verdict(GUIDE["omni-warmup"], *evidence).status == "not_tested"
    evidence = from_run(run.model_copy(update={"sessions": run.sessions * 6}))
    loads = verdict(GUIDE["omni-load"], *evidence)
    assert loads.decisive is not None
    assert loads.decisive.value == pytest.approx(1.234)
    assert loads.status == "refuted"
    assert verdict(GUIDE["omni-warmup"], *evidence).status == "refuted"


@pytest.mark.parametrize(
    ("ms", "status"),
    [(75.0, "confirmed"), (40.0, "confirmed"), (98.0, "refuted"), (150.0, "refuted")],
)
@pytest.mark.parametrize("swapped", [False, True])
def test_gain_of_quantizing(ms: float, status: str, swapped: bool) -> None:
    slow, fast = {"median_ms": 100.0}, {"median_ms": ms, "precision": "INT8"}
    record = sides(fast, slow) if swapped else sides(slow, fast)
    found = verdict(GUIDE["gain-quantized"], *from_comparison(record))
    assert found.status == status
    assert found.decisive is not None
    assert found.decisive.value == pytest.approx(100 - ms, abs=2.0)
    assert found.decisive.pair == "precision FP32>INT8"


def test_gains_that_disagree_leave_it_open() -> None:
    kept = from_comparison(sides({"median_ms": 100.0}, {"median_ms": 70.0, "precision": "INT8"}))
    lost = from_comparison(
        sides({"median_ms": 100.0}, {"median_ms": 120.0, "precision": "INT4"}, id="other")
    )
    assert verdict(GUIDE["gain-quantized"], *kept, *lost).status == "undecided"


@pytest.mark.parametrize(
    "other",
    [
        {"median_ms": 70.0, "precision": "INT8", "parameters": 37_800_000},  # another model
        {"median_ms": 70.0, "precision": "INT8", "options": {"context": "1.0"}},  # two changes
        {"median_ms": 70.0, "precision": "INT8", "parameters": None},  # who knows
    ],
)
def test_two_changes_at_once_answer_nothing(other: dict[str, Any]) -> None:
    evidence = from_comparison(sides({"median_ms": 100.0}, other))
    assert verdict(GUIDE["gain-quantized"], *evidence).status == "not_tested"


def test_an_unfair_comparison_does_not_count() -> None:
    record = sides(
        {"median_ms": 100.0},
        {"median_ms": 75.0, "precision": "INT8"},
        unfair=[Note(code="unfair_inputs", fields={"a": "float32", "b": "float16"})],
    )
    found = verdict(GUIDE["gain-quantized"], *from_comparison(record))
    assert found.weighed[0].why == "unfair"


@pytest.mark.parametrize(("ms", "status"), [(100.0, "refuted"), (92.5, "confirmed")])
def test_gain_of_session_options(ms: float, status: str) -> None:
    record = sides({"median_ms": 100.0}, {"median_ms": ms, "options": OPTIONS})
    found = verdict(GUIDE["gain-options"], *from_comparison(record))
    assert found.status == status


def test_options_must_be_those_of_the_claim_and_the_file_the_same() -> None:
    some = dict(list(OPTIONS.items())[:1])
    record = sides({"median_ms": 100.0}, {"median_ms": 92.0, "options": some})
    assert verdict(GUIDE["gain-options"], *from_comparison(record)).status == "not_tested"
    other = record.b.subject.model_copy(
        update={"options": OPTIONS, "files": [FileInfo(path="x", bytes=1, sha256="0" * 64)]}
    )
    assert difference(record.a.subject, other) is None


def test_a_model_file_says_what_it_is(tmp_path: Path) -> None:
    model = onnx_zoo.waveform_model(tmp_path / "agi_audio_core_int8.onnx")
    evidence = read_evidence([model])
    found = verdict(GUIDE["omni-file-parameters"], *evidence)
    assert found.status == "refuted"
    assert found.decisive is not None
    assert found.decisive.source == "file"
    # A file that hears, called like one that does not, is believed.
    hears = onnx_zoo.waveform_model(tmp_path / "my-qwen3-vl-4b.onnx")
    told = [one for one in read_evidence([hears]) if one.modality and one.source == "file"]
    assert "audio_input" in told[0].modality


def test_names_are_matched_without_paths_and_endings() -> None:
    assert spoken("C:\\models\\Qwen3-VL-4B-Instruct_INT4.onnx@provider=cpu,context=1.0") == (
        "qwen3-vl-4b-instruct-int4",
    )
    assert spoken("piper:voices/es_ES-x.onnx") == ("es-es-x",)


# --- Word errors -------------------------------------------------------------------------------


def test_no_errors_in_few_words_do_not_prove_two_percent() -> None:
    run = make_run("qwen3-omni-30b-a3b", subject={"parameters": None})
    (few,) = from_errors(run, [(0, 8)] * 5)
    assert few.value == few.low == 0.0
    # Clopper and Pearson, 0 of 40: 1 - 0.025^(1/40).
    assert few.high == pytest.approx(100 * (1 - 0.025 ** (1 / 40)))
    assert verdict(GUIDE["omni-wer"], few).status == "undecided"
    (many,) = from_errors(run, [(0, 8)] * 500)
    assert verdict(GUIDE["omni-wer"], many).status == "confirmed"
    (bad,) = from_errors(run, [(2, 8)] * 50)
    assert verdict(GUIDE["omni-wer"], bad).status == "refuted"


def test_the_interval_is_the_same_each_time_and_holds_the_rate() -> None:
    run = make_run()
    counts = [(index % 3, 7 + index % 4) for index in range(40)]
    (one,), (two,) = from_errors(run, counts), from_errors(run, counts)
    assert one == two
    assert one.low is not None
    assert one.high is not None
    assert one.low < one.value < one.high


def test_loss_of_int4() -> None:
    record = sides({"median_ms": 100.0}, {"median_ms": 90.0, "precision": "INT4"})
    same = [(1, 10)] * 300
    (kept,) = from_error_pairs(record, same, same)
    assert kept.value == 0.0
    assert verdict(GUIDE["quality-int4"], kept).status == "confirmed"
    (lost,) = from_error_pairs(record, same, [(3, 10)] * 300)
    assert lost.value == pytest.approx(20.0)
    assert verdict(GUIDE["quality-int4"], lost).status == "refuted"
    (few,) = from_error_pairs(record, same[:5], same[:5])
    assert verdict(GUIDE["quality-int4"], few).status == "undecided"


def test_synthetic_audio_answers_no_quality(tmp_path: Path) -> None:
    made = make_run("whisper-base", source="synthetic")
    real = make_run("whisper-base", run_id="real")
    save(made, tmp_path / "made" / "run.json")
    save(real, tmp_path / "real" / "run.json")
    found = [one for one in read_evidence([tmp_path]) if one.metric == "wer"]
    assert [one.id for one in found] == ["real"]


def unreached(run: Run) -> Run:
    """The time did not reach its last item, which has no transcript then."""
    last = run.items[-1]
    return run.model_copy(
        update={
            "items": [*run.items[:-1], last.model_copy(update={"output": ""})],
            "samples": [sample for sample in run.samples if sample.item != last.id],
        }
    )


def test_utterances_that_were_not_reached_are_no_errors(tmp_path: Path) -> None:
    save(unreached(make_run("whisper-base")), tmp_path / "run.json")
    (wer,) = [one for one in read_evidence([tmp_path]) if one.metric == "wer"]
    assert (wer.value, wer.n) == (0.0, 4)


def listeners(**changes: Any) -> ComparisonRecord:
    """FP32 against INT4; the second did not reach the last utterance."""
    a = make_run("whisper-base", subject={"precision": "FP32"})
    b = make_run("whisper-base", subject={"precision": "INT4"}, **changes)
    return make_comparison(a, unreached(b))


def test_pairs_are_of_utterances_that_both_reached(tmp_path: Path) -> None:
    save(listeners(), tmp_path / "comparison.json")
    (loss,) = [one for one in read_evidence([tmp_path]) if one.metric == "wer_increase"]
    assert (loss.value, loss.n, loss.unsound) == (0.0, 4, "")


@pytest.mark.parametrize(
    ("changes", "why"),
    [({"status": "failed"}, "run_failed"), ({"notes": [Note(code="nan_output")]}, "suspect")],
)
def test_pairs_with_an_unsound_second_side_do_not_count(changes: dict[str, Any], why: str) -> None:
    same = [(1, 10)] * 300
    (loss,) = from_error_pairs(listeners(**changes), same, same)
    assert verdict(GUIDE["quality-int4"], loss).weighed[0].why == why


def test_a_roofline_is_evidence_and_no_measurement(tmp_path: Path) -> None:
    path = tmp_path / "roofline.json"
    record = roofline("INT4", 51.0, 10.0)
    path.write_text(record.model_dump_json())
    assert storage.load_any(path) == record
    with pytest.raises(InputError, match="roofline"):
        storage.load(path)
