"""What the demo page shows of its rooms, and what it sends to them."""

import re

import pytest

from tests.servers import Server

from .visit import Product, Tabs, Wire, connected, entry, open_room, publish, room, see, send

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
        assert page.evaluate("localStorage.length") == 0
