"""Quality at the scale of a corpus: divided into parts, heard by many workers, gone on with.

Every part that is done lies in its own file before the next one counts. What a study found is made
of these files alone, so that neither the order in which they came nor who heard them matters.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from vozmetro.assess.options import QualityOptions
from vozmetro.assess.shard_files import About, about_of, columns_of
from vozmetro.assess.shard_hearing import LIMIT_S
from vozmetro.assess.shard_pace import Pace
from vozmetro.assess.shard_plan import (
    Census,
    Plan,
    Sources,
    changes,
    divide,
    load_plan,
    part_name,
    shards_for,
    take_census,
)
from vozmetro.assess.shard_results import Done, with_results
from vozmetro.assess.shard_sources import Chosen, unspoken
from vozmetro.assess.shard_worker import Job, Part
from vozmetro.assess.study import normalizers_of, subjects_of, unloaded
from vozmetro.errors import InputError, MeasurementError, OutputError, VozmetroError
from vozmetro.measure import environment
from vozmetro.measure.quality_records import CLEAN, QualitySettings, QualityStudy, System
from vozmetro.measure.records import Failure
from vozmetro.measure.schedule import Listener
from vozmetro.measure.storage import QUALITY_FILE, load_quality, save, write_atomic
from vozmetro.measure.subject import Target, resolve_subject
from vozmetro.planning import check_fits, machine_notes, new_id, refuse_changed
from vozmetro.speech import conditions
from vozmetro.speech.normalize import normalizer_name

SHARDS = "shards"
"""Folder of the parts, beside the record."""
_PLANNED, _DONE = "plan", "done"

Runner = Callable[[Job, Sequence[Path], int], Iterator[Part]]
"""Has the parts in files heard by so many workers, and yields results as they come."""


@dataclass(frozen=True)
class Sharding:
    """How a study is divided.

    Attributes:
        run: Who hears: `shards_on_ray.on_ray`.
        workers: That hear at the same time.
        shards: Parts; None for as many as suit the corpus and the workers.
        limit_s: Longest that one utterance may take, in seconds.
    """

    run: Runner
    workers: int
    shards: int | None = None
    limit_s: float = LIMIT_S


def quality(
    subjects: Sequence[str],
    options: QualityOptions,
    sharding: Sharding,
    *,
    out: Path,
    listen: Listener = lambda _: None,
) -> QualityStudy:
    """Has subjects hear a corpus in parts; a study of the same in the folder is gone on with.

    Args:
        subjects: What listens.
        options: How; recordings as they are, and no voices.
        sharding: By whom.
        out: Folder for `quality.json` and the parts.
        listen: Told about progress, after every part.

    Returns:
        The study. Its `status` is `complete`, or `interrupted` (Ctrl-C) or `failed`, where
        a part was done before.

    Raises:
        InputError: `shard_conditions`, `shard_voice`, `workers_range`, `shards_range`, or
            `resume_changed` where the folder holds a study of something else.
        VozmetroError: A subject, the corpus or an option cannot be used, or nothing was kept.
    """
    settings = _settings(subjects, options)
    if sharding.workers < 1:
        raise InputError("workers_range", given=sharding.workers)
    earlier = load_quality(out) if (out / QUALITY_FILE).exists() else None
    if earlier is not None:
        if earlier.settings.executor == "local":
            raise InputError("out_taken", path=out)
        if _asked(earlier.settings) != _asked(settings):
            raise InputError("resume_changed", what="options")
    # One thread each by default: workers, not threads, fill the machines.
    targets = subjects_of(options.named(subjects), listen, options)
    return _started(settings, earlier, targets, sharding, out=out, listen=listen)


def resume(path: Path, sharding: Sharding, *, listen: Listener = lambda _: None) -> QualityStudy:
    """Goes on with a saved study where it stopped.

    Args:
        path: `quality.json` or its folder.
        sharding: By whom; how many parts there are was settled when it began.
        listen: Told about progress.

    Raises:
        InputError: `resume_changed` where speech, models or versions are not the same any more.
    """
    folder = path if path.is_dir() else path.parent
    record = load_quality(path)
    settings = record.settings
    if settings.executor != "ray":
        raise InputError("resume_changed", what="executor")
    targets = [
        resolve_subject(words, system.subject.name, settings.device)
        for words, system in zip(settings.subjects, record.systems, strict=True)
    ]
    return _started(settings, record, targets, sharding, out=folder, listen=listen)


def _settings(subjects: Sequence[str], options: QualityOptions) -> QualitySettings:
    if [one.name for one in conditions.parse(options.conditions)] != [CLEAN]:
        raise InputError("shard_conditions", given=options.conditions)
    threads = 1 if options.threads is None else options.threads
    found = replace(options, threads=threads).settings(subjects, [CLEAN])
    return found.model_copy(update={"executor": "ray"})


def _asked(settings: QualitySettings) -> QualitySettings:
    """What makes two studies the same; limits are judged when a record is read."""
    return settings.model_copy(update={"command": [], "budget": {}})


def _started(
    settings: QualitySettings,
    earlier: QualityStudy | None,
    targets: Sequence[Target],
    sharding: Sharding,
    *,
    out: Path,
    listen: Listener,
) -> QualityStudy:
    for target in targets:
        if target.kind == "tts":
            raise InputError("shard_voice", name=target.name)
    check_fits(targets)
    chosen = Chosen(settings, targets, listen)
    census = take_census(chosen, settings.corpus)
    plan = _planned(settings, targets, chosen, census, sharding=sharding, folder=out / SHARDS)
    surroundings = environment.read()
    if earlier is not None:
        _refuse_other_versions(earlier)
    record = QualityStudy(
        id=earlier.id if earlier else new_id("quality"),
        created=earlier.created
        if earlier
        else datetime.now(UTC).isoformat(timespec="milliseconds"),
        vozmetro=version("vozmetro"),
        status="running",
        settings=settings,
        environment=surroundings,
        normalizers=normalizers_of(census.languages),
        items=[],
        systems=[System(subject=unloaded(target)) for target in targets],
        notes=[*machine_notes(surroundings), *chosen.notes()],
    )
    return _Study(record, plan, targets, sharding, out=out, listen=listen).run()


def _refuse_other_versions(earlier: QualityStudy) -> None:
    """Packages that hear and count must be the same; the machine may be another one of the fleet.

    Raises:
        InputError: `resume_changed`.
    """
    now = environment.read()
    refuse_changed(earlier.environment.model_copy(update={"cpu": now.cpu}))


def _planned(
    settings: QualitySettings,
    targets: Sequence[Target],
    sources: Sources,
    census: Census,
    *,
    sharding: Sharding,
    folder: Path,
) -> Plan:
    subjects = [_digests(target) for target in targets]
    options = {
        "threads": str(settings.threads),
        "device": settings.device,
        "seed": str(settings.seed),
        "subjects": "\n".join(settings.subjects),
        "vozmetro": version("vozmetro"),
        **{f"normalizer {code}": normalizer_name(code) for code in sorted(census.languages)},
    }
    known = load_plan(folder / _PLANNED)
    if known is not None:
        changed = changes(known, census, subjects=subjects, options=options)
        changed["corpus"] = changed["corpus"] or _sounds_changed(folder)
        what = [name for name, is_changed in changed.items() if is_changed]
        if what:
            raise InputError("resume_changed", what=", ".join(what))
        return known
    shards = shards_for(sharding.shards, census.utterances, sharding.workers)
    return divide(
        sources, census, shards, folder / _PLANNED,
        unspoken=unspoken(sorted(census.languages)), subjects=subjects, options=options,
    )  # fmt: skip


def _digests(target: Target) -> tuple[str, ...]:
    return tuple(sorted(digest for model in target.models for _, _, digest in model.files))


def _sounds_changed(folder: Path) -> bool:
    """Whether a recording, one of each part that is done, is another than the one heard."""
    for path in sorted(folder.glob(f"{_DONE}-*/*.parquet")):
        told = columns_of(path, ("audio", "sha256"))
        heard = ((Path(one), digest) for one, digest in zip(*told.values(), strict=True) if digest)
        for audio, digest in heard:
            # Only the workers may be able to see it.
            try:
                with audio.open("rb") as file:
                    if hashlib.file_digest(file, "sha256").hexdigest() != digest:
                        return True
            except OSError:
                continue
            break
    return False


class _Study:
    """A divided study while it goes on."""

    def __init__(
        self,
        record: QualityStudy,
        plan: Plan,
        targets: Sequence[Target],
        sharding: Sharding,
        *,
        out: Path,
        listen: Listener,
    ) -> None:
        self._record = record
        self._plan = plan
        self._targets = targets
        self._sharding = sharding
        self._out = out
        self._listen = listen
        self._filled = [number for number, size in enumerate(plan.sizes) if size]

    def run(self) -> QualityStudy:
        """Has every subject hear every part that is missing, and returns the study."""
        save(self._record, self._out / QUALITY_FILE)
        try:
            for number in range(len(self._targets)):
                self._hear(number)
        except (VozmetroError, KeyboardInterrupt) as error:
            if isinstance(error, OutputError) or not self._files(0):
                raise
            if isinstance(error, KeyboardInterrupt):
                return self._saved("interrupted")
            return self._saved("failed", Failure(code=error.code, fields=error.fields))
        return self._saved("complete")

    def _saved(self, status: str, failure: Failure | None = None) -> QualityStudy:
        done = [Done.of(self._files(number)) for number in range(len(self._targets))]
        found = with_results(self._record, self._plan, done).model_copy(
            update={"status": status, "failure": failure}
        )
        if status == "complete" and (nothing := _nothing_heard(found)):
            found = found.model_copy(update={"status": "failed", "failure": nothing})
        save(found, self._out / QUALITY_FILE)
        return found

    def _folder(self, number: int) -> Path:
        return self._out / SHARDS / f"{_DONE}-{number}"

    def _files(self, number: int) -> dict[int, Path]:
        """The parts that a subject has heard."""
        found = {part: self._folder(number) / f"{part:06d}.parquet" for part in self._filled}
        return {part: path for part, path in found.items() if path.is_file()}

    def _hear(self, number: int) -> None:
        done = self._files(number)
        for shard, path in list(done.items()):
            about = about_of(path)
            self._check(about, number, shard)
            # Nothing of it was heard: its machine may have lacked the recordings, or the memory.
            if not about.heard:
                path.unlink()
                del done[shard]
        waiting = [part for part in self._filled if part not in done]
        if not waiting:
            return
        target = self._targets[number]
        pace = Pace(target.name, sum(self._plan.sizes), self._listen)
        for path in done.values():
            pace.add(about_of(path), counts=False)
        # The largest first: then none of them is what all others wait for at the end.
        waiting.sort(key=lambda part: (-self._plan.sizes[part], part))
        files = [self._out / SHARDS / _PLANNED / part_name(part) for part in waiting]
        settings = self._record.settings
        job = Job(
            words=settings.subjects[number],
            name=target.name,
            digests=_digests(target),
            threads=settings.threads,
            device=settings.device,
            seed=settings.seed,
            key=self._plan.key_of(number),
            limit_s=self._sharding.limit_s,
        )
        workers = min(self._sharding.workers, len(waiting))
        for part in self._sharding.run(job, files, workers):
            if part.code:
                raise MeasurementError(part.code, **dict(part.fields))
            about = about_of(part.data)
            self._check(about, number, about.shard)
            place = self._folder(number) / f"{about.shard:06d}.parquet"
            # A part that a lost machine had done after all comes twice: the first one stays.
            if not place.is_file():
                write_atomic(place, part.data)
                pace.add(about)
        missing = len(self._filled) - len(self._files(number))
        if missing:
            raise MeasurementError("shards_missing", count=missing)

    def _check(self, about: About, number: int, part: int) -> None:
        """Refuses results of another plan, subject or part, or of another version's rules.

        Raises:
            InputError: `shard_foreign` or `shard_versions`.
        """
        whole = part < len(self._plan.sizes) and (
            about.heard + about.left_out == self._plan.sizes[part]
        )
        if about.key != self._plan.key_of(number) or about.shard != part or not whole:
            raise InputError("shard_foreign", shard=about.shard, path=self._out)
        ours = {code: normalizer_name(code) for code in about.normalizers}
        if about.vozmetro != version("vozmetro") or about.normalizers != ours:
            raise InputError("shard_versions", found=about.vozmetro, ours=version("vozmetro"))


def _nothing_heard(found: QualityStudy) -> Failure | None:
    """A study in which a subject heard no utterance at all is none."""
    for system in found.systems:
        spoken = any(found.items[one.item].condition == CLEAN for one in system.heard)
        if system.left_out and not spoken and not system.merged:
            first = system.left_out[0]
            detail = str(VozmetroError(first.code, **first.fields))
            return Failure(code="shard_hopeless", fields={"id": first.id, "detail": detail})
    return None
