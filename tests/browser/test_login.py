"""The page of the example with a login shows the notifications of who is logged in."""

from typing import TYPE_CHECKING

import httpx
import pytest

from tests.servers import Server

from .visit import Tabs

if TYPE_CHECKING:
    from playwright.sync_api import WebSocket

pytestmark = pytest.mark.browser


def test_the_page_shows_the_notifications_of_its_own_user(tabs: Tabs) -> None:
    from playwright.sync_api import expect

    tabs.expected = "404 "  # of the icon that Chromium asks for
    with Server("uvicorn-websockets-sansio", "examples.login_fastapi:app") as server:
        page = tabs.open(f"{server.http}/")
        expect(page.locator("body")).to_have_text("Log in first.")
        page.evaluate("() => fetch('/login/42', { method: 'POST' })")
        frames: list[str | bytes] = []

        def listen(socket: "WebSocket") -> None:
            socket.on("framereceived", lambda frame: frames.append(frame))

        page.on("websocket", listen)
        page.goto(f"{server.http}/")
        while not any("subscribed" in str(frame) for frame in frames):
            page.wait_for_timeout(20)  # ms
        for user in 7, 42:
            httpx.post(f"{server.http}/ship/{user}").raise_for_status()
        expect(page.locator("body")).to_contain_text("Your order has shipped")
        assert str(page.locator("body").text_content()).count("Your order") == 1
        page.goto("about:blank")  # a socket that outlived the server would complain
