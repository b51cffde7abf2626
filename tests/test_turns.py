"""Whole turns: parts, turns that were cut off or missed, and `bench --turns` with real models."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from time import perf_counter_ns
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
from run_factory import make_run

from vozmetro import load_run
from vozmetro.audio import SPEECH_RATE, Samples, Waveform, read
from vozmetro.cli import main
from vozmetro.errors import MeasurementError
from vozmetro.i18n import catalogue
from vozmetro.judge.decision import judge
from vozmetro.judge.evidence import from_run
from vozmetro.judge.statistics import summarize_run
from vozmetro.measure.callers import CascadeCaller, Look, Outcome, TranscriberCaller, make
from vozmetro.measure.outputs import turn_notes
from vozmetro.measure.records import Run, Sample
from vozmetro.measure.subject import resolve_subject
from vozmetro.measure.turns import PATIENCE_S, Spoken, TurnCaller
from vozmetro.measure.worker import timed
from vozmetro.measure.workload import WorkItem
from vozmetro.report.formatting import clock_text
from vozmetro.speech.corpus import load_corpus
from vozmetro.speech.ends import speech_end

CASCADE = "whisper-base-onnx-int8+piper-joe-onnx"


class Ears:
    """Hears these words."""

    def __init__(self, text: str = "hello world") -> None:
        self.text = text

    def transcribe(self, audio: Waveform, language: str) -> str:
        return self.text


class Voice:
    """A chunk for each word; fails where it is told to."""

    sample_rate = 22_050
    fails = False

    def stream(self, text: str) -> Iterator[Samples]:
        if self.fails:
            raise MeasurementError("out_of_memory")
        for _ in text.split():
            yield np.full(100, 0.5, np.float32)


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Frames come as fast as they can be fed; who is behind is waited for."""
    monkeypatch.setattr("vozmetro.measure.turns.time", SimpleNamespace(sleep=lambda _: None))
    monkeypatch.setattr("vozmetro.measure.turns.ONSET_S", 20.0)


def hello() -> Path:
    (found,) = [one for one in load_corpus("audioeval", ["en"]) if one.id.endswith("hello_world")]
    return Path(found.path)


def ready(end_s: float) -> Spoken:
    """Real speech that is said to end at `end_s`."""
    room = np.zeros(round(PATIENCE_S * SPEECH_RATE), np.float32)
    return Spoken(np.concatenate([read(hello()).samples, room]), end_s, "en")


def turn(caller: TurnCaller, spoken: Spoken) -> tuple[dict[str, float], float, Outcome]:
    """Returns the parts, the latency in ms, and all of it."""
    outcome = caller.call(spoken, perf_counter_ns())
    assert outcome.start_ns is not None
    return outcome.parts_ms, (outcome.end_ns - outcome.start_ns) / 1e6, outcome


# Parts -------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("at_once")
def test_the_clock_starts_with_the_decision_and_the_parts_tell_the_rest() -> None:
    caller = TurnCaller(Ears(), Voice(), 0.3)
    parts, ms, outcome = turn(caller, ready(0.0))
    assert set(parts) == {"endpoint", "voice_to_voice", "stt", "reply", "tts_first_audio"}
    assert min(parts.values()) >= 0
    assert parts["voice_to_voice"] == pytest.approx(parts["endpoint"] + ms, abs=1e-3)
    # The three are inside the latency, and what lies between them is what is left of it.
    assert parts["stt"] + parts["reply"] + parts["tts_first_audio"] <= ms + 1e-3
    text, audio = outcome.output
    assert text == "hello world"
    # The first audio alone.
    assert len(audio) == 100
    assert caller.sane(outcome.output)


@pytest.mark.usefixtures("at_once")
def test_a_turn_that_was_cut_off_has_no_endpoint() -> None:
    parts, ms, _ = turn(TurnCaller(Ears(), Voice(), 0.3), ready(1000.0))
    assert set(parts) == {"stt", "reply", "tts_first_audio"}
    assert ms >= 0


@pytest.mark.usefixtures("at_once")
def test_a_turn_in_which_nobody_was_heard_counts_from_the_end_of_the_speech(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("vozmetro.measure.turns.ONSET_S", 0.0)
    caller = TurnCaller(Ears(), Voice(), 0.3)
    begin = perf_counter_ns()
    parts, _, outcome = turn(caller, caller.silenced(ready(0.0)))
    assert parts == {}
    assert outcome.output == ("", None)
    assert begin <= (outcome.start_ns or 0) <= outcome.end_ns


@pytest.mark.usefixtures("at_once")
def test_turns_share_nothing() -> None:
    caller = TurnCaller(Ears(), Voice(), 0.3)
    spoken = ready(0.0)
    first, _, _ = turn(caller, spoken)
    turn(caller, ready(1000.0))
    again, _, outcome = turn(caller, spoken)
    assert set(first) == set(again)
    assert caller.look(outcome.output) == Look("hello world", "hello world", True)


@pytest.mark.usefixtures("at_once")
def test_no_words_have_no_audio() -> None:
    caller = TurnCaller(Ears(""), Voice(), 0.3)
    parts, _, outcome = turn(caller, ready(0.0))
    assert set(parts) == {"endpoint", "voice_to_voice", "stt"}
    assert outcome.output == ("", None)
    assert caller.sane(outcome.output)


@pytest.mark.usefixtures("at_once")
def test_a_turn_that_fails_says_why() -> None:
    voice = Voice()
    voice.fails = True
    with pytest.raises(MeasurementError) as caught:
        TurnCaller(Ears(), voice, 0.3).call(ready(0.0), perf_counter_ns())
    assert (caught.value.code, caught.value.fields["detail"]) == ("turn_failed", "out_of_memory")


def test_an_item_is_spoken_with_a_quiet_room_behind() -> None:
    caller = make("cascade", [Ears(), Voice()], {}, {}, 0.3)  # type: ignore[list-item]
    assert isinstance(caller, TurnCaller)
    said = read(hello())
    item = WorkItem("a", said.seconds, "en", "Hello world.", (str(hello()),), 3, False)
    (spoken, inputs), (again, _) = caller.prepare(item), caller.prepare(item)
    assert inputs == []
    assert (spoken.language, spoken.end_s) == ("en", speech_end(said))
    np.testing.assert_array_equal(spoken.samples, again.samples)
    behind = spoken.samples[len(said.samples) :]
    assert len(behind) == PATIENCE_S * SPEECH_RATE
    assert 20 * np.log10(np.sqrt(np.square(behind).mean())) == pytest.approx(-70, abs=0.5)


def sample(*parts: str) -> Sample:
    return Sample(
        item="a", session=0, block=0, round=0, at_s=0.0, ms=1.0, cpu_ms=1.0,
        parts=dict.fromkeys(parts, 1.0),
    )  # fmt: skip


def test_notes_count_the_turns_that_were_cut_off_and_missed() -> None:
    whole = sample("endpoint", "voice_to_voice", "stt", "reply", "tts_first_audio")
    cut, missed = sample("stt", "reply"), sample()
    assert turn_notes([whole, whole]) == []
    assert turn_notes([]) == []
    found = {note.code: note.fields for note in turn_notes([whole, cut, cut, missed])}
    assert found == {
        "turns_cut": {"count": "2", "turns": "4", "share": "50.0"},
        "turns_missed": {"count": "1", "turns": "4", "share": "25.0"},
    }


# The clock ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "clock"),
    [
        ("whisper-base-onnx-int8@context=stream", "post-endpoint"),
        ("whisper-base-onnx-int8@context=3.0", "per-inference"),
        ("whisper-base-onnx-int8", "per-inference"),
        ("piper-joe-onnx", "per-inference"),
        ("whisper-base-onnx-int8@context=stream+piper-joe-onnx", "post-endpoint"),
        (CASCADE, "post-endpoint"),
    ],
)
def test_the_clock_of_a_subject(words: str, clock: str) -> None:
    target = resolve_subject(words)
    assert target.clock == clock
    record = target.record([], [{} for _ in target.models], {}, None)
    assert record.clock == clock


def test_a_report_says_what_the_clock_of_each_kind_spans() -> None:
    told = {
        (kind, clock): clock_text(make_run(kind=kind, subject={"clock": clock}), "en")
        for kind, clock in [
            ("stt", "per-inference"), ("stt", "post-endpoint"), ("cascade", "post-endpoint"),
        ]
    }  # fmt: skip
    assert len(set(told.values())) == 3
    assert "transcript" in told["stt", "post-endpoint"]
    assert "audio" not in told["stt", "post-endpoint"]
    assert "first audio" in told["cascade", "post-endpoint"]


class Follower(Ears):
    """Hears while one speaks; the clock must not run meanwhile."""

    streams = True

    def __init__(self) -> None:
        super().__init__()
        self.finishing_ns = 0

    def open_stream(self, language: str) -> Follower:
        return self

    def feed(self, samples: Samples) -> None:
        pass

    def partial(self) -> str:
        return ""

    def finish(self) -> str:
        self.finishing_ns = perf_counter_ns()
        return self.text


@pytest.mark.parametrize("cascade", [False, True])
def test_what_is_heard_while_one_speaks_is_not_on_the_clock(cascade: bool) -> None:
    ears = Follower()
    caller = CascadeCaller(ears, Voice()) if cascade else TranscriberCaller(ears)
    audio = Waveform(np.zeros(SPEECH_RATE * 2, np.float32), SPEECH_RATE)
    fed_ns: list[int] = []
    ears.feed = lambda samples: fed_ns.append(perf_counter_ns())  # type: ignore[method-assign]
    outcomes: list[Outcome] = []

    def call(start_ns: int) -> Outcome:
        outcomes.append(caller.call((audio, "en"), start_ns))
        return outcomes[0]

    told, _ = timed(0, call)
    (outcome,) = outcomes
    assert outcome.start_ns is not None
    assert fed_ns[-1] <= outcome.start_ns <= ears.finishing_ns <= outcome.end_ns
    assert told["ms"] == (outcome.end_ns - outcome.start_ns) / 1e6
    if cascade:
        assert sum(outcome.parts_ms.values()) == pytest.approx(told["ms"])


# The command -------------------------------------------------------------------------------------

Call = Callable[..., tuple[int, str, str]]


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Call:
    def call(*words: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            main([str(word) for word in words])
        said = capsys.readouterr()
        assert isinstance(ended.value.code, int)
        return ended.value.code, said.out, said.err

    return call


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["whisper-base-onnx-int8", "--turns"], "turns_cascade"),
        (["piper-joe-onnx", "--turns"], "turns_cascade"),
        ([CASCADE, "--turns", "--audio-seconds", "1"], "turns_cascade"),
        ([CASCADE, "--hangover", "0.3"], "hangover_alone"),
        ([CASCADE, "--turns", "--hangover", "0.01"], "hangover_range"),
        ([CASCADE, "--turns", "--hangover", "0"], "hangover_range"),
        ([CASCADE, "--turns", "--hangover", "9"], "hangover_range"),
        ([CASCADE, "--turns", "--hangover", "nan"], "hangover_range"),
        ([CASCADE, "--turns", "--corpus", "nowhere"], "corpus_missing"),
    ],
)
def test_bad_words_are_one_clear_error(
    call: Call, words: list[str], code: str, tmp_path: Path
) -> None:
    exit_code, out, err = call("bench", *words, "--out", tmp_path / "o", "--lang", "es")
    assert (exit_code, out) == (2, "")
    assert len(err.strip().splitlines()) == 1
    # The sentence up to its first placeholder.
    assert catalogue("es")[f"errors.{code}"].split("{")[0] in err
    assert not (tmp_path / "o").exists()


def test_turns_of_real_models(call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Turns take as long as one speaks: no more of them than are looked at.
    for name in ("WARMUP_MAX_S", "WARMUP_TURNS_MAX_S"):
        monkeypatch.setattr(f"vozmetro.measure.live.{name}", 0.01)
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    said = read(hello()).samples
    for name, text, samples in (("a", "Hello world.", said), ("b", "Hello.", said[:9600])):
        soundfile.write(corpus / f"{name}.wav", samples, SPEECH_RATE)
        (corpus / f"{name}.txt").write_text(text)
    code, out, err = call(
        "bench", CASCADE, "--turns", "--hangover", "0.3", "--corpus", corpus, "--iterations", "1",
        "--until", "iterations", "--out", tmp_path / "o", "--lang", "en",
    )  # fmt: skip
    assert code in (0, 1, 3), err
    run = load_run(tmp_path / "o")
    assert isinstance(run, Run)
    assert (run.status, run.subject.clock, run.settings.hangover_s) == (
        "complete", "post-endpoint", 0.3,
    )  # fmt: skip
    assert len(run.samples) == 2
    spoken = next(one for one in run.samples if one.item.endswith("a"))
    assert {"stt", "reply", "tts_first_audio"} <= set(spoken.parts)
    if "endpoint" in spoken.parts:
        whole = spoken.parts["endpoint"] + spoken.ms
        assert spoken.parts["voice_to_voice"] == pytest.approx(whole, abs=0.01)
    heard = {item.id[-1]: item.output.lower() for item in run.items}
    assert "hello" in heard["a"]
    for text in (out, (tmp_path / "o" / "report.md").read_text()):
        assert "first audio" in text


def test_waits_have_no_rate() -> None:
    plain = make_run("a+b", "cascade")
    waited = plain.model_copy(
        update={"settings": plain.settings.model_copy(update={"hangover_s": 0.2})}
    )
    ahead = make_run("a@context=stream+b", "cascade")
    for run, has in ((plain, True), (waited, False), (ahead, False)):
        assert (summarize_run(run).rtf is not None) is has
        check = judge(run).check("throughput")
        assert math.isnan(check.value) is not has
        metrics = [one.metric for one in from_run(run)]
        assert ("throughput" in metrics) is has
