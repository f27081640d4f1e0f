"""What the demo page shows of its rooms, and what it sends to them."""

import re

import pytest

from tests.servers import Server

from .visit import LOST, Product, Tabs, Wire, connected, entry, open_room, publish, room, see, send

pytestmark = pytest.mark.browser


def test_a_notification_reaches_every_tab_of_its_room_and_no_other(
    server: Server, tabs: Tabs
) -> None:
    first, second = tabs.open(server.http), tabs.open(server.http)
    see(first.get_by_text("No room is open yet"))
    for page in (first, second):
        open_room(page, 42)
        connected(page, 42)
    open_room(second, 7)
    connected(second, 7)

    send(first, 42, "from the first tab")
    see(room(first, 42), "Reached 2 connections.")
    for page in (first, second):
        see(entry(page, 42, "from the first tab"), re.compile(r"\d\d:\d\d:\d\d"))

    assert publish(server, 7, "from a terminal") == 1
    see(entry(second, 7, "from a terminal"))
    assert publish(server, 42, "after it") == 2
    see(entry(first, 42, "after it"))
    assert entry(first, 42, "from a terminal").count() == 0
    assert entry(second, 42, "from a terminal").count() == 0
    newest = room(first, 42).get_by_role("listitem").first
    see(newest, "after it")


def test_what_arrives_is_text_whatever_it_is(server: Server, tabs: Tabs) -> None:
    page = connected(tabs.open(server.http + "/#rooms=43"), 43)
    markup = "<img src=x onerror=\"document.title='broken in'\"><b>bold</b>"
    publish(server, 43, markup)
    see(entry(page, 43, markup))
    publish(server, 43, {"paid": True, "id": 12345678901234567890})
    see(entry(page, 43, '"id": 12345678901234567890').locator("pre"), '{\n  "paid": true,')
    publish(server, 43, "[1, 2 is no JSON")
    see(entry(page, 43, "[1, 2 is no JSON").locator("p"))
    publish(server, 43, "pong")
    see(entry(page, 43, "pong"))
    assert page.title() == "asgi_notify"


def test_the_address_keeps_the_rooms(server: Server, tabs: Tabs) -> None:
    page = tabs.open(server.http)
    open_room(page, "042")
    open_room(page, 7)
    connected(page, 42, 7)
    assert page.url.endswith("#rooms=42,7")
    page.reload()
    connected(page, 42, 7)
    page.get_by_role("link", name="Skip to the rooms").press("Enter")
    see(page.locator("main:focus"))
    assert page.url.endswith("#rooms=42,7")
    page.get_by_role("button", name="Close room 42").click()
    see(page.locator("h2:focus"), "7")
    assert page.url.endswith("#rooms=7")
    page.evaluate("location.hash = '#rooms=8,x'")
    connected(page, 8)
    see(page.get_by_text("“x” is not"))
    assert room(page, 7).count() == 0


def test_a_room_that_is_no_number_is_refused_with_a_sentence(server: Server, tabs: Tabs) -> None:
    page = tabs.open(server.http)
    field = page.get_by_label("Room number")
    for text in ("abc", "-1", "4.2", "٤٢", "1" * 19):
        open_room(page, text)
        see(
            page.locator("#number-error"),
            f"A room is a number of up to 18 digits; “{text}” is not.",
        )
        assert field.get_attribute("aria-invalid") == "true"
    open_room(page, " ")
    see(page.locator("#number-error"), "Type a room number")
    open_room(page, " 0044 ")
    connected(page, 44)
    assert field.get_attribute("aria-invalid") == "false"


def test_a_link_opens_twelve_rooms_at_most(server: Server, tabs: Tabs) -> None:
    page = tabs.open(f"{server.http}/#rooms={','.join(map(str, range(100, 120)))}")
    see(page.get_by_text("12 rooms are open"))
    assert page.get_by_role("region").count() == 12


def test_only_the_newest_notifications_stay(tabs: Tabs, server: Server) -> None:
    page = tabs.blank()
    wire = Wire(page)
    page.goto(server.http + "/#rooms=42")
    connected(page, 42)
    for number in range(205):
        wire.notify(42, f"number {number};")
    see(room(page, 42), "The newest 200 are shown; 6 older left the page.")  # one is "Connected."
    assert room(page, 42).get_by_role("listitem").count() == 200
    see(entry(page, 42, "number 204;"))
    assert entry(page, 42, "number 4;").count() == 0


def test_a_refused_notification_is_answered_with_the_reason(server: Server, tabs: Tabs) -> None:
    tabs.expected = "413|ERR_INTERNET_DISCONNECTED"
    page = connected(tabs.open(server.http + "/#rooms=45"), 45)
    send(page, 45, "x" * 70_000)
    see(room(page, 45).get_by_role("status"), re.compile("6[45]"))
    page.context.set_offline(True)
    send(page, 45, "unheard")
    see(room(page, 45), "The server cannot be reached; nothing was sent.")
    page.context.set_offline(False)
    send(page, 45, "heard")
    see(entry(page, 45, "heard"))
    assert entry(page, 45, "unheard").count() == 0


def test_a_long_text_is_cut_and_shown_whole_on_demand(server: Server, tabs: Tabs) -> None:
    page = connected(tabs.open(server.http + "/#rooms=51"), 51)
    publish(server, 51, "short enough " * 30)
    see(entry(page, 51, "short enough"))
    assert room(page, 51).get_by_role("button", name="Show all").count() == 0

    text = "🐎" * 500 + "the end"
    publish(server, 51, text)
    long = entry(page, 51, "🐎")
    see(long, "🐎 …")
    assert long.locator("p").inner_text() == "🐎" * 140 + " …"  # 280 of JavaScript's characters
    button = long.get_by_role("button")
    see(button, "Show all 1,007 characters")
    assert button.get_attribute("aria-expanded") == "false"
    button.focus()
    page.keyboard.press("Enter")
    see(long, "the end")
    assert long.locator("p").inner_text() == text
    see(button, "Show less")
    assert button.get_attribute("aria-expanded") == "true"
    page.keyboard.press("Enter")
    see(button, "Show all")
    assert "the end" not in long.inner_text()

    publish(server, 51, {"lines": list(range(40))})
    see(entry(page, 51, '"lines"').locator("pre"), "    3,\n…")
    entry(page, 51, '"lines"').get_by_role("button", name="Show all").click()
    see(entry(page, 51, '"lines"').locator("pre"), "    39\n  ]\n}")


def test_what_the_server_says_reads_like_the_rest_of_the_page(tabs: Tabs, server: Server) -> None:
    tabs.expected = "401|" + LOST
    with Product(env={"ASGI_NOTIFY_PUBLISH_KEY": "open-sesame"}) as guarded:
        page = connected(tabs.open(guarded.http + "/#rooms=42"), 42)
        send(page, 42, "without a key")
        answer = room(page, 42).get_by_role("status")
        see(answer, re.compile(r"^[A-Z].+\.$"))
    page = tabs.blank()
    wire = Wire(page)
    page.goto(server.http + "/#rooms=42")
    connected(page, 42)
    why = room(page, 42).locator(".why")
    for said, shown in (
        ("these are another user's notifications", "These are another user's notifications."),
        ("user_42 cannot be watched here", "user_42 cannot be watched here."),  # a name
        ("Who are you?", "Who are you?"),
    ):
        wire.connections[-1].close(code=4403, reason=said)
        see(why, re.compile(f"^{re.escape(shown)}$"))
        page.get_by_role("button", name="Reconnect room 42 now").click()
        connected(page, 42)


def test_the_key_is_asked_for_and_kept_for_the_tab(tabs: Tabs) -> None:
    tabs.expected = "401"
    with Product(env={"ASGI_NOTIFY_PUBLISH_KEY": "open-sesame"}) as server:
        page = connected(tabs.open(server.http + "/#rooms=42"), 42)
        send(page, 42, "with a key")
        field = page.get_by_label("Key", exact=True)
        see(field)
        see(room(page, 42).get_by_role("status"), "key")
        page.keyboard.type("wrong")
        page.keyboard.press("Enter")
        page.get_by_label("Key", exact=True).wait_for()
        field.fill("open-sesame")
        field.press("Enter")
        see(entry(page, 42, "with a key"))
        see(room(page, 42).locator(".send :focus"))
        page.get_by_text("Publish key · in use").click()
        field.fill("open-sesame")
        field.press("Enter")
        see(page.locator("summary:focus"), "Publish key")
        assert entry(page, 42, "with a key").count() == 1
        page.reload()
        connected(page, 42)
        send(page, 42, "still with it")
        see(entry(page, 42, "still with it"))
        room(page, 42).get_by_text("Send from a terminal").click()
        see(room(page, 42).locator("code"), "Bearer $ASGI_NOTIFY_PUBLISH_KEY")
        assert "sesame" not in page.content()
        assert "sesame" not in page.evaluate("JSON.stringify({...localStorage})")
