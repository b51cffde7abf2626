"""Word error rate over a set of utterances."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from vozmetro.errors import InputError, ModelError
from vozmetro.measure.records import Item, Run
from vozmetro.speech.normalize import normalize


@dataclass(frozen=True)
class WordErrors:
    """Errors against reference transcripts.

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


def word_errors(references: Sequence[str], hypotheses: Sequence[str]) -> WordErrors:
    """Counts the word errors of all utterances together, after `normalize`.

    Aligned by jiwer (Levenshtein distance over words). Utterances whose reference has no word are
    left out, because a rate over no words does not exist.

    Raises:
        InputError: `no_reference_words` where no reference has a word.
    """
    import jiwer

    pairs = [
        (normalize(said), normalize(heard))
        for said, heard in zip(references, hypotheses, strict=True)
    ]
    pairs = [pair for pair in pairs if pair[0]]
    if not pairs:
        raise InputError("no_reference_words")
    found = jiwer.process_words([said for said, _ in pairs], [heard for _, heard in pairs])
    return WordErrors(
        substitutions=found.substitutions,
        deletions=found.deletions,
        insertions=found.insertions,
        words=sum(len(said.split()) for said, _ in pairs),
        utterances=len(pairs),
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
    return [item for item in run.items if item.id in measured and normalize(item.text)]


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
    return word_errors([item.text for item in items], [item.output for item in items])
