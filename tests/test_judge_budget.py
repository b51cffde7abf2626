"""The budget: defaults, strict reading, round trip."""

import tomllib

import pytest

from vozmetro.errors import InputError
from vozmetro.judge.budget import METRICS, Budget


def test_the_guides_limits_are_the_default():
    budget = Budget.from_mapping({})
    assert budget == Budget()
    limits = [budget.limit(metric) for metric in METRICS]
    assert limits == [240, 300, 400, 4, 4e9]
    assert (budget.slow_ms, budget.gates, budget.alpha) == (500, ("p50", "ram"), 0.05)


def test_round_trip_through_toml():
    table = tomllib.loads(
        """
        [limits]
        p50_ms = 120
        ram_gb = 1.5
        throughput_per_s = 8
        [gate]
        metrics = ["p50", "p99", "throughput"]
        alpha = 0.01
        """
    )
    budget = Budget.from_mapping(table)
    assert (budget.p50_ms, budget.ram_bytes, budget.throughput) == (120, 1.5e9, 8)
    assert budget.gates == ("p50", "p99", "throughput")
    assert Budget.from_mapping(budget.to_mapping()) == budget


def test_a_slower_limit_moves_the_slow_one_along():
    assert Budget.from_mapping({"limits": {"p50_ms": 300}}).slow_ms == 500
    assert Budget.from_mapping({"limits": {"p50_ms": 480}}).slow_ms == 500
    assert Budget.from_mapping({"limits": {"p50_ms": 600}}).slow_ms == pytest.approx(1250)


@pytest.mark.parametrize(
    "table",
    [
        {"limit": {}},
        {"limits": {"p50": 240}},
        {"limits": 240},
        {"limits": {"p50_ms": "240"}},
        {"limits": {"p50_ms": True}},
        {"limits": {"p50_ms": 0}},
        {"limits": {"p50_ms": float("nan")}},
        {"limits": {"p50_ms": float("inf")}},
        {"limits": {"p50_ms": 600, "slow_ms": 500}},
        {"gate": {"metric": ["p50"]}},
        {"gate": {"metrics": "p50"}},
        {"gate": {"metrics": ["p95"]}},
        {"gate": {"metrics": ["p50", "p50"]}},
        {"gate": {"metrics": []}},
        {"gate": {"metrics": [1]}},
        {"gate": {"alpha": 0.7}},
        {"gate": {"alpha": -0.05}},
    ],
)
def test_strict_about_what_it_does_not_know(table):
    with pytest.raises(InputError) as caught:
        Budget.from_mapping(table)
    assert caught.value.code == "budget_invalid"
    for lang in ("es", "en"):
        assert caught.value.fields["detail"] in caught.value.message(lang)
