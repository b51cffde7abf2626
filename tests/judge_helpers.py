"""Runs made up for the tests of `judge`."""

import math

import numpy as np

from vozmetro.measure.records import (
    Environment,
    Item,
    Run,
    Sample,
    Session,
    Settings,
    Subject,
)

ENVIRONMENT = Environment(
    cpu="test",
    cores_physical=2,
    cores_logical=2,
    cores_allowed=2,
    affinity=[0, 1],
    cgroup_quota=None,
    frequency_mhz=None,
    governor="",
    power="unknown",
    ram_total=8 * 10**9,
    ram_available=6 * 10**9,
    ram_limit=None,
    os="test",
    virtualization="none",
    load=None,
    python="3.11",
    versions={},
)


def make_run(
    items,
    rounds=40,
    *,
    sd=0.02,
    seed=0,
    kind="graph",
    name="model-a",
    status="complete",
    peak_rss=700_000_000,
    parts=None,
    sessions=1,
    notes=(),
    languages=(),
    weights="real",
    noise=None,
):
    """Makes a run whose items are {id: (audio seconds, median ms)}."""
    rng = np.random.default_rng(seed)
    if noise is None:
        noise = sd * rng.normal(size=rounds * len(items))
    samples = []
    for round_ in range(rounds):
        for item, (_, median) in items.items():
            ms = median * math.exp(noise[len(samples)])
            samples.append(
                Sample(
                    item=item,
                    session=0,
                    block=round_,
                    round=round_,
                    at_s=len(samples) * 0.3,
                    ms=ms,
                    cpu_ms=2 * ms,
                    parts={part: share * ms for part, share in (parts or {}).items()},
                )
            )
    session = Session(
        started="2026-01-01T00:00:00Z",
        load_ms=1000.0,
        import_ms=10.0,
        first_ms=500.0,
        warmup_ms=[230.0, 210.0],
        warmup_sufficient=True,
        peak_rss=peak_rss,
        cpu_s=4.0,
        wall_s=2.0,
    )
    return Run(
        id="r",
        created="2026-01-01T00:00:00Z",
        vozmetro="0",
        status=status,
        subject=Subject(
            name=name,
            kind=kind,
            clock="post-endpoint" if kind == "cascade" else "per-inference",
            engines=["test 1"],
            files=[],
            format="ONNX",
            precision="FP32",
            languages=list(languages),
            weights=weights,
        ),
        settings=Settings(subject=name, iterations=20, until="decided", max_time_s=600, threads=2),
        environment=ENVIRONMENT,
        items=[
            Item(id=item, seconds=seconds, source="synthetic")
            for item, (seconds, _) in items.items()
        ],
        sessions=[session] * sessions,
        samples=samples,
        notes=list(notes),
    )
