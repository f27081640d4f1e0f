"""What the demo page says to one who sees it for the first time, and what a phone folds away."""

import shlex
import subprocess
import sys

import pytest

from tests.servers import Server

from .test_everyone import AUDIT, PHONE
from .visit import Tabs, connected, entry, open_room, room, see

pytestmark = pytest.mark.browser

SMALL = PHONE | {"viewport": {"width": 360, "height": 740}}


def test_it_says_what_this_is_and_where_to_read_on(server: Server, tabs: Tabs) -> None:
    page = tabs.open(server.http)
    see(page.get_by_text("asgi_notify brings notifications to browsers and programs"))
    link = page.get_by_role("link", name="Read the documentation")
    see(link)
    address = "https://github.com/asgi-notify/asgi-notify/tree/main/docs"
    assert link.get_attribute("href") == address
    open_room(page, 90)
    connected(page, 90)
    assert not link.is_visible()


@pytest.mark.parametrize("prefix", ["", "/notify"])
def test_the_command_that_it_offers_is_copied_and_works(
    mounted: Server, server: Server, tabs: Tabs, prefix: str
) -> None:
    at = mounted if prefix else server
    page = tabs.open(f"{at.http}{prefix}/", permissions=["clipboard-read", "clipboard-write"])
    page.get_by_role("button", name="Copy").click()
    see(page.locator("#announcer"), "The command was copied.")
    command = page.evaluate("navigator.clipboard.readText()")
    assert command == f'asgi-notify send --url {at.http}{prefix}/ 42 "Hello"'
    page.goto(f"{at.http}{prefix}/#rooms=42")
    connected(page, 42)
    before = entry(page, 42, "Hello").count()
    program, *words = shlex.split(command)
    assert program == "asgi-notify"
    subprocess.run([sys.executable, "-m", "asgi_notify", *words], check=True, timeout=30)
    see(entry(page, 42, "Hello").nth(before))


def test_at_its_usual_address_the_command_needs_no_address(server: Server, tabs: Tabs) -> None:
    page = tabs.blank()
    page.route(
        "http://127.0.0.1:8000/**",
        lambda route: route.fulfill(
            response=route.fetch(
                url=route.request.url.replace("http://127.0.0.1:8000", server.http)
            )
        ),
    )
    page.goto("http://127.0.0.1:8000/")
    see(page.locator("#send-command"), 'asgi-notify send 42 "Hello"')


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_folds_away_the_connection_and_the_key(
    server: Server, tabs: Tabs, scheme: str
) -> None:
    page = tabs.open(server.http, color_scheme=scheme, **SMALL)
    radio = page.get_by_role("radio", name="Polling")
    key = page.get_by_label("Key", exact=True)
    assert not radio.is_visible()
    assert not key.is_visible()
    assert page.evaluate(AUDIT) == []
    page.get_by_text("Connection · WebSocket").click()
    radio.check()
    page.get_by_text("Connection · polling").click()
    assert not radio.is_visible()
    open_room(page, 91)
    see(room(page, 91), "over polling")
    page.evaluate("location.hash = '#rooms=91,92,93,94,95'")
    connected(page, 95)
    page.evaluate("location.hash = '#rooms=91,92,93,94,95&transport=sse'")
    see(page.get_by_role("alert"), "Only 4 rooms fit")  # unfolds it
    assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
    assert page.evaluate(AUDIT) == []


def test_a_wide_screen_has_the_choice_always_there(server: Server, tabs: Tabs) -> None:
    page = tabs.open(server.http, viewport={"width": 1280, "height": 760})
    see(page.get_by_role("radio", name="Polling"))
    assert not page.get_by_text("Connection · WebSocket").is_visible()
    page.set_viewport_size({"width": 500, "height": 760})
    see(page.get_by_text("Connection · WebSocket"))
    assert not page.get_by_role("radio", name="Polling").is_visible()
    page.set_viewport_size({"width": 1280, "height": 760})
    see(page.get_by_role("radio", name="Polling"))
