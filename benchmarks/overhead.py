"""What vozmetro's measuring adds: the same graph through vozmetro, MLPerf LoadGen and a bare loop.

    python benchmarks/overhead.py [--model M.onnx] [--lives 8] [--turns 10] [--queries 200]

Four live processes take turns in mirrored order (vozmetro, LoadGen, bare, bare again, bare again,
bare, ...), each timing a block of the same inferences on the same input. Of each block the P50 and
the P99 are taken, and divided by the bare loop's in the same turn. Where a process's memory
happens to lie makes it faster or slower for life, so that all are started anew several times. The
ratio printed is the median over all turns of all lives; the second bare loop shows how far two
equal systems come apart by chance. Fails (exit 1) where vozmetro's P50 ratio is off by more than
2 % or its P99 ratio by more than 5 %.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter_ns
from typing import Any

import numpy as np

P50_TOLERANCE, P99_TOLERANCE = 0.02, 0.05
Figures = tuple[float, float]  # P50 and P99 of a block in ms


def bare(path: str, feeds: dict[str, Any], threads: int, queries: int) -> Any:
    """Yields figures of one block after another: nothing but the loop that everybody writes."""
    graph = _session(path, threads)
    for _ in range(50):
        graph.run(None, feeds)
    while True:
        times = []
        for _ in range(queries):
            start = perf_counter_ns()
            graph.run(None, feeds)
            times.append(perf_counter_ns() - start)
        yield _figures(times)


def loadgen(path: str, feeds: dict[str, Any], threads: int, queries: int) -> Any:
    """Yields figures of one block after another, as LoadGen's own summary states them."""
    import mlperf_loadgen as lg

    graph = _session(path, threads)
    for _ in range(50):
        graph.run(None, feeds)

    def issue(samples: Any) -> None:
        for sample in samples:
            graph.run(None, feeds)
            lg.QuerySamplesComplete([lg.QuerySampleResponse(sample.id, 0, 0)])

    settings = lg.TestSettings()
    settings.scenario = lg.TestScenario.SingleStream
    settings.mode = lg.TestMode.PerformanceOnly
    settings.min_duration_ms = 0
    settings.min_query_count = settings.max_query_count = queries
    sut = lg.ConstructSUT(issue, lambda: None)
    qsl = lg.ConstructQSL(1, 1, lambda _: None, lambda _: None)
    with tempfile.TemporaryDirectory() as folder:
        output = lg.LogOutputSettings()
        output.outdir = folder
        output.copy_summary_to_stdout = False
        log = lg.LogSettings()
        log.log_output = output
        while True:
            lg.StartTestWithLogSettings(sut, qsl, settings, log, "")
            yield _summary(Path(folder) / "mlperf_log_summary.txt")


def _summary(path: Path) -> Figures:
    found = {}
    for line in path.read_text().splitlines():
        name, _, value = line.partition(":")
        if "percentile latency (ns)" in name:
            found[name.split()[0]] = int(value) / 1e6
    return found["50.00"], found["99.00"]


def _figures(times_ns: list[int]) -> Figures:
    ms = np.array(times_ns) / 1e6
    return float(np.quantile(ms, 0.5)), float(np.quantile(ms, 0.99))


def _session(path: str, threads: int) -> Any:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    return ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def _feeds(path: str, threads: int) -> dict[str, Any]:
    """The very input that vozmetro makes for one second of audio."""
    from vozmetro.engines.onnx_graph import OrtGraph
    from vozmetro.measure.callers import GraphCaller
    from vozmetro.measure.subject import vocabulary_bounds
    from vozmetro.measure.workload import from_lengths

    graph = OrtGraph(Path(path), threads, {})
    feeds, _ = GraphCaller(graph, {}, vocabulary_bounds(Path(path))).prepare(
        from_lengths([1.0], [], 0)[0]
    )
    return dict(feeds)


class Peer:
    """A peer in its own process: asked for a block, it answers with its figures."""

    def __init__(self, name: str, arguments: argparse.Namespace) -> None:
        words = [sys.executable, __file__, "--peer", name, "--model", arguments.model]
        words += ["--threads", str(arguments.threads), "--queries", str(arguments.queries)]
        self._process = subprocess.Popen(
            words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def block(self) -> Figures:
        """Has one block timed."""
        if self._process.stdin is None or self._process.stdout is None:
            raise RuntimeError("no pipes")
        self._process.stdin.write("go\n")
        self._process.stdin.flush()
        p50, p99 = json.loads(self._process.stdout.readline())
        return p50, p99

    def close(self) -> None:
        """Ends the process."""
        self._process.kill()
        self._process.wait()


class Vozmetro:
    """vozmetro's own worker, driven as `bench` drives it."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        from vozmetro import Options
        from vozmetro.measure import environment
        from vozmetro.measure.live import LiveSubject
        from vozmetro.measure.records import Run
        from vozmetro.measure.subject import resolve_subject
        from vozmetro.measure.workload import from_lengths

        target = resolve_subject(arguments.model)
        options = Options(threads=arguments.threads, audio_seconds=(1.0,))
        work = from_lengths([1.0], [], 0)
        run = Run(
            id="overhead",
            created=datetime.now(UTC).isoformat(),
            vozmetro="",
            status="running",
            subject=target.record(["onnx"], [{}], {}, None),
            settings=options.settings(arguments.model),
            environment=environment.read(),
            items=[item.record() for item in work],
            sessions=[],
            samples=[],
        )
        self._live = LiveSubject(target, work, run)
        self._live.open()
        self._queries = arguments.queries
        self._number = 0

    def block(self) -> Figures:
        """Has one block timed and written down."""
        block = self._live.block(self._number, [0] * self._queries)
        self._live.keep(block)
        self._number += 1
        return _figures([round(sample.ms * 1e6) for sample in block.samples])

    def close(self) -> None:
        """Ends the worker."""
        self._live.close()


def serve(arguments: argparse.Namespace) -> None:
    """The peer's process: one block for each line that comes in."""
    system = {"bare": bare, "loadgen": loadgen}[arguments.peer]
    feeds = _feeds(arguments.model, arguments.threads)
    blocks = system(arguments.model, feeds, arguments.threads, arguments.queries)
    for _ in sys.stdin:
        print(json.dumps(next(blocks)), flush=True)


def small_graph(path: Path) -> None:
    """Writes 16 products with one [256, 256] matrix, which a core's own cache holds."""
    from onnx import TensorProto, helper, numpy_helper, save

    weight = np.random.default_rng(0).standard_normal((256, 256)).astype(np.float32) / 16
    ports = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [64, 256]) for name in ("x0", "x16")
    ]
    nodes = [helper.make_node("MatMul", [f"x{i}", "w"], [f"x{i + 1}"]) for i in range(16)]
    graph = helper.make_graph(
        nodes, "small", ports[:1], ports[1:], [numpy_helper.from_array(weight, "w")]
    )
    opsets = [helper.make_opsetid("", 17)]
    save(helper.make_model(graph, opset_imports=opsets, ir_version=8), path)


def one_life(arguments: argparse.Namespace) -> dict[str, list[Figures]]:
    """Starts every system anew and lets them take turns."""
    systems: dict[str, Any] = {"vozmetro": Vozmetro(arguments)}
    for name, peer in (("loadgen", "loadgen"), ("bare", "bare"), ("bare again", "bare")):
        systems[name] = Peer(peer, arguments)
    turns: dict[str, list[Figures]] = {name: [] for name in systems}
    for turn in range(arguments.turns + 1):
        for name in systems if turn % 2 == 0 else reversed(systems):
            figures = systems[name].block()
            if turn:  # the first turn is warm-up for all
                turns[name].append(figures)
    for system in systems.values():
        system.close()
    return turns


def compare(arguments: argparse.Namespace) -> int:
    """Runs the lives, prints the table, returns the exit code."""
    turns: dict[str, list[Figures]] = {}
    for _ in range(arguments.lives):
        for name, figures in one_life(arguments).items():
            turns.setdefault(name, []).extend(figures)
    base = np.array(turns["bare"])
    print(
        f"{arguments.lives} lives x {arguments.turns} turns x {arguments.queries} inferences, "
        f"{arguments.threads} thread(s)"
    )
    print(f"{'system':<10} {'P50 ms':>9} {'P99 ms':>9} {'P50 / bare':>11} {'P99 / bare':>11}")
    ratios = {}
    for name, figures in turns.items():
        values = np.array(figures)
        p50, p99 = np.median(values, axis=0)
        ratios[name] = np.median(values / base, axis=0)
        shown = f"{ratios[name][0]:>11.4f} {ratios[name][1]:>11.4f}"
        print(f"{name:<10} {p50:>9.4f} {p99:>9.4f} {shown}")
    off = np.abs(ratios["vozmetro"] - 1)
    good = bool(off[0] <= P50_TOLERANCE and off[1] <= P99_TOLERANCE)
    print("within 2 % and 5 % of the bare loop" if good else "NOT within 2 % and 5 %")
    return 0 if good else 1


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", help="an .onnx file; default: a small chain of products")
    parser.add_argument("--lives", type=int, default=8)
    parser.add_argument("--turns", type=int, default=10)
    parser.add_argument("--queries", type=int, default=200)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--peer", choices=["bare", "loadgen"], help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.peer:
        serve(arguments)
        return 0
    if arguments.model:
        return compare(arguments)
    with tempfile.TemporaryDirectory() as folder:
        arguments.model = str(Path(folder) / "small.onnx")
        small_graph(Path(arguments.model))
        return compare(arguments)


if __name__ == "__main__":
    sys.exit(main())
