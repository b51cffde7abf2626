"""One fetch from a hub: which files at which commit, into which folder, resumed and verified."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fnmatch import fnmatchcase
from pathlib import Path

from vozmetro import packages
from vozmetro.errors import InputError, ModelError
from vozmetro.models import assemble, hub, receipt, safety
from vozmetro.models.catalogue import Entry, ModelFile
from vozmetro.models.fetched import (
    Fetched,
    Listener,
    Progress,
    check_space,
    check_taken,
    is_intact,
    now,
    subject,
)
from vozmetro.models.receipt import FetchedFile, Receipt, Source

MODELS = ("*.onnx", "*.onnx.data*", "*.onnx_data*")
"""Graphs and the weights beside them."""
CONFIGS = (
    "*.onnx.json", "config.json", "generation_config.json", "preprocessor_config.json",
    "processor_config.json", "genai_config.json", "tokenizer*.json", "tokenizer.model",
    "vocab*.json", "vocab*.txt", "merges.txt", "special_tokens_map.json", "added_tokens.json",
    "normalizer.json", "chat_template.json", "chat_template.jinja",
)  # fmt: skip
"""What says how a model is used: small, and no program runs it."""


class HubFetch:
    """One fetch from a hub: what was asked for, and where it goes."""

    def __init__(
        self,
        source: str,
        entry: Entry | None,
        target: Path | None,
        *,
        revision: str | None,
        include: Sequence[str],
        refresh: bool,
    ) -> None:
        self._pins: dict[str, ModelFile] = {}
        self._asked = revision
        if entry is not None and entry.hub is not None:
            self.repo, said = entry.hub.repo, entry.hub.revision
            self._trusted = True
            self._include = tuple(include) or entry.hub.allow_patterns
            self._exact = not include
            if revision in (None, said):
                self._pins = {file.name: file for file in entry.files if file.sha256}
        else:
            self.repo, spec = hub.parse(source)
            said = spec or ""
            self._trusted = False
            self._include, self._exact = tuple(include), False
        if revision is None and not said:
            raise InputError("hub_unpinned_none", repo=self.repo)
        self.revision = revision or said
        self._target, self._refresh = target, refresh
        self.source = f"{hub.PREFIX}{self.repo}"

    def fetch(self, listen: Listener) -> Fetched:
        """Returns what was fetched before, else fetches. See `fetch.fetch`."""
        folder, before = self._before()
        if folder is not None and before is not None and not self._refresh:
            if before.complete and all(is_intact(folder, file) for file in before.files):
                return Fetched(folder, self._subject(folder, before), before, 0)
            # Damaged or unfinished: go on with the commit that it was begun with.
            listing = hub.listing(self.repo, before.commit or self.revision)
        else:
            if not (self._trusted or self._asked or hub.is_commit(self.revision)):
                hub.refuse_branch(self.repo, self.revision)
            listing = hub.listing(self.repo, self.revision)
        return self._into(self._folder(listing.commit), listing, listen)

    def _subject(self, folder: Path, source: Source) -> Path:
        return subject(folder, [file.name for file in source.files])

    def _folder(self, commit: str) -> Path:
        return self._target or assemble.hub_home(self.repo) / commit

    def _before(self) -> tuple[Path | None, Source | None]:
        """Returns the newest fetch of this revision and these patterns, and where it is."""
        if self._target is not None:
            folders = [self._target]
        else:
            home = assemble.hub_home(self.repo)
            folders = sorted(home.iterdir()) if home.is_dir() else []
        found = []
        for folder in folders:
            source = (receipt.read(folder) or Receipt()).find(self.source, self._include)
            if source is not None and self.revision in (source.revision, source.commit):
                found.append((source.fetched_at, folder, source))
        if not found:
            return None, None
        _, folder, source = max(found, key=lambda one: one[0])
        return folder, source

    def _into(self, folder: Path, listing: hub.Listing, listen: Listener) -> Fetched:
        folder.mkdir(parents=True, exist_ok=True)
        with _locked(folder):
            record = receipt.read(folder) or Receipt()
            self._check_commit(folder, record, listing.commit)
            wanted = self._wanted(listing)
            plan = Source(
                source=self.source,
                revision=self.revision,
                commit=listing.commit,
                endpoint=listing.endpoint,
                include=self._include,
                fetched_at=now(),
                complete=False,
                files=tuple(
                    FetchedFile(name=f.name, bytes=f.bytes, sha256=self._digest(f)) for f in wanted
                ),
            )
            check_taken(folder, record, plan)
            receipt.write(folder, record.having(plan))
            files, received = self._download(folder, listing, wanted, listen)
            done = plan.model_copy(update={"complete": True, "files": tuple(files)})
            receipt.write(folder, record.having(done))
        return Fetched(folder, self._subject(folder, done), done, received)

    def _check_commit(self, folder: Path, record: Receipt, commit: str) -> None:
        for before in record.of(self.source):
            if before.commit not in (None, commit):
                raise InputError(
                    "revision_moved",
                    source=self.source,
                    revision=self.revision,
                    path=folder,
                    old=f"{self.source}@{before.commit}",
                    new=f"{self.source}@{commit}",
                )

    def _digest(self, file: hub.HubFile) -> str | None:
        pin = self._pins.get(file.name)
        return file.sha256 or (pin.sha256 if pin else None)

    def _wanted(self, listing: hub.Listing) -> list[hub.HubFile]:
        """Chooses files by pattern, with the data of every graph chosen, and never a pickle."""
        chosen = self._include or MODELS
        named = {f.name for f in listing.files if _matches(f.name, chosen)}
        for graph in [name for name in named if name.endswith(".onnx")]:
            data = (f"{graph}.data", f"{graph}_data")
            named |= {f.name for f in listing.files if f.name.startswith(data)}
        if not self._exact and named:
            named |= {f.name for f in listing.files if _matches(f.name, CONFIGS)}
        pickles = sorted(name for name in named if safety.is_pickle_name(name))
        named -= set(pickles)
        if not any(_matches(name, chosen) for name in named):
            if pickles:
                raise ModelError("hub_only_pickles", repo=self.repo, names=", ".join(pickles[:3]))
            there = ", ".join(sorted(f.name for f in listing.files)[:12]) or "–"
            raise ModelError("hub_nothing", repo=self.repo, patterns=" ".join(chosen), there=there)
        # Of a model of the catalogue all files are needed; of a choice of them, what was chosen.
        missing = sorted(set(self._pins) - named) if self._exact else []
        if missing:
            raise ModelError(
                "hub_file_missing", repo=self.repo, name=missing[0], revision=listing.commit
            )
        wanted = [file for file in listing.files if file.name in named]
        for file in wanted:
            self._check_listed(file)
        if len({file.name.casefold() for file in wanted}) < len(wanted):
            # Some disks would keep one file for both names.
            raise ModelError("hub_answer_invalid", endpoint=listing.endpoint, detail="siblings")
        return wanted

    def _check_listed(self, file: hub.HubFile) -> None:
        pin = self._pins.get(file.name)
        if str(safety.safe_name(file.name)) == receipt.NAME:
            raise ModelError("unsafe_name", name=file.name)
        if file.sha256 is None and file.git_sha1 is None and pin is None:
            raise ModelError("hub_no_hash", name=file.name)
        differs = pin is not None and (
            pin.bytes != file.bytes or file.sha256 not in (None, pin.sha256)
        )
        if differs:
            raise ModelError("hub_hash", name=file.name, repo=self.repo)

    def _download(
        self, folder: Path, listing: hub.Listing, wanted: list[hub.HubFile], listen: Listener
    ) -> tuple[list[FetchedFile], int]:
        """Fetches what is missing; returns all files with their hashes, and the bytes that came."""
        there: dict[str, FetchedFile] = {}
        for file in wanted:
            found = _verified(safety.inside(folder, file.name), file, self._digest(file))
            if found is not None:
                there[file.name] = found
        parts = {f.name: _part(folder, f, listing.commit) for f in wanted if f.name not in there}
        have = {name: part.stat().st_size for name, part in parts.items() if part.is_file()}
        total = sum(file.bytes for file in wanted)
        check_space(
            folder, sum(max(f.bytes - have.get(f.name, 0), 0) for f in wanted if f.name in parts)
        )
        done = sum(file.bytes for file in there.values())
        received = 0
        for file in wanted:
            if file.name in there:
                continue
            base = done

            def tell(size: int, name: str = file.name, base: int = base) -> None:
                listen(Progress(name, base + size, total))

            part = parts[file.name]
            hub.download(listing, file, part, tell)
            found = _verified(part, file, self._digest(file))
            if found is None:
                part.unlink()
                raise ModelError("hub_hash", name=file.name, repo=self.repo)
            part.replace(safety.inside(folder, file.name))
            there[file.name] = found
            done += file.bytes
            received += file.bytes - min(have.get(file.name, 0), file.bytes)
        return [there[file.name] for file in wanted], received


def _part(folder: Path, file: hub.HubFile, commit: str) -> Path:
    """Returns where a download grows: named by content, so that it never goes on with another's."""
    place = safety.inside(folder, file.name)
    place.parent.mkdir(parents=True, exist_ok=True)
    identity = (file.sha256 or file.git_sha1 or commit)[:12]
    return place.with_name(f".{place.name[:150]}.{identity}.part")


def _matches(name: str, patterns: Sequence[str]) -> bool:
    last = name.rsplit("/", 1)[-1]
    return any(fnmatchcase(name, one) or fnmatchcase(last, one) for one in patterns)


def _verified(path: Path, file: hub.HubFile, sha256: str | None) -> FetchedFile | None:
    """Returns the record of a file that is what the hub lists; None where it is not."""
    if path.is_symlink() or not packages.is_file(path) or path.stat().st_size != file.bytes:
        return None
    found = hashlib.sha256()
    # Git's own name of a content, not a protection.
    blob = hashlib.sha1(b"blob %d\0" % file.bytes, usedforsecurity=False)
    with path.open("rb") as data:
        while piece := data.read(packages.CHUNK):
            found.update(piece)
            blob.update(piece)
    if sha256 is not None and found.hexdigest() != sha256:
        return None
    if file.git_sha1 is not None and blob.hexdigest() != file.git_sha1:
        return None
    return FetchedFile(name=file.name, bytes=file.bytes, sha256=found.hexdigest())


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Holds a folder against other fetches into it."""
    from filelock import FileLock, Timeout  # the hub's client depends on it

    lock = FileLock(folder / ".fetch.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise InputError("fetch_busy", path=folder) from error
    try:
        yield
    finally:
        lock.release()
        (folder / ".fetch.lock").unlink(missing_ok=True)
