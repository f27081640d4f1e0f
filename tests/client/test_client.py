"""The client against a server that is cut at every point, falls silent, or refuses."""

import errno
import logging
import ssl
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import anyio
import anyio.to_thread
import pytest

from asgi_notify import (
    ClientError,
    ConfigurationError,
    Forbidden,
    InvalidName,
    MisuseError,
    NoRouteFound,
    NotifyError,
    Unauthorized,
)
from asgi_notify.client import (
    Backoff,
    Client,
    Gap,
    Notification,
    ServerUnavailable,
    Status,
    WrongServer,
    connect,
)
from tests.client.fake import Gone, Peer, fake_server
from tests.http2 import Certificate

pytestmark = pytest.mark.anyio

SOON = Backoff(base=0.01, max=0.05)


def at(offset: int, history: str = "aaaaaaaa") -> str:
    return f"{history}-{offset}"


async def read(client: Client, count: int, since: str | None = None) -> list[str | Gap]:
    """The first items of user_42: the ids of notifications, and gaps."""
    items: list[str | Gap] = []
    subscription = client.subscribe("user_42", since, on_gap=items.append)
    async with subscription as notifications:
        while len(items) < count:
            items.append(str((await anext(notifications)).id))
    return items


async def test_it_subscribes_reads_and_takes_its_leave() -> None:
    left = anyio.Event()

    async def script(peer: Peer) -> None:
        await peer.welcome()
        asked = await peer.subscribe(at(0))
        assert "since" not in asked
        await peer.notify(at(1))
        assert (await peer.expect("unsubscribe"))["group"] == "user_42"
        left.set()
        await peer.ends()

    async with fake_server(script) as server:
        async with connect(server.url) as client:
            assert client.state == "open"
            async for notification in client.subscribe("user_42"):
                assert notification == Notification("user_42", at(1), at(1))
                break
            await left.wait()
        assert client.status == Status("closed", "the client was closed")
        assert server.peers[0].close_code == 1000


async def test_headers_and_the_origin_are_shown() -> None:
    async def script(peer: Peer) -> None:
        await peer.welcome()
        await peer.ends()

    async with fake_server(script) as server:
        headers = {"Authorization": "Bearer Schlüssel", "Host": "example.com"}
        async with connect(server.url, headers=headers, origin="https://example.com"):
            shown = server.peers[0].request.headers
    assert shown["Authorization"] == "Bearer Schlüssel"
    assert (shown.get_all("Host"), shown["Origin"]) == (["example.com"], "https://example.com")
    assert shown["Sec-WebSocket-Protocol"] == "asgi-notify.v1"


async def test_it_connects_over_tls(tmp_path: Path) -> None:
    async def script(peer: Peer) -> None:
        await peer.welcome()
        await peer.subscribe()
        await peer.notify(None)
        await peer.ends()

    certificate = Certificate(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate.cert, certificate.key)
    async with fake_server(script, ssl_context=context) as server:
        with pytest.raises(WrongServer, match="is not trusted"):
            async with connect(server.url):
                pass
        trusting = ssl.create_default_context(cafile=str(certificate.cert))
        async with connect(server.url, ssl_context=trusting) as client:
            assert await read(client, 1) == ["None"]


@pytest.mark.parametrize(
    "point", ["handshake", "welcome", "asked", "confirmed", "replay", "live", "restart"]
)
async def test_cut_anywhere_it_comes_back_without_a_hole_or_a_repeat(point: str) -> None:
    async def script(peer: Peer) -> None:
        cut = point if peer.number == 2 else ""  # the second connection is the one that suffers
        if cut == "handshake":
            return
        await peer.accept()
        if cut == "welcome":
            return
        await peer.send(type="welcome", version=1, ping_interval=25, pong_timeout=10)
        asked = await peer.expect("subscribe")
        if cut == "asked":
            return
        if peer.number == 1:
            await peer.confirm(asked, at(0))
            await peer.notify(at(1))
            return
        since = int(asked["since"].partition("-")[2])
        await peer.confirm(asked, asked["since"], recovered=True, replayed=4 - since)
        if cut == "confirmed":
            return
        if cut == "restart":
            await peer.close(1012, "the server restarts")
            return
        for offset in range(since + 1, 7):
            await peer.notify(at(offset))
            if (cut, offset) in {("replay", 2), ("live", 5)}:
                return
        await peer.ends()

    async with fake_server(script) as server, connect(server.url, backoff=SOON) as client:
        assert await read(client, 6) == [at(offset) for offset in range(1, 7)]
    assert len(server.peers) == 3


async def test_lost_history_is_told_and_it_goes_on() -> None:
    async def script(peer: Peer) -> None:
        await peer.welcome()
        if peer.number == 1:
            await peer.subscribe(at(0))
            await peer.notify(at(1))
            return
        await peer.subscribe(at(7, "bbbbbbbb"), recovered=False)
        await peer.notify(at(8, "bbbbbbbb"))
        await peer.ends()

    async with fake_server(script) as server, connect(server.url, backoff=SOON) as client:
        assert await read(client, 3) == [
            at(1),
            Gap("user_42", "unrecovered", None),
            at(8, "bbbbbbbb"),
        ]


async def test_a_gap_that_nobody_asked_for_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    async def script(peer: Peer) -> None:
        await peer.welcome()
        await peer.subscribe()
        await peer.send(type="gap", group="user_42", reason="full", lost=3)
        await peer.notify(None)
        await peer.ends()

    async with fake_server(script) as server, connect(server.url) as client:
        await anext(client.subscribe("user_42"))
    assert "user_42: 3 notifications are missing (full)" in caplog.messages


async def test_a_gap_may_be_handled_asynchronously_and_in_its_place() -> None:
    async def script(peer: Peer) -> None:
        await peer.welcome()
        await peer.subscribe()
        await peer.notify(None)
        await peer.send(type="gap", group="user_42", reason="full", lost=None)
        await peer.notify(None)
        await peer.ends()

    seen: list[object] = []

    async def on_gap(gap: Gap) -> None:
        await anyio.lowlevel.checkpoint()
        seen.append(gap)

    async with (
        fake_server(script) as server,
        connect(server.url) as client,
        client.subscribe("user_42", on_gap=on_gap) as notifications,
    ):
        seen.append((await anext(notifications)).id)
        seen.append((await anext(notifications)).id)
    assert seen == [None, Gap("user_42", "full", None), None]


async def test_a_gap_is_closed_from_the_history_where_there_is_one() -> None:
    async def script(peer: Peer) -> None:
        await peer.welcome()
        await peer.subscribe(at(0))
        await peer.send(type="gap", group="user_42", reason="full", lost=2)
        await peer.notify(at(3))
        assert (await peer.subscribe(at(0), recovered=True, replayed=3))["since"] == at(0)
        for offset in 1, 2, 3, 4:
            await peer.notify(at(offset))
        await peer.ends()

    async with fake_server(script) as server, connect(server.url) as client:
        assert await read(client, 4) == [at(1), at(2), at(3), at(4)]


async def test_a_subscriber_goes_on_from_an_earlier_run_and_says_where_it_stands() -> None:
    async def script(peer: Peer) -> None:
        await peer.welcome()
        asked = await peer.subscribe(at(5), recovered=True, replayed=1)
        assert asked["since"] == at(5)
        await peer.notify(at(6))
        await peer.ends()

    async with (
        fake_server(script) as server,
        connect(server.url) as client,
        client.subscribe("user_42", since=at(5)) as notifications,
    ):
        assert notifications.position == at(5)
        await anext(notifications)
        assert notifications.position == at(6)


async def test_a_subscription_that_has_received_nothing_has_a_position_once_entered() -> None:
    async def script(peer: Peer) -> None:
        await peer.welcome()
        await peer.subscribe(at(9))
        await peer.ends()

    async with fake_server(script) as server, connect(server.url) as client:
        subscription = client.subscribe("user_42")
        assert subscription.position is None
        async with subscription:
            assert subscription.position == at(9)


async def test_several_groups_and_several_readers_share_one_connection() -> None:
    left = anyio.Event()

    async def script(peer: Peer) -> None:
        await peer.welcome()
        await peer.subscribe(at(0))  # once for both
        await peer.subscribe(at(0))
        await peer.notify(at(1), "user_1")
        await peer.notify(at(1), "user_2")
        assert (await peer.expect("unsubscribe"))["group"] == "user_2"
        assert (await peer.expect("unsubscribe"))["group"] == "user_1"  # once, by the last
        left.set()
        await peer.ends()

    async with fake_server(script) as server:
        async with connect(server.url) as client:
            one, other = client.subscribe("user_1"), client.subscribe("user_1")
            async with client.subscribe("user_2") as third:
                assert (await anext(one)).group == "user_1"
                assert (await anext(other)).group == "user_1"
                assert (await anext(third)).group == "user_2"
            await one.aclose()
            await other.aclose()
            await other.aclose()
            await left.wait()
        assert len(server.peers) == 1


async def test_a_second_reader_with_a_past_gets_it_and_the_first_no_repeats() -> None:
    async def script(peer: Peer) -> None:
        await peer.welcome()
        await peer.subscribe(at(2))
        await peer.notify(at(3))
        await peer.subscribe(at(1), recovered=True, replayed=2)
        for offset in 2, 3, 4:
            await peer.notify(at(offset))
        await peer.ends()

    async with (
        fake_server(script) as server,
        connect(server.url) as client,
        client.subscribe("user_42") as first,
    ):
        assert (await anext(first)).id == at(3)
        assert await read(client, 3, since=at(1)) == [at(2), at(3), at(4)]
        assert (await anext(first)).id == at(4)


async def test_a_ping_is_answered() -> None:
    async def script(peer: Peer) -> None:
        await peer.welcome()
        await peer.subscribe(at(0))
        await peer.send(type="ping")
        await peer.expect("pong")
        await peer.notify(at(1))
        await peer.ends()

    async with fake_server(script) as server, connect(server.url) as client:
        assert await read(client, 1) == [at(1)]


async def test_a_websocket_ping_is_answered_at_once() -> None:
    answered = anyio.Event()

    async def script(peer: Peer) -> None:
        await peer.welcome()
        peer.rules.send_ping(b"here?")  # one of RFC 6455, as proxies and other servers send it
        await peer.flush()
        while peer.pong != b"here?":
            await peer.receive()
        answered.set()
        await peer.ends()

    async with fake_server(script) as server, connect(server.url):
        await answered.wait()


async def test_a_notification_may_be_as_large_as_a_server_lets_it_be() -> None:
    text = "x" * 8_000_000

    async def script(peer: Peer) -> None:
        await peer.welcome()
        await peer.subscribe()
        await peer.send(type="notification", group="user_42", id=None, data=text)
        await peer.ends()

    async with fake_server(script) as server, connect(server.url) as client:
        assert (await anext(client.subscribe("user_42"))).data == text


async def test_a_silent_server_is_left_and_found_again() -> None:
    async def script(peer: Peer) -> None:
        if peer.number == 1:
            await peer.welcome(ping_interval=0.05, pong_timeout=0.05)
            await peer.subscribe(at(0))
            await peer.ends()
            return
        await peer.welcome()
        await peer.subscribe(at(0), recovered=True)
        await peer.notify(at(1))
        await peer.ends()

    told: list[Status] = []
    async with (
        fake_server(script) as server,
        connect(server.url, backoff=SOON, on_status=told.append) as client,
    ):
        assert await read(client, 1) == [at(1)]
    assert [status.state for status in told] == [
        *("connecting", "open", "waiting", "connecting", "open", "closed")
    ]
    assert "the server said nothing for 0.1 s" in str(told[2].reason)
    assert told[2].retry_in is not None


async def test_a_server_that_lives_is_not_left() -> None:
    async def script(peer: Peer) -> None:
        await peer.welcome(ping_interval=0.5, pong_timeout=0.5)
        await peer.subscribe(at(0))
        for _ in range(4):  # longer in all than it may be silent, by far not as long in each
            await peer.send(type="ping")
            await peer.expect("pong")
            await anyio.sleep(0.3)
        await peer.notify(at(1))
        await peer.ends()

    async with fake_server(script) as server:
        async with connect(server.url) as client:
            assert await read(client, 1) == [at(1)]
        assert len(server.peers) == 1


async def test_a_server_that_goes_away_says_when_to_come_back() -> None:
    async def script(peer: Peer) -> None:
        await peer.welcome()
        await peer.subscribe(at(0), **({"recovered": True} if peer.number > 1 else {}))
        if peer.number == 1:
            await peer.send(type="going_away", retry_after=0.02)
            await peer.close(1012)
            return
        await peer.notify(at(1))
        await peer.ends()

    told: list[Status] = []
    async with fake_server(script) as server:
        never = Backoff(base=1000, max=1000)
        async with connect(server.url, backoff=never, on_status=told.append) as client:
            assert await read(client, 1) == [at(1)]
    assert [status.retry_in for status in told if status.state == "waiting"] == [0.02]


async def test_a_slow_reader_holds_the_server_back_and_loses_nothing() -> None:
    total, sent, pongs = 3000, [0], [0]

    async def script(peer: Peer) -> None:
        await peer.welcome(ping_interval=0.1, pong_timeout=0.1)
        await peer.subscribe(at(0))
        async with anyio.create_task_group() as tasks:

            async def listen() -> None:
                with suppress(Gone):
                    while True:
                        pongs[0] += (await peer.read())["type"] == "pong"

            tasks.start_soon(listen)
            for offset in range(1, total + 1):
                data = "x" * 10_000
                await peer.send(type="notification", group="user_42", id=at(offset), data=data)
                sent[0] = offset

    async with fake_server(script) as server:
        async with (
            connect(server.url, capacity=2, backoff=SOON) as client,
            client.subscribe("user_42") as notifications,
        ):
            await anext(notifications)
            before = -1
            while before != sent[0] or pongs[0] < 3:  # it is stuck, and still lives
                before = sent[0]
                await anyio.sleep(0.1)
            assert before < total
            for offset in range(2, total + 1):
                assert (await anext(notifications)).id == at(offset)
        assert len(server.peers) == 1


@pytest.mark.parametrize(
    ("status", "kind"),
    [(401, Unauthorized), (403, Forbidden), (404, NoRouteFound), (400, ClientError)],
)
async def test_a_refused_handshake_is_an_error_at_first(
    status: int, kind: type[NotifyError]
) -> None:
    async def script(peer: Peer) -> None:
        await peer.refuse(status, '{"error": "show the key"}')

    async with fake_server(script) as server:
        for retry_first in False, True:
            with pytest.raises(kind, match=f"answered {status}: show the key"):
                async with connect(server.url, retry_first=retry_first) as client:
                    await anext(client.subscribe("user_42"))
    assert len(server.peers) == 2


async def test_a_refused_return_is_told_to_every_subscriber_and_to_those_who_come_later() -> None:
    async def script(peer: Peer) -> None:
        if peer.number > 1:
            await peer.refuse(403)
            return
        await peer.welcome()
        await peer.subscribe(at(0))
        await peer.subscribe(at(0))
        await peer.notify(at(1))

    async with fake_server(script) as server, connect(server.url, backoff=SOON) as client:
        async with client.subscribe("user_42") as one, client.subscribe("user_42") as other:
            for subscription in one, other:
                assert (await anext(subscription)).id == at(1)  # what came is not lost
                with pytest.raises(Forbidden, match="answered 403"):
                    await anext(subscription)
        with pytest.raises(Forbidden):
            async with client.subscribe("user_7"):
                pass
        assert client.state == "closed"
    assert len(server.peers) == 2


async def test_one_who_is_put_out_does_not_come_back() -> None:
    async def script(peer: Peer) -> None:
        await peer.welcome()
        await peer.subscribe()
        await peer.close(4403, "your account was closed")

    async with fake_server(script) as server, connect(server.url, backoff=SOON) as client:
        with pytest.raises(Forbidden, match="your account was closed"):
            await anext(client.subscribe("user_42"))
    assert len(server.peers) == 1


@pytest.mark.parametrize("code", [1000, 1001, 1011, 1013, 4408])
async def test_after_any_other_close_it_comes_back(code: int) -> None:
    async def script(peer: Peer) -> None:
        await peer.welcome()
        await peer.subscribe(at(0), **({"recovered": True} if peer.number > 1 else {}))
        if peer.number == 1:
            await peer.close(code)
            return
        await peer.notify(at(1))
        await peer.ends()

    async with fake_server(script) as server, connect(server.url, backoff=SOON) as client:
        assert await read(client, 1) == [at(1)]


async def test_a_busy_server_is_tried_again() -> None:
    async def script(peer: Peer) -> None:
        if peer.number in (2, 3):
            await peer.refuse(503 if peer.number == 2 else 429)
            return
        await peer.welcome()
        await peer.subscribe(at(0), **({"recovered": True} if peer.number > 1 else {}))
        if peer.number == 4:
            await peer.notify(at(1))
            await peer.ends()

    async with fake_server(script) as server, connect(server.url, backoff=SOON) as client:
        assert await read(client, 1) == [at(1)]
    assert len(server.peers) == 4


@pytest.mark.parametrize(
    ("code", "kind"),
    [("unauthorized", Unauthorized), ("forbidden", Forbidden), ("not_found", NoRouteFound)],
)
async def test_a_refused_subscription_is_its_subscribers_error_alone(
    code: str, kind: type[NotifyError]
) -> None:
    async def script(peer: Peer) -> None:
        await peer.welcome()
        await peer.subscribe(at(0))
        asked = await peer.expect("subscribe")
        await peer.send(type="error", code=code, message="not yours", ref=asked["ref"], group="g")
        await peer.notify(at(1))
        await peer.ends()

    async with (
        fake_server(script) as server,
        connect(server.url) as client,
        client.subscribe("user_42") as mine,
    ):
        with pytest.raises(kind, match="'user_7' cannot be followed: not yours"):
            async with client.subscribe("user_7"):
                pass
        assert (await anext(mine)).id == at(1)


async def test_a_server_that_fails_is_asked_again_in_a_moment() -> None:
    async def script(peer: Peer) -> None:
        await peer.welcome()
        asked = await peer.expect("subscribe")
        if peer.number == 1:
            await peer.send(type="error", code="failed", message="oh", ref=asked["ref"])
            await peer.ends()
            return
        await peer.confirm(asked, at(0))
        await peer.notify(at(1))
        await peer.ends()

    async with fake_server(script) as server, connect(server.url, backoff=SOON) as client:
        assert await read(client, 1) == [at(1)]


async def test_frames_that_it_does_not_know_do_no_harm(caplog: pytest.LogCaptureFixture) -> None:
    async def script(peer: Peer) -> None:
        await peer.welcome()
        await peer.subscribe(at(0), new="key")
        await peer.send(type="sparkle")
        await peer.say("no JSON")
        await peer.send(type="error", code="sparkle", message="a new one", ref=None)
        await peer.notify(at(1))
        await peer.ends()

    async with fake_server(script) as server, connect(server.url) as client:
        assert await read(client, 2) == [Gap("user_42", "unreadable", None), at(1)]
    assert "the server sent what cannot be read as a frame: b'no JSON'" in caplog.messages
    assert "the server answered sparkle: a new one" in caplog.messages
    assert len([record for record in caplog.records if record.levelno >= logging.WARNING]) == 2


DEEP = f"{'[' * 5000}{']' * 5000}"


@pytest.mark.parametrize("text", [f'{{"type": "notification", "data": {DEEP}}}', "no JSON"])
async def test_what_cannot_be_read_is_told_as_a_gap_in_its_place(text: str) -> None:
    async def script(peer: Peer) -> None:
        await peer.welcome()
        await peer.subscribe(at(0))
        await peer.notify(at(1))
        await peer.say(text)
        await peer.notify(at(3))
        await peer.ends()

    got: list[object] = []
    async with (
        fake_server(script) as server,
        connect(server.url) as client,
        client.subscribe("user_42", on_gap=got.append) as notifications,
    ):
        while at(3) not in got:
            got.append((await anext(notifications)).id)
    assert got == [at(1), Gap("user_42", "unreadable", None), at(3)]


KEYS = ["ref", "position", "id", "message", "code", "reason", "lost", "retry_after", "recovered"]


@pytest.mark.parametrize(
    "value",
    [f"{'[' * 900}{']' * 900}", "1" * 400, "-1", "1e400", '{"a": 1}', "true", '"\\ud800\\n"'],
)
async def test_no_value_that_a_hostile_server_sends_ends_the_client(
    value: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def script(peer: Peer) -> None:
        await peer.welcome()
        await peer.subscribe(at(0))
        for kind in "gap", "error", "notification", "subscribed", "going_away", "pong":
            await peer.say(f'{{"type": "{kind}", "group": {value}, "data": {value}}}')
            for key in KEYS:
                await peer.say(f'{{"type": "{kind}", "group": "a", "{key}": {value}}}')
        for key in "version", "ping_interval":
            await peer.say(f'{{"type": "welcome", "{key}": {value}}}')
        await peer.notify(at(1))
        await peer.ends()

    async with fake_server(script) as server, connect(server.url) as client:
        assert await read(client, 1) == [at(1)]
    assert not [record for record in caplog.records if record.exc_info]
    assert all(len(line) < 500 and line.isprintable() for line in caplog.messages)


@pytest.mark.parametrize("value", [f"{'[' * 900}{']' * 900}", "1" * 400, "null"])
async def test_whatever_a_hostile_server_says_to_a_subscriber_the_client_goes_on(
    value: str,
) -> None:
    async def script(peer: Peer) -> None:
        await peer.welcome()
        ask = await peer.subscribe(None)
        for key in "id", "data", "new":
            await peer.say(f'{{"type": "notification", "group": "user_42", "{key}": {value}}}')
        for key in "lost", "reason", "new":
            await peer.say(f'{{"type": "gap", "group": "user_42", "{key}": {value}}}')
        for key in "position", "recovered", "replayed":
            frame = f'{{"type": "subscribed", "ref": {ask["ref"]}, "{key}": {value}}}'
            await peer.say(frame)
        await peer.notify("end")
        ref = (await peer.expect("subscribe"))["ref"]
        await peer.say(f'{{"type": "error", "ref": {ref}, "message": {value}, "code": {value}}}')
        await peer.ends()

    async with (
        fake_server(script) as server,
        connect(server.url) as client,
        client.subscribe("user_42", on_gap=lambda gap: None) as notifications,
    ):
        while (await anext(notifications)).id != "end":
            pass
        with pytest.raises(ClientError, match="cannot be followed"):
            async with client.subscribe("user_43"):
                pass


async def test_without_a_server_entering_fails_at_once() -> None:
    async with fake_server(lambda peer: peer.ends()) as server:
        url = server.url
    with pytest.raises(ServerUnavailable, match=f"no server at {url}") as caught:
        async with connect(url):
            pass
    assert str(errno.ECONNREFUSED) in str(caught.value)  # why, in the system's own words


async def test_it_waits_for_a_first_server_where_it_was_told_to() -> None:
    async def script(peer: Peer) -> None:
        await peer.welcome()
        await peer.subscribe(at(0))
        await peer.notify(at(1))
        await peer.ends()

    async with fake_server(script) as server:
        port = server.port
    waiting = anyio.Event()

    def on_status(status: Status) -> None:
        if status.state == "waiting":
            waiting.set()

    async with connect(server.url, retry_first=True, backoff=SOON, on_status=on_status) as client:
        subscription = client.subscribe("user_42")
        await waiting.wait()
        async with fake_server(script, port=port):
            assert (await anext(subscription)).id == at(1)


@pytest.mark.parametrize(
    ("texts", "sentence"),
    [
        (['{"type": "notification"}'], "did not begin with a welcome"),
        (["hello"], "did not begin with a welcome"),
        (['{"type": "welcome", "version": 2}'], "speaks version 2"),
    ],
)
async def test_a_server_of_another_protocol_is_named(texts: list[str], sentence: str) -> None:
    async def script(peer: Peer) -> None:
        await peer.accept()
        for text in texts:
            await peer.say(text)
        await peer.ends()

    async with fake_server(script) as server:
        with pytest.raises(WrongServer, match=sentence):
            async with connect(server.url):
                pass


async def test_a_websocket_without_the_protocol_is_named() -> None:
    async def script(peer: Peer) -> None:
        await peer.accept(speaks_protocol=False)
        await peer.ends()

    async with fake_server(script) as server:
        with pytest.raises(WrongServer, match=r"does not speak asgi-notify\.v1"):
            async with connect(server.url):
                pass


async def test_what_is_no_http_server_is_named() -> None:
    async def script(peer: Peer) -> None:
        await peer.stream.send(b"220 mail.example ESMTP\r\n\r\n")
        await peer.ends()

    async with fake_server(script) as server:
        with pytest.raises(WrongServer, match="is no WebSocket server"):
            async with connect(server.url):
                pass


async def test_a_frame_beyond_all_measure_ends_the_client(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("asgi_notify.client.wire.MAX_SIZE", 1000)

    async def script(peer: Peer) -> None:
        await peer.welcome()
        await peer.subscribe()
        await peer.say("x" * 1001)
        await peer.ends()

    async with fake_server(script) as server, connect(server.url, backoff=SOON) as client:
        with pytest.raises(WrongServer, match="over 1000 bytes"):
            await anext(client.subscribe("user_42"))
    assert len(server.peers) == 1


async def test_a_server_that_says_no_welcome_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("asgi_notify.client.conversation.OPEN_TIMEOUT", 0.05)

    async def script(peer: Peer) -> None:
        await peer.accept()
        await peer.ends()

    async with fake_server(script) as server:
        with pytest.raises(ServerUnavailable, match=r"did not answer within 0.05 s"):
            async with connect(server.url):
                pass


async def test_an_error_of_the_block_comes_out_as_it_is() -> None:
    async def script(peer: Peer) -> None:
        await peer.welcome()
        await peer.ends()

    async with fake_server(script) as server:
        with pytest.raises(ZeroDivisionError):
            async with connect(server.url):
                raise ZeroDivisionError


@pytest.mark.parametrize("where", ["connecting", "reading", "waiting", "entering"])
async def test_cancelled_anywhere_it_ends_and_leaves_no_connection(where: str) -> None:
    reached = anyio.Event()
    gone = anyio.Event()

    async def script(peer: Peer) -> None:
        if where == "connecting":
            reached.set()
        elif where == "waiting":
            await peer.welcome()
            gone.set()
            return
        else:
            await peer.welcome()
            asked = await peer.expect("subscribe")
            if where == "reading":
                await peer.confirm(asked)
            reached.set()
        await peer.ends()
        gone.set()

    def on_status(status: Status) -> None:
        if status.state == "waiting":
            reached.set()

    async def listen(url: str) -> None:
        never = Backoff(base=1000, max=1000)
        async with (
            connect(url, backoff=never, on_status=on_status) as client,
            client.subscribe("user_42") as notifications,
        ):
            await anext(notifications)

    async with fake_server(script) as server:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(listen, server.url)
            await reached.wait()
            tasks.cancel_scope.cancel()
        await gone.wait()


async def test_leaving_the_block_ends_the_loops_that_read() -> None:
    async def script(peer: Peer) -> None:
        await peer.welcome()
        await peer.subscribe()
        await peer.ends()

    async with fake_server(script) as server:
        async with anyio.create_task_group() as tasks, connect(server.url) as client:
            subscription = client.subscribe("user_42")

            async def listen() -> None:
                async for _ in subscription:
                    pass

            tasks.start_soon(listen)
            await anyio.wait_all_tasks_blocked()
        with pytest.raises(StopAsyncIteration):
            await anext(subscription)


async def test_a_subscription_belongs_inside_the_block_and_a_client_is_entered_once() -> None:
    async def script(peer: Peer) -> None:
        await peer.welcome()
        await peer.ends()

    async with fake_server(script) as server:
        client = connect(server.url)
        with pytest.raises(MisuseError, match="inside the block"):
            client.subscribe("user_42")
        async with client:
            with pytest.raises(InvalidName):
                client.subscribe("no group")
        for closed in client.subscribe, lambda group: client.__aenter__().send(None):
            with pytest.raises(MisuseError):
                closed("user_42")


@pytest.mark.parametrize("recovered", [True, False])
async def test_a_callback_that_fails_ends_the_client_with_its_error(
    recovered: bool, caplog: pytest.LogCaptureFixture
) -> None:
    async def script(peer: Peer) -> None:
        await peer.welcome()
        await peer.subscribe()

    def on_status(status: Status) -> None:
        if status.state == "waiting" or (not recovered and status.state == "closed"):
            raise ZeroDivisionError

    async with (
        fake_server(script) as server,
        connect(server.url, on_status=on_status) as client,
    ):
        with pytest.raises(ZeroDivisionError):
            await anext(client.subscribe("user_42"))
    assert ("on_status failed" in caplog.messages) is not recovered


async def test_a_callback_that_fails_at_once_is_an_error_of_entering() -> None:
    gone = anyio.Event()

    async def script(peer: Peer) -> None:
        await peer.welcome()
        await peer.ends()
        gone.set()

    def on_status(status: Status) -> None:
        if status.state == "open":
            raise ZeroDivisionError

    async with fake_server(script) as server:
        with pytest.raises(ZeroDivisionError):
            async with connect(server.url, on_status=on_status):
                pass
        await gone.wait()


@pytest.mark.parametrize(("steady", "attempts"), [(1000.0, [0, 1, 2]), (0.0, [0, 0, 0])])
async def test_the_waits_begin_anew_after_a_connection_that_lasted(
    steady: float, attempts: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("asgi_notify.client.client.STEADY", steady)
    seen: list[int] = []

    class Recorded(Backoff):
        def delay(self, attempt: int, draw: Callable[[], float] = lambda: 0.0) -> float:
            seen.append(attempt)
            return 0

    async def script(peer: Peer) -> None:
        await peer.welcome()
        asked = await peer.expect("subscribe")
        if peer.number > 3:
            await peer.confirm(asked, at(0))
            await peer.notify(at(1))
            await peer.ends()

    async with fake_server(script) as server, connect(server.url, backoff=Recorded()) as client:
        assert await read(client, 1) == [at(1)]
    assert seen == attempts


async def test_a_subscription_that_another_thread_drops_ends_with_the_client() -> None:
    left = anyio.Event()

    async def script(peer: Peer) -> None:
        await peer.welcome()
        await peer.subscribe()
        await peer.subscribe()
        assert (await peer.expect("unsubscribe"))["group"] == "user_42"
        left.set()
        with pytest.raises(Gone):
            await peer.read()

    async with fake_server(script) as server, connect(server.url) as client:
        dropped = [client.subscribe("user_7")]
        async with client.subscribe("user_42"):
            await anyio.to_thread.run_sync(dropped.clear)
        await left.wait()


async def test_a_client_that_gives_up_without_a_subscriber_says_so(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def script(peer: Peer) -> None:
        await peer.welcome()
        await peer.close(4401, "log in")

    closed = anyio.Event()

    def on_status(status: Status) -> None:
        if status.state == "closed":
            closed.set()

    async with fake_server(script) as server, connect(server.url, on_status=on_status):
        await closed.wait()
    assert [record.levelno for record in caplog.records if "log in" in record.message] == [
        logging.ERROR
    ]


@pytest.mark.parametrize(
    ("url", "options"),
    [
        ("ftp://host/", {}),
        ("ws://user@host/", {}),
        ("ws://host/", {"capacity": 0}),
        ("ws://host/", {"headers": {"a": "b\r\nc: d"}}),
    ],
)
async def test_what_makes_no_sense_is_refused_before_anything_is_tried(
    url: str, options: dict[str, object]
) -> None:
    with pytest.raises(ConfigurationError):
        connect(url, **options)  # type: ignore[arg-type]  # several of them


async def test_without_websockets_it_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "websockets.client", None)
    with pytest.raises(ConfigurationError, match=r"pip install 'asgi-notify\[client\]'"):
        connect("ws://host/")
