"""What is checked of a model before it is measured: intact, safe, runnable here, and it fits."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath
from typing import TYPE_CHECKING, Protocol

from vozmetro import packages, units
from vozmetro.errors import InputError, ModelError
from vozmetro.models import safety, slim, structure, weights
from vozmetro.models.inspection import Inspection, Port, majority, onnx_ram

if TYPE_CHECKING:
    from onnx import ModelProto, TensorProto, ValueInfoProto

KNOWN_DOMAINS = frozenset(
    {
        "",
        "ai.onnx",
        "ai.onnx.ml",
        "ai.onnx.training",
        "ai.onnx.preview",
        "ai.onnx.preview.training",
        "com.microsoft",
        "com.microsoft.nchwc",
        "com.microsoft.experimental",
        "com.ms.internal.nhwc",
    }
)
"""Operator domains that a stock onnxruntime registers."""
SURE_OPSET, SURE_IR = 22, 10
"""What the oldest onnxruntime that vozmetro accepts (1.22) runs; newer files are tried out."""
CLAIM_TOLERANCE = 0.2
"""Relative difference from which a claimed number of parameters is contradicted."""


@dataclass(frozen=True)
class CheckedOnnx:
    """An ONNX model that passed: what it says, and the external data files it needs."""

    inspection: Inspection
    external: tuple[Path, ...]


@dataclass(frozen=True)
class Remark:
    """Something to tell the reader: a code of the catalogues' `notes.` section and its fields."""

    code: str
    fields: Mapping[str, str]


class Described(Protocol):
    """What a judgement on a model needs of it; `ModelRef` has it."""

    @property
    def name(self) -> str:
        """As the user named it."""

    @property
    def files(self) -> tuple[tuple[Path, int, str], ...]:
        """Path, bytes and SHA-256 of every file."""

    @property
    def inspection(self) -> Inspection:
        """What the file says about itself."""


def check_onnx(path: Path) -> CheckedOnnx:
    """Inspects an ONNX file and refuses what cannot or must not be loaded.

    Raises:
        ModelError: `file_missing`, `model_unreadable`, `onnx_empty`, `onnx_too_large`,
            `onnx_truncated`, `onnx_invalid`, `pickle_refused`, `zip_refused`, `lfs_pointer`,
            `external_missing`, `external_short`, `external_outside`, `onnx_no_ports`,
            `graph_cyclic`, `graph_duplicate`, `graph_absurd`, `custom_ops` or
            `opset_unsupported`.
    """
    safety.refuse_disguised(path)
    model = slim.read(path)
    try:
        return _checked(path, model)
    except (ValueError, OSError, RuntimeError) as error:
        # Damaged bytes in a name or a location: no text, or no path (too long, a loop of links).
        raise ModelError("onnx_invalid", path=path) from error


def _checked(path: Path, model: ModelProto) -> CheckedOnnx:
    structure.check_ranks(path, model)
    held = weights.stored(model)
    _check_sizes(path, model, held)
    external = _check_external(path, (tensor for _, tensor in weights.tensors(model)))
    initialized = {tensor.name for tensor in model.graph.initializer}
    inputs = tuple(_port(v) for v in model.graph.input if v.name not in initialized)
    outputs = tuple(_port(value) for value in model.graph.output)
    if not inputs or not outputs:
        raise ModelError("onnx_no_ports", path=path)
    structure.check(path, model, (*inputs, *outputs))
    _check_domains(path, model)
    opset = next((o.version for o in model.opset_import if o.domain in {"", "ai.onnx"}), None)
    _check_versions(path, model.ir_version, opset)
    return CheckedOnnx(_inspection(model, held, opset, inputs, outputs), external)


def _inspection(
    model: ModelProto,
    held: list[weights.Stored],
    opset: int | None,
    inputs: tuple[Port, ...],
    outputs: tuple[Port, ...],
) -> Inspection:
    marks = {prop.key: prop.value for prop in model.metadata_props}
    by_label = _bytes(held)
    # A second copy of a tied tensor takes room, but is no parameter.
    tied = {_bare(name.strip()) for name in marks.get("vozmetro.tied", "").split(",")}
    return Inspection(
        format="ONNX",
        precision=majority(_bytes(tensor for tensor in held if tensor.is_weight)),
        parameters=sum(
            tensor.elements
            for tensor in held
            # A quantized copy has its bits behind its name.
            if tensor.is_weight and _bare(tensor.name) not in tied
        ),
        bytes_by_dtype=by_label,
        weight_bytes=sum(by_label.values()),
        expected_ram=onnx_ram(
            _bytes(tensor for tensor in held if not tensor.external),
            _bytes(tensor for tensor in held if tensor.external),
        ),
        opset=opset,
        ir_version=model.ir_version,
        weights="dummy" if marks.get("weights") == "dummy" else "real",
        inputs=inputs,
        outputs=outputs,
        marks=marks,
    )


def _bare(name: str) -> str:
    """A weight's name without what says how it is stored."""
    return re.sub(r"_q\d$", "", name)


def _bytes(held: Iterable[weights.Stored]) -> dict[str, int]:
    total: dict[str, int] = {}
    for tensor in held:
        total[tensor.label] = total.get(tensor.label, 0) + tensor.bytes
    return total


def _port(value: ValueInfoProto) -> Port:
    kind = value.type.WhichOneof("value") or "unknown"
    if kind != "tensor_type":
        return Port(value.name, kind.removesuffix("_type"), ())
    tensor = value.type.tensor_type
    shape = tuple(
        d.dim_value if d.HasField("dim_value") else d.dim_param or "?" for d in tensor.shape.dim
    )
    return Port(value.name, _dtype_name(tensor.elem_type), shape)


def _dtype_name(elem_type: int) -> str:
    from onnx import TensorProto, helper

    if elem_type == TensorProto.STRING:
        return "string"
    try:
        return str(helper.tensor_dtype_to_np_dtype(elem_type).name)
    except KeyError:
        return "unknown"


def _check_sizes(path: Path, model: ModelProto, held: list[weights.Stored]) -> None:
    """Refuses dimensions that the file cannot hold: 4 elements in a byte is the densest type."""
    negative = any(size < 0 for _, tensor in weights.tensors(model) for size in tensor.dims)
    most = 4 * path.stat().st_size
    if negative or any(t.elements > most for t in held if not t.external):
        raise ModelError("onnx_invalid", path=path)
    if not model.opset_import:
        raise ModelError("onnx_invalid", path=path)


def _check_external(path: Path, tensors: Iterable[TensorProto]) -> tuple[Path, ...]:
    """Checks every tensor stored beside the model; returns those files, each once, in order."""
    found: dict[Path, int] = {}
    for tensor in tensors:
        if tensor.data_location != tensor.EXTERNAL:
            continue
        entry = {item.key: item.value for item in tensor.external_data}
        place = _external_place(path, entry.get("location", ""))
        if place not in found:
            if not packages.is_file(place):
                raise ModelError("external_missing", path=path, data=place)
            found[place] = place.stat().st_size
        payload = weights.payload_bytes(tensor)
        offset, length = int(entry.get("offset", 0)), int(entry.get("length", payload))
        if offset < 0 or length < payload:
            raise ModelError("onnx_invalid", path=path)
        if offset + length > found[place]:
            needed, size = units.size(offset + length), units.size(found[place])
            raise ModelError("external_short", data=place, needed=needed, size=size)
    return tuple(found)


def _external_place(path: Path, location: str) -> Path:
    """Returns where external data lies, refusing everything outside the model's own folder.

    A model that is a link (as in the Hugging Face cache) may also have its data beside the file
    that it links to.
    """
    windows = PureWindowsPath(location)
    place = path.parent / location
    homes = {path.parent.resolve(), path.resolve().parent}
    outside = windows.is_absolute() or windows.drive or Path(location).is_absolute()
    if not location or outside or not any(place.resolve().is_relative_to(h) for h in homes):
        raise ModelError("external_outside", path=path, location=location)
    return place


def _check_domains(path: Path, model: ModelProto) -> None:
    own = {(function.domain, function.name) for function in model.functions}
    custom = sorted(
        {
            f"{node.domain}::{node.op_type}"
            for node in weights.nodes(model)
            if node.domain not in KNOWN_DOMAINS and (node.domain, node.op_type) not in own
        }
    )
    if custom:
        raise ModelError("custom_ops", path=path, ops=", ".join(custom[:5]))


def _check_versions(path: Path, ir_version: int, opset: int | None) -> None:
    """Asks onnxruntime to load one Identity node of a file's versions where they are new."""
    if ir_version <= SURE_IR and (opset or 0) <= SURE_OPSET:
        return
    import onnxruntime
    from onnx import TensorProto, helper

    ports = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1]) for n in "xy"]
    node = helper.make_node("Identity", ["x"], ["y"])
    graph = helper.make_graph([node], "probe", ports[:1], ports[1:])
    imports = [helper.make_opsetid("", opset or SURE_OPSET)]
    probe = helper.make_model(graph, ir_version=ir_version, opset_imports=imports)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    try:
        onnxruntime.InferenceSession(
            probe.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:  # onnxruntime's own errors share no narrower base
        raise ModelError(
            "opset_unsupported",
            path=path,
            opset=opset,
            ir=ir_version,
            version=onnxruntime.__version__,
        ) from error


def check_fits(model: Described, available_bytes: int) -> None:
    """Refuses a model that needs more RAM than there is, with the arithmetic.

    Args:
        model: A `ModelRef`.
        available_bytes: What the machine can give to one process.

    Raises:
        ModelError: `does_not_fit`.
    """
    found = model.inspection
    if found.expected_ram <= available_bytes:
        return
    raise ModelError(
        "does_not_fit",
        name=model.name,
        needed=units.size(found.expected_ram),
        weights=units.size(found.weight_bytes),
        precision=found.precision,
        copies=f"{found.copies:.1f}",
        overhead=units.size(found.overhead),
        available=units.size(available_bytes),
    )


def parse_parameters(text: str) -> float:
    """Returns a number of parameters written as `30B`, `72.6M`, `30000000000` or `4,4 B`.

    Raises:
        InputError: `claimed_params_invalid`.
    """
    match = re.fullmatch(r"\s*(\d+(?:[.,]\d+)?(?:e\d+)?)\s*([kmbgt]?)\s*", text, re.IGNORECASE)
    if match is None:
        raise InputError("claimed_params_invalid", value=text)
    scale = {"": 1.0, "k": 1e3, "m": 1e6, "b": 1e9, "g": 1e9, "t": 1e12}[match[2].lower()]
    value = float(match[1].replace(",", ".")) * scale
    if not 0 < value < 1e18:
        raise InputError("claimed_params_invalid", value=text)
    return value


def _plain(number: float) -> str:
    """Returns a number of parameters as people say it: `30 B`, not `30.0 B`."""
    return units.count(number).replace(".0 ", " ")


def claim_note(model: Described, claimed: float) -> Remark | None:
    """Contradicts a claimed number of parameters that the files cannot hold.

    Args:
        model: A `ModelRef`.
        claimed: Number of parameters that somebody says it has.

    Returns:
        None where the claim is within 20 % of what was counted, or nothing could be counted.
    """
    found = model.inspection
    if found.parameters is None or abs(claimed - found.parameters) <= CLAIM_TOLERANCE * claimed:
        return None
    return Remark(
        "claimed_parameters",
        {
            "size": units.size(found.weight_bytes),
            "precision": found.precision,
            "parameters": _plain(found.parameters),
            "claimed": _plain(claimed),
        },
    )
