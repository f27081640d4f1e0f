"""Who the client is behind proxies, and who cannot say that it is somebody else."""

from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from asgi_notify import (
    AsyncWebsocketConsumer,
    ConfigurationError,
    Limited,
    Limits,
    Settings,
    TrustedProxies,
)
from asgi_notify.app import make_application
from asgi_notify.peers import UNKNOWN, address_in, forwarded_for
from asgi_notify.types import Receive, Scope, Send
from tests.consumers.harness import Wire

pytestmark = pytest.mark.anyio

PROXY, OTHER_PROXY, CLIENT, LIAR = "10.0.0.1", "10.0.0.2", "203.0.113.7", "198.51.100.66"
TRUSTED = ["10.0.0.0/8", "2001:db8:aaaa::/48"]
FORWARDED = "forwarded"
XFF = "x-forwarded-for"


async def client_of(
    *lines: str,
    peer: str | None = PROXY,
    header: str = XFF,
    trusted: Any = TRUSTED,
    sent_as: str | None = None,
    kind: str = "websocket",
) -> str | None:
    """Whom the application sees, with these lines of the header."""
    seen: list[Any] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope.get("client"))

    wire = Wire(kind=kind)
    name = (sent_as or header).encode()
    wire.scope["headers"] = [(b"host", b"x"), *((name, each.encode()) for each in lines)]
    if peer is not None:
        wire.scope["client"] = (peer, 50000)
    before = dict(wire.scope)
    await wire.run(TrustedProxies(app, trusted, header=header))
    assert wire.scope == before  # the server's own scope stays what it was
    (client,) = seen
    return None if client is None else str(client[0])


@pytest.mark.parametrize(
    ("lines", "client"),
    [
        ([], PROXY),
        ([""], PROXY),
        ([CLIENT], CLIENT),
        ([f"  {CLIENT} "], CLIENT),
        ([f"{CLIENT}:4711"], CLIENT),
        ([f"{LIAR}, {CLIENT}"], CLIENT),
        ([f"127.0.0.1, {PROXY}, {LIAR}, {CLIENT}"], CLIENT),
        ([LIAR, CLIENT], CLIENT),  # two lines are one list: RFC 9110, section 5.2
        ([f"{CLIENT}, {OTHER_PROXY}"], CLIENT),
        ([f"{LIAR}, {CLIENT}, {OTHER_PROXY}, 10.9.9.9"], CLIENT),
        ([f"{OTHER_PROXY}"], OTHER_PROXY),
        (["2001:DB8::1"], "2001:db8::1"),
        (["[2001:db8::1]:443"], "2001:db8::1"),
        ([f"{CLIENT}, 2001:db8:aaaa::1"], CLIENT),
        ([f"::ffff:{CLIENT}"], CLIENT),
        # What is no address says nothing, and neither does what stands before it.
        (["unknown"], UNKNOWN),
        ([f"{CLIENT}, unknown"], UNKNOWN),
        ([f"{CLIENT}, nonsense, {OTHER_PROXY}"], OTHER_PROXY),
        ([f"{CLIENT},"], UNKNOWN),
        ([f"{CLIENT}, 999.1.1.1"], UNKNOWN),
        ([f"{CLIENT}:99999"], UNKNOWN),
        ([f"{CLIENT}:x"], UNKNOWN),
        (["fe80::1%eth0"], UNKNOWN),
        (["[::1"], UNKNOWN),
        ([f"{CLIENT}\n"], CLIENT),
    ],
)
@pytest.mark.parametrize("kind", ["http", "websocket"])
async def test_the_client_is_the_last_one_that_is_no_trusted_proxy(
    lines: list[str], client: str, kind: str
) -> None:
    assert await client_of(*lines, kind=kind) == client
    # Whoever is not trusted cannot say so.
    assert await client_of(*lines, peer=LIAR, kind=kind) == LIAR


@pytest.mark.parametrize(
    ("lines", "client"),
    [
        ([f"for={CLIENT}"], CLIENT),
        ([f"For={CLIENT};proto=https;by={PROXY}"], CLIENT),
        ([f"proto=https; for={CLIENT} , for={OTHER_PROXY}"], CLIENT),
        (['for="[2001:db8::1]:4711"'], "2001:db8::1"),
        ([f'for="{CLIENT}:4711"'], CLIENT),
        ([f"for={LIAR}", f"for={CLIENT}"], CLIENT),
        ([f'for={LIAR};host="a, for={CLIENT}"'], LIAR),  # a quoted comma ends no element
        ([f'for="\\{CLIENT}"'], CLIENT),
        # RFC 7239, section 6: names that hide somebody.
        ([f"for={CLIENT}, for=_hidden"], UNKNOWN),
        ([f"for={CLIENT}, for=unknown, for={OTHER_PROXY}"], OTHER_PROXY),
        ([f"for={CLIENT}, proto=https"], UNKNOWN),
        # What is malformed says nothing at all.
        ([f'for={CLIENT};host="'], UNKNOWN),
        ([f"for={CLIENT};;"], UNKNOWN),
        ([f"{CLIENT}"], UNKNOWN),
        ([f"for = {CLIENT}"], UNKNOWN),
        (["for=2001:db8::1"], UNKNOWN),  # it has to be quoted, and in brackets
    ],
)
async def test_the_header_of_the_standard_says_the_same(lines: list[str], client: str) -> None:
    assert await client_of(*lines, header=FORWARDED) == client
    assert await client_of(*lines, header=FORWARDED, peer=LIAR) == LIAR


@pytest.mark.parametrize(("read", "sent"), [(XFF, FORWARDED), (FORWARDED, XFF)])
async def test_the_header_that_the_proxies_do_not_set_is_not_read(read: str, sent: str) -> None:
    for line in LIAR, f"for={LIAR}":
        assert await client_of(line, header=read, sent_as=sent) == PROXY


async def test_who_comes_over_a_unix_socket_is_trusted_where_that_is_said() -> None:
    assert await client_of(CLIENT, peer=None) is None
    assert await client_of(CLIENT, peer=None, trusted=["unix"]) == CLIENT
    assert await client_of(CLIENT, peer=PROXY, trusted=["unix"]) == PROXY
    assert await client_of(f"{LIAR}, {CLIENT}, {PROXY}", peer=None, trusted=["unix"]) == PROXY
    trusted = ["unix", PROXY]
    assert await client_of(f"{LIAR}, {CLIENT}, {PROXY}", peer=None, trusted=trusted) == CLIENT


async def test_what_a_server_has_found_out_already_is_left_alone() -> None:
    # As uvicorn does for --forwarded-allow-ips: its client is no proxy any more.
    assert await client_of(f"{LIAR}, {CLIENT}", peer=CLIENT) == CLIENT


async def test_a_chain_without_end_is_read_for_some_hops_only() -> None:
    assert await client_of(", ".join([CLIENT, *[OTHER_PROXY] * 10_000])) == OTHER_PROXY


@given(st.text(max_size=200))
@example('for="\\')
@example("for=" * 50)
@pytest.mark.parametrize("header", [XFF, FORWARDED])
def test_no_header_fails_or_says_what_is_no_address(header: str, text: str) -> None:
    value = text.encode("latin-1", errors="replace")
    for entry in forwarded_for({"headers": [(header.encode(), value)]}, header):
        found = address_in(entry)
        assert found is None or (0 <= found[1] < 2**16 and found[0].isprintable())


@pytest.mark.parametrize("trusted", ["10.0.0.0/8", ["10.0.0.1/8"], ["proxy.example"], 5])
def test_what_is_no_list_of_networks_is_refused(trusted: Any) -> None:
    with pytest.raises(ConfigurationError, match="trusted"):
        TrustedProxies(AsyncWebsocketConsumer, trusted)


def test_another_header_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="header is one of x-forwarded-for, forwarded"):
        TrustedProxies(AsyncWebsocketConsumer, [], header="x-real-ip")


async def test_the_life_of_the_server_passes() -> None:
    seen: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope["type"])

    await Wire(kind="lifespan").run(TrustedProxies(app, ["unix"]))
    assert seen == ["lifespan"]


def answer(lines: str, peer: str, app: Any, header: str = XFF) -> Wire:
    event = {"type": "http.request", "body": b"", "more_body": False}
    wire = Wire(event, kind="http", path="/healthz")
    wire.scope |= {  # type: ignore[operator]  # a mutable mapping, and a dict
        "client": (peer, 1), "headers": [(header.encode(), lines.encode())],
        "query_string": b"", "http_version": "1.1",
    }  # fmt: skip
    return wire


async def test_limits_of_the_default_application_are_those_of_the_clients_behind() -> None:
    limits = Limits(connects_per_second=0.001)
    settings = Settings(trusted_proxies=(PROXY,), limits=limits)
    app = make_application(settings)
    statuses = []
    for lines in f"{LIAR}, {CLIENT}", f"127.0.0.1, {CLIENT}", CLIENT, "203.0.113.8":
        wire = answer(lines, PROXY, app)
        await wire.run(app)
        statuses.append(wire.sent[0]["status"])
    assert statuses == [200, 429, 429, 200]
    statuses = []
    for number in range(2):  # somebody who is no proxy, and claims to be one each time
        wire = answer(f"203.0.113.{number}", LIAR, app)
        await wire.run(app)
        statuses.append(wire.sent[0]["status"])
    assert statuses == [200, 429]
    assert isinstance(app, TrustedProxies)
    assert isinstance(app.inner, Limited)


async def test_nobody_gets_the_exemption_of_a_proxy_by_a_header_that_cannot_be_read() -> None:
    limits = Limits(connects_per_second=0.1)
    settings = Settings(trusted_proxies=("127.0.0.1",), forwarded_header=FORWARDED, limits=limits)
    app = make_application(settings)
    statuses = []
    for number in range(3):  # the proxy has put the address behind what the client had sent
        wire = answer(f'x="{number}, for={CLIENT}', "127.0.0.1", app, FORWARDED)
        await wire.run(app)
        statuses.append(wire.sent[0]["status"])
    assert statuses == [200, 429, 429]
