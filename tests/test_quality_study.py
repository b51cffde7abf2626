"""Quality studies: real models on small real speech, saved as they go, and gone on with."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import soundfile

from vozmetro.assess import study
from vozmetro.assess.options import QualityOptions
from vozmetro.assess.voices import folder_names
from vozmetro.assess.worker import StudyWorker
from vozmetro.audio import read
from vozmetro.cli import main
from vozmetro.errors import InputError, MeasurementError, ModelError
from vozmetro.measure.quality_records import QualityStudy
from vozmetro.measure.schedule import Progress
from vozmetro.measure.storage import QUALITY_FILE, load_quality, save
from vozmetro.quality.summary import study_takes, summarize
from vozmetro.speech.corpus import load_corpus

TINY = "whisper-tiny-en"


def command(*words: object) -> int:
    """Runs the command line; returns its exit code."""
    with pytest.raises(SystemExit) as ended:
        main([str(word) for word in words])
    return int(ended.value.code or 0)


@pytest.fixture(scope="module")
def options(tmp_path_factory: pytest.TempPathFactory) -> QualityOptions:
    """Two English utterances, as recorded and in noise."""
    folder = tmp_path_factory.mktemp("speech")
    lines = [
        json.dumps({"audio": str(one.path), "text": one.text, "language": "en"})
        for one in load_corpus("audioeval", ["en"])
        if not one.id.endswith("counting")
    ]
    (folder / "manifest.jsonl").write_text("\n".join(lines), encoding="utf-8")
    return QualityOptions(corpus=str(folder), conditions="white@20")


@pytest.fixture(scope="module")
def heard(
    options: QualityOptions, tmp_path_factory: pytest.TempPathFactory
) -> tuple[QualityStudy, Path]:
    """What a tiny Whisper hears of them, and of silence and noise alone."""
    folder = tmp_path_factory.mktemp("study")
    return study.quality([TINY], options, out=folder), folder


def test_every_utterance_is_heard_once_in_every_condition(
    heard: tuple[QualityStudy, Path],
) -> None:
    found, folder = heard
    assert found.status == "complete"
    assert load_quality(folder) == found
    assert [one.condition for one in found.items] == ["clean"] * 2 + ["white@20"] * 2 + [
        "silence"
    ] * 5 + ["noise"] * 5
    (system,) = found.systems
    assert sorted(one.item for one in system.heard) == list(range(len(found.items)))
    assert all(one.ms > 0 for one in system.heard)
    assert system.subject.engines[0].startswith("faster-whisper")
    assert system.peak_rss > 50e6
    assert found.normalizers["en"].startswith("whisper-normalizer")
    noisy = [one for one in found.items if one.condition == "white@20"]
    assert all(one.snr_db == pytest.approx(20, abs=0.2) for one in noisy)


def test_a_tiny_whisper_hears_clear_english(heard: tuple[QualityStudy, Path]) -> None:
    quality = summarize(TINY, study_takes(heard[0], 0))
    clean = quality.row()
    assert clean is not None
    # Nine words and two: at most one of them wrong.
    assert clean.wer.value < 0.1
    assert clean.wer.n == 2
    assert set(quality.false_words) == {"silence", "noise"}
    assert clean.rtfx > 0.2


def test_a_cut_study_goes_on_where_it_stopped(
    heard: tuple[QualityStudy, Path], tmp_path: Path
) -> None:
    whole, _ = heard
    (system,) = whole.systems
    half = system.model_copy(update={"heard": system.heard[:5]})
    cut = whole.model_copy(update={"systems": [half], "status": "running"})
    save(cut, tmp_path / QUALITY_FILE)
    found = study.resume(tmp_path)
    assert found.status == "complete"
    (after,) = found.systems
    assert after.heard[:5] == half.heard
    assert sorted(one.item for one in after.heard) == list(range(len(whole.items)))


def test_other_speech_under_the_same_name_is_not_gone_on_with(
    heard: tuple[QualityStudy, Path], tmp_path: Path
) -> None:
    items = [one.model_copy(update={"text": "Something else."}) for one in heard[0].items]
    save(heard[0].model_copy(update={"items": items}), tmp_path / QUALITY_FILE)
    with pytest.raises(InputError) as caught:
        study.resume(tmp_path)
    assert caught.value.code == "resume_changed"
    assert "corpus" in str(caught.value)


def test_another_model_under_the_same_name_is_not_gone_on_with(
    heard: tuple[QualityStudy, Path], tmp_path: Path
) -> None:
    (system,) = heard[0].systems
    files = [one.model_copy(update={"sha256": "0" * 64}) for one in system.subject.files]
    subject = system.subject.model_copy(update={"files": files})
    other = system.model_copy(update={"subject": subject, "heard": system.heard[:3]})
    save(heard[0].model_copy(update={"systems": [other]}), tmp_path / QUALITY_FILE)
    with pytest.raises(InputError) as caught:
        study.resume(tmp_path)
    assert "model" in str(caught.value)


def test_one_that_fails_does_not_stop_the_others(
    options: QualityOptions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hear = StudyWorker.hear

    def fail(self: StudyWorker, items: Any) -> Any:
        if "threads" in self.subject.name:
            raise MeasurementError("worker_killed", pid=1)
        return hear(self, items)

    monkeypatch.setattr(StudyWorker, "hear", fail)
    resolve = study.resolve_subject

    def named(words: str, name: str | None = None, device: Any = "cpu") -> Any:
        return replace(resolve(TINY, None, device), name=name or words)

    monkeypatch.setattr(study, "resolve_subject", named)
    found = study.quality(["good", "threads"], options, out=tmp_path)
    good, lost = found.systems
    assert len(good.heard) == len(found.items)
    assert lost.failure is not None
    assert (lost.failure.code, lost.heard) == ("worker_killed", [])


def test_subjects_are_called_as_the_user_calls_them() -> None:
    assert QualityOptions(corpus="x", baseline="b.onnx").named(["a.onnx"]) == ["b.onnx", "a.onnx"]


def test_what_was_heard_before_ctrl_c_is_kept(
    options: QualityOptions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(study, "_BATCH_ITEMS", 2)
    turns: list[Progress] = []

    def stop(progress: Progress) -> None:
        turns.append(progress)
        if [one.phase for one in turns].count("measuring") == 3:
            raise KeyboardInterrupt

    found = study.quality([TINY], options, out=tmp_path, listen=stop)
    assert found.status == "interrupted"
    assert len(found.systems[0].heard) == 4
    assert load_quality(tmp_path) == found


@pytest.mark.parametrize(
    ("subjects", "changes", "code"),
    [
        ([TINY, "piper-joe"], {}, "quality_kinds"),
        (["piper-joe-graph"], {}, "quality_kind"),
        ([TINY, TINY], {}, "subject_twice"),
        ([TINY], {"repeats": 0}, "repeats_range"),
        ([TINY], {"threads": 0}, "threads_range"),
        ([TINY], {"judge": TINY}, "judge_voice"),
        (["piper-joe"], {"judge": "piper-joe"}, "judge_kind"),
        (["piper-joe"], {"judge": "nobody"}, "unknown_subject"),
        ([TINY], {"conditions": "rain"}, "condition_unknown"),
        (["piper-joe"], {"conditions": "ssn@10"}, "conditions_voice"),
        ([TINY], {"corpus": "nowhere"}, "corpus_missing"),
    ],
)
def test_what_cannot_be_studied_is_refused_before_anything_runs(
    subjects: list[str], changes: dict[str, Any], code: str, tmp_path: Path
) -> None:
    options = QualityOptions(**({"corpus": "audioeval", "languages": ["en"]} | changes))
    with pytest.raises((InputError, ModelError)) as caught:
        study.quality(subjects, options, out=tmp_path)
    assert caught.value.code == code
    assert not list(tmp_path.iterdir())


def test_the_command_prints_a_table_and_writes_a_report(
    heard: tuple[QualityStudy, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, folder = heard
    for lang, title in (("es", "Calidad con voz real"), ("en", "Quality on real speech")):
        assert command("report", folder, "--out", tmp_path / lang, "--lang", lang) == 0
        page = (tmp_path / lang / "report.md").read_text(encoding="utf-8")
        assert title in page
        assert "white@20" in page
        for image in ("words-latency", "words-noise"):
            (drawn,) = (tmp_path / lang / "plots").glob(f"*-{image}.png")
            assert f"(plots/{drawn.name})" in page
    capsys.readouterr()


def test_a_limit_decides_the_exit_code(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], heard: tuple[QualityStudy, Path]
) -> None:
    # Of eleven words all may be right, but that is not known of others.
    for limit, code in ((0.99, 0), (0.0, 3)):
        budget = {"limits": {"wer_max": limit}}
        settings = heard[0].settings.model_copy(update={"budget": budget})
        folder = tmp_path / str(limit)
        save(heard[0].model_copy(update={"settings": settings}), folder / QUALITY_FILE)
        assert command("quality", "--resume", folder, "--json") == code
        told = json.loads(capsys.readouterr().out)
        assert told["type"] == "quality_summary"
        assert told["systems"][0]["checks"][0]["metric"] == "wer"
        assert told["systems"][0]["status"] == {0: "pass", 3: "undecided"}[code]


@pytest.mark.slow
def test_a_voice_is_heard_by_a_judge_and_scored(tmp_path: Path) -> None:
    options = QualityOptions(corpus="audioeval", languages=["en"], limit=2, repeats=2, judge=TINY)
    found = study.quality(["piper-joe"], options, out=tmp_path)
    (system,) = found.systems
    assert [(one.item, one.repeat) for one in system.clips] == [(0, 0), (1, 0), (0, 1), (1, 1)]
    for clip in system.clips:
        waveform = read(tmp_path / clip.path)
        assert waveform.seconds == pytest.approx(clip.seconds, abs=0.01)
        assert soundfile.info(tmp_path / clip.path).samplerate == 22_050
        assert 0 < clip.first_audio_ms <= clip.ms
        assert 1 <= clip.predicted["dnsmos_ovrl"] <= 5
        assert clip.prosody["f0_sd_st"] > 0
        assert clip.heard
    # A machine speaks in this corpus: no people stand beside it.
    assert found.human == []
    assert found.judge is not None
    assert found.judge.name == TINY


def test_folders_of_clips_have_plain_and_different_names() -> None:
    assert folder_names(["piper:/a/voz.onnx", "b/voz.onnx", "..", "human"]) == [
        "voz.onnx",
        "voz.onnx-2",
        "voice",
        "human-2",
    ]
