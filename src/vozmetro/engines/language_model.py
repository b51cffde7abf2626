"""Decoder-only language models as one ONNX graph with a cache of keys and values.

Runs what `vozmetro convert` writes, and any export whose ports are named as Hugging Face's
exporters name them (`input_ids`, `attention_mask`, `past_key_values.N.key|value`, `present...`).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from vozmetro.engines.base import Engine, LoadRequest, TensorSpec
from vozmetro.engines.onnx_graph import CPU, open_session, tensor_spec
from vozmetro.errors import InputError, MissingExtraError, ModelError
from vozmetro.models import slim

CAPACITY = 1024
"""Tokens that the cache has room for at first; memory is only touched where tokens are."""
CONTEXT_MARK = "vozmetro.context"
_PAST = re.compile(r"past_key_values\.(\d+)\.(key|value)$")
_EXTRA = {"input_ids", "attention_mask", "position_ids"}


@dataclass(frozen=True)
class Ports:
    """A language model's inputs and outputs by their use.

    Attributes:
        past: Inputs of the cache.
        present: The output that belongs to each.
        logits: The output of the scores.
        positions: `position_ids` is an input.
    """

    past: tuple[TensorSpec, ...]
    present: tuple[str, ...]
    logits: TensorSpec
    positions: bool

    @classmethod
    def of(cls, path: Path, inputs: Iterable[TensorSpec], outputs: Iterable[TensorSpec]) -> Ports:
        """Sorts them.

        Raises:
            ModelError: `lm_ports`, saying what is missing.
        """
        given, made = {port.name: port for port in inputs}, {port.name: port for port in outputs}
        past = tuple(port for name, port in given.items() if _PAST.match(name))
        present = tuple(port.name.replace("past_key_values", "present") for port in past)
        unknown = [name for name in given if not _PAST.match(name) and name not in _EXTRA]
        missing = [name for name in ("input_ids", "attention_mask") if name not in given]
        missing += [name for name in ("logits", *present) if name not in made]
        if not past:
            missing.append("past_key_values.0.key")
        loose = [port.name for port in past if not _fixed(port)]
        if "logits" in made and not isinstance(made["logits"].shape[-1], int):
            loose.append("logits")
        if unknown or missing or loose:
            detail = ", ".join([*(f"-{name}" for name in missing), *(f"+{x}" for x in unknown)])
            raise ModelError("lm_ports", path=path.name, detail=detail or f"? {', '.join(loose)}")
        return cls(past, present, made["logits"], "position_ids" in given)


def _fixed(port: TensorSpec) -> bool:
    """Says whether a cache's port is [batch, heads, tokens, width] with known heads and width."""
    return len(port.shape) == 4 and all(isinstance(port.shape[axis], int) for axis in (1, 3))


class Runner(Protocol):
    """One way to keep the cache between steps."""

    def restart(self, length: int) -> None:
        """Forgets all tokens; `length` are to come at once."""

    def step(self, ids: NDArray[np.int64], total: int) -> NDArray[np.float32]:
        """Runs on `ids` [T], which end at token `total`; returns the logits [vocabulary]."""

    def keep(self, length: int) -> None:
        """Forgets all tokens but the first `length`."""


class SharedCache:
    """Past and present in one buffer per port, where `GroupQueryAttention` adds the new tokens.

    Nothing is copied or allocated per token. A buffer that is full is doubled, with one copy.

    Args:
        session: `onnxruntime.InferenceSession`.
        ports: Its ports.
        capacity: Tokens to make room for.
        limit: Most tokens ever.
        device: `cpu` or `cuda`, where the buffers are.
    """

    def __init__(
        self, session: Any, ports: Ports, *, capacity: int, limit: int, device: str
    ) -> None:
        self._session, self._ports, self._device = session, ports, device
        self._limit = limit
        self._binding = session.io_binding()
        self._buffers: list[Any] = []
        self._mask = np.empty(0, np.int64)
        self._positions = np.empty(0, np.int64)
        self._logits = np.empty((1, 0, int(ports.logits.shape[-1])), ports.logits.dtype)
        self._token = np.empty((1, 1), np.int64)
        self._reserve(capacity, 0)

    def restart(self, length: int) -> None:
        """See `Runner`."""
        self._reserve(length, 0)

    def step(self, ids: NDArray[np.int64], total: int) -> NDArray[np.float32]:
        """See `Runner`."""
        count = len(ids)
        self._reserve(total, total - count)
        if count == 1:
            self._token[0, 0] = ids[0]
            tokens = self._token
        else:
            tokens = np.ascontiguousarray(ids, np.int64)[None]
        self._bind("input_ids", tokens, (1, count))
        self._bind("attention_mask", self._mask, (1, total))
        if self._ports.positions:
            self._bind("position_ids", self._positions[total - count :], (1, count))
        self._bind_logits(1 if self._ports.logits.shape[1] == 1 else count)
        self._session.run_with_iobinding(self._binding)
        # A copy: the next step writes here.
        scores: NDArray[np.float32] = self._logits[0, -1].astype(np.float32)
        return scores

    def keep(self, length: int) -> None:
        """See `Runner`. Nothing to do: a step writes where its tokens are, and sees none after."""

    def _bind(self, name: str, values: NDArray[Any], shape: tuple[int, ...]) -> None:
        self._binding.bind_input(name, CPU, 0, values.dtype.type, shape, values.ctypes.data)

    def _bind_logits(self, rows: int) -> None:
        if self._logits.shape[1] == rows:
            return
        self._logits = np.empty((1, rows, self._logits.shape[2]), self._logits.dtype)
        self._binding.bind_output(
            self._ports.logits.name,
            CPU,
            0,
            self._logits.dtype.type,
            self._logits.shape,
            self._logits.ctypes.data,
        )

    def _reserve(self, length: int, used: int) -> None:
        """Makes room for `length` tokens, keeping the first `used`."""
        import onnxruntime as ort

        if length <= len(self._mask):
            return
        capacity = min(self._limit, max(length, 2 * len(self._mask)))
        self._mask = np.ones(capacity, np.int64)
        self._positions = np.arange(capacity, dtype=np.int64)
        buffers = []
        for index, (port, present) in enumerate(
            zip(self._ports.past, self._ports.present, strict=True)
        ):
            shape = (1, int(port.shape[1]), capacity, int(port.shape[3]))
            dtype = np.dtype(port.dtype).type
            value = ort.OrtValue.ortvalue_from_shape_and_type(shape, dtype, self._device, 0)
            if used:
                kept = np.zeros(shape, dtype)
                kept[:, :, :used] = self._buffers[index].numpy()[:, :, :used]
                value.update_inplace(kept)
            self._binding.bind_ortvalue_input(port.name, value)
            self._binding.bind_ortvalue_output(present, value)
            buffers.append(value)
        self._buffers = buffers


class GrowingCache:
    """The cache of graphs that return it longer by the new tokens, copying it every time.

    Args:
        session: `onnxruntime.InferenceSession`.
        ports: Its ports.
        device: `cpu` or `cuda`, where the cache stays between steps.
    """

    def __init__(self, session: Any, ports: Ports, *, device: str) -> None:
        self._session, self._ports, self._device = session, ports, device
        self._past: dict[str, Any] = {}

    def restart(self, length: int) -> None:
        """See `Runner`."""
        del length
        import onnxruntime as ort

        self._past = {
            port.name: ort.OrtValue.ortvalue_from_numpy(
                np.zeros((1, int(port.shape[1]), 0, int(port.shape[3])), port.dtype), CPU, 0
            )
            for port in self._ports.past
        }

    def step(self, ids: NDArray[np.int64], total: int) -> NDArray[np.float32]:
        """See `Runner`."""
        binding = self._session.io_binding()
        feeds = {"input_ids": ids[None], "attention_mask": np.ones((1, total), np.int64)}
        if self._ports.positions:
            feeds["position_ids"] = np.arange(total - len(ids), total, dtype=np.int64)[None]
        for name, values in feeds.items():
            binding.bind_cpu_input(name, np.ascontiguousarray(values, np.int64))
        for name, value in self._past.items():
            binding.bind_ortvalue_input(name, value)
        names = [self._ports.logits.name, *self._ports.present]
        for name in names:
            binding.bind_output(name, CPU if name == names[0] else self._device, 0)
        self._session.run_with_iobinding(binding)
        made = dict(zip(names, binding.get_outputs(), strict=True))
        self._past = {
            port.name: made[present]
            for port, present in zip(self._ports.past, self._ports.present, strict=True)
        }
        scores: NDArray[np.float32] = made[names[0]].numpy()[0, -1].astype(np.float32)
        return scores

    def keep(self, length: int) -> None:
        """See `Runner`."""
        import onnxruntime as ort

        for name, value in self._past.items():
            held = value.numpy()
            if held.shape[2] > length:
                kept = np.ascontiguousarray(held[:, :, :length])
                self._past[name] = ort.OrtValue.ortvalue_from_numpy(kept, CPU, 0)


class OrtLanguageModel:
    """Implements `LanguageModel` with ONNX Runtime.

    Attributes:
        vocabulary: Tokens that it knows.
        limit: Most tokens, prompt and answer together.
        length: Tokens seen since the last `prefill`.
    """

    def __init__(self, path: Path, threads: int, options: Mapping[str, str]) -> None:
        session = open_session(path, threads, options)
        self._ports = Ports.of(
            path,
            [tensor_spec(node) for node in session.get_inputs()],
            [tensor_spec(node) for node in session.get_outputs()],
        )
        marks = session.get_modelmeta().custom_metadata_map
        self.vocabulary = int(self._ports.logits.shape[-1])
        said = str(marks.get(CONTEXT_MARK, ""))
        known = said.isascii() and said.isdecimal() and int(said) > 0
        context = int(said) if known else int(np.iinfo(np.int32).max)
        wanted = _max_length(options)
        self.limit = min(context, wanted or context)
        self.length = 0
        device = options.get("provider", CPU)
        self._runner: Runner
        if shares_cache(path):
            self._runner = SharedCache(
                session,
                self._ports,
                capacity=min(self.limit, wanted or CAPACITY),
                limit=self.limit,
                device=device,
            )
        else:
            self._runner = GrowingCache(session, self._ports, device=device)
        self._bytes_per_token = sum(
            int(port.shape[1]) * int(port.shape[3]) * np.dtype(port.dtype).itemsize
            for port in self._ports.past
        )

    @property
    def cache_bytes(self) -> int:
        """Bytes of the keys and values of the tokens seen since the last `prefill`."""
        return self.length * self._bytes_per_token

    def prefill(self, ids: NDArray[np.int64]) -> NDArray[np.float32]:
        """See `LanguageModel.prefill`.

        Raises:
            InputError: `lm_empty`, `lm_token` or `lm_context`.
        """
        ids = np.asarray(ids, np.int64).reshape(-1)
        if not len(ids):
            raise InputError("lm_empty")
        for token in (int(ids.min(initial=0)), int(ids.max(initial=0))):
            self._known(token)
        self._fits(len(ids))
        self._runner.restart(len(ids))
        self.length = len(ids)
        return self._runner.step(ids, self.length)

    def decode(self, token: int) -> NDArray[np.float32]:
        """See `LanguageModel.decode`.

        Raises:
            InputError: `lm_token` or `lm_context`.
        """
        self._known(token)
        self._fits(self.length + 1)
        self.length += 1
        return self._runner.step(np.array([token], np.int64), self.length)

    def extend(self, ids: NDArray[np.int64], keep: int) -> NDArray[np.float32]:
        """Reads on after the first tokens that were seen, which is faster than reading them again.

        Args:
            ids: What follows, shape [T].
            keep: Tokens seen since the last `prefill` that stay; those after them are forgotten.

        Returns:
            The logits [vocabulary] after the last one.

        Raises:
            InputError: `lm_empty`, `lm_token` or `lm_context`.
        """
        ids = np.asarray(ids, np.int64).reshape(-1)
        if not len(ids):
            raise InputError("lm_empty")
        if not 0 <= keep <= self.length:
            raise ValueError(f"{keep} of {self.length} tokens cannot be kept")
        for token in (int(ids.min(initial=0)), int(ids.max(initial=0))):
            self._known(token)
        self._fits(keep + len(ids))
        self._runner.keep(keep)
        self.length = keep + len(ids)
        return self._runner.step(ids, self.length)

    def generate(self, ids: NDArray[np.int64], count: int, stop: Collection[int] = ()) -> list[int]:
        """Returns the likeliest tokens after `ids`, one by one: `count`, or up to one of `stop`."""
        made: list[int] = []
        scores = self.prefill(ids)
        while len(made) < count:
            made.append(int(scores.argmax()))
            if made[-1] in stop or len(made) == count:
                break
            scores = self.decode(made[-1])
        return made

    def _known(self, token: int) -> None:
        # Checked here: ONNX Runtime's Gather would fail, or take a negative one from the end.
        if not 0 <= token < self.vocabulary:
            raise InputError(
                "lm_token", token=token, vocabulary=self.vocabulary, last=self.vocabulary - 1
            )

    def _fits(self, length: int) -> None:
        if length > self.limit:
            raise InputError("lm_context", length=length, limit=self.limit)


def _max_length(options: Mapping[str, str]) -> int:
    """Returns the most tokens that the user wants room for; 0 for `auto`."""
    given = options.get("max_length", "auto")
    if given == "auto":
        return 0
    if not (given.isascii() and given.isdecimal() and int(given)):
        raise InputError("lm_max_length", given=given)
    return int(given)


def shares_cache(path: Path) -> bool:
    """Says whether all that reads a graph's cache can add tokens to a buffer in place."""
    graph = slim.read(path).graph
    readers = [node.op_type for node in graph.node if any(map(_PAST.match, node.input))]
    return set(readers) == {"GroupQueryAttention"}


def tokenizer(model: Path) -> Any:
    """Returns the `tokenizers.Tokenizer` beside a model, or None where there is none.

    Raises:
        MissingExtraError: With the install command.
    """
    path = model.with_name("tokenizer.json")
    if not path.is_file():
        return None
    try:
        from tokenizers import Tokenizer
    except ImportError as error:
        raise MissingExtraError("stt", "tokenizers") from error
    return Tokenizer.from_file(str(path))


def _load(request: LoadRequest) -> OrtLanguageModel:
    return OrtLanguageModel(request.path, request.threads, request.options)


ENGINE = Engine(
    name="language-model",
    task="lm",
    extra="",
    package="onnxruntime",
    modules=("onnxruntime",),
    load=_load,
    defaults={
        "provider": CPU,
        "max_length": "auto",
        "execution_mode": "sequential",
        "cache": "io-binding",
    },
    fixed=frozenset({"execution_mode", "cache"}),
)
