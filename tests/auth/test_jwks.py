"""A set of keys behind a URL: read in time, never twice at once, and never in the loop's way."""

import json
import logging
import time
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread
from typing import Any

import anyio
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519
from jwt.algorithms import OKPAlgorithm

from asgi_notify.auth import jwks
from asgi_notify.auth.jwt import JWTVerifier
from asgi_notify.exceptions import ConfigurationError, Unauthorized, VerifierUnavailable

pytestmark = pytest.mark.anyio

KEYS = {name: ed25519.Ed25519PrivateKey.generate() for name in ("old", "new", "forged")}


def token(name: str) -> str:
    claims = {"sub": "ann", "exp": time.time() + 60}
    return jwt.encode(claims, KEYS[name], "EdDSA", {"kid": name})


def key_set(*names: str) -> bytes:
    public = [
        {**OKPAlgorithm.to_jwk(KEYS[name].public_key(), as_dict=True), "kid": name}
        for name in names
    ]
    return json.dumps({"keys": public}).encode()


class Issuer:
    """A login service, which says by what its tokens are verified."""

    def __init__(self) -> None:
        self.status, self.body = 200, key_set("old")
        self.headers: dict[str, str] = {}
        self.asked: list[str] = []
        self.may_answer = Event()
        self.may_answer.set()
        self.drips = False
        issuer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                issuer.asked.append(self.path)
                issuer.may_answer.wait(20)
                self.send_response(issuer.status)
                for name, value in issuer.headers.items():
                    self.send_header(name, value)
                self.end_headers()
                with suppress(OSError):  # whoever asked has had enough
                    self._write(issuer.body)

            def _write(self, body: bytes) -> None:
                if not issuer.drips:
                    self.wfile.write(body)
                    return
                while True:
                    self.wfile.write(b" ")
                    time.sleep(0.02)

            def log_message(self, *args: Any) -> None: ...

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/keys"


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    issuer = Issuer()
    thread = Thread(target=issuer.server.serve_forever, args=(0.01,))
    thread.start()
    yield issuer
    issuer.may_answer.set()
    issuer.server.shutdown()
    thread.join()
    issuer.server.server_close()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def verify(issuer: Issuer, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> JWTVerifier:
    verifier = JWTVerifier(jwks=issuer.url)
    assert verifier._set is not None
    verifier._set._clock = clock
    monkeypatch.setattr(jwks, "TIME_LIMIT", 20.0)  # a busy machine is slow
    return verifier


async def until_idle(verify: JWTVerifier) -> None:
    assert verify._set is not None
    with anyio.fail_after(10):
        while verify._set._reading is not None:  # noqa: ASYNC110  # nothing tells
            await anyio.sleep(0.005)


async def test_it_is_asked_at_the_first_token_and_then_no_more(
    issuer: Issuer, verify: JWTVerifier
) -> None:
    assert issuer.asked == []
    for _ in range(3):
        assert (await verify(token("old"))).id == "ann"
    assert issuer.asked == ["/keys"]


async def test_many_who_wait_have_it_asked_once_and_the_loop_goes_on(
    issuer: Issuer, verify: JWTVerifier
) -> None:
    issuer.may_answer.clear()
    users = []

    async def ask() -> None:
        users.append((await verify(token("old"))).id)

    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            for _ in range(50):
                tasks.start_soon(ask)
            while not issuer.asked:  # noqa: ASYNC110  # the loop turns, while the issuer waits
                await anyio.sleep(0.005)
            assert users == []
            issuer.may_answer.set()
    assert users == ["ann"] * 50
    assert issuer.asked == ["/keys"]


async def test_one_who_leaves_does_not_keep_the_others_from_the_keys(
    issuer: Issuer, verify: JWTVerifier
) -> None:
    issuer.may_answer.clear()
    with anyio.move_on_after(0.05):
        await verify(token("old"))
    issuer.may_answer.set()
    assert (await verify(token("old"))).id == "ann"
    assert issuer.asked == ["/keys"]


async def test_a_key_that_is_not_known_has_it_asked_again(
    issuer: Issuer, verify: JWTVerifier, clock: Clock
) -> None:
    await verify(token("old"))
    issuer.body = key_set("old", "new")
    clock.now += jwks.FLOOR
    assert (await verify(token("new"))).id == "ann"
    assert (await verify(token("old"))).id == "ann"
    assert len(issuer.asked) == 2


async def test_however_many_unknown_keys_there_is_a_time_between(
    issuer: Issuer, verify: JWTVerifier, clock: Clock
) -> None:
    await verify(token("old"))
    for _ in range(20):
        with pytest.raises(Unauthorized):
            await verify(token("forged"))
    assert len(issuer.asked) == 1
    clock.now += jwks.FLOOR
    for _ in range(20):
        with pytest.raises(Unauthorized):
            await verify(token("forged"))
    assert len(issuer.asked) == 2


async def test_old_keys_count_while_it_is_asked_again(
    issuer: Issuer, verify: JWTVerifier, clock: Clock
) -> None:
    await verify(token("old"))
    clock.now += jwks.MAX_AGE
    issuer.body = key_set("new")
    issuer.may_answer.clear()
    assert (await verify(token("old"))).id == "ann"  # it does not wait
    issuer.may_answer.set()
    await until_idle(verify)
    with pytest.raises(Unauthorized):  # its owner has withdrawn that key
        await verify(token("old"))
    assert (await verify(token("new"))).id == "ann"
    assert len(issuer.asked) == 2


async def test_a_key_that_was_withdrawn_long_ago_does_not_count_after_a_silence(
    issuer: Issuer, verify: JWTVerifier, clock: Clock
) -> None:
    await verify(token("old"))
    issuer.body = key_set("new")
    clock.now += 2 * jwks.MAX_AGE
    with pytest.raises(Unauthorized):  # not even the first one, which has it asked again
        await verify(token("old"))
    assert len(issuer.asked) == 2


async def test_an_issuer_that_fails_after_a_silence_is_waited_for_once(
    issuer: Issuer, verify: JWTVerifier, clock: Clock
) -> None:
    await verify(token("old"))
    good, issuer.body = issuer.body, b"no JSON"
    clock.now += 2 * jwks.MAX_AGE
    assert (await verify(token("old"))).id == "ann"  # it has waited, in vain
    assert len(issuer.asked) == 2
    clock.now += jwks.FLOOR
    issuer.may_answer.clear()
    with anyio.fail_after(5):
        assert (await verify(token("old"))).id == "ann"  # it does not wait
    issuer.body = good
    issuer.may_answer.set()
    await until_idle(verify)


async def test_keys_of_an_issuer_that_fails_go_on_to_count(
    issuer: Issuer, verify: JWTVerifier, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    await verify(token("old"))
    issuer.status = 500
    clock.now += jwks.MAX_AGE
    with caplog.at_level(logging.WARNING, "asgi_notify"):
        assert (await verify(token("old"))).id == "ann"
        await until_idle(verify)
    assert (await verify(token("old"))).id == "ann"
    (line,) = caplog.messages
    assert "500" in line
    assert "the old ones go on to count" in line
    # A key that it does not know may be one that the issuer has made meanwhile.
    with pytest.raises(VerifierUnavailable):
        await verify(token("new"))


BROKEN: dict[str, dict[str, Any]] = {
    "an error": {"status": 503},
    "no JSON": {"body": b"<html>"},
    "no keys": {"body": b'{"keys": []}'},
    "too large": {"body": b" " * (jwks.MAX_SIZE + 1)},
    "no end": {"drips": True},
    "another place": {"status": 302, "headers": {"location": "/elsewhere"}},
    "a file": {"status": 301, "headers": {"location": "file:///etc/passwd"}},
}


@pytest.mark.parametrize("way", BROKEN)
async def test_without_keys_nobody_is_let_in_and_nobody_is_blamed(
    way: str, issuer: Issuer, verify: JWTVerifier, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A busy machine takes a second for what has to succeed in time.
    monkeypatch.setattr(jwks, "TIME_LIMIT", 0.3 if way == "no end" else 20.0)
    vars(issuer).update(BROKEN[way])
    for _ in range(2):  # the second one does not ask again
        with pytest.raises(VerifierUnavailable):
            await verify(token("old"))
    if way != "no end":  # where even to connect may have taken too long
        assert issuer.asked == ["/keys"]
    monkeypatch.setattr(jwks, "TIME_LIMIT", 20.0)
    issuer.status, issuer.body, issuer.drips = 200, key_set("old"), False
    clock.now += jwks.FLOOR
    assert (await verify(token("old"))).id == "ann"


async def test_an_issuer_that_does_not_answer_is_waited_for_no_longer_than_the_limit(
    issuer: Issuer, verify: JWTVerifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jwks, "TIME_LIMIT", 0.2)
    issuer.may_answer.clear()
    with anyio.fail_after(10), pytest.raises(VerifierUnavailable):
        await verify(token("old"))


async def test_an_issuer_that_is_away_is_said_without_its_query(
    caplog: pytest.LogCaptureFixture,
) -> None:
    verify = JWTVerifier(jwks="http://127.0.0.1:9/keys?key=the-secret")
    with caplog.at_level(logging.DEBUG, "asgi_notify"), pytest.raises(VerifierUnavailable):
        await verify(token("old"))
    assert "the-secret" not in caplog.text
    assert "127.0.0.1" in caplog.text


@pytest.mark.parametrize(
    "url",
    ["http://login.example/keys", "ftp://login.example/", "file:///etc/keys", "https://", "x://y"],
)
def test_keys_come_by_https_from_other_machines(url: str) -> None:
    with pytest.raises(ConfigurationError, match="keys"):
        JWTVerifier(jwks=url)


def test_keys_of_a_url_are_not_asked_for_at_the_start() -> None:
    verify = JWTVerifier(jwks="https://login.example/keys")
    assert verify._set is not None
    assert verify._set._reading is None
