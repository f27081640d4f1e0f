"""How the demo page keeps its connection, and what it says when that is lost."""

import re

import pytest

from tests.servers import Server

from .visit import LOST, Product, Tabs, Wire, connected, entry, hear, publish, room, see, send

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
        see(room(page, 42), "The server cannot be reached over")
    with Product(server.port) as server:
        for page in pages:
            connected(page, 42)
            see(entry(page, 42, "Connected again"))
            see(entry(page, 42, "missing here: the server kept none so far back."))
            hear(page.locator("#gaps"), "1")
        assert publish(server, 42, "after") == 2
        for page in pages:
            see(entry(page, 42, "after"))
            see(entry(page, 42, "before"))


def test_that_a_server_was_away_is_not_said_any_more_when_it_is_back(tabs: Tabs) -> None:
    tabs.expected = LOST
    with Product() as server:
        page = connected(tabs.open(server.http + "/#rooms=42"), 42)
        server.crash()
        see(room(page, 42), "Reconnecting in")
    send(page, 42, "to nobody")
    answer = room(page, 42).get_by_role("status")
    see(answer, "The server cannot be reached; nothing was sent.")
    with Product(server.port) as server:
        connected(page, 42)
        hear(answer, "")
        assert room(page, 42).locator(".why").is_hidden()
        see(room(page, 42).get_by_label("Notification for room 42"))
        room(page, 42).get_by_role("button", name="Send").click()  # its text is still there
        see(entry(page, 42, "to nobody"))
        see(answer, "Reached 1 connection.")


def test_the_page_works_under_a_prefix(mounted: Server, tabs: Tabs) -> None:
    page = connected(tabs.open(mounted.http + "/notify/#rooms=42"), 42)
    send(page, 42, "under a prefix")
    see(entry(page, 42, "under a prefix"))
    room(page, 42).get_by_text("Send from a terminal").click()
    see(room(page, 42).locator("code"), "/notify/notifications/42/")


def test_what_was_sent_while_the_connection_was_cut_is_replayed(server: Server, tabs: Tabs) -> None:
    page = connected(tabs.open(server.http + "/#rooms=71,72"), 71, 72)
    publish(server, 71, "before")
    see(entry(page, 71, "before"))
    page.get_by_role("button", name="Cut the connection").click()
    see(room(page, 71), "What is sent now is kept until it is back.")
    send(page, 71, "meanwhile")
    see(room(page, 71), "Nobody was connected.")
    publish(server, 72, "from a terminal")
    page.get_by_role("button", name="Connect again").click()
    connected(page, 71, 72)
    see(entry(page, 71, "Nothing is missing: 1 notification replayed."))
    see(entry(page, 72, "from a terminal"))
    hear(page.locator("#replayed"), "2")
    hear(page.locator("#gaps"), "0")
    publish(server, 71, "after")
    see(entry(page, 71, "after"))
    assert room(page, 71).locator("li p").all_text_contents() == ["after", "meanwhile", "before"]
    see(page.get_by_role("button", name="Cut the connection"))


def test_a_room_that_is_cut_off_can_be_reconnected_from_itself(server: Server, tabs: Tabs) -> None:
    page = connected(tabs.open(server.http + "/#rooms=71,72"), 71, 72)
    page.get_by_role("button", name="Cut the connection").click()
    page.get_by_role("button", name="Reconnect room 72 now").click()
    connected(page, 71, 72)
    see(page.get_by_role("button", name="Cut the connection"))


@pytest.mark.parametrize("over", ["", "&transport=sse", "&transport=poll"])
def test_a_refused_room_is_said_to_be_refused(mounted: Server, tabs: Tabs, over: str) -> None:
    tabs.expected = LOST + "|404"
    page = tabs.open(mounted.http + "/page-only/#rooms=42" + over)
    see(room(page, 42), "Refused")
    see(room(page, 42).locator(".why"), re.compile(r"\w"))
    send(page, 42, "to nowhere")
    see(room(page, 42).get_by_role("status"), re.compile(r"\w"))
    page.get_by_role("button", name="Reconnect room 42 now").click()
    see(room(page, 42), "Refused")


def test_a_server_that_goes_silent_is_given_up(server: Server, tabs: Tabs) -> None:
    page = tabs.blank()
    wire = Wire(page)
    page.goto(server.http + "/#rooms=42")
    connected(page, 42)
    page.clock.run_for(34_000)
    wire.send(type="ping")
    wire.notify(42, "still there")
    see(entry(page, 42, "still there"))
    assert wire.heard[-1] == {"type": "pong"}
    page.clock.run_for(34_000)
    connected(page, 42)
    page.clock.run_for(1_000)
    see(entry(page, 42, "The connection went silent."))


def test_attempts_come_later_and_later_and_at_once_when_the_network_returns(
    server: Server, tabs: Tabs
) -> None:
    page = tabs.blank()
    page.add_init_script("Math.random = () => 1")  # the longest wait of each range
    wire = Wire(page)
    page.goto(server.http + "/#rooms=42")
    connected(page, 42)
    for attempt, wait in enumerate((500, 1_000, 2_000, 4_000, 8_000, 16_000, 30_000), start=1):
        wire.connections[-1].close(code=1013)
        see(room(page, 42), f"Reconnecting in {-(-wait // 1000)} s")
        page.clock.run_for(wait - 1)
        assert len(wire.connections) == attempt
        page.clock.run_for(1)
        connected(page, 42)
    assert entry(page, 42, "This page read too slowly").count() == 7
    wire.send(type="going_away", retry_after=60)
    wire.connections[-1].close(code=1012, reason="back in a minute")
    see(room(page, 42), "Back in a minute.")
    see(room(page, 42), "Reconnecting in 60 s")
    for name, target in (("online", "window"), ("visibilitychange", "document")):
        page.evaluate(f"{target}.dispatchEvent(new Event('{name}'))")
        connected(page, 42)
        wire.connections[-1].close(code=1012)
        see(room(page, 42), "Reconnecting in")
