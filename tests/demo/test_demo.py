"""The files of the demo page and the client: what is served, with which headers, what is not."""

import re
from importlib.resources import files

import pytest

from asgi_notify.demo import PUBLIC_HEADERS, SECURITY_HEADERS, urlpatterns
from asgi_notify.routing import URLRouter, include, path
from asgi_notify.testing import HttpCommunicator, WebsocketCommunicator

pytestmark = pytest.mark.anyio

Response = tuple[int, dict[str, str], bytes]

PAGE = URLRouter([include("asgi_notify.demo")])

TYPES = {
    "": "text/html; charset=utf-8",
    "page.css": "text/css; charset=utf-8",
    "page.js": "text/javascript; charset=utf-8",
    "room.js": "text/javascript; charset=utf-8",
    "recall.js": "text/javascript; charset=utf-8",
    "text.js": "text/javascript; charset=utf-8",
    "command.js": "text/javascript; charset=utf-8",
    "mark.svg": "image/svg+xml; charset=utf-8",
}

CLIENT = {
    "asgi-notify.js": "text/javascript; charset=utf-8",
    "asgi-notify.d.ts": "text/plain; charset=utf-8",
}

ALL = {**TYPES, **CLIENT}


def read(name: str) -> bytes:
    folder = "js" if name in CLIENT else "demo"
    return files("asgi_notify").joinpath(folder, name or "index.html").read_bytes()


async def ask(where: str, method: str = "GET", app: URLRouter = PAGE, **headers: str) -> Response:
    pairs = [(key.replace("_", "-").encode(), value.encode()) for key, value in headers.items()]
    response = await HttpCommunicator(app, method, where, headers=pairs).get_response()
    got = {key.decode(): value.decode() for key, value in response["headers"]}
    return response["status"], got, response["body"]


@pytest.mark.parametrize("name", ALL)
async def test_each_file_is_served_whole_with_its_type(name: str) -> None:
    status, headers, body = await ask("/" + name)
    assert status == 200
    assert body == read(name)
    assert headers["content-type"] == ALL[name]
    assert headers["content-length"] == str(len(body))
    assert headers["cache-control"] == "no-cache"


def test_every_file_of_the_folder_is_served() -> None:
    folders = [files("asgi_notify").joinpath(name) for name in ("demo", "js")]
    there = {item.name for folder in folders for item in folder.iterdir()}
    served = {"index.html", *(entry.route for entry in urlpatterns if entry.route)}
    assert {name for name in there if not name.startswith("__")} == served
    assert {entry.route for entry in urlpatterns} == set(ALL)


@pytest.mark.parametrize("name", TYPES)
async def test_each_file_carries_the_security_headers(name: str) -> None:
    _, headers, _ = await ask("/" + name)
    for key, value in SECURITY_HEADERS:
        assert headers[key.decode()] == value.decode()


@pytest.mark.parametrize("name", CLIENT)
async def test_the_client_may_be_imported_from_any_origin(name: str) -> None:
    _, headers, _ = await ask("/" + name, origin="https://elsewhere.example")
    for key, value in PUBLIC_HEADERS:
        assert headers[key.decode()] == value.decode()


async def test_the_policy_lets_in_nothing_from_elsewhere() -> None:
    _, headers, _ = await ask("/")
    policy = dict(rule.split(" ", 1) for rule in headers["content-security-policy"].split("; "))
    assert policy["default-src"] == "'none'"
    sources = [policy[f"{kind}-src"] for kind in ("script", "style", "img", "connect")]
    assert sources == ["'self'"] * 4
    closed = ("base-uri", "form-action", "frame-ancestors", "trusted-types")
    assert [policy[rule] for rule in closed] == ["'none'"] * 4
    assert headers["x-content-type-options"] == "nosniff"


def test_the_page_asks_for_nothing_from_elsewhere_and_holds_no_code() -> None:
    for entry in urlpatterns:
        text = read(entry.route).decode()
        own = text.replace('xmlns="http://www.w3.org/2000/svg"', "")
        own = re.sub(r'<a href="https://[^"]+">', "", own)  # asked for by whoever follows it
        assert not re.search(r"https?://|url\(|@import", own), entry.route
    html = files("asgi_notify.demo").joinpath("index.html").read_text()
    assert not re.search(r"<style|\sstyle=|\son\w+=|<script(?![^>]*\ssrc=)", html)
    assert not re.search(r'(?:src|href)="/', html)  # it may stand under a prefix


@pytest.mark.parametrize("form", ["{}", "W/{}", '"other", {}', "*"])
async def test_a_file_the_client_holds_is_not_sent_again(form: str) -> None:
    _, headers, _ = await ask("/page.js")
    status, again, body = await ask("/page.js", if_none_match=form.format(headers["etag"]))
    assert (status, body) == (304, b"")
    assert again["etag"] == headers["etag"]
    assert "content-length" not in again
    assert again["content-security-policy"] == headers["content-security-policy"]


async def test_another_version_is_sent() -> None:
    status, _, body = await ask("/page.js", if_none_match='"0123456789abcdef"')
    assert status == 200
    assert body


async def test_every_file_has_a_tag_of_its_own() -> None:
    tags = [(await ask("/" + name))[1]["etag"] for name in ALL]
    assert len(set(tags)) == len(ALL)


async def test_head_tells_the_length_and_sends_no_body() -> None:
    _, headers, body = await ask("/")
    assert await ask("/", "HEAD") == (200, headers, b"")
    assert headers["content-length"] == str(len(body))


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS"])
async def test_other_methods_are_refused(method: str) -> None:
    status, headers, body = await ask("/", method)
    assert status == 405
    assert headers["allow"] == "GET, HEAD"
    assert b"GET, HEAD" in body


@pytest.mark.parametrize(
    "where", ["/index.html", "/__init__.py", "/../asgi.py", "/%2e%2e/asgi.py", "/page.css/", "/x"]
)
async def test_nothing_else_is_served(where: str) -> None:
    status, _, _ = await ask(where)
    assert status == 404


async def test_a_websocket_to_the_page_is_refused() -> None:
    connected, code = await WebsocketCommunicator(PAGE, "/").connect()
    assert (connected, code) == (False, 4404)


async def test_the_page_can_stand_under_a_prefix() -> None:
    app = URLRouter([path("notify/", include("asgi_notify.demo"))])
    for name in ALL:
        assert (await ask("/notify/" + name, app=app))[0] == 200
