"""`vozmetro listen`: a blind listening test, from folders of sounds to results."""

from __future__ import annotations

import re
import secrets
import socket
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import click

from vozmetro.cli.localized import make_command, make_group
from vozmetro.cli.options import having, language
from vozmetro.cli.run import output
from vozmetro.errors import InputError, MissingExtraError
from vozmetro.i18n import t

if TYPE_CHECKING:
    from vozmetro.quality.listen.create import Made

F = TypeVar("F", bound=Callable[..., Any])

_METHODS = ("acr", "ab", "ccr", "mushra")
_SCALES = ("quality", "naturalness", "empathy", "appropriateness")
_FOLDER = click.Path(path_type=Path)
_TOKEN = re.compile(r"[A-Za-z0-9_-]{12,128}")
_PORT = 8765


def commands(lang: str) -> list[click.Command]:
    """Returns the group `listen`."""
    group = make_group("listen", lang, (_start, _new, _serve, _results))
    language(lang)(group)
    return [group]


def _making(lang: str) -> Callable[[F], F]:
    """The options of what makes a study."""
    say = partial(t, lang=lang)
    options = [
        click.option("--reference", type=_FOLDER, metavar=say("cli.m_folder"),
                     help=say("cli.listen_reference")),
        click.option("--method", type=click.Choice(_METHODS), default="acr",
                     help=say("cli.listen_method", default="acr")),
        click.option("--scale", "scales", type=click.Choice(_SCALES), multiple=True,
                     help=say("cli.listen_scale", default="quality")),
        click.option("--out", type=_FOLDER, default=Path("listening"),
                     metavar=say("cli.m_folder"), help=say("cli.listen_out", default="listening")),
        click.option("--items", type=int, metavar="N", help=say("cli.listen_items")),
        click.option("--traps", type=int, metavar="N", help=say("cli.listen_traps")),
        click.option("--golds", type=int, metavar="N", help=say("cli.listen_golds")),
        click.option("--repeats", type=int, metavar="N", help=say("cli.listen_repeats")),
        click.option("--title", default="", metavar=say("cli.listen_m_text"),
                     help=say("cli.listen_title")),
        click.option("--seed", type=int, default=0, metavar="N",
                     help=say("cli.listen_seed", default=0)),
    ]  # fmt: skip

    return having(options)


def _serving(lang: str) -> Callable[[F], F]:
    """The options of what serves one."""
    say = partial(t, lang=lang)
    options = [
        click.option("--host", default="127.0.0.1", metavar=say("cli.listen_m_host"),
                     help=say("cli.listen_host", default="127.0.0.1")),
        click.option("--port", type=int, default=_PORT, metavar="N",
                     help=say("cli.listen_port", default=_PORT)),
        click.option("--token", metavar=say("cli.listen_m_text"), help=say("cli.listen_token")),
        click.option("--public-name", default="", metavar=say("cli.listen_m_host"),
                     help=say("cli.listen_public_name")),
    ]  # fmt: skip

    return having(options)


def _start(lang: str) -> click.Command:
    @click.argument("systems", nargs=-1, required=True, metavar=t("cli.listen_m_systems", lang))
    @_making(lang)
    @_serving(lang)
    @language(lang)
    def start(systems: tuple[str, ...], **chosen: Any) -> int:
        _check_token(chosen["token"])
        # Before the study is made, which would be in the way of the next attempt.
        listening = _serving_part().bind(chosen["host"], chosen["port"])
        try:
            made = _make(systems, chosen, lang)
            return _serve_study(made.folder, listening, chosen, lang)
        finally:
            listening.close()

    return make_command("listen", "start", lang, start)


def _new(lang: str) -> click.Command:
    say = partial(t, lang=lang)

    @click.option(
        "--system", "systems", multiple=True, required=True,
        metavar=say("cli.listen_m_system"), help=say("cli.listen_system"),
    )  # fmt: skip
    @_making(lang)
    @language(lang)
    def new(systems: tuple[str, ...], **chosen: Any) -> int:
        made = _make(systems, chosen, lang)
        click.echo(say("listen.serve_with", path=made.folder))
        return 0

    return make_command("listen", "new", lang, new)


def _serve(lang: str) -> click.Command:
    @click.argument("study", type=_FOLDER, metavar=t("cli.listen_m_study", lang))
    @_serving(lang)
    @language(lang)
    def serve(study: Path, **chosen: Any) -> int:
        _check_token(chosen["token"])
        listening = _serving_part().bind(chosen["host"], chosen["port"])
        try:
            return _serve_study(study.expanduser(), listening, chosen, lang)
        finally:
            listening.close()

    return make_command("listen", "serve", lang, serve)


def _results(lang: str) -> click.Command:
    say = partial(t, lang=lang)

    @click.argument("study", type=_FOLDER, metavar=say("cli.listen_m_study"))
    @click.option("--half-width", type=float, metavar="X", help=say("cli.listen_half_width"))
    @click.option("--comments", is_flag=True, help=say("cli.listen_comments"))
    @click.option("--json", "as_json", is_flag=True, help=say("cli.json"))
    @language(lang)
    def results(study: Path, half_width: float | None, comments: bool, as_json: bool) -> int:
        from rich.console import Console

        from vozmetro.measure.listening_records import save
        from vozmetro.quality.listen.results import read
        from vozmetro.report.listening import print_listening

        record, left = read(study, half_width)
        path = save(record, study)
        with output():
            if as_json:
                click.echo(record.model_dump_json(indent=1))
                return 0
            told = [(one.number, one.name, one.text) for one in left] if comments else []
            print_listening(Console(), record, lang, told)
            click.echo("\n" + say("listen.saved", path=path))
            if record.comments and not comments:
                click.echo(say("listen.comments_there", n=record.comments))
        return 0

    return make_command("listen", "results", lang, results)


def _make(systems: tuple[str, ...], chosen: dict[str, Any], lang: str) -> Made:
    """Makes a study and says what it holds."""
    from vozmetro.quality.listen.create import Wish, create, parse_system
    from vozmetro.quality.listen.plan import trials

    page: Literal["es", "en"] = "en" if lang == "en" else "es"
    wish = Wish(
        method=chosen["method"],
        scales=list(dict.fromkeys(chosen["scales"])) or ["quality"],
        items_per_listener=chosen["items"],
        traps=chosen["traps"],
        golds=chosen["golds"],
        repeats=chosen["repeats"],
        seed=chosen["seed"],
        title=chosen["title"],
        language=page,
    )
    out, reference = chosen["out"].expanduser(), chosen["reference"]
    made = create([parse_system(text) for text in systems], out, wish, reference)
    study = made.study
    fields = {
        "path": made.folder, "systems": len(study.systems), "items": len(study.items),
        "trials": len(trials(study, 0)), "loudness": f"{study.loudness:.1f}",
    }  # fmt: skip
    click.echo(t("listen.made", lang, **fields))
    if made.left_out:
        click.echo(t("listen.items_left_out", lang, n=len(made.left_out)))
    return made


def _serving_part() -> Any:
    """Returns the module that serves; what it needs is looked for before anything is made."""
    try:
        import starlette  # noqa: F401
        import uvicorn  # noqa: F401
    except ModuleNotFoundError as error:
        raise MissingExtraError("listen", str(error.name)) from error
    from vozmetro.quality.listen import serving

    return serving


def _check_token(token: str | None) -> None:
    if token is not None and not _TOKEN.fullmatch(token):
        raise InputError("listen_token_invalid")


def _serve_study(folder: Path, listening: socket.socket, chosen: dict[str, Any], lang: str) -> int:
    """Serves a study until Ctrl-C, and says where it is."""
    from vozmetro.quality.listen.guard import Access, is_loopback
    from vozmetro.quality.listen.server import create_app
    from vozmetro.quality.listen.store import Store
    from vozmetro.quality.listen.study import check_clips, digest, load

    host, token, public_name = chosen["host"], chosen["token"], chosen["public_name"]
    study = load(folder)
    check_clips(study, folder)
    if token is None:
        # A name for others to come by means a proxy, which makes loopback reachable.
        alone = is_loopback(host) and not public_name
        token = "" if alone else secrets.token_urlsafe(24)
    store = Store(folder, digest(study))
    try:
        bound = listening.getsockname()[1]
        query = f"/?token={token}" if token else "/"
        # A proxy speaks HTTPS on its own port.
        place = f"https://{public_name}" if public_name else f"http://{reachable(host)}:{bound}"
        click.echo(t("listen.serving", lang, address=f"{place}{query}"))
        if not is_loopback(host):
            click.echo(t("listen.exposed", lang))
        click.echo(t("listen.stop_with", lang))
        _serving_part().run(
            create_app(study, folder, store, Access(host, token, public_name)), listening
        )
        click.echo("\n" + t("listen.stopped", lang, n=len(store.listeners()), path=folder))
    finally:
        store.close()
    return 0


def reachable(host: str) -> str:
    """Returns the address to print for a host: of all addresses, one that others can reach."""
    if host in ("0.0.0.0", "::"):  # noqa: S104
        probe = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            # Nothing is sent: it only asks which of our addresses a packet would leave from.
            probe.connect(("192.0.2.1", 9))
            return str(probe.getsockname()[0])
        except OSError:
            return socket.gethostname()
        finally:
            probe.close()
    return f"[{host}]" if ":" in host else host
