"""A converted Whisper against its source: the encoder's states, and the tokens of real speech."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vozmetro import audio
from vozmetro.audio import SPEECH_RATE, Samples, Waveform
from vozmetro.engines.base import LoadRequest
from vozmetro.engines.whisper_onnx import WhisperOnnx
from vozmetro.engines.whisper_window import FRAMES, FRAMES_A_SECOND, padded
from vozmetro.errors import MissingExtraError
from vozmetro.models.convert.torch_export import require_torch
from vozmetro.prepare.parity_decoder import relative
from vozmetro.prepare.records import Parity, versions_of
from vozmetro.speech.corpus import Utterance
from vozmetro.speech.whisper_tokens import WhisperTokens


@dataclass(frozen=True)
class _Reference:
    """What runs the source.

    Attributes:
        name: For the report.
        packages: Whose versions matter.
        encode: Frames [bands, 3000] -> states [1, 1500, width].
        tokens: Speech and its language -> the text tokens, greedy.
    """

    name: str
    packages: tuple[str, ...]
    encode: Callable[[Samples], NDArray[np.float32]]
    tokens: Callable[[Waveform, str], list[int]]


def whisper_parity(model: Path, folder: Path, speech: Sequence[Utterance], threads: int) -> Parity:
    """Compares a converted Whisper with its source in float32, on full windows.

    The encoders get the same frames. For the tokens each hears the recording: a source in
    CTranslate2's format through `faster-whisper`, one from Hugging Face through `transformers`
    (greedy search), which hears one window: both get the first 30 s.

    Args:
        model: The converted folder.
        folder: The source.
        speech: Utterances to transcribe.
        threads: For both.

    Raises:
        MissingExtraError: What runs the source is not installed.
    """
    ours = WhisperOnnx(LoadRequest(model, threads, {"context": "full"}))
    longest: int | None = None
    if (folder / "model.bin").is_file():
        reference = _faster_whisper(folder, threads)
    else:
        reference = _transformers(folder, threads, ours)
        longest = SPEECH_RATE * FRAMES // FRAMES_A_SECOND
    largest = difference = size = 0.0
    differing = []
    for utterance in speech:
        recording = audio.read(utterance.path)
        recording = Waveform(recording.samples[:longest], recording.rate)
        frames = padded(ours.features(recording)[:, :FRAMES], FRAMES)
        wanted = reference.encode(frames).astype(np.float64)
        apart = ours.encoder_output(frames) - wanted
        # Unlike max(), it keeps NaN.
        largest = float(np.maximum(largest, np.abs(apart).max()))
        difference += float((apart**2).sum())
        size += float((wanted**2).sum())
        found = _words(ours.transcribe_tokens(recording, utterance.language), ours.tokens)
        if found != _words(reference.tokens(recording, utterance.language), ours.tokens):
            differing.append(utterance.id)
    return Parity(
        reference=reference.name,
        versions=versions_of(["onnxruntime", *reference.packages]),
        input=", ".join(utterance.id for utterance in speech),
        max_error=largest,
        relative_error=relative(difference, size) ** 0.5,
        utterances=len(speech),
        identical=len(speech) - len(differing),
        differing=differing,
    )


def _words(tokens: Sequence[int], special: WhisperTokens) -> list[int]:
    """The text alone: up to the end, without prompt and timestamps."""
    kept: list[int] = []
    for token in tokens:
        if token == special.end and kept:
            break
        if token < special.end:
            kept.append(token)
    return kept


def _faster_whisper(folder: Path, threads: int) -> _Reference:
    try:
        from faster_whisper import WhisperModel
    except ImportError as error:
        raise MissingExtraError("whisper", "faster-whisper") from error
    model = WhisperModel(
        str(folder),
        device="cpu",
        compute_type="float32",
        cpu_threads=threads,
        local_files_only=True,
    )

    def encode(frames: Samples) -> NDArray[np.float32]:
        return np.asarray(model.encode(frames))

    def tokens(recording: Waveform, language: str) -> list[int]:
        segments, _ = model.transcribe(
            recording.samples,
            language=(language or None) if model.model.is_multilingual else "en",
            beam_size=1,
            temperature=0,
            without_timestamps=True,
            condition_on_previous_text=False,
        )
        return [token for segment in segments for token in segment.tokens]

    return _Reference("faster-whisper float32", ("faster-whisper", "ctranslate2"), encode, tokens)


def _transformers(folder: Path, threads: int, ours: WhisperOnnx) -> _Reference:
    require_torch()
    import torch
    import transformers

    torch.set_num_threads(threads)
    transformers.logging.set_verbosity_error()
    model: Any = transformers.WhisperForConditionalGeneration.from_pretrained(
        folder, local_files_only=True, use_safetensors=True, dtype="float32"
    ).eval()
    special = ours.tokens
    codes = {token: code for code, token in special.languages.items()}
    if not hasattr(model.generation_config, "lang_to_id"):  # old or bare folders do not say
        model.generation_config.lang_to_id = {str(token): token for token in codes}

    def encode(frames: Samples) -> NDArray[np.float32]:
        with torch.no_grad():
            states = model.model.encoder(torch.from_numpy(frames)[None]).last_hidden_state
        return np.asarray(states.numpy())

    def tokens(recording: Waveform, language: str) -> list[int]:
        frames = torch.from_numpy(padded(ours.features(recording)[:, :FRAMES], FRAMES))[None]
        if special.languages and not language:
            language = codes[int(model.detect_language(input_features=frames)[0])]
        # Whisper's own generate() looks for the next window by timestamps, which were not asked
        # for, and never ends where it takes another token for one.
        with torch.no_grad():
            found = transformers.GenerationMixin.generate(
                model,
                frames,
                decoder_input_ids=torch.tensor([special.prompt(language)]),
                do_sample=False,
                num_beams=1,
                max_new_tokens=ours.decoder.limit,
            )
        return [int(token) for token in found[0]]

    return _Reference("transformers float32", ("transformers", "torch"), encode, tokens)
