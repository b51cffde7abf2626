"""A language model's figures as text: the same rows for the terminal and Markdown."""

from __future__ import annotations

from vozmetro.i18n import t
from vozmetro.judge.language import LanguageSummary, Prompt
from vozmetro.judge.statistics import Interval
from vozmetro.report.formatting import SUMMARY_PERCENT, Pair, ends, number
from vozmetro.units import ms, size

COLUMNS = ("tokens", "n", "ttft", "ttft_interval", "reading", "per_token", "rate", "cache")
"""Keys `lm.col_<key>` of the table's headings."""


def headings(lang: str) -> list[str]:
    """Returns the table's headings."""
    return [t(f"lm.col_{key}", lang, percent=SUMMARY_PERCENT) for key in COLUMNS]


def rows(summary: LanguageSummary) -> list[list[str]]:
    """Returns a line for each length of prompt, times in ms."""
    return [_row(prompt) for prompt in summary.prompts]


def facts(summary: LanguageSummary, lang: str) -> list[Pair]:
    """Returns what holds for all the prompts: tokens per second, growth, memory bandwidth."""
    found: list[Pair] = []
    if summary.per_token is not None and summary.tokens_per_s is not None:
        fields = {
            "rate": f"{summary.tokens_per_s:.1f}",
            "each": ms(summary.per_token.value),
            "interval": _ends(summary.per_token),
        }
        found.append((t("lm.speed", lang), t("lm.speed_value", lang, **fields)))
    if summary.ms_per_prompt_token is not None:
        value = t("lm.slope_value", lang, value=ms(summary.ms_per_prompt_token, 2))
        found.append((t("lm.slope", lang), value))
    if summary.cache_bytes_per_token is not None:
        value = t("lm.growth_value", lang, value=size(summary.cache_bytes_per_token))
        found.append((t("lm.growth", lang), value))
    if summary.probe_gbs is not None and summary.probe_range is not None:
        low, high = summary.probe_range
        fields = {"value": f"{summary.probe_gbs:.1f}", "low": f"{low:.1f}", "high": f"{high:.1f}"}
        found.append((t("lm.probe", lang), t("lm.probe_value", lang, **fields)))
    return found


def _row(prompt: Prompt) -> list[str]:
    later = prompt.per_token
    return [
        str(prompt.tokens),
        str(prompt.n),
        number(prompt.ttft.value),
        _ends(prompt.ttft),
        f"{prompt.prompt_tokens_per_s:.0f}",
        "–" if later is None else number(later.value),
        "–" if prompt.tokens_per_s is None else f"{prompt.tokens_per_s:.1f}",
        size(prompt.cache_bytes) if prompt.cache_bytes else "–",
    ]


def _ends(interval: Interval) -> str:
    return ends(interval.low, interval.high, number)
