"""What a model is, for people: ports, weights, operations, RAM, and what it takes and gives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from vozmetro import packages
from vozmetro.errors import InputError, VozmetroError
from vozmetro.models import assemble, checks, ctranslate2, modality, receipt, safety
from vozmetro.models.catalogue import catalogue
from vozmetro.models.checks import Remark
from vozmetro.models.converted import converted_folder
from vozmetro.models.inspection import Inspection
from vozmetro.models.modality import Modality

SCHEMA_VERSION = 1
MOST_GRAPHS = 40
"""Graphs of a folder beyond which it is no model's own folder."""


@dataclass(frozen=True)
class Operations:
    """Multiply-adds of one inference of a graph.

    Attributes:
        macs: How many.
        bytes: Bytes that must be read for it: weights, and what was computed before.
        dims: The size taken for every dynamic axis.
        assumed: Those of them that nobody gave.
    """

    macs: int
    bytes: int
    dims: Mapping[str, int]
    assumed: tuple[str, ...]


@dataclass(frozen=True)
class Part:
    """One graph, or a CTranslate2 model.

    Attributes:
        name: Of the file.
        inspection: What it says about itself.
        operations: None where they cannot be counted; `uncounted` says why.
        uncounted: Why not.
    """

    name: str
    inspection: Inspection
    operations: Operations | None = None
    uncounted: Remark | None = None


@dataclass(frozen=True)
class Overview:
    """A model as a whole.

    Attributes:
        name: As the user named it.
        path: Where it lies.
        parts: Its graphs; empty for a folder of weights that is still to be converted.
        modality: What it takes and gives.
        remarks: What the reader must know; codes of the `models.` section.
        weights: Parameters and bytes by dtype of a folder that is still to be converted.
    """

    name: str
    path: Path
    parts: tuple[Part, ...]
    modality: Modality
    remarks: tuple[Remark, ...]
    weights: Mapping[str, int] | None = None

    def to_json(self) -> dict[str, Any]:
        """Returns it for a program to read."""
        found = asdict(self)
        found["path"] = str(self.path)
        found["modality"]["hears"] = self.modality.hears
        return {"schema_version": SCHEMA_VERSION, **found}


def locate(name: str) -> Path:
    """Returns where the model behind a catalogue name or a path lies.

    Raises:
        InputError: `fetch_unknown`.
        ModelError: The catalogue's model is not there or not intact.
    """
    return located(name)[0]


def located(name: str) -> tuple[Path, frozenset[Path]]:
    """Returns `locate`, and the files that were compared with their hashes on the way."""
    entry = catalogue().get(name)
    if entry is not None:
        if entry.converted_from:
            folder = converted_folder(entry, catalogue()[entry.converted_from])
            sources = (receipt.read(folder) or receipt.Receipt()).sources
            names = [file.name for source in sources for file in source.files]
            return folder, frozenset(folder / one for one in names)
        folder, files = assemble.verified(entry)
        path = folder if entry.path == "." else folder / entry.path
        return path, frozenset(file for file, _, _ in files)
    path = Path(name.removeprefix("piper:").removeprefix("piper-onnx:")).expanduser()
    if packages.is_file(path) or packages.is_dir(path):
        return path, frozenset()
    raise InputError("fetch_unknown", source=name, names=", ".join(catalogue()))


def graphs_of(path: Path) -> list[Path]:
    """Returns the graphs of a file or folder, sorted; those of hidden folders are not.

    Raises:
        InputError: `folder_graphs` for more than any model has.
    """
    if not packages.is_dir(path):
        return [path]
    found = [
        file
        for file in path.rglob("*")
        if file.suffix.lower() == ".onnx"
        and packages.is_file(file)
        and not any(part.startswith(".") for part in file.relative_to(path).parts)
    ]
    if len(found) > MOST_GRAPHS:
        raise InputError("folder_graphs", path=path, count=len(found), most=MOST_GRAPHS)
    return sorted(found)


def overview(
    name: str, dims: Mapping[str, int] | None = None, claimed: str | None = None
) -> Overview:
    """Inspects a model without loading its weights.

    Args:
        name: A name of the catalogue, or a path: an `.onnx`, or a folder of ONNX, CTranslate2 or
            Hugging Face.
        dims: Sizes of dynamic axes by name, for the operations.
        claimed: `audio` where somebody says that it is an audio model.

    Raises:
        InputError: `fetch_unknown`, `folder_not_a_model`, `folder_graphs`, `not_a_model`, or
            `cost_dims` for a size that no graph has.
        ModelError: What cannot or must not be read.
    """
    path = locate(name)
    graphs = graphs_of(path)
    parts: tuple[Part, ...]
    weights = None
    if not graphs:
        if packages.is_file(path / "model.bin"):
            parts = (Part("model.bin", ctranslate2.inspect(path)),)
        else:
            parts, weights = (), _safetensors(path)
    else:
        parts = _parts(path, graphs, dims or {})
    found = modality.decide(path, [part.inspection for part in parts])
    label = path.name or str(path)
    return Overview(
        name, path, parts, found, tuple(modality.remarks(found, label, claimed)), weights
    )


def _parts(path: Path, graphs: Sequence[Path], dims: Mapping[str, int]) -> tuple[Part, ...]:
    inspections = []
    for graph in graphs:
        if graph.suffix.lower() != ".onnx":
            safety.refuse_disguised(graph)
            raise InputError("not_a_model", path=graph)
        inspections.append(checks.check_onnx(graph).inspection)
    known = set().union(*(_axes(one) for one in inspections))
    parts = []
    for graph, inspection in zip(graphs, inspections, strict=True):
        name = graph.relative_to(path).as_posix() if graph != path else graph.name
        # A size that only others have is theirs; one that nobody has is refused when counting.
        others = known - _axes(inspection)
        own = {axis: size for axis, size in dims.items() if axis not in others}
        parts.append(_part(name, graph, inspection, own))
    return tuple(parts)


def _axes(inspection: Inspection) -> set[str]:
    """Returns the dynamic sizes of a graph's inputs as `cost` calls them."""
    return {
        f"{port.name}:{axis}" if size == "?" else size
        for port in inspection.inputs
        for axis, size in enumerate(port.shape)
        if isinstance(size, str)
    }


def _part(name: str, graph: Path, inspection: Inspection, dims: Mapping[str, int]) -> Part:
    from vozmetro.models.cost import cost

    try:
        found = cost(graph, dims)
    except VozmetroError as error:
        if isinstance(error, InputError):
            raise
        return Part(name, inspection, None, Remark(error.code, error.fields))
    counted = Operations(found.total_macs, found.bytes, dict(found.dims), tuple(found.assumed))
    return Part(name, inspection, counted)


def _safetensors(path: Path) -> dict[str, int]:
    """Returns what a folder of safetensors holds: `parameters` and bytes by dtype.

    Raises:
        InputError: `folder_not_a_model`.
        ModelError: A file is damaged.
    """
    import math

    from vozmetro.models.convert.safetensors import ITEM_BYTES, read_header

    found: dict[str, int] = {"parameters": 0}
    files = sorted(file for file in path.glob("*.safetensors") if packages.is_file(file))
    if not files:
        raise InputError("folder_not_a_model", path=path)
    for file in files:
        for tensor in read_header(file).values():
            elements = math.prod(tensor.shape)
            found["parameters"] += elements
            size = elements * ITEM_BYTES.get(tensor.dtype, 0)
            found[tensor.dtype] = found.get(tensor.dtype, 0) + size
    return found
