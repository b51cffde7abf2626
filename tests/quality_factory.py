"""Quality studies made up for tests: no model needed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from run_factory import make_environment, make_run

from vozmetro.measure.quality_records import (
    Clip,
    CorpusFacts,
    Heard,
    QualitySettings,
    QualityStudy,
    SpeechItem,
    System,
)
from vozmetro.measure.records import Subject

SAID = ("uno dos tres cuatro", "cinco seis siete ocho", "nueve diez once doce")


def make_subject(name: str, kind: str = "stt") -> Subject:
    """Returns the subject of `make_run` with that name."""
    return make_run(name, kind=kind).subject


def make_study(
    heard: Mapping[str, Mapping[str, Sequence[str]]],
    *,
    said: Sequence[str] = SAID,
    budget: Mapping[str, Any] | None = None,
    synthetic: bool = False,
    silence: str = "",
    **changes: Any,
) -> QualityStudy:
    """Returns a study of Spanish utterances.

    Args:
        heard: By subject and condition, what was heard of each utterance.
        said: The references.
        budget: The limits, as in their TOML.
        synthetic: Whether a machine speaks.
        silence: What every subject heard in six seconds of silence.
        **changes: Other fields of the record.
    """
    conditions = list(dict.fromkeys(name for by in heard.values() for name in by))
    items = [
        SpeechItem(
            id=f"u{number}", condition=condition, text=text, language="es", speaker="ana",
            seconds=2.0, synthetic=synthetic, path=f"u{number}.wav",
            predicted={} if condition == "clean" else {"dnsmos_ovrl": 2.5},
        )
        for condition in conditions
        for number, text in enumerate(said)
    ]  # fmt: skip
    items.append(
        SpeechItem(id="silence/es/6", condition="silence", language="es", seconds=6.0,
                   synthetic=True)
    )  # fmt: skip
    systems = []
    for rank, (name, by) in enumerate(heard.items()):
        told = [text for condition in conditions for text in by[condition]] + [silence]
        systems.append(
            System(
                subject=make_subject(name),
                load_ms=500.0,
                peak_rss=200_000_000,
                heard=[
                    Heard(item=index, output=text, ms=100.0 * (rank + 1) + index)
                    for index, text in enumerate(told)
                ],
            )
        )
    values: dict[str, Any] = {
        "id": "20261122-120000-quality-ab12",
        "created": "2026-11-22T12:00:00.000+00:00",
        "vozmetro": "0.1.0",
        "status": "complete",
        "settings": QualitySettings(
            subjects=list(heard), corpus="es-ivr", conditions=conditions, threads=2,
            budget=dict(budget or {}), command=["vozmetro", "quality", *heard],
        ),
        "environment": make_environment(),
        "corpora": [
            CorpusFacts(name="es-ivr", licence="CC-BY-SA-3.0", voice="human", utterances=len(said),
                        seconds=2.0 * len(said))
        ],
        "normalizers": {"es": "vozmetro es 1"},
        "items": items,
        "systems": systems,
    }  # fmt: skip
    return QualityStudy(**(values | changes))


def make_voices(names: Sequence[str] = ("piper-a",), *, judged: bool = True) -> QualityStudy:
    """Returns a study of voices with two clips each, and the recordings of the same texts."""
    study = make_study({name: {"clean": SAID} for name in names})
    heard = SAID if judged else (None, None, None)

    def clips(folder: str, level: float) -> list[Clip]:
        return [
            Clip(
                item=index, path=f"clips/{folder}/{index:04d}.wav", seconds=2.0, ms=80.0,
                first_audio_ms=0.0 if folder == "human" else 40.0 + index,
                predicted={"dnsmos_ovrl": level, "dnsmos_p808": level + 0.2},
                prosody={"f0_sd_st": level, "f0_range_st": 8.0, "rate_syllables_s": 5.0,
                         "pause_share": 0.1},
                heard=heard[index],
            )
            for index in range(2)
        ]  # fmt: skip

    systems = [
        System(subject=make_subject(name, "tts"), clips=clips(name, 3.0 + rank / 10))
        for rank, name in enumerate(names)
    ]
    return study.model_copy(
        update={
            "systems": systems,
            "human": clips("human", 3.5),
            "judge": make_subject("whisper-base") if judged else None,
        }
    )
