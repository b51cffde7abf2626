"""The sound of each item as files: recordings as they are, or with a condition added."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Sequence
from pathlib import Path

from vozmetro.audio import SPEECH_RATE, Waveform, read
from vozmetro.errors import InputError
from vozmetro.measure.quality_records import CLEAN, NO_SPEECH, SpeechItem
from vozmetro.measure.workload import WorkItem
from vozmetro.speech import conditions
from vozmetro.speech.conditions import Condition, Noises
from vozmetro.speech.corpus import Utterance

NO_SPEECH_S = (2.0, 4.0, 6.0, 8.0, 10.0)
"""Lengths in seconds of the items without speech, of each kind: half a minute together."""

PREDICTED = 12
"""Utterances whose quality is predicted in every condition."""
_PREDICTED_LEAST_S = 1.5


def items_of(
    utterances: Sequence[Utterance], named: Sequence[Condition], *, unspoken: bool
) -> list[SpeechItem]:
    """Returns every utterance in every condition.

    Args:
        utterances: The speech.
        named: Conditions, `clean` among them.
        unspoken: Whether to add silence and noise alone, where every word heard is false.
    """
    found = [
        SpeechItem(
            id=one.id,
            condition=condition.name,
            text=one.text,
            language=one.language,
            speaker=one.speaker,
            seconds=round(one.seconds, 3),
            synthetic=one.synthetic,
            path=str(one.path),
        )
        for condition in named
        for one in utterances
    ]
    languages = sorted({one.language for one in utterances})
    if unspoken:
        found += [
            SpeechItem(id=f"{kind}/{language or 'any'}/{seconds:g}", condition=kind,
                       language=language, seconds=seconds, synthetic=True)
            for kind in NO_SPEECH
            for language in languages
            for seconds in NO_SPEECH_S
        ]  # fmt: skip
    return found


class Sound:
    """Makes the files of items, which `close` takes away.

    Args:
        utterances: What noises are fitted to.
        named: Conditions by name.
        seed: Of noises and rooms.
        predict: Threads for predicting the quality of what was made; 0 does not. It takes longer
            than hearing, and so PREDICTED of them stand for all.
    """

    def __init__(
        self,
        utterances: Sequence[Utterance],
        named: Sequence[Condition],
        seed: int,
        *,
        predict: int,
    ) -> None:
        self._conditions = {one.name: one for one in named}
        # Of one language each: speech of another has another spectrum, and is no babble to it.
        self._noises = {
            language: Noises.fitted([one for one in utterances if one.language == language], seed)
            for language in {one.language for one in utterances}
            if any(one.fitted for one in named)
        }
        self._seed = seed
        self._predict = predict
        long = [one.id for one in utterances if one.seconds >= _PREDICTED_LEAST_S]
        chosen = random.Random(seed).sample(sorted(long), min(PREDICTED, len(long)))  # noqa: S311
        self._predicted_ids = frozenset(chosen if predict else ())
        self._folder = tempfile.TemporaryDirectory(prefix="vozmetro-sound-")

    def close(self) -> None:
        """Takes away all that was made."""
        self._folder.cleanup()

    def ready(self, item: SpeechItem) -> tuple[WorkItem, SpeechItem]:
        """Returns what the worker gets, and the item with what was found while it was made."""
        if item.condition == CLEAN:
            path = Path(item.path)
            told: dict[str, object] = {"predicted": self._predicted(item, None)}
            return _work(item, path), item.model_copy(update=told)
        waveform, told = self._made(item)
        told["predicted"] = self._predicted(item, waveform)
        return _work(item, self._written(waveform)), item.model_copy(update=told)

    def clear(self) -> None:
        """Takes away the files made so far."""
        for path in Path(self._folder.name).iterdir():
            path.unlink()

    def _made(self, item: SpeechItem) -> tuple[Waveform, dict[str, object]]:
        key = f"{item.language}/{item.id}"
        if item.condition == NO_SPEECH[0]:
            return conditions.silence(item.seconds), {}
        if item.condition == NO_SPEECH[1]:
            noise = conditions.parse("white@0")[0]
            return conditions.noise_alone(noise, item.seconds, Noises(), key, self._seed), {}
        condition = self._conditions[item.condition]
        fitted = self._noises.get(item.language, Noises())
        made = conditions.apply(condition, read(Path(item.path)), fitted, key, self._seed)
        return made.waveform, {"snr_db": made.snr_db, "scale": made.scale}

    def _predicted(self, item: SpeechItem, changed: Waveform | None) -> dict[str, float]:
        """Predicted quality of a recording, or of what became of it beside the recording."""
        if item.predicted or item.id not in self._predicted_ids:
            return item.predicted
        from vozmetro.quality.predicted import against, predict

        recording = read(Path(item.path))
        try:
            if changed is None:
                return predict(recording, self._predict)
            return {**predict(changed, self._predict), **against(recording, changed)}
        except InputError:
            # Silence, or too short to say anything of.
            return {}

    def _written(self, waveform: Waveform) -> Path:
        import soundfile

        number = sum(1 for _ in Path(self._folder.name).iterdir())
        path = Path(self._folder.name) / f"{number}.wav"
        # 32-bit floats: what was made, without a second rounding.
        soundfile.write(path, waveform.samples, SPEECH_RATE, subtype="FLOAT")
        return path


def _work(item: SpeechItem, path: Path) -> WorkItem:
    return WorkItem(
        id=f"{item.condition}/{item.id}",
        seconds=item.seconds,
        language=item.language,
        text=item.text,
        paths=(str(path),),
        seed=0,
        synthetic=item.synthetic,
    )
