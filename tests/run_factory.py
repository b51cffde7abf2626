"""Synthetic records for tests: lognormal latencies with a known median, no model needed."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np

from vozmetro.measure.records import (
    ComparisonRecord,
    Environment,
    FileInfo,
    Item,
    Memory,
    Noise,
    Note,
    ResolvedInput,
    Run,
    Sample,
    Session,
    Settings,
    Subject,
)

ENGINES = {
    "graph": ["onnx 1.27.0"],
    "stt": ["faster-whisper 1.2.1"],
    "tts": ["piper 1.3.0"],
    "cascade": ["faster-whisper 1.2.1", "piper 1.3.0"],
}


def make_environment(**changes: Any) -> Environment:
    """Returns a quiet four-core machine."""
    values: dict[str, Any] = {
        "cpu": "Intel(R) Core(TM) i7-7700HQ CPU @ 2.80GHz",
        "cores_physical": 4,
        "cores_logical": 8,
        "cores_allowed": 4,
        "affinity": [0, 1, 2, 3],
        "cgroup_quota": None,
        "frequency_mhz": 2800.0,
        "governor": "performance",
        "power": "mains",
        "ram_total": 16_000_000_000,
        "ram_available": 12_300_000_000,
        "ram_limit": None,
        "os": "Linux 6.8.0",
        "virtualization": "none",
        "load": 0.12,
        "python": "3.12.3",
        "versions": {"onnxruntime": "1.27.0", "numpy": "2.3.1", "vozmetro": "0.1.0"},
        "noise": Noise(pairs=200, p50_ms=0.4, ratio=1.001, resolvable=0.012, spread=1.3),
    }
    return Environment(**(values | changes))


def make_items(
    lengths: tuple[float, ...], source: str = "corpus", kind: str = "stt", text: str = ""
) -> list[Item]:
    """Returns one item for each length, in Spanish and English by turns."""
    items = []
    for index, seconds in enumerate(lengths):
        language = "es" if index % 2 == 0 else "en"
        words = text or ("Buenos días, ¿qué tal?" if language == "es" else "Good morning.")
        inputs = [ResolvedInput(name="mel", dtype="float32", shape=[1, 80, 300], rule="log-mel")]
        items.append(
            Item(
                id=f"{language}/{index:02d}",
                seconds=seconds,
                language=language,
                text=words if source == "corpus" else "",
                source=source,  # type: ignore[arg-type]
                path=f"{language}/{index:02d}.wav" if source == "corpus" else "",
                inputs=inputs if kind == "graph" else [],
                output=words if kind in ("stt", "cascade") else "1x300x51",
            )
        )
    return items


def make_samples(
    items: list[Item],
    kind: str,
    *,
    median_ms: float,
    sigma: float,
    rounds: int,
    slope: float,
    seed: int,
    block: int = 4,
) -> list[Sample]:
    """Returns one lognormal sample for each item and round; longer audio takes longer."""
    random = np.random.default_rng(seed)
    middle = float(np.median([item.seconds for item in items]))
    clock, samples = 1.0, []
    for number in range(rounds):
        for item in items:
            typical = median_ms * (1 + slope * (item.seconds - middle))
            ms = float(typical * np.exp(sigma * random.standard_normal()))
            parts = {"stt": 0.8 * ms, "tts_first_audio": 0.2 * ms} if kind == "cascade" else {}
            samples.append(
                Sample(
                    item=item.id,
                    session=0,
                    block=number // block,
                    round=number,
                    at_s=clock,
                    ms=ms,
                    cpu_ms=1.9 * ms,
                    parts=parts,
                )
            )
            clock += ms / 1000
    return samples


def make_run(
    name: str = "whisper-base",
    kind: str = "stt",
    *,
    median_ms: float = 180.0,
    sigma: float = 0.06,
    rounds: int = 24,
    lengths: tuple[float, ...] = (0.5, 1.0, 2.0, 3.0, 5.0),
    slope: float = 0.0,
    source: str = "corpus",
    text: str = "",
    seed: int = 7,
    peak_rss: int = 812_000_000,
    budget: dict[str, Any] | None = None,
    run_id: str = "",
    files: list[FileInfo] | None = None,
    notes: list[Note] | None = None,
    status: str = "complete",
    subject: dict[str, Any] | None = None,
    **changes: Any,
) -> Run:
    """Returns a run whose median latency is about `median_ms` on every item."""
    items = make_items(lengths, source, kind, text)
    samples = make_samples(
        items, kind, median_ms=median_ms, sigma=sigma, rounds=rounds, slope=slope, seed=seed
    )
    digest = hashlib.sha256(name.encode()).hexdigest()
    graph = kind in ("graph", "tts")
    words: dict[str, Any] = {
        "name": name,
        "kind": kind,
        "clock": "post-endpoint" if kind == "cascade" else "per-inference",
        "engines": ENGINES[kind],
        "files": [FileInfo(path="models/model.bin", bytes=145_000_000, sha256=digest)]
        if files is None
        else files,
        "format": "ONNX" if graph else "CTranslate2",
        "precision": "FP32" if graph else "INT8",
        "parameters": 72_600_000,
        "weights": "real",
    }
    wall = sum(sample.ms for sample in samples) / 1000
    session = Session(
        started="2025-10-29T10:31:00Z",
        load_ms=1234.0,
        import_ms=800.0,
        first_ms=410.0,
        warmup_ms=[260.0, 200.0, 190.0],
        warmup_sufficient=True,
        idle_ms=[median_ms * 1.2] * 3,
        idle_gap_s=2.0,
        memory={
            phase: Memory(rss=int(peak_rss * part), uss=int(peak_rss * part * 0.9), pss=None)
            for phase, part in (("start", 0.2), ("loaded", 0.8), ("warm", 0.95), ("end", 0.97))
        },
        peak_rss=peak_rss,
        cpu_s=1.9 * wall,
        wall_s=wall,
    )
    settings = Settings(
        subject=name,
        iterations=20,
        until="decided",
        max_time_s=300.0,
        threads=4,
        corpus="audioeval" if source == "corpus" else None,
        budget=budget or {},
        command=["vozmetro", "bench", name],
    )
    values: dict[str, Any] = {
        "id": run_id or f"run-{name}",
        "created": "2025-10-29T10:31:00Z",
        "vozmetro": "0.1.0",
        "status": status,
        "subject": Subject(**(words | (subject or {}))),
        "settings": settings,
        "environment": make_environment(),
        "items": items,
        "sessions": [session],
        "samples": samples,
        "notes": notes or [],
    }
    return Run(**(values | changes))


def make_comparison(a: Run | None = None, b: Run | None = None, **changes: Any) -> ComparisonRecord:
    """Returns two runs side by side; by default A takes a third of B's time."""
    a = a or make_run("whisper-tiny", median_ms=120.0, seed=1)
    b = b or make_run("whisper-base", median_ms=360.0, seed=2, peak_rss=1_400_000_000)
    values: dict[str, Any] = {
        "id": "comparison",
        "created": "2025-10-29T10:31:00Z",
        "mode": "interleaved",
        "a": a,
        "b": b,
    }
    return ComparisonRecord(**(values | changes))
