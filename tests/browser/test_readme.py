"""The README's page and the README's server fit each other."""

import re
from pathlib import Path

import httpx
import pytest

from tests.servers import ROOT, Server

from .visit import Tabs

pytestmark = pytest.mark.browser

README = (ROOT / "README.md").read_text()


def block(language: str) -> str:
    """The README's first block of this language."""
    found = re.search(rf"^```{language}\n(.*?)^```", README, re.DOTALL | re.MULTILINE)
    assert found is not None
    return str(found[1])


def test_the_page_of_the_readme_hears_from_the_server_of_the_readme(
    tabs: Tabs, tmp_path: Path
) -> None:
    (tmp_path / "readme.py").write_text(block("python"))

    tabs.expected = "404 "  # of the icon that Chromium asks for
    with Server("uvicorn-websockets-sansio", "readme:app", cwd=tmp_path) as server:
        page = tabs.open(f"{server.http}/static/asgi-notify.js")  # any document of its origin
        with page.expect_console_message(lambda message: message.type == "log") as said:
            page.add_script_tag(type="module", content=block("js"))
            while httpx.post(f"{server.http}/ship/42").json() == {"reached": 0}:
                page.wait_for_timeout(20)  # ms; until the page has subscribed
        assert said.value.text == "Your order has shipped"
        page.goto("about:blank")  # a socket that outlived the server would complain
