"""From measured runs to `pipeline.toml`, and what is said of it at the terminal.

The file's comments are in English, as the file is.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from vozmetro.errors import InputError
from vozmetro.i18n import t
from vozmetro.judge.advice import short_name
from vozmetro.judge.budget import Budget
from vozmetro.judge.roles import Judged, Roles
from vozmetro.models.resolve import split_options
from vozmetro.pipeline.config import ChatConfig, LocalConfig, PipelineConfig, TierConfig
from vozmetro.pipeline.config_text import dump
from vozmetro.pipeline.endpoint import HANGOVER_S
from vozmetro.pipeline.loading import split_cascade
from vozmetro.report.formatting import note_text
from vozmetro.units import GB, ms, size

_DAY_S = 86_400.0
_MARKS = {"pass": "✅", "fail": "❌", "undecided": "⏳"}


@dataclass(frozen=True)
class Plan:
    """A configuration, and what its file says of where it comes from.

    Attributes:
        config: Measured tiers only.
        comments: By tier; under `""` of the whole file.
        proposed: Tiers that were not measured, or do not fit.
    """

    config: PipelineConfig
    comments: dict[str, list[str]]
    proposed: list[TierConfig]

    def text(self) -> str:
        """Returns the file."""
        return dump(self.config, self.comments, self.proposed)


def plan(roles: Roles) -> Plan:
    """Returns the configuration that measured runs make.

    Raises:
        InputError: `decide_no_cascade` where no run is of a whole pipeline that can be served.
    """
    if roles.fast is None:
        raise InputError("decide_no_cascade", example=_example(roles))
    fast = roles.fast
    budget = Budget.from_mapping(fast.run.settings.budget)
    ceiling = max(budget.ram_bytes, float(_needs(fast)))
    comments: dict[str, list[str]] = {"": [*_headline(roles)]}
    if ceiling > budget.ram_bytes:
        comments[""].append(
            f"ram_gb is what loading the first tier is expected to need; the budget has "
            f"{size(budget.ram_bytes)}."
        )
    tiers, proposed = [_cascade("fast", fast)], list[TierConfig]()
    comments["fast"] = [f"FAST, the default. {_measured(fast)}"]
    for number, one in enumerate(roles.swap):
        name = "swap" if number == 0 else f"swap-{number + 1}"
        comments[name] = [f"SWAP, loaded on demand. {_measured(one)}"]
        fits = _needs(one) <= ceiling
        (tiers if fits else proposed).append(_cascade(name, one))
        if not fits:
            comments[name].append(_too_large(_needs(one), ceiling))
    tier, comments["quality"], whole = _quality(roles, tiers[0], ceiling - _needs(fast))
    (tiers if whole else proposed).append(tier)
    proposed.append(_largest(tiers[0]))
    comments["max"] = [
        "MAX was not measured: a model such as Qwen3-Omni behind an OpenAI-compatible server.",
        "Write its address, and take the marks away.",
    ]
    # The default stays in memory where each of the others fits beside it; the language model's
    # tier has the same speech.
    beside = [_needs(one) for one in roles.swap if _needs(one) <= ceiling]
    beside += [_needs(roles.language)] if roles.language and whole else []
    together = _needs(fast) + max(beside, default=0) <= ceiling
    return Plan(_config(fast, tiers, budget, ceiling, together), comments, proposed)


def _config(
    fast: Judged, tiers: list[TierConfig], budget: Budget, ceiling: float, together: bool
) -> PipelineConfig:
    kept: dict[str, Any] = {"pinned": True} if together else {"ttl_s": _DAY_S}
    waited = fast.run.settings.hangover_s
    return PipelineConfig(
        default="fast",
        threads=fast.run.settings.threads,
        budget_p90_ms=budget.p90_ms,
        # Rounded up: what is expected must fit.
        ram_gb=math.ceil(ceiling / GB * 100) / 100,
        hangover_s=HANGOVER_S if waited is None else waited,
        tiers=(tiers[0].model_copy(update=kept), *tiers[1:]),
    )


def _quality(roles: Roles, speech: TierConfig, room: float) -> tuple[TierConfig, list[str], bool]:
    """Returns the language model's tier, what is said of it, and whether it can be served.

    Args:
        roles: Who does what.
        speech: The first tier, whose speech it has.
        room: Bytes that are left beside that.
    """
    one = roles.language
    if one is None:
        reply = LocalConfig(model="MODEL.onnx")
        said = [
            "QUALITY was not measured: a language model between FAST's speech.",
            "Measure one (vozmetro bench MODEL.onnx), and decide again with its run.",
        ]
        return speech.model_copy(update={"name": "quality", "reply": reply}), said, False
    reply = LocalConfig(model=_on(one.run.settings.subject, one))
    said = [
        "QUALITY: its parts were measured, each on its own, and not the tier as a whole.",
        _measured(one),
    ]
    faults = []
    if _needs(one) > room:
        faults.append(_too_large(_needs(one), max(room, 0)))
    home = Path(split_options(one.run.settings.subject)[0])
    if not home.with_name("tokenizer.json").is_file():
        faults.append("There is no tokenizer.json beside the model, without which it has no words.")
    tier = speech.model_copy(update={"name": "quality", "reply": reply})
    return tier, said + faults, not faults


def _largest(speech: TierConfig) -> TierConfig:
    reply = ChatConfig(url="http://127.0.0.1:8000/v1", model="MODEL", api_key_env="")
    return speech.model_copy(update={"name": "max", "reply": reply})


def _cascade(name: str, one: Judged) -> TierConfig:
    words = split_cascade(one.run.settings.subject)
    if words is None:
        raise InputError("cascade_parts", name=one.run.settings.subject, tasks="?")
    languages = {item.language for item in one.run.items}
    spoken = languages.pop() if len(languages) == 1 else ""
    return TierConfig(
        name=name, stt=_on(words[0], one), tts=_on(words[1], one), language=spoken[:3]
    )


def _on(words: str, one: Judged) -> str:
    """Returns a model's words with the device that it was measured on."""
    device = one.run.settings.device
    if device == "cpu" or "provider" in split_options(words)[1]:
        return words
    return f"{words}{',' if split_options(words)[1] else '@'}provider={device}"


def _needs(one: Judged) -> int:
    return one.run.subject.expected_ram or 0


def _too_large(needed: float, room: float) -> str:
    return f"It is expected to need {size(needed)}, and there is room for {size(room)}."


def _headline(roles: Roles) -> list[str]:
    scenario = roles.winner.decision.scenario or "/".join(roles.winner.decision.scenario_candidates)
    return [
        "Written by vozmetro decide. Tiers that are not comments were measured, or their parts.",
        f"Scenario {scenario}: {short_name(roles.winner.run)}.",
    ]


def _measured(one: Judged) -> str:
    """Returns the figures of a run in one sentence."""
    checks = {check.metric: check for check in one.decision.checks}
    ram = "" if math.isnan(checks["ram"].value) else f", peak RAM {size(checks['ram'].value)}"
    return (
        f"{short_name(one.run)}: P50 {ms(one.p50_ms)}, P90 {ms(checks['p90'].value)}{ram} "
        f"({one.run.subject.clock}; run {one.run.id}, {one.run.created[:10]}): "
        f"{one.decision.status}."
    )


def _example(roles: Roles) -> str:
    """Returns a cascade to measure, of measured parts where there are any."""
    kinds = {
        one.run.subject.kind: one for one, reason in reversed(roles.left_out) if reason == "part"
    }
    stt, tts = kinds.get("stt"), kinds.get("tts")
    hears = stt.run.subject.name if stt else "whisper-base"
    return f"{hears}+{tts.run.subject.name if tts else 'piper-joe'}"


def print_roles(console: Console, roles: Roles, lang: str) -> None:
    """Prints the scenario, and each run with its part.

    Args:
        console: Where to.
        roles: Who does what.
        lang: `es` or `en`.
    """
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    for name in ("subject", "scenario", "p50", "p90", "ram", "part"):
        table.add_column(t(f"tiers.{name}", lang))
    for one, part in _parts(roles):
        table.add_row(*(Text(cell) for cell in _cells(one, part, lang)))
    console.print(table)
    console.print()
    console.print(Text(note_text(roles.winner.decision.headline, lang)))


def _parts(roles: Roles) -> list[tuple[Judged, str]]:
    found = [(roles.fast, "fast")] if roles.fast else []
    found += [(one, "swap") for one in roles.swap]
    found += [(roles.language, "quality")] if roles.language else []
    return found + [(one, f"left_{reason}") for one, reason in roles.left_out]


def _cells(one: Judged, part: str, lang: str) -> Sequence[str]:
    decision = one.decision
    letters = decision.scenario or "/".join(decision.scenario_candidates)
    checks = {check.metric: check.value for check in decision.checks}
    ram = "–" if math.isnan(checks["ram"]) else size(checks["ram"])
    return (
        short_name(one.run),
        f"{_MARKS[decision.status]} {letters}",
        ms(one.p50_ms),
        ms(checks["p90"]),
        ram,
        t(f"tiers.{part}", lang),
    )


def roles_json(roles: Roles) -> dict[str, Any]:
    """Returns what `print_roles` says, for programs."""
    return {
        "winner": roles.winner.run.id,
        "scenario": roles.winner.decision.scenario,
        "scenario_candidates": list(roles.winner.decision.scenario_candidates),
        "runs": [
            {
                "run": one.run.id,
                "subject": one.run.settings.subject,
                "status": one.decision.status,
                "scenario": one.decision.scenario,
                "p50_ms": None if math.isnan(one.p50_ms) else one.p50_ms,
                "part": part,
            }
            for one, part in _parts(roles)
        ],
    }
