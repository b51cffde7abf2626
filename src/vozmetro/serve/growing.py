"""A transcript that may still change, told as pieces that cannot."""

from __future__ import annotations


class Growing:
    """Tells those words early that two guesses in a row agree on.

    D. Machacek, R. Dabre and O. Bojar, "Turning Whisper into Real-Time Transcription System",
    IJCNLP-AACL 2023 (LocalAgreement-2, after Liu et al., Interspeech 2020).
    """

    def __init__(self) -> None:
        self._told: list[str] = []
        self._guess: list[str] = []

    def guess(self, text: str) -> str:
        """Takes what seems to have been said so far; returns the words to tell now, or nothing."""
        words = text.split()
        agreed = _common(words, self._guess)
        self._guess = words
        if len(agreed) <= len(self._told) or agreed[: len(self._told)] != self._told:
            return ""
        return self._tell(agreed)

    def known(self, text: str) -> str:
        """Takes what was said; returns the rest of it, or nothing where words told were wrong."""
        words = text.split()
        return self._tell(words) if words[: len(self._told)] == self._told else ""

    def _tell(self, words: list[str]) -> str:
        new = words[len(self._told) :]
        gap = " " if self._told and new else ""
        self._told = words
        return gap + " ".join(new)


def _common(one: list[str], other: list[str]) -> list[str]:
    same = 0
    while same < min(len(one), len(other)) and one[same] == other[same]:
        same += 1
    return one[:same]
