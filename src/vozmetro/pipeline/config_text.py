"""`pipeline.toml` as text: what `config.parse` reads, with comments for who edits it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from pydantic import BaseModel

from vozmetro.pipeline.config import PipelineConfig, TemplateConfig, TierConfig

Comments = Mapping[str, Sequence[str]]
"""Lines of a comment by the tier that they stand above; those under `""` begin the file."""

_GENERAL = {
    "default": "The tier that answers unless a rule names another one.",
    "threads": "Threads of each model; without this line, the cores that may be used.",
    "budget_p90_ms": "A tier whose live P90 (end of speech to first audio, endpoint wait apart) is "
    "above this is demoted.",
    "ram_gb": "What the models of all loaded tiers may need together, in GB (10^9 bytes).",
    "ttl_s": "Seconds without a turn after which a tier that is not pinned is unloaded.",
    "hangover_s": "Seconds of silence that end what a user says; shorter cuts off more of them.",
}
_HYSTERESIS = {
    "window": "Last turns that count for the P90.",
    "enough": "Turns before anything is decided, and turns of a trial.",
    "back_below": "A demoted tier comes back below this share of its budget.",
    "cooldown_s": "Seconds before its first trial; longer after each that fails.",
}


def dump(
    config: PipelineConfig,
    comments: Comments | None = None,
    proposed: Sequence[TierConfig] = (),
) -> str:
    """Returns the TOML that `config.parse` reads back to an equal configuration.

    Args:
        config: What to write.
        comments: See `Comments`.
        proposed: Tiers to write as comments, behind the others.
    """
    comments = comments or {}
    lines = [*_comment(comments.get("", ())), ""] if comments.get("") else []
    for key, said in _GENERAL.items():
        value = config.first if key == "default" else getattr(config, key)
        if value is not None:
            lines += [f"# {said}", f"{key} = {_value(value)}"]
    lines += ["", "[hysteresis]"]
    for key, said in _HYSTERESIS.items():
        lines += [f"# {said}", f"{key} = {_value(getattr(config.hysteresis, key))}"]
    for rule in config.rules:
        lines += ["", "[[rules]]", *_pairs(rule)]
    for tier in config.tiers:
        lines += ["", *_comment(comments.get(tier.name, ())), *_tier(tier)]
    for tier in proposed:
        lines += ["", *_comment(comments.get(tier.name, ()))]
        lines += [f"# {line}".rstrip() for line in _tier(tier)]
    return "\n".join(lines) + "\n"


def _tier(tier: TierConfig) -> list[str]:
    lines = ["[[tiers]]", *_pairs(tier, without=("reply",))]
    lines += ["[tiers.reply]", f"kind = {_value(tier.reply.kind)}"]
    lines += _pairs(tier.reply, without=("kind", "rules"))
    if isinstance(tier.reply, TemplateConfig):
        for rule in tier.reply.rules:
            lines += ["[[tiers.reply.rules]]", *_pairs(rule)]
    return lines


def _pairs(table: BaseModel, without: Sequence[str] = ()) -> list[str]:
    """Returns the keys that are not as they are anyway."""
    return [
        f"{key} = {_value(value)}"
        for key, value in table
        if key not in without and (value != type(table).model_fields[key].default)
    ]


def _value(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        # TOML takes JSON's strings, but for one control character.
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, tuple):
        return f"[{', '.join(map(_value, value))}]"
    # What is a whole number needs no point, and whoever reads it no exponent.
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    return repr(value)


def _comment(lines: Sequence[str]) -> list[str]:
    return [f"# {' '.join(line.split())}".rstrip() for line in lines]
