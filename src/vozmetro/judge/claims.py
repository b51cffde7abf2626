"""What somebody claims about models, as data: parsed from TOML and refused where it is not clear.

`hypotheses/guia.toml` is the example to read: every key is described there once.
"""

from __future__ import annotations

import re
import tomllib
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from vozmetro.errors import InputError

Metric = Literal[
    "latency_p50_ms",
    "latency_p99_ms",
    "throughput",
    "load",
    "warmup",
    "ram",
    "parameters",
    "wer",
    "wer_increase",
    "mos",
    "modality",
    "gain",
]
Comparator = Literal["about", "between", "below", "at_most", "at_least", "has"]

UNITS: dict[str, dict[str, float]] = {
    "latency_p50_ms": {"ms": 1.0, "s": 1e3},
    "latency_p99_ms": {"ms": 1.0, "s": 1e3},
    "throughput": {"inf/s": 1.0},
    "load": {"s": 1.0, "ms": 1e-3},
    "warmup": {"s": 1.0, "ms": 1e-3},
    "ram": {"GB": 1e9, "MB": 1e6},
    "parameters": {"B": 1e9, "M": 1e6},
    "wer": {"%": 1.0},
    "wer_increase": {"points": 1.0},
    "mos": {"MOS": 1.0},
    "modality": {"": 1.0},
    "gain": {"%": 1.0},
}
"""Units that a claim on each metric may use, in multiples of the metric's own unit."""

LOWER_IS_BETTER = frozenset(
    {"latency_p50_ms", "latency_p99_ms", "load", "warmup", "ram", "wer", "wer_increase"}
)
HIGHER_IS_BETTER = frozenset({"throughput", "mos", "gain"})
PAIRED = frozenset({"gain", "wer_increase"})
"""Metrics of two sides measured together."""
TOLERANCE = 0.2
"""Relative width of "about", to either side."""

Number = Annotated[float, Field(allow_inf_nan=False, strict=True)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False, strict=True)]


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Words(_Strict):
    """The same text in both languages."""

    es: Annotated[str, Field(min_length=1)]
    en: Annotated[str, Field(min_length=1)]

    def text(self, lang: str) -> str:
        """Returns the text in `lang`."""
        return self.es if lang == "es" else self.en


class Matcher(_Strict):
    """Which measurements can answer a claim.

    Attributes:
        architecture: Name of the architecture whose known facts (parameters, inputs) hold.
        names: Patterns (`*` for anything) for the subject's name, one of them is enough; `A+B` for
            the parts of a cascade.
        kinds: Subject kinds; empty for any.
        precision: Labels such as `INT8`; empty for any.
        parts: Parts of a latency that answer, before the whole of the same measurement: `stt` and
            `tts_first_audio` of a cascade, `first_audio` of a voice.
        device: `cpu` or `cuda`.
        least_parameters: Fewer than these and it is not the whole model.
    """

    architecture: str = ""
    names: list[str] = []
    kinds: list[Literal["graph", "stt", "tts", "cascade", "lm"]] = []
    precision: list[str] = []
    parts: list[Literal["stt", "tts_first_audio", "first_audio"]] = []
    device: Literal["cpu", "cuda"] = "cpu"
    least_parameters: Positive | None = None


class Work(_Strict):
    """What one answer of a language model is taken to be.

    Attributes:
        prompt_tokens: Tokens read before the first one is said.
        answer_tokens: Tokens said before the answer counts as given.
    """

    prompt_tokens: Annotated[int, Field(ge=1, strict=True)]
    answer_tokens: Annotated[int, Field(ge=1, strict=True)]


class Pair(_Strict):
    """What differs between the two sides of a comparison that answers a gain.

    Attributes:
        differs: `precision`, session `options`, or the `sample_rate` of the audio.
        base: Precisions of the slower side; for `sample_rate` the rate in Hz.
        other: Precisions of the faster side; for `sample_rate` the rate in Hz.
        options: Session options of the faster side, which the slower one lacks.
        model_rate: Rate in Hz for which the model's input is defined.
    """

    differs: Literal["precision", "options", "sample_rate"]
    base: list[str] = []
    other: list[str] = []
    options: dict[str, str] = {}
    model_rate: int | None = None


class Claim(_Strict):
    """One claim.

    Attributes:
        id: Unique in its file.
        section: Where it stands in the source.
        says: The claim in words.
        metric: What it is about.
        compare: `about` (within `tolerance`), `between`, `below`, `at_most`, `at_least`; `has` for
            a modality.
        value: The figure, in `unit`.
        low: Lower end for `between`.
        high: Upper end for `between`.
        unit: See UNITS.
        tolerance: Relative width of `about`.
        promise: Whether a better figure than the one claimed keeps the claim. Where it is false the
            claim describes, and a better figure contradicts it too.
        scope: `some`: one configuration that keeps the claim is enough; `all`: every one must.
        subject: Which measurements can answer it.
        work: What an answer is, for language models.
        pair: What a comparison must differ in, for gains.
        holds: Parameters that the claimed RAM must hold.
        modality: `audio_input` or `audio_output`, for `has`; what WER and MOS need.
        reading: How the claim was read where it leaves that open.
        why: What stands behind a refutation, in plain words.
        answer: Command that would answer it.
    """

    id: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]*$")]
    section: Words
    says: Words
    metric: Metric
    compare: Comparator
    value: Number | None = None
    low: Number | None = None
    high: Number | None = None
    unit: str = ""
    tolerance: Positive = TOLERANCE
    promise: bool = False
    scope: Literal["some", "all"] = "some"
    subject: Matcher = Matcher()
    work: Work | None = None
    pair: Pair | None = None
    holds: Positive | None = None
    modality: list[Literal["audio_input", "audio_output"]] = []
    reading: Words | None = None
    why: Words | None = None
    answer: str = ""

    @model_validator(mode="after")
    def _clear(self) -> Self:
        """Refuses a claim that does not say what it claims; the message is the key at fault."""
        unclear = self._unclear()
        if unclear:
            raise ValueError(unclear)
        return self

    def _unclear(self) -> str:
        between, has = self.compare == "between", self.compare == "has"
        ordered = None not in (self.low, self.high) and (self.low or 0.0) <= (self.high or 0.0)
        faults = {
            "unit": self.unit not in UNITS[self.metric],
            "compare": has != (self.metric == "modality"),
            "low": between and not ordered,
            "value": not between and not has and self.value is None,
            "modality": has and not self.modality,
            "pair": (self.metric in PAIRED) != (self.pair is not None),
        }
        return next((key for key, wrong in faults.items() if wrong), "")

    @property
    def scale(self) -> float:
        """Multiplies the claim's figures into the metric's own unit."""
        return UNITS[self.metric][self.unit]

    @property
    def bounds(self) -> tuple[float | None, float | None]:
        """What the claim allows, in the metric's own unit; None for an open end.

        Where it is a promise, the end on the better side is open.
        """
        low, high = self._ends()
        if self.promise and self.metric in LOWER_IS_BETTER:
            low = None
        if self.promise and self.metric in HIGHER_IS_BETTER:
            high = None
        return low, high

    @property
    def better_than(self) -> float | None:
        """The end beyond which a promise is more than kept; None where there is none."""
        low, high = self._ends()
        if not self.promise:
            return None
        return low if self.metric in LOWER_IS_BETTER else high

    def _ends(self) -> tuple[float | None, float | None]:
        value, scale = self.value or 0.0, self.scale
        if self.compare == "between":
            return (self.low or 0.0) * scale, (self.high or 0.0) * scale
        if self.compare == "about":
            width = abs(value) * self.tolerance
            return (value - width) * scale, (value + width) * scale
        return (value * scale, None) if self.compare == "at_least" else (None, value * scale)


class Claims(_Strict):
    """A file of claims.

    Attributes:
        title: What they are about.
        source: Where they come from.
        claims: In the order to show.
    """

    title: Words
    source: Words
    claims: Annotated[list[Claim], Field(min_length=1)]


def parse_claims(text: str, name: str) -> Claims:
    """Returns the claims of a TOML file.

    Args:
        text: The file's text.
        name: What to call it in errors.

    Raises:
        InputError: `claims_syntax`, `claims_unknown_key`, `claims_missing_key`, `claims_bad_value`
            or `claims_duplicate`, each with the line.
    """
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        found = re.search(r"\(at line (\d+), column \d+\)", str(error))
        line = found[1] if found else str(text.count("\n") + 1)
        detail = re.sub(r"\s*\(at .*\)$", "", str(error))
        raise InputError("claims_syntax", path=name, line=line, detail=detail) from error
    try:
        claims = Claims.model_validate(table)
    except ValidationError as error:
        raise _refused(text, name, dict(error.errors()[0])) from error
    seen: set[str] = set()
    for index, claim in enumerate(claims.claims):
        if claim.id in seen:
            line = str(_line(text, ["claims", index, "id"]))
            raise InputError("claims_duplicate", path=name, line=line, id=claim.id)
        seen.add(claim.id)
    return claims


def _refused(text: str, name: str, error: dict[str, Any]) -> InputError:
    """Returns the error for what pydantic found first."""
    where, kind = list(error["loc"]), error["type"]
    if kind == "value_error":
        where.append(str(error["ctx"]["error"]))
    # What is missing stands nowhere; what should hold it does.
    place = where[:-1] if kind == "missing" else where
    fields = {"path": name, "line": str(_line(text, place)), "what": _key(where)}
    if kind == "extra_forbidden":
        return InputError("claims_unknown_key", **fields)
    if kind == "missing":
        return InputError("claims_missing_key", **fields)
    given = error.get("input")
    if kind == "value_error" and isinstance(given, dict):
        given = given.get(str(where[-1]))
    return InputError("claims_bad_value", **fields, given=_short(given))


def _short(value: object) -> str:
    shown = repr(value)
    return shown if len(shown) <= 40 else f"{shown[:39]}…"


def _key(where: list[str | int]) -> str:
    """Returns `claims[3].subject.names`, claims counted from 1 as people do."""
    shown = ""
    for part in where:
        shown += f"[{part + 1}]" if isinstance(part, int) else f".{part}"
    return shown.removeprefix(".")


def _line(text: str, where: list[str | int]) -> int:
    """Returns the line of a key, or of the table that lacks it, counted from 1.

    Tables stand in the order of the file, so that the n-th `[[claims]]` is claim n; a key is
    looked for until the next one begins.
    """
    lines = text.splitlines() or [""]
    first, last = 1, len(lines)
    if len(where) > 1 and where[0] == "claims" and isinstance(where[1], int):
        heads = [n for n, one in enumerate(lines, 1) if re.match(r"\s*\[\[\s*claims\s*\]\]", one)]
        if where[1] < len(heads):
            first = heads[where[1]]
            last = heads[where[1] + 1] - 1 if where[1] + 1 < len(heads) else last
        where = where[2:]
    found = first
    for name in (part for part in where if isinstance(part, str)):
        pattern = re.compile(rf"(?:^|[\s\[{{,.])['\"]?{re.escape(name)}['\"]?\s*[=\].]")
        below = range(found, last + 1)
        found = next((n for n in below if pattern.search(lines[n - 1].split("#")[0])), found)
    return found
