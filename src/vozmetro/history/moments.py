"""Dates as people write them."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

from vozmetro.errors import InputError

_AGO = re.compile(r"(\d{1,4})d")


def moment(text: str, *, end: bool = False) -> float:
    """Returns a moment in seconds since 1970.

    Args:
        text: A date (`2026-11-23`), a date with a time, or `7d` for seven days ago.
        end: A date alone means its end and not its beginning.

    Raises:
        InputError: `bad_date`.
    """
    ago = _AGO.fullmatch(text.strip())
    try:
        if ago:
            return (datetime.now(UTC) - timedelta(days=int(ago[1]))).timestamp()
        found = datetime.fromisoformat(text.strip())
        if end and len(text.strip()) == len("2026-11-23"):
            found += timedelta(days=1)
        return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError) as error:
        raise InputError("bad_date", given=text) from error
