"""Whether a model is what it was, is safe to open, and loads here: named checks, each with why.

What a program could be hurt by is read in this process only as far as its structure; the runtime
meets the file in a process of its own with little memory (`trial`).
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import psutil

from vozmetro import packages, units
from vozmetro.errors import InputError, VozmetroError
from vozmetro.models import checks, ctranslate2, overview, receipt, safety
from vozmetro.models.catalogue import catalogue
from vozmetro.models.checks import CheckedOnnx, Remark

Status = Literal["pass", "fail", "skip"]

STATIC = ("format", "external", "graph", "operators", "versions")
"""Checks of a graph's structure, in the order in which they are made."""
_FAILS = {
    "external_missing": "external",
    "external_short": "external",
    "external_outside": "external",
    "onnx_no_ports": "graph",
    "graph_cyclic": "graph",
    "graph_duplicate": "graph",
    "graph_absurd": "graph",
    "custom_ops": "operators",
    "opset_unsupported": "versions",
}
"""Which check an error of `check_onnx` fails; `format` for the rest."""
RAM_FACTOR, RAM_BASE = 2.0, 400 * units.MB
"""The trial's cap: times the RAM that loading is expected to need, plus the program's own."""
TRIAL_S, TRIAL_BYTES_PER_S = 60.0, 50 * units.MB
"""Seconds that a trial may take, plus one for so many bytes of weights."""
_POLL_S = 0.05
_DETAIL = 300


@dataclass(frozen=True)
class Check:
    """One check.

    Attributes:
        part: The file, or empty for the model as a whole.
        name: `files`, one of STATIC, `checker`, `load`, `run`, or `pickles`.
        status: `skip` where it could not be made, or does not apply.
        reason: Why it failed or was skipped: a code of the catalogues with its section.
    """

    part: str
    name: str
    status: Status
    reason: Remark | None = None


@dataclass(frozen=True)
class Verification:
    """Every check of a model."""

    name: str
    path: Path
    checks: tuple[Check, ...]

    @property
    def ok(self) -> bool:
        """Whether nothing failed."""
        return all(check.status != "fail" for check in self.checks)

    def to_json(self) -> dict[str, Any]:
        """Returns it for a program to read."""
        found = [
            {
                "part": check.part,
                "check": check.name,
                "status": check.status,
                "reason": check.reason.code if check.reason else None,
                "fields": dict(check.reason.fields) if check.reason else {},
            }
            for check in self.checks
        ]
        return {
            "schema_version": 1,
            "name": self.name,
            "path": str(self.path),
            "ok": self.ok,
            "checks": found,
        }


def verify(name: str | Path, *, trial: bool = True) -> Verification:
    """Checks a model.

    Args:
        name: A name of the catalogue, or a path: an `.onnx`, or a folder of ONNX or CTranslate2.
        trial: Whether to load it, in a process with little memory.

    Raises:
        InputError: `fetch_unknown`, `folder_not_a_model`, `folder_graphs`: there is nothing to
            verify, or too much.
        MissingExtraError: The catalogue's data package is not installed.
    """
    text = str(name)
    try:
        path, known = overview.located(text)
    except VozmetroError as error:
        if text not in catalogue() or error.code in ("missing_extra", "not_fetched"):
            raise
        return Verification(text, Path(text), (_failed("", "files", error),))
    graphs = overview.graphs_of(path)
    found: list[Check] = []
    if packages.is_dir(path) and not graphs:
        if not packages.is_file(path / "model.bin"):
            raise InputError("folder_not_a_model", path=path)
        found += _ctranslate2(path, known)
    for graph in graphs:
        part = graph.relative_to(path).as_posix() if graph != path else graph.name
        found += _graph(part, graph, known, trial=trial)
    if packages.is_dir(path):
        found += _pickles(path)
    return Verification(text, path, tuple(found))


def _failed(part: str, name: str, error: VozmetroError) -> Check:
    return Check(part, name, "fail", Remark(f"errors.{error.code}", error.fields))


def _skipped(part: str, name: str, code: str, **fields: str) -> Check:
    return Check(part, name, "skip", Remark(f"models.{code}", fields))


def _graph(part: str, path: Path, known: frozenset[Path], *, trial: bool) -> list[Check]:
    try:
        checked = checks.check_onnx(path)
    except VozmetroError as error:
        fails = _FAILS.get(error.code, "format")
        at = STATIC.index(fails)
        found = [Check(part, name, "pass") for name in STATIC[:at]]
        found.append(_failed(part, fails, error))
        found += [_skipped(part, name, "not_reached") for name in STATIC[at + 1 :]]
        return [_files(part, [path], known), *found]
    found = [_files(part, [path, *checked.external], known)]
    found += [
        Check(part, name, "pass")
        if name != "external" or checked.external
        else _skipped(part, name, "no_external")
        for name in STATIC
    ]
    if any(check.status == "fail" for check in found):
        return found
    return [*found, *(_tried(part, path, checked) if trial else ())]


def _files(part: str, files: list[Path], known: frozenset[Path]) -> Check:
    """Compares files with what was recorded when they were fetched.

    Args:
        part: The graph.
        files: It, and what belongs to it.
        known: Those whose hashes have just been compared with the catalogue's.
    """
    try:
        left = [file for file in files if file not in known]
        there = [file for file in left if packages.is_file(file)]
        if left and all(receipt.expected(file) is None for file in there):
            return _skipped(part, "files", "no_record")
        receipt.check((file, file.stat().st_size, packages.sha256(file)) for file in there)
    except VozmetroError as error:
        return _failed(part, "files", error)
    return Check(part, "files", "pass")


def _pickles(path: Path) -> list[Check]:
    """Says of pickles beside a model that nothing opens them."""
    beside = [
        file.relative_to(path).as_posix()
        for file in sorted(path.rglob("*"))
        if safety.is_pickle_name(file.name) and file != path / "model.bin"
    ]
    names = ", ".join(beside[:3])
    return [_skipped("", "pickles", "pickles_beside", names=names)] if beside else []


def _ctranslate2(path: Path, known: frozenset[Path]) -> list[Check]:
    part = "model.bin"
    try:
        safety.refuse_disguised(path / part)
        ctranslate2.inspect(path)
    except VozmetroError as error:
        return [_failed(part, "format", error)]
    names = ("model.bin", "config.json", "tokenizer.json")
    found = [_files(part, [path / name for name in names], known)]
    return [*found, Check(part, "format", "pass"), _skipped(part, "load", "not_tried")]


# The trial --------------------------------------------------------------------------------------


def _tried(part: str, path: Path, checked: CheckedOnnx) -> Iterator[Check]:
    """Lets another process check, load and run a graph."""
    expected = checked.inspection.expected_ram
    available = psutil.virtual_memory().available
    names = {"check": "checker", "load": "load", "run": "run"}
    if expected > available:
        fields = {"needed": units.size(expected), "available": units.size(available)}
        for name in names.values():
            yield _skipped(part, name, "no_room", **fields)
        return
    cap = round(expected * RAM_FACTOR) + RAM_BASE
    limit = TRIAL_S + checked.inspection.weight_bytes / TRIAL_BYTES_PER_S
    replies, ended = run_trial(path, cap, limit)
    told = {str(reply["step"]): reply for reply in replies}
    over = False
    for step, name in names.items():
        reply = told.get(step)
        if reply is None:
            yield (
                _unanswered(part, name, ended, cap, limit)
                if not over
                else _skipped(part, name, "not_reached")
            )
            over = True
        elif "problem" not in reply:
            yield Check(part, name, "pass")
        elif reply["problem"] == "memory":
            fields = {"limit": units.size(cap)}
            yield Check(part, name, "fail", Remark("models.trial_memory", fields))
            over = True
        elif step == "run":
            # Inputs of one element each are not what most models are made for.
            yield _skipped(part, name, "not_run")
        else:
            detail = str(reply.get("detail", ""))
            code = "models.trial_checker" if step == "check" else "models.trial_refused"
            yield Check(part, name, "fail", Remark(code, {"detail": units.plain(detail)}))
            over = over or step == "load"


def _unanswered(part: str, name: str, ended: str, cap: int, limit: float) -> Check:
    if ended == "timeout":
        fields = {"limit": f"{limit:.0f}"}
        return Check(part, name, "fail", Remark("models.trial_timeout", fields))
    if ended == "memory":
        fields = {"limit": units.size(cap)}
        return Check(part, name, "fail", Remark("models.trial_memory", fields))
    if name == "run":
        return _skipped(part, name, "not_run")
    return Check(part, name, "fail", Remark("models.trial_died", {"detail": ended}))


def run_trial(path: Path, cap: int, limit_s: float) -> tuple[list[dict[str, Any]], str]:
    """Runs the trial of one graph.

    Args:
        path: The graph.
        cap: Bytes of memory that the process may write to.
        limit_s: Seconds that it may take.

    Returns:
        What it answered, one mapping for each step, and how it ended: `ok`, `timeout`, `memory`, or
        its last words.
    """
    # -P: a module that lies in the current folder, beside untrusted models, is not imported.
    command = [sys.executable, "-P", "-m", "vozmetro.models.trial", str(path.absolute()), str(cap)]
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        with subprocess.Popen(  # noqa: S603 - our own module
            command, stdin=subprocess.DEVNULL, stdout=out, stderr=err
        ) as process:
            ended = _watch(process, cap, limit_s)
        out.seek(0)
        err.seek(0)
        replies = [
            json.loads(line) for line in out.read().splitlines(keepends=True) if line[-1:] == b"\n"
        ]
        words = err.read().decode(errors="replace").strip().splitlines()
    if ended == "ok" and process.returncode:
        last = words[-1][:_DETAIL] if words else ""
        memory = process.returncode == -9 or "bad_alloc" in last or "MemoryError" in last
        ended = "memory" if memory else f"{process.returncode} {units.plain(last)}".strip()
    return replies, ended


def _watch(process: subprocess.Popen[bytes], cap: int, limit_s: float) -> str:
    """Waits for the process; ends it when it takes too long, or more than its cap.

    Where the system enforces no cap (macOS, Windows), this is the only one.
    """
    deadline = time.monotonic() + limit_s
    while True:
        try:
            process.wait(_POLL_S)
        except subprocess.TimeoutExpired:
            if time.monotonic() > deadline:
                process.kill()
                return "timeout"
            if _private_bytes(process.pid) > cap:
                process.kill()
                return "memory"
        else:
            return "ok"


def _private_bytes(pid: int) -> int:
    """Returns the bytes that a process has for itself; mapped files are shared with the system."""
    with contextlib.suppress(psutil.Error):
        info = psutil.Process(pid).memory_info()
        return int(info.rss - getattr(info, "shared", 0))
    return 0
