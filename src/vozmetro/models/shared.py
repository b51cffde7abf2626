"""The files of a model that somebody shares: an `.onnx` with what belongs to it, or a folder."""

from __future__ import annotations

from pathlib import Path

from vozmetro import packages
from vozmetro.errors import InputError, ModelError
from vozmetro.models import checks, ctranslate2, receipt, safety

_SUFFIXES = frozenset({".onnx", ".json", ".txt", ".model", ".jinja", ".safetensors"})
_MOST_FILES = 10_000


def files_of(path: Path) -> tuple[Path, list[str]]:
    """Returns the folder of a model and the names of its files below it, all checked.

    Args:
        path: An `.onnx`, or a folder with some, or a CTranslate2 folder.

    Raises:
        InputError: `not_a_model` or `folder_not_a_model`.
        ModelError: What `check_onnx` and the CTranslate2 reader refuse, and `unsafe_name` for a
            link out of the folder.
    """
    if packages.is_dir(path):
        return path, _folder(path)
    safety.refuse_disguised(path)
    if path.suffix.lower() != ".onnx":
        if safety.is_pickle_name(path.name):
            raise ModelError("pickle_refused", path=path)
        raise InputError("not_a_model", path=path)
    checked = checks.check_onnx(path)
    beside = [f"{path.name}.json", f"{path.stem}.conversion.json"]
    names = [path.name]
    # What check_onnx let through lies below the folder, by its name if not by its link.
    names += [file.relative_to(path.parent).as_posix() for file in checked.external]
    for name in beside:
        if packages.is_file(path.with_name(name)):
            _check_link(path.parent, path.with_name(name), path.resolve().parent)
            names.append(name)
    return path.parent, names


def _folder(path: Path) -> list[str]:
    names: set[str] = set()
    graphs = []
    for count, file in enumerate(sorted(path.rglob("*"))):
        if count > _MOST_FILES:
            raise InputError("folder_not_a_model", path=path)
        relative = file.relative_to(path)
        hidden = any(part.startswith(".") for part in relative.parts)
        if hidden or not packages.is_file(file) or relative.name == receipt.NAME:
            continue
        if file.suffix.lower() in _SUFFIXES:
            names.add(str(safety.safe_name(relative.as_posix())))
            _check_link(path, file)
        if file.suffix.lower() == ".onnx":
            graphs.append(file)
    for graph in graphs:
        external = checks.check_onnx(graph).external
        names.update(file.relative_to(path).as_posix() for file in external)
    if packages.is_file(path / "model.bin"):
        ctranslate2.inspect(path)
        names.add("model.bin")
    elif not graphs and not any(name.endswith(".safetensors") for name in names):
        raise InputError("folder_not_a_model", path=path)
    return sorted(names)


def _check_link(folder: Path, file: Path, *others: Path) -> None:
    """Refuses a link out of the folder, but for those of a Hugging Face cache to its own files.

    Args:
        folder: The model's.
        file: In it.
        others: Where files may lie as well: a model that is a link has its own beside its target.
    """
    # As it lies there: NAME/snapshots/COMMIT/config.json -> NAME/blobs/HASH.
    homes = [folder.resolve(), *others]
    if folder.resolve().parent.name == "snapshots":
        homes.append(folder.resolve().parents[1] / "blobs")
    if not any(file.resolve().is_relative_to(home) for home in homes):
        raise ModelError("unsafe_name", name=file.relative_to(folder).as_posix())
