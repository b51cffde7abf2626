"""What a language model's run comes to: prompts, tokens after them, and the cache that grows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vozmetro.judge.stationarity import autocorrelation, residuals
from vozmetro.judge.statistics import Interval, is_sequential, percentile, settled
from vozmetro.measure.records import Item, Run, Sample


@dataclass(frozen=True)
class Prompt:
    """One length of prompt.

    Attributes:
        item: `Item.id`.
        tokens: Its length.
        n: Samples that count.
        ttft: Median time to the first token in ms, with its interval.
        prompt_tokens_per_s: Prompt tokens read per second, by that median.
        per_token: Median ms of each token after the first; None where there is none.
        tokens_per_s: Tokens given per second, by that median; None where there is none.
        cache_bytes: Keys and values held in the end.
    """

    item: str
    tokens: int
    n: int
    ttft: Interval
    prompt_tokens_per_s: float
    per_token: Interval | None
    tokens_per_s: float | None
    cache_bytes: int


@dataclass(frozen=True)
class LanguageSummary:
    """A language model's run.

    Attributes:
        prompts: By length, shortest first.
        per_token: Median ms of each token after the first over all prompts; None for none.
        tokens_per_s: By that median.
        ms_per_prompt_token: What one token more of prompt costs: slope of the least-squares line
            through the medians; None with fewer than two lengths.
        cache_bytes_per_token: What one token more takes of keys and values, likewise; the mean
            where there is one length; None where the engine did not tell.
        probe_gbs: Median memory bandwidth beside the samples, GB/s; None where it was not read.
        probe_range: Lowest and highest of them.
    """

    prompts: tuple[Prompt, ...]
    per_token: Interval | None
    tokens_per_s: float | None
    ms_per_prompt_token: float | None
    cache_bytes_per_token: float | None
    probe_gbs: float | None
    probe_range: tuple[float, float] | None


def language_summary(run: Run) -> LanguageSummary | None:
    """Summarises a language model's run; None for anything else.

    The same samples count as in `summarize_run`.
    """
    if run.subject.kind != "lm":
        return None
    samples, _ = settled(run)
    prompts = [
        _prompt(item, mine, run)
        for item in sorted(run.items, key=lambda one: one.tokens)
        if (mine := [sample for sample in samples if sample.item == item.id])
    ]
    every = _median([s.parts["per_token"] for s in samples if "per_token" in s.parts], run)
    probes = [s.probe_gbs for s in samples if s.probe_gbs is not None]
    lengths = [float(one.tokens) for one in prompts]
    return LanguageSummary(
        prompts=tuple(prompts),
        per_token=every,
        tokens_per_s=None if every is None else 1000 / every.value,
        ms_per_prompt_token=_slope(lengths, [one.ttft.value for one in prompts]),
        cache_bytes_per_token=_cache_growth(run),
        probe_gbs=float(np.median(probes)) if probes else None,
        probe_range=(min(probes), max(probes)) if probes else None,
    )


def _prompt(item: Item, samples: list[Sample], run: Run) -> Prompt:
    ttft = _median([sample.ms for sample in samples], run)
    ttft = ttft or Interval(math.nan, None, None)
    later = _median([s.parts["per_token"] for s in samples if "per_token" in s.parts], run)
    return Prompt(
        item=item.id,
        tokens=item.tokens,
        n=len(samples),
        ttft=ttft,
        prompt_tokens_per_s=1000 * item.tokens / ttft.value,
        per_token=later,
        tokens_per_s=None if later is None else 1000 / later.value,
        cache_bytes=item.cache_bytes,
    )


def _median(ms: list[float], run: Run) -> Interval | None:
    return typical(ms, sequential=is_sequential(run)) if ms else None


def typical(ms: Sequence[float], *, sequential: bool) -> Interval:
    """Returns the median with its interval; neighbours that resemble each other count for less.

    Args:
        ms: In the order taken, at least one.
        sequential: They ended because of what they showed.
    """
    values = np.array(ms)
    series = residuals(np.log(values)[np.newaxis, :, np.newaxis], None)
    _, tau = autocorrelation(series)
    return percentile(values, 0.5, float(tau[0]), sequential=sequential)


def _cache_growth(run: Run) -> float | None:
    held = [
        (float(one.tokens + one.new_tokens - 1), float(one.cache_bytes))
        for one in run.items
        if one.cache_bytes > 0
    ]
    if not held:
        return None
    slope = _slope([tokens for tokens, _ in held], [size for _, size in held])
    return held[0][1] / held[0][0] if slope is None else slope


def _slope(xs: list[float], ys: list[float]) -> float | None:
    if len(set(xs)) < 2:
        return None
    return float(np.polyfit(xs, ys, 1)[0])
