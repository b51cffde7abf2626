"""What a divided study hears: the utterances of a corpus, streamed, and sounds without speech."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from vozmetro.assess.shard_plan import Piece
from vozmetro.assess.sound import items_of
from vozmetro.errors import InputError
from vozmetro.measure.quality_records import QualitySettings
from vozmetro.measure.records import Note
from vozmetro.measure.schedule import Listener, Progress
from vozmetro.measure.subject import Target
from vozmetro.speech.corpus import Utterance, fair_part, open_sources
from vozmetro.speech.manifest import Source


class Chosen:
    """The utterances of a study, from the first to the last each time it is called.

    Args:
        settings: What was asked for.
        targets: The subjects: what they do not understand is left out.
        listen: Told what is being downloaded.

    Raises:
        InputError: `limit_invalid`, `corpus_no_language` or `no_common_language`.
    """

    def __init__(
        self, settings: QualitySettings, targets: Sequence[Target], listen: Listener
    ) -> None:
        self._settings = settings
        self._targets = targets
        self._open = open_sources(
            settings.corpus, listen=lambda name: listen(Progress("fetching", name))
        )
        self._left: dict[tuple[int, str], int] = {}
        self._part: list[Source] | None = None
        if settings.limit is not None:
            if settings.limit < 1:
                raise InputError("limit_invalid", value=settings.limit)
            self._part = fair_part(self._all(), settings.limit)

    def __call__(self) -> Iterable[Source]:
        """Yields the utterances."""
        return self._all() if self._part is None else iter(self._part)

    def _all(self) -> Iterator[Source]:
        self._left = {}
        there: set[str] = set()
        any_kept = False
        for source in self._open():
            there.add(source.language)
            if self._settings.languages and source.language not in self._settings.languages:
                continue
            deaf = self._deaf(source)
            if deaf is not None:
                key = (deaf, source.language)
                self._left[key] = self._left.get(key, 0) + 1
                continue
            any_kept = True
            yield source
        if there and not any_kept:
            self._refuse(there)

    def _deaf(self, source: Source) -> int | None:
        """The first subject that does not know a language."""
        for number, target in enumerate(self._targets):
            if source.language and target.languages and source.language not in target.languages:
                return number
        return None

    def _refuse(self, there: set[str]) -> None:
        settings = self._settings
        if self._left:
            number = max(number for number, _ in self._left)
            languages = sorted(code for at, code in self._left if at == number)
            fields = {"subject": self._targets[number].name, "languages": ", ".join(languages)}
            raise InputError("no_common_language", **fields)
        found = ", ".join(sorted(one or "–" for one in there))
        wanted = ", ".join(settings.languages)
        raise InputError("corpus_no_language", wanted=wanted, found=found, path=settings.corpus)

    def notes(self) -> list[Note]:
        """Returns what was left out because a subject does not know its language."""
        found = []
        for number, target in enumerate(self._targets):
            counts = {code: n for (at, code), n in self._left.items() if at == number}
            if counts:
                fields = {
                    "subject": target.name,
                    "languages": ", ".join(sorted(counts)),
                    "count": str(sum(counts.values())),
                }
                found.append(Note(code="languages_left_out", fields=fields))
        return found


def unspoken(languages: Sequence[str]) -> list[Piece]:
    """Returns the sounds without speech that every study has, by language.

    Args:
        languages: Of the corpus.
    """
    none = [
        Utterance(id="", path=Path(), text="", language=code, seconds=0.0) for code in languages
    ]
    return [
        Piece(id=one.id, condition=one.condition, language=one.language, seconds=one.seconds,
              synthetic=True)
        for one in items_of(none, [], unspoken=True)
    ]  # fmt: skip
