"""A study in parts gives what one process gives, whatever happens on the way."""

from __future__ import annotations

import json
import os
import random
import signal
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from shard_helpers import NAME, FakeEar, LocalEar, here, make_corpus

from vozmetro.assess import shard_results, sharded, study
from vozmetro.assess.options import QualityOptions
from vozmetro.assess.shard_files import about_of, rows_of
from vozmetro.assess.shard_hearing import BATCH_ITEMS, BATCH_S, HOPELESS
from vozmetro.assess.shard_plan import pieces, shard_of, shards_for, take_census
from vozmetro.assess.shard_worker import Job, Part
from vozmetro.assess.sharded import Sharding
from vozmetro.assess.worker import StudyWorker
from vozmetro.cli import main
from vozmetro.errors import InputError, MeasurementError, VozmetroError
from vozmetro.measure.quality_records import QualityStudy
from vozmetro.measure.schedule import Progress
from vozmetro.measure.storage import load_quality
from vozmetro.measure.subject import resolve_subject
from vozmetro.measure.workload import WorkItem
from vozmetro.report.quality_judged import judged_study
from vozmetro.report.quality_page import study_json, write_quality
from vozmetro.speech.corpus import load_corpus, open_sources
from vozmetro.speech.manifest import Source

BAD = {"clip-0003": "crashes", "clip-0009": "raises", "clip-0010": "hangs", "clip-0020": "once"}


def divided(
    corpus: Path, out: Path, *, shards: int | None = 5, workers: int = 2, **how: Any
) -> QualityStudy:
    options = QualityOptions(corpus=str(corpus), threads=1, seed=3)
    return sharded.quality([NAME], options, Sharding(here(**how), workers, shards), out=out)


def whole(corpus: Path, out: Path, monkeypatch: pytest.MonkeyPatch) -> QualityStudy:
    monkeypatch.setattr(study, "StudyWorker", LocalEar)
    options = QualityOptions(corpus=str(corpus), threads=1, seed=3)
    return study.quality([NAME], options, out=out)


def comparable(found: QualityStudy) -> tuple[Any, ...]:
    (system,) = found.systems
    heard = sorted((one.item, one.output, one.ms) for one in system.heard)
    return found.items, heard, found.corpora, found.normalizers


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_corpus(tmp_path_factory.mktemp("speech"), 48, speakers=13)


@pytest.mark.parametrize(
    ("shards", "speakers", "shuffle"),
    [(1, 0, 0), (2, 0, 5), (7, 0, 1), (200, 0, 2), (5, 13, 3), (64, 13, 4), (3, 4, 9)],
)
def test_the_record_is_that_of_one_process(
    shards: int, speakers: int, shuffle: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus = make_corpus(tmp_path / "corpus", 40, speakers=speakers, shuffle=shuffle)
    in_parts = divided(corpus, tmp_path / "parts", shards=shards, order=shuffle)
    at_once = whole(corpus, tmp_path / "whole", monkeypatch)
    assert in_parts.status == at_once.status == "complete"
    assert comparable(in_parts) == comparable(at_once)
    said = [study_json(judged_study(one))["systems"][0]["rows"] for one in (in_parts, at_once)]
    assert said[0] == said[1]
    assert load_quality(tmp_path / "parts") == in_parts
    assert in_parts.shards is not None
    assert in_parts.shards.by == ("speaker" if speakers == 13 else "utterance")
    assert in_parts.shards.utterances == 40


def test_beyond_the_bound_sums_say_the_same(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = judged_study(divided(corpus, tmp_path / "kept"))
    monkeypatch.setattr(shard_results, "MOST_KEPT", 10)
    monkeypatch.setattr(shard_results, "WORST", 4)
    found = divided(corpus, tmp_path / "summed", shards=9, order=8)
    (system,) = found.systems
    assert len([one for one in found.items if one.condition == "clean"]) == 4
    assert load_quality(tmp_path / "summed") == found
    summed = judged_study(found)
    before, after = (one.systems[0].quality for one in (kept, summed))
    assert before is not None
    assert after is not None
    for row, other in zip(after.rows, before.rows, strict=True):
        assert row.wer.value == other.wer.value
        assert (row.wer.n, row.wer.speakers, row.speakers) == (48, 13, 13)
        assert row.wer_exact.value == other.wer_exact.value
        assert row.folded.cer == other.folded.cer
        assert sorted(row.ms) == sorted(other.ms)
        width = other.wer.high - other.wer.low
        assert abs(row.wer.low - other.wer.low) < 0.2 * width
        assert abs(row.wer.high - other.wer.high) < 0.2 * width
    assert after.false_words == before.false_words
    worst = sorted(kept.heard[0].rows[0].folded.errors, reverse=True)[:4]
    assert sorted(after.rows[0].folded.errors[:4], reverse=True) == worst
    page = write_quality(tmp_path, summed, "en").read_text(encoding="utf-8")
    assert system.merged
    assert "48" in page


def test_what_cannot_be_heard_is_put_aside_with_its_reason(tmp_path: Path) -> None:
    corpus = make_corpus(tmp_path / "corpus", 40)
    (corpus / "clip-0005.wav").write_bytes(b"RIFF")
    (corpus / "clip-0006.wav").unlink()
    FakeEar.opened = 0
    found = divided(corpus, tmp_path / "out", shards=2, bad=BAD)
    (system,) = found.systems
    assert found.status == "complete"
    assert {one.id: one.code for one in system.left_out} == {
        "clip-0003": "worker_died", "clip-0005": "not_audio", "clip-0006": "file_missing",
        "clip-0009": "model_failed", "clip-0010": "worker_timeout",
    }  # fmt: skip
    assert system.left_out_count == 5
    heard = [found.items[one.item].id for one in system.heard]
    assert len(heard) == len(set(heard)) == 35 + 10
    assert "clip-0020" in heard
    (note,) = [one for one in found.notes if one.code == "utterances_left_out"]
    assert note.fields["count"] == "5"
    assert "worker_died (1)" in note.fields["reasons"]
    # Guilty ones alone cost a fresh process: a batch, and each of the three alone, twice.
    assert FakeEar.opened <= 1 + 3 * 3 + 1
    assert len([one for one in found.items if one.condition == "clean"]) == 40


def test_a_subject_too_slow_for_several_at_once_loses_nothing(tmp_path: Path) -> None:
    corpus = make_corpus(tmp_path / "corpus", 30)
    slow = {f"clip-{number:04d}": "slow" for number in range(30)}
    FakeEar.opened = 0
    found = divided(corpus, tmp_path / "out", shards=1, bad=slow)
    assert found.systems[0].left_out == []
    assert FakeEar.opened <= 3


def test_where_nothing_can_be_heard_the_study_fails(tmp_path: Path) -> None:
    corpus = make_corpus(tmp_path / "corpus", HOPELESS + 5)
    for path in corpus.glob("*.wav"):
        path.unlink()
    # Nothing is kept but what was heard where nobody speaks, if that came first.
    try:
        found = divided(corpus, tmp_path / "out", shards=1)
    except MeasurementError as error:
        assert error.code == "shard_hopeless"
    else:
        assert found.status == "failed"
        assert found.failure is not None
        assert found.failure.code == "shard_hopeless"
    few = make_corpus(tmp_path / "few", 3)
    for path in few.glob("*.wav"):
        path.unlink()
    found = divided(few, tmp_path / "out2", shards=2)
    assert found.status == "failed"
    assert found.failure is not None
    assert found.failure.code == "shard_hopeless"


def test_many_missing_recordings_side_by_side_do_not_end_a_study(tmp_path: Path) -> None:
    corpus = make_corpus(tmp_path / "corpus", HOPELESS + 10)
    for number in range(2, HOPELESS + 5):
        (corpus / f"clip-{number:04d}.wav").unlink()
    found = divided(corpus, tmp_path / "out", shards=1)
    (system,) = found.systems
    assert found.status == "complete"
    assert system.left_out_count == HOPELESS + 3
    assert {one.code for one in system.left_out} == {"file_missing"}


def test_files_that_no_decoder_or_system_takes_are_put_aside(tmp_path: Path) -> None:
    corpus = make_corpus(tmp_path / "corpus", 3)
    (corpus / "headerless.raw").write_bytes(bytes(100))
    names = ["headerless.raw", "x" * 300 + ".wav"]
    with (corpus / "manifest.jsonl").open("a") as listed:
        for name in names:
            listed.write(json.dumps({"audio": name, "text": "one", "language": "en"}) + "\n")
    (system,) = divided(corpus, tmp_path / "out", shards=1).systems
    assert {one.id: one.code for one in system.left_out} == {
        "headerless": "not_audio", "x" * 300: "file_missing",
    }  # fmt: skip
    assert divided(corpus, tmp_path / "out", shards=1).status == "complete"


def test_a_part_of_which_nothing_was_heard_is_heard_again(tmp_path: Path) -> None:
    corpus = make_corpus(tmp_path / "corpus", 30)
    away = [
        source.audio
        for source in open_sources(str(corpus))()
        if shard_of(source, "utterance", 3) == 0
    ]
    assert 0 < len(away) < HOPELESS
    for path in away:
        path.rename(path.with_suffix(".away"))
    first = divided(corpus, tmp_path / "out", shards=3)
    assert first.systems[0].left_out_count == len(away)
    for path in away:
        path.with_suffix(".away").rename(path)
    seen: list[int] = []
    second = divided(corpus, tmp_path / "out", shards=3, seen=seen)
    assert seen == [0]
    assert second.systems[0].left_out_count == 0
    assert comparable(second) == comparable(divided(corpus, tmp_path / "new", shards=3))


def test_a_part_under_another_number_is_refused(corpus: Path, tmp_path: Path) -> None:
    divided(corpus, tmp_path, shards=3)
    done = tmp_path / "shards" / "done-0"
    (done / "000000.parquet").write_bytes((done / "000001.parquet").read_bytes())
    found = divided(corpus, tmp_path, shards=3)
    assert found.status == "failed"
    assert found.failure is not None
    assert found.failure.code == "shard_foreign"


def test_one_part_alone_that_is_done_is_kept(corpus: Path, tmp_path: Path) -> None:
    def first(job: Job, files: Sequence[Path], workers: int) -> Iterator[Part]:
        yield from here()(job, [path for path in files if path.stem == "000000"], workers)
        raise KeyboardInterrupt

    options = QualityOptions(corpus=str(corpus), threads=1)
    found = sharded.quality([NAME], options, Sharding(first, 1, 3), out=tmp_path)
    assert found.status == "interrupted"
    assert [path.name for path in (tmp_path / "shards" / "done-0").iterdir()] == ["000000.parquet"]


def test_no_more_than_a_batch_is_decoded_at_once(tmp_path: Path) -> None:
    corpus = make_corpus(tmp_path / "corpus", 120)
    FakeEar.peak, FakeEar.peak_s = FakeEar.alive, FakeEar.alive_s
    before = FakeEar.alive
    divided(corpus, tmp_path / "out", shards=1)
    assert 1 < FakeEar.peak - before <= BATCH_ITEMS
    FakeEar.peak_s = before_s = FakeEar.alive_s
    long = make_corpus(tmp_path / "long", 6, seconds=25.0)
    divided(long, tmp_path / "out2", shards=1)
    assert 25 < FakeEar.peak_s - before_s <= BATCH_S


def test_a_cut_study_goes_on_with_what_is_missing(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    cut = divided(corpus, out, shards=6, stop_after=3)
    assert cut.status == "interrupted"
    done = sorted((out / "shards" / "done-0").glob("*.parquet"))
    assert len(done) == 3
    kept = {path.name: path.read_bytes() for path in done}
    seen: list[int] = []
    found = divided(corpus, out, shards=6, seen=seen)
    assert found.status == "complete"
    assert (found.id, found.created) == (cut.id, cut.created)
    assert not {int(Path(name).stem) for name in kept} & set(seen)
    for name, data in kept.items():
        assert (out / "shards" / "done-0" / name).read_bytes() == data
    assert comparable(found) == comparable(whole(corpus, tmp_path / "whole", monkeypatch))
    # Nothing is missing any more: nobody hears anything.
    seen.clear()
    again = sharded.resume(out, Sharding(here(seen=seen), 2))
    assert seen == []
    assert comparable(again) == comparable(found)


def test_a_part_that_comes_twice_counts_once(corpus: Path, tmp_path: Path) -> None:
    def twice(job: Job, files: Sequence[Path], workers: int) -> Iterator[Part]:
        for part in here()(job, files, workers):
            yield part
            yield part

    options = QualityOptions(corpus=str(corpus), threads=1, seed=3)
    found = sharded.quality([NAME], options, Sharding(twice, 2, 4), out=tmp_path / "out")
    assert comparable(found) == comparable(divided(corpus, tmp_path / "once"))


def test_a_part_that_never_comes_is_said(corpus: Path, tmp_path: Path) -> None:
    def loses(job: Job, files: Sequence[Path], workers: int) -> Iterator[Part]:
        yield from list(here()(job, files, workers))[1:]

    options = QualityOptions(corpus=str(corpus), threads=1)
    found = sharded.quality([NAME], options, Sharding(loses, 2, 4), out=tmp_path)
    assert found.status == "failed"
    assert found.failure is not None
    assert (found.failure.code, found.failure.fields["count"]) == ("shards_missing", "1")


@pytest.mark.parametrize("change", ["text", "sound", "model", "options"])
def test_a_changed_corpus_model_or_option_is_not_gone_on_with(
    change: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus = make_corpus(tmp_path / "corpus", 20)
    divided(corpus, tmp_path / "out", shards=3, stop_after=2)
    options = QualityOptions(corpus=str(corpus), threads=1, seed=3)
    if change == "text":
        listed = corpus / "manifest.jsonl"
        listed.write_text(listed.read_text().replace("please", "now"))
    elif change == "sound":
        for path in corpus.glob("*.wav"):
            path.write_bytes(path.read_bytes()[:-2] + b"\x01\x02")
    elif change == "model":
        monkeypatch.setattr(sharded, "_digests", lambda _: ("0" * 64,))
    else:
        options = replace(options, seed=4)
    with pytest.raises(InputError) as caught:
        sharded.quality([NAME], options, Sharding(here(), 2, 3), out=tmp_path / "out")
    assert caught.value.code == "resume_changed"
    assert {"text": "corpus", "sound": "corpus"}.get(change, change) in str(caught.value)


def test_results_of_another_study_or_version_are_refused(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def foreign(job: Job, files: Sequence[Path], workers: int) -> Iterator[Part]:
        yield from here()(replace(job, key="0" * 64), files, workers)

    options = QualityOptions(corpus=str(corpus), threads=1)
    with pytest.raises(VozmetroError) as caught:
        sharded.quality([NAME], options, Sharding(foreign, 2, 4), out=tmp_path / "a")
    assert caught.value.code == "shard_foreign"
    monkeypatch.setattr("vozmetro.assess.shard_worker.version", lambda _: "9.9.9")
    with pytest.raises(VozmetroError) as caught:
        divided(corpus, tmp_path / "b")
    assert caught.value.code == "shard_versions"


def test_a_damaged_part_is_named(corpus: Path, tmp_path: Path) -> None:
    divided(corpus, tmp_path, shards=3, stop_after=2)
    path = next((tmp_path / "shards" / "done-0").glob("*.parquet"))
    path.write_bytes(b"PAR1 nothing")
    with pytest.raises(InputError) as caught:
        divided(corpus, tmp_path, shards=3)
    assert caught.value.code == "shard_damaged"
    assert path.name in str(caught.value)


def test_a_part_names_what_it_is_made_of(corpus: Path, tmp_path: Path) -> None:
    divided(corpus, tmp_path, shards=4)
    planned = tmp_path / "shards" / "plan"
    names = []
    for path in sorted((tmp_path / "shards" / "done-0").glob("*.parquet")):
        about, rows = about_of(path), list(rows_of(path))
        given = pieces((planned / f"{path.stem}.jsonl").read_bytes())
        assert [row.outcome.piece for row in rows] == given
        assert about.heard == len(rows)
        names += [row.outcome.piece.id for row in rows if row.errors >= 0]
        assert sum(row.errors for row in rows if row.errors >= 0) == sum(
            one.folded.by_utterance.errors for one in about.merged if one.language == "*"
        )
    assert sorted(names) == sorted(one.id for one in load_corpus(str(corpus)))


@given(
    st.lists(st.tuples(st.text(max_size=8), st.sampled_from(["", "ana", "juan", "eva"])),
             unique_by=lambda one: one[0], max_size=40),
    st.integers(1, 30),
    st.randoms(use_true_random=False),
)  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_order_changes_neither_census_nor_parts(
    rows: list[tuple[str, str]], shards: int, order: random.Random
) -> None:
    sources = [Source(name, Path(name or "x"), "hello", "en", speaker=who) for name, who in rows]
    mixed = order.sample(sources, len(sources))
    if not sources:
        with pytest.raises(InputError):
            take_census(lambda: sources, "x")
        return
    one, other = take_census(lambda: sources, "x"), take_census(lambda: mixed, "x")
    assert (one.sha256, one.by) == (other.sha256, other.by)
    assert take_census(lambda: [*sources[:-1], replace(sources[-1], text="bye")], "x").sha256 != (
        one.sha256
    )
    homes: dict[str, int] = {}
    for source in sources:
        number = shard_of(source, "speaker", shards)
        assert 0 <= number < shards
        if source.speaker:
            assert homes.setdefault(source.speaker, number) == number


def test_a_name_that_comes_twice_is_refused() -> None:
    twice = [Source(name, Path(name), "hello", "en") for name in ("a", "b", "a")]
    with pytest.raises(InputError) as caught:
        take_census(lambda: twice, "corpus")
    assert (caught.value.code, caught.value.fields["id"]) == ("corpus_duplicate", "a")


@pytest.mark.parametrize(
    ("asked", "utterances", "workers", "expected"),
    [
        (None, 10, 2, 8),
        (None, 3, 2, 3),
        (None, 6_000_000, 1000, 50_000),
        (None, 6_000_000, 4, 15_000),
        (None, 1030, 2, 20),
        (7, 3, 2, 7),
    ],
)
def test_how_many_parts(asked: int | None, utterances: int, workers: int, expected: int) -> None:
    assert shards_for(asked, utterances, workers) == expected


@pytest.mark.parametrize("limit", [1, 5, 17, 100])
def test_a_limit_takes_what_one_process_takes(corpus: Path, limit: int) -> None:
    wanted = [one.id for one in load_corpus(str(corpus), limit=limit)]
    chosen = sharded.Chosen(
        QualityOptions(corpus=str(corpus), limit=limit, threads=1).settings([NAME], ["clean"]),
        [],
        lambda _: None,
    )
    assert sorted(one.id for one in chosen()) == sorted(wanted)


def test_several_corpora_are_named_as_one_process_names_them(tmp_path: Path) -> None:
    both = ",".join(str(make_corpus(tmp_path / name, 4)) for name in ("one", "two"))
    assert sorted(one.id for one in open_sources(both)()) == sorted(
        one.id for one in load_corpus(both)
    )


def test_other_languages_are_left_out_and_said(tmp_path: Path) -> None:
    corpus = make_corpus(tmp_path / "corpus", 12)
    listed = corpus / "manifest.jsonl"
    lines = [json.loads(line) for line in listed.read_text().splitlines()]
    lines[3]["language"] = "es"
    listed.write_text("\n".join(json.dumps(one) for one in lines))
    found = divided(corpus, tmp_path / "out")
    (note,) = [one for one in found.notes if one.code == "languages_left_out"]
    assert note.fields["count"] == "1"
    assert len([one for one in found.items if one.condition == "clean"]) == 11
    listed.write_text(listed.read_text().replace('"en"', '"es"'))
    with pytest.raises(InputError) as caught:
        divided(corpus, tmp_path / "out2")
    assert caught.value.code == "no_common_language"


def test_progress_tells_hours_and_what_is_left(corpus: Path, tmp_path: Path) -> None:
    told: list[Progress] = []
    options = QualityOptions(corpus=str(corpus), threads=1)
    sharded.quality([NAME], options, Sharding(here(), 2, 4), out=tmp_path, listen=told.append)
    heard = [one for one in told if one.phase == "measuring"]
    assert [one.rounds for one in heard] == sorted(one.rounds for one in heard)
    assert heard[-1].rounds == heard[-1].expected == 58
    assert heard[-1].audio_s == pytest.approx(48 * 0.05 + 60)
    assert heard[0].eta_s is not None
    assert all(one.speed > 0 for one in heard)


def test_the_command_line_divides_and_goes_on(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    seen: list[int] = []

    def chatty(job: Job, files: Sequence[Path], workers: int) -> Iterator[Part]:
        print("a node is lost, says Ray")
        yield from here(seen=seen)(job, files, workers)

    monkeypatch.setattr("vozmetro.fleet.cluster.connect", lambda *_, **__: nullcontext())
    monkeypatch.setattr("vozmetro.assess.shards_on_ray.workers_for", lambda _: 1)
    monkeypatch.setattr("vozmetro.assess.shards_on_ray.on_ray", chatty)
    monkeypatch.setattr("vozmetro.assess.shards_on_ray.workers_for", lambda _: 2)
    out = str(tmp_path / "out")
    given = ["quality", NAME, "--corpus", str(corpus), "--executor", "ray", "--out", out]
    again = ["quality", "--resume", out, "--workers", "1"]
    told = []
    for words in (given, given, again):
        with pytest.raises(SystemExit) as ended:
            main([*words, "--json", "--lang", "en"])
        assert ended.value.code == 0
        told.append(json.loads(capsys.readouterr().out))
        next((tmp_path / "out" / "shards" / "done-0").glob("*.parquet")).unlink()
    assert told[0]["systems"] == told[1]["systems"] == told[2]["systems"]
    assert len({one["id"] for one in told}) == 1
    # Eight parts and the sounds without speech; then the one that was taken away, twice.
    assert len(seen) == len(set(seen)) + 2
    with pytest.raises(SystemExit) as ended:
        main([*again, "--limit", "3"])
    assert ended.value.code == 2


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["--conditions", "white@10"], "--conditions"),
        (["--utterance-limit", "5", "--executor", "local"], "--executor ray"),
    ],
)
def test_what_cannot_be_divided_is_refused(
    words: list[str], code: str, corpus: Path, tmp_path: Path,
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr("vozmetro.fleet.cluster.connect", lambda *_, **__: nullcontext())
    monkeypatch.setattr("vozmetro.assess.shards_on_ray.workers_for", lambda _: 1)
    given = ["quality", NAME, "--corpus", str(corpus), "--executor", "ray", "--workers", "1",
             "--out", str(tmp_path / "out"), *words]  # fmt: skip
    with pytest.raises(SystemExit) as ended:
        main([*given, "--lang", "en"])
    assert ended.value.code == 2
    assert code in capsys.readouterr().err


def test_a_cluster_is_not_asked_from_outside(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["quality", NAME, "--corpus", str(corpus), "--executor", "ray", "--out",
             str(tmp_path / "out"), "--address", "ray://127.0.0.1:10001"]  # fmt: skip
    with pytest.raises(SystemExit) as ended:
        main([*given, "--lang", "en"])
    assert ended.value.code == 2
    assert "--address auto" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


class DeadlyEar(StudyWorker):
    """A real engine that is killed, from outside, for one recording."""

    def __init__(self, _: Job) -> None:
        super().__init__(resolve_subject(NAME), 1, warm_up=False)

    def hear(self, items: Sequence[WorkItem], limit_s: float = 60.0) -> list[tuple[str, float]]:
        if any("clip-0001" in path for item in items for path in item.paths):
            os.kill(self.pid, signal.SIGKILL)
        return super().hear(items, limit_s)


@pytest.mark.slow
def test_a_real_engine_that_is_killed_costs_one_recording(tmp_path: Path) -> None:
    corpus = make_corpus(tmp_path / "corpus", 3, seconds=1.0)
    found = divided(corpus, tmp_path / "out", shards=1, ear=DeadlyEar)
    (system,) = found.systems
    assert found.status == "complete"
    assert [(one.id, one.code) for one in system.left_out] == [("clip-0001", "worker_killed")]
    assert len(system.heard) == 2 + 10
    assert system.peak_rss > 50e6


def test_a_voice_is_refused(corpus: Path, tmp_path: Path) -> None:
    options = QualityOptions(corpus=str(corpus), threads=1)
    with pytest.raises(InputError) as caught:
        sharded.quality(["piper-joe"], options, Sharding(here(), 1), out=tmp_path)
    assert caught.value.code == "shard_voice"
