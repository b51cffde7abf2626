"""The listening page's server: what it lets in, what it gives out, and what survives a kill."""

from __future__ import annotations

import http.client
import json
import re
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from listen_helpers import JOIN, Client, Desk, plan, rating, study_in

from vozmetro.errors import InputError, OutputError
from vozmetro.i18n import catalogue
from vozmetro.quality.listen import server, serving
from vozmetro.quality.listen.create import Wish
from vozmetro.quality.listen.guard import HEADERS, Access
from vozmetro.quality.listen.store import Store
from vozmetro.quality.listen.study import digest

PAGE = Path(server.__file__).parent / "page"


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(study_in(tmp_path))


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Desk:
    """One study for all fuzzed requests; each example turns the clock on, so no rate is met."""
    return Desk(study_in(tmp_path_factory.mktemp("shared")))


def test_a_whole_test_as_the_page_takes_it(desk: Desk) -> None:
    client = desk.client()
    state = client.get("/api/state").json
    assert (state["step"], state["method"]) == ("welcome", "acr")
    joined = client.post("/api/join", JOIN)
    assert joined.json["step"] == "setup"
    cookie = joined.header("set-cookie").lower()
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    sample = joined.json["sample"]["id"]
    assert client.get(f"/api/clip/{sample}").body[:4] == b"RIFF"
    assert client.get("/api/tone/0").body[:4] == b"RIFF"
    assert client.post("/api/setup", {"device": "headphones", "tones": [0, 1, 2]}).status == 200
    trials = plan(desk.study, 0)
    for position, trial in enumerate(trials):
        state = client.get("/api/state").json
        told = state["trial"]
        assert (told["position"], told["total"]) == (position, len(trials))
        assert [clip["id"] for clip in told["clips"]] == [
            f"{position}-{place}" for place in range(len(trial.clips))
        ]
        assert told["training"] == (trial.kind == "training")
        # What the page is told must not say what a clip is.
        text = json.dumps(state)
        secrets = ("good", "bad", "gold", "repeat", "kind", "condition", trial.item + '"')
        for secret in (*secrets, *(clip.id for clip in desk.study.clips)):
            assert secret not in text
        desk.hear(client, told)
        value = trial.expected or 3
        done = client.post("/api/rate", rating(desk.study, trial, position, value))
        assert done.status == 200
    assert done.json["step"] == "done"
    assert client.post("/api/comment", {"comment": "a\x1b[31m\u202eb"}).json["commented"] is True
    listener = desk.store.listeners()[0]
    assert listener.comment == "a\ufffd[31m\ufffdb"
    assert (listener.name, listener.done, listener.device) == ("Ana", len(trials), "headphones")
    assert listener.tones_right in range(4)
    for one, trial in zip(desk.store.answered(), trials, strict=True):
        seconds = sum(clip.seconds for clip in desk.study.clips if clip.id in trial.clips)
        assert one.seconds == pytest.approx(seconds + 2.0)
    assert client.post("/api/leave", {}).status == 200
    client.cookies = {name: value for name, value in client.cookies.items() if value}
    assert client.get("/api/state").json["step"] == "welcome"


def test_nothing_is_rated_that_was_not_heard(desk: Desk) -> None:
    client = desk.ready()
    trial = plan(desk.study, 0)[0]
    answer = rating(desk.study, trial, 0, 3)
    assert client.post("/api/rate", answer).json == {"error": "not_heard"}
    assert client.get("/api/clip/0-0").status == 200
    desk.clock.now += 0.2
    early = client.post("/api/rate", answer)
    assert (early.status, early.json["error"]) == (425, "too_early")
    assert early.json["wait"] == pytest.approx(0.9 * 0.5 - 0.2, abs=0.002)
    assert client.post("/api/rate", {**answer, "plays": [0]}).json == {"error": "bad_answer"}
    assert desk.store.answered() == []
    desk.clock.now += 0.3
    assert client.post("/api/rate", answer).status == 200


def test_a_clock_put_back_locks_nobody_out(desk: Desk) -> None:
    client = desk.ready()
    trial = plan(desk.study, 0)[0]
    client.get("/api/clip/0-0")
    desk.clock.now -= 500
    client.get("/api/clip/0-0")
    desk.clock.now += 1
    assert client.post("/api/rate", rating(desk.study, trial, 0, 3)).status == 200


def test_answers_once_given_stay(desk: Desk) -> None:
    client = desk.ready()
    first, second = plan(desk.study, 0)[:2]
    desk.hear(client, client.get("/api/state").json["trial"])
    answer = rating(desk.study, first, 0, 4)
    assert client.post("/api/rate", answer).status == 200
    assert client.post("/api/rate", answer).json["trial"]["position"] == 1
    changed = rating(desk.study, first, 0, 5)
    assert client.post("/api/rate", changed).json == {"error": "already_rated"}
    ahead = rating(desk.study, second, 2, 4)
    assert client.post("/api/rate", ahead).json == {"error": "wrong_trial"}
    assert [dict(one.values) for one in desk.store.answered()] == [{"quality": [4]}]
    assert client.post("/api/setup", {"device": "headphones", "tones": []}).status == 200
    assert desk.store.listeners()[0].device == "speakers"


def test_who_answers_twice_at_once_is_counted_once(desk: Desk) -> None:
    client = desk.ready()
    trial = plan(desk.study, 0)[0]
    desk.hear(client, client.get("/api/state").json["trial"])
    bodies = [rating(desk.study, trial, 0, value) for value in (1, 2, 3, 4, 5)] * 2
    with ThreadPoolExecutor(8) as pool:
        replies = list(pool.map(lambda body: client.post("/api/rate", body), bodies))
    answered = desk.store.answered()
    assert len(answered) == 1
    kept = answered[0].values["quality"][0]
    for body, reply in zip(bodies, replies, strict=True):
        same = body["answers"]["quality"][0] == kept
        assert reply.status == (200 if same else 409)


def test_many_join_at_once_and_get_numbers_of_their_own(desk: Desk) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: desk.joined(), range(16)))
    assert [one.number for one in desk.store.listeners()] == list(range(16))


def test_a_listener_gets_the_clips_of_the_present_page_alone(desk: Desk) -> None:
    client = desk.ready()
    assert client.get("/api/clip/0-0").status == 200
    for name in ("0-1", "1-0", "0-reference", "sample", *(clip.id for clip in desk.study.clips)):
        assert client.get(f"/api/clip/{name}").status == 404
    assert client.get("/api/tone/0").status == 404
    assert desk.client().get("/api/clip/0-0").json == {"error": "no_session"}


@pytest.mark.parametrize(
    "path",
    [
        "/../study.json", "/static/../server.py", "/static/..%2fserver.py", "/static/index.html",
        "/api/clip/../../study.json", "/api/clip/..%2f..%2fstudy.json", "/study.json",
        "/ratings.sqlite", "/api/clip/%00", "/api/clip/" + "a" * 32, "/api/clip/" + "A" * 32,
        "/api/clip/", "/api/tone/-1", "/api/tone/3", "/api/tone/٠", "/api/texts/fr", "/docs",
        "/static/", "//etc/passwd", "/api/clip/" + "a" * 5000,
    ],
)  # fmt: skip
def test_nothing_else_is_served(shared: Desk, path: str) -> None:
    shared.clock.now += 1000
    client = shared.joined()
    for method in ("GET", "HEAD", "POST"):
        reply = client.ask(method, path)
        assert reply.status in ((404, 405) if method == "POST" else (404,)), (method, path)
        assert b"SQLite" not in reply.body


def test_a_clip_swapped_for_a_link_is_not_served(desk: Desk, tmp_path: Path) -> None:
    client = desk.ready()
    clip = plan(desk.study, 0)[0].clips[0]
    path = desk.folder / "clips" / f"{clip}.wav"
    secret = tmp_path / "secret"
    secret.write_bytes(path.read_bytes())
    path.unlink()
    path.symlink_to(secret)
    assert client.get("/api/clip/0-0").status == 404


def test_who_has_no_token_does_not_use_up_the_others_requests(tmp_path: Path) -> None:
    token = "a" * 24
    desk = Desk(study_in(tmp_path), Access("0.0.0.0", token, "mos.example.org"))
    stranger = Client(desk.app, host="mos.example.org")
    replies = [stranger.get("/api/state").status for _ in range(400)]
    assert replies[0] == 401
    assert replies[-1] == 429
    # Behind a proxy both have the same address.
    invited = {"authorization": f"Bearer {token}"}
    assert stranger.get("/api/state", headers=invited).status == 200


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=80),
    lambda inner: (
        st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=12), inner, max_size=5)
    ),
    max_leaves=20,
)
NEARLY = st.fixed_dictionaries(
    {
        "position": st.integers(-2, 40) | st.floats() | st.text(max_size=3),
        "answers": st.dictionaries(
            st.sampled_from(["quality", "empathy", "x"]),
            st.lists(st.integers(-200, 200) | st.booleans() | st.floats(), max_size=3),
            max_size=3,
        ),
        "plays": st.lists(st.integers(-1, 20_000), max_size=3),
    }
)
POSTS = st.sampled_from(["join", "setup", "rate", "comment", "leave"])


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(POSTS, st.binary(max_size=200) | JSON.map(lambda v: json.dumps(v).encode()) | NEARLY.map(
    lambda v: json.dumps(v).encode()), st.booleans())  # fmt: skip
def test_fuzzed_requests_are_answered_and_change_no_rating(
    shared: Desk, path: str, body: bytes, known: bool
) -> None:
    shared.clock.now += 1000
    client = shared.client()
    if known:
        if not getattr(shared, "someone", None):
            shared.someone = shared.ready()  # type: ignore[attr-defined]
        client.cookies = dict(shared.someone.cookies)  # type: ignore[attr-defined]
    before = shared.store.answered()
    reply = client.ask("POST", f"/api/{path}", body)
    assert reply.status in (200, 400, 401, 403, 409, 425)
    # Nothing was heard, so nothing that is sent can be taken for a rating.
    assert shared.store.answered() == before
    if reply.status != 200:
        code = reply.json["error"]
        for lang in ("es", "en"):
            assert f"listen.page.error_{code}" in catalogue(lang) or code in (
                "wrong_trial", "already_rated",
            )  # fmt: skip


@settings(max_examples=100)
@given(
    st.text(max_size=60),
    st.dictionaries(
        st.sampled_from(["cookie", "origin", "authorization", "content-length", "range"]),
        st.text(st.characters(codec="latin-1", exclude_categories=["Cc"]), max_size=80),
        max_size=3,
    ),
)
def test_fuzzed_paths_and_headers_are_answered(
    shared: Desk, path: str, headers: dict[str, str]
) -> None:
    shared.clock.now += 1000
    reply = shared.client().get("/" + path, headers=headers)
    assert reply.status in (200, 401, 404, 405)
    for name, value in HEADERS.items():
        assert reply.header(name.lower()) == value


def test_bodies_are_bounded_and_depth_too(desk: Desk) -> None:
    client = desk.ready()
    assert client.ask("POST", "/api/comment", b"[" * 8000).json == {"error": "bad_request"}
    pieces = [b"x" * 1000] * 20
    reply = client.ask("POST", "/api/comment", pieces=pieces)
    assert (reply.status, reply.json) == (413, {"error": "too_large"})
    long = {**JOIN, "name": "x" * 61}
    assert desk.client().post("/api/join", long).status == 400
    assert desk.client().post("/api/join", {**JOIN, "consent": False}).status == 400
    assert len(desk.store.listeners()) == 1


def test_requests_come_at_a_bounded_rate(desk: Desk) -> None:
    client = desk.ready()
    codes = [client.get("/api/state").status for _ in range(200)]
    assert set(codes) == {200, 429}
    other = desk.joined()
    assert other.get("/api/state").status == 200, "one session stops another"
    desk.clock.now += 10
    assert client.get("/api/state").status == 200
    joins = [desk.client().post("/api/join", JOIN).status for _ in range(100)]
    assert 429 in joins


def test_other_hosts_and_origins_are_turned_away(desk: Desk) -> None:
    client = desk.joined()
    for host in ("evil.example", "127.0.0.1.evil.example", "10.0.0.7", "", "a b", "[::1"):
        client.host = host
        assert client.get("/api/state").status == 421
    for host in ("localhost", "127.0.0.1:8765", "[::1]:8765", "LOCALHOST:1"):
        client.host = host
        assert client.get("/api/state").status == 200
    client.host = "127.0.0.1:8765"
    body = {"device": "speakers", "tones": []}
    for headers in (
        {"origin": "http://evil.example"}, {"origin": "null"}, {"content-type": "text/plain"},
        {"content-type": "application/x-www-form-urlencoded"}, {"sec-fetch-site": "cross-site"},
    ):  # fmt: skip
        assert client.post("/api/setup", body, headers=headers).json == {"error": "wrong_origin"}
    same = {"origin": "http://127.0.0.1:8765"}
    assert client.post("/api/setup", body, headers=same).status == 200


def test_beyond_loopback_every_request_carries_the_token(tmp_path: Path) -> None:
    token = "abcdefghijkl"
    desk = Desk(study_in(tmp_path), Access("0.0.0.0", token, "mos.example.org"))
    client = desk.client()
    for host in ("192.168.1.5:8765", "mos.example.org", "localhost"):
        client.host = host
        for path in ("/", "/static/app.js", "/api/state", "/api/texts/es", "/?token=wrong"):
            assert client.get(path).status == 401
    client.host = "evil.example"
    assert client.get(f"/?token={token}").status == 421
    client.host = "192.168.1.5:8765"
    entered = client.get(f"/?token={token}")
    assert (entered.status, entered.header("location")) == (303, "/")
    assert client.get("/").status == 200
    assert client.post("/api/join", JOIN).status == 200
    bearer = {"authorization": f"Bearer {token}"}
    assert desk.client().get("/api/state", headers=bearer).status == 200


def test_the_page_asks_nobody_else_and_holds_no_script_of_its_own(desk: Desk) -> None:
    html = desk.client().get("/").body.decode()
    assert not re.search(r"<script(?![^>]*src=)|\son\w+=|style=|https?://", html)
    code = "".join(path.read_text() for path in PAGE.iterdir())
    assert "innerHTML" not in code
    assert "https://" not in code.replace("http://127", "")
    assert {path.name for path in PAGE.iterdir()} == {*server.STATIC, "index.html"}
    for name, kind in server.STATIC.items():
        reply = desk.client().get(f"/static/{name}")
        assert (reply.status, reply.header("content-type")) == (200, kind)


def test_every_text_that_the_page_says_is_in_the_catalogues(desk: Desk) -> None:
    texts = desk.client().get("/api/texts/en").json
    code = "".join(path.read_text() for path in PAGE.glob("*.js"))
    said = set(re.findall(r'(?:\bt|label): "(\w+)"', code))
    said |= set(re.findall(r'(?:tell\([^,]+|complain\(), "(\w+)"', code))
    said |= {f"{m}_{part}" for m in ("acr", "ab", "ccr", "mushra") for part in ("title", "do")}
    said |= {f"intro_{m}" for m in ("acr", "ab", "ccr", "mushra")} | {"mushra_quality"}
    for scale in ("quality", "naturalness", "empathy", "appropriateness"):
        said |= {f"{m}_{scale}" for m in ("acr", "ab", "ccr")}
        said |= {f"{scale}_{n}" for n in range(1, 6)}
    said |= {f"ccr_{kind}_{n}" for kind in ("quality", "more") for n in range(-3, 4)}
    said |= {f"language_{code}" for code in re.findall(r'"(\w\w)"', code.split("];")[0])}
    assert said - set(texts) == set()
    assert len(said) > 100


WRITER = """
import sys
from pathlib import Path
from vozmetro.quality.listen.store import Profile, Store
store = Store(Path(sys.argv[1]), sys.argv[2])
store.join(1.0, Profile("es", "", "es", "normal"), str)
for position in range(100_000):
    store.fetched(0, position, "c", 1.0)
    assert store.rate(0, position, {"quality": [position % 5 + 1]}, 1, 2.0) == "stored"
    print(position, flush=True)
"""


def test_a_killed_process_loses_nothing_acknowledged(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(tmp_path), "d" * 64], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    acknowledged = [int(process.stdout.readline()) for _ in range(25)]
    process.send_signal(signal.SIGKILL)
    acknowledged += [int(line) for line in process.stdout if line.strip()]
    process.stdout.close()
    process.wait()
    store = Store(tmp_path, "d" * 64)
    found = {one.position: one.values["quality"][0] for one in store.answered()}
    store.close()
    assert {position: position % 5 + 1 for position in acknowledged}.items() <= found.items()
    # At most the one that was being written is there without having been acknowledged.
    assert len(found) - len(acknowledged) in (0, 1)


def test_ratings_of_another_study_or_another_file_are_not_touched(tmp_path: Path) -> None:
    Store(tmp_path, "a" * 64).close()
    with pytest.raises(InputError) as caught:
        Store(tmp_path, "b" * 64)
    assert caught.value.code == "listen_study_changed"
    path = tmp_path / "ratings.sqlite"
    assert path.stat().st_mode & 0o077 == 0, "others can read what listeners said"
    for wal in tmp_path.glob("ratings.sqlite-*"):
        wal.unlink()
    path.write_bytes(b"not a database, but long enough to look at" * 10)
    with pytest.raises(InputError) as caught:
        Store(tmp_path, "a" * 64)
    assert caught.value.code == "listen_ratings_damaged"
    path.unlink()
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(InputError):
        Store(tmp_path, "a" * 64)
    with pytest.raises(OutputError) as missing:
        Store(tmp_path / "none", "a" * 64)
    assert missing.value.code == "listen_ratings_unwritable"


def test_what_cannot_be_stored_is_not_acknowledged(desk: Desk) -> None:
    client = desk.ready()
    trial = plan(desk.study, 0)[0]
    desk.hear(client, client.get("/api/state").json["trial"])
    other = sqlite3.connect(desk.store.path)
    other.execute("CREATE TRIGGER full BEFORE INSERT ON ratings BEGIN SELECT RAISE(FAIL, 'x'); END")
    other.commit()
    reply = client.post("/api/rate", rating(desk.study, trial, 0, 3))
    assert (reply.status, reply.json) == (503, {"error": "not_stored"})
    other.execute("DROP TRIGGER full")
    other.commit()
    other.close()
    assert client.post("/api/rate", rating(desk.study, trial, 0, 3)).status == 200


def test_over_a_real_socket(tmp_path: Path) -> None:
    made = study_in(tmp_path)
    store = Store(made.folder, digest(made.study))
    import uvicorn

    listening = serving.bind("127.0.0.1", 0)
    app = server.create_app(made.study, made.folder, store)
    config = uvicorn.Config(app, http="h11", loop="asyncio", ws="none", lifespan="off",
                            log_config=None, access_log=False)  # fmt: skip
    running = uvicorn.Server(config)
    thread = threading.Thread(target=running.run, kwargs={"sockets": [listening]})
    thread.start()
    port = listening.getsockname()[1]
    try:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        connection.request("GET", "/")
        answer = connection.getresponse()
        assert (answer.status, answer.read()[:15]) == (200, b"<!doctype html>")
        connection.request(
            "POST", "/api/join", json.dumps(JOIN), {"content-type": "application/json"}
        )
        answer = connection.getresponse()
        assert (answer.status, json.loads(answer.read())["step"]) == (200, "setup")
        connection.close()
        # Two Host headers, and none: neither reaches the pages.
        for hosts in (b"Host: localhost\r\nHost: localhost\r\n", b""):
            with socket.create_connection(("127.0.0.1", port), timeout=10) as raw:
                raw.sendall(b"GET /api/state HTTP/1.1\r\n" + hosts + b"Connection: close\r\n\r\n")
                assert re.match(rb"HTTP/1.1 4\d\d", raw.recv(64))
    finally:
        running.should_exit = True
        thread.join()
        store.close()
    assert len(made.study.clips) > 0


def test_a_taken_port_and_a_strange_host_are_named() -> None:
    held = serving.bind("127.0.0.1", 0)
    port = held.getsockname()[1]
    cases: list[tuple[Any, Any, str]] = [
        ("127.0.0.1", port, "listen_port_taken"),
        ("127.0.0.1", 70_000, "listen_port_range"),
        ("no such host", 0, "listen_host_invalid"),
    ]
    for host, wanted, code in cases:
        with pytest.raises(InputError) as caught:
            serving.bind(host, wanted)
        assert caught.value.code == code
    held.close()


def test_mushra_answers_are_one_per_clip(tmp_path: Path) -> None:
    desk = Desk(study_in(tmp_path, Wish(method="mushra"), reference=True))
    client: Client = desk.ready()
    trial = plan(desk.study, 0)[0]
    state = client.get("/api/state").json["trial"]
    # The hidden reference is the open one's sound, and nothing that is told may say so.
    names = [clip["id"] for clip in (*state["clips"], state["reference"])]
    assert names == [*(f"0-{place}" for place in range(5)), "0-reference"]
    for name in names[:-1]:
        assert client.get(f"/api/clip/{name}").status == 200
    desk.clock.now += 100
    answer = rating(desk.study, trial, 0, 100)
    # Having heard the hidden one is not having heard the open one.
    assert client.post("/api/rate", answer).json == {"error": "not_heard"}
    desk.hear(client, state)
    assert client.post("/api/rate", {**answer, "answers": {"quality": [100]}}).status == 400
    assert client.post("/api/rate", {**answer, "answers": {"quality": [101] * 5}}).status == 400
    assert client.post("/api/rate", answer).status == 200
