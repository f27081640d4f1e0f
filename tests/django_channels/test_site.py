"""An unchanged Channels project on real servers: two processes, views, and a command."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import httpx
import pytest
from websockets.sync.client import ClientConnection, connect

from tests.servers import ROOT, Server
from tests.valkey_servers import SERVERS, ValkeyServer, program

pytestmark = pytest.mark.slow

APP = "tests.apps.channels_site:application"
WAIT = 30.0  # seconds


def layers(backend: str, **config: Any) -> dict[str, str]:
    setting = {"default": {"BACKEND": backend, "CONFIG": config}}
    return {"CHANNEL_LAYERS": json.dumps(setting)}


@pytest.fixture(params=SERVERS)
def redis(request: pytest.FixtureRequest) -> Iterator[ValkeyServer]:
    with ValkeyServer(program(request.param)) as running:
        yield running


def take(socket: ClientConnection) -> Any:
    return json.loads(socket.recv(WAIT))


def join(stack: ExitStack, server: Server, path: str) -> tuple[ClientConnection, str]:
    socket = stack.enter_context(connect(server.ws + path))
    return socket, take(socket)["channel"]


def command(env: dict[str, str], *words: str) -> None:
    subprocess.run(
        [sys.executable, "-W", "error", "-m", "tests.apps.channels_site", "publish", *words],
        env={**os.environ, **env},
        cwd=ROOT,
        check=True,
        timeout=60,
    )


def test_chats_views_and_commands_reach_the_consumers_of_both_processes(
    redis: ValkeyServer,
) -> None:
    env = layers("asgi_notify.django_channels.ChannelLayer", url=redis.url)
    with (
        Server("daphne", APP, env=env) as one,
        Server("uvicorn-websockets", APP, env=env) as other,
        ExitStack() as stack,
    ):
        places = [(one, "/async/a/"), (one, "/sync/a/"), (other, "/async/a/"), (other, "/sync/a/")]
        members = [join(stack, server, path) for server, path in places]
        for socket, channel in members:
            socket.send(json.dumps(f"by {channel}"))
            for each, _ in members:
                assert take(each) == {"text": f"by {channel}", "by": channel}
        for server in (one, other):
            answer = httpx.get(f"{server.http}/publish/a/?text=view", trust_env=False)
            assert answer.text == "published"
            assert [take(each)["text"] for each, _ in members] == ["view"] * 4
        command(env, "a", *"12345")
        for each, _ in members:
            assert [take(each)["text"] for _ in range(5)] == list("12345")
        for server in (one, other):
            output = server.output
            assert "Traceback" not in output


def test_a_view_takes_no_new_connection_for_each_call(redis: ValkeyServer) -> None:
    env = layers("asgi_notify.django_channels.ChannelLayer", url=redis.url)
    with redis.admin as admin:

        def connections() -> int:
            return int(admin.info("stats")["total_connections_received"])

        before = connections()
        command(env, "a", "1")
        for_one = connections() - before
        command(env, "a", *map(str, range(20)))
        assert connections() - before == 2 * for_one


@pytest.mark.parametrize("path", ["/async/a/", "/sync/a/"])
def test_the_layer_in_memory_serves_them_in_one_process(path: str) -> None:
    env = layers("asgi_notify.InMemoryChannelLayer", capacity=50)
    with Server("daphne", APP, env=env) as server, ExitStack() as stack:
        members = [join(stack, server, path.replace("async", "sync")) for _ in range(2)]
        members[0][0].send(json.dumps("hello"))
        for each, _ in members:
            assert take(each) == {"text": "hello", "by": members[0][1]}
        httpx.get(f"{server.http}/publish/a/?text=view", trust_env=False)
        assert [take(each)["text"] for each, _ in members] == ["view"] * 2


def test_consumers_that_are_gone_are_members_no_more(redis: ValkeyServer) -> None:
    # SyncChat, like many a tutorial's, never leaves its group.
    url = f"{redis.url}?release_delay=0.1"
    env = layers("asgi_notify.django_channels.ChannelLayer", url=url)
    with Server("daphne", APP, env=env) as server, redis.admin as admin:

        def followed() -> list[bytes]:
            found = admin.pubsub_channels("*:gone*")
            assert isinstance(found, list)
            return found

        with ExitStack() as stack:
            join(stack, server, "/sync/gone/")
            assert followed()
        until = time.monotonic() + WAIT
        while followed():
            assert time.monotonic() < until, "the group is still followed"
            with ExitStack() as stack:  # others come, and Python looks for what is held in circles
                join(stack, server, "/sync/other/")
            time.sleep(0.05)


def test_consumers_stay_while_the_server_is_away_and_hear_of_what_comes_then(
    redis: ValkeyServer,
) -> None:
    url = f"{redis.url}?timeout=3&probe_interval=0.2"
    env = layers("asgi_notify.django_channels.ChannelLayer", url=url)
    with Server("daphne", APP, env=env) as server, ExitStack() as stack:
        members = [join(stack, server, path)[0] for path in ("/async/a/", "/sync/a/")]
        redis.kill()
        answer = httpx.get(f"{server.http}/publish/a/?text=lost", trust_env=False, timeout=WAIT)
        assert answer.status_code == 500  # the view's own error: LayerUnavailable
        redis.start()
        until = time.monotonic() + WAIT
        while True:
            answer = httpx.get(f"{server.http}/publish/a/?text=on", trust_env=False, timeout=WAIT)
            if answer.status_code == 200:
                break
            assert time.monotonic() < until, "it does not come back"
        for each in members:  # the first may have come before they were subscribed again
            httpx.get(f"{server.http}/publish/a/?text=on", trust_env=False, timeout=WAIT)
            assert take(each)["text"] == "on"
