"""What the server did, as one line of JSON each on standard error."""

from __future__ import annotations

import json
import logging
import sys
import time
from collections.abc import Mapping
from types import MappingProxyType
from typing import IO

LOGGER = "vozmetro.serve"
_FIELDS = "vozmetro_fields"


class _Lines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        """Returns the record as one line; fields that say nothing are left out."""
        fields = getattr(record, _FIELDS, {})
        told = {key: value for key, value in fields.items() if value not in (None, "")}
        line = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
            + f".{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "event": record.getMessage(),
            **told,
        }
        if record.exc_info:
            line["trace"] = self.formatException(record.exc_info)
        # ASCII alone: what a client sent cannot act on the terminal that shows the log.
        return json.dumps(line, default=str)


def to_stderr(stream: IO[str] | None = None) -> None:
    """Sends the log of this server, and the warnings of the web server under it, to stderr."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(_Lines())
    for name, level in ((LOGGER, logging.INFO), ("uvicorn", logging.WARNING)):
        logger = logging.getLogger(name)
        logger.handlers = [handler]
        logger.setLevel(level)
        logger.propagate = False


def log(
    event: str,
    fields: Mapping[str, object] = MappingProxyType({}),
    *,
    level: int = logging.INFO,
    failed: bool = False,
) -> None:
    """Writes a line.

    Args:
        event: What happened, a word or two that never change.
        fields: Values by name; the turn's id is `turn`.
        level: Of `logging`.
        failed: Adds the trace of the error that is being handled.
    """
    logging.getLogger(LOGGER).log(level, event, exc_info=failed, extra={_FIELDS: fields})
