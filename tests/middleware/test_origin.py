"""Which origins each validator lets through, and what the others are told."""

import json
import logging
from collections.abc import Callable
from typing import Any

import pytest

from asgi_notify import asgi
from asgi_notify.exceptions import ConfigurationError
from asgi_notify.middleware import (
    AllowedHostsOriginValidator,
    OriginValidator,
    SameOriginValidator,
)
from asgi_notify.routing import URLRouter, path
from asgi_notify.testing import (
    ApplicationCommunicator,
    HttpCommunicator,
    WebsocketCommunicator,
)
from asgi_notify.types import ASGIApp, Headers, Receive, Scope, Send

pytestmark = pytest.mark.anyio


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "http":
        for event in asgi.response(200, b"passed"):
            await send(event)
    elif scope["type"] == "websocket":
        await receive()
        await send(asgi.accept())
        await receive()
    else:
        await send({"type": "test.passed"})


async def passes(application: ASGIApp, *origins: str | bytes, host: str | None = None) -> bool:
    """Whether the app is reached by a WebSocket with these Origin headers."""
    values = [value if isinstance(value, bytes) else value.encode() for value in origins]
    headers: Headers = [(b"origin", value) for value in values]
    if host is not None:
        headers.append((b"host", host.encode()))
    async with WebsocketCommunicator(application, "/", headers) as communicator:
        connected, _ = await communicator.connect()
        return connected


@pytest.mark.parametrize(
    ("pattern", "origin", "expected"),
    [
        # a scheme, a host, and the port that the scheme stands for
        ("http://example.com", "http://example.com", True),
        ("http://example.com", "http://example.com:80", True),
        ("http://example.com:80", "http://example.com", True),
        ("https://example.com", "https://example.com:443", True),
        ("https://example.com:443", "https://example.com", True),
        ("https://example.com:0443", "https://example.com", True),
        ("http://example.com", "https://example.com", False),
        ("http://example.com", "http://example.com:8000", False),
        ("http://example.com:8000", "http://example.com:8000", True),
        ("http://example.com:8000", "http://example.com", False),
        ("http://example.com", "http://example.org", False),
        ("http://example.com", "http://www.example.com", False),
        ("http://example.com", "http://example.com.evil.org", False),
        ("http://example.com", "http://evilexample.com", False),
        ("chrome-extension://abcdef", "chrome-extension://abcdef", True),
        ("chrome-extension://abcdef", "http://abcdef", False),
        # no scheme: any; no port either: any
        ("example.com", "http://example.com", True),
        ("example.com", "https://example.com:8443", True),
        ("example.com", "http://example.org", False),
        ("example.com:8000", "https://example.com:8000", True),
        ("example.com:443", "https://example.com", True),
        ("example.com:8000", "http://example.com", False),
        # subdomains
        (".example.com", "http://example.com", True),
        (".example.com", "https://a.b.example.com:1", True),
        (".example.com", "http://evilexample.com", False),
        ("http://.example.com", "http://www.example.com", True),
        ("http://.example.com", "https://www.example.com", False),
        ("http://.example.com:80", "http://www.example.com", True),
        ("http://.example.com", "http://www.example.com:8000", False),
        # one host, written in several ways
        ("HTTP://Example.COM", "http://example.com", True),
        ("http://example.com", "HTTP://EXAMPLE.com", True),
        ("http://example.com", "http://example.com.", True),
        ("http://example.com.", "http://example.com", True),
        (".example.com", "http://www.example.com.", True),
        ("[::1]", "http://[::1]:8000", True),
        ("http://[::1]:8000", "http://[0:0:0:0:0:0:0:1]:8000", True),
        ("http://[::1]", "http://[::2]", False),
        ("127.0.0.1", "http://127.0.0.1:8000", True),
        ("xn--mnchen-3ya.example", "https://xn--mnchen-3ya.example", True),
        ("a_b.example", "https://a_b.example", True),
    ],
)
async def test_a_pattern_lets_its_origins_through(
    pattern: str, origin: str, expected: bool
) -> None:
    assert await passes(OriginValidator(app, [pattern]), origin) is expected


GARBAGE = [
    "",
    "null",
    "http://",
    "http://example.com/",
    "http://example.com/path",
    "http://example.com?query",
    "http://example.com#top",
    "http://user@example.com",
    "http://user:secret@example.com",
    "http://example.com@evil.org",
    "http://evil.org\\@example.com",
    "http://example.com:",
    "http://example.com:abc",
    "http://example.com:99999",
    "http://example.com:-1",
    "http://example.com:80:80",
    "http://[::1",
    "http://[zz]",
    "http://[::1]x",
    "http://[:::::1]",
    "http://.example.com",
    "http://..example.com",
    "http:example.com",
    "//example.com",
    "example.com",
    "example.com:80",
    " http://example.com",
    "http://example.com\n",
    "http://example.com http://example.com",
    "http://example.com, http://example.com",
    "http://exam\x00ple.com",
    "http://ex\u00e4mple.com",
    b"http://example.com\xff",
    "http://" + "a" * 70_000,
]


@pytest.mark.parametrize("origin", GARBAGE, ids=lambda origin: repr(origin)[:40])
@pytest.mark.parametrize(
    "validator",
    [
        OriginValidator(app, ["http://example.com", "example.com", ".example.com", "[::1]"]),
        SameOriginValidator(app),
    ],
    ids=lambda validator: type(validator).__name__,
)
async def test_what_is_no_origin_is_refused(
    validator: OriginValidator, origin: str | bytes
) -> None:
    assert not await passes(validator, origin, host="example.com")


@pytest.mark.parametrize("origin", GARBAGE, ids=lambda origin: repr(origin)[:40])
async def test_an_asterisk_lets_everything_through(origin: str | bytes) -> None:
    validator = OriginValidator(app, ["*", "http://example.com"])
    assert await passes(validator, origin)


async def test_no_origin_is_refused_unless_any_is_allowed() -> None:
    assert not await passes(OriginValidator(app, ["example.com"]))
    assert not await passes(OriginValidator(app, []))
    assert await passes(OriginValidator(app, ["*"]))


async def test_several_origins_are_refused_unless_any_is_allowed() -> None:
    origins = ["http://example.com", "http://example.com"]
    assert not await passes(OriginValidator(app, ["example.com"]), *origins)
    assert not await passes(SameOriginValidator(app), *origins, host="example.com")
    assert await passes(OriginValidator(app, ["*"]), *origins)


async def test_an_origin_passes_if_one_of_the_patterns_fits() -> None:
    validator = OriginValidator(app, iter(["a.example", "b.example"]))
    assert await passes(validator, "http://b.example")
    assert await passes(validator, "http://a.example")


@pytest.mark.parametrize(
    ("hosts", "origin", "expected"),
    [
        (["example.com"], "https://example.com:8443", True),
        (["example.com"], "http://localhost", False),
        ([".example.com"], "https://www.example.com", True),
        (["*"], "null", True),
        ([], "http://127.0.0.1:8000", False),
        (["localhost"], "http://localhost:3000", True),
        (["localhost"], "http://localhost.example.com", False),
    ],
)
async def test_allowed_hosts_are_let_through_with_any_scheme_and_port(
    hosts: list[str], origin: str, expected: bool
) -> None:
    assert await passes(AllowedHostsOriginValidator(app, hosts), origin) is expected


@pytest.mark.parametrize(
    ("origin", "host", "expected"),
    [
        ("http://example.com", "example.com", True),
        ("http://example.com:80", "example.com", True),
        ("http://example.com", "example.com:80", True),
        ("https://example.com", "example.com", True),
        ("https://example.com", "example.com:443", True),
        ("http://example.com", "example.com:443", False),
        ("https://example.com", "example.com:80", False),
        ("http://127.0.0.1:8000", "127.0.0.1:8000", True),
        ("http://127.0.0.1:8000", "127.0.0.1:8001", False),
        ("http://localhost:8000", "127.0.0.1:8000", False),
        ("http://[::1]:8000", "[::1]:8000", True),
        ("http://Example.com", "EXAMPLE.com.", True),
        ("http://evil.org", "example.com", False),
        ("http://example.com", None, False),
        ("http://example.com", "", False),
        ("http://example.com", ".example.com", False),
        ("http://example.com", "http://example.com", False),
        ("http://example.com", "example.com:99999", False),
        ("http://example.com", "user@example.com", False),
        ("chrome-extension://example.com", "example.com", False),
    ],
)
async def test_the_servers_own_pages_pass(origin: str, host: str | None, expected: bool) -> None:
    assert await passes(SameOriginValidator(app), origin, host=host) is expected


async def test_what_is_no_page_passes_as_same_origin() -> None:
    assert await passes(SameOriginValidator(app), host="example.com")
    assert await passes(SameOriginValidator(app))


async def test_other_origins_can_be_added_to_the_same() -> None:
    validator = SameOriginValidator(app, ["https://front.example"])
    assert await passes(validator, "https://front.example", host="api.example")
    assert await passes(validator, "https://api.example", host="api.example")
    assert not await passes(validator, "https://evil.org", host="api.example")


async def test_two_host_headers_make_no_page_the_servers_own() -> None:
    hosts = [(b"host", b"example.com"), (b"host", b"example.com")]
    headers = [(b"origin", b"http://example.com"), *hosts]
    async with WebsocketCommunicator(SameOriginValidator(app), "/", headers) as communicator:
        assert await communicator.connect() == (False, 4403)


async def test_header_names_may_come_in_any_case() -> None:
    communicator = WebsocketCommunicator(OriginValidator(app, ["example.com"]), "/")
    communicator.scope["headers"] = [(b"Origin", b"http://example.com")]
    async with communicator:
        assert await communicator.connect() == (True, None)


VALIDATORS: list[Callable[[ASGIApp], ASGIApp]] = [
    lambda app: OriginValidator(app, ["example.com"]),
    lambda app: AllowedHostsOriginValidator(app, ["localhost"]),
    SameOriginValidator,
]


@pytest.mark.parametrize("validator", VALIDATORS)
@pytest.mark.parametrize(
    ("method", "status"),
    [
        ("GET", 200),
        ("HEAD", 200),
        ("OPTIONS", 200),
        ("POST", 403),
        ("PUT", 403),
        ("PATCH", 403),
        ("DELETE", 403),
        ("TRACE", 403),
    ],
)
async def test_http_is_guarded_where_it_may_change_something(
    validator: Callable[[ASGIApp], ASGIApp], method: str, status: int
) -> None:
    headers = [(b"origin", b"http://evil.org"), (b"host", b"example.com")]
    communicator = HttpCommunicator(validator(app), method, "/", headers=headers)
    assert (await communicator.get_response())["status"] == status


@pytest.mark.parametrize("validator", VALIDATORS)
async def test_other_scopes_pass(validator: Callable[[ASGIApp], ASGIApp]) -> None:
    communicator = ApplicationCommunicator(validator(app), {"type": "lifespan"})
    assert await communicator.receive_output() == {"type": "test.passed"}


async def test_an_allowed_page_may_post() -> None:
    validator = OriginValidator(app, ["example.com"])
    headers = [(b"origin", b"http://example.com")]
    communicator = HttpCommunicator(validator, "POST", "/", headers=headers)
    assert (await communicator.get_response())["body"] == b"passed"


@pytest.mark.parametrize(
    ("validator", "origin", "sentence"),
    [
        (
            OriginValidator(app, []),
            "http://evil.org",
            "origin 'http://evil.org' is not allowed; to let it in, name it in allowed_origins",
        ),
        (
            AllowedHostsOriginValidator(app, ["localhost"]),
            "http://evil.org",
            "origin 'http://evil.org' is not allowed; to let it in, name it in allowed_hosts",
        ),
        (
            OriginValidator(app, []),
            "null",
            "origin 'null' names no site; only '*' in allowed_origins lets it in",
        ),
        (
            OriginValidator(app, []),
            None,
            (
                "only a page of an allowed origin may do this; "
                "'*' in allowed_origins lets all clients in"
            ),
        ),
    ],
)
async def test_a_refusal_says_who_is_refused_and_how_to_let_them_in(
    validator: OriginValidator, origin: str | None, sentence: str
) -> None:
    headers = [] if origin is None else [(b"origin", origin.encode())]
    communicator = WebsocketCommunicator(validator, "/", headers, denial_response=True)
    assert await communicator.connect() == (False, 403)
    assert communicator.denial is not None
    assert json.loads(communicator.denial.body) == {"error": sentence}


async def test_a_refusal_is_one_line_of_the_log(caplog: pytest.LogCaptureFixture) -> None:
    headers = [(b"origin", b"http://evil.org\r\nforged: line" + b"x" * 1000)]
    communicator = WebsocketCommunicator(OriginValidator(app, []), "/a%0Ab/", headers)
    with caplog.at_level(logging.INFO, "asgi_notify"):
        await communicator.connect()
    (record,) = caplog.records
    assert (record.name, record.levelname) == ("asgi_notify.middleware", "WARNING")
    message = record.getMessage()
    assert message.startswith(r"refused a websocket at '/a\nb/': origin 'http://evil.org\r\nforged")
    assert "\n" not in message
    assert len(message) < 500


async def test_who_passes_leaves_no_line_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, "asgi_notify.middleware"):
        assert await passes(OriginValidator(app, ["example.com"]), "http://example.com")
    assert caplog.records == []


@pytest.mark.parametrize(
    "pattern",
    [
        "",
        ".",
        "null",
        "https://",
        "https://example.com/",
        "https://example.com/path",
        "https://user@example.com",
        "*.example.com",
        "https://*",
        "example.com:*",
        "example.com:99999",
        "example.com:port",
        "::1",
        "[::1",
        "[zz]",
        "münchen.example",
        "\N{KELVIN SIGN}.example",  # in lower case it is an ASCII k
        " example.com",
        None,
        b"example.com",
        1,
    ],
)
def test_a_pattern_that_can_never_match_fails_when_built(pattern: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"can match no origin; write 'https://example"):
        OriginValidator(app, [pattern])


@pytest.mark.parametrize("patterns", ["example.com", "", b"example.com", 1])
def test_patterns_that_are_no_list_fail_when_built(patterns: Any) -> None:
    with pytest.raises(ConfigurationError, match="allowed_origins must be a list, such as"):
        OriginValidator(app, patterns)
    with pytest.raises(ConfigurationError, match="allowed_origins must be a list, such as"):
        SameOriginValidator(app, patterns)
    with pytest.raises(ConfigurationError, match="allowed_hosts must be a list, such as"):
        AllowedHostsOriginValidator(app, patterns)


def test_a_host_with_a_scheme_fails_when_built() -> None:
    with pytest.raises(ConfigurationError, match="'http://a' is no host: leave the scheme out"):
        AllowedHostsOriginValidator(app, ["http://a"])


def test_what_is_no_app_fails_when_built() -> None:
    with pytest.raises(ConfigurationError, match="OriginValidator leads to 5"):
        OriginValidator(5, ["*"])


@pytest.mark.parametrize(("origin", "expected"), [("http://a.example", True), ("null", False)])
async def test_a_router_behind_a_validator_routes_what_a_prefix_leaves(
    origin: str, expected: bool
) -> None:
    inner = URLRouter([path("rooms/<int:room>/", app)])
    router = URLRouter([path("live/", OriginValidator(inner, ["a.example"]))])
    headers = [(b"origin", origin.encode())]
    async with WebsocketCommunicator(router, "/live/rooms/7/", headers) as communicator:
        assert (await communicator.connect())[0] is expected


async def test_a_subclass_can_ask_more_of_a_connection() -> None:
    class Invited(OriginValidator):
        def allows(self, scope: Scope) -> bool:
            return super().allows(scope) and scope["query_string"] == b"invited"

    validator = Invited(app, ["example.com"])
    headers = [(b"origin", b"http://example.com")]
    assert not await passes(validator, "http://example.com")
    async with WebsocketCommunicator(validator, "/?invited", headers) as communicator:
        assert await communicator.connect() == (True, None)
