"""That a room that is opened shows what was sent before, as far as the server has it still."""

from typing import TYPE_CHECKING

import pytest

from tests.servers import Server

from .visit import LOST, Product, Tabs, Wire, connected, entry, hear, publish, room, see

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.browser

NO_STORAGE = """
    Object.defineProperty(window, "localStorage", {
      get() { throw new DOMException("told to keep nothing", "SecurityError"); },
    });
"""


def texts(page: "Page", number: int) -> list[str]:
    """What stands in a room, the newest first, without the notes of the page itself."""
    return room(page, number).locator("li > p").all_text_contents()


def times(page: "Page", number: int) -> list[str | None]:
    return [
        each.get_attribute("datetime")
        for each in room(page, number).locator("li:has(p) time").all()
    ]


def sinces(wire: Wire) -> list[str | None]:
    """The positions that were asked for, in their order."""
    return [frame.get("since") for frame in wire.heard if frame["type"] == "subscribe"]


@pytest.mark.parametrize(
    ("number", "over"), [(80, ""), (81, "&transport=sse"), (82, "&transport=poll")]
)
def test_a_reload_and_every_other_tab_show_what_was_sent_before(
    server: Server, tabs: Tabs, number: int, over: str
) -> None:
    page = connected(tabs.open(f"{server.http}/#rooms={number}{over}"), number)
    for text in ("one", "two", "three"):
        publish(server, number, text)
        see(entry(page, number, text))
    seen = times(page, number)

    page.reload()
    see(entry(page, number, "Replayed from before: 3 notifications."))
    see(entry(page, number, "three"))
    assert texts(page, number) == ["three", "two", "one"]
    assert times(page, number) == seen
    hear(page.locator("#replayed"), "3")
    hear(page.locator("#gaps"), "0")

    beside = tabs.beside(page)
    beside.goto(page.url)
    stranger = tabs.open(page.url)  # of another browser, which knows no position
    for other in (beside, stranger):
        see(entry(other, number, "three"))
        assert texts(other, number) == ["three", "two", "one"]
        assert entry(other, number, "Connected over").count() == 1
        hear(other.locator("#gaps"), "0")
    assert publish(server, number, "four") >= 1
    for each in (page, beside, stranger):
        see(entry(each, number, "four"))
        assert texts(each, number) == ["four", "three", "two", "one"]


def test_what_was_sent_before_anybody_watched_is_shown(server: Server, tabs: Tabs) -> None:
    for count in range(130):
        publish(server, 83, f"no. {count};")
    page = connected(tabs.open(f"{server.http}/#rooms=83"), 83)
    expected = [f"no. {count};" for count in range(129, 29, -1)]  # the server keeps 100
    see(entry(page, 83, "no. 129;"))
    assert texts(page, 83) == expected
    page.reload()
    see(entry(page, 83, "no. 129;"))
    assert texts(page, 83) == expected
    hear(page.locator("#gaps"), "0")


def test_a_browser_that_keeps_nothing_shows_it_too(server: Server, tabs: Tabs) -> None:
    publish(server, 84, "for everyone")
    page = tabs.blank()
    page.add_init_script(NO_STORAGE)
    page.goto(f"{server.http}/#rooms=84")
    for _ in range(2):
        see(entry(page, 84, "for everyone"))
        connected(page, 84)
        page.reload()


def test_a_server_that_begins_anew_is_no_gap_to_a_page_that_does(tabs: Tabs) -> None:
    tabs.expected = LOST
    with Product() as server:
        page = connected(tabs.open(server.http + "/#rooms=42"), 42)
        publish(server, 42, "before")
        see(entry(page, 42, "before"))
    page.goto("about:blank")
    with Product(server.port) as server:
        page.goto(server.http + "/#rooms=42")
        connected(page, 42)
        for text in ("after", "and more"):
            publish(server, 42, text)
            see(entry(page, 42, text))
        page.reload()
        see(entry(page, 42, "and more"))
        assert texts(page, 42) == ["and more", "after"]
        hear(page.locator("#gaps"), "0")


def test_a_tab_that_knows_no_position_goes_back_as_far_as_the_history_reaches(
    server: Server, tabs: Tabs
) -> None:
    page = tabs.blank()
    wire = Wire(page, stands=40, reaches=33)
    page.goto(server.http + "/#rooms=42")
    connected(page, 42)
    expected = [None, *(f"aaaaaaaa-{offset}" for offset in (0, 20, 30, 35))]
    assert sinces(wire) == expected
    assert room(page, 42).get_by_role("listitem").count() == 1
    see(entry(page, 42, "Connected over WebSocket."))
    hear(page.locator("#gaps"), "0")
    page.get_by_role("button", name="Cut the connection").click()
    page.get_by_role("button", name="Connect again").click()
    see(entry(page, 42, "Connected again"))
    assert sinces(wire) == [*expected, "aaaaaaaa-35"]


def test_a_history_that_was_outrun_while_it_was_asked_for_is_a_gap(
    server: Server, tabs: Tabs
) -> None:
    page = tabs.blank()
    wire = Wire(page, stands=2, reaches=9)
    page.goto(server.http + "/#rooms=42")
    see(entry(page, 42, "Notifications may be missing here"))
    connected(page, 42)
    assert sinces(wire) == [None, *(f"aaaaaaaa-{offset}" for offset in (0, 1, 2))]
    hear(page.locator("#gaps"), "1")


def test_a_room_without_a_history_is_asked_for_once(server: Server, tabs: Tabs) -> None:
    page = tabs.blank()
    wire = Wire(page, stands=None)
    page.goto(server.http + "/#rooms=42")
    connected(page, 42)
    wire.notify(42, "not kept")
    see(entry(page, 42, "not kept"))
    assert sinces(wire) == [None]


def test_what_was_sent_to_other_rooms_long_ago_is_forgotten(server: Server, tabs: Tabs) -> None:
    page = connected(tabs.open(f"{server.http}/#rooms=42"), 42)
    old = {f"user_{number}": [["aaaaaaaa-1", 0]] for number in range(1000, 1100)}
    page.evaluate(
        "(old) => localStorage.setItem('asgi_notify positions /', JSON.stringify(old))", old
    )
    publish(server, 42, "one more position")
    see(entry(page, 42, "one more position"))
    page.reload()
    connected(page, 42)
    kept = page.evaluate("Object.keys(JSON.parse(localStorage['asgi_notify positions /']))")
    assert kept == [*(f"user_{number}" for number in range(1051, 1100)), "user_42"]
