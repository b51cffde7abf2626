"""Word and character errors over a set of utterances."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vozmetro.errors import InputError, ModelError
from vozmetro.measure.records import Item, Run
from vozmetro.speech.normalize import normalize

Counts = NDArray[np.int64]


@dataclass(frozen=True)
class Transcribed:
    """An utterance and what was heard of it.

    Attributes:
        reference: What was said.
        hypothesis: What was heard.
        language: ISO 639-1; its rules make the words comparable. Empty where unknown.
        speaker: Who speaks; empty where unknown.
    """

    reference: str
    hypothesis: str
    language: str = ""
    speaker: str = ""


@dataclass(frozen=True)
class Scored:
    """Errors of each utterance, after normalisation. Arrays have shape [N].

    Attributes:
        substitutions: Words heard as others.
        deletions: Words not heard.
        insertions: Words that nobody said.
        words: Words of the reference.
        char_errors: Characters changed, left out or added, spaces between words among them.
        chars: Characters of the reference.
        speakers: Who speaks in each.
    """

    substitutions: Counts
    deletions: Counts
    insertions: Counts
    words: Counts
    char_errors: Counts
    chars: Counts
    speakers: tuple[str, ...]

    @property
    def errors(self) -> Counts:
        """Word errors of all three kinds."""
        return self.substitutions + self.deletions + self.insertions

    @property
    def rate(self) -> float:
        """WER: all errors over all words of the references; above 1 with many insertions."""
        return float(self.errors.sum() / self.words.sum())

    @property
    def cer(self) -> float:
        """CER: the same over characters."""
        return float(self.char_errors.sum() / self.chars.sum())


def score(utterances: Sequence[Transcribed], *, accents: bool = True) -> Scored:
    """Counts the errors of each utterance.

    Aligned by jiwer (Levenshtein distance over words, and over characters). What is heard where
    the reference has no word counts as insertions.

    Args:
        utterances: At least one.
        accents: Whether a missing accent is an error.

    Raises:
        InputError: `no_reference_words` where no reference has a word.
    """
    import jiwer

    said = [normalize(one.reference, one.language, accents=accents) for one in utterances]
    heard = [normalize(one.hypothesis, one.language, accents=accents) for one in utterances]
    if not any(said):
        raise InputError("no_reference_words")
    table = np.zeros((len(utterances), 5), np.int64)
    spoken = [index for index, text in enumerate(said) if text]
    by_word = jiwer.process_words([said[i] for i in spoken], [heard[i] for i in spoken])
    by_char = jiwer.process_characters([said[i] for i in spoken], [heard[i] for i in spoken])
    for row, index in enumerate(spoken):
        table[index] = (*_kinds(by_word.alignments[row]), 0, 0)
        table[index, 3] = sum(_kinds(by_char.alignments[row]))
    for index, text in enumerate(said):
        if not text:
            table[index, 2], table[index, 3] = len(heard[index].split()), len(heard[index])
    return Scored(
        substitutions=table[:, 0],
        deletions=table[:, 1],
        insertions=table[:, 2],
        words=np.array([len(text.split()) for text in said], np.int64),
        char_errors=table[:, 3],
        chars=np.array([len(text) for text in said], np.int64),
        speakers=tuple(one.speaker for one in utterances),
    )


def _kinds(alignment: Sequence[object]) -> tuple[int, int, int]:
    """Substitutions, deletions and insertions of one alignment."""
    counts = {"substitute": 0, "delete": 0, "insert": 0}
    for chunk in alignment:
        kind: str = chunk.type  # type: ignore[attr-defined]
        if kind != "equal":
            said = chunk.ref_end_idx - chunk.ref_start_idx  # type: ignore[attr-defined]
            heard = chunk.hyp_end_idx - chunk.hyp_start_idx  # type: ignore[attr-defined]
            counts[kind] += max(said, heard)
    return counts["substitute"], counts["delete"], counts["insert"]


@dataclass(frozen=True)
class WordErrors:
    """Errors of all utterances together.

    Attributes:
        substitutions: Words heard as others.
        deletions: Words not heard.
        insertions: Words that nobody said.
        words: Words of the references.
        utterances: Utterances compared.
    """

    substitutions: int
    deletions: int
    insertions: int
    words: int
    utterances: int

    @property
    def errors(self) -> int:
        """All three together."""
        return self.substitutions + self.deletions + self.insertions

    @property
    def rate(self) -> float:
        """WER: errors over the words of the references, together; above 1 with many insertions."""
        return self.errors / self.words


def word_errors(
    references: Sequence[str], hypotheses: Sequence[str], languages: Sequence[str] = ()
) -> WordErrors:
    """Counts the word errors of all utterances together; accents count.

    Utterances whose reference has no word are left out, because a rate over no words does not
    exist.

    Args:
        references: What was said.
        hypotheses: What was heard, in the same order.
        languages: Of each utterance; empty where unknown.

    Raises:
        InputError: `no_reference_words` where no reference has a word.
    """
    spoken = languages or [""] * len(references)
    every = [
        Transcribed(said, heard, language)
        for said, heard, language in zip(references, hypotheses, spoken, strict=True)
    ]
    kept = [one for one in every if normalize(one.reference, one.language)]
    if not kept:
        raise InputError("no_reference_words")
    found = score(kept)
    return WordErrors(
        substitutions=int(found.substitutions.sum()),
        deletions=int(found.deletions.sum()),
        insertions=int(found.insertions.sum()),
        words=int(found.words.sum()),
        utterances=len(kept),
    )


def corpus_wer(references: Sequence[str], hypotheses: Sequence[str]) -> float:
    """Returns the WER of all utterances together; see `word_errors`."""
    return word_errors(references, hypotheses).rate


def heard_items(run: Run) -> list[Item]:
    """Returns the items with words that were measured; none where the subject does not listen.

    An item that the time did not reach has no transcript, which is not one without words.
    """
    if run.subject.kind not in ("stt", "cascade"):
        return []
    measured = {sample.item for sample in run.samples}
    return [
        item for item in run.items if item.id in measured and normalize(item.text, item.language)
    ]


def run_word_errors(run: Run) -> WordErrors | None:
    """Returns the word errors of a measurement's last transcripts.

    Returns:
        None where the subject does not listen, or no item that was measured has a transcript.

    Raises:
        ModelError: `dummy_quality` for random weights, whose words mean nothing.
    """
    items = heard_items(run)
    if not items:
        return None
    if run.subject.weights == "dummy":
        raise ModelError("dummy_quality", name=run.subject.name)
    return word_errors(
        [item.text for item in items],
        [item.output for item in items],
        [item.language for item in items],
    )
