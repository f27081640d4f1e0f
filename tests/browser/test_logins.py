"""The JavaScript client logs in at the default application, and outlives its tokens."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from asgi_notify.auth import SignedTokens
from tests.servers import Server

from .test_client import got, live, until
from .visit import Product, Tabs, publish

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.browser

KEY = "k" * 32
START = """async ([transport, kind]) => {
    const { connect } = await import("./asgi-notify.js");
    Object.assign(window, { got: [], told: [], asked: 0, addresses: [] });
    const real = window.EventSource;
    window.EventSource = class extends real {
        constructor(url) { super(url); addresses.push(url); }
    };
    const auth = async () => {
        window.asked += 1;
        const token = await freshToken();
        if (token === null || kind === "token") return token;
        const headers = { authorization: `Bearer ${token}` };
        const answer = await fetch("tickets", { method: "POST", headers });
        return (await answer.json()).ticket;
    };
    const options = { backoff: { base: 0.05, max: 0.2 }, transports: [transport], auth };
    window.client = connect("notifications/", options);
    for (const name of ["state", "gap", "error"])
        client.addEventListener(name, ({ detail }) => told.push([name, detail]));
    window.subscription = client.subscribe("user_7", ({ data }) => got.push(data));
}"""


@pytest.fixture(scope="module")
def guarded(browser: "Browser") -> Iterator[Server]:
    """The default application with a login."""
    with Product(env={"ASGI_NOTIFY_TOKEN_KEYS": KEY}) as product:
        yield product


def start(page: "Page", transport: str, kind: str, user: int | None = 7, age: float = 2) -> None:
    tokens = SignedTokens(KEY, max_age=age)
    page.expose_function("freshToken", lambda: None if user is None else tokens.sign(user))
    page.evaluate(START, [transport, kind])


WAYS = [
    ("websocket", "token"),
    ("websocket", "ticket"),
    ("sse", "ticket"),
    ("poll", "token"),
    ("poll", "ticket"),
]


@pytest.mark.parametrize(("transport", "kind"), WAYS)
def test_a_page_outlives_its_tokens_and_misses_nothing(
    transport: str, kind: str, guarded: Server, tabs: Tabs
) -> None:
    tabs.expected = "401"  # what Chromium writes of a poll whose token has expired
    page = tabs.open(guarded.http)
    start(page, transport, kind)
    live(page, transport)
    for number in range(30):
        publish(guarded, 7, number)
        page.wait_for_timeout(100)
    assert got(page, 29) == list(range(30))
    assert page.evaluate("asked") > 1
    assert page.evaluate("told.filter(([name]) => name !== 'state')") == []
    for address in page.evaluate("addresses"):
        assert "ticket=ticket." in address


def test_a_page_of_somebody_else_is_refused_the_group(guarded: Server, tabs: Tabs) -> None:
    page = tabs.open(guarded.http)
    start(page, "websocket", "token", user=8)
    until(page, "subscription.state === 'refused'")
    assert page.evaluate("told.at(-1)[1].code") == "forbidden"


def test_a_page_of_nobody_stays_away(guarded: Server, tabs: Tabs) -> None:
    page = tabs.open(guarded.http)
    start(page, "websocket", "token", user=None)
    until(page, "client.state === 'closed'")
    assert page.evaluate("told.at(-1)[1].code") == "unauthorized"
