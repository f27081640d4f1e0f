"""How the demo page keeps its connections, and what it says when they are lost."""

import re

import pytest

from tests.servers import Server

from .visit import LOST, Product, Tabs, Wire, connected, entry, publish, room, see, send

pytestmark = pytest.mark.browser


def test_the_page_comes_back_by_itself_when_the_server_restarts(tabs: Tabs) -> None:
    tabs.expected = LOST
    with Product() as server:
        pages = [tabs.open(server.http + "/#rooms=42" + over) for over in ("", "&transport=sse")]
        for page in pages:
            connected(page, 42)
        publish(server, 42, "before")
        for page in pages:
            see(entry(page, 42, "before"))
        server.crash()
        for page in pages:
            see(room(page, 42), re.compile(r"Reconnecting in \d+ s"))
            see(page.get_by_role("button", name="Reconnect room 42 now"))
    for page in pages:
        see(room(page, 42), "The server cannot be reached.")
    with Product(server.port) as server:
        for page in pages:
            connected(page, 42)
            see(entry(page, 42, "Connected again"))
        assert publish(server, 42, "after") == 2
        for page in pages:
            see(entry(page, 42, "after"))
            see(entry(page, 42, "before"))


def test_the_page_works_under_a_prefix(mounted: Server, tabs: Tabs) -> None:
    page = connected(tabs.open(mounted.http + "/notify/#rooms=42"), 42)
    send(page, 42, "under a prefix")
    see(entry(page, 42, "under a prefix"))
    room(page, 42).get_by_text("Send from a terminal").click()
    see(room(page, 42).locator("code"), "/notify/notifications/42/")


@pytest.mark.parametrize("over", ["", "&transport=sse"], ids=["websocket", "sse"])
def test_a_refused_room_is_said_to_be_refused(mounted: Server, tabs: Tabs, over: str) -> None:
    tabs.expected = LOST + "|404"
    page = tabs.open(mounted.http + "/page-only/#rooms=42" + over)
    see(room(page, 42), "The server is there, but refused this room.")
    send(page, 42, "to nowhere")
    see(room(page, 42).get_by_role("status"), re.compile(r"\w"))


def test_a_connection_that_answers_no_ping_is_given_up(server: Server, tabs: Tabs) -> None:
    page = tabs.blank()
    wire = Wire(page)
    page.goto(server.http + "/#rooms=42")
    connected(page, 42)
    page.clock.run_for(25_000)
    wire.connections[0].send("pong")
    page.clock.run_for(25_000)
    assert wire.heard == ["ping", "ping"]
    connected(page, 42)
    assert entry(page, 42, "pong").count() == 0
    page.clock.run_for(10_000)
    see(entry(page, 42, "The connection went silent."))


def test_attempts_come_later_and_later_and_at_once_when_the_network_returns(
    server: Server, tabs: Tabs
) -> None:
    page = tabs.blank()
    page.add_init_script("Math.random = () => 0")  # the shortest wait of each range
    wire = Wire(page)
    page.goto(server.http + "/#rooms=42")
    connected(page, 42)
    for attempt, wait in enumerate((500, 1_000, 2_000, 4_000, 8_000, 15_000, 15_000), start=1):
        wire.connections[-1].close(code=1013)
        see(room(page, 42), f"Reconnecting in {-(-wait // 1000)} s")
        page.clock.run_for(wait - 1)
        assert len(wire.connections) == attempt
        page.clock.run_for(1)
        connected(page, 42)
    assert entry(page, 42, "This page read too slowly").count() == 7
    wire.connections[-1].close(code=1012, reason="back in a minute")
    see(room(page, 42), "back in a minute")
    page.evaluate("dispatchEvent(new Event('online'))")
    connected(page, 42)
    page.clock.run_for(5_000)  # lives long enough to be no failure
    for wait in (500, 1_000):
        wire.connections[-1].close(code=1012)
        see(room(page, 42), "Reconnecting in 1 s")
        page.clock.run_for(wait)
        connected(page, 42)


@pytest.mark.parametrize("name", ["Socket", "Stream"])
def test_what_is_over_is_not_heard_any_more(server: Server, tabs: Tabs, name: str) -> None:
    page = tabs.open(server.http)
    seen = page.evaluate(
        """async (name) => {
        const { Connection } = await import("./connection.js");
        const { [name]: Transport } = await import("./transports.js");
        const made = [], seen = [];
        window.WebSocket = window.EventSource = class {
            constructor() { made.push(this); }
            close() { seen.push("let go"); }
        };
        let tellIfUp;
        const connection = new Connection(Transport, new URL(location.href), {
            state: () => seen.push(connection.state.name),
            text: (text) => seen.push(text),
            isServerUp: () => new Promise((resolve) => { tellIfUp = resolve; }),
        });
        const end = { Socket: "onclose", Stream: "onerror" }[name];
        connection.open();
        made[0][end]({ code: 1006 });
        connection.open();
        made[1].onopen();
        tellIfUp(false); // of the attempt before
        await Promise.resolve();
        connection.close();
        const isDeaf = (each) => !(each.onopen || each.onmessage || each[end]);
        return [seen, made.map(isDeaf)];
    }""",
        name,
    )
    assert seen == [
        ["connecting", "let go", "waiting", "connecting", "connected", "let go", "closed"],
        [True, True],
    ]


def test_the_wait_is_drawn_from_the_upper_half_of_its_range(server: Server, tabs: Tabs) -> None:
    page = tabs.open(server.http)
    ranges = page.evaluate("""async () => {
        const { retryDelay } = await import("./connection.js");
        return [0, 1, 4, 5, 5_000].map((n) => [retryDelay(n, () => 0), retryDelay(n, () => 1)]);
    }""")
    assert ranges == [
        [500, 1_000],
        [1_000, 2_000],
        [8_000, 16_000],
        [15_000, 30_000],
        [15_000, 30_000],
    ]
