"""Makes a study from folders of sounds."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal

import numpy as np

from vozmetro import packages
from vozmetro.audio import Waveform, resample
from vozmetro.errors import InputError
from vozmetro.measure.storage import check_writable, write_atomic
from vozmetro.quality.listen import clips, plan
from vozmetro.quality.listen.study import (
    ANCHORS,
    CLIPS,
    GOLD,
    GOLD_SCALES,
    METHODS,
    MOST_ITEMS,
    MOST_NAME,
    MOST_NAME_ITEM,
    MOST_SYSTEMS,
    REFERENCE,
    RESERVED,
    STUDY_FILE,
    Clip,
    Method,
    Rules,
    Scale,
    Study,
    save,
)
from vozmetro.units import plain

SOUND_SUFFIXES = frozenset({".wav", ".flac"})
# Neither a name nor a file's name can hold it.
_BETWEEN = "\0"
MOST_SECONDS = 2 * 3600.0
"""Sound that a study may hold."""
ITEMS_TO_SPARE = 3
"""Items from which on one is set aside for the training and the checks."""


@dataclass(frozen=True)
class Wish:
    """What a study is asked to be; None takes what suits the method.

    Attributes:
        method: `acr`, `ab`, `ccr` or `mushra`.
        scales: What is asked of each clip.
        items_per_listener: Items that each listener rates.
        traps: Attention checks per listener.
        golds: Spoilt clips per listener.
        repeats: Trials that each listener gets twice.
        seed: Decides the order.
        title: Shown to listeners.
        language: Of the page, where the browser does not tell.
    """

    method: Method = "acr"
    scales: Sequence[Scale] = ("quality",)
    items_per_listener: int | None = None
    traps: int | None = None
    golds: int | None = None
    repeats: int | None = None
    seed: int = 0
    title: str = ""
    language: Literal["es", "en"] = "es"


@dataclass(frozen=True)
class Made:
    """A study that was made, and what was left out of it.

    Attributes:
        study: What was written.
        folder: Where.
        left_out: Items that not every folder has.
    """

    study: Study
    folder: Path
    left_out: tuple[str, ...]


def parse_system(text: str) -> tuple[str, Path]:
    """Reads `NAME=FOLDER`; of a folder alone, its name is the system's.

    Raises:
        InputError: `listen_system_invalid`.
    """
    name, sign, folder = text.partition("=")
    if not sign:
        name, folder = Path(text).name, text
    name = plain(name)
    if not name or not folder or len(name) > MOST_NAME or name.lower() in RESERVED:
        raise InputError("listen_system_invalid", given=text, most=MOST_NAME)
    return name, Path(folder).expanduser()


def create(
    systems: Sequence[tuple[str, Path]],
    out: Path,
    wish: Wish | None = None,
    reference: Path | None = None,
) -> Made:
    """Makes a study: matches the clips in loudness and stores them under opaque names.

    Args:
        systems: Names, and folders of WAV or FLAC files with equal names; a folder written by
            `vozmetro quality` is taken for its `clips`.
        out: The study's folder, which must not hold one yet.
        wish: Method and sizes.
        reference: Recordings of the same names, unprocessed; MUSHRA needs them.

    Raises:
        InputError: `listen_*`: what is wrong with names, folders, items or clips; `not_audio`,
            `empty_audio`.
        MissingExtraError: pyloudnorm is not installed.
        OutputError: `unwritable` or `disk_full`.
    """
    wish = wish or Wish()
    _check(systems, wish, reference)
    if (out / STUDY_FILE).exists():
        raise InputError("listen_study_exists", path=out)
    folders = dict(systems) | ({REFERENCE: reference} if reference is not None else {})
    files = {name: _sounds(folder) for name, folder in folders.items()}
    items, left_out = _common(files)
    tested, training = _split(items, wish.seed)
    each = _items_per_listener(wish, len(folders), len(tested))
    read = _read(files, items, wish.method)
    check_writable(out)
    waveforms = _at_one_rate(read)
    if wish.method == "mushra":
        _add_anchors(waveforms, items)
    golds = _counts(wish)["golds"]
    sources: dict[str, str] = {}
    if golds:
        for index, name in enumerate(dict(systems)):
            key = _key(GOLD, str(index))
            seed = wish.seed + index
            waveforms[key] = clips.spoilt(waveforms[_key(name, training)], seed)
            sources[key] = name
    levelled, level = clips.matched(waveforms)
    stored = [_store(out, name, sources, training, levelled[name]) for name in _shuffled(levelled)]
    study = _study(wish, [name for name, _ in systems], reference is not None, tested, training)
    study |= {"items_per_listener": each, "loudness": round(level, 2), "clips": stored}
    made = Study.model_validate(study)
    save(made, out)
    return Made(made, out, left_out)


def _check(systems: Sequence[tuple[str, Path]], wish: Wish, reference: Path | None) -> None:
    """Refuses what cannot become a study, before anything is read."""
    names = [name for name, _ in systems]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise InputError("listen_system_twice", name=twice[0])
    alone = wish.method in ("ab", "ccr") and reference is None
    if not 1 + alone <= len(names) <= MOST_SYSTEMS:
        raise InputError("listen_systems_count", least=1 + alone, most=MOST_SYSTEMS, n=len(names))
    if wish.method not in METHODS:
        raise InputError("listen_method_unknown", given=wish.method, known=", ".join(METHODS))
    if wish.method == "mushra" and reference is None:
        raise InputError("listen_needs_reference")
    if wish.method == "mushra" and list(wish.scales) != ["quality"]:
        raise InputError("listen_mushra_scale")
    for option, value in (("traps", wish.traps), ("golds", wish.golds), ("repeats", wish.repeats)):
        if value is not None and not 0 <= value <= 10:
            raise InputError("listen_count_range", option=f"--{option}", value=value, least=0)
        if value and option != "repeats" and wish.method == "mushra":
            raise InputError("listen_mushra_checks", option=f"--{option}")
    if wish.golds and not set(wish.scales) & set(GOLD_SCALES):
        raise InputError("listen_gold_scale")
    if wish.items_per_listener is not None and wish.items_per_listener < 1:
        raise InputError("listen_items_range", value=wish.items_per_listener)
    if not 0 <= wish.seed < 1 << 62:
        raise InputError("listen_seed_range", value=wish.seed)


def _sounds(folder: Path) -> dict[str, Path]:
    """Returns the sounds of a folder by their names without suffix."""
    if not packages.is_dir(folder):
        raise InputError("listen_no_folder", path=folder)
    inner = folder / "clips"
    for place in (folder, inner):
        if place.is_symlink() and place == inner:
            continue
        sounds = [
            path
            for path in (sorted(place.iterdir()) if packages.is_dir(place) else ())
            if path.suffix.lower() in SOUND_SUFFIXES and path.is_file() and not path.is_symlink()
        ]
        for path in sounds:
            _check_item(path, [one.stem for one in sounds])
        if sounds:
            return {path.stem: path for path in sounds}
    raise InputError("listen_no_sounds", path=folder)


def _check_item(path: Path, stems: Sequence[str]) -> None:
    """Refuses a file whose name cannot be an item's, or is another's with another suffix."""
    if stems.count(path.stem) > 1:
        raise InputError("listen_item_twice", path=path.parent, name=path.stem)
    try:
        path.stem.encode()
    except UnicodeEncodeError as error:
        raise InputError("listen_item_name", path=path, most=MOST_NAME_ITEM) from error
    if len(path.stem) > MOST_NAME_ITEM:
        raise InputError("listen_item_name", path=path, most=MOST_NAME_ITEM)


def _common(files: Mapping[str, Mapping[str, Path]]) -> tuple[list[str], tuple[str, ...]]:
    """Returns the items that every folder has, and those that some lack."""
    sets = [set(found) for found in files.values()]
    common = sorted(set.intersection(*sets))
    if not common:
        raise InputError("listen_no_common", names=", ".join(files))
    if len(common) > MOST_ITEMS:
        raise InputError("listen_items_many", n=len(common), most=MOST_ITEMS)
    return common, tuple(sorted(set.union(*sets) - set(common)))


def _items_per_listener(wish: Wish, conditions: int, items: int) -> int:
    """Returns how many items a listener gets; refuses more trials than anybody would answer."""
    wanted = wish.items_per_listener or plan.default_items(conditions, wish.method, items)
    each = min(wanted, items)
    per_item = plan.trials_per_item(conditions, wish.method)
    if each * per_item > plan.MOST_TRIALS:
        fit = plan.MOST_TRIALS // per_item
        raise InputError("listen_trials_many", n=each * per_item, most=plan.MOST_TRIALS, fit=fit)
    return each


def _read(
    files: Mapping[str, Mapping[str, Path]], items: Sequence[str], method: Method
) -> dict[str, Waveform]:
    """Reads the clips; stops where they, and the anchors to be made of them, get too long."""
    found: dict[str, Waveform] = {}
    seconds = 0.0
    for name, sounds in files.items():
        copies = 1 + len(ANCHORS) * (method == "mushra" and name == REFERENCE)
        for item in items:
            clip = found[_key(name, item)] = clips.read(sounds[item])
            seconds += clip.seconds * copies
            # All are held in memory at once, to be matched in loudness.
            if seconds > MOST_SECONDS:
                raise InputError("listen_study_long", most=f"{MOST_SECONDS / 3600:g}")
    return found


def _key(condition: str, item: str) -> str:
    return condition + _BETWEEN + item


def _at_one_rate(waveforms: Mapping[str, Waveform]) -> dict[str, Waveform]:
    """Brings all to the highest rate: a file's rate would tell which system made it."""
    rate = max(one.rate for one in waveforms.values())
    return {name: resample(one, rate) for name, one in waveforms.items()}


def _split(items: Sequence[str], seed: int) -> tuple[list[str], str]:
    """Sets one item aside for training and checks, where there are items enough."""
    chosen = items[int(np.random.default_rng((seed, 0)).integers(len(items)))]
    spare = len(items) >= ITEMS_TO_SPARE
    return [item for item in items if not spare or item != chosen], chosen


def _add_anchors(waveforms: dict[str, Waveform], items: Sequence[str]) -> None:
    for item in items:
        for name, cutoff in ANCHORS.items():
            reference = waveforms[_key(REFERENCE, item)]
            waveforms[_key(name, item)] = clips.low_passed(reference, cutoff)


def _shuffled(names: Mapping[str, Waveform]) -> list[str]:
    """Returns the names in an order that says nothing of what they are: it goes into the file."""
    order = sorted(names)
    secrets.SystemRandom().shuffle(order)
    return order


def _store(out: Path, key: str, sources: Mapping[str, str], training: str, clip: Waveform) -> Clip:
    condition, _, item = key.partition(_BETWEEN)
    data = clips.wav_bytes(clip.samples, clip.rate)
    name = secrets.token_hex(16)
    write_atomic(out / CLIPS / f"{name}.wav", data)
    return Clip(
        id=name,
        condition=condition,
        item=training if condition == GOLD else item,
        source=sources.get(key, ""),
        seconds=round(clip.seconds, 4),
        bytes=len(data),
        sha256=hashlib.sha256(data).hexdigest(),
    )


def _counts(wish: Wish) -> dict[str, int]:
    """Returns how many checks of each kind a listener gets; MUSHRA's are its own conditions."""
    usual = {
        "acr": {"traps": 2, "golds": 2, "repeats": 2},
        "ab": {"traps": 2, "golds": 3, "repeats": 0},
        "ccr": {"traps": 2, "golds": 2, "repeats": 2},
        "mushra": {"traps": 0, "golds": 0, "repeats": 1},
    }[wish.method]
    if not set(wish.scales) & set(GOLD_SCALES):
        usual["golds"] = 0
    asked = {"traps": wish.traps, "golds": wish.golds, "repeats": wish.repeats}
    return {name: usual[name] if asked[name] is None else asked[name] or 0 for name in usual}


def _study(
    wish: Wish, systems: Sequence[str], reference: bool, items: Sequence[str], training: str
) -> dict[str, object]:
    """Returns the fields of a study except its sounds and how many a listener gets."""
    try:
        made_by = version("vozmetro")
    except PackageNotFoundError:
        made_by = ""
    return {
        "id": secrets.token_hex(8),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "vozmetro": made_by,
        "title": plain(wish.title)[:120],
        "method": wish.method,
        "scales": list(wish.scales),
        "systems": list(systems),
        "reference": reference,
        "items": list(items),
        "training_item": training,
        **_counts(wish),
        "seed": wish.seed,
        "language": wish.language,
        # Many clips at once average their distances, and so tell more than two answers do.
        "rules": Rules(repeat_distance=0.25) if wish.method == "mushra" else Rules(),
    }
