"""The messages of a realtime conversation, in their order."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from vozmetro.pipeline.reply.dialogue import MOST_CHARACTERS, TURNS, Exchange
from vozmetro.serve.realtime_events import MOST_ITEMS, RefusedError

ROOT = "root"
"""What a client calls the place before the first message."""


class Items:
    """Messages as they are told; the oldest go where there are too many."""

    def __init__(self) -> None:
        self._items: list[dict[str, Any]] = []
        self._texts: dict[str, str] = {}
        self._lengths: dict[str, float] = {}

    @property
    def last(self) -> str | None:
        """Id of the last message."""
        return self._items[-1]["id"] if self._items else None

    def add(
        self, item: dict[str, Any], text: str = "", audio_ms: float = 0, after: str | None = None
    ) -> str | None:
        """Puts a message after another, or last; returns the id of the one before it.

        Raises:
            RefusedError: Its id is taken, or the one before it is not there.
        """
        if any(one["id"] == item["id"] for one in self._items):
            raise RefusedError("realtime_item_exists", "item.id")
        place = len(self._items) if after is None else self._after(after)
        before = self._items[place - 1]["id"] if place else None
        self._items.insert(place, item)
        self._texts[item["id"]] = text
        self._lengths[item["id"]] = audio_ms
        while len(self._items) > MOST_ITEMS:
            self.remove(self._items[0]["id"])
        return before

    def _after(self, name: str) -> int:
        return 0 if name == ROOT else self._place(name, "previous_item_id") + 1

    def get(self, name: str) -> dict[str, Any]:
        """Returns a message.

        Raises:
            RefusedError: There is none with this id.
        """
        return self._items[self._place(name)]

    def remove(self, name: str) -> None:
        """Takes a message out.

        Raises:
            RefusedError: There is none with this id.
        """
        del self._items[self._place(name)]
        self._texts.pop(name)
        self._lengths.pop(name)

    def heard(self, name: str, text: str) -> None:
        """Says what was spoken in a message, if it is still there."""
        for one in self._items:
            if one["id"] == name:
                one["content"][0]["transcript"] = text
                self._texts[name] = text

    def truncate(self, name: str, index: int, end_ms: int) -> None:
        """Forgets what of an answer was not heard.

        Its words go too, since nobody knows which of them were heard.

        Raises:
            RefusedError: It is no spoken answer, or shorter than that.
        """
        item = self.get(name)
        content = item["content"]
        if item["role"] != "assistant" or not content or not content[0]["type"].endswith("audio"):
            raise RefusedError("realtime_not_aloud", "item_id")
        if index != 0:
            raise RefusedError("realtime_invalid_value", "content_index", detail="it is 0")
        # Clients round up to whole milliseconds, or to the frame they play.
        if end_ms > self._lengths[name] + 50:
            detail = f"its audio is {self._lengths[name]:.0f} ms long"
            raise RefusedError("realtime_invalid_value", "audio_end_ms", detail=detail)
        self._lengths[name] = float(end_ms)
        content[0]["transcript"] = ""
        self._texts[name] = ""

    def asked(self) -> tuple[str, str] | None:
        """Returns the id and text of the last message of the user."""
        for one in reversed(self._items):
            if one["role"] == "user":
                return one["id"], self._texts[one["id"]]
        return None

    def past(self) -> list[Exchange]:
        """Returns what the user said and was answered, the oldest first."""
        said = [(one["role"], self._texts[one["id"]]) for one in self._items]
        return exchanges(said)

    def _place(self, name: str, param: str = "item_id") -> int:
        for place, one in enumerate(self._items):
            if one["id"] == name:
                return place
        raise RefusedError("realtime_item_not_found", param)


def exchanges(messages: Iterable[tuple[str, str]]) -> list[Exchange]:
    """Returns what was said and answered, from roles and texts; what nobody answered is left out.

    Args:
        messages: `user`, `assistant` or another role, and what they said, the oldest first.
    """
    found: list[Exchange] = []
    heard = ""
    for role, text in messages:
        if role == "user":
            heard = text
        elif role == "assistant" and heard:
            found.append(Exchange(heard[:MOST_CHARACTERS], text[:MOST_CHARACTERS]))
            heard = ""
    return found[-TURNS:]
