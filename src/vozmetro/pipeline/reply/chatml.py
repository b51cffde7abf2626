r"""Conversations as tokens, in the format that Qwen's models are trained on (ChatML).

    <|im_start|>system\n...<|im_end|>\n<|im_start|>user\n...<|im_end|>\n<|im_start|>assistant\n

Source: the chat template in `tokenizer_config.json` of Qwen3 and Qwen3-VL. A model that thinks
aloud is told not to as that template does it: with thoughts that are empty.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vozmetro.errors import ModelError
from vozmetro.pipeline.reply.dialogue import Exchange

START, END = "<|im_start|>", "<|im_end|>"
STOPS = (END, "<|endoftext|>")
THINK, THOUGHT = "<think>", "</think>"
_HELD = 16
"""Tokens that are waited for, at most, before a letter is given up as broken."""


class ChatMl:
    """Writes prompts, and knows where an answer ends.

    Words that users say cannot pass for the format's own tokens.

    Args:
        tokenizer: A `tokenizers.Tokenizer`.
        path: Of the model, for errors.

    Attributes:
        stops: Tokens that end an answer.
        thoughts: Tokens that open and close thoughts; None where it has none.

    Raises:
        ModelError: `lm_no_chat` where it does not have the format's tokens.
    """

    def __init__(self, tokenizer: Any, path: Path) -> None:
        self._tokenizer = tokenizer
        # Words are words, whatever they look like: `<|im_end|>` said by a user ends nothing.
        tokenizer.encode_special_tokens = True
        start, end = tokenizer.token_to_id(START), tokenizer.token_to_id(END)
        if start is None or end is None:
            raise ModelError("lm_no_chat", path=path, missing=START if start is None else END)
        self._start, self._end = int(start), int(end)
        known = (tokenizer.token_to_id(stop) for stop in STOPS)
        self.stops = frozenset(int(one) for one in known if one is not None)
        pair = tokenizer.token_to_id(THINK), tokenizer.token_to_id(THOUGHT)
        self.thoughts = None if None in pair else (int(pair[0]), int(pair[1]))

    def prompt(
        self,
        system: str,
        history: Sequence[Exchange],
        text: str,
        *,
        room: int,
        no_thinking: bool = False,
    ) -> list[int]:
        """Returns the tokens of a conversation up to where the assistant begins to answer.

        Args:
            system: What the model is told first.
            history: What was said before; the oldest is left out where all does not fit.
            text: What the user says now; its end is left out where it does not fit.
            room: Tokens at most.
            no_thinking: Adds empty thoughts.
        """
        head = self._message("system", self._encode(system)) if system else []
        tail = [self._start, *self._encode("assistant\n")]
        if no_thinking and self.thoughts is not None:
            opened, closed = self.thoughts
            gap = self._encode("\n\n")
            tail += [opened, *gap, closed, *gap]
        # What the format itself takes for this turn.
        left = room - len(head) - len(tail) - len(self._message("user", []))
        said = self._encode(text)[: max(1, left)]
        left -= len(said)
        past: list[int] = []
        for exchange in reversed(history):
            turn = self._message("user", self._encode(exchange.heard))
            turn += self._message("assistant", self._encode(exchange.said))
            if len(turn) > left:
                break
            past, left = turn + past, left - len(turn)
        return [*head, *past, *self._message("user", said), *tail]

    def _message(self, role: str, content: list[int]) -> list[int]:
        return [
            self._start,
            *self._encode(f"{role}\n"),
            *content,
            self._end,
            *self._encode("\n"),
        ]

    def _encode(self, text: str) -> list[int]:
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False).ids
        return ids


class Detokenizer:
    """Tokens to text, one by one; a letter of several tokens comes when it is whole.

    Args:
        tokenizer: A `tokenizers.Tokenizer`.
    """

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._before: list[int] = []
        self._held: list[int] = []

    def add(self, token: int) -> str:
        """Returns what is new with this token; empty while a letter is not whole."""
        self._held.append(token)
        known = self._decode(self._before)
        text = self._decode([*self._before, *self._held])
        if text.endswith("\N{REPLACEMENT CHARACTER}") and len(self._held) < _HELD:
            return ""
        # Tokens may look different behind others (a space), so that some stay in sight.
        self._before, self._held = self._held, []
        return text[len(known) :].replace("\N{REPLACEMENT CHARACTER}", "")

    def _decode(self, tokens: list[int]) -> str:
        text: str = self._tokenizer.decode(tokens, skip_special_tokens=True)
        return text
