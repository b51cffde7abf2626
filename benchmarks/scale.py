"""How a corpus divided among workers scales: measured with one and two, and thousands on paper.

Measured: seconds of audio heard in each second by one worker and by two, one thread each, in turns
(1-2-2-1), beside as many plain processes without Ray; what a part costs beside the hearing; what
the one process that collects can take. On paper: a simulation, event by event, of a fleet with
these costs, with nodes that are lost and nodes that are slow. Fails where two workers do less than
0.85 of twice what one does.
"""

from __future__ import annotations

import argparse
import heapq
import itertools
import json
import math
import queue
import random
import shutil
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from vozmetro.assess.options import QualityOptions
from vozmetro.assess.shard_files import about_of, about_outcomes, to_bytes
from vozmetro.assess.shard_hearing import Outcome
from vozmetro.assess.shard_plan import Piece, Plan, divide, part_name, part_number, take_census
from vozmetro.assess.shard_results import Done, _system
from vozmetro.assess.shard_sources import Chosen
from vozmetro.assess.shard_worker import Job, Part, PartWorker
from vozmetro.assess.sharded import Runner
from vozmetro.assess.shards_on_ray import hushed, on_ray
from vozmetro.fleet.cluster import connect
from vozmetro.measure.quality_records import System
from vozmetro.measure.records import Subject
from vozmetro.measure.storage import write_atomic
from vozmetro.measure.subject import resolve_subject
from vozmetro.measure.workload import WorkItem
from vozmetro.speech.corpus import open_sources

EFFICIENCY = 0.85


class InstantEar:
    """Hears nothing at no cost: what is left is what a part costs."""

    def __init__(self, subject: Subject) -> None:
        self.subject = subject
        self.load_ms = 0.0
        self.peak_rss = 0

    def hear(self, items: Sequence[WorkItem], _: float) -> list[tuple[str, float]]:
        """Returns no word."""
        return [("", 1.0) for _ in items]

    def close(self) -> None:
        """Nothing to end."""


@dataclass(frozen=True)
class Heard:
    """One pass over all parts: seconds of audio, and of the clock without and with loading."""

    audio_s: float
    steady_s: float
    whole_s: float

    @property
    def speed(self) -> float:
        """Seconds of audio a second."""
        return self.audio_s / self.steady_s


def planned(model: str, corpus: str, limit: int, parts: int, folder: Path) -> tuple[Plan, Job]:
    target = resolve_subject(model)
    settings = QualityOptions(corpus=corpus, limit=limit, threads=1).settings([model], ["clean"])
    chosen = Chosen(settings, [target], lambda _: None)
    digests = tuple(sorted(digest for one in target.models for _, _, digest in one.files))
    # By length, so that parts are as equal as parts of hundreds of utterances are by themselves.
    plan = divide(
        chosen, take_census(chosen, corpus), parts, folder / "plan",
        unspoken=[], subjects=[digests], options={},
    )  # fmt: skip
    evened(folder / "plan", parts)
    return plan, Job(model, model, digests, 1, "cpu", 0, plan.key_of(0))


def evened(folder: Path, parts: int) -> None:
    """Deals the lines out by the length of their recordings."""
    from vozmetro.speech.corpus import seconds_of

    files = [folder / part_name(number) for number in range(parts)]
    lines = [line for path in files if path.exists() for line in path.read_text().splitlines()]
    lines.sort(key=lambda line: -seconds_of(Path(json.loads(line)["audio"])))
    dealt: list[tuple[float, int, list[str]]] = [(0.0, number, []) for number in range(parts)]
    for line in lines:
        total, number, mine = heapq.heappop(dealt)
        mine.append(line)
        total += seconds_of(Path(json.loads(line)["audio"]))
        heapq.heappush(dealt, (total, number, mine))
    for _, number, mine in dealt:
        files[number].write_text("\n".join(mine) + "\n")


def on_threads(job: Job, files: Sequence[Path], workers: int) -> Iterator[Part]:
    """The same work by plain processes of this machine, without Ray: what the machine gives."""
    waiting: queue.SimpleQueue[Path | None] = queue.SimpleQueue()
    done: queue.SimpleQueue[Part] = queue.SimpleQueue()
    for path in [*files, *([None] * workers)]:
        waiting.put(path)

    def work() -> None:
        worker = PartWorker(job)
        while (path := waiting.get()) is not None:
            done.put(worker.hear(part_number(path.name), path.read_bytes()))
        worker.close()

    for _ in range(workers):
        threading.Thread(target=work, daemon=True).start()
    for _ in files:
        yield done.get()


def heard(run: Runner, job: Job, folder: Path, workers: int) -> Heard:
    """Has all parts heard; counts what is heard while every worker has something to do.

    That is from the moment when each has done a part, so that loading does not count, until one of
    them finds nothing left. A part that is cut by either moment counts for its share of time.
    """
    files = sorted((folder / "plan").glob("*.jsonl"))
    begin = time.perf_counter()
    arrived: list[tuple[float, float, float]] = []
    for part in run(job, files, workers):
        if part.code:
            sys.exit(f"{part.code}: {dict(part.fields)}")
        about = about_of(part.data)
        arrived.append((time.perf_counter(), about.audio_s, about.wall_s))
    start, end = arrived[workers - 1][0], arrived[-workers][0]
    audio = sum(
        seconds * max(0.0, min(moment, end) - max(moment - wall, start)) / wall
        for moment, seconds, wall in arrived
    )
    return Heard(audio, end - start, arrived[-1][0] - begin)


def throughput(args: argparse.Namespace, folder: Path) -> float:
    _, job = planned(args.model, args.corpus, args.limit, args.parts, folder)
    runs: dict[str, Runner] = {"on Ray": on_ray, "plain processes": on_threads}
    speeds: dict[str, dict[int, list[float]]] = {name: {1: [], 2: []} for name in runs}
    for number in range(args.rounds):
        for workers in (1, 2) if number % 2 == 0 else (2, 1):
            for name, run in runs.items():
                found = heard(run, job, folder, workers)
                speeds[name][workers].append(found.speed)
                told = f"{found.speed:.2f} s of audio a second; {found.whole_s:.1f} s with loading"
                print(f"  round {number + 1}, {workers} of {name}: {told}", flush=True)
    efficiency = {}
    for name, by in speeds.items():
        one, two = (statistics.median(by[workers]) for workers in (1, 2))
        each = [b / (2 * a) for a, b in zip(by[1], by[2], strict=True)]
        efficiency[name] = two / (2 * one)
        print(f"{name}: 1 worker {one:.2f}, 2 workers {two:.2f} s of audio a second (medians)")
        print(f"  efficiency {efficiency[name]:.3f} "
              f"(by round: {', '.join(f'{ratio:.3f}' for ratio in each)})")  # fmt: skip
    ours, theirs = efficiency.values()
    print(f"of what as many plain processes give on this machine: {ours / theirs:.3f}")
    return ours


def part_overhead(folder: Path, subject: Subject, parts: int = 60) -> tuple[float, float]:
    """Seconds from a part's end to the next one's begin on a worker, and to start a study."""
    plan = folder / "plan"
    plan.mkdir(parents=True)
    piece = Piece(id="silence/any/2", condition="silence", seconds=2.0, synthetic=True)
    for number in range(parts):
        (plan / part_name(number)).write_text(piece.model_dump_json() + "\n")

    def instant(_: Job) -> InstantEar:
        return InstantEar(subject)

    job = replace(Job("x", "x", (), 1, "cpu", 0, "0" * 64), open_ear=instant)
    begin = time.perf_counter()
    moments, own = [], []
    for part in on_ray(job, sorted(plan.glob("*.jsonl")), 1):
        moments.append(time.perf_counter())
        own.append(about_of(part.data).wall_s)
    gaps = [b - a for a, b in itertools.pairwise(moments)]
    return max(0.0, statistics.median(gaps) - statistics.median(own)), moments[0] - begin


def head(folder: Path, subject: Subject, utterances: int) -> dict[str, float]:
    """What the one process that collects can take, in utterances or parts a second."""
    listed = folder / "manifest.jsonl"
    folder.mkdir(parents=True)
    with listed.open("w") as out:
        for number in range(utterances):
            line = {"audio": f"clips/{number:08d}.wav", "text": "a call on line three, please",
                    "language": "en", "speaker": f"{number % 977}"}  # fmt: skip
            out.write(json.dumps(line) + "\n")
    sources = open_sources(str(listed))
    begin = time.perf_counter()
    census = take_census(sources, "x")
    divide(sources, census, utterances // 400, folder / "plan",
           unspoken=[], subjects=[], options={})  # fmt: skip
    planned_s = time.perf_counter() - begin
    given = [
        Piece(id=f"clips/{number}", audio=f"/speech/clips/{number}.wav", speaker=f"{number % 7}",
              text="a call on line three, please", language="en")
        for number in range(400)
    ]  # fmt: skip
    outcomes = [Outcome(one, 6.0, "0" * 64, "a call online three please", 300.0) for one in given]
    begin = time.perf_counter()
    about, table = about_outcomes(
        outcomes, shard=0, key="0" * 64, subject=subject, load_ms=1.0, peak_rss=1, cpu="x",
        vozmetro="x", normalizers={}, wall_s=1.0,
    )  # fmt: skip
    data = to_bytes(about, outcomes, table)
    worker_s = time.perf_counter() - begin
    taken, files = 200, {}
    begin = time.perf_counter()
    for number in range(taken):
        about_of(data)
        files[number] = folder / f"{number}.parquet"
        write_atomic(files[number], data)
    arrived_s = time.perf_counter() - begin
    begin = time.perf_counter()
    _system(System(subject=subject), Done.of(files), [], {}, False)
    merged_s = time.perf_counter() - begin
    return {
        "planned_rows": utterances / planned_s,
        "parts": taken / arrived_s,
        "merged_parts": taken / merged_s,
        "counting_s": worker_s,
        "part_bytes": float(len(data)),
        "plan_bytes": sum(len(one.model_dump_json()) + 1 for one in given),
    }


@dataclass(frozen=True)
class Fleet:
    """What the simulation takes for granted."""

    nodes: int = 1000
    hours: float = 10_000.0
    utterance_s: float = 6.0
    part_utterances: int = 400
    speed: float = 10.0
    overhead_s: float = 0.05
    head_s: float = 0.01
    start_s: float = 30.0
    mtbf_h: float = 200.0
    back_s: float = 600.0
    spread: float = 0.15
    slow_share: float = 0.02
    slow: float = 0.4


@dataclass(frozen=True)
class Simulated:
    """How a simulated study went."""

    wall_s: float
    ideal_s: float
    lost: int
    repeated_h: float
    head_busy: float


def simulate(fleet: Fleet, seed: int) -> Simulated:
    """Event by event: a part begins where a node is free; a node that is lost gives it back."""
    draw = random.Random(seed)
    audio_s = fleet.hours * 3600
    part_s = fleet.part_utterances * fleet.utterance_s
    waiting = math.ceil(audio_s / part_s)
    speeds = [
        fleet.speed * math.exp(draw.gauss(0, fleet.spread))
        * (fleet.slow if draw.random() < fleet.slow_share else 1.0)
        for _ in range(fleet.nodes)
    ]  # fmt: skip
    ideal = audio_s / sum(speeds)
    events: list[tuple[float, int, int, str]] = []
    for node in range(fleet.nodes):
        heapq.heappush(events, (fleet.start_s * draw.uniform(0.5, 2.0), node, node, "free"))
    number, done, lost, repeated, head_free, head_busy, wall = fleet.nodes, 0, 0, 0.0, 0.0, 0.0, 0.0
    parts = waiting
    idle: list[int] = []
    while done < parts:
        now, _, node, kind = heapq.heappop(events)
        number += 1
        if kind == "done":
            # One process collects; a part waits for its turn there, its worker does not.
            head_free = max(head_free, now) + fleet.head_s
            head_busy += fleet.head_s
            done += 1
            wall = max(wall, head_free)
        elif kind == "lost":
            lost += 1
            waiting += 1
            heapq.heappush(events, (now + fleet.back_s, number, node, "free"))
            if idle:
                heapq.heappush(events, (now, number, idle.pop(), "free"))
            continue
        if not waiting:
            idle.append(node)
            continue
        waiting -= 1
        takes = fleet.overhead_s + part_s / speeds[node] * draw.uniform(0.9, 1.1)
        until_loss = draw.expovariate(1 / (fleet.mtbf_h * 3600))
        if until_loss < takes:
            repeated += until_loss * speeds[node]
            heapq.heappush(events, (now + until_loss, number, node, "lost"))
        else:
            heapq.heappush(events, (now + takes, number, node, "done"))
    return Simulated(wall, ideal, lost, repeated / 3600, head_busy / wall)


def table(fleet: Fleet, seeds: int = 5) -> Iterator[str]:
    yield "nodes  utterances  MTBF h  wall min  ideal min  efficiency  lost  again h  head"
    for nodes in (100, 1000):
        for size in (100, 400, 2000):
            for mtbf in (1000.0, 50.0):
                one = replace(fleet, nodes=nodes, part_utterances=size, mtbf_h=mtbf)
                runs = [simulate(one, seed) for seed in range(seeds)]
                wall = statistics.median(run.wall_s for run in runs)
                ideal = statistics.median(run.ideal_s for run in runs)
                again = statistics.median(run.repeated_h for run in runs)
                lost = statistics.median(run.lost for run in runs)
                busy = statistics.median(run.head_busy for run in runs)
                cells = (f"{nodes:5d}", f"{size:10d}", f"{mtbf:6.0f}", f"{wall / 60:8.1f}",
                         f"{ideal / 60:9.1f}", f"{ideal / wall:10.3f}", f"{lost:4.0f}",
                         f"{again:7.1f}", f"{busy:4.0%}")  # fmt: skip
                yield "  ".join(cells)


def on_paper(fleet: Fleet, known: dict[str, float]) -> None:
    for name, value in vars(fleet).items():
        print(f"  {name} = {value:g}")
    for line in table(fleet):
        print(line)
    utterances = fleet.hours * 3600 / fleet.utterance_s
    print(f"{utterances / 1e6:.1f} million utterances in {utterances / fleet.part_utterances:,.0f} "
          f"parts of {fleet.part_utterances}; results "
          f"{utterances / 400 * known['part_bytes'] / 1e9:.1f} GB on disk")  # fmt: skip
    merging_s = utterances / fleet.part_utterances / known["merged_parts"]
    planning_s = utterances / known["planned_rows"]
    print(f"planning {planning_s / 60:.1f} min before, merging {merging_s:.0f} s at the end")
    flying = fleet.nodes * (known["plan_bytes"] + known["part_bytes"]) * 2
    print(f"in the object stores at once: {flying / 1e6:.0f} MB, no audio")


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", default="whisper-base-onnx-int8")
    parser.add_argument("--corpus", default="en-ivr")
    parser.add_argument("--limit", type=int, default=48, help="utterances")
    parser.add_argument("--parts", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--manifest", type=int, default=200_000, help="lines to plan")
    parser.add_argument("--speed", type=float, help="of a node on paper; else as measured here")
    parser.add_argument("--only", choices=["measured", "paper"])
    args = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="vozmetro-scale-"))
    efficiency = 1.0
    known: dict[str, Any] = {}
    try:
        subject = resolve_subject(args.model).record([""], [{}], {}, None)
        known = head(folder / "head", subject, args.manifest)
        rates = [f"{known[name]:,.0f}" for name in ("planned_rows", "parts", "merged_parts")]
        print("one process plans {} utterances a second, takes in {} parts a second, "
              "merges {}".format(*rates))  # fmt: skip
        sizes = [f"{known[name] / 1e3:.0f}" for name in ("plan_bytes", "part_bytes")]
        print("a part of 400 utterances: {} kB to a worker, {} kB back, ".format(*sizes)
              + f"{known['counting_s']:.2f} s of counting")  # fmt: skip
        with ExitStack() as stack:
            with hushed():
                stack.enter_context(connect("local"))
            overhead, start = part_overhead(folder / "overhead", subject)
            print(f"a part costs {overhead * 1000:.0f} ms beside the hearing; a study starts in "
                  f"{start:.1f} s")  # fmt: skip
            if args.only != "paper":
                efficiency = throughput(args, folder / "throughput")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    if args.only != "measured":
        fleet = Fleet(
            overhead_s=overhead + known["counting_s"],
            head_s=1 / known["parts"],
            speed=args.speed or Fleet.speed,
        )
        print("On paper:")
        on_paper(fleet, known)
    if args.only == "paper":
        return 0
    verdict = "pass" if efficiency >= EFFICIENCY else "FAIL"
    print(f"{verdict}: efficiency {efficiency:.3f}, {EFFICIENCY} asked")
    return 0 if efficiency >= EFFICIENCY else 1


if __name__ == "__main__":
    sys.exit(main())
