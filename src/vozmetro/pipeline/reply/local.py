"""A language model on this machine: greedy, token by token, stopped between any two."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path
from threading import Lock
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from vozmetro.engines.base import LanguageModel
from vozmetro.errors import InputError, ModelError
from vozmetro.pipeline.config import LocalConfig
from vozmetro.pipeline.gate import Gate
from vozmetro.pipeline.protocols import Cancelled
from vozmetro.pipeline.reply.chatml import ChatMl, Detokenizer
from vozmetro.pipeline.reply.dialogue import Exchange

MOST_CHARACTERS = 2000
"""Of what the user said that is read."""
GATE_S = 10.0
"""Seconds that a token waits for its place before the turn is given up as busy."""
_LEAST = 16
"""Tokens that a question must have room for."""


@runtime_checkable
class Extending(Protocol):
    """A language model that can read on after tokens that it has seen."""

    def extend(self, ids: NDArray[np.int64], keep: int) -> NDArray[np.float32]:
        """See `OrtLanguageModel.extend`."""


class Local:
    """Implements `Reply` and `Remembering`. For several threads at once.

    The model has one cache, and it is not held between two pieces of an answer: whoever finds that
    another used it reads its own words anew. What both have in common at the beginning is not read
    again: in a conversation that goes on, that is all but what is new.

    Args:
        model: The language model.
        tokenizer: Its `tokenizers.Tokenizer`.
        config: How it answers.
        path: Of the model, for errors.
        limit: Tokens that it can read at most, if it says.

    Attributes:
        gate: Where each step waits for other inferences, once it is set; nobody may call while
            in it.

    Raises:
        ModelError: `lm_no_chat`; or `lm_other_tokenizer`, for one with more tokens than the model.
        InputError: `lm_system_long` where `system` leaves no room for a question.
    """

    def __init__(
        self,
        model: LanguageModel,
        tokenizer: Any,
        config: LocalConfig,
        path: Path,
        limit: int | None = None,
    ) -> None:
        size = int(tokenizer.get_vocab_size(with_added_tokens=True))
        if size > model.vocabulary:
            raise ModelError(
                "lm_other_tokenizer", path=path, tokens=size, vocabulary=model.vocabulary
            )
        self._model, self._tokenizer, self._config = model, tokenizer, config
        self._chat = ChatMl(tokenizer, path)
        self._context = min(config.context, limit or config.context)
        self._most = min(config.max_tokens, self._context // 2)
        room = self._context - self._most
        needed = len(self._chat.prompt(config.system, (), "", room=room)) + _LEAST
        if needed > room:
            raise InputError("lm_system_long", path=path, needed=needed, room=room)
        self.gate: Gate | None = None
        self._lock = Lock()
        self._user: object = None
        self._seen: list[int] = []

    def stream(self, text: str, language: str, cancelled: Cancelled) -> Iterator[str]:
        """See `Reply.stream`."""
        return self.answer((), text, language, cancelled)

    def answer(
        self, history: Sequence[Exchange], text: str, language: str, cancelled: Cancelled
    ) -> Iterator[str]:
        """See `Remembering.answer`.

        Raises:
            BusyError: No place was free in the gate.
        """
        del language
        config = self._config
        past = history[-config.turns :] if config.turns else ()
        prompt = self._chat.prompt(
            config.system,
            past,
            text[:MOST_CHARACTERS],
            room=self._context - self._most,
            no_thinking=config.no_thinking,
        )
        letters = Detokenizer(self._tokenizer)
        begun = thinking = False
        for token in self._tokens(prompt, cancelled):
            if self._chat.thoughts is not None and token in self._chat.thoughts:
                # Thoughts are not for the voice.
                thinking = token == self._chat.thoughts[0]
            elif not thinking and (piece := letters.add(token)):
                # Nothing is spoken of the line breaks after thoughts.
                piece = piece if begun else piece.lstrip()
                if piece:
                    begun = True
                    yield piece

    def _tokens(self, prompt: list[int], cancelled: Cancelled) -> Iterator[int]:
        """Yields the likeliest tokens after a prompt, up to a stop."""
        me, made = object(), list[int]()
        while len(made) < self._most and not cancelled():
            # The place is free between tokens, so that others' turns go on.
            with self.gate.turn(GATE_S) if self.gate else nullcontext():
                token = self._next(me, prompt, made)
            if token in self._chat.stops:
                return
            made.append(token)
            yield token

    def _next(self, me: object, prompt: list[int], made: list[int]) -> int:
        with self._lock:
            seen, mine = self._seen, self._user is me
            # Nobody's until it is done: after a failure nothing is known of the cache.
            self._user, self._seen = None, []
            if mine:
                scores = self._model.decode(made[-1])
                seen.append(made[-1])
            else:
                wanted = prompt + made
                scores = self._read(wanted, seen)
                seen = wanted
            self._user, self._seen = me, seen
            return int(scores.argmax())

    def _read(self, wanted: list[int], seen: list[int]) -> NDArray[np.float32]:
        """Reads tokens, but for those at the beginning that were seen already."""
        # The last one is read in any case, for what follows it.
        pairs = zip(wanted[:-1], seen, strict=False)
        keep = next((n for n, (one, other) in enumerate(pairs) if one != other), None)
        if keep is None:
            keep = min(len(wanted) - 1, len(seen))
        if keep and isinstance(self._model, Extending):
            return self._model.extend(np.array(wanted[keep:], np.int64), keep)
        return self._model.prefill(np.array(wanted, np.int64))
