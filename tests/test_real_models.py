"""Real models on real speech: the engines, the demo, and the first recorded runs read again."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from vozmetro import Options, api, load_run
from vozmetro.cli.demo import FAST, PAIR
from vozmetro.engines import registry
from vozmetro.engines.base import LoadRequest
from vozmetro.errors import InputError
from vozmetro.judge.comparison import compare_record
from vozmetro.judge.decision import judge
from vozmetro.measure.records import ComparisonRecord, Run
from vozmetro.models.resolve import resolve
from vozmetro.speech.corpus import load_corpus

DATA = Path(__file__).parent / "data"


def test_whisper_hears_the_words_of_an_utterance() -> None:
    model = resolve("whisper-tiny-en")
    engine = registry.find(model.engine)
    whisper = engine.load(LoadRequest(model.path, threads=2))
    (spoken,) = [u for u in load_corpus("audioeval", ["en"]) if u.id.endswith("hello_world")]
    from vozmetro.audio import read

    text = whisper.transcribe(read(spoken.path), "en")  # type: ignore[union-attr]
    assert text.lower().strip(".") == "hello world"


def test_piper_speaks_as_long_as_its_text_and_streams_by_sentence() -> None:
    model = resolve("piper-joe")
    engine = registry.find(model.engine)
    voice = engine.load(LoadRequest(model.path, threads=2))
    one = np.concatenate(list(voice.stream("Hello.")))  # type: ignore[union-attr]
    chunks = list(voice.stream("Hello there, my friend. How are you today?"))  # type: ignore[union-attr]
    assert voice.sample_rate == 22_050  # type: ignore[union-attr]
    assert len(chunks) == 2
    assert one.dtype == np.float32
    assert 0 < len(one) < sum(map(len, chunks))
    assert 0.05 < float(np.abs(chunks[0]).max()) <= 1.0


def test_unknown_engine_names_those_there_are() -> None:
    with pytest.raises(InputError) as caught:
        registry.find("kaldi")
    assert caught.value.code == "unknown_engine"
    assert "faster-whisper, language-model, onnx, piper" in str(caught.value)


def test_cascade_parts_add_up_to_the_post_endpoint_latency() -> None:
    options = Options(iterations=1, until="iterations", languages=["en"], limit=1)
    run = api.bench("whisper-tiny-en+piper-joe", options)
    assert (run.subject.kind, run.subject.clock) == ("cascade", "post-endpoint")
    for sample in run.samples:
        assert set(sample.parts) == {"stt", "tts_first_audio"}
        assert sum(sample.parts.values()) == pytest.approx(sample.ms, abs=0.01)
        assert all(part > 0 for part in sample.parts.values())
    assert "one" in run.items[0].output.lower() or "1" in run.items[0].output


def test_tts_first_audio_comes_before_the_end() -> None:
    options = Options(iterations=1, until="iterations", limit=1)
    run = api.bench("piper-joe", options)
    assert all(0 < sample.parts["first_audio"] <= sample.ms for sample in run.samples)
    assert {item.language for item in run.items} == {"en"}
    left = next(note for note in run.notes if note.code == "languages_left_out")
    assert left.fields["languages"] == "es"


@pytest.mark.parametrize("name", ["run-v1.json", "comparison-v1.json"])
def test_recorded_files_of_this_schema_are_read_for_ever(name: str) -> None:
    record = load_run(DATA / name)
    if isinstance(record, ComparisonRecord):
        comparison = compare_record(record)
        assert comparison.pairs == 15
        assert comparison.verdict == "b_faster"
    else:
        assert isinstance(record, Run)
        decision = judge(record)
        assert decision.status == "fail"
        assert decision.scenario == "B"


@pytest.mark.slow
def test_demo_measures_decides_and_reports(tmp_path: Path) -> None:
    words = ["demo", "--iterations", "1", "--out", str(tmp_path / "out"), "--lang", "es"]
    done = subprocess.run(
        [sys.executable, "-m", "vozmetro", *words],
        capture_output=True,
        text=True,
        env={**os.environ, "COLUMNS": "80"},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    said = ("whisper-base-onnx", "WER", "TABLA COMPARATIVA", "VEREDICTO", "Recomendación")
    for one in (*said, "report.md"):
        assert one in done.stdout
    report = (tmp_path / "out" / "report.md").read_text()
    for section in ("## Modelo Testeado", "## Decisión", "Checklist"):
        assert section in report
    runs = {}
    for name in ("whisper-base-onnx", FAST, "whisper-base", "piper-joe", f"{FAST}+piper-joe"):
        run = load_run(tmp_path / "out" / name)
        assert isinstance(run, Run)
        assert run.status == "complete"
        runs[name] = run
    assert isinstance(load_run(tmp_path / "out" / "comparison"), ComparisonRecord)
    # One set of real weights at two precisions, with WER beside the latency.
    assert runs["whisper-base-onnx"].subject.precision == "FP32"
    assert runs[FAST].subject.precision == "INT8"
    # The published count of Whisper base; a second copy of the token table is none.
    assert {runs[name].subject.parameters for name in PAIR} == {72_593_920}
    assert runs[FAST].subject.options["context"] == "3.0"
    assert "| WER |" in report
    # Whisper base is right about the English pangram; a broken engine would not be.
    for name in ("whisper-base-onnx", FAST, "whisper-base"):
        heard = {item.id: item.output for item in runs[name].items}
        assert "quick brown fox" in heard["en/quick_brown_fox"].lower()
