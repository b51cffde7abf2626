"""Quantizes an ONNX file of any size: weight by weight from where it lies to a new data file.

Why not `onnxruntime.quantization`: it holds the model two or three times in RAM, writes inline
weights up to the 2 GB limit, does nothing without a word on the branches of merged decoders unless
told to, and leaves out `accuracy_level`, without which `MatMulNBits` computes in float32. Its
calibrator is used where it is good (`prepare.calibrate`); the numbers of 4 bits are equal to its
(`tests/test_quantize_kernels.py`).
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vozmetro import units
from vozmetro.errors import InputError, ModelError
from vozmetro.models import checks, slim, weights
from vozmetro.models.quantize import rewrite, versions
from vozmetro.models.quantize.datafile import DataFile, check_space
from vozmetro.models.quantize.payload import Payloads
from vozmetro.models.quantize.plan import Layer, Listener, Plan, QuantizeReport
from vozmetro.models.quantize.store import Form, Matrix, Store, Stored
from vozmetro.models.quantize.survey import QUANTIZED_OPS, Site, Survey, survey

if TYPE_CHECKING:
    from onnx import ModelProto, TensorProto

_MARGIN = 1 << 20
"""Bytes of disk for structure and alignment, beyond the weights."""


def quantize(
    model: Path,
    output: Path,
    plan: Plan,
    listen: Listener = lambda name, done, total: None,
) -> QuantizeReport:
    """Writes a quantized copy of an ONNX file; the file itself is never touched.

    Inputs, outputs and metadata stay; `vozmetro.precision` says what was done. Weights go to the
    output's name plus `.data`. Less than 1 GB of RAM is used, whatever the size.

    Args:
        model: The `.onnx`, with external data or without.
        output: The `.onnx` to write.
        plan: How.
        listen: Told about each weight.

    Returns:
        What was done, and what was left.

    Raises:
        InputError: `quantize_taken` or `quantize_same`.
        ModelError: `quantize_already`, `quantize_nothing`, `quantize_not_finite`,
            `quantize_opset`, and what `checks.check_onnx` raises.
        OutputError: `quantize_disk`, `disk_full` or `unwritable`.
    """
    began = time.perf_counter()
    check_places(model, output)
    external = checks.check_onnx(model).external
    graph = slim.read(model, located=True)
    _check_float(model, graph)
    if plan.mode != "weight-only":
        graph = versions.raised(graph, model)
    found = survey(graph, plan.embeddings)
    # A tied table is the head's weights as well: its 8-bit copy alone makes nothing smaller.
    if not found.sites or not found.quantized_bytes:
        raise _nothing(model, found)
    source_bytes = sum(path.stat().st_size for path in (model, *external))
    with Payloads(model) as payloads, DataFile(output) as data:
        job = _Job(graph, plan, found, payloads, data)
        check_space(output, job.expected_bytes() + _MARGIN)
        layers = job.layers(listen)
        fallback = job.rewrite()
        job.copy_rest()
        job.mark()
        data.publish(graph)
    check_written(output)
    return QuantizeReport(
        source=model,
        output=output,
        precision=plan.label,
        source_bytes=source_bytes,
        output_bytes=sum(path.stat().st_size for path in (output, data.data_path)),
        parameters=found.parameters,
        quantized_parameters=found.quantized_parameters,
        weight_bytes=found.weight_bytes,
        quantized_weight_bytes=found.quantized_bytes,
        layers=tuple(layers),
        left=tuple(found.left),
        dynamic_fallback=tuple(fallback),
        seconds=time.perf_counter() - began,
    )


def check_written(path: Path) -> None:
    """Reads a quantized file again: it is whole, and every `MatMulNBits` computes in 8 bits.

    Raises:
        ModelError: `quantize_accuracy` or what `checks.check_onnx` raises.
    """
    checks.check_onnx(path)
    for node in weights.nodes(slim.read(path)):
        if node.op_type != "MatMulNBits":
            continue
        level = next((a.i for a in node.attribute if a.name == "accuracy_level"), 0)
        if level != 4:
            raise ModelError("quantize_accuracy", path=path, node=node.name, level=level)


def check_places(model: Path, output: Path) -> None:
    """Refuses an output that exists, or is no `.onnx`.

    Raises:
        InputError: `quantize_suffix`, `quantize_same` or `quantize_taken`.
    """
    if output.suffix.lower() != ".onnx":
        raise InputError("quantize_suffix", path=output)
    data = output.with_name(f"{output.name}.data")
    same = output.exists() and model.exists() and output.samefile(model)
    if same:
        raise InputError("quantize_same", path=output)
    for place in (output, data):
        if place.exists():
            raise InputError("quantize_taken", path=place)


def _check_float(path: Path, model: ModelProto) -> None:
    for node in weights.nodes(model):
        if node.op_type in QUANTIZED_OPS:
            raise ModelError("quantize_already", path=path, op=node.op_type)


def _nothing(path: Path, found: Survey) -> ModelError:
    by_op: dict[str, int] = {}
    for left in found.left:
        by_op[left.op or left.reason] = by_op.get(left.op or left.reason, 0) + left.bytes
    said = ", ".join(f"{op} {units.size(size)}" for op, size in by_op.items())
    return ModelError("quantize_nothing", path=path, found=said or "–")


class _Job:
    """The steps of one quantization, on a model's structure that they change."""

    def __init__(
        self,
        model: ModelProto,
        plan: Plan,
        found: Survey,
        payloads: Payloads,
        data: DataFile,
    ) -> None:
        self._model = model
        self._plan = plan
        self._payloads = payloads
        self._data = data
        self._sites = found.sites
        self._store = Store(payloads, data, plan.bits, plan.block)
        self._groups: dict[tuple[Any, ...], list[Site]] = {}
        for site in found.sites:
            self._groups.setdefault(rewrite.weight_key(site), []).append(site)
        self._names: dict[tuple[Any, ...], tuple[str, str]] = {}

    def expected_bytes(self) -> int:
        """Returns the bytes that the weights will take, those that stay included."""
        made = sum(
            sum(self._store.sizes(_form(site, self._plan), _matrix(site))) for site in self._heads()
        )
        # At most; what nobody reads any more is dropped later.
        gone = {id(site.weight.tensor) for site in self._sites}
        kept = (t for _, t in weights.tensors(self._model) if id(t) not in gone)
        return made + sum(map(weights.payload_bytes, kept))

    def _heads(self) -> list[Site]:
        return [sites[0] for sites in self._groups.values()]

    def layers(self, listen: Listener) -> list[Layer]:
        """Stores every quantized weight once and returns what each became."""
        total = sum(weights.payload_bytes(site.weight.tensor) for site in self._heads())
        done, made = 0, []
        taken: set[str] = {tensor.name for _, tensor in weights.tensors(self._model)}
        new: list[tuple[Site, Stored]] = []
        for key, sites in self._groups.items():
            site = sites[0]
            listen(site.name, done, total)
            form, matrix = _form(site, self._plan), _matrix(site)
            names = _names(site.weight.name, form, self._plan.bits, taken)
            stored = self._store.put(form, matrix, names)
            self._names[key] = names
            new.append((site, stored))
            made.append(_layer(sites, matrix, stored))
            done += made[-1].bytes_before
        listen("", done, total)
        for site, stored in new:
            graph = rewrite.graph_at(self._model, site.weight.path)
            graph.initializer.extend([stored.values, stored.scales])
        return made

    def rewrite(self) -> list[str]:
        """Replaces the nodes and drops what is read no more; see `Rewriter.fallback`."""
        rewriter = rewrite.Rewriter(self._model, self._sites, self._names, self._plan)
        rewriter.rewrite()
        rewrite.prune(self._model)
        return rewriter.fallback

    def copy_rest(self) -> None:
        """Copies every tensor that lies outside its message and is not in the data file yet."""
        location = self._data.data_path.name
        own = {name for pair in self._names.values() for name in pair}
        for name, tensor in weights.tensors(self._model):
            if self._payloads.place(tensor) is None or (name in own and _lies_in(tensor, location)):
                continue
            size = self._payloads.size(tensor)
            pieces = self._payloads.pieces(tensor)
            if size <= slim.KEEP:
                # Shapes and scalars can be read without the data file.
                content = b"".join(pieces)
                tensor.ClearField("external_data")
                tensor.ClearField("data_location")
                tensor.raw_data = content
            else:
                # `reserve` forgets where the values were, so the generator is started before.
                first = next(pieces, b"")
                self._data.append(tensor, size, _chained(first, pieces))

    def mark(self) -> None:
        """Writes the marks of what was done, and keeps all others."""
        marks = {prop.key: prop for prop in self._model.metadata_props}
        precision = marks.get("vozmetro.precision") or self._model.metadata_props.add(
            key="vozmetro.precision"
        )
        precision.value = self._plan.label
        if "vozmetro.tied" in marks:
            marks["vozmetro.tied"].value = _renamed(marks["vozmetro.tied"].value, self._moved())
        versions.add_microsoft(self._model)

    def _moved(self) -> Mapping[str, str]:
        """Old names of weights that are gone, and the new ones of their values."""
        stay = {tensor.name for _, tensor in weights.tensors(self._model)}
        moved = {key[1]: names[0] for key, names in self._names.items()}
        return {old: new for old, new in moved.items() if old not in stay}


def _form(site: Site, plan: Plan) -> Form:
    if site.op == "Gather":
        return "table"
    return "blocks" if plan.mode == "weight-only" else "columns"


def _matrix(site: Site) -> Matrix:
    return Matrix(site.weight.tensor, site.turned, site.alpha)


def _names(weight: str, form: Form, bits: int, taken: set[str]) -> tuple[str, str]:
    bits = bits if form == "blocks" else 8
    scale = "scales" if form == "blocks" else "scale"
    stem, number = weight, 1
    while {f"{stem}_q{bits}", f"{stem}_{scale}"} & taken:
        number += 1
        stem = f"{weight}_{number}"
    names = (f"{stem}_q{bits}", f"{stem}_{scale}")
    taken.update(names)
    return names


def _layer(sites: list[Site], matrix: Matrix, stored: Stored) -> Layer:
    site = sites[0]
    outputs, inputs = matrix.shape
    return Layer(
        name=site.name,
        weight=site.weight.name,
        op=site.op,
        outputs=outputs,
        inputs=inputs,
        nodes=len(sites),
        error=stored.error,
        bytes_before=weights.payload_bytes(site.weight.tensor),
        bytes_after=sum(weights.payload_bytes(one) for one in (stored.values, stored.scales)),
    )


def _lies_in(tensor: TensorProto, location: str) -> bool:
    return any(e.key == "location" and e.value == location for e in tensor.external_data)


def _chained(first: bytes, rest: Any) -> Any:
    yield first
    yield from rest


def _renamed(names: str, moved: Mapping[str, str]) -> str:
    return ",".join(moved.get(name.strip(), name.strip()) for name in names.split(","))
