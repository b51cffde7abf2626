"""What Wyoming clients are told of this server: its models, their languages, and whose they are."""

from __future__ import annotations

from wyoming.info import AsrModel, AsrProgram, Attribution, Info, TtsProgram, TtsVoice

from vozmetro import __version__
from vozmetro.serve.about import PROJECT, Model
from vozmetro.serve.state import Serving

PROGRAM = "vozmetro"
_OURS = Attribution(name="vozmetro", url=PROJECT)


def info(serving: Serving) -> Info:
    """Returns the answer to `describe`: a model and a voice for each tier, called as the tier is.

    The first one is what those get who ask for none.
    """
    known = {one.tier: one for one in serving.about}
    nothing = Model("", "", ())
    models, voices = [], []
    for tier in serving.tiers.names:
        stt, tts = (known[tier].stt, known[tier].tts) if tier in known else (nothing, nothing)
        common = {"name": tier, "installed": True, "version": __version__}
        models.append(
            AsrModel(
                **common, attribution=_from(stt), description=stt.description,
                languages=list(stt.languages),
            )
        )  # fmt: skip
        voices.append(
            TtsVoice(
                **common, attribution=_from(tts), description=tts.description,
                languages=list(tts.languages), speakers=None,
            )
        )  # fmt: skip
    program = {
        "name": PROGRAM, "attribution": _OURS, "installed": True, "version": __version__,
        "description": "Speech on this machine, measured.",
    }  # fmt: skip
    return Info(
        asr=[AsrProgram(**program, models=models, supports_transcript_streaming=True)],
        tts=[TtsProgram(**program, voices=voices, supports_synthesize_streaming=True)],
    )


def tier_named(name: object, serving: Serving) -> str | None:
    """Returns the tier that a client calls by its name or by its model's; None where none is."""
    if name is None or name in ("", PROGRAM):
        return ""
    if name in serving.tiers.names:
        return str(name)
    for one in serving.about:
        if name in (one.stt.name, one.tts.name):
            return one.tier
    return None


def _from(model: Model) -> Attribution:
    return Attribution(name=model.author, url=model.source or PROJECT)
