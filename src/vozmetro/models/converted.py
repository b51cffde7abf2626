"""Catalogue models that are made here, on first use, from another one's weights; then kept.

Nothing is fetched for them: the weights are those of a data package, written as ONNX graphs into
the cache, with a record of every file's SHA-256 that is checked at every load.
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Callable
from functools import cache
from importlib import resources
from pathlib import Path

from vozmetro import packages
from vozmetro.errors import ModelError, OutputError
from vozmetro.models import assemble, fetched, receipt
from vozmetro.models.catalogue import Entry
from vozmetro.models.receipt import FetchedFile, Receipt, Source

_COPIED = ("config.json", "tokenizer.json")


def converted_folder(entry: Entry, base: Entry) -> Path:
    """Returns the folder of a converted model, intact; it is written where it is not.

    Args:
        entry: What is asked for; `entry.precision` says how its weights are stored.
        base: The CTranslate2 Whisper whose weights it has.

    Raises:
        MissingExtraError: The data package is not installed.
        ModelError: A package's file is damaged, `cache_full` or `cache_unwritable`.
    """
    name = f"{entry.name}-{base.files[0].sha256[:12]}-{writer()[:12]}"
    folder = packages.cache_dir() / "models" / name
    if not is_kept(folder):
        _build(entry, assemble.model_folder(base), folder)
    return folder


@cache
def writer() -> str:
    """SHA-256 of the code that writes graphs: another writer's files are not taken for its own."""
    digest = hashlib.sha256()
    for part in ("convert", "quantize"):
        for file in sorted(resources.files(f"{__package__}.{part}").iterdir(), key=str):
            if file.name.endswith(".py"):
                digest.update(file.read_bytes())
    return digest.hexdigest()


def is_kept(folder: Path) -> bool:
    """Returns whether a model is there whole, every file as it was recorded."""
    try:
        record = receipt.read(folder)
    except ModelError:
        return False
    if record is None:
        return False
    files = [file for source in record.sources for file in source.files]
    return bool(files) and all(fetched.is_intact(folder, file) for file in files)


def _build(entry: Entry, source: Path, folder: Path) -> None:
    from vozmetro.models.convert.builder import Scheme
    from vozmetro.models.convert.ctranslate2_source import CTranslate2Source
    from vozmetro.models.convert.whisper import write_whisper

    origin = f"package:{entry.converted_from}"

    def write(scratch: Path) -> None:
        marks = {"vozmetro.source": origin}
        write_whisper(CTranslate2Source(source), {}, scratch, Scheme(entry.precision), marks)
        for name in _COPIED:
            shutil.copyfile(source / name, scratch / name)

    # Full precision from 16 bits: twice the source, and a little for the graphs.
    keep(folder, origin, 3 * (source / "model.bin").stat().st_size, write)


def keep(folder: Path, origin: str, space: int, write: Callable[[Path], None]) -> None:
    """Has a model written beside its place and moves it there whole, with its record.

    Args:
        folder: Its place in the cache; `is_kept` of it is true afterwards.
        origin: What it is made from, for the record.
        space: Bytes that it needs on disk at most.
        write: Writes its files into the folder that it is given.

    Raises:
        ModelError: `cache_full` or `cache_unwritable`.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        assemble.sweep(folder)
        fetched.check_space(folder.parent, space)
        scratch = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
        try:
            write(scratch)
            receipt.write(scratch, _record(origin, scratch))
            _place(scratch, folder)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    except (OSError, OutputError) as error:
        said = error.fields["detail"] if isinstance(error, OutputError) else error.strerror or error
        raise ModelError("cache_unwritable", path=folder, detail=said) from error


def _place(scratch: Path, folder: Path) -> None:
    """Moves what was written to its place, unless another process has been faster."""
    if is_kept(folder):
        return
    shutil.rmtree(folder, ignore_errors=True)
    try:
        scratch.rename(folder)
    except OSError:
        if not is_kept(folder):
            raise


def _record(origin: str, folder: Path) -> Receipt:
    files = tuple(
        FetchedFile(name=file.name, bytes=file.stat().st_size, sha256=packages.sha256(file))
        for file in sorted(folder.iterdir())
    )
    source = Source(
        source=origin,
        fetched_at=fetched.now(),
        complete=True,
        files=files,
    )
    return Receipt(sources=(source,))
