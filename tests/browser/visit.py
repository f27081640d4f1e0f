"""How a test visits the demo page: the server it comes from, the tabs, and what is looked for."""

import json
import re
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import httpx

from tests.servers import Server

if TYPE_CHECKING:
    from playwright.sync_api import Browser, ConsoleMessage, Locator, Page, WebSocketRoute

LOST = r"WebSocket connection to|ERR_CONNECTION_(REFUSED|RESET)|ERR_INCOMPLETE_CHUNKED_ENCODING"
"""What Chromium itself writes to the console of a page whose server is away."""


class Product(Server):
    """The default application, started as a user starts it.

    Args:
        port: a port that an earlier one had; a free one if not given.
        env: variables added to this process's own.
    """

    def __init__(self, port: int | None = None, env: Mapping[str, str] | None = None) -> None:
        super().__init__(
            "uvicorn-websockets", "", env={"ASGI_NOTIFY_PUBLISH_KEY": "", **(env or {})}
        )
        if port is not None:
            self.port = port
            self.http = f"http://127.0.0.1:{port}"
        words = ["asgi_notify", "serve", "--port", str(self.port)]
        self._command = [sys.executable, "-m", *words]

    def crash(self) -> None:
        """End without a word, as where the power fails."""
        assert self._process is not None, "crash() belongs inside the with block"
        self._process.kill()
        self._process.wait()


def publish(server: Server, room: int, data: Any) -> int:
    """Send from outside the browser, as a program in a terminal does; how many it reached."""
    address = f"{server.http}/notifications/{room}/"
    response = httpx.post(address, json={"data": data}, trust_env=False)
    assert response.status_code == 202, response.text
    reached: int = response.json()["reached"]
    return reached


class Tabs:
    """Opens tabs, each with a storage of its own, and gathers what their consoles say.

    What a test provokes it names in ``expected``, a regular expression; any
    other warning or error, such as of the Content-Security-Policy, fails it.
    """

    def __init__(self, browser: "Browser") -> None:
        self.expected = r"(?!)"  # matches nothing
        self.problems: list[str] = []
        self._browser = browser

    def open(self, address: str, **options: Any) -> "Page":
        page = self.blank(**options)
        page.goto(address)
        return page

    def blank(self, **options: Any) -> "Page":
        return self._watched(self._browser.new_context(locale="en-GB", **options).new_page())

    def beside(self, page: "Page") -> "Page":
        """One more tab of the same browser, with the same storage and connections."""
        return self._watched(page.context.new_page())

    def close(self) -> None:
        for context in self._browser.contexts:
            context.close()

    def _watched(self, page: "Page") -> "Page":
        page.on("console", self._said)
        page.on("pageerror", lambda error: self.problems.append(str(error)))
        return page

    def _said(self, message: "ConsoleMessage") -> None:
        if message.type in ("warning", "error"):
            self.problems.append(message.text)


class Wire:
    """Stands where the server would, so that a test decides what a connection does.

    It welcomes every client, and lets it subscribe to every group.

    Args:
        page: whose WebSockets it takes; its clock stands still from now on.
        stands: where its histories stand, as an offset; None where it has none.
        reaches: the offset that they reach back to.
    """

    def __init__(self, page: "Page", stands: int | None = 0, reaches: int = 0) -> None:
        self.stands = stands
        self.reaches = reaches
        self.connections: list[WebSocketRoute] = []
        self.heard: list[dict[str, Any]] = []
        stop_clock(page)
        page.route_web_socket(re.compile("/notifications/"), self._take)

    def send(self, **frame: object) -> None:
        self.connections[-1].send(json.dumps(frame))

    def notify(self, room: int, data: object) -> None:
        self.send(type="notification", group=f"user_{room}", id=None, data=data)

    def _take(self, connection: "WebSocketRoute") -> None:
        self.connections.append(connection)
        connection.on_message(self._hear)
        self.send(type="welcome", version=1, connection="c", ping_interval=25, pong_timeout=10)

    def _hear(self, text: str | bytes) -> None:
        frame = json.loads(text)
        self.heard.append(frame)
        if frame["type"] == "subscribe":
            self.send(**frame | {"type": "subscribed", "replayed": 0} | self._answer(frame))

    def _answer(self, frame: dict[str, Any]) -> dict[str, Any]:
        position = None if self.stands is None else f"aaaaaaaa-{self.stands}"
        since = frame.get("since")
        if since is None:
            return {"position": position}
        epoch, offset = since.split("-")
        if self.stands is None or epoch != "aaaaaaaa" or int(offset) < self.reaches:
            return {"position": position, "recovered": False}
        return {"position": since, "recovered": True}


def stop_clock(page: "Page") -> None:
    """The page's clock stands still until the test moves it."""
    page.clock.install(time=0)
    page.clock.pause_at(1_000)


def see(locator: "Locator", text: str | re.Pattern[str] | None = None) -> None:
    """Wait until it is there, and says so."""
    from playwright.sync_api import expect

    expect(locator).to_be_visible()
    if text is not None:
        expect(locator).to_contain_text(text)


def hear(locator: "Locator", text: str) -> None:
    """Wait until it says this, to those who listen; it need not be in sight."""
    from playwright.sync_api import expect

    expect(locator).to_have_text(text)


def room(page: "Page", number: int) -> "Locator":
    return page.get_by_role("region", name=f"Room {number}", exact=True)


def connected(page: "Page", *numbers: int) -> "Page":
    for number in numbers:
        see(room(page, number), "Connected since")
    return page


def entry(page: "Page", number: int, text: str) -> "Locator":
    return room(page, number).get_by_role("listitem").filter(has_text=text)


def send(page: "Page", number: int, text: str) -> None:
    room(page, number).get_by_label(f"Notification for room {number}").fill(text)
    room(page, number).get_by_role("button", name="Send").click()


def open_room(page: "Page", number: object) -> None:
    page.get_by_label("Room number").fill(str(number))
    page.get_by_role("button", name="Open", exact=True).click()
