"""The corpus check finds what is wrong and nothing else; references that all engines miss."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
from corpus_debs import tone
from hypothesis import given
from hypothesis import strategies as st

from vozmetro.errors import InputError
from vozmetro.quality.missed import missed_by_all
from vozmetro.speech.check import check
from vozmetro.speech.corpus import Utterance, corpora_info, load_corpus


def utterance(
    folder: Path,
    name: str,
    text: str = "buenos días",
    samples: np.ndarray | None = None,
    rate: int = 16_000,
) -> Utterance:
    path = folder / name
    # Each with a pitch of its own, so that none sounds as another.
    sound = tone(1.0, 200 + sum(name.encode()), rate) if samples is None else samples
    soundfile.write(path, sound, rate)
    return Utterance(path.stem, path, text, "es", len(sound) / rate)


def found(utterances: list[Utterance]) -> dict[str, tuple[str, ...]]:
    return {one.kind: one.ids for one in check(utterances).findings}


def test_a_good_corpus(tmp_path):
    good = [utterance(tmp_path, f"{n}.wav", f"frase número {n}") for n in range(3)]
    checked = check(good)
    assert (checked.findings, checked.rates, checked.repeated_texts) == ((), {16_000: 3}, 0)
    assert check([]).findings == ()


def test_each_fault_is_found_and_no_other(tmp_path):
    good = [utterance(tmp_path, f"{n}.wav") for n in range(3)]
    loud = np.clip(np.sin(2 * np.pi * 200 * np.arange(16_000) / 16_000) * 3, -1, 1)
    faults = {
        "clipped": utterance(tmp_path, "clip.wav", samples=loud),
        "quiet": utterance(tmp_path, "mute.wav", samples=np.zeros(16_000)),
        "short": utterance(tmp_path, "short.wav", "no", tone(0.2, 777)),
        "empty_text": utterance(tmp_path, "empty.wav", "¡…!"),
        "odd_text": utterance(tmp_path, "odd.wav", "pulse # ahora"),
        "pace": utterance(tmp_path, "pace.wav", "buenos días a todos " * 3),
    }
    for kind, one in faults.items():
        assert found([*good, one]) == {kind: (one.id,)}
    together = found([*good, *faults.values()])
    assert together == {kind: (one.id,) for kind, one in faults.items()}


def test_rates(tmp_path):
    good = [utterance(tmp_path, f"{n}.wav") for n in range(2)]
    low = utterance(tmp_path, "low.wav", rate=8_000)
    high = utterance(tmp_path, "high.wav", rate=44_100)
    checked = check([*good, low, high])
    assert checked.rates == {8_000: 1, 16_000: 2, 44_100: 1}
    assert {one.kind: one.ids for one in checked.findings} == {
        "low_rate": ("low",),
        "mixed_rates": ("low", "high"),
    }


def test_the_same_sound_and_the_same_text(tmp_path):
    sound = tone(1.0, 250)
    twins = [utterance(tmp_path, name, name, sound) for name in ("uno.wav", "dos.flac")]
    other = [utterance(tmp_path, name, "¡Hola, hola!") for name in ("b.wav", "c.wav")]
    checked = check([*twins, *other])
    assert [(one.kind, one.ids) for one in checked.findings] == [("same_audio", ("uno", "dos"))]
    assert checked.repeated_texts == 2
    # One sound twice with one text is the same audio, not the same text said again.
    assert check([twins[0], twins[0]]).repeated_texts == 0


def test_a_file_that_is_not_sound(tmp_path):
    one = utterance(tmp_path, "a.wav")
    one.path.write_bytes(b"no")
    with pytest.raises(InputError, match=r"a\.wav"):
        check([one])


# Missed by all ------------------------------------------------------------------------------

REFERENCES = {
    "right": "uno dos tres cuatro",
    "half": "uno dos tres cuatro",
    "wrong": "buenas tardes a todos",
    "accents": "está aquí él",
    "empty": "¡…!",
    "alone": "nadie más lo oyó",
}


def test_missed_by_all():
    one = {
        "right": "uno dos tres cuatro", "half": "uno dos", "wrong": "pulse la tecla",
        "accents": "esta aqui el", "empty": "algo", "alone": "otra cosa",
    }  # fmt: skip
    two = {"right": "nada", "half": "x", "wrong": "pulse la tecla", "accents": "no", "empty": "y"}
    languages = dict.fromkeys(REFERENCES, "es")
    # `right` was heard by one; `half` has exactly half wrong in one; `alone` was heard by one only.
    assert missed_by_all(REFERENCES, {"a": one, "b": two}, languages) == ["wrong"]
    assert missed_by_all(REFERENCES, {"a": one}, languages) == []
    assert missed_by_all(REFERENCES, {"b": two, "c": two}, languages) == [
        "right", "half", "wrong", "accents",
    ]  # fmt: skip
    assert missed_by_all(REFERENCES, {"a": one, "b": two, "c": {}}, languages) == ["wrong"]


texts = st.text("ab cñ,", max_size=12)


@given(
    references=st.dictionaries(st.sampled_from("xyz"), texts),
    heard=st.dictionaries(
        st.sampled_from(["e1", "e2", "e3"]), st.dictionaries(st.sampled_from("xyzw"), texts)
    ),
)
def test_another_engine_that_hears_it_takes_a_reference_off_the_list(references, heard):
    listed = missed_by_all(references, heard, {})
    assert set(listed) <= set(references)
    assert missed_by_all(references, {**heard, "true": references}, {}) == []


# Where speech came from ---------------------------------------------------------------------


def test_where_speech_came_from(tmp_path):
    for name in ("mine", "yours"):
        (tmp_path / name).mkdir()
        soundfile.write(tmp_path / name / "a.wav", tone(0.5), 16_000)
        (tmp_path / name / "a.txt").write_text("hola")
    spec = f"audioeval,{tmp_path / 'mine'}"
    packaged, folder = corpora_info(spec, load_corpus(spec))[::-1]
    if packaged.name != "audioeval":
        packaged, folder = folder, packaged
    assert (packaged.voice, packaged.licence, packaged.utterances) == ("synthetic", "MIT", 6)
    assert (folder.name, folder.voice, folder.sha256) == (str(tmp_path / "mine"), "", "")
    assert (folder.utterances, folder.seconds) == (1, 0.5)
