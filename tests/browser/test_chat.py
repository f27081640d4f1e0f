"""Two pages talk in the chat of the examples: what one publishes, both show once."""

import pytest

from tests.servers import Server

from .visit import Tabs, hear, see

pytestmark = pytest.mark.browser


def test_what_one_page_publishes_both_show(tabs: Tabs) -> None:
    tabs.expected = "404 "  # of the icon that Chromium asks for
    with Server("uvicorn-websockets-sansio", "examples.chat:app") as server:
        pages = [tabs.open(server.http) for _ in range(2)]
        ann, bob = pages
        for page, text in (ann, "hello"), (bob, "who is there?"), (ann, "<b>me</b>"):
            field = page.locator("input")
            field.fill(text)
            field.press("Enter")
            see(page.locator("li").last, f"somebody: {text}")
            hear(page.locator("output"), "")
        for page in pages:
            see(page.locator("li").last, "somebody: <b>me</b>")
        assert ann.locator("li").all_text_contents() == [
            "somebody: hello", "somebody: who is there?", "somebody: <b>me</b>"
        ]  # fmt: skip
        for page in pages:
            page.goto("about:blank")  # a socket that outlived the server would complain
