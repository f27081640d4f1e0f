"""That the demo page does over server-sent events and polls what it does over a WebSocket."""

import json
import re
import time
from typing import TYPE_CHECKING

import pytest

from tests.servers import Server

from .test_everyone import AUDIT
from .visit import (
    Tabs,
    connected,
    entry,
    open_room,
    publish,
    room,
    see,
    send,
    stop_clock,
)

if TYPE_CHECKING:
    from playwright.sync_api import Page, Route

pytestmark = pytest.mark.browser

SSE = "Server-Sent Events"
OVER = {"Polling": "polling"}  # within a sentence
FOUR = "/#rooms=64,65,66,67&transport=sse"


def switch(page: "Page", transport: str, *numbers: int) -> None:
    page.get_by_role("radio", name=transport).check()
    for number in numbers:
        see(room(page, number), f"over {OVER.get(transport, transport)}")
    connected(page, *numbers)


def alone(server: Server, number: int, text: str) -> None:
    """Send until it reaches one connection, which takes a server a moment to notice."""
    deadline = time.monotonic() + 10
    while (reached := publish(server, number, text)) != 1:
        assert time.monotonic() < deadline, f"{reached} connections are left"
        assert reached == 2, "the room has a member more than the one before"


def test_the_transport_is_chosen_by_keyboard_and_kept_in_the_address(
    server: Server, tabs: Tabs
) -> None:
    page = connected(tabs.open(server.http + "/#rooms=60"), 60)
    see(entry(page, 60, "Connected over WebSocket."))
    radio = page.get_by_role("radiogroup", name="Rooms connect over").get_by_role("radio")
    radio.first.focus()
    page.keyboard.press("ArrowDown")
    see(room(page, 60).locator(".over"), f"over {SSE}")
    see(entry(page, 60, f"Connected again, over {SSE}."))
    page.keyboard.press("ArrowDown")
    see(entry(page, 60, "Connected again, over polling."))
    page.keyboard.press("ArrowUp")
    page.keyboard.press("Enter")
    assert page.url.endswith("/#rooms=60&transport=sse")
    page.reload()
    see(entry(page, 60, f"Connected over {SSE}."))
    assert radio.nth(1).is_checked()
    page.get_by_role("button", name="Close room 60").click()
    assert page.url.endswith("/#transport=sse")
    for address in ("#rooms=61&transport=pigeon", "#rooms=62&transport=constructor"):
        page.evaluate("(hash) => { location.hash = hash; }", address)
        see(page.locator(".over"), "over WebSocket")
        connected(page, int(address[7:9]))
    assert radio.first.is_checked()


def test_what_is_sent_arrives_in_its_room_whatever_it_is(server: Server, tabs: Tabs) -> None:
    page = connected(tabs.open(server.http + "/#rooms=61,62&transport=sse"), 61, 62)
    publish(server, 61, "one\r\ntwo\rthree\nfour\n\n five: \u2028six")
    publish(server, 61, "żółć 🐎 \u0000 data: x")
    publish(server, 61, {"paid": True, "name": "Zoë"})
    publish(server, 61, "pong")
    publish(server, 61, "<b>bold</b>")
    assert publish(server, 62, "to the other") == 1
    see(entry(page, 61, "<b>bold</b>"))
    see(entry(page, 62, "to the other"))
    assert room(page, 61).locator("li p, li pre").all_text_contents() == [
        "<b>bold</b>",
        "pong",
        '{\n  "paid": true,\n  "name": "Zoë"\n}',
        "żółć 🐎 \u0000 data: x",
        "one\r\ntwo\rthree\nfour\n\n five: \u2028six",
    ]
    assert entry(page, 62, "pong").count() == 0
    send(page, 62, "from the page")
    see(room(page, 62), "Reached 1 connection.")
    see(entry(page, 62, "from the page"))


def test_switching_leaves_one_connection_and_no_other(server: Server, tabs: Tabs) -> None:
    page = connected(tabs.open(server.http + "/#rooms=63,70"), 63, 70)
    for transport in (SSE, "WebSocket", "Polling", SSE):
        switch(page, transport, 63, 70)
        for number in (63, 70):
            alone(server, number, f"last over {transport}")
    see(entry(page, 63, f"last over {SSE}").first)
    switch(page, "WebSocket", 63, 70)
    alone(server, 63, "until here")
    see(entry(page, 63, "until here").first)
    assert publish(server, 63, "and once more") == 1
    see(entry(page, 63, "and once more"))


def test_four_rooms_fit_over_streams_and_the_page_says_so(server: Server, tabs: Tabs) -> None:
    page = connected(tabs.open(server.http + FOUR.replace("67", "67,68,69")), 64, 65, 66, 67)
    see(page.locator("#number-error"), f"4 rooms are open, as many as fit over {SSE}.")
    assert page.get_by_role("region").count() == 4
    send(page, 67, "still sent")
    see(entry(page, 67, "still sent"))

    switch(page, "WebSocket", 64, 67)
    assert page.locator("#number-error").is_hidden()
    open_room(page, 68)
    connected(page, 68)
    page.get_by_role("radio", name="WebSocket").focus()
    page.keyboard.press("ArrowDown")
    sentence = f"Only 4 rooms fit over {SSE}, and 5 are open. Close 1 first."
    see(page.get_by_role("alert"), sentence)
    see(page.locator("#websocket:focus:checked"))
    assert page.evaluate(AUDIT) == []
    page.evaluate("location.hash += '&transport=sse'")  # is refused as well
    page.wait_for_url(re.compile("#rooms=64,65,66,67,68$"))
    page.get_by_role("button", name="Close room 64").click()
    assert page.get_by_role("alert").count() == 0
    switch(page, SSE, 65, 66, 67, 68)


def test_more_streams_than_a_browser_has_connections_are_explained(
    server: Server, tabs: Tabs
) -> None:
    first = tabs.blank()
    stop_clock(first)
    first.goto(server.http + FOUR)
    connected(first, 64, 65, 66, 67)
    second = tabs.beside(first)
    stop_clock(second)
    second.goto(server.http + FOUR)
    connected(second, 64, 65)
    send(second, 64, "finds no way out")
    second.clock.run_for(10_000)
    for number in (66, 67):
        see(room(second, number), "no more than six connections")
    see(room(second, 64), "The server did not answer in time")
    first.clock.run_for(60_000)  # a stream is asked for nothing, and is not given up
    connected(first, 64, 65, 66, 67)
    first.close()
    connected(second, 64, 65, 66, 67)


def test_a_stream_that_ends_comes_back_at_the_time_of_the_page_not_of_the_browser(
    server: Server, tabs: Tabs
) -> None:
    page = tabs.blank()
    streams = 0

    def take(route: "Route") -> None:
        nonlocal streams
        streams += 1
        subscribed = {"type": "subscribed", "position": "aaaaaaaa-0", "recovered": streams > 1}
        told = {"type": "notification", "id": f"aaaaaaaa-{streams}", "data": f"no. {streams}"}
        frames = [json.dumps({**frame, "group": "user_42"}) for frame in (subscribed, told)]
        body = "retry: 1\n\n" + "".join(f"data: {frame}\n\n" for frame in frames)
        route.fulfill(status=200, content_type="text/event-stream", body=body)

    page.route(re.compile("/notifications/"), take)
    page.add_init_script("Math.random = () => 1")  # the longest wait of each range
    stop_clock(page)
    page.goto(server.http + "/#rooms=42&transport=sse")
    for number, wait in enumerate((500, 1_000, 2_000), start=1):
        see(entry(page, 42, f"no. {number}"))
        see(room(page, 42), f"Reconnecting in {-(-wait // 1000)} s")
        page.clock.run_for(wait - 1)
        assert streams == number
        page.clock.run_for(1)
    see(entry(page, 42, "no. 4"))
