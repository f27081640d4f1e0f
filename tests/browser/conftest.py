"""A browser, a server to point it at, and tabs whose complaints fail a test."""

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from tests.needed import missing, program
from tests.servers import Server

from .visit import Product, Tabs

if TYPE_CHECKING:
    from playwright.sync_api import Browser

CHROMIUM = ("chromium", "chromium-browser", "google-chrome")
# No sandbox, since the tests may run as root in a container; nothing that calls home.
ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
WAIT = 10_000  # ms, for a condition; a loaded machine is slow


@pytest.fixture(scope="package")
def browser() -> Iterator["Browser"]:
    """The machine's Chromium."""
    try:
        from playwright.sync_api import expect, sync_playwright
    except ImportError:
        missing("playwright is not installed: pip install playwright")
    chromium = program(*CHROMIUM)
    expect.set_options(timeout=WAIT)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture(scope="package")
def server(browser: "Browser") -> Iterator[Server]:
    """One default application for all tests that leave it alone; none without a browser."""
    with Product() as product:
        yield product


@pytest.fixture(scope="package")
def mounted(server: Server) -> Iterator[Server]:
    with Server("uvicorn-websockets", "tests.browser.mounted:app") as mounted:
        yield mounted


@pytest.fixture
def tabs(browser: "Browser") -> Iterator[Tabs]:
    """Tabs that are closed, and their complaints judged, when the test is over."""
    tabs = Tabs(browser)
    yield tabs
    tabs.close()
    assert [text for text in tabs.problems if not re.search(tabs.expected, text)] == []
