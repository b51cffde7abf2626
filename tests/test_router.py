"""Tiers: which one answers, which are in memory, and when one is demoted and comes back."""

from __future__ import annotations

import logging
import threading
import weakref
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from vozmetro.audio import Samples, Waveform
from vozmetro.errors import BusyError, InputError, ModelError
from vozmetro.pipeline.config import (
    ChatConfig,
    EchoConfig,
    Hysteresis,
    PipelineConfig,
    ReplyConfig,
    RouteRule,
    TemplateConfig,
    TierConfig,
)
from vozmetro.pipeline.gate import Gate
from vozmetro.pipeline.health import Health, p90
from vozmetro.pipeline.loading import Loader, load_stages, open_router, split_cascade
from vozmetro.pipeline.reply.chat import Chat
from vozmetro.pipeline.reply.echo import Echo
from vozmetro.pipeline.reply.template import Template
from vozmetro.pipeline.router import Router
from vozmetro.pipeline.tiers import Ask, Stages

GB = 10**9


class Deaf:
    def transcribe(self, audio: Waveform, language: str) -> str:
        raise AssertionError("not asked to")


class Ears:
    """Notes what it is given, and how."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.calls: list[str] = []

    def transcribe(self, audio: Waveform, language: str) -> str:
        self.seconds.append(audio.seconds)
        return ""

    def open_stream(self, language: str) -> Ears:
        return self

    def feed(self, samples: Samples) -> None:
        self.seconds.append(len(samples) / 16_000)

    def partial(self) -> str:
        self.calls.append("partial")
        return ""

    def finish(self) -> str:
        self.calls.append("finish")
        return ""


class Talker:
    sample_rate = 16_000

    def stream(self, text: str) -> Iterator[Samples]:
        yield np.zeros(10, np.float32)


class Mute:
    sample_rate = 16_000

    def stream(self, text: str) -> Iterator[Samples]:
        raise AssertionError("not asked to")


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class House:
    """A router on models that are nothing but their size; it knows which of them are alive."""

    def __init__(self, config: PipelineConfig, needs: Mapping[str, Mapping[str, int]]) -> None:
        self.config, self.needs, self.clock = config, needs, Clock()
        self.alive: weakref.WeakSet[Stages] = weakref.WeakSet()
        self.loads: list[str] = []
        self.broken: set[str] = set()
        self.most = 0
        self.router = Router(config, self.load, lambda one: needs[one.name], self.clock, Gate())

    def load(self, tier: TierConfig) -> Stages:
        self.loads.append(tier.name)
        # What will be there once it is loaded, while everything else still is.
        self.most = max(self.most, self.used(tier.name))
        if tier.name in self.broken:
            raise ModelError("onnx_invalid", path="m.onnx")
        stages = Stages(tier.name, Deaf(), Echo(), Mute())
        self.alive.add(stages)
        return stages

    def used(self, *loading: str) -> int:
        names = {*loading, *(stages.tier for stages in self.alive)}
        together: dict[str, int] = {}
        for name in names:
            together.update(self.needs[name])
        return sum(together.values())

    def turn(self, tier: str = "", seconds: float | None = None) -> str:
        with self.router.lease(Ask(tier, seconds)) as stages:
            return stages.tier

    def resident(self) -> set[str]:
        return {one.name for one in self.router.states() if one.residence == "resident"}

    def demoted(self) -> set[str]:
        return {one.name for one in self.router.states() if one.demoted}


def tier(name: str, **changes: Any) -> TierConfig:
    return TierConfig(name=name, stt="a", tts="b", **changes)


def house(*tiers: TierConfig, sizes: Mapping[str, int] | None = None, **changes: Any) -> House:
    made = tiers or (tier("fast"), tier("best"))
    config = PipelineConfig(tiers=made, **{"ram_gb": 4.0, "ttl_s": 100.0, **changes})
    return House(config, {one.name: {one.name: (sizes or {}).get(one.name, GB)} for one in made})


SMALL = Hysteresis(window=20, enough=10, back_below=0.8, cooldown_s=60.0)


# Which tier


def test_the_default_answers_and_is_loaded_once() -> None:
    it = house(default="best")
    assert list(it.router.names) == ["best", "fast"]
    it.router.warm()
    assert [it.turn(), it.turn(), it.turn("fast")] == ["best", "best", "fast"]
    assert it.loads == ["best", "fast"]


def test_an_unknown_tier_is_refused_by_name() -> None:
    with pytest.raises(InputError) as caught:
        house().turn("max")
    assert caught.value.code == "tier_unknown"
    assert "fast, best" in str(caught.value)


def test_rules_go_by_length_and_load_in_their_order() -> None:
    it = house(
        tier("fast"),
        tier("good"),
        tier("best"),
        rules=(
            RouteRule(tier="fast", load_from=1),
            RouteRule(tier="best", seconds_from=6.0),
            RouteRule(tier="good", seconds_from=3.0, seconds_below=6.0, load_below=1),
        ),
    )
    lengths = (None, 2.9, 3.0, 5.9, 6.0)
    assert [it.turn(seconds=one) for one in lengths] == ["fast", "fast", "good", "good", "best"]
    with it.router.gate.turn():
        assert it.turn(seconds=6.0) == "fast"


# Memory


def test_what_is_idle_goes_before_another_is_loaded_that_would_not_fit() -> None:
    it = house(sizes={"fast": 2 * GB, "best": 3 * GB})
    assert [it.turn(), it.turn("best"), it.turn()] == ["fast", "best", "fast"]
    assert it.most == 3 * GB
    assert it.resident() == {"fast"}


def test_both_stay_where_both_fit() -> None:
    it = house(sizes={"fast": GB, "best": 3 * GB})
    it.turn()
    it.turn("best")
    assert it.resident() == {"fast", "best"}
    assert it.most == 4 * GB


def test_what_two_tiers_share_counts_once() -> None:
    config = PipelineConfig(tiers=(tier("fast"), tier("best")), ram_gb=4)
    it = House(config, {"fast": {"w": 3 * GB}, "best": {"w": 3 * GB, "lm": GB}})
    it.turn()
    it.turn("best")
    assert it.resident() == {"fast", "best"}


def test_a_tier_in_use_stays_and_the_one_that_does_not_fit_is_busy() -> None:
    it = house(sizes={"fast": 2 * GB, "best": 3 * GB})
    with it.router.lease(Ask()), pytest.raises(BusyError) as caught:
        it.turn("best")
    assert caught.value.code == "tier_memory"
    assert {"5.0 GB", "4.0 GB"} <= {caught.value.fields["needed"], caught.value.fields["ceiling"]}
    assert it.turn("best") == "best"


def test_who_asks_for_no_tier_gets_what_is_there() -> None:
    it = house(sizes={"fast": 2 * GB, "best": 3 * GB})
    with it.router.lease(Ask("best")):
        assert it.turn() == "best"
    assert it.turn() == "fast"


def test_a_pinned_tier_stays() -> None:
    it = house(tier("fast", pinned=True), tier("best"), sizes={"best": 3 * GB})
    it.router.warm()
    it.turn("best")
    it.clock.now = 1e6
    it.router.sweep()
    assert it.resident() == {"fast"}


def test_tiers_go_after_their_time_and_not_before() -> None:
    it = house(tier("fast"), tier("best", ttl_s=10.0))
    it.turn()
    it.turn("best")
    for now, left in ((9.9, {"fast", "best"}), (10.0, {"fast"}), (99.9, {"fast"}), (100.0, set())):
        it.clock.now = now
        it.router.sweep()
        assert it.resident() == left
    assert not it.alive


def test_a_lease_keeps_a_tier_beyond_its_time() -> None:
    it = house()
    with it.router.lease(Ask()):
        it.clock.now = 1000.0
        it.router.sweep()
        assert it.resident() == {"fast"}
    it.clock.now = 1099.0
    it.router.sweep()
    assert it.resident() == {"fast"}


@pytest.mark.parametrize("pinned", [False, True])
def test_what_can_never_fit_is_said_at_the_start(pinned: bool) -> None:
    sizes = {"fast": 2 * GB, "best": 3 * GB if pinned else 5 * GB}
    with pytest.raises(InputError) as caught:
        house(tier("fast", pinned=pinned), tier("best"), sizes=sizes)
    assert caught.value.code == "tier_never_fits"
    assert caught.value.fields["needed"] == "5.0 GB"


def test_a_tier_that_cannot_be_loaded_is_stood_in_for() -> None:
    it = house()
    it.broken = {"fast"}
    assert [it.turn(), it.turn()] == ["best", "best"]
    # It is not tried for every turn, but again after a while.
    assert it.loads == ["fast", "best"]
    it.broken, it.clock.now = set(), 61.0
    assert it.turn() == "fast"
    it.broken = {"fast", "best"}
    it.clock.now = 1000.0
    with pytest.raises(ModelError):
        it.turn()
    with pytest.raises(ModelError):
        it.turn("best")


def test_two_that_want_a_cold_tier_load_it_once() -> None:
    it = house()
    inside, go_on = threading.Event(), threading.Event()
    plain = it.load

    def slowly(config: TierConfig) -> Stages:
        inside.set()
        assert go_on.wait(10)
        return plain(config)

    it.router._loader = slowly
    with ThreadPoolExecutor(4) as pool:
        turns = [pool.submit(it.turn) for _ in range(4)]
        assert inside.wait(10)
        assert [one.residence for one in it.router.states()] == ["loading", "cold"]
        go_on.set()
        assert [turn.result(10) for turn in turns] == ["fast"] * 4
    assert it.loads == ["fast"]


def test_many_at_once_keep_the_ceiling() -> None:
    it = house(tier("a"), tier("b"), tier("c"), sizes={"a": GB, "b": 2 * GB, "c": 3 * GB})
    start = threading.Barrier(4)

    def turns(number: int) -> int:
        busy = 0
        start.wait(10)
        for turn in range(10):
            name = ["", "a", "b", "c"][(turn * 7 + number) % 4]
            try:
                with it.router.lease(Ask(name)) as stages:
                    assert stages in it.alive
                    it.router.finished(stages.tier, {"stt": 1.0, "tts_first_audio": 1.0})
                    del stages
            except BusyError as error:
                assert error.code == "tier_memory"
                busy += 1
        return busy

    with ThreadPoolExecutor(4) as pool:
        busy = sum(pool.map(turns, range(4)))
    assert it.most <= 4 * GB
    assert sum(one.turns for one in it.router.states()) == 40 - busy
    it.turn("c")
    assert "c" in it.resident()


def test_closing_forgets_all_but_what_is_in_use_until_it_is_not() -> None:
    it = house()
    it.turn()
    with it.router.lease(Ask("best")):
        it.router.close()
        assert it.resident() == {"best"}
    assert it.resident() == set()
    assert not it.alive
    with pytest.raises(BusyError):
        it.turn()


def test_the_sweeping_thread_ends_with_the_router() -> None:
    it = house()
    it.router.keep_swept(3600)
    (thread,) = [one for one in threading.enumerate() if one.name == "vozmetro-router"]
    it.router.close()
    thread.join(10)
    assert not thread.is_alive()


class Turns(RuleBasedStateMachine):
    """Anything in any order: the ceiling holds, and what is leased is there."""

    def __init__(self) -> None:
        super().__init__()
        tiers = (tier("a"), tier("b", pinned=True), tier("c", ttl_s=30.0), tier("d"))
        config = PipelineConfig(
            tiers=tiers, ram_gb=6.0, ttl_s=60.0, default="c", hysteresis=SMALL,
            rules=(RouteRule(tier="d", seconds_from=5.0),),
        )  # fmt: skip
        needs = {
            "a": {"w": GB, "y": GB + GB // 2},
            "b": {"w": GB, "p": GB // 2},
            "c": {"x": 2 * GB},
            "d": {"x": 2 * GB, "lm": 2 * GB},
        }
        self.house = House(config, needs)
        self.leases: list[tuple[ExitStack, Stages]] = []
        self.pinned = False

    @rule(name=st.sampled_from(["", "", "a", "b", "c", "d"]), seconds=st.floats(0, 9))
    def lease(self, name: str, seconds: float) -> None:
        stack = ExitStack()
        try:
            stages = stack.enter_context(self.house.router.lease(Ask(name, seconds)))
        except BusyError as error:
            assert error.code == "tier_memory"
            # Only where it could not have been had: what is in use or pinned is in the way.
            kept = {one.tier for _, one in self.leases} | ({"b"} & self.house.resident())
            assert name
            assert self._bytes({*kept, name}) > 6 * GB
        except ModelError:
            assert self.house.broken
        else:
            assert not name or stages.tier == name
            self.leases.append((stack, stages))

    def _bytes(self, names: set[str]) -> int:
        together: dict[str, int] = {}
        for name in names:
            together.update(self.house.needs[name])
        return sum(together.values())

    @precondition(lambda self: self.leases)
    @rule(data=st.data(), ms=st.floats(0, 1000))
    def finish(self, data: st.DataObject, ms: float) -> None:
        stack, stages = self.leases.pop(data.draw(st.integers(0, len(self.leases) - 1)))
        self.house.router.finished(stages.tier, {"stt": ms, "tts_first_audio": 1.0})
        del stages
        stack.close()

    @rule(seconds=st.floats(0, 80))
    def wait(self, seconds: float) -> None:
        self.house.clock.now += seconds
        self.house.router.sweep()

    @rule(name=st.sampled_from(["a", "c", "d"]))
    def breaks(self, name: str) -> None:
        self.house.broken ^= {name}

    @invariant()
    def never_above_the_ceiling(self) -> None:
        assert self.house.most <= 6 * GB
        assert self.house.used() <= 6 * GB

    @invariant()
    def what_is_leased_is_loaded(self) -> None:
        resident = self.house.resident()
        for _, stages in self.leases:
            assert stages.tier in resident
            assert stages in self.house.alive
        # What is pinned stays, and nothing is kept that is not resident.
        self.pinned = self.pinned or "b" in resident
        assert "b" in resident or not self.pinned
        assert {stages.tier for stages in self.house.alive} == resident

    def teardown(self) -> None:
        while self.leases:
            self.leases.pop()[0].close()
        self.house.router.close()
        assert not self.house.alive


Turns.TestCase.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)
TestTurns = Turns.TestCase


# Budget


def spend(it: House, name: str, *latencies: float) -> None:
    for ms in latencies:
        parts = {"endpoint": 500.0, "stt": ms - 20, "reply": 5.0, "tts_first_audio": 15.0}
        it.router.finished(name, parts)


def test_p90_is_the_least_latency_that_nine_of_ten_keep() -> None:
    assert p90([float(one) for one in range(1, 11)]) == 9
    assert p90([float(one) for one in range(1, 12)]) == 10
    assert p90([5.0]) == 5


def test_a_tier_out_of_budget_is_demoted_said_and_stood_in_for(
    caplog: pytest.LogCaptureFixture,
) -> None:
    it = house(default="best", budget_p90_ms=300.0, hysteresis=SMALL)
    assert it.turn() == "best"
    spend(it, "best", *[400.0] * 9)
    assert (it.demoted(), it.router.states()[0].p90_ms) == (set(), None)
    spend(it, "best", 400.0)
    (best, fast) = it.router.states()
    assert (best.demoted, best.p90_ms, best.turns) == (True, 400.0, 10)
    assert not fast.demoted
    assert it.turn() == "fast"
    assert it.turn("best") == "best"  # who asks for it gets it
    (said,) = [one for one in caplog.records if one.levelno == logging.WARNING]
    assert said.getMessage() == "tier_demoted"
    told = {key: said.__dict__[key] for key in ("tier", "p90_ms", "budget_ms")}
    assert told == {"tier": "best", "p90_ms": 400.0, "budget_ms": 300.0}


def test_a_tier_may_have_a_budget_of_its_own() -> None:
    it = house(tier("fast"), tier("best", budget_p90_ms=900.0), hysteresis=SMALL)
    for name in ("fast", "best"):
        spend(it, name, *[800.0] * 20)
    assert it.demoted() == {"fast"}


def test_the_endpoint_wait_and_turns_without_an_answer_do_not_count() -> None:
    it = house(hysteresis=SMALL)
    for _ in range(30):
        it.router.finished("fast", {"endpoint": 900.0, "stt": 900.0})
        it.router.finished("fast", {"stt": float("nan"), "tts_first_audio": 1.0})
    assert it.demoted() == set()
    state = it.router.states()[0]
    assert (state.p90_ms, state.turns) == (None, 60)
    spend(it, "fast", *[100.0] * 10)
    assert it.router.states()[0].p90_ms == 100.0


def test_somebody_answers_where_nobody_keeps_the_budget() -> None:
    it = house(default="best", hysteresis=SMALL)
    for name in ("fast", "best"):
        spend(it, name, *[900.0] * 20)
    assert it.demoted() == {"fast", "best"}
    assert it.turn() == "fast"


def test_it_comes_back_by_a_trial_well_below_the_budget() -> None:
    it = house(default="best", budget_p90_ms=300.0, hysteresis=SMALL)
    spend(it, "best", *[400.0] * 10)
    it.clock.now = 59.9
    assert it.turn() == "fast"
    it.clock.now = 60.0
    assert it.turn() == "best"
    spend(it, "best", *[200.0] * 9)
    assert it.demoted() == {"best"}
    spend(it, "best", 200.0)
    assert it.demoted() == set()
    assert it.router.states()[0].p90_ms == 200.0


def test_a_trial_ends_as_soon_as_it_has_failed_and_the_next_is_later() -> None:
    it = house(default="best", budget_p90_ms=300.0, hysteresis=SMALL)
    spend(it, "best", *[400.0] * 10)
    for wait in (60, 120, 240, 480, 960, 960, 960):
        it.clock.now += wait - 0.1
        assert it.turn() == "fast"
        it.clock.now += 0.1
        assert it.turn() == "best"
        # One of ten may be slow; below the budget, but not well below it, is too slow.
        spend(it, "best", 250.0)
        assert it.turn() == "best"
        spend(it, "best", 250.0)
        assert it.turn() == "fast"


def simulate(medians: Sequence[float], seed: int) -> list[int]:
    """Returns the turns at which a tier was demoted or restored; it has one turn a second."""
    random, health = np.random.default_rng(seed), Health(300.0, Hysteresis())
    changes = []
    for turn, median in enumerate(medians):
        ms = median * float(np.exp(0.2 * random.standard_normal()))
        health.tick(float(turn))
        if health.eligible and health.add(ms, float(turn)) in ("demoted", "restored"):
            changes.append(turn)
    return changes


# Of a lognormal latency, P90 is the median times exp(1.2816 sigma).
AT_THE_LIMIT = 300 / float(np.exp(1.2816 * 0.2))


def test_noise_about_the_limit_does_not_flap() -> None:
    """Two hours at one turn a second. By the plain P90 of the window it would change 232 times."""
    counts = [len(simulate([AT_THE_LIMIT] * 7200, seed)) for seed in range(10)]
    assert max(counts) <= 3


def test_noise_well_within_the_budget_never_demotes() -> None:
    """P90 at 85 % of the budget."""
    assert [simulate([0.85 * AT_THE_LIMIT] * 7200, seed) for seed in range(5)] == [[]] * 5


def test_what_is_well_over_the_budget_is_demoted_at_once_and_stays_so() -> None:
    """P90 at 150 % of the budget."""
    for seed in range(5):
        (demoted,) = simulate([1.5 * AT_THE_LIMIT] * 7200, seed)
        assert demoted < 30


def test_what_has_recovered_comes_back_and_stays() -> None:
    """An hour of a busy machine between two quiet ones."""
    quiet, busy = [0.7 * AT_THE_LIMIT] * 3600, [1.5 * AT_THE_LIMIT] * 3600
    for seed in range(5):
        demoted, restored = simulate([*quiet, *busy, *quiet], seed)
        assert 3600 < demoted < 3640
        # The longest wait, and a trial.
        assert 7200 < restored < 7200 + 16 * 60 + 50


# Real models


def test_names_of_a_cascade() -> None:
    assert split_cascade("a+b") == ("a", "b")
    assert [split_cascade(words) for words in ("a", "a+", "a+b+c", "")] == [None] * 4
    with pytest.raises(InputError) as caught:
        load_stages("piper-joe", Echo(), 1, "x", "en")
    assert caught.value.code == "cascade_parts"


def test_a_model_of_another_kind_is_refused_before_it_is_loaded() -> None:
    config = PipelineConfig(tiers=(TierConfig(name="a", stt="piper-joe", tts="piper-joe"),))
    with pytest.raises(InputError) as caught:
        open_router(config, 1)
    assert caught.value.code == "tier_model"
    assert caught.value.fields["wanted"] == "stt"


def test_an_option_that_no_engine_knows_is_refused() -> None:
    config = PipelineConfig(
        tiers=(TierConfig(name="a", stt="whisper-tiny-en", tts="piper-joe@x=1"),)
    )
    with pytest.raises(InputError) as caught:
        open_router(config, 1)
    assert caught.value.code == "option_unknown"


@pytest.mark.parametrize(
    ("config", "kind"),
    [
        (EchoConfig(), Echo),
        (TemplateConfig(fallback="?"), Template),
        (ChatConfig(url="http://127.0.0.1:1/v1", model="m"), Chat),
    ],
)
def test_whoever_is_named_answers(config: ReplyConfig, kind: type) -> None:
    assert type(Loader(1).reply(config)) is kind


def test_a_tier_has_heard_speech_in_pieces_before_it_serves(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ears, talker = Ears(), Talker()
    engines = {"stt": ears, "tts": talker}
    monkeypatch.setattr(Loader, "_engine", lambda self, words, task: engines[task])
    assert Loader(1).stages("a", "b", Echo(), "fast", "en").stt is ears
    assert ears.seconds == [1.5, 0.5, 0.5, 0.5]
    assert ears.calls == ["partial"] * 3 + ["finish"]


def test_tiers_share_what_they_have_in_common_and_let_it_go() -> None:
    tiers = tuple(
        TierConfig(name=name, stt="whisper-tiny-en", tts="piper-joe", language="en")
        for name in ("one", "two")
    )
    loader = Loader(2)
    router = Router(PipelineConfig(tiers=tiers), loader, loader.footprint, Clock())
    needs = loader.footprint(tiers[0])
    assert set(needs) == {"whisper-tiny-en", "piper-joe"}
    assert min(needs.values()) > 60_000_000
    with router.lease(Ask("one")) as one, router.lease(Ask("two")) as two:
        assert one.stt is two.stt
        assert one.tts is two.tts
        assert len(next(iter(one.tts.stream("Hello.")))) > 1000
        alive = weakref.ref(one.stt)
    del one, two
    router.close()
    assert alive() is None
