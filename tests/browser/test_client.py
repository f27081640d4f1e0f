"""The JavaScript client in a real browser, against the real server: nothing lost, nothing twice."""

import json
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from typing import TYPE_CHECKING, Any

import pytest

from tests.servers import Server

from .visit import LOST, Product, Tabs, publish

if TYPE_CHECKING:
    from playwright.sync_api import Page, Route, WebSocketRoute

pytestmark = pytest.mark.browser

BLOCKED = LOST + "|ERR_FAILED"
START = """async ([options, groups]) => {
    const { connect } = await import("./asgi-notify.js");
    Object.assign(window, { got: [], told: [], ids: [] });
    window.client = connect("notifications/", { backoff: { base: 0.05, max: 0.2 }, ...options });
    for (const name of ["state", "gap", "recovered", "error"])
        client.addEventListener(name, ({ detail }) => told.push([name, detail]));
    for (const group of groups)
        window.subscription = client.subscribe(group, ({ id, group, data }) => {
            got.push(data);
            ids.push(id);
        });
}"""

_rooms = count(1_000)  # each test has rooms of its own


@pytest.fixture
def numbers() -> list[int]:
    return [next(_rooms), next(_rooms)]


def start(page: "Page", numbers: list[int], **options: object) -> None:
    """Connect from a page that has no other connection."""
    page.evaluate(START, [options, [f"user_{number}" for number in numbers]])
    live(page)


def until(page: "Page", expression: str) -> None:
    """Wait until this is true, in a page whose policy lets no text be run again and again."""
    page.wait_for_function(f"() => {expression}")


def live(page: "Page", transport: str = "") -> None:
    until(page, "client.state === 'open' && subscription.state === 'live'")
    if transport:
        until(page, f"client.state === 'open' && client.transport === '{transport}'")


def got(page: "Page", last: object) -> list[Any]:
    """Everything that came, once this has."""
    until(page, f"got.at(-1) === {json.dumps(last)}")
    seen: list[Any] = page.evaluate("got")
    return seen


def told(page: "Page", name: str) -> list[dict[str, Any]]:
    return [detail for kind, detail in page.evaluate("told") if kind == name]


@pytest.mark.parametrize("transport", ["websocket", "sse", "poll"])
def test_a_connection_cut_again_and_again_loses_nothing_and_repeats_nothing(
    server: Server, tabs: Tabs, numbers: list[int], transport: str
) -> None:
    page = tabs.open(server.http)
    start(page, numbers[:1], transports=[transport])
    cuts = {3: "disconnect", 7: "reconnect", 9: "reconnect", 15: "disconnect", 16: "reconnect"}
    for number in range(40):
        publish(server, numbers[0], number)
        if number in cuts:
            page.evaluate(f"client.{cuts[number]}()")
    assert got(page, 39) == list(range(40))
    assert told(page, "gap") == []
    assert sum(each["replayed"] for each in told(page, "recovered")) > 0


def test_two_groups_come_over_one_socket(server: Server, tabs: Tabs, numbers: list[int]) -> None:
    page = tabs.blank()
    sockets: list[object] = []
    page.on("websocket", lambda socket: sockets.append(socket))
    page.goto(server.http)
    start(page, numbers)
    for number in numbers:
        publish(server, number, f"to {number}")
    got(page, f"to {numbers[1]}")
    assert len(sockets) == 1
    page.evaluate("subscription.unsubscribe()")
    deadline = time.monotonic() + 10
    while publish(server, numbers[1], "to nobody") > 0:
        assert time.monotonic() < deadline, "the server goes on sending to a group that was left"
    publish(server, numbers[0], "to the other")
    assert "to nobody" not in got(page, "to the other")


@pytest.mark.parametrize("transport", ["websocket", "sse", "poll"])
def test_a_server_that_lost_its_history_is_told_as_a_gap(
    tabs: Tabs, numbers: list[int], transport: str
) -> None:
    tabs.expected = LOST
    with Product() as server:
        page = tabs.open(server.http)
        start(page, numbers[:1], transports=[transport])
        publish(server, numbers[0], "before")
        got(page, "before")
        server.crash()
        until(page, "client.state !== 'open'")
    with Product(server.port) as server:
        live(page)
        publish(server, numbers[0], "after")
        assert got(page, "after") == ["before", "after"]
    group = f"user_{numbers[0]}"
    assert told(page, "gap") == [{"group": group, "reason": "unrecovered", "lost": None}]


def test_a_server_that_stops_asks_to_come_back_later(tabs: Tabs, numbers: list[int]) -> None:
    tabs.expected = LOST
    with Product() as server:
        page = tabs.open(server.http)
        start(page, numbers, backoff={"base": 1_000, "max": 1_000})
        server.stop()
        until(page, "client.state === 'waiting'")
    lost = next(each for each in told(page, "state") if each["state"] == "waiting")
    assert 0 <= lost["retryIn"] <= 5  # the server's, not the backoff


class Wall:
    """Stands between the page and the server, and lets through what it is told to."""

    def __init__(self, page: "Page") -> None:
        self.blocked: set[str] = set()
        page.route_web_socket(re.compile("/notifications/"), self._socket)
        page.route(re.compile("/notifications/"), self._request)

    def _socket(self, socket: "WebSocketRoute") -> None:
        if "websocket" in self.blocked:
            socket.close()
        else:
            socket.connect_to_server()

    def _request(self, route: "Route") -> None:
        is_stream = "text/event-stream" in route.request.headers["accept"]
        if is_stream and "sse" in self.blocked:
            route.abort()
        else:
            route.continue_()


@pytest.mark.parametrize(
    ("blocked", "left"), [({"websocket"}, "sse"), ({"websocket", "sse"}, "poll")]
)
def test_what_is_blocked_gives_way_to_what_is_not_and_resumes_there(
    server: Server, tabs: Tabs, numbers: list[int], blocked: set[str], left: str
) -> None:
    tabs.expected = BLOCKED
    page = tabs.blank()
    wall = Wall(page)
    page.goto(server.http)
    start(page, numbers[:1])
    live(page, "websocket")
    publish(server, numbers[0], 1)
    got(page, 1)
    wall.blocked = blocked
    page.evaluate("client.reconnect()")
    publish(server, numbers[0], 2)
    live(page, left)
    publish(server, numbers[0], 3)
    page.evaluate("client.disconnect()")
    publish(server, numbers[0], 4)
    page.evaluate("client.reconnect()")
    live(page, left)
    publish(server, numbers[0], 5)
    assert got(page, 5) == [1, 2, 3, 4, 5]
    assert told(page, "gap") == []


def test_it_climbs_back_to_a_websocket_and_loses_nothing(
    server: Server, tabs: Tabs, numbers: list[int]
) -> None:
    tabs.expected = BLOCKED
    page = tabs.blank()
    wall = Wall(page)
    wall.blocked = {"websocket"}
    page.goto(server.http)
    start(page, numbers[:1], climbAfter=0.1)
    live(page, "sse")
    publish(server, numbers[0], 1)
    wall.blocked = set()
    publish(server, numbers[0], 2)
    live(page, "websocket")
    publish(server, numbers[0], 3)
    assert got(page, 3) == [1, 2, 3]


@contextmanager
def offline(page: "Page") -> Iterator[None]:
    page.context.set_offline(True)
    yield
    page.context.set_offline(False)


@pytest.mark.parametrize("transport", ["websocket", "sse", "poll"])
def test_a_network_that_went_and_came_back_is_resumed_at_once(
    server: Server, tabs: Tabs, numbers: list[int], transport: str
) -> None:
    tabs.expected = r"ERR_INTERNET_DISCONNECTED"
    page = tabs.open(server.http)
    never = {"base": 1_000, "max": 1_000}
    start(page, numbers[:1], transports=[transport], backoff=never)
    with offline(page):
        until(page, "client.state === 'waiting'")
        publish(server, numbers[0], "meanwhile")
    assert got(page, "meanwhile") == ["meanwhile"]
    assert told(page, "gap") == []


def test_a_page_that_is_looked_at_again_connects_at_once(
    server: Server, tabs: Tabs, numbers: list[int]
) -> None:
    tabs.expected = BLOCKED
    page = tabs.blank()
    wall = Wall(page)
    page.goto(server.http)
    start(page, numbers[:1], transports=["websocket"], backoff={"base": 1_000, "max": 1_000})
    wall.blocked = {"websocket"}
    page.evaluate("client.reconnect()")
    until(page, "client.state === 'waiting'")
    wall.blocked = set()
    publish(server, numbers[0], "meanwhile")
    page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    assert got(page, "meanwhile") == ["meanwhile"]


def test_a_position_outlives_the_page(server: Server, tabs: Tabs, numbers: list[int]) -> None:
    page = tabs.open(server.http)
    start(page, numbers[:1])
    publish(server, numbers[0], "seen")
    got(page, "seen")
    position = page.evaluate("subscription.position")
    page.reload()
    publish(server, numbers[0], "missed")
    start(page, numbers[1:])
    page.evaluate(
        """([group, since]) => {
            window.subscription = client.subscribe(group, ({ data }) => got.push(data), { since });
        }""",
        [f"user_{numbers[0]}", position],
    )
    assert got(page, "missed") == ["missed"]


def test_a_group_that_is_refused_leaves_the_others(
    server: Server, tabs: Tabs, numbers: list[int]
) -> None:
    page = tabs.open(server.http)
    start(page, numbers[:1])
    page.evaluate("window.refused = client.subscribe('everyone', () => {})")
    until(page, "refused.state === 'refused'")
    assert [(each["group"], each["code"]) for each in told(page, "error")] == [
        ("everyone", "forbidden")
    ]
    publish(server, numbers[0], "still there")
    assert got(page, "still there") == ["still there"]


def test_the_client_can_be_imported_from_another_origin(
    server: Server, mounted: Server, tabs: Tabs
) -> None:
    tabs.expected = "404"  # for an icon
    page = tabs.open(mounted.http + "/notify/healthz")  # which no policy guards
    names = page.evaluate(
        "async (from) => Object.keys(await import(from))", server.http + "/asgi-notify.js"
    )
    assert "connect" in names
