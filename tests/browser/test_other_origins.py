"""What a page of another origin can do: all that a page of an allowed one can, else nothing."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

from tests.servers import Server

from .visit import Product, Tabs

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.browser

POLL = """async (url) => {
    const answer = await fetch(url + '?timeout=0', {credentials: 'include'});
    return (await answer.json()).notifications;
}"""
PUBLISH = """async (url) => {
    const headers = {'content-type': 'application/json', 'idempotency-key': crypto.randomUUID()};
    const body = JSON.stringify({data: 'hello from elsewhere'});
    const answer = await fetch(url, {method: 'POST', headers, body});
    return answer.status;
}"""
STREAM = """(url) => new Promise((resolve) => {
    const source = new EventSource(url, {withCredentials: true});
    source.onmessage = (event) => { source.close(); resolve(event.data); };
    source.onerror = () => { source.close(); resolve('refused'); };
    source.onopen = () => fetch(url, {method: 'POST', body: '{"data": "streamed"}'});
})"""
NO_ICON = r"status of 404"  # which a browser asks for where a page has none
BLOCKED = r"(?i:cors policy)|ERR_FAILED|status of 403"


@pytest.fixture(scope="module")
def elsewhere(server: Server) -> Iterator[Server]:
    """A server that lets pages of the other one in."""
    with Product(env={"ASGI_NOTIFY_ALLOWED_ORIGINS": server.http}) as product:
        yield product


@pytest.fixture
def page(server: Server, tabs: Tabs) -> "Page":
    """A page without a policy of its own for what it may ask."""
    tabs.expected = NO_ICON
    return tabs.open(server.http + "/healthz")


def refused(page: "Page", script: str, url: str) -> bool:
    found: Any = page.evaluate(
        "async ([script, url]) => { try { return await eval(script)(url); } "
        "catch (error) { return error.name; } }", [script, url],
    )  # fmt: skip
    return found in ("TypeError", "refused")


def test_a_page_of_an_allowed_origin_watches_and_publishes(page: "Page", elsewhere: Server) -> None:
    room = f"{elsewhere.http}/notifications/42/"
    assert page.evaluate(POLL, room) == []
    assert page.evaluate(PUBLISH, room) == 202
    assert page.evaluate(STREAM, room) == "streamed"


def test_any_other_page_does_not(page: "Page", elsewhere: Server, tabs: Tabs) -> None:
    tabs.expected = f"{NO_ICON}|{BLOCKED}"
    with Product() as closed:
        room = f"{closed.http}/notifications/42/"
        for script in POLL, PUBLISH, STREAM:
            assert refused(page, script, room)
