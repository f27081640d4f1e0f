"""What an anonymous client can make the server keep: filled, and measured against what is stated.

Where a bound is met, the comment says what was measured when it was set.
"""

import gc
import re
import socket
import time
import tracemalloc
from contextlib import suppress
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import anyio
import pytest

from asgi_notify import InMemoryChannelLayer, Limits, Settings
from asgi_notify.app import make_application
from asgi_notify.layers.registry import layer_from_url
from tests.cli.serving import Serve
from tests.consumers.harness import Wire, assert_nothing_left, left, text
from tests.hostile.probes import GOODBYE, TEXT, frame
from tests.limits.harness import request, until
from tests.limits.harness import socket as client
from tests.servers import HOST
from tests.sockets import Socket

pytestmark = pytest.mark.anyio

MIB = 1024 * 1024
EVERYBODY = "203.0.113.%d"


def subscriber(number: int, groups: range, since: str = "") -> Wire:
    frames = [f'{{"type":"subscribe","group":"user_{each}"{since}}}' for each in groups]
    wire = client(*map(text, frames), host=EVERYBODY % number, path="/notifications/")
    wire.scope["subprotocols"] = ["asgi-notify.v1"]
    return wire


def subscribed(wire: Wire) -> int:
    return sum('"type":"subscribed"' in each for each in wire.texts)


async def test_watching_makes_no_history_and_leaves_nothing() -> None:
    layer = layer_from_url(Settings.layer)
    assert isinstance(layer, InMemoryChannelLayer)
    app = make_application(layer=layer)
    since = (await layer.history("user_0")).position
    wires = [
        subscriber(number, range(number * 100, number * 100 + 100), f',"since":"{since}"')
        for number in range(10)
    ]
    wires += [
        request(
            host=EVERYBODY % 1, path=f"/notifications/{number}/", query=f"since={since}&timeout=0"
        )
        for number in range(5000, 5100)
    ]
    async with anyio.create_task_group() as tasks:
        for wire in wires:
            tasks.start_soon(wire.run, app)
        await until(lambda: all(subscribed(wire) == 100 for wire in wires[:10]))
        assert layer.statistics()["groups"] >= 1000
        assert layer.statistics()["history_groups"] == 0
        for wire in wires[:10]:
            wire.tell(left())
        for wire in wires[10:]:
            wire.tell({"type": "http.disconnect"})
    assert layer.statistics()["groups"] == 0
    assert layer.statistics()["history_groups"] == 0
    assert_nothing_left(layer, "user_1", "user_5000")


async def test_a_subscription_takes_so_much() -> None:
    layer = layer_from_url(Settings.layer)
    app = make_application(layer=layer)
    async with anyio.create_task_group() as tasks:

        async def memory_of(groups: range) -> int:
            wire = subscriber(1, groups)
            gc.collect()
            before = tracemalloc.get_traced_memory()[0]
            tasks.start_soon(wire.run, app)
            await until(lambda: subscribed(wire) == len(groups))
            wire.sent.clear()
            gc.collect()
            wires.append(wire)
            return tracemalloc.get_traced_memory()[0] - before

        wires: list[Wire] = []
        await memory_of(range(100))
        tracemalloc.start()
        try:
            few, many = await memory_of(range(1000, 1001)), await memory_of(range(2000, 2100))
        finally:
            tracemalloc.stop()
        for wire in wires:
            wire.tell(left())
    taken = (many - few) / 99
    print(f"a subscription takes {taken:.0f} bytes")
    assert taken < 800  # 354: a group of its own, with one member


# Real servers.


def resident(server: Serve) -> int:
    assert server._process is not None
    status = Path(f"/proc/{server._process.pid}/status").read_text()
    found = re.search(r"^VmHWM:\s+(\d+) kB", status, re.MULTILINE)
    assert found is not None
    return int(found[1]) * 1024


def ask(server: Serve, target: str = "/healthz") -> int:
    connection = HTTPConnection(HOST, server.port, timeout=10)
    try:
        connection.request("GET", target)
        response = connection.getresponse()
        response.read()
        return response.status
    finally:
        connection.close()


def opened(server: Serve, data: bytes) -> socket.socket:
    one = socket.create_connection((HOST, server.port), timeout=20)
    one.sendall(data)
    return one


def head(size: int) -> bytes:
    lines = ["POST /notifications/1/ HTTP/1.1", f"Host: {HOST}", f"Content-Length: {size}", "", ""]
    return "\r\n".join(lines).encode()


def test_unfinished_posts_take_no_more_than_is_stated() -> None:
    size = 64 * 1024
    env = {"ASGI_NOTIFY_LIMIT_BODY_TIMEOUT": "3", "ASGI_NOTIFY_LIMIT_BODIES": "64"}
    with Serve("serve", env=env) as server:
        for _ in range(20):
            ask(server)
        before = resident(server)
        posts = [opened(server, head(size) + b" " * (size - 1)) for _ in range(800)]
        try:
            assert ask(server) == 200
            answers = [answer(post) for post in posts]
            grown = resident(server) - before
        finally:
            for post in posts:
                post.close()
        print(f"800 unfinished posts took {grown / MIB:.1f} MiB")
        # 154 KiB for each, and 26 for each that was refused, until the garbage is collected.
        assert grown < 64 * 200 * 1024 + 736 * 32 * 1024
        assert sorted(set(answers)) == [408, 503]
        # A machine that takes longer than the timeout to open all of them has taken more, in turn.
        assert answers.count(408) >= 64
        assert ask(server) == 200


def answer(post: socket.socket) -> int:
    data = b""
    with suppress(ConnectionResetError):
        while b"\r\n\r\n" not in data and (part := post.recv(4096)):
            data += part
    return int(data.split()[1]) if data else 0


def test_posts_without_the_key_are_not_read() -> None:
    size = 64 * 1024
    env = {"ASGI_NOTIFY_PUBLISH_KEY": "k", "ASGI_NOTIFY_LIMIT_HEAD_TIMEOUT": "1"}
    with Serve("serve", env=env) as server:
        ask(server)
        posts = [opened(server, head(size) + b" " * 100) for _ in range(300)]
        try:
            assert {answer(post) for post in posts} == {401}
            # What they go on to owe, nobody waits for.
            for post in posts:
                with suppress(OSError):
                    post.sendall(b" ")
            began_at = time.monotonic()
            for post in posts:
                with suppress(ConnectionResetError):
                    while post.recv(4096):
                        pass
            assert time.monotonic() - began_at < 30
        finally:
            for post in posts:
                post.close()
        assert ask(server) == 200


def test_silent_connections_take_no_more_than_is_stated() -> None:
    with Serve("serve", env={"ASGI_NOTIFY_LIMIT_HEAD_TIMEOUT": "1000"}) as server:
        for _ in range(20):
            ask(server)
        silent: list[Any] = []
        try:
            silent += [opened(server, b"GET / HTTP/1.1\r\n") for _ in range(3000)]
            assert ask(server) == 200
            assert server._process is not None
            most = Limits.half_open
            assert most is not None
            deadline = time.monotonic() + 20
            while descriptors(server) > most + 50 and time.monotonic() < deadline:
                time.sleep(0.1)
            assert descriptors(server) <= most + 50
        finally:
            for each in silent:
                each.close()


def descriptors(server: Serve) -> int:
    assert server._process is not None
    return len(list(Path(f"/proc/{server._process.pid}/fd").iterdir()))


def test_a_flood_of_messages_is_ended_by_a_real_server() -> None:
    with Serve("serve") as server:
        offer = "Sec-WebSocket-Protocol: asgi-notify.v1"
        with Socket(server.port, "/notifications/", offer) as flooding:
            ping = frame(TEXT, b'{"type":"ping"}')
            with suppress(OSError):
                for _ in range(100):
                    flooding.send(ping * 100)
                flooding.send(GOODBYE)
            frames = flooding.rest()
        texts = [payload for first, payload in frames if first == 0x81]
        assert sum(b'"pong"' in each for each in texts) <= 1100  # the burst, and as much again
        (goodbye,) = [payload for first, payload in frames if first == 0x88]
        assert int.from_bytes(goodbye[:2]) == 4429
        assert ask(server) == 200
