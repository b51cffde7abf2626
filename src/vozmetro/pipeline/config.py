"""`pipeline.toml`: the tiers, who answers in each, and when each is chosen. Read strictly."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from vozmetro.errors import InputError
from vozmetro.pipeline.endpoint import HANGOVER_S, LEAST_S, MOST_S
from vozmetro.pipeline.reply.patterns import TEXT, Pattern, placeholders
from vozmetro.units import GB

MOST_BYTES = 1 << 20
"""Bytes of the largest file that is read."""

SYSTEM = (
    "You are a voice assistant. Answer in the language of the question, in one or two short "
    "sentences. What you say is read aloud: no lists, no markup, no emoji."
)
"""What a language model is told first, unless the file says otherwise."""

Text = Annotated[str, Field(min_length=1, max_length=4000)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class Table(BaseModel):
    """Base: immutable, and strict about keys and types."""

    model_config: ClassVar[ConfigDict] = ConfigDict(frozen=True, extra="forbid", strict=True)


class EchoConfig(Table):
    """`echo`: says what it heard."""

    kind: Literal["echo"] = "echo"


class AnswerRule(Table):
    """One rule of `template`.

    Attributes:
        match: Patterns; any of them will do. Words as they are said, `{name}` for one or more words
            to be kept, `*` for any number of words.
        say: The answer; `{name}` is what the pattern kept, `{text}` all that was said.
    """

    match: tuple[Text, ...] = Field(min_length=1, max_length=100, strict=False)
    say: Text


class TemplateConfig(Table):
    """`template`: the answer of the first rule whose pattern fits, else the fallback."""

    kind: Literal["template"] = "template"
    rules: tuple[AnswerRule, ...] = Field(default=(), max_length=1000, strict=False)
    fallback: Text


class ChatConfig(Table):
    """`chat`: an OpenAI-compatible chat endpoint.

    Attributes:
        url: Base of the API, such as `http://127.0.0.1:8000/v1`.
        model: Name of the model there.
        api_key_env: Environment variable that holds the key; empty for none.
        system: What the model is told first.
        turns: Exchanges of the conversation that it is told again.
        max_tokens: Length of an answer.
        timeout_s: Longest silence of the server, in seconds.
        limit_s: Longest answer, in seconds.
    """

    kind: Literal["chat"] = "chat"
    url: Text
    model: Text
    api_key_env: str = Field(default="", pattern=r"^([A-Za-z_][A-Za-z0-9_]*)?$")
    system: str = Field(default=SYSTEM, max_length=20_000)
    turns: int = Field(default=6, ge=0, le=16)
    max_tokens: int = Field(default=200, ge=1, le=8192)
    timeout_s: Positive = 10.0
    limit_s: Positive = 60.0


class LocalConfig(Table):
    """`local`: a language model in ONNX on this machine, with `tokenizer.json` beside it.

    Attributes:
        model: Path, or `dummy:...`, as `vozmetro bench` takes it.
        system: What the model is told first.
        turns: Exchanges of the conversation that it is told again.
        max_tokens: Length of an answer.
        context: Tokens that are kept in memory at most, question and answer together.
        no_thinking: Tells a model that thinks aloud not to, as Qwen3's template does.
    """

    kind: Literal["local"] = "local"
    model: Text
    system: str = Field(default=SYSTEM, max_length=20_000)
    turns: int = Field(default=6, ge=0, le=16)
    max_tokens: int = Field(default=120, ge=1, le=8192)
    context: int = Field(default=2048, ge=64, le=1 << 20)
    no_thinking: bool = False


ReplyConfig = Annotated[
    EchoConfig | TemplateConfig | ChatConfig | LocalConfig, Field(discriminator="kind")
]


class TierConfig(Table):
    """A tier.

    Attributes:
        name: Lower-case letters, digits, `-` and `_`.
        stt: Speech to text, as `vozmetro bench` takes it.
        tts: Text to speech, the same.
        reply: Who answers.
        language: ISO 639 that speech to text is told; empty where it detects it.
        pinned: Never unloaded once it is loaded.
        ttl_s: Seconds without a turn after which it is unloaded; None as the file says for all.
        budget_p90_ms: As in `PipelineConfig`, for this tier; None for the same.
    """

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,31}$")
    stt: Text
    tts: Text
    reply: ReplyConfig = EchoConfig()
    language: str = Field(default="", pattern=r"^([a-z]{2,3})?$")
    pinned: bool = False
    ttl_s: Positive | None = None
    budget_p90_ms: Positive | None = None


class RouteRule(Table):
    """When a tier other than the default one is wanted: all that is given must hold.

    Attributes:
        tier: Which.
        seconds_from: Utterances of this length or more, in seconds.
        seconds_below: Shorter utterances than this.
        load_from: This many turns, or more, work or wait.
        load_below: Fewer than this.
    """

    tier: str
    seconds_from: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    seconds_below: Positive | None = None
    load_from: int | None = Field(default=None, ge=0)
    load_below: int | None = Field(default=None, ge=1)


class Hysteresis(Table):
    """When a tier is demoted, and when it comes back.

    Attributes:
        window: Last turns that count.
        enough: Turns that are needed before anything is decided, and turns of a trial.
        back_below: A tier comes back where the P90 of its trial is below this share of the budget.
        cooldown_s: Seconds before its first trial; twice as many before each further one.
    """

    window: int = Field(default=50, ge=5, le=10_000)
    enough: int = Field(default=20, ge=5, le=10_000)
    back_below: float = Field(default=0.8, gt=0, le=1)
    cooldown_s: Positive = 60.0


class PipelineConfig(Table):
    """The whole file.

    Attributes:
        default: The tier that is wanted where no rule says otherwise; empty for the first.
        threads: Threads of each model; None for the cores that may be used.
        budget_p90_ms: P90 of the latency from the end of speech to the first audio, endpoint wait
            apart, that a tier must keep, in ms.
        ram_gb: What the models of all loaded tiers may be expected to need, in GB (10^9 bytes).
        ttl_s: Seconds without a turn after which a tier is unloaded, unless it is pinned.
        hangover_s: Seconds of silence that end what a user says.
        hysteresis: See there.
        rules: The first that holds names the tier.
        tiers: From the fastest to the best: a demoted tier is stood in for by those before it.
    """

    default: str = ""
    threads: int | None = Field(default=None, ge=1, le=1024)
    budget_p90_ms: Positive = 300.0
    ram_gb: Positive = 4.0
    ttl_s: Positive = 300.0
    hangover_s: float = Field(default=HANGOVER_S, ge=LEAST_S, le=MOST_S)
    hysteresis: Hysteresis = Hysteresis()
    rules: tuple[RouteRule, ...] = Field(default=(), max_length=100, strict=False)
    tiers: tuple[TierConfig, ...] = Field(min_length=1, max_length=16, strict=False)

    @property
    def ram_bytes(self) -> int:
        """`ram_gb` in bytes."""
        return round(self.ram_gb * GB)

    @property
    def first(self) -> str:
        """Name of the default tier."""
        return self.default or self.tiers[0].name


REPLIES: dict[str, type[Table]] = {
    "echo": EchoConfig,
    "template": TemplateConfig,
    "chat": ChatConfig,
    "local": LocalConfig,
}
"""Who can answer, by `kind`."""


def load(path: Path) -> PipelineConfig:
    """Reads a configuration.

    Raises:
        InputError: `file_missing`, `pipeline_unreadable`, and what `parse` raises.
    """
    try:
        with path.open("rb") as file:
            raw = file.read(MOST_BYTES + 1)
        if len(raw) > MOST_BYTES:
            raise InputError("pipeline_unreadable", path=path, detail=f"> {MOST_BYTES >> 20} MiB")
        text = raw.decode("utf-8")
    except FileNotFoundError as error:
        raise InputError("file_missing", path=path) from error
    except (OSError, UnicodeDecodeError) as error:
        raise InputError("pipeline_unreadable", path=path, detail=type(error).__name__) from error
    return parse(text, str(path))


def parse(text: str, name: str) -> PipelineConfig:
    """Reads a configuration from TOML.

    Args:
        text: The TOML.
        name: What to call the file in errors.

    Raises:
        InputError: `pipeline_syntax`, `pipeline_unknown_key`, `pipeline_missing_key` or
            `pipeline_bad_value`, each naming the file, the key and what would do.
    """
    try:
        table = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise InputError("pipeline_syntax", path=name, detail=error) from error
    try:
        config = PipelineConfig.model_validate(table)
    except ValidationError as error:
        raise _refused(name, dict(error.errors()[0])) from error
    for key, given, expected in _contradictions(config):
        raise _bad(name, key, given, expected)
    return config


def _contradictions(config: PipelineConfig) -> list[tuple[str, object, str]]:
    """Returns what is wrong between keys: key, what it is, what would do."""
    names = [tier.name for tier in config.tiers]
    known = " | ".join(f'"{name}"' for name in names)
    found: list[tuple[str, object, str]] = []
    for index, name in enumerate(names):
        if name in names[:index]:
            found.append((f"tiers[{index + 1}].name", name, f"≠ {known}"))
    if config.default and config.default not in names:
        found.append(("default", config.default, known))
    if config.hysteresis.enough > config.hysteresis.window:
        most = f"<= {config.hysteresis.window} (hysteresis.window)"
        found.append(("hysteresis.enough", config.hysteresis.enough, most))
    for index, rule in enumerate(config.rules):
        key = f"rules[{index + 1}]"
        if rule.tier not in names:
            found.append((f"{key}.tier", rule.tier, known))
        conditions = [name for name in RouteRule.model_fields if name != "tier"]
        if all(getattr(rule, name) is None for name in conditions):
            found.append((key, rule.tier, " | ".join(f"{name} = ..." for name in conditions)))
    for index, tier in enumerate(config.tiers):
        found += _reply_faults(f"tiers[{index + 1}].reply", tier.reply)
    return found


def _reply_faults(key: str, reply: ReplyConfig) -> list[tuple[str, object, str]]:
    if isinstance(reply, ChatConfig):
        return [] if _is_address(reply.url) else [(f"{key}.url", reply.url, "http(s)://HOST/v1")]
    if not isinstance(reply, TemplateConfig):
        return []
    found: list[tuple[str, object, str]] = []
    for index, rule in enumerate(reply.rules):
        kept = {TEXT}
        for number, words in enumerate(rule.match):
            pattern = Pattern.parse(words)
            if pattern is None:
                where = f"{key}.rules[{index + 1}].match[{number + 1}]"
                found.append((where, words, "hello {name} *"))
            else:
                # What the answer says must be in whichever pattern fits.
                kept = {*pattern.names, TEXT} if number == 0 else kept & {*pattern.names, TEXT}
        found += _answer_faults(f"{key}.rules[{index + 1}].say", rule.say, kept)
    return found + _answer_faults(f"{key}.fallback", reply.fallback, {TEXT})


def _answer_faults(key: str, answer: str, kept: set[str]) -> list[tuple[str, object, str]]:
    used = placeholders(answer)
    if used is None or not set(used) <= kept:
        return [(key, answer, ", ".join(f"{{{name}}}" for name in sorted(kept)))]
    return []


def _is_address(url: str) -> bool:
    """Whether it is an address without credentials, which would come to stand in logs."""
    try:
        parts = urlsplit(url)
        known = parts.scheme in ("http", "https") and bool(parts.hostname)
        return known and parts.username is None and not parts.query and (parts.port or 1) > 0
    except ValueError:
        return False


def _refused(name: str, error: dict[str, Any]) -> InputError:
    """Returns the error for what pydantic found first."""
    where, kind, ctx = list(error["loc"]), str(error["type"]), error.get("ctx", {})
    if kind == "extra_forbidden":
        known = ", ".join(_table_at(where).model_fields)
        return InputError("pipeline_unknown_key", path=name, what=_key(where), known=known)
    if kind == "union_tag_not_found":
        return InputError("pipeline_missing_key", path=name, what=f"{_key(where)}.kind")
    if kind == "missing":
        return InputError("pipeline_missing_key", path=name, what=_key(where))
    if kind == "union_tag_invalid":
        expected = " | ".join(f'"{one}"' for one in REPLIES)
        return _bad(name, f"{_key(where)}.kind", ctx.get("tag"), expected)
    expected = _EXPECTED.get(kind, "").format(**ctx) or str(error["msg"])
    return _bad(name, _key(where), error.get("input"), expected)


_EXPECTED = {
    "bool_type": "true | false",
    "finite_number": "1.5",
    "float_type": "1.5",
    "greater_than": "> {gt}",
    "greater_than_equal": ">= {ge}",
    "int_type": "1",
    "less_than_equal": "<= {le}",
    "model_type": "{{ ... }}",
    "model_attributes_type": "{{ ... }}",
    "string_pattern_mismatch": "{pattern}",
    "string_too_long": "<= {max_length}",
    "string_too_short": '"..."',
    "string_type": '"..."',
    "too_long": "<= {max_length}",
    "too_short": "[...]",
    "tuple_type": "[...]",
}
"""By pydantic's type of error, what would do, in signs that read the same in every language."""


def _table_at(where: list[str | int]) -> type[Table]:
    """Returns the table that a key of a path stands in."""
    table: type[Table] = PipelineConfig
    for part in where[:-1]:
        if part in REPLIES:
            table = REPLIES[str(part)]
        elif part == "rules":
            table = RouteRule if table is PipelineConfig else AnswerRule
        elif part in ("tiers", "hysteresis"):
            table = TierConfig if part == "tiers" else Hysteresis
    return table


def _key(where: list[str | int]) -> str:
    """Returns `tiers[2].reply.url`; tiers are counted from 1, as people do."""
    shown = ""
    for index, part in enumerate(where):
        if index and where[index - 1] == "reply" and part in REPLIES:
            continue  # pydantic's mark of the kind, which is no key of the file
        shown += f"[{part + 1}]" if isinstance(part, int) else f".{part}"
    return shown.removeprefix(".")


def _bad(name: str, key: str, given: object, expected: str) -> InputError:
    shown = re.sub(r"\s+", " ", repr(given))
    shown = shown if len(shown) <= 60 else f"{shown[:59]}…"
    return InputError("pipeline_bad_value", path=name, what=key, given=shown, expected=expected)
