"""Answers by rule: patterns on words, and the answer of the first that fits."""

from __future__ import annotations

from collections.abc import Iterator

from vozmetro.pipeline.config import TemplateConfig
from vozmetro.pipeline.protocols import Cancelled
from vozmetro.pipeline.reply.patterns import TEXT, Pattern
from vozmetro.speech.normalize import plain_words

MOST_CHARACTERS = 2000
"""What is longer is cut before it is compared: no utterance is."""


class Template:
    """Implements `Reply`.

    Args:
        config: Its rules, as `parse` has checked them.
    """

    eager = True

    def __init__(self, config: TemplateConfig) -> None:
        self._fallback = config.fallback
        self._rules = [
            ([one for words in rule.match if (one := Pattern.parse(words))], rule.say)
            for rule in config.rules
        ]

    def stream(self, text: str, language: str, cancelled: Cancelled) -> Iterator[str]:
        """See `Reply.stream`."""
        del language
        heard = text[:MOST_CHARACTERS]
        if heard.strip() and not cancelled():
            yield self.answer_to(heard)

    def answer_to(self, text: str) -> str:
        """Returns the answer of the first rule that fits, else the fallback."""
        words = plain_words(text).split()
        for patterns, answer in self._rules:
            for pattern in patterns:
                kept = pattern.match(words)
                if kept is not None:
                    return answer.format(**{TEXT: text.strip(), **kept})
        return self._fallback.format(**{TEXT: text.strip()})
