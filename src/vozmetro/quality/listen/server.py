"""The listening page's server: the routes that it needs, and nothing else."""

from __future__ import annotations

import asyncio
import json
import re
import sqlite3
import time
from collections.abc import Callable
from functools import lru_cache
from importlib import resources
from pathlib import Path

import numpy as np
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from vozmetro.i18n import LANGUAGES, catalogue
from vozmetro.quality.listen import answers, clips
from vozmetro.quality.listen.answers import MOST_BODY, TONE_ROUNDS
from vozmetro.quality.listen.guard import DAYS, Access, Guard, Rates, problem
from vozmetro.quality.listen.plan import Trial, dumped, loaded, trials
from vozmetro.quality.listen.store import Listener, Profile, Store
from vozmetro.quality.listen.study import Study, read_clip

STATIC = {
    "app.js": "text/javascript; charset=utf-8",
    "api.js": "text/javascript; charset=utf-8",
    "ui.js": "text/javascript; charset=utf-8",
    "player.js": "text/javascript; charset=utf-8",
    "steps.js": "text/javascript; charset=utf-8",
    "trial.js": "text/javascript; charset=utf-8",
    "style.css": "text/css; charset=utf-8",
}
"""Files of the page, by name."""
SAMPLE = "sample"
"""What the page calls the sound by which the volume is set."""
TEXTS = "listen.page."
"""Prefix of the page's texts in the catalogues."""
PLAYED = 0.9
"""Share of the sounds' length that must have gone by: clocks of browser and server differ."""
_BODY_SECONDS = 10
_SESSION = re.compile(r"[A-Za-z0-9_-]{32}")


def create_app(
    study: Study,
    folder: Path,
    store: Store,
    access: Access | None = None,
    clock: Callable[[], float] = time.time,
) -> Guard:
    """Returns the ASGI application.

    Args:
        study: What is served; its clips have been checked.
        folder: The study's.
        store: Where answers go.
        access: Who may ask; only this machine where it is not said.
        clock: Seconds since 1970.
    """
    pages = _Pages(study, folder, store, clock)
    routes = [
        Route("/", pages.index),
        Route("/static/{name}", pages.static),
        Route("/api/texts/{lang}", pages.texts),
        Route("/api/state", pages.state),
        Route("/api/join", pages.join, methods=["POST"]),
        Route("/api/setup", pages.set_up, methods=["POST"]),
        Route("/api/rate", pages.rate, methods=["POST"]),
        Route("/api/comment", pages.comment, methods=["POST"]),
        Route("/api/leave", pages.leave, methods=["POST"]),
        Route("/api/tone/{turn}", pages.tone),
        Route("/api/clip/{clip}", pages.clip),
    ]
    handlers = {HTTPException: _refused, sqlite3.Error: _not_stored}
    app = Starlette(routes=routes, exception_handlers=handlers)  # type: ignore[arg-type]
    # A redirect would repeat what the Host header says.
    app.router.redirect_slashes = False
    return Guard(app, access or Access(), study.id, clock)


async def _refused(_: Request, error: HTTPException) -> Response:
    code = {
        401: "no_session", 404: "not_found", 405: "not_found", 408: "too_slow", 413: "too_large",
        429: "too_many",
    }  # fmt: skip
    return problem(error.status_code, code.get(error.status_code, "bad_request"))


async def _not_stored(_: Request, __: sqlite3.Error) -> Response:
    return problem(503, "not_stored")


def _json(value: object, status: int = 200) -> Response:
    body = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return Response(body, status_code=status, media_type="application/json")


async def _body(request: Request) -> bytes:
    """Reads a request's body, of bounded length and in bounded time."""

    async def read() -> bytes:
        data = b""
        async for piece in request.stream():
            data += piece
            if len(data) > MOST_BODY:
                raise HTTPException(413)
        return data

    try:
        return await asyncio.wait_for(read(), _BODY_SECONDS)
    except TimeoutError as error:
        raise HTTPException(408) from error


class _Pages:
    """The handlers. Each reads its request, and works in a thread because the store waits."""

    def __init__(
        self, study: Study, folder: Path, store: Store, clock: Callable[[], float]
    ) -> None:
        self._study, self._folder, self._store, self._clock = study, folder, store, clock
        self._clips = study.by_id()
        self._cookie = f"vozmetro_listener_{study.id}"
        self._joins = Rates(2, 60, clock)
        self._rates = Rates(30, 120, clock)
        place = resources.files("vozmetro.quality.listen").joinpath("page")
        self._static = {name: place.joinpath(name).read_bytes() for name in STATIC}
        html = place.joinpath("index.html").read_text(encoding="utf-8")
        self._index = html.replace("{language}", study.language)
        # Each request asks for the plan of one of the few who are listening.
        self._read = lru_cache(maxsize=256)(lambda text: loaded(text, study))
        self._usual = trials(study, 0)
        self._texts = {lang: _page_texts(lang) for lang in LANGUAGES}

    async def index(self, _: Request) -> Response:
        return Response(self._index, media_type="text/html; charset=utf-8")

    async def static(self, request: Request) -> Response:
        name = request.path_params["name"]
        if name not in self._static:
            return problem(404, "not_found")
        return Response(self._static[name], headers={"Content-Type": STATIC[name]})

    async def texts(self, request: Request) -> Response:
        texts = self._texts.get(request.path_params["lang"])
        return _json(texts) if texts else problem(404, "not_found")

    async def state(self, request: Request) -> Response:
        return await run_in_threadpool(self._state, request)

    def _state(self, request: Request) -> Response:
        return _json(self._told(self._listener(request)))

    async def join(self, request: Request) -> Response:
        sent = answers.parse(answers.Join, await _body(request))
        if sent is None:
            return problem(400, "bad_request")
        return await run_in_threadpool(self._join, request, sent)

    def _join(self, request: Request, sent: answers.Join) -> Response:
        known = self._listener(request)
        if known is not None:
            return _json(self._told(known))
        if not self._joins.allow("join"):
            return problem(429, "too_many")
        name = answers.clean(sent.name)
        who = Profile(sent.lang, name, sent.first_language, sent.hearing)
        study = self._study
        token = self._store.join(self._clock(), who, lambda n: dumped(trials(study, n)))
        if token is None:
            return problem(403, "study_full")
        answer = _json(self._told(self._store.find(token)))
        answer.set_cookie(
            self._cookie, token, max_age=DAYS * 86400, httponly=True, samesite="strict"
        )
        return answer

    async def set_up(self, request: Request) -> Response:
        sent = answers.parse(answers.Setup, await _body(request))
        if sent is None:
            return problem(400, "bad_request")
        return await run_in_threadpool(self._set_up, request, sent)

    def _set_up(self, request: Request, sent: answers.Setup) -> Response:
        listener = self._known(request)
        if listener.device is None:
            right = None
            if len(sent.tones) == TONE_ROUNDS:
                rounds = enumerate(sent.tones)
                right = sum(self._tones(listener, turn)[0] == given for turn, given in rounds)
            self._store.set_up(listener.number, sent.device, right)
        return self._state(request)

    async def rate(self, request: Request) -> Response:
        sent = answers.parse(answers.Rate, await _body(request))
        if sent is None:
            return problem(400, "bad_request")
        return await run_in_threadpool(self._rate, request, sent)

    def _rate(self, request: Request, sent: answers.Rate) -> Response:
        listener = self._known(request)
        plan = self._read(listener.plan)
        if listener.device is None or sent.position > listener.done or sent.position >= len(plan):
            return problem(409, "wrong_trial")
        trial = plan[sent.position]
        if not answers.fits(sent, self._study, trial):
            return problem(400, "bad_answer")
        now = self._clock()
        if sent.position == listener.done:
            refused = self._unheard(listener, sent.position, trial, now)
            if refused is not None:
                return refused
        number, plays = listener.number, sum(sent.plays)
        given = {str(scale): values for scale, values in sent.answers.items()}
        outcome = self._store.rate(number, sent.position, given, plays, now)
        if outcome == "different":
            return problem(409, "already_rated")
        return self._state(request)

    def _unheard(
        self, listener: Listener, position: int, trial: Trial, now: float
    ) -> Response | None:
        """Refuses an answer to what cannot have been heard, whatever the browser says."""
        begun, asked = self._store.heard(listener.number, position)
        if begun is None or not set(_slots(position, trial)) <= asked:
            return problem(409, "not_heard")
        wait = PLAYED * self._seconds(trial) - (now - begun)
        return problem(425, "too_early", wait=round(wait, 3)) if wait > 0 else None

    def _seconds(self, trial: Trial) -> float:
        return sum(self._clips[clip].seconds for clip in _slots(0, trial).values())

    async def comment(self, request: Request) -> Response:
        sent = answers.parse(answers.Comment, await _body(request))
        if sent is None:
            return problem(400, "bad_request")
        return await run_in_threadpool(self._comment, request, sent)

    def _comment(self, request: Request, sent: answers.Comment) -> Response:
        listener = self._known(request)
        if listener.done < len(self._read(listener.plan)):
            return problem(409, "wrong_trial")
        self._store.comment(listener.number, answers.clean(sent.comment))
        return self._state(request)

    async def leave(self, request: Request) -> Response:
        await _body(request)
        answer = _json({})
        answer.delete_cookie(self._cookie, httponly=True, samesite="strict")
        return answer

    async def tone(self, request: Request) -> Response:
        return await run_in_threadpool(self._tone, request)

    def _tone(self, request: Request) -> Response:
        listener = self._known(request)
        turn = request.path_params["turn"]
        if turn not in {str(n) for n in range(TONE_ROUNDS)} or listener.device is not None:
            return problem(404, "not_found")
        return _wav(clips.check_tones(*self._tones(listener, int(turn))))

    def _tones(self, listener: Listener, turn: int) -> tuple[int, int]:
        """Which tone of a round is the quietest, and which one is turned."""
        seed = (self._study.seed, 4, listener.number, turn)
        order = np.random.default_rng(seed).permutation(clips.TONES_PER_ROUND)
        return int(order[0]), int(order[1])

    async def clip(self, request: Request) -> Response:
        return await run_in_threadpool(self._clip, request)

    def _clip(self, request: Request) -> Response:
        listener = self._known(request)
        slot = request.path_params["clip"]
        # Of the study's sounds, a listener gets those of the present page alone.
        clip = self._offered(listener).get(slot)
        data = read_clip(self._folder, self._clips[clip]) if clip else None
        if data is None:
            return problem(404, "not_found")
        if listener.device is not None:
            self._store.fetched(listener.number, listener.done, slot, self._clock())
        return _wav(data)

    def _offered(self, listener: Listener) -> dict[str, str]:
        """Clips of the present page by what the page calls them."""
        if listener.device is None:
            return {SAMPLE: self._sample(listener)}
        plan = self._read(listener.plan)
        if listener.done >= len(plan):
            return {}
        return _slots(listener.done, plan[listener.done])

    def _sample(self, listener: Listener) -> str:
        """The clip by which the volume is set: another system's for each listener."""
        study = self._study
        wanted = (study.conditions[listener.number % len(study.conditions)], study.training_item)
        return next(c.id for c in study.clips if (c.condition, c.item) == wanted)

    def _listener(self, request: Request) -> Listener | None:
        token = request.cookies.get(self._cookie, "")
        if not _SESSION.fullmatch(token):
            return None
        listener = self._store.find(token)
        if listener is not None and not self._rates.allow(listener.number):
            raise HTTPException(429)
        return listener

    def _known(self, request: Request) -> Listener:
        listener = self._listener(request)
        if listener is None:
            raise HTTPException(401)
        return listener

    def _told(self, listener: Listener | None) -> dict[str, object]:
        """What the page must know, and nothing that says what a clip is."""
        study = self._study
        told: dict[str, object] = {
            "title": study.title,
            "method": study.method,
            "scales": study.scales,
            "minutes": self._minutes(listener),
        }
        if listener is None:
            return {**told, "step": "welcome"}
        if listener.device is None:
            seconds = self._clips[self._sample(listener)].seconds
            return {
                **told, "step": "setup", "sample": {"id": SAMPLE, "seconds": seconds},
                "rounds": TONE_ROUNDS,
            }  # fmt: skip
        plan = self._read(listener.plan)
        if listener.done >= len(plan):
            return {**told, "step": "done", "commented": bool(listener.comment)}
        trial = plan[listener.done]
        return {**told, "step": "trial", "trial": self._trial(trial, listener.done, len(plan))}

    def _trial(self, trial: Trial, position: int, total: int) -> dict[str, object]:
        sounds = [
            {"id": slot, "seconds": self._clips[clip].seconds}
            for slot, clip in _slots(position, trial).items()
        ]
        return {
            "position": position,
            "total": total,
            "training": trial.kind == "training",
            "clips": sounds[: len(trial.clips)],
            "reference": sounds[-1] if trial.reference else None,
            "expected": trial.expected,
        }

    def _minutes(self, listener: Listener | None) -> int:
        """About how long the test takes: the sounds, and some seconds for each answer."""
        plan = self._read(listener.plan) if listener else self._usual
        each = 5 * len(self._study.scales) if self._study.method != "mushra" else 30
        seconds = sum(self._seconds(trial) + each for trial in plan)
        return max(1, round(seconds / 60) + 1)


def _slots(position: int, trial: Trial) -> dict[str, str]:
    """Clips of a trial by what its page calls them: their place, which tells nothing.

    The clips' own names would tell: a hidden reference's is the open one's, and a repeat's that of
    the first time.
    """
    found = {f"{position}-{place}": clip for place, clip in enumerate(trial.clips)}
    return {**found, f"{position}-reference": trial.reference} if trial.reference else found


def _page_texts(lang: str) -> dict[str, str]:
    return {k.removeprefix(TEXTS): v for k, v in catalogue(lang).items() if k.startswith(TEXTS)}


def _wav(data: bytes) -> Response:
    return Response(data, media_type="audio/wav")
