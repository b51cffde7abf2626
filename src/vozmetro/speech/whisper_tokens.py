"""Whisper's special tokens: how a transcript is asked for, and what may not be in it.

Found in the files beside a model, whoever wrote them: `generation_config.json` (Hugging Face),
`config.json` (Hugging Face, CTranslate2) and the added tokens of `tokenizer.json`. Where these say
nothing, the order in which openai/whisper's `tokenizer.py` numbers them is used.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vozmetro.errors import InputError, ModelError

MULTILINGUAL_VOCABULARY = 51865
"""Tokens of the first Whisper with languages; the English-only ones have one fewer."""
_BEFORE_LANGUAGES = 51766
"""Tokens of a multilingual vocabulary that are no language."""
# fmt: off
_CODES = (
    "en", "zh", "de", "es", "ru", "ko", "fr", "ja", "pt", "tr", "pl", "ca", "nl", "ar", "sv",
    "it", "id", "hi", "fi", "vi", "he", "uk", "el", "ms", "cs", "ro", "da", "hu", "ta", "no",
    "th", "ur", "hr", "bg", "lt", "la", "mi", "ml", "cy", "sk", "te", "fa", "lv", "bn", "sr",
    "az", "sl", "kn", "et", "mk", "br", "eu", "is", "hy", "ne", "mn", "bs", "kk", "sq", "sw",
    "gl", "mr", "pa", "si", "km", "sn", "yo", "so", "af", "oc", "ka", "be", "tg", "sd", "gu",
    "am", "yi", "lo", "uz", "fo", "ht", "ps", "tk", "nn", "mt", "sa", "lb", "my", "bo", "tl",
    "mg", "as", "tt", "haw", "ln", "ha", "ba", "jw", "su", "yue",
)
# fmt: on
"""Languages in the order of their tokens; the last is large-v3's."""


@dataclass(frozen=True)
class WhisperTokens:
    """Special tokens of one model.

    Attributes:
        start: Begins every prompt.
        end: Ends every transcript; tokens from here on are no text.
        transcribe: Asks for the words as spoken; None in English-only models.
        no_timestamps: Asks for words only.
        no_speech: Its probability after `start` says that nobody speaks; None where unknown.
        languages: ISO 639 code -> token; empty in English-only models.
        suppressed: Never chosen.
        suppressed_first: Not chosen first: a blank, and the end.
    """

    start: int
    end: int
    transcribe: int | None
    no_timestamps: int
    no_speech: int | None
    languages: Mapping[str, int]
    suppressed: tuple[int, ...]
    suppressed_first: tuple[int, ...]

    @classmethod
    def read(cls, folder: Path, vocabulary: int) -> WhisperTokens:
        """Reads the files beside a model.

        Args:
            folder: Of the model.
            vocabulary: Tokens that it knows.

        Raises:
            ModelError: `whisper_config_invalid`: a file is damaged, or names a token that the
                model does not have.
        """
        config = _json(folder / "config.json")
        config |= _json(folder / "generation_config.json")
        added = _added(folder / "tokenizer.json")
        multilingual = config.get("is_multilingual")
        if multilingual is None:
            multilingual = vocabulary >= MULTILINGUAL_VOCABULARY
        try:
            found = _found(config, added, vocabulary, bool(multilingual))
            used = [found.start, found.end, found.no_timestamps, *found.languages.values()]
            used += [token for token in (found.transcribe, found.no_speech) if token is not None]
            if any(not 0 <= token < vocabulary for token in used):
                raise ValueError(max(used))
        except (AttributeError, TypeError, ValueError) as error:
            raise ModelError("whisper_config_invalid", path=folder / "config.json") from error
        known = [token for token in found.suppressed if 0 <= token < vocabulary]
        first = [token for token in found.suppressed_first if 0 <= token < vocabulary]
        return cls(**{**vars(found), "suppressed": tuple(known), "suppressed_first": tuple(first)})

    def prompt(self, language: str) -> list[int]:
        """Returns the tokens before the transcript of speech in `language`.

        Raises:
            InputError: `whisper_language`: the model does not know it.
        """
        if not self.languages:
            return [self.start, self.no_timestamps]
        if language not in self.languages:
            known = ", ".join(sorted(self.languages))
            raise InputError("whisper_language", language=language, known=known)
        asked = [] if self.transcribe is None else [self.transcribe]
        return [self.start, self.languages[language], *asked, self.no_timestamps]


def _found(
    config: Mapping[str, Any], added: Mapping[str, int], vocabulary: int, multilingual: bool
) -> WhisperTokens:
    usual = _usual(vocabulary, multilingual)
    tasks = {**_tasks(added, usual), **(config.get("task_to_id") or {})}
    languages = {}
    if multilingual:
        listed = config.get("lang_to_id", {})
        marked = {_bare(name): token for name, token in listed.items()}
        languages = marked or {
            code: token for code in _CODES if (token := (added or usual).get(f"<|{code}|>"))
        }

    def one(key: str, name: str) -> int:
        value = config.get(key)
        return int(value if value is not None else added.get(name, usual[name]))

    no_timestamps = one("no_timestamps_token_id", "<|notimestamps|>")
    no_speech = added.get("<|nospeech|>", added.get("<|nocaptions|>", usual["<|nospeech|>"]))
    return WhisperTokens(
        start=one("decoder_start_token_id", "<|startoftranscript|>"),
        end=one("eos_token_id", "<|endoftext|>"),
        transcribe=int(tasks["transcribe"]) if multilingual else None,
        no_timestamps=no_timestamps,
        no_speech=no_speech if no_speech < vocabulary else None,
        languages={str(code): int(token) for code, token in languages.items()},
        suppressed=_ids(config, "suppress_tokens", "suppress_ids"),
        suppressed_first=_ids(config, "begin_suppress_tokens", "suppress_ids_begin"),
    )


def _tasks(added: Mapping[str, int], usual: Mapping[str, int]) -> dict[str, int]:
    return {"transcribe": added.get("<|transcribe|>", usual["<|transcribe|>"])}


def _usual(vocabulary: int, multilingual: bool) -> dict[str, int]:
    """Numbers special tokens as openai/whisper does: the end, the start, languages, tasks."""
    count = max(0, vocabulary - _BEFORE_LANGUAGES) if multilingual else 99
    end = 50257 if multilingual else 50256
    names = ["endoftext", "startoftranscript", *_CODES[:count], "translate", "transcribe"]
    names += ["startoflm", "startofprev", "nospeech", "notimestamps"]
    return {f"<|{name}|>": end + index for index, name in enumerate(names)}


def _bare(name: str) -> str:
    return name.removeprefix("<|").removesuffix("|>")


def _ids(config: Mapping[str, Any], *keys: str) -> tuple[int, ...]:
    """Returns the first list of tokens there is, under Hugging Face's name or CTranslate2's."""
    for key in keys:
        values: Sequence[int] | None = config.get(key)
        if values is not None:
            return tuple(int(value) for value in values)
    return ()


def _added(path: Path) -> dict[str, int]:
    tokens = _json(path).get("added_tokens", [])
    try:
        return {str(token["content"]): int(token["id"]) for token in tokens}
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError("whisper_config_invalid", path=path) from error


def _json(path: Path) -> dict[str, Any]:
    """Reads an object; nothing where there is no such file."""
    try:
        found = json.loads(path.read_bytes())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError("whisper_config_invalid", path=path) from error
    if not isinstance(found, dict):
        raise ModelError("whisper_config_invalid", path=path)
    return found
