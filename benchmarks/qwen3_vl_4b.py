"""Qwen3-VL-4B's text tower with random weights: time to first token, time per token, the floor.

    python benchmarks/qwen3_vl_4b.py [--quick] [--turns 12] [--threads N] [--folder FOLDER]

At 2 and 6 layers (`--quick`: 2) ours and onnxruntime-genai's own model, built from the same sizes
by its model builder, take turns in mirrored order, each in a live process of its own; the ratio is
the median over pairs of turns, with the quartiles beside it. genai gets the options that are
fastest here: blocks of 128, 8-bit arithmetic, logits of the last token only. The last layer of ours
drops all but the last token after attention, which shortens prompts by a part of one layer at any
depth; the difference between the depths, per layer, is free of that.

Then all 36 layers of ours. The floor of a token is the bytes of the weights that it needs, over a
bandwidth. Two are printed: that of the moment, which a plain reader of memory reached just before
the turn, times what the best reader (a product with a large matrix, see `measure.ceilings`) reached
over the plain one when both were measured at the start; and the best of all moments. The first may
be too low (a token under x1 says so), the second too high for a machine whose neighbours share the
memory. genai's INT8 is weight-only (`MatMulNBits`); ours quantizes inputs
as they come.

genai needs the `convert` extra and `pip install onnxruntime-genai`; without it ours runs alone.
Writes 12 GB (`--quick`: 4 GB). Exit 1 where ours is slower than genai, the whole interval of the
median ratio above 1, or a token takes more than 1.35 times the floor of its moment at full depth;
3 where nothing was compared.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from vozmetro.judge.statistics import percentile
from vozmetro.measure import ceilings
from vozmetro.measure.environment import cores_allowed
from vozmetro.measure.probe import Stream
from vozmetro.models import architectures, dummy
from vozmetro.models.convert.builder import Precision
from vozmetro.models.convert.dummy_source import DummySource
from vozmetro.models.cost import cost

ARCHITECTURE = "qwen3-vl-4b"
PROMPTS = (16, 32, 64, 256)
DEPTHS = (2, 6)
PRECISIONS: tuple[Precision, ...] = ("int4", "int8")
NEW_TOKENS, MAX_LENGTH = 12, 512
FLOOR = 1.35
REST_S = 0.02  # until the threads of the last process have stopped spinning
GENAI = ("block_size=128", "accuracy_level=4", "prune_lm_head=true")


# What is measured --------------------------------------------------------------------------------


def ours(path: Path, threads: int) -> Iterator[tuple[float, float]]:
    """Yields seconds to the first token and per further token; send the prompt's length."""
    from vozmetro.engines.base import LoadRequest
    from vozmetro.engines.language_model import ENGINE

    model: Any = ENGINE.load(LoadRequest(path, threads, {"max_length": str(MAX_LENGTH)}))
    result = (0.0, 0.0)
    while True:
        ids = _ids((yield result))
        start = time.perf_counter()
        token = int(model.prefill(ids).argmax())
        first = time.perf_counter()
        for _ in range(NEW_TOKENS - 1):
            token = int(model.decode(token).argmax())
        result = first - start, (time.perf_counter() - first) / (NEW_TOKENS - 1)


def genai(path: Path, threads: int) -> Iterator[tuple[float, float]]:
    """The same through onnxruntime-genai."""
    import onnxruntime_genai as og

    config = og.Config(str(path))
    decoder = {"session_options": {"intra_op_num_threads": threads}}
    config.overlay(json.dumps({"model": {"decoder": decoder}}))
    model = og.Model(config)
    options = og.GeneratorParams(model)
    options.set_search_options(max_length=MAX_LENGTH, do_sample=False)
    result = (0.0, 0.0)
    while True:
        ids = _ids((yield result)).astype(np.int32)
        generator = og.Generator(model, options)
        start = time.perf_counter()
        generator.append_tokens(ids[None])
        generator.generate_next_token()
        first = time.perf_counter()
        for _ in range(NEW_TOKENS - 1):
            generator.generate_next_token()
        result = first - start, (time.perf_counter() - first) / (NEW_TOKENS - 1)


def _ids(length: Any) -> Any:
    return np.random.default_rng(length).integers(0, 150_000, length, dtype=np.int64)


def worker(kind: str, path: Path, threads: int) -> None:
    """Answers prompt lengths on standard input with milliseconds, one JSON line each."""
    run: Any = {"ours": ours, "genai": genai}[kind](path, threads)
    next(run)
    print("ready", flush=True)
    for line in sys.stdin:
        print(json.dumps([1e3 * seconds for seconds in run.send(int(line))]), flush=True)


@dataclass
class Live:
    """A loaded model in a process of its own."""

    name: str
    process: subprocess.Popen[str]
    pipe: tuple[IO[str], IO[str]]

    @classmethod
    def start(cls, name: str, kind: str, path: Path, threads: int) -> Live:
        """Returns it when it is loaded."""
        words = [sys.executable, __file__, "--worker", kind, str(path), str(threads)]
        process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        if process.stdin is None or process.stdout is None:
            raise RuntimeError("no pipes")
        if process.stdout.readline().strip() != "ready":
            raise RuntimeError(f"{name} could not be loaded")
        return cls(name, process, (process.stdin, process.stdout))

    def ask(self, prompt: int) -> tuple[float, float]:
        """Returns ms to the first token and per further token."""
        self.pipe[0].write(f"{prompt}\n")
        self.pipe[0].flush()
        first, each = json.loads(self.pipe[1].readline())
        time.sleep(REST_S)
        return first, each

    def end(self) -> None:
        """Ends the process."""
        self.pipe[0].close()
        self.process.wait()


@dataclass
class Turn:
    """One answer: ms to the first token, ms per token, and GB/s of memory just before."""

    first: float
    each: float
    bandwidth: float


Turns = Mapping[str, Mapping[int, Sequence[Turn]]]
"""By name of the model and length of the prompt, in the order of the turns."""


def best_reader(threads: int) -> float:
    """Returns how much more bandwidth the best reader of memory reaches than the plain one."""
    found = ceilings.measure(threads, kinds=())
    return found.bandwidth / max(found.stream)


def take_turns(models: Sequence[Live], turns: int, threads: int, best: float) -> Turns:
    """Asks the models in mirrored order, memory bandwidth probed before each answer."""
    found: dict[str, dict[int, list[Turn]]] = {
        model.name: {prompt: [] for prompt in PROMPTS} for model in models
    }
    probe = Stream(threads)
    for model in models:
        model.ask(PROMPTS[0])
    for turn in range(turns):
        for prompt in PROMPTS:
            for model in models if turn % 2 == 0 else reversed(models):
                bandwidth = probe.gbs() * best
                found[model.name][prompt].append(Turn(*model.ask(prompt), bandwidth))
    probe.close()
    return found


# Models ------------------------------------------------------------------------------------------


def genai_model(layers: int, precision: str, folder: Path) -> Path:
    """Builds genai's model of so many layers from a folder as Hugging Face ships it."""
    source, output = folder / f"hf{layers}", folder / f"genai{layers}-{precision}"
    if not source.exists():
        source.mkdir()
        write_folder(source, layers)
    words = ["-m", "onnxruntime_genai.models.builder", "-i", str(source), "-o", str(output)]
    words += ["-p", precision, "-e", "cpu", "-c", str(folder / "cache"), "--extra_options", *GENAI]
    offline = {**os.environ, "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, *words], check=False, capture_output=True, text=True, env=offline
    )
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
    return output


def write_folder(folder: Path, layers: int) -> None:
    """Writes the sizes as plain Qwen3 (for text the same arithmetic), seeded, in float16."""
    config = dict(architectures.load(ARCHITECTURE).config)
    text = {**config["text_config"], "num_hidden_layers": layers}
    source = DummySource({**config, "text_config": text}, "text")
    header, at = {}, 0
    for name in source.names():
        shape = source.shape(name)
        size = 2 * int(np.prod(shape))
        plain = name.replace("language_model.", "")
        header[plain] = {"dtype": "F16", "shape": shape, "data_offsets": [at, at + size]}
        at += size
    raw = json.dumps({"__metadata__": {"format": "pt"}, **header}).encode()
    with (folder / "model.safetensors").open("wb") as file:
        file.write(len(raw).to_bytes(8, "little") + raw)
        for name in source.names():
            file.write(source.read(name).astype(np.float16).tobytes())
    text |= {
        "model_type": "qwen3",
        "architectures": ["Qwen3ForCausalLM"],
        "rope_scaling": None,
        "max_position_embeddings": 8192,
        "torch_dtype": "float16",
        "bos_token_id": 151643,
        "eos_token_id": 151645,
    }
    (folder / "config.json").write_text(json.dumps(text))


def token_bytes(path: Path) -> int:
    """Returns the bytes of weights that one token needs."""
    past = PROMPTS[0]
    dims = {"sequence": 1, "past_sequence": past, "total_sequence": past + 1}
    return cost(path, dims).weight_bytes


# What is said ------------------------------------------------------------------------------------


def middle(values: Sequence[float]) -> str:
    """Returns the median and the quartiles."""
    low, median, high = statistics.quantiles(values, n=4)
    return f"{median:.3f} [{low:.3f}-{high:.3f}]"


def compare(found: Turns, label: str, bytes_read: int) -> bool:
    """Prints medians of each model and ours over genai's; says whether ours is slower."""
    slower, all_tokens = False, []
    for prompt in PROMPTS:
        for name, of_model in found.items():
            turns = of_model[prompt]
            first = statistics.median(turn.first for turn in turns)
            each = statistics.median(turn.each for turn in turns)
            floors = [turn.each * turn.bandwidth * 1e6 / bytes_read for turn in turns]
            line = (
                f"{label} {name:6} prompt {prompt:3}: first {first:8.1f} ms, token {each:6.2f} ms"
            )
            print(f"{line}, over the floor x{middle(floors)}")
        if len(found) > 1:
            pairs = list(zip(found["ours"][prompt], found["genai"][prompt], strict=True))
            firsts = [mine.first / theirs.first for mine, theirs in pairs]
            tokens = [mine.each / theirs.each for mine, theirs in pairs]
            print(f"{label} ours / genai: first x{middle(firsts)}, token x{middle(tokens)}")
            slower |= _above_one(firsts)
            all_tokens += tokens
    if all_tokens:
        print(f"{label} ours / genai, tokens after any prompt: x{middle(all_tokens)}")
        slower |= _above_one(all_tokens)
    return slower


def _above_one(ratios: Sequence[float]) -> bool:
    low = percentile(np.asarray(ratios), 0.5).low
    return low is not None and low > 1


def per_layer(by_depth: Mapping[int, Turns], label: str) -> None:
    """Prints what a layer more costs, free of what happens once per model."""
    shallow, deep = sorted(by_depth)
    for prompt in PROMPTS:
        for name in by_depth[deep]:
            first, each = (
                (
                    statistics.median(getattr(turn, part) for turn in by_depth[deep][name][prompt])
                    - statistics.median(
                        getattr(turn, part) for turn in by_depth[shallow][name][prompt]
                    )
                )
                / (deep - shallow)
                for part in ("first", "each")
            )
            print(f"{label} {name:6} prompt {prompt:3}: {first:.2f} and {each:.2f} ms per layer")


def shallow(given: argparse.Namespace, folder: Path, best: float) -> bool | None:
    """Compares with genai at the depths; says whether ours is slower anywhere, None without it."""
    slower = False
    peer = importlib.util.find_spec("onnxruntime_genai") is not None
    if not peer:
        print("onnxruntime-genai is not installed: ours alone")
    for precision in PRECISIONS:
        by_depth: dict[int, Turns] = {}
        for layers in DEPTHS[:1] if given.quick else DEPTHS:
            name = f"{precision} {layers} layers"
            path = dummy.write(ARCHITECTURE, precision, layers, folder / f"{precision}-{layers}")
            models = [Live.start("ours", "ours", path, given.threads)]
            if peer:
                built = genai_model(layers, precision, folder)
                models.append(Live.start("genai", "genai", built, given.threads))
            by_depth[layers] = take_turns(models, given.turns, given.threads, best)
            slower |= compare(by_depth[layers], name, token_bytes(path))
            for model in models:
                model.end()
        if len(by_depth) > 1:
            per_layer(by_depth, precision)
    return slower if peer else None


def full(given: argparse.Namespace, folder: Path, best: float) -> bool:
    """Measures all layers; says whether a token is too far above the floor."""
    far = False
    for precision in PRECISIONS:
        path = dummy.write(ARCHITECTURE, precision, None, folder / f"{precision}-full")
        model = Live.start("ours", "ours", path, given.threads)
        found = take_turns([model], max(4, given.turns // 2), given.threads, best)
        model.end()
        bytes_read = token_bytes(path)
        compare(found, f"{precision} 36 layers, {bytes_read / 1e9:.2f} GB a token", bytes_read)
        turns = [turn for of_prompt in found["ours"].values() for turn in of_prompt]
        ratio = statistics.median(turn.each * turn.bandwidth for turn in turns) * 1e6 / bytes_read
        most = max(turn.bandwidth for turn in turns)
        at_best = statistics.median(turn.each for turn in turns) * most * 1e6 / bytes_read
        far |= ratio > FLOOR
        print(f"{precision} 36 layers: a token takes x{ratio:.2f} of its floor (limit {FLOOR})")
        print(f"{precision} 36 layers: x{at_best:.2f} of that of the best moment, {most:.1f} GB/s")
    return far


def main() -> int:
    if sys.argv[1:2] == ["--worker"]:
        worker(sys.argv[2], Path(sys.argv[3]), int(sys.argv[4]))
        return 0
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="2 layers only")
    parser.add_argument("--turns", type=int, default=12)
    parser.add_argument("--threads", type=int, default=cores_allowed())
    parser.add_argument("--folder", type=Path, help="where to write the models")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=given.folder) as scratch:
        best = best_reader(given.threads)
        print(f"the best reader of memory reaches x{best:.2f} of the plain one")
        slower = shallow(given, Path(scratch), best)
        far = not given.quick and full(given, Path(scratch), best)
    words = {True: "SLOWER", False: "not shown to be slower", None: "not compared"}
    print("ours / genai:", words[slower])
    return 1 if slower or far else 3 if slower is None else 0


if __name__ == "__main__":
    sys.exit(main())
