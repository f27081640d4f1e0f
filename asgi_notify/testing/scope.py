"""What a server would write into the scope of a connection."""

from collections.abc import Iterable, Mapping
from urllib.parse import quote, unquote, urlsplit

from ..types import Headers, Scope

__all__ = ["connection_scope"]

# 2.4 would promise that send raises OSError once the client is gone.
_SPEC_VERSION = "2.3"

# RFC 3986, section 3.3: what a path may hold as it is; "%" was written by the caller.
_PATH_CHARACTERS = "/%:@!$&'()*+,;=~"


def connection_scope(
    kind: str, path: object, headers: object, *, scheme: str, spec_version: str | None = None
) -> Scope:
    """The entries that the scopes of HTTP and WebSocket connections share.

    Args:
        kind: the scope's type.
        path: a path or a URL, of which the path and the query are used.
        headers: pairs of bytes; names are written in lower case, as servers do.
        scheme: such as ``ws``.
        spec_version: of the ASGI HTTP and WebSocket specification.

    Raises:
        TypeError: the path is no text, or the headers are no pairs of bytes.

    Source: ASGI, HTTP & WebSocket, section "HTTP Connection Scope".
    """
    target, query = _split(path)
    return {
        "type": kind,
        "asgi": {"version": "3.0", "spec_version": spec_version or _SPEC_VERSION},
        "http_version": "1.1",
        "scheme": scheme,
        "path": unquote(target),
        "raw_path": quote(target, safe=_PATH_CHARACTERS).encode("ascii"),
        "query_string": query.encode("utf-8"),
        "root_path": "",
        "headers": _pairs(headers),
        "client": ("127.0.0.1", 50000),
        "server": ("127.0.0.1", 80),
    }


def _split(path: object) -> tuple[str, str]:
    if not isinstance(path, str):
        raise TypeError(
            f"the path must be a str, such as '/notifications/1/', not {type(path).__name__}"
        )
    if path.startswith("/"):  # "//x" is a path too; a URL would have its host there
        target, _, query = path.partition("#")[0].partition("?")
        return target, query
    parts = urlsplit(path)
    return parts.path, parts.query


def _pairs(headers: object) -> Headers:
    if headers is None:
        return []
    if isinstance(headers, Iterable) and not isinstance(headers, Mapping):
        pairs = list(headers)
        if all(_is_pair(pair) for pair in pairs):
            return [(name.lower(), value) for name, value in pairs]
    raise TypeError(
        "headers must be a list of pairs of bytes, such as [(b'origin', b'https://example.com')]"
    )


def _is_pair(pair: object) -> bool:
    return (
        isinstance(pair, (tuple, list))
        and len(pair) == 2
        and all(isinstance(part, bytes) for part in pair)
    )
