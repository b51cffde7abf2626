"""A small hub of models on this machine: the part of the HTTP API that huggingface_hub 2.4 asks.

Model information with sizes and hashes, references, and files by `resolve` with `ETag`,
`X-Repo-Commit`, `X-Linked-Size`, `X-Linked-ETag`, a redirect for files kept outside git, and byte
ranges. It can misbehave: cut connections, send other bytes, move references.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Self
from urllib.parse import unquote, urlsplit

LARGE = (".onnx", ".onnx_data", ".onnx.data", ".bin", ".safetensors")
"""Files that a hub keeps outside git, with their SHA-256."""


def commit_of(files: dict[str, bytes]) -> str:
    """A commit id that hangs on the content."""
    text = "".join(f"{name}{hashlib.sha256(data).hexdigest()}" for name, data in files.items())
    return hashlib.sha1(text.encode()).hexdigest()


@dataclass
class Repo:
    """Commits by id, and what the names stand for."""

    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)

    def push(self, files: dict[str, bytes], *, branch: str = "main", tag: str | None = None) -> str:
        commit = commit_of(files)
        self.commits[commit] = files
        self.branches[branch] = commit
        if tag:
            self.tags[tag] = commit
        return commit

    def resolve(self, revision: str) -> str | None:
        if revision in self.commits:
            return revision
        return self.tags.get(revision) or self.branches.get(revision)


class _Quiet(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        """Says nothing of clients that hang up: tests make them."""


class Hub:
    """The server. Use it in a `with` block.

    Attributes:
        repos: By `OWNER/NAME`.
        asked: Every request, as `METHOD path range`.
        cut: Bytes of a body after which the connection is closed; once for each entry.
        served: Bytes of bodies sent.
        lies: What is sent instead of a file's content, by name.
        extra: Siblings that are listed besides, as the API writes them.
        ignores_ranges: Whether it sends everything whatever is asked.
        status: Answered to everything where it is not None.
        serves_commit: Said in X-Repo-Commit where it is not None.
        hold: Where set, a body stops after `hold_after` bytes until the event is set.
    """

    def __init__(self) -> None:
        self.repos: dict[str, Repo] = {}
        self.asked: list[str] = []
        self.cut: list[int] = []
        self.served = 0
        self.lies: dict[str, bytes] = {}
        self.extra: list[dict[str, object]] = []
        self.ignores_ranges = False
        self.status: int | None = None
        self.serves_commit: str | None = None
        self.hold: threading.Event | None = None
        self.hold_after = 0
        hub = self

        class Handler(_Handler):
            pass

        Handler.hub = hub
        self._server = _Quiet(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    def repo(self, name: str) -> Repo:
        return self.repos.setdefault(name, Repo())

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        if self._thread.is_alive():
            if self.hold:
                self.hold.set()
            self._server.shutdown()
            self._server.server_close()
            self._thread.join()

    def bodies(self) -> list[str]:
        """Requests for content: those of the place that large files are redirected to, and small
        files."""
        return [one for one in self.asked if "/resolve/" in one and not one.startswith("HEAD")]


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.hub.asked.append(f"{self.command} {path} {self.headers.get('Range', '')}".strip())
        if self.hub.status is not None:
            self._send(self.hub.status, b"{}")
        elif found := re.fullmatch(r"/api/models/([^/]+/[^/]+)/refs", path):
            self._refs(found[1])
        elif found := re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/revision/(.+))?", path):
            self._info(found[1], found[2] or "main")
        elif found := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            self._file(found[1], found[2], found[3])
        elif found := re.fullmatch(r"/cdn/([0-9a-f]{64})/(.+)", path):
            self._content(found[1], found[2])
        else:
            self._missing("EntryNotFound")

    def _missing(self, code: str) -> None:
        self._send(404, b"{}", {"X-Error-Code": code})

    def _refs(self, name: str) -> None:
        repo = self.hub.repos.get(name)
        if repo is None:
            self._missing("RepoNotFound")
            return

        def listed(kind: str, names: dict[str, str]) -> list[dict[str, str]]:
            return [
                {"name": one, "ref": f"refs/{kind}/{one}", "targetCommit": commit}
                for one, commit in names.items()
            ]

        found = {
            "branches": listed("heads", repo.branches),
            "tags": listed("tags", repo.tags),
            "converts": [],
        }
        self._send(200, json.dumps(found).encode())

    def _info(self, name: str, revision: str) -> None:
        repo = self.hub.repos.get(name)
        commit = repo.resolve(revision) if repo else None
        if repo is None or commit is None:
            self._missing("RevisionNotFound" if repo else "RepoNotFound")
            return
        siblings: list[dict[str, object]] = [*self.hub.extra]
        for file, data in repo.commits[commit].items():
            blob = hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
            listed: dict[str, object] = {"rfilename": file, "size": len(data), "blobId": blob}
            if file.endswith(LARGE):
                sha256 = hashlib.sha256(data).hexdigest()
                listed["lfs"] = {"sha256": sha256, "size": len(data), "pointerSize": 134}
            siblings.append(listed)
        self._send(200, json.dumps({"id": name, "sha": commit, "siblings": siblings}).encode())

    def _file(self, name: str, revision: str, file: str) -> None:
        repo = self.hub.repos.get(name)
        commit = repo.resolve(revision) if repo else None
        if repo is None or commit is None:
            self._missing("RevisionNotFound" if repo else "RepoNotFound")
            return
        data = repo.commits[commit].get(file)
        if data is None:
            self._missing("EntryNotFound")
            return
        said = {"X-Repo-Commit": self.hub.serves_commit or commit}
        if file.endswith(LARGE):
            sha256 = hashlib.sha256(data).hexdigest()
            said |= {"X-Linked-ETag": f'"{sha256}"', "X-Linked-Size": str(len(data))}
            said["Location"] = f"{self.hub.url}/cdn/{sha256}/{file}"
            self._send(302, b"", said)
            return
        blob = hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
        self._body(self.hub.lies.get(file, data), {**said, "ETag": f'"{blob}"'})

    def _content(self, sha256: str, file: str) -> None:
        for repo in self.hub.repos.values():
            for files in repo.commits.values():
                data = files.get(file)
                if data is not None and hashlib.sha256(data).hexdigest() == sha256:
                    self._body(self.hub.lies.get(file, data), {"ETag": f'"{sha256}"'})
                    return
        self._missing("EntryNotFound")

    def _body(self, data: bytes, headers: dict[str, str]) -> None:
        status, start = 200, 0
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        if asked and not self.hub.ignores_ranges:
            start = int(asked[1])
            if start >= len(data):
                self._send(416, b"", {"Content-Range": f"bytes */{len(data)}"})
                return
            status = 206
            headers |= {"Content-Range": f"bytes {start}-{len(data) - 1}/{len(data)}"}
        rest = data[start:]
        self.send_response(status)
        for key, value in {**headers, "Content-Length": str(len(rest))}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        if self.hub.hold is not None and len(rest) > self.hub.hold_after:
            self.wfile.write(rest[: self.hub.hold_after])
            self.wfile.flush()
            self.hub.hold.wait()
            self.close_connection = True
            return
        cut = self.hub.cut.pop(0) if self.hub.cut and len(rest) > self.hub.cut[0] else None
        sent = rest if cut is None else rest[:cut]
        self.hub.served += len(sent)
        self.wfile.write(sent)
        self.wfile.flush()
        self.close_connection = self.close_connection or cut is not None

    def _send(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for key, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
