"""That the demo page can be used by everyone: by keyboard, by ear, on a phone, in the dark."""

import os
from pathlib import Path

import pytest

from tests.servers import ROOT, Server

from .visit import (
    LOST,
    Tabs,
    Wire,
    connected,
    entry,
    hear,
    open_room,
    publish,
    room,
    see,
    send,
)

pytestmark = pytest.mark.browser

AUDIT = Path(__file__).with_name("audit.js").read_text()
PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}
NARROW = {"viewport": {"width": 320, "height": 640}}  # WCAG 2.2, 1.4.10


def test_all_is_done_by_keyboard_alone(server: Server, tabs: Tabs) -> None:
    page = tabs.open(server.http)
    page.keyboard.press("Tab")
    see(page.locator("a:focus"), "Skip to the rooms")
    page.keyboard.press("Tab")
    page.keyboard.type("46")
    page.keyboard.press("Enter")
    connected(page, 46)
    for _ in range(20):
        page.keyboard.press("Tab")
        outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        assert outline == "solid", page.evaluate("document.activeElement.outerHTML")
        if page.locator("#text-46:focus").count():
            break
    page.keyboard.type("typed")
    page.keyboard.press("Enter")
    see(entry(page, 46, "typed"))
    see(page.locator("#text-46:focus"))


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_everyone_can_read_and_reach_everything(server: Server, tabs: Tabs, scheme: str) -> None:
    tabs.expected = "413|" + LOST
    page = tabs.open(server.http, color_scheme=scheme, reduced_motion="reduce")
    assert page.evaluate(AUDIT) == []
    open_room(page, 47)
    open_room(page, 48)
    open_room(page, "nowhere")
    connected(page, 47, 48)
    publish(server, 47, {"a": 1})
    publish(server, 47, "words")
    see(entry(page, 47, "words").first)
    send(page, 48, "x" * 70_000)
    see(page.locator("[data-result=error]"))
    for summary in page.locator("summary:visible").all():
        summary.click()
    assert page.evaluate(AUDIT) == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_what_is_cut_off_or_refused_or_has_a_gap_is_readable_too(
    server: Server, tabs: Tabs, scheme: str
) -> None:
    page = tabs.blank(color_scheme=scheme, reduced_motion="reduce")
    wire = Wire(page)
    page.goto(server.http + "/#rooms=47,48")
    connected(page, 47, 48)
    wire.send(type="gap", group="user_47", reason="full", lost=3)
    see(entry(page, 47, "3 notifications may be missing here: this page read too slowly."))
    assert page.evaluate(AUDIT) == []
    page.get_by_role("button", name="Cut the connection").click()
    see(page.get_by_role("button", name="Reconnect room 47 now"))
    assert page.evaluate(AUDIT) == []
    page.get_by_role("button", name="Connect again").click()
    connected(page, 47, 48)
    wire.connections[-1].close(code=4403, reason="not yours")
    see(room(page, 47), "Not yours.")
    assert page.evaluate(AUDIT) == []


def test_arrivals_are_said_aloud_a_second_at_a_time(server: Server, tabs: Tabs) -> None:
    page = tabs.blank()
    wire = Wire(page)
    page.goto(server.http + "/#rooms=42")
    connected(page, 42)
    page.clock.run_for(1_000)
    said = page.locator("#announcer")
    hear(said, "Room 42: Connected over WebSocket.")
    wire.notify(42, "quietly")
    see(entry(page, 42, "quietly"))
    page.clock.run_for(999)
    hear(said, "Room 42: Connected over WebSocket.")
    page.clock.run_for(1)
    hear(said, "Room 42: quietly")
    for number in range(8):
        wire.notify(42, f"number {number}")
    see(entry(page, 42, "number 7"))
    page.clock.run_for(1_000)
    hear(said, "8 changes and notifications.")


@pytest.mark.parametrize("screen", [PHONE, NARROW], ids=["phone", "narrow"])
def test_nothing_is_wider_than_a_phone(
    server: Server, tabs: Tabs, screen: dict[str, object]
) -> None:
    page = connected(tabs.open(f"{server.http}/#rooms=50,{'9' * 18}", **screen), 50)
    publish(server, 50, "w" * 500)
    publish(server, 50, {"key": "w" * 500})
    see(entry(page, 50, '"key"').first)
    for summary in page.locator("summary:visible").all():
        summary.click()
    assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0


def test_a_picture_of_it_can_be_taken(server: Server, tabs: Tabs, tmp_path: Path) -> None:
    """SCREENSHOT=docs/images/demo.png takes the one that the README shows."""
    file = ROOT / os.environ.get("SCREENSHOT", tmp_path / "demo.png")
    page = tabs.open(
        server.http + "/#rooms=42,7", viewport={"width": 1280, "height": 760}, device_scale_factor=2
    )
    connected(page, 42, 7)
    publish(server, 42, "Your order has left the warehouse.")
    publish(server, 42, {"type": "invoice.paid", "amount": "119.00 EUR"})
    publish(server, 7, "Maria joined the conversation.")
    send(page, 42, "Hello from this page")
    see(entry(page, 42, "Hello from this page"))
    see(entry(page, 7, "Maria"))
    page.get_by_role("button", name="Cut the connection").click()
    publish(server, 7, "Are you still there?")
    publish(server, 7, "I ordered 42 of them.")
    page.get_by_role("button", name="Connect again").click()
    see(entry(page, 7, "42 of them"))
    page.evaluate("document.activeElement.blur()")
    file.parent.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=file, animations="disabled")
    assert file.read_bytes().startswith(b"\x89PNG")
