"""Statistics of ratings against examples worked by hand, and against simulations."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from listen_helpers import plan, study_in

from vozmetro.errors import InputError
from vozmetro.measure import listening_records
from vozmetro.measure.listening_records import ListeningRecord
from vozmetro.quality.listen import estimates
from vozmetro.quality.listen.create import Wish
from vozmetro.quality.listen.estimates import Votes
from vozmetro.quality.listen.plan import Trial, dumped, item_subset
from vozmetro.quality.listen.results import evaluate, read
from vozmetro.quality.listen.store import Answered, Listener, Profile, Store
from vozmetro.quality.listen.study import GOLD, Study, digest
from vozmetro.resampling import holm


def test_mos_with_its_t_interval_as_in_p800() -> None:
    # Votes 5 4 4 3 4: mean 4, s = sqrt(2/4), t(4; 0.975) = 2.776, so +- 2.776 * 0.7071 / sqrt(5).
    mean, low, high = estimates.t_interval(np.array([5.0, 4, 4, 3, 4]))
    assert mean == 4.0
    assert (high - low) / 2 == pytest.approx(2.776445 * math.sqrt(0.5) / math.sqrt(5), rel=1e-6)
    assert (low, high) == pytest.approx((3.122, 4.878), abs=5e-4)
    alone = estimates.t_interval(np.array([3.0]))
    assert (alone.value, math.isnan(alone.low)) == (3.0, True)


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.6, 0.5]) == [1.0, 1.0]
    assert holm([]) == []


def test_signed_ranks_by_hand() -> None:
    # Six of one sign: two of the 64 ways to sign six ranks are as extreme.
    assert estimates.paired_p(np.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.6])) == pytest.approx(2 / 64)
    assert estimates.paired_p(np.array([0.5] * 5)) == pytest.approx(2 / 32)
    assert estimates.paired_p(np.array([1.0, 1.0, -1.0])) == 1.0
    assert estimates.paired_p(np.zeros(9)) == 1.0
    assert estimates.paired_p(np.array([1.0, 2, 3, 4, 5, 6, 0, 0])) == pytest.approx(2 / 64)


@given(st.lists(st.integers(-4, 4), min_size=1, max_size=40))
def test_signed_ranks_are_symmetric_and_a_probability(values: list[int]) -> None:
    differences = np.array(values) / 3
    p = estimates.paired_p(differences)
    assert 0 < p <= 1
    assert estimates.paired_p(-differences) == pytest.approx(p)


def test_strengths_are_log_odds_ranked_by_their_lower_end() -> None:
    # Three of four: log-odds of log(3), shared out around 0, a tenth of a win on both sides.
    wins = np.zeros((20, 2, 2))
    wins[:, 0, 1], wins[:, 1, 0] = 3, 1
    table = estimates.strengths(wins)
    gap = math.log(60.1 / 20.1)
    assert table[:, 0] == pytest.approx([gap / 2, -gap / 2], abs=1e-3)
    # All listeners say the same, so drawing others changes nothing.
    assert table[:, 1] == pytest.approx(table[:, 0], abs=1e-6)
    never = np.zeros((5, 3, 3))
    never[:, 0, 1] = never[:, 0, 2] = never[:, 1, 2] = 4
    assert np.isfinite(estimates.strengths(never)).all()
    assert estimates.strengths(np.zeros((3, 2, 2)))[:, 0] == pytest.approx([0, 0])


def simulated(rng: np.random.Generator, people: int, items: int, per: int, seed: int) -> Votes:
    """Whole scores of an opinion with a listener's leniency and an item's ease in it."""
    lenient, easy = rng.normal(0, 0.4, people), rng.normal(0, 0.4, items)
    rows = []
    for listener in range(people):
        for item in item_subset(items, per, listener, seed):
            opinion = 3.3 + lenient[listener] + easy[item] + rng.normal(0, 0.6)
            rows.append((listener, item, float(np.clip(round(opinion), 1, 5))))
    return Votes.of(rows)


def test_the_interval_holds_for_other_listeners_and_items() -> None:
    rng = np.random.default_rng(5)
    truth = 3.2968  # of 2 million draws of the model above
    covered, naive = [], []
    for trial in range(200):
        votes = simulated(rng, 12, 8, 6, trial)
        wide = estimates.two_way(votes, resamples=300)
        narrow = estimates.t_interval(votes.values)
        covered.append(wide.low <= truth <= wide.high)
        naive.append(narrow.low <= truth <= narrow.high)
    # 200 draws of 95 % lie above 90.5 % with a probability of 99.8 %.
    assert np.mean(covered) > 0.905
    assert np.mean(naive) < 0.85, "votes of one listener are not independent"


@pytest.mark.parametrize("items", [3, 5, 10])
def test_few_items_make_the_interval_wide_enough(items: int) -> None:
    rng = np.random.default_rng(items)
    covered = []
    for trial in range(300):
        # Items differ as much as single votes do, and thirty people rate all of them.
        people, things = rng.normal(0, 0.3, 30), rng.normal(0, 0.6, items)
        votes = [
            (who, what, 3 + people[who] + things[what] + rng.normal(0, 0.6))
            for who in range(30)
            for what in range(items)
        ]
        found = estimates.two_way(Votes.of(votes), seed=trial, resamples=200)
        covered.append(found.low <= 3 <= found.high)
    # 300 draws of 95 % lie above 91 % with a probability of 99.8 %.
    assert np.mean(covered) > 0.91


def test_one_listener_has_a_mean_and_no_interval() -> None:
    found = estimates.two_way(Votes.of([(3, 0, 4.0), (3, 1, 5.0)]))
    assert found.value == 4.5
    assert math.isnan(found.low)
    assert math.isnan(found.high)


def test_as_many_more_as_are_said_bring_the_wanted_width() -> None:
    rng = np.random.default_rng(3)
    studies = [simulated(rng, 10, 60, 12, seed) for seed in range(9)]
    said = [estimates.more_for_half_width(votes, 0.25) for votes in studies]
    # From ten listeners it is a rough figure; in the middle it is the right one.
    more = int(np.median([10_000 if one is None else one for one in said]))
    halves = []
    for seed in range(9):
        found = estimates.two_way(simulated(rng, 10 + more, 60, 12, seed), resamples=400)
        halves.append(found.high - found.value)
    assert np.median(halves) == pytest.approx(0.25, abs=0.04)
    votes = studies[0]
    assert estimates.more_for_half_width(votes, 3.0) == 0
    assert estimates.more_for_half_width(Votes.of([(0, 0, 3.0)]), 1.0) is None
    # Two sentences, one loved and one hated: no number of listeners makes up for it.
    apart = Votes.of([(who, what, 1.0 + 4 * what) for who in range(30) for what in (0, 1)])
    assert estimates.more_for_half_width(apart, 0.25) is None


def test_listeners_to_tell_two_apart_as_in_tables_of_power() -> None:
    # A paired t-test of half a standard deviation needs 33.4 pairs at 5 % and 80 % (Cohen 1988);
    # over 0.955, Wilcoxon's test 35.
    values = np.array([-1.0, 1.0] * 5)
    values = values / np.std(values, ddof=1) + 0.5
    assert estimates.more_to_tell_apart(values) == 35 - 10
    assert estimates.more_to_tell_apart(np.zeros(8)) is None
    assert estimates.more_to_tell_apart(np.array([1.0])) is None
    # Six of one sign are the fewest whose p can fall below 5 %; ten for a fifteenth of it.
    assert estimates.more_to_tell_apart(np.full(4, 2.0)) == 2
    assert estimates.more_to_tell_apart(np.full(4, 2.0), 0.05 / 15) == 6


Answer = Callable[[Trial], Sequence[int]]


def taken(
    study: Study, answers: Sequence[Answer], think: Sequence[float] | None = None, stop: int = 999
) -> ListeningRecord:
    """The results of listeners who answer by rules."""
    lengths = {clip.id: clip.seconds for clip in study.clips}
    listeners, answered = [], []
    for number, answer in enumerate(answers):
        trials = plan(study, number)[:stop]
        listeners.append(
            Listener(
                number,
                0.0,
                "es",
                "",
                "es",
                "normal",
                "speakers",
                None,
                "",
                dumped(plan(study, number)),
                len(trials),
            )
        )
        for position, trial in enumerate(trials):
            heard = sum(lengths[clip] for clip in (*trial.clips, trial.reference) if clip)
            values = {scale: list(answer(trial)) for scale in study.scales}
            seconds = heard + (think[number] if think else 2.0)
            answered.append(Answered(number, position, seconds, values))
    return evaluate(study, listeners, answered)


def right(trial: Trial, method: str) -> list[int]:
    """What a careful listener says where the answer is known."""
    if trial.kind == "trap":
        return [int(trial.expected or 0)]
    spoilt = trial.conditions.index(GOLD)
    return [{"acr": 1, "ab": 1 - spoilt, "ccr": -2 if spoilt else 2}[method]]


def by_rule(method: str, rule: Answer) -> Answer:
    def answer(trial: Trial) -> Sequence[int]:
        known = trial.kind == "trap" or GOLD in trial.conditions
        return right(trial, method) if known else rule(trial)

    return answer


def test_acr_by_hand(tmp_path: Path) -> None:
    study = study_in(tmp_path, Wish(golds=1, traps=1, repeats=1), items=3).study
    votes = [{"good": 5, "bad": 3}, {"good": 4, "bad": 3}, {"good": 4, "bad": 1}]
    rules = [by_rule("acr", lambda one, v=v: [v[one.conditions[0]]]) for v in votes]
    record = taken(study, rules)
    assert (record.kept, record.screened) == (3, 0)
    good, poor = record.systems
    # Two items each: good 5 5 4 4 4 4, bad 3 3 3 3 1 1.
    assert (good.name, good.value, good.ratings, good.listeners) == ("good", 26 / 6, 6, 3)
    assert (poor.value, poor.sd) == (14 / 6, pytest.approx(math.sqrt(16 / 15)))
    half = 2.570582 * math.sqrt(16 / 15) / math.sqrt(6)
    assert poor.t_high == pytest.approx(14 / 6 + half, rel=1e-5)
    assert poor.low is not None and poor.high is not None
    assert 1.0 <= poor.low < poor.value < poor.high <= 5.0
    pair = record.pairs[0]
    assert (pair.a, pair.b, pair.difference) == ("good", "bad", 2.0)
    assert pair.p == 2 / 8
    assert [one.place for one in record.strengths] == [1, 2]
    apart = record.separations[0]
    assert (apart.first, apart.told_apart) == ("good", False)
    assert apart.more_listeners is not None and apart.more_listeners > 0


def test_ab_by_hand(tmp_path: Path) -> None:
    study = study_in(tmp_path, Wish(method="ab"), items=3).study

    def prefers(name: str) -> Answer:
        return by_rule("ab", lambda one: [one.conditions.index(name)])

    record = taken(study, [prefers("good")] * 3 + [prefers("bad")])
    assert record.kept == 4
    assert [(one.name, one.value, one.ratings) for one in record.systems] == [
        ("good", 0.75, 8), ("bad", 0.25, 8),
    ]  # fmt: skip
    assert record.pairs[0].difference == 0.5
    assert record.strengths[0].name == "good"


def test_ccr_by_hand(tmp_path: Path) -> None:
    study = study_in(tmp_path, Wish(method="ccr"), items=3).study

    def above(score: int) -> Answer:
        return by_rule("ccr", lambda one: [-score if one.conditions[0] == "good" else score])

    record = taken(study, [above(2), above(1), above(3)])
    assert [(one.name, one.value) for one in record.systems] == [("good", 2.0), ("bad", -2.0)]
    assert record.pairs[0].difference == 2.0


MUSHRA = {"good": 80, "bad": 40, "reference": 100, "anchor-3.5k": 20, "anchor-7k": 60}


def test_mushra_by_hand_and_its_screening(tmp_path: Path) -> None:
    study = study_in(tmp_path, Wish(method="mushra"), items=8, reference=True).study

    def marks(**changed: int) -> Answer:
        given = MUSHRA | {name.replace("_", "-"): v for name, v in changed.items()}
        return lambda one: [given[name] for name in one.conditions]

    def deaf(trial: Trial) -> Sequence[int]:
        return [MUSHRA[name] - (name == "reference") * 11 for name in trial.conditions]

    record = taken(study, [marks(), marks(good=90), deaf, lambda one: [95] * len(one.conditions)])
    codes = [[reason.code for reason in one.reasons] for one in record.listeners]
    assert codes[:3] == [[], [], ["listen.screen_reference"]]
    assert set(codes[3]) == {"listen.screen_anchor", "listen.screen_straight"}
    scores = {one.name: one.value for one in record.systems}
    assert scores == {**MUSHRA, "good": 85}
    assert {one.first for one in record.separations} == {"good"}
    assert [{one.a, one.b} for one in record.pairs] == [
        {"good", "bad"}, {"good", "reference"}, {"bad", "reference"},
    ]  # fmt: skip


def test_each_rule_screens_with_its_reason(tmp_path: Path) -> None:
    study = study_in(tmp_path, items=8).study

    def opinion(one: Trial) -> Sequence[int]:
        return [4 if one.conditions[0] == "good" else 3]

    careful = by_rule("acr", opinion)

    def inattentive(one: Trial) -> Sequence[int]:
        return [one.expected % 5 + 1] if one.expected else careful(one)

    def wavering(one: Trial) -> Sequence[int]:
        return [v + 1 for v in opinion(one)] if one.kind == "repeat" else careful(one)

    def flipped(one: Trial) -> Sequence[int]:
        return [1 if one.conditions[0] == "good" else 5] if one.kind == "repeat" else careful(one)

    rules = [careful, inattentive, lambda one: [one.expected or 5], careful, flipped]
    record = taken(study, rules, [2.0, 2.0, 2.0, 0.1, 2.0])
    codes = [{reason.code for reason in one.reasons} for one in record.listeners]
    assert codes == [
        set(),
        {"listen.screen_traps"},
        {"listen.screen_gold", "listen.screen_straight"},
        {"listen.screen_fast"},
        {"listen.screen_repeats"},
    ]
    # A point between two answers to the same clip is how people are.
    assert taken(study, [wavering]).kept == 1
    partly = taken(study, [careful], stop=5)
    assert [reason.code for reason in partly.listeners[0].reasons] == ["listen.screen_incomplete"]
    assert partly.systems == []


def test_careless_listeners_are_screened_and_careful_ones_rarely(tmp_path: Path) -> None:
    study = study_in(tmp_path, items=10).study
    rng = np.random.default_rng(11)
    people = 40

    def careful() -> Answer:
        lenient = rng.normal(0, 0.4)

        def answer(one: Trial) -> Sequence[int]:
            if one.kind == "trap":
                slip = rng.random() < 0.005
                return [int(rng.integers(1, 6)) if slip else int(one.expected or 0)]
            level = {"good": 4.0, "bad": 3.0, GOLD: 0.6}[one.conditions[0]]
            return [int(np.clip(round(level + lenient + rng.normal(0, 0.6)), 1, 5))]

        return answer

    def random(_: Trial) -> Sequence[int]:
        return [int(rng.integers(1, 6))]

    def middling(_: Trial) -> Sequence[int]:
        return [int(rng.choice([3, 4], p=[0.6, 0.4]))]

    rules = [careful() for _ in range(people)] + [random] * people + [middling] * people
    record = taken(study, rules)
    kept = [one.kept for one in record.listeners]
    assert np.mean(kept[:people]) > 0.9
    assert np.mean(kept[people : 2 * people]) < 0.05
    assert np.mean(kept[2 * people :]) < 0.05


def test_results_are_read_from_a_study_and_saved(tmp_path: Path) -> None:
    made = study_in(tmp_path)
    with pytest.raises(InputError) as caught:
        read(made.folder)
    assert caught.value.code == "listen_no_ratings"
    store = Store(made.folder, digest(made.study))
    assert store.join(
        1.0, Profile("es", "Ana", "es", "normal"), lambda n: dumped(plan(made.study, n))
    )
    store.comment(0, "Bien")
    # What no server lets in: positions, values and scales that there are not.
    for position, answers in ((0, {"quality": [9]}), (1, {"x": [3]}), (900, {"quality": [3]})):
        store.rate(0, position, answers, 1, 2.0)
    store.close()
    record, comments = read(made.folder)
    assert (record.kept, record.screened, record.comments) == (0, 1, 1)
    assert record.listeners[0].answered == 0
    assert [(one.number, one.name, one.text) for one in comments] == [(1, "Ana", "Bien")]
    listening_records.save(record, made.folder)
    assert listening_records.load(made.folder) == record
    assert "Ana" not in (made.folder / "listening.json").read_text()
    with pytest.raises(InputError) as caught:
        read(made.folder, half_width=-1)
    assert caught.value.code == "listen_half_width"


def test_records_that_are_none_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "listening.json"
    cases = (("{}", "run_unreadable"), ('{"schema_version": 9}', "run_newer"))
    for text, code in (
        *cases,
        ("[" * 99_999, "run_unreadable"),
        ('{"schema_version": 1}', "run_unreadable"),
    ):
        path.write_text(text)
        with pytest.raises(InputError) as caught:
            listening_records.load(path)
        assert caught.value.code == code
    path.unlink()
    with pytest.raises(InputError) as caught:
        listening_records.load(tmp_path)
    assert caught.value.code == "run_missing"
