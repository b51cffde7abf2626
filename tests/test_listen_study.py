"""What a study is: its order, its sounds, its files."""

from __future__ import annotations

import hashlib
import io
import json
import sqlite3
from collections import Counter
from itertools import combinations, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st
from listen_helpers import plan, sounds, study_in
from pydantic import ValidationError

from vozmetro.audio import Waveform, synthetic_speech
from vozmetro.errors import InputError
from vozmetro.quality.listen import clips
from vozmetro.quality.listen import create as creating
from vozmetro.quality.listen.create import Wish, create, parse_system
from vozmetro.quality.listen.plan import Trial, dumped, item_subset, loaded, units, williams
from vozmetro.quality.listen.store import Profile, Store
from vozmetro.quality.listen.study import (
    ANCHORS,
    GOLD,
    Study,
    check_clips,
    clip_path,
    digest,
    load,
    save,
)


@given(st.integers(1, 9))
def test_in_a_williams_design_each_follows_each_other_equally_often(count: int) -> None:
    rows = williams(count)
    assert all(sorted(row) == list(range(count)) for row in rows)
    follows = Counter(pair for row in rows for pair in pairwise(row))
    assert len(follows) == count * (count - 1)
    assert len(set(follows.values())) <= 1
    places = Counter((place, one) for row in rows for place, one in enumerate(row))
    assert len(set(places.values())) == 1


@given(st.integers(1, 12), st.data(), st.integers(0, 99))
def test_items_are_dealt_equally_and_none_twice(count: int, data: st.DataObject, seed: int) -> None:
    per = data.draw(st.integers(1, count))
    dealt = Counter(dict.fromkeys(range(count), 0))
    for listener in range(8):
        got = item_subset(count, per, listener, seed)
        assert len(set(got)) == per
        dealt.update(got)
        assert max(dealt.values()) - min(dealt.values()) <= 1
    assert item_subset(count, per, 3, seed) == item_subset(count, per, 3, seed)


def test_every_listener_rates_every_system_of_every_item_once(tmp_path: Path) -> None:
    study = study_in(tmp_path, Wish(items_per_listener=3), systems="abc", items=6).study
    first = Counter()
    for listener in range(6):
        trials = plan(study, listener)
        rated = [one for one in trials if one.kind == "rating"]
        seen = {(one.item, one.conditions[0]) for one in rated}
        assert len(rated) == len(seen) == 9
        assert len({item for item, _ in seen}) == 3
        assert study.training_item not in {item for item, _ in seen}
        first[rated[0].conditions[0]] += 1
        kinds = Counter(one.kind for one in trials)
        assert (kinds["trap"], kinds["gold"], kinds["repeat"]) == (2, 2, 2)
        assert [one.kind for one in trials[:2]] == ["training", "training"]
        assert trials[2].kind == "rating"
        again = [one for one in trials if one.kind == "repeat"]
        assert {one.clips for one in again} <= {one.clips for one in rated}
        assert plan(study, listener) == trials
    # Six rows of a Williams design of three: each system begins equally often.
    assert set(first.values()) == {2}


@pytest.mark.parametrize("method", ["ab", "ccr"])
def test_pairs_come_in_both_orders_equally_often(tmp_path: Path, method: str) -> None:
    study = study_in(tmp_path, Wish(method=method), systems="abc", items=5).study
    orders = Counter(
        one.conditions
        for listener in range(24)
        for one in plan(study, listener)
        if one.kind == "rating"
    )
    for a, b in combinations("abc", 2):
        both = orders[a, b] + orders[b, a]
        assert both == 24 * study.items_per_listener
        assert abs(orders[a, b] - orders[b, a]) <= both / 10


def test_a_mushra_trial_holds_all_systems_the_reference_and_both_anchors(tmp_path: Path) -> None:
    study = study_in(tmp_path, Wish(method="mushra"), reference=True).study
    trials = plan(study, 0)
    assert {one.kind for one in trials} == {"training", "rating", "repeat"}
    by_id = study.by_id()
    for one in trials:
        assert sorted(one.conditions) == sorted(["good", "bad", "reference", *ANCHORS])
        assert by_id[one.reference].condition == "reference"
        assert one.reference in one.clips
        assert {by_id[clip].item for clip in one.clips} == {one.item}
    assert len({one.conditions for one in trials}) > 1


def test_a_plan_is_kept_as_it_was_given_out(tmp_path: Path) -> None:
    study = study_in(tmp_path / "a", Wish(method="ccr")).study
    trials = plan(study, 3)
    assert loaded(dumped(trials), study) == trials
    other = study_in(tmp_path / "b", Wish(method="ccr")).study
    raw = json.loads(dumped(trials))
    raw[0]["conditions"].reverse()
    for text in (dumped(plan(other, 3)), json.dumps(raw), "", "[{}]", '[{"kind": 1}]', "null"):
        with pytest.raises(InputError) as caught:
            loaded(text, study)
        assert caught.value.code == "listen_ratings_damaged"


def test_known_answers() -> None:
    ab = Trial("gold", "i", ("x", GOLD), ("1", "2"))
    assert [ab.is_right("ab", answer) for answer in (0, 1)] == [True, False]
    assert [ab.is_right("ccr", answer) for answer in (-3, -1, 0, 2)] == [True, True, False, False]
    turned = Trial("gold", "i", (GOLD, "x"), ("2", "1"))
    assert [turned.is_right("ab", answer) for answer in (0, 1)] == [False, True]
    assert [turned.is_right("ccr", answer) for answer in (-1, 0, 1)] == [False, False, True]
    acr = Trial("gold", "i", (GOLD,), ("2",))
    assert [acr.is_right("acr", answer) for answer in range(1, 6)] == [True] * 2 + [False] * 3
    trap = Trial("trap", "i", ("x",), ("1",), expected=4)
    assert [trap.is_right("acr", answer) for answer in (3, 4)] == [False, True]
    assert units("abc", "ccr") == [("a", "b"), ("a", "c"), ("b", "c")]


def test_clips_are_matched_in_loudness_and_tell_nothing(tmp_path: Path) -> None:
    made = study_in(tmp_path, systems=("loud", "quiet"), items=4, seconds=1.0)
    study = made.study
    import pyloudnorm

    for clip in study.clips:
        path = clip_path(made.folder, clip.id)
        assert path is not None
        samples, rate = soundfile.read(path)
        info = soundfile.info(path)
        assert (info.subtype, info.channels, rate) == ("PCM_16", 1, 16_000)
        level = pyloudnorm.Meter(rate).integrated_loudness(samples)
        assert level == pytest.approx(study.loudness, abs=0.1)
        assert np.abs(samples).max() <= 10 ** (clips.PEAK_DB / 20) + 1e-3
        assert clip.condition not in path.name
        assert clip.item not in path.name
        assert hashlib.sha256(path.read_bytes()).hexdigest() == clip.sha256
    conditions = Counter(clip.condition for clip in study.clips)
    assert conditions == {"loud": 4, "quiet": 4, GOLD: 2}
    check_clips(study, made.folder)
    assert load(made.folder) == study


def test_one_loud_peak_lowers_all_clips_alike() -> None:
    speech = synthetic_speech(1.0)
    click = speech.samples * np.float32(0.05)
    click[4000] = 1.0
    matched, level = clips.matched({"a": speech, "b": Waveform(click, 16_000)})
    assert level < clips.LOUDNESS
    assert np.abs(matched["b"].samples).max() == pytest.approx(10 ** (-1 / 20), rel=1e-3)
    levels = [clips.loudness(one) for one in matched.values()]
    assert levels == pytest.approx([level, level], abs=0.05)


def test_loudness_of_a_known_sine() -> None:
    # BS.1770-4: 997 Hz at 0 dBFS on one channel is -3.01 LUFS.
    time = np.arange(48_000) / 48_000
    sine = Waveform(np.sin(2 * np.pi * 997 * time).astype(np.float32), 48_000)
    assert clips.loudness(sine) == pytest.approx(-3.01, abs=0.05)
    short = Waveform(sine.samples[:9600], 48_000)
    assert clips.loudness(short) == pytest.approx(-3.01, abs=0.1)
    assert clips.loudness(Waveform(np.zeros(48_000, np.float32), 48_000)) == -np.inf


@pytest.mark.parametrize(("cutoff", "rate"), [(3500.0, 16_000), (7000.0, 16_000), (7000.0, 44_100)])
def test_anchors_pass_up_to_their_cutoff_and_nothing_above(cutoff: float, rate: int) -> None:
    impulse = np.zeros(rate, np.float32)
    impulse[rate // 2] = 1.0
    response = np.abs(np.fft.rfft(clips.low_passed(Waveform(impulse, rate), cutoff).samples))
    hertz = np.fft.rfftfreq(rate, 1 / rate)
    db = 20 * np.log10(response + 1e-12)
    assert np.abs(db[hertz <= cutoff]).max() < 0.1
    assert db[hertz > cutoff * 8 / 7].max(initial=-99) < -55


def test_an_anchor_needs_something_to_take_away() -> None:
    with pytest.raises(InputError) as caught:
        clips.low_passed(synthetic_speech(0.5, rate=8000), 7000.0)
    assert caught.value.code == "listen_anchor_rate"


def test_a_spoilt_clip_holds_as_much_noise_as_speech() -> None:
    speech = synthetic_speech(2.0)
    noise = clips.spoilt(speech, 1).samples - speech.samples
    assert np.mean(noise**2) / np.mean(speech.samples**2) == pytest.approx(1.0, rel=0.05)


def test_of_the_tones_one_is_softer_and_another_turned() -> None:
    samples, rate = soundfile.read(io.BytesIO(clips.check_tones(quietest=2, turned=0)))
    length, gap = int(0.6 * rate), int(0.25 * rate)
    tones = [samples[gap + n * (length + gap) :][:length] for n in range(3)]
    levels = [20 * np.log10(np.sqrt(np.mean(tone[:, 0] ** 2))) for tone in tones]
    assert levels[0] == pytest.approx(levels[1], abs=0.01)
    assert levels[2] - levels[1] == pytest.approx(-6.02, abs=0.05)
    together = [np.abs(tone.sum(axis=1)).max() for tone in tones]
    assert together[0] < 1e-3 < together[2] < together[1]


def bad(tmp_path: Path, wish: Wish | None = None, **more: object) -> str:
    with pytest.raises(InputError) as caught:
        study_in(tmp_path, wish, **more)  # type: ignore[arg-type]
    caught.value.message("es")
    return caught.value.code


def test_what_cannot_be_a_study_is_refused_by_name(tmp_path: Path) -> None:
    assert bad(tmp_path / "1", Wish(method="ab"), systems=["x"]) == "listen_systems_count"
    assert bad(tmp_path / "2", systems=list("abcdefghijk")) == "listen_systems_count"
    assert bad(tmp_path / "3", Wish(method="mushra")) == "listen_needs_reference"
    assert bad(tmp_path / "4", Wish(traps=11)) == "listen_count_range"
    assert bad(tmp_path / "5", Wish(items_per_listener=0)) == "listen_items_range"
    assert bad(tmp_path / "6", Wish(seed=-1)) == "listen_seed_range"
    scale = Wish(method="mushra", scales=["empathy"])
    assert bad(tmp_path / "7", scale, reference=True) == "listen_mushra_scale"
    checks = Wish(method="mushra", golds=1)
    assert bad(tmp_path / "8", checks, reference=True) == "listen_mushra_checks"
    gold = Wish(scales=["empathy"], golds=1)
    assert bad(tmp_path / "11", gold) == "listen_gold_scale"
    study_in(tmp_path / "9")
    assert bad(tmp_path / "9") == "listen_study_exists"
    assert bad(tmp_path / "10", seconds=0.05) == "listen_clip_length"
    for text in ("reference=x", "GOLD=x", "=x", "a=", "x" * 41 + "=y"):
        with pytest.raises(InputError) as caught:
            parse_system(text)
        assert caught.value.code == "listen_system_invalid"
    assert parse_system("voces/una") == ("una", Path("voces/una"))


def test_folders_are_matched_by_file_name(tmp_path: Path) -> None:
    a = sounds(tmp_path / "a", ["x", "y"], 1)
    b = sounds(tmp_path / "b" / "clips", ["y", "z"], 2)
    (a / "linked.wav").symlink_to(b / "z.wav")
    made = create([("a", a), ("b", b.parent)], tmp_path / "out")
    assert made.study.items == ["y"]
    assert made.left_out == ("x", "z")
    lone = sounds(tmp_path / "c", ["q"], 3)
    with pytest.raises(InputError) as caught:
        create([("a", a), ("c", lone)], tmp_path / "out2")
    assert caught.value.code == "listen_no_common"
    soundfile.write(lone / "q.wav", np.zeros(16_000), 16_000)
    with pytest.raises(InputError) as caught:
        create([("c", lone)], tmp_path / "out3")
    assert caught.value.code == "listen_clip_silent"
    (lone / "q.wav").write_bytes(b"no sound")
    with pytest.raises(InputError) as caught:
        create([("c", lone)], tmp_path / "out4")
    assert caught.value.code == "not_audio"
    for folder, code in ((tmp_path / "none", "listen_no_folder"), (tmp_path, "listen_no_sounds")):
        with pytest.raises(InputError) as caught:
            create([("c", folder)], tmp_path / "out5")
        assert caught.value.code == code


def test_damaged_studies_are_told_apart(tmp_path: Path) -> None:
    made = study_in(tmp_path)

    def code() -> str:
        with pytest.raises(InputError) as caught:
            check_clips(load(made.folder), made.folder)
        return caught.value.code

    path = made.folder / "clips" / f"{made.study.clips[0].id}.wav"
    kept = path.read_bytes()
    path.write_bytes(kept[:-2] + b"xx")
    assert code() == "listen_clip_damaged"
    elsewhere = tmp_path / "elsewhere.wav"
    elsewhere.write_bytes(kept)
    path.unlink()
    path.symlink_to(elsewhere)
    assert clip_path(made.folder, made.study.clips[0].id) is None
    assert code() == "listen_clip_damaged"
    raw = made.study.model_dump(mode="json")
    file = made.folder / "study.json"
    file.write_text(json.dumps({**raw, "schema_version": 99}))
    assert code() == "listen_study_newer"
    for text in ("", "[]", "{}", "[" * 100_000, json.dumps({**raw, "items": ["none"]})):
        file.write_text(text)
        assert code() == "listen_study_unreadable"
    file.unlink()
    assert code() == "listen_no_study"


VALUES = st.none() | st.integers(-3, 600) | st.text(max_size=8) | st.lists(st.text(max_size=4))


@pytest.fixture(scope="module")
def raw_study(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return study_in(tmp_path_factory.mktemp("raw")).study.model_dump(mode="json")


@given(st.data())
def test_a_changed_study_is_refused_or_can_be_planned(
    raw_study: dict[str, Any], data: st.DataObject
) -> None:
    raw = json.loads(json.dumps(raw_study))
    clip = data.draw(st.integers(0, len(raw["clips"]) - 1))
    where = data.draw(st.sampled_from([raw, raw["rules"], raw["clips"][clip]]))
    key = data.draw(st.sampled_from(sorted(where)))
    known = st.sampled_from([*raw["systems"], *raw["items"], "gold", "mushra", "ccr", "reference"])
    where[key] = data.draw(VALUES | known)
    try:
        study = Study.model_validate(raw)
    except ValidationError:
        return
    for listener in (0, 7):
        known_ids = set(study.by_id())
        assert all(set(trial.clips) <= known_ids for trial in plan(study, listener))


@given(st.text(max_size=60))
def test_no_name_leads_out_of_the_clips(name: str) -> None:
    found = clip_path(Path("/nowhere"), name)
    assert found is None


def test_the_digest_is_of_the_content(tmp_path: Path) -> None:
    study = study_in(tmp_path).study
    path = save(study, tmp_path)
    path.write_text(json.dumps(json.loads(path.read_text()), indent=7))
    assert digest(load(tmp_path)) == digest(study)
    assert digest(study.model_copy(update={"seed": 5})) != digest(study)
    assert Study.model_validate(study.model_dump()) == study


def test_a_system_may_have_a_name_with_a_slash(tmp_path: Path) -> None:
    a, b = (sounds(tmp_path / name, ["x", "y"], seed) for seed, name in enumerate("ab"))
    made = create([("facebook/mms", a), ("piper", b)], tmp_path / "out")
    assert {clip.condition for clip in made.study.clips} >= {"facebook/mms", "piper"}
    assert {clip.item for clip in made.study.clips} == {"x", "y"}


def test_two_recordings_of_one_name_are_not_one(tmp_path: Path) -> None:
    a, b = (sounds(tmp_path / name, ["x"], seed) for seed, name in enumerate("ab"))
    soundfile.write(a / "x.flac", np.zeros(100, np.float32), 16_000)
    with pytest.raises(InputError) as caught:
        create([("a", a), ("b", b)], tmp_path / "out")
    assert caught.value.code == "listen_item_twice"


def test_a_name_that_is_too_long_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    a, b = (sounds(tmp_path / name, ["n" * 201], seed) for seed, name in enumerate("ab"))
    with pytest.raises(InputError) as caught:
        create([("a", a), ("b", b)], tmp_path / "out")
    assert caught.value.code == "listen_item_name"
    assert not (tmp_path / "out").exists()


def test_more_trials_than_anybody_would_answer_are_refused_before_anything_is_written(
    tmp_path: Path,
) -> None:
    # Ten systems make 45 pairs: 11 items are 495 trials, 12 are 540.
    names = list("abcdefghij")
    folder = sounds(tmp_path / "in", [f"s{n}" for n in range(13)], 1, seconds=0.2)
    systems = [(name, folder) for name in names]
    with pytest.raises(InputError) as caught:
        create(systems, tmp_path / "out", Wish(method="ab", items_per_listener=12))
    assert caught.value.code == "listen_trials_many"
    assert "540" in caught.value.message("en") and "--items 11" in caught.value.message("en")
    assert not (tmp_path / "out").exists()
    made = create(systems, tmp_path / "out", Wish(method="ab", items_per_listener=11))
    assert sum(trial.kind == "rating" for trial in plan(made.study, 0)) == 495


def test_a_study_that_lasts_too_long_is_refused_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Two systems and the reference, four items of half a second: 6 s, and 4 s of anchors.
    monkeypatch.setattr(creating, "MOST_SECONDS", 9.9)
    wish = Wish(method="mushra")
    assert bad(tmp_path / "1", wish, reference=True) == "listen_study_long"
    assert not (tmp_path / "1" / "study").exists()
    assert len(study_in(tmp_path / "2", reference=True).study.items) == 3, "no anchors, no excess"
    monkeypatch.setattr(creating, "MOST_SECONDS", 10.1)
    assert study_in(tmp_path / "3", wish, reference=True).study.method == "mushra"


def test_all_clips_have_one_rate(tmp_path: Path) -> None:
    a = sounds(tmp_path / "a", ["x", "y"], 1, rate=16_000)
    b = sounds(tmp_path / "b", ["x", "y"], 2, rate=22_050)
    made = create([("a", a), ("b", b)], tmp_path / "out")
    rates = {
        soundfile.info(clip_path(made.folder, clip.id)).samplerate for clip in made.study.clips
    }
    assert rates == {22_050}


def test_a_commit_that_fails_stores_nothing_and_locks_nobody_out(tmp_path: Path) -> None:
    made = study_in(tmp_path)
    store = Store(made.folder, digest(made.study))
    who = Profile("es", "Ana", "es", "normal")

    class Failing:
        def __init__(self, inner: Any) -> None:
            self.inner, self.fails = inner, True

        def execute(self, query: str, *values: Any) -> Any:
            if query == "COMMIT" and self.fails:
                self.fails = False
                raise sqlite3.OperationalError("database or disk is full")
            return self.inner.execute(query, *values)

        def __getattr__(self, name: str) -> Any:
            return getattr(self.inner, name)

    store._db = Failing(store._db)  # type: ignore[assignment]
    with pytest.raises(sqlite3.OperationalError):
        store.join(0.0, who, lambda number: "[]")
    assert store.listeners() == []
    assert store.join(0.0, who, lambda number: "[]")
    assert [one.number for one in store.listeners()] == [0]
    store.close()
