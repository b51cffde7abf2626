"""`vozmetro corpus`: which real speech there is, getting it, and looking at it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from vozmetro.cli.localized import make_command, make_group
from vozmetro.cli.options import language
from vozmetro.cli.progress import ProgressLine
from vozmetro.cli.run import output as printing
from vozmetro.cli.run import print_json
from vozmetro.errors import InputError, VozmetroError
from vozmetro.i18n import t

if TYPE_CHECKING:
    from vozmetro.measure.quality_records import QualityStudy
    from vozmetro.report.corpus import Listed, Shown, State
    from vozmetro.speech.corpus import Utterance
    from vozmetro.speech.fetched import CorpusReceipt


def commands(lang: str) -> list[click.Command]:
    """Returns the group `corpus`."""
    group = make_group("corpus", lang, (_list, _fetch, _show))
    language(lang)(group)
    return [group]


def _list(lang: str) -> click.Command:
    say = partial(t, lang=lang)

    @click.option("--json", "as_json", is_flag=True, help=say("cli.json"))
    @language(lang)
    def run(as_json: bool) -> int:
        from rich.console import Console

        from vozmetro.report.corpus import print_list
        from vozmetro.speech import known

        listed = [_listed(name) for name in known.names()]
        with printing():
            if as_json:
                print_json([asdict(one) for one in listed])
            else:
                print_list(Console(), listed, lang)
        return 0

    return make_command("corpus", "list", lang, run)


def _listed(name: str) -> Listed:
    from vozmetro.report.corpus import Listed
    from vozmetro.speech import known

    facts = known.table()[name]
    return Listed(
        name=name,
        language=facts["language"],
        voice=facts["voice"],
        utterances=facts["count"],
        seconds=facts["seconds"],
        licence=facts["licence"],
        about=facts["about"],
        state=_state(name),
    )


def _state(name: str) -> State:
    """Whether a corpus is here, without hashing its sound for a list."""
    from vozmetro import packages
    from vozmetro.speech import fetched, known

    try:
        if known.is_fetched(name):
            return "here" if fetched.receipt_of(name) else "absent"
        facts = known.table()[name]
        first = facts["utterances"][0]["audio"]
        packages.locate(facts["package"], facts["version"], first, facts["extra"])
    except VozmetroError as error:
        return "absent" if error.code == "missing_extra" else "broken"
    return "here"


def _fetch(lang: str) -> click.Command:
    say = partial(t, lang=lang)

    @click.argument("names", metavar=say("cli.m_corpora"))
    @click.option(
        "--from", "given", type=click.Path(path_type=Path), metavar=say("cli.m_folder"),
        help=say("cli.corpus_from"),
    )  # fmt: skip
    @click.option("--refresh", is_flag=True, help=say("cli.corpus_refresh"))
    @click.option("--json", "as_json", is_flag=True, help=say("cli.json"))
    @language(lang)
    def run(names: str, given: Path | None, refresh: bool, as_json: bool) -> int:
        from vozmetro.speech import fetched

        told = []
        for corpus in _named(names):
            with ProgressLine(lang) as line:
                listen = partial(_fetching, line)
                if isinstance(corpus, str):
                    record = _of_hub(corpus, listen, refresh)
                else:
                    record = fetched.fetch(corpus, given=given, refresh=refresh, listen=listen)
            sounds = len(record.files) - 1
            folder = fetched.folder_of(record.name)
            came = [one.model_dump() for one in record.packages]
            told.append({"name": record.name, "folder": folder, "utterances": sounds,
                         "sha256": record.sha256, "packages": came})  # fmt: skip
            with printing():
                if not as_json:
                    click.echo(say("corpus.fetched", name=record.name, n=sounds, path=folder))
        if as_json:
            with printing():
                print_json(told)
        return 0

    return make_command("corpus", "fetch", lang, run)


def _fetching(line: ProgressLine, name: str) -> None:
    from vozmetro.measure.schedule import Progress

    line(Progress("fetching", name))


def _of_hub(place: str, listen: Callable[[str], None], refresh: bool) -> CorpusReceipt:
    """Gets a data set of a hub, and returns its record."""
    from vozmetro.speech import fetched, layouts

    layouts.hub(place, listen, refresh=refresh)
    record = fetched.receipt_of(layouts.hub_folder(place))
    if record is None:
        raise InputError("hub_corpus_failed", spec=place, detail="–")
    return record


def _named(names: str) -> list[dict[str, object] | str]:
    """The entries of the catalogue that a user names; of `hub:` the words behind it.

    Raises:
        InputError: `corpus_unknown`, or `corpus_not_fetched` for one that is installed.
    """
    from vozmetro.speech import known

    found: list[dict[str, object] | str] = []
    for name in dict.fromkeys(one.strip() for one in names.split(",") if one.strip()):
        if name.startswith("hub:"):
            found.append(name.removeprefix("hub:"))
            continue
        if name not in known.names():
            raise InputError("corpus_unknown", name=name, names=", ".join(known.names()))
        if not known.is_fetched(name):
            extra = known.table()[name]["extra"]
            raise InputError("corpus_not_fetched", name=name, extra=extra)
        found.append(known.table()[name])
    if not found:
        raise InputError("corpus_unknown", name=names, names=", ".join(known.names()))
    return found


def _show(lang: str) -> click.Command:
    say = partial(t, lang=lang)

    @click.argument("corpora", nargs=-1, required=True, metavar=say("cli.m_corpora_each"))
    @click.option(
        "--with", "study", type=click.Path(path_type=Path), metavar="quality.json",
        help=say("cli.corpus_with"),
    )  # fmt: skip
    @click.option("--json", "as_json", is_flag=True, help=say("cli.json"))
    @language(lang)
    def run(corpora: tuple[str, ...], study: Path | None, as_json: bool) -> int:
        from rich.console import Console

        from vozmetro.measure.storage import load_quality
        from vozmetro.report.corpus import print_shown

        record = load_quality(study) if study else None
        shown = [_shown(spec, record, lang) for spec in corpora]
        with printing():
            if as_json:
                print_json([asdict(one) for one in shown])
            else:
                for one in shown:
                    print_shown(Console(), one, lang)
        return 0

    return make_command("corpus", "show", lang, run)


def _shown(spec: str, study: QualityStudy | None, lang: str) -> Shown:
    from vozmetro.measure.schedule import Progress
    from vozmetro.report.corpus import Shown
    from vozmetro.speech.check import check
    from vozmetro.speech.corpus import corpora_info, load_corpus

    with ProgressLine(lang) as line:
        utterances = load_corpus(spec, listen=partial(_fetching, line))
        line(Progress("verifying", spec))
        found = check(utterances)
    return Shown(
        infos=corpora_info(spec, utterances),
        languages=dict(Counter(one.language for one in utterances)),
        speakers=len({one.speaker for one in utterances if one.speaker}),
        check=found,
        missed=None if study is None else _missed(utterances, study),
    )


def _missed(utterances: Sequence[Utterance], study: QualityStudy) -> list[str]:
    """Ids of utterances whose references are probably wrong, by what a study's subjects heard.

    Raises:
        InputError: `corpus_other_study` where the study heard none of them.
    """
    from vozmetro.quality.missed import LEAST_ENGINES, heard_in, missed_by_all

    by_path = {str(one.path): one for one in utterances}
    heard = heard_in(study, by_path.keys())
    if sum(map(bool, heard.values())) < LEAST_ENGINES:
        raise InputError("corpus_other_study", n=LEAST_ENGINES, id=study.id)
    paths = missed_by_all(
        {path: one.text for path, one in by_path.items()},
        heard,
        {path: one.language for path, one in by_path.items()},
    )
    return [by_path[path].id for path in paths]
