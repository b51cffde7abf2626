"""A hub of models over HTTP: what a repository holds at a commit, and its files, resumed.

The client library (`huggingface_hub`) names and authenticates requests and tells errors apart.
Bodies are streamed here: the library's own download begins anew after a killed process, because it
writes to a file of its own process that it deletes on failure.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from vozmetro import units
from vozmetro.errors import InputError, MissingExtraError, ModelError, VozmetroError

PREFIX = "hub:"
WAITS_S = (1.0, 3.0, 10.0)
"""Seconds before each try again of a download that made no headway."""
TIMEOUT_S = 20.0
"""Seconds without an answer, or without a byte, after which a request is given up."""
_HEADWAY = 1 << 20
_COMMIT = re.compile(r"[0-9a-f]{40}")
_SPEC = re.compile(r"hub:([A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)(?:@(.+))?")
_SHA1, _SHA256 = re.compile(r"[0-9a-f]{40}"), re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class HubFile:
    """A file as the hub lists it.

    Attributes:
        name: Path in the repository, whatever it may be: `safety.safe_name` is for who writes it.
        bytes: Size.
        sha256: Of the content, for files that the hub keeps outside git (LFS).
        git_sha1: Git's blob id for the others: SHA-1 of `blob`, size, a NUL, and the content.
    """

    name: str
    bytes: int
    sha256: str | None
    git_sha1: str | None


@dataclass(frozen=True)
class Listing:
    """A repository at one commit."""

    repo: str
    commit: str
    endpoint: str
    files: tuple[HubFile, ...]


class _UnfinishedError(Exception):
    """The body ended early, or the server did not go on from where we were."""


def parse(text: str) -> tuple[str, str | None]:
    """Returns repository and revision of `hub:OWNER/NAME[@REVISION]`.

    Raises:
        InputError: `hub_spec_invalid`.
    """
    match = _SPEC.fullmatch(text)
    if match is None or ".." in match[1] or "--" in match[1]:
        raise InputError("hub_spec_invalid", given=text)
    revision = match[2]
    if revision is not None and not re.fullmatch(r"[\w][\w./-]*", revision):
        raise InputError("hub_spec_invalid", given=text)
    return match[1], revision


def is_commit(revision: str) -> bool:
    """Returns whether a revision can never mean anything else."""
    return _COMMIT.fullmatch(revision) is not None


def endpoint() -> str:
    """Returns the hub's address: HF_ENDPOINT, else the client library's own.

    Raises:
        InputError: `hub_endpoint_invalid`.
        MissingExtraError: The client library is not installed.
    """
    # Read now: the library reads the variable once, when it is imported.
    library = _library(".constants")
    address = (os.environ.get("HF_ENDPOINT") or library.ENDPOINT).rstrip("/")
    try:
        parts = urlsplit(address)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname)
        _ = parts.port
    except ValueError:
        usable = False
    if not usable:
        raise InputError("hub_endpoint_invalid", given=address)
    return str(address)


def _library(part: str = "") -> Any:
    try:
        return import_module(f"huggingface_hub{part}")
    except ImportError as error:
        raise MissingExtraError("hub", "huggingface_hub") from error


def refuse_branch(repo: str, revision: str) -> None:
    """Refuses the name of a branch: what it stands for changes from day to day.

    Raises:
        InputError: `hub_unpinned`, with the commit that it stands for now.
        ModelError: As `listing`.
    """
    address = endpoint()
    try:
        refs = _library().HfApi(endpoint=address).list_repo_refs(repo)
        branches = {str(ref.name): str(ref.target_commit) for ref in refs.branches}
        tags = {str(ref.name) for ref in refs.tags}
    except Exception as error:
        raise _explained(error, address, repo, revision) from error
    if revision in branches and revision not in tags:
        pinned = f"{PREFIX}{repo}@{branches[revision]}"
        raise InputError("hub_unpinned", repo=repo, given=revision, pinned=pinned)


def listing(repo: str, revision: str) -> Listing:
    """Returns what a repository holds at a revision, resolved to its commit.

    Raises:
        ModelError: `hub_unreachable`, `hub_repo_missing`, `hub_gated`, `hub_revision_missing`,
            or `hub_answer_invalid`.
    """
    address = endpoint()
    try:
        info = (
            _library()
            .HfApi(endpoint=address)
            .model_info(repo, revision=revision, files_metadata=True, timeout=TIMEOUT_S)
        )
    except Exception as error:
        raise _explained(error, address, repo, revision) from error
    commit = info.sha
    if not isinstance(commit, str) or not is_commit(commit):
        raise ModelError("hub_answer_invalid", endpoint=address, detail="sha")
    if is_commit(revision) and commit != revision:
        raise ModelError("hub_moved", repo=repo, wanted=revision, found=commit)
    files = tuple(_file(one, address) for one in info.siblings or ())
    return Listing(repo, commit, address, files)


def _file(sibling: Any, address: str) -> HubFile:
    name = sibling.rfilename
    if not isinstance(name, str):
        raise ModelError("hub_answer_invalid", endpoint=address, detail="rfilename")
    lfs = sibling.lfs or {}
    size = lfs.get("size", sibling.size)
    sha256, sha1 = lfs.get("sha256"), sibling.blob_id
    if not isinstance(size, int) or size < 0:
        raise ModelError("hub_answer_invalid", endpoint=address, detail=f"{name}: size")
    return HubFile(
        name=name,
        bytes=size,
        sha256=sha256 if isinstance(sha256, str) and _SHA256.fullmatch(sha256) else None,
        # Of a file kept outside git, git's id is that of the pointer.
        git_sha1=sha1 if not lfs and isinstance(sha1, str) and _SHA1.fullmatch(sha1) else None,
    )


def download(
    found: Listing, file: HubFile, part: Path, tell: Callable[[int], None] = lambda _: None
) -> None:
    """Writes a file's bytes to `part`, going on from those that are there.

    Args:
        found: The repository.
        file: One of its files.
        part: Where to; it is complete when this returns, but not yet verified.
        tell: Called with the bytes there are after each piece.

    Raises:
        ModelError: As `listing`, `hub_file_missing`, `hub_moved` or `hub_size`.
        OSError: The disk.
    """
    tries = 0
    while True:
        have = part.stat().st_size if part.exists() else 0
        if have > file.bytes:
            part.unlink()
            have = 0
        if have == file.bytes and part.exists():
            return
        try:
            _stream(found, file, part, have, tell)
            continue
        except (VozmetroError, _DiskError):
            raise
        except Exception as error:
            now = part.stat().st_size if part.exists() else 0
            tries = 0 if now - have >= _HEADWAY else tries + 1
            known = _explained(error, found.endpoint, found.repo, found.commit, file.name)
            if tries > len(WAITS_S) or known.code != "hub_unreachable":
                raise known from error
            if tries:
                time.sleep(WAITS_S[tries - 1])


class _DiskError(OSError):
    """Writing failed, which no new request mends."""


def _stream(
    found: Listing, file: HubFile, part: Path, have: int, tell: Callable[[int], None]
) -> None:
    """Asks for the bytes from `have` on, and appends what comes."""
    hub = _library()
    url = hub.hf_hub_url(found.repo, file.name, revision=found.commit, endpoint=found.endpoint)
    headers = _library(".utils").build_hf_headers(library_name="vozmetro")
    headers["Accept-Encoding"] = "identity"
    if have:
        headers["Range"] = f"bytes={have}-"
    with hub.get_session().stream("GET", url, headers=headers, timeout=TIMEOUT_S) as response:
        if response.status_code == 416:
            part.unlink(missing_ok=True)
            raise _UnfinishedError("status 416")
        hub.hf_raise_for_status(response)
        for answer in (*response.history, response):
            commit = answer.headers.get("X-Repo-Commit")
            if commit is not None and commit != found.commit:
                raise ModelError("hub_moved", repo=found.repo, wanted=found.commit, found=commit)
        start = have if response.status_code == 206 else 0
        if start and not response.headers.get("Content-Range", "").startswith(f"bytes {start}-"):
            part.unlink(missing_ok=True)
            raise _UnfinishedError("bad Content-Range")
        _append(response, file, part, start, tell)


def _append(
    response: Any, file: HubFile, part: Path, start: int, tell: Callable[[int], None]
) -> None:
    """Writes the body at `start`, every piece at once: a killed process leaves what it had."""
    flags = os.O_WRONLY | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
    try:
        handle = os.open(part, flags if start else flags | os.O_TRUNC, 0o644)
    except OSError as error:
        raise _DiskError(*error.args) from error
    done = start
    with os.fdopen(handle, "wb", buffering=0) as out:
        out.seek(start)
        tell(done)
        # As the pieces come: gathering them into larger ones would lose those of a cut line.
        for piece in response.iter_bytes():
            if done + len(piece) > file.bytes:
                raise ModelError("hub_size", name=file.name, size=units.size(file.bytes))
            try:
                out.write(piece)
            except OSError as error:
                raise _DiskError(*error.args) from error
            done += len(piece)
            tell(done)
    if done < file.bytes:
        raise _UnfinishedError("ended early")


def _explained(
    error: Exception, address: str, repo: str, revision: str, name: str = ""
) -> VozmetroError:
    """Returns an error of the client library as ours."""
    errors = _library(".errors")
    told = {"repo": repo, "endpoint": address, "revision": revision, "name": name}
    for kind, code in (
        (errors.GatedRepoError, "hub_gated"),
        (errors.RepositoryNotFoundError, "hub_repo_missing"),
        (errors.RevisionNotFoundError, "hub_revision_missing"),
        (errors.EntryNotFoundError, "hub_file_missing"),
    ):
        if isinstance(error, kind):
            return ModelError(code, **told)
    detail = str(error) or type(error).__name__
    # The base of the HTTP library's errors: httpx in version 1 of the client, httpx2 in 2.
    transport = errors.HfHubHTTPError.__mro__[1]
    passing = isinstance(error, (transport, ConnectionError, TimeoutError, _UnfinishedError))
    if isinstance(error, errors.HfHubHTTPError):
        status = error.response.status_code
        detail = f"HTTP {status}"
        if status in (401, 403):
            return ModelError("hub_gated", **told)
        passing = status == 429 or status >= 500
    if passing:
        return unreachable(address, detail)
    return ModelError("hub_answer_invalid", endpoint=address, detail=detail.splitlines()[0][:120])


def unreachable(address: str, detail: str) -> ModelError:
    """Returns the error that says what serves where the hub cannot be reached."""
    from vozmetro.models.catalogue import catalogue

    entries = catalogue().values()
    names = [entry.name for entry in entries if entry.hub is None and not entry.converted_from]
    lines = detail.splitlines() or [""]
    return ModelError(
        "hub_unreachable", endpoint=address, detail=lines[0][:120], names=", ".join(names)
    )
