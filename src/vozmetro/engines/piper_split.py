"""A Piper voice cut into three graphs: what needs the whole text, and what needs a few frames.

A voice is a VITS (Kim et al. 2021, arXiv:2106.06103). Its text encoder and its durations see the
whole text; behind the alignment there are only convolutions over frames, whose view is finite.
Cut there, the audio can be made in pieces that are, sample for sample, those of the whole:

    text -> frontend -> latent frames -> flow -> frames -> vocoder -> audio
            (once)                       (pieces, wide view)  (pieces, narrow view)

The cuts are found by what the graph does, because exporters name its parts as they like.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

INPUTS = ("input", "input_lengths", "scales")
SPEAKER = "sid"
NODES = 20_000
"""More of them has no voice."""


class NotAVoiceError(ValueError):
    """The graph is no Piper voice; says what of one is missing."""


@dataclass(frozen=True)
class Parts:
    """The three graphs and what joins them.

    Attributes:
        frontend: INPUTS (and `sid`) -> `latent` [1, channels, frames] and `durations` (frames of
            every phoneme).
        flow: `latent` (and `sid`) -> `frames`, both [1, channels, frames].
        vocoder: `frames` (and `sid`) -> `audio`, as many samples as frames times `hop`.
        hop: Samples of a frame.
        flow_reach: Frames on either side that a frame of the flow's output depends on.
        vocoder_reach: The same of the vocoder's.
    """

    frontend: ModelProto
    flow: ModelProto
    vocoder: ModelProto
    hop: int
    flow_reach: int
    vocoder_reach: int


def split(model: ModelProto) -> Parts:
    """Cuts a voice.

    Args:
        model: The graph as Piper's exporter writes it, weights included.

    Raises:
        NotAVoiceError: It is not such a graph.
    """
    return _Cutter(model).parts()


class _Cutter:
    """The graph with its edges in both directions."""

    def __init__(self, model: ModelProto) -> None:
        graph = model.graph
        names = [port.name for port in graph.input]
        fixed = {tensor.name for tensor in graph.initializer}
        given = [name for name in names if name not in fixed]
        if sorted(given) not in (sorted(INPUTS), sorted((*INPUTS, SPEAKER))):
            raise NotAVoiceError(f"inputs {', '.join(given)}")
        if len(graph.node) > NODES:
            raise NotAVoiceError(f"{len(graph.node)} nodes")
        self._model = model
        self._nodes: Sequence[NodeProto] = list(graph.node)
        self._maker = {
            name: at for at, node in enumerate(self._nodes) for name in node.output if name
        }
        self._users: dict[str, list[int]] = {}
        for at, node in enumerate(self._nodes):
            for name in node.input:
                self._users.setdefault(name, []).append(at)
        self._output = graph.output[0].name

    def parts(self) -> Parts:
        latent = self._latent()
        behind = self._behind([latent])
        if self._maker.get(self._output, -1) not in behind:
            raise NotAVoiceError("no way from noise to audio")
        frames = self._vocoder_input(behind)
        vocoder = self._behind([frames])
        mask = self._mask(behind, latent)
        hop, vocoder_reach = self._reach(frames, self._output, vocoder)
        _, flow_reach = self._reach(latent, frames, behind)
        names = [port.name for port in self._model.graph.input]
        speaker = {SPEAKER: SPEAKER} if SPEAKER in names else {}
        return Parts(
            frontend=self._part(
                {**{name: name for name in INPUTS}, **speaker},
                {"latent": latent, "durations": self._durations()},
            ),
            flow=self._part({"latent": latent, **speaker}, {"frames": frames}, mask),
            vocoder=self._part({"frames": frames, **speaker}, {"audio": self._output}, mask),
            hop=hop,
            flow_reach=flow_reach,
            vocoder_reach=vocoder_reach,
        )

    def _latent(self) -> str:
        """Returns the frames just behind the last noise: mean + noise * deviation * scale."""
        noisy = [node for node in self._nodes if node.op_type == "RandomNormalLike"]
        if not noisy:
            raise NotAVoiceError("no RandomNormalLike")
        name = noisy[-1].output[0]
        for _ in range(4):
            users = self._users.get(name, [])
            if len(users) != 1:
                break
            node = self._nodes[users[0]]
            name = node.output[0]
            if node.op_type == "Add":
                return str(name)
            if node.op_type != "Mul":
                break
        raise NotAVoiceError("noise that is not scaled and added")

    def _durations(self) -> str:
        rounded = [node for node in self._nodes if node.op_type == "Ceil"]
        if len(rounded) != 1:
            raise NotAVoiceError(f"{len(rounded)} Ceil")
        return str(rounded[0].output[0])

    def _behind(self, names: Iterable[str]) -> set[int]:
        """Returns the nodes that depend on any of the tensors."""
        waiting, found = list(names), set[int]()
        while waiting:
            for at in self._users.get(waiting.pop(), []):
                if at not in found:
                    found.add(at)
                    waiting += self._nodes[at].output
        return found

    def _vocoder_input(self, behind: set[int]) -> str:
        """Returns what the convolution before the first upsampling reads."""
        up = [at for at in sorted(behind) if self._nodes[at].op_type == "ConvTranspose"]
        if not up:
            raise NotAVoiceError("no ConvTranspose")
        at = up[0]
        for _ in range(8):
            within = [n for n in self._nodes[at].input if self._maker.get(n, -1) in behind]
            if len(within) != 1:
                break
            at = self._maker[within[0]]
            if self._nodes[at].op_type == "Conv":
                return str(self._nodes[at].input[0])
        raise NotAVoiceError("no convolution before the upsampling")

    def _mask(self, behind: set[int], latent: str) -> str:
        """Returns the mask of the frames: all that a decoder may read of the text but the latents.

        The speaker's number and constants come along into each part; a piece of audio could not be
        made without anything else.
        """
        texts = self._behind(INPUTS)
        given = {
            name
            for at in behind
            for name in self._nodes[at].input
            if name != latent
            and self._maker.get(name, -1) not in behind
            and self._maker.get(name, -1) in texts
        }
        users = [at for name in given for at in self._users[name] if at in behind]
        if len(given) != 1 or any(self._nodes[at].op_type != "Mul" for at in users):
            raise NotAVoiceError(f"a decoder that reads {', '.join(sorted(given)) or 'no mask'}")
        return str(given.pop())

    def _reach(self, start: str, end: str, nodes: set[int]) -> tuple[int, int]:
        """Returns the samples for a frame of `start` and the frames around it that `end` needs."""
        seen = {start: (1, 0.0)}
        for at in sorted(nodes):
            node = self._nodes[at]
            known = [seen[name] for name in node.input if name in seen]
            if not known:
                continue
            rate, reach = max(known)[0], max(reach for _, reach in known)
            if node.op_type in ("Conv", "ConvTranspose"):
                rate, reach = _wider(node, self._taps(node), rate, reach)
            seen.update(dict.fromkeys(node.output, (rate, reach)))
        if end not in seen:
            raise NotAVoiceError(f"no way from {start} to {end}")
        return seen[end][0], math.ceil(seen[end][1])

    def _taps(self, node: NodeProto) -> int:
        for tensor in self._model.graph.initializer:
            if tensor.name == node.input[1] and len(tensor.dims) == 3:
                return int(tensor.dims[2])
        raise NotAVoiceError("a convolution that is not one-dimensional")

    def _part(self, inputs: dict[str, str], outputs: dict[str, str], mask: str = "") -> ModelProto:
        """Returns the nodes between tensors as a model whose ports have the names before them."""
        import onnx
        from onnx import TensorProto, helper

        cut = set(inputs.values())
        kept, waiting = set[int](), [*outputs.values()]
        while waiting:
            name = waiting.pop()
            at = self._maker.get(name, -1)
            if name in cut or name == mask or at < 0 or at in kept:
                continue
            kept.add(at)
            waiting += self._nodes[at].input
        rename = {old: new for new, old in (*inputs.items(), *outputs.items())}
        nodes, read = [], set[str]()
        for at in sorted(kept):
            node = onnx.NodeProto()
            node.CopyFrom(self._nodes[at])
            if mask and mask in node.input:
                _without_mask(node, mask)
            for names in (node.input, node.output):
                names[:] = [rename.get(name, name) for name in names]
            nodes.append(node)
            read.update(node.input)
        graph = helper.make_graph(
            nodes,
            "voice",
            [self._port(new, old) for new, old in inputs.items()],
            [helper.make_tensor_value_info(new, TensorProto.FLOAT, None) for new in outputs],
            [tensor for tensor in self._model.graph.initializer if tensor.name in read],
        )
        made: ModelProto = helper.make_model(graph, ir_version=self._model.ir_version)
        del made.opset_import[:]
        made.opset_import.extend(self._model.opset_import)
        return made

    def _port(self, new: str, old: str) -> Any:
        import onnx
        from onnx import TensorProto, helper

        for port in self._model.graph.input:
            if port.name == old:
                copied = onnx.ValueInfoProto()
                copied.CopyFrom(port)
                return copied
        return helper.make_tensor_value_info(new, TensorProto.FLOAT, [1, "channels", "frames"])


def _without_mask(node: NodeProto, mask: str) -> None:
    """Makes a product with the mask a copy: one text at a time has no frame that is masked."""
    other = [name for name in node.input if name != mask]
    node.op_type = "Identity"
    del node.input[:]
    node.input.extend(other)


def _wider(node: NodeProto, taps: int, rate: int, reach: float) -> tuple[int, float]:
    """Returns rate and reach behind a convolution, in frames of the graph's input."""
    numbers = {item.name: list(item.ints) for item in node.attribute}
    stride = (numbers.get("strides") or [1])[0]
    dilation = (numbers.get("dilations") or [1])[0]
    before = (numbers.get("pads") or [0])[0]
    span = (taps - 1) * dilation
    if node.op_type == "ConvTranspose":
        return rate * stride, reach + span / stride / rate
    if stride != 1:
        raise NotAVoiceError("a decoder that skips frames")
    return rate, reach + max(before, span - before) / rate
