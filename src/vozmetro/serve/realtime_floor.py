"""Who has said what in a realtime session: the user's turns, and the answer on its way."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from vozmetro.i18n import t
from vozmetro.pipeline import protocols as happened
from vozmetro.serve.answering import Wishes
from vozmetro.serve.growing import Growing
from vozmetro.serve.realtime_events import RefusedError
from vozmetro.serve.realtime_items import Items
from vozmetro.serve.realtime_response import Answer, Send, new_id
from vozmetro.serve.realtime_settings import Settings

_MOST_TURNS = 16


@dataclass
class Turn:
    """What the user says, from its first sound to the end of the turn.

    Attributes:
        item: Id of the message that it becomes.
        words: What was told of it so far.
        committed: The message is in the conversation.
        heard: What was said; None until that is known.
        from_ms: Where in all the audio it began.
        seconds: How long it is.
    """

    item: str = field(default_factory=lambda: new_id("item"))
    words: Growing = field(default_factory=Growing)
    committed: bool = False
    heard: str | None = None
    from_ms: float = 0.0
    seconds: float = 0.0


class Floor:
    """Turns, messages and the answer of one session.

    Args:
        send: Takes events for the client.
        beta: Whether they are those of the beta.
        settings: Returns what holds now.
        wishes: What is wanted of the next answer to speech.
        heard_ms: Returns the length of all the audio so far, in ms.
        limits: Returns the `rate_limits` to tell after a response.
    """

    def __init__(
        self,
        *,
        send: Send,
        beta: bool,
        settings: Callable[[], Settings],
        wishes: Wishes,
        heard_ms: Callable[[], float],
        limits: Callable[[], list[dict[str, Any]]],
    ) -> None:
        self.items = Items()
        self.answer: Answer | None = None
        self._send, self._beta, self._settings, self._wishes = send, beta, settings, wishes
        self._heard_ms, self._limits = heard_ms, limits
        self._conversation = new_id("conv")
        self._turns: dict[str, Turn] = {}
        self._unbound: deque[Turn] = deque()
        self._answered: Turn | None = None
        self._kept = True
        self._broken = ""

    # What the user says

    def happens(self, event: happened.Event) -> str | None:
        """Tells what happened in a conversation that listens; returns what is still to be answered.

        That is so where an answer was asked for after the pipeline had decided not to give one.
        """
        if not event.turn:
            self._fails(event)
            return None
        turn = self._turn(event.turn)
        match event:
            case happened.SpeechStarted():
                self._broken = ""
                self._starts(turn)
            case happened.SpeechStopped():
                self._stops(turn)
            case happened.Partial():
                self._guesses(turn, turn.words.guess(event.text))
            case happened.Transcript():
                self._hears(turn, event.text)
            case happened.ReplyText() | happened.Audio():
                if self._answered is turn:
                    self.pieces(event)
            case happened.TurnEnded():
                del self._turns[event.turn]
                return self._ends(turn, event)
        return None

    def _fails(self, event: happened.Event) -> None:
        """Tells why no turn could begin: once, as the pipeline tries again with every sound."""
        code = event.failure if isinstance(event, happened.TurnEnded) else ""
        if code and code != self._broken:
            self._broken = code
            self._send({"type": "error", "error": failed(code)})
        while self._unbound:
            turn = self._unbound.popleft()
            self._transcription(turn, "failed", error=failed(code))
            if turn is self._answered:
                self._finish("failed", failure=code)

    def _turn(self, name: str) -> Turn:
        if name not in self._turns:
            new = Turn(from_ms=self._heard_ms())
            self._turns[name] = self._unbound.popleft() if self._unbound else new
            if len(self._turns) > _MOST_TURNS:
                del self._turns[next(iter(self._turns))]
        return self._turns[name]

    def _starts(self, turn: Turn) -> None:
        if not self._settings().endpoint:
            return
        self._send(
            {
                "type": "input_audio_buffer.speech_started", "item_id": turn.item,
                "audio_start_ms": round(self._heard_ms()),
            }
        )  # fmt: skip
        if self._answered is not turn:
            self.stop("turn_detected")

    def _stops(self, turn: Turn) -> None:
        if self._settings().endpoint and not turn.committed:
            self._send(
                {
                    "type": "input_audio_buffer.speech_stopped", "item_id": turn.item,
                    "audio_end_ms": round(self._heard_ms()),
                }
            )  # fmt: skip
            self._commits(turn)

    def committed(self, from_ms: float) -> None:
        """Ends the turn of a client that says so; the pipeline may know nothing of it yet.

        Args:
            from_ms: Where in all the audio it began.

        Raises:
            RefusedError: Nothing is heard, since no turn could begin.
        """
        if self._broken:
            raise RefusedError("realtime_not_heard", reason=self._broken)
        turn = next((one for one in self._turns.values() if not one.committed), None)
        if turn is None:
            turn = Turn()
            self._unbound.append(turn)
        turn.from_ms = from_ms
        self._commits(turn)

    def _commits(self, turn: Turn) -> None:
        turn.committed = True
        turn.seconds = max(0.0, self._heard_ms() - turn.from_ms) / 1000
        item = {
            "id": turn.item, "object": "realtime.item", "type": "message", "status": "completed",
            "role": "user", "content": [{"type": "input_audio", "transcript": None}],
        }  # fmt: skip
        before = self.items.last
        self._send(
            {
                "type": "input_audio_buffer.committed", "previous_item_id": before,
                "item_id": turn.item,
            }
        )  # fmt: skip
        self.put(item, "")

    def put(self, item: dict[str, Any], text: str, after: str | None = None) -> None:
        """Puts a whole message into the conversation, and says so.

        Raises:
            RefusedError: As `Items.add` does.
        """
        before = self.items.add(item, text, after=after)
        name = "created" if self._beta else "added"
        self._send({"type": f"conversation.item.{name}", "previous_item_id": before, "item": item})
        if not self._beta:
            told = {"type": "conversation.item.done", "previous_item_id": before, "item": item}
            self._send(told)

    def _guesses(self, turn: Turn, words: str) -> None:
        if words and self._settings().transcribes:
            self._transcription(turn, "delta", delta=words)

    def _hears(self, turn: Turn, text: str) -> None:
        if not turn.committed:
            self._commits(turn)
        turn.heard = text
        self.items.heard(turn.item, text)
        self._guesses(turn, turn.words.known(text))
        if self._settings().transcribes:
            usage = {"type": "duration", "seconds": round(turn.seconds, 3)}
            self._transcription(turn, "completed", transcript=text, usage=usage)
        if text and self._settings().answers and self._answered is not turn:
            self.stop("turn_detected")
            self.begin(self._settings().aloud)
            self._answered = turn

    def _transcription(self, turn: Turn, kind: str, **fields: object) -> None:
        name = f"conversation.item.input_audio_transcription.{kind}"
        self._send({"type": name, "item_id": turn.item, "content_index": 0, **fields})

    def _ends(self, turn: Turn, event: happened.TurnEnded) -> str | None:
        if event.failure and turn.committed and turn.heard is None:
            self._transcription(turn, "failed", error=failed(event.failure))
        elif event.failure and self._answered is not turn:
            self._send({"type": "error", "error": failed(event.failure)})
        if self._answered is not turn:
            return None
        # An answer that was asked for too late for this turn, to something that was said:
        if self._wishes.withdraw() and turn.heard and not (event.failure or event.cancelled):
            self._answered = None
            return turn.heard
        self.ended(event)
        return None

    def forget(self) -> None:
        """Forgets the turns under way; an answer to one of them is over."""
        turns = [*self._turns.values(), *self._unbound]
        if self._answered is not None and any(one is self._answered for one in turns):
            self.stop("client_cancelled")
        self._turns.clear()
        self._unbound.clear()
        self._broken = ""

    # The answer

    def unanswered(self) -> tuple[Turn | None, str]:
        """Returns what an answer would answer: the last turn if it is under way, or a text.

        Raises:
            RefusedError: The user has said nothing yet.
        """
        asked = self.items.asked()
        if asked is None:
            raise RefusedError("realtime_conversation_empty")
        name, text = asked
        under_way = [*self._turns.values(), *self._unbound]
        turn = next((one for one in under_way if one.item == name), None)
        return turn, text

    def begin(
        self,
        aloud: bool,
        *,
        to: Turn | None = None,
        kept: bool = True,
        metadata: dict[str, str] | None = None,
    ) -> None:
        """Begins an answer.

        Args:
            aloud: Whether it is spoken.
            to: The turn that it answers, if one is under way.
            kept: Whether it becomes a message of the conversation.
            metadata: What the client attached to it.
        """
        self._answered, self._kept = to, kept
        conversation = self._conversation if kept else None
        self.answer = Answer(
            self._send, self._beta, self._settings(), aloud=aloud, conversation=conversation,
            metadata=metadata,
        )  # fmt: skip

    def pieces(self, event: happened.Event) -> None:
        """Tells a piece of the answer."""
        if self.answer is None:
            return
        if isinstance(event, happened.ReplyText):
            self.answer.say(event.text, self.items.last)
        elif isinstance(event, happened.Audio) and self.answer.aloud:
            self.answer.play(event.samples, event.rate, self.items.last)

    def ended(self, event: happened.TurnEnded) -> None:
        """Ends the answer as its turn ended."""
        if event.failure:
            self._finish("failed", failure=event.failure)
        elif event.cancelled:
            self.stop("turn_detected")
        else:
            self._finish("completed")

    def stop(self, reason: str) -> None:
        """Ends the answer at once, if there is one; what still comes of it is not told."""
        self._finish("cancelled", reason)

    def _finish(self, status: str, reason: str = "", failure: str = "") -> None:
        answer, self.answer, self._answered = self.answer, None, None
        if answer is None:
            return
        self._wishes.withdraw()
        answer.finish(status, reason, failure)
        if self._kept and answer.begun:
            told = answer.message("completed" if status == "completed" else "incomplete")
            self.items.add(told, answer.text, answer.audio_ms)
        self._send({"type": "rate_limits.updated", "rate_limits": self._limits()})


def failed(code: str) -> dict[str, Any]:
    """Returns an error of the pipeline as the protocol tells it."""
    try:
        message = t(f"errors.{code}", "en")
    except KeyError:
        # Its sentence has fields that only the log knows.
        message = f"The turn failed ({code}); the server's log says more."
    return {"type": "server_error", "code": code, "message": message, "param": None}
