"""Claims, figures and records made up for the tests of hypotheses."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from run_factory import make_comparison, make_environment, make_run

from vozmetro.hypotheses.files import read_claims
from vozmetro.judge.claims import Claim
from vozmetro.judge.evidence import About, Evidence, machine_of
from vozmetro.judge.findings import Finding
from vozmetro.judge.hypotheses import check
from vozmetro.measure.depth_records import DepthPart, DepthStudy, DepthTask
from vozmetro.measure.records import ComparisonRecord, Item, Run, Sample
from vozmetro.measure.roofline_records import Floor, Machine, Roofline, Step

HERE = machine_of(make_environment())
VL4B = "qwen3-vl-4b"
GUIDE = {claim.id: claim for claim in read_claims("guia").claims}


def claim(**changes: Any) -> Claim:
    """A promise of at most about 80 ms (64 to 96) of any Whisper-small."""
    words = {"es": "Tarda unos 80 ms", "en": "It takes about 80 ms"}
    values: dict[str, Any] = {
        "id": "c",
        "section": words,
        "says": words,
        "metric": "latency_p50_ms",
        "compare": "about",
        "value": 80.0,
        "unit": "ms",
        "promise": True,
        "subject": {"names": ["whisper-small*"], "kinds": ["stt"]},
    }
    return Claim.model_validate(values | changes)


def latency(low: float | None, high: float | None, **changes: Any) -> Evidence:
    ends = [end for end in (low, high) if end is not None] or [80.0]
    base = Evidence(
        metric="latency_p50_ms",
        value=sum(ends) / len(ends),
        low=low,
        high=high,
        about=About(name="whisper-small", kind="stt", names=("whisper-small",), precision="INT8"),
        source="run",
        id="run-1",
        machine=HERE,
    )
    return replace(base, **changes)


def verdict(one: Claim, *evidence: Evidence, machine: str = HERE) -> Finding:
    (found,) = check([one], evidence, machine)
    return found


def roofline(precision: str, memory_ms: float, compute_ms: float, **changes: Any) -> Roofline:
    """A prompt of 16 and of 32 tokens and one token after them."""

    def floor(name: str, unit: Any, tokens: int) -> Floor:
        step = Step(
            name=name,
            times=1,
            bytes=10**9,
            macs={},
            memory_ms=memory_ms,
            compute_ms=compute_ms if unit == "prefill" else 0.0,
            floor_ms=max(memory_ms, compute_ms if unit == "prefill" else 0.0),
        )
        return Floor(
            item=name,
            unit=unit,
            length=tokens,
            steps=[step],
            bytes=step.bytes,
            macs={},
            floor_ms=step.floor_ms,
            bound="memory",
        )

    environment = make_environment()
    machine = Machine(
        cpu=environment.cpu,
        threads=environment.cores_allowed,
        bandwidth=4e10,
        bandwidth_median=4e10,
    )
    items = [
        floor("16", "prefill", 16),
        floor("32", "prefill", 32),
        floor("token", "decode", 32),
    ]
    values: dict[str, Any] = {
        "id": f"roofline-{precision}",
        "created": "2025-10-29T10:31:00Z",
        "vozmetro": "0.1.0",
        "subject": f"models/{VL4B}-{precision.lower()}.onnx",
        "precision": precision,
        "parameters": 4_022_000_000,
        "machine": machine,
        "items": items,
    }
    return Roofline(**(values | changes))


def study(
    component: str = "model",
    stages: tuple[str, ...] = (),
    bend: float = 0.0,
    depths: tuple[int, ...] = (1, 2, 4),
    **subject: Any,
) -> DepthStudy:
    """Of n layers a prompt takes 30 + 5n ms and a token 5 + 1.7n; other stages 20 ms each."""
    whole = make_run(
        "models/qwen3-vl-4b-int4.onnx",
        "graph",
        subject={"kind": "lm", "precision": "INT4", "weights": "dummy", "parameters": None}
        | subject,
    )

    def part(name: str, layers: int, full: int) -> DepthPart:
        return DepthPart(
            id=f"{name}/{layers}",
            component=name,
            layers=layers,
            full_layers=full,
            expected_ram=100_000_000 + layers * 60_000_000,
            files=[],
        )

    parts = [part(component, layers, 36) for layers in depths]
    tasks = [
        DepthTask(
            id=f"{one.id} · {tokens}",
            part=one.id,
            stage=f"{component} · {tokens}",
            tokens=tokens,
            new_tokens=9,
        )
        for one in parts
        for tokens in (16, 32)
    ]
    for stage in stages:
        name = stage.split(" · ")[0]
        parts.append(part(name, 1, 1))
        heard = 3.0 if name == "audio_encoder" else 0.08
        tasks.append(DepthTask(id=stage, part=f"{name}/1", stage=stage, seconds=heard))
    layers_of = {one.id: one.layers for one in parts}
    samples = []
    for number in range(24):
        for task in tasks:
            layers = layers_of[task.part]
            ms = 30 + 5 * layers + bend * layers**2 if task.tokens else 20.0
            later = {"per_token": 5 + 1.7 * layers} if task.tokens else {}
            samples.append(
                Sample(
                    item=task.id,
                    session=0,
                    block=number,
                    round=number,
                    at_s=float(number),
                    ms=ms,
                    cpu_ms=ms,
                    parts=later,
                )
            )
    kept = whole.model_dump(exclude={"type", "items", "samples", "schema_version"})
    return DepthStudy(**kept, full_layers=36, parts=parts, tasks=tasks, samples=samples)


def language_run(first_ms: float, token_ms: float, **changes: Any) -> Run:
    """Prompts of 16 and 32 tokens; the longer takes twice as long."""
    whole = make_run(
        f"models/{VL4B}-int4.onnx",
        "graph",
        source="synthetic",
        subject={
            "kind": "lm",
            "clock": "time-to-first-token",
            "architecture": VL4B,
            "parameters": 4_022_000_000,
            "precision": "INT4",
            "weights": "dummy",
        },
    )
    items, samples = [], []
    for tokens in (16, 32):
        one = Item(id=f"{tokens}", seconds=0, source="synthetic", tokens=tokens, new_tokens=9)
        items.append(one)
        for number in range(30):
            ms = first_ms * tokens / 16 * (1 + 0.001 * (number % 5))
            samples.append(
                Sample(
                    item=one.id,
                    session=0,
                    block=number,
                    round=number,
                    at_s=float(number),
                    ms=ms,
                    cpu_ms=ms,
                    parts={"first_token": ms, "per_token": token_ms},
                )
            )
    return whole.model_copy(update={"items": items, "samples": samples, **changes})


def sides(a: dict[str, Any], b: dict[str, Any], **changes: Any) -> ComparisonRecord:
    def side(given: dict[str, Any], seed: int) -> Run:
        words = {"parameters": 72_600_000, "precision": "FP32"} | given
        ms = words.pop("median_ms")
        return make_run("whisper-base", "graph", median_ms=ms, seed=seed, sigma=0.02, subject=words)

    return make_comparison(side(a, 1), side(b, 2), **changes)


OPTIONS = {"session.disable_prepacking": "0", "session.use_ort_model_bytes_directly": "1"}
