"""``asgi-notify send``: one notification, through the HTTP door of a running server."""

import json
from http.client import HTTPException
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import OpenerDirector, ProxyHandler, Request, build_opener

import click

from ..publishing import is_loopback

__all__ = ["send"]

TIMEOUT = 10  # seconds


@click.command()
@click.argument("room", type=click.IntRange(0))
@click.argument("text")
@click.option(
    "--url", default="http://127.0.0.1:8000/", show_default=True, help="Where the server is."
)
@click.option(
    "--key",
    envvar="ASGI_NOTIFY_PUBLISH_KEY",
    show_envvar=True,
    help="The publish key, if the server wants one.",
)
def send(room: int, text: str, url: str, key: str | None) -> None:
    """Send TEXT to all browsers that watch ROOM."""  # fmt: skip
    if not _is_address(url):
        raise click.UsageError(f"{url!r} is no address of a server; give http://HOST:PORT/")
    target = f"{url.rstrip('/')}/notifications/{room}/"
    headers = {"content-type": "application/json"}
    if key:
        # Headers are written in Latin-1; the server compares the key's bytes in UTF-8.
        headers["authorization"] = f"Bearer {key}".encode().decode("latin-1")
    request = Request(target, json.dumps({"data": text}).encode(), headers, method="POST")
    reached = _post(request)
    click.echo(f"room {room}: reached {reached} connection{'' if reached == 1 else 's'}")


def _is_address(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname)
    except ValueError:  # such as an IPv6 address without its bracket
        return False


def _post(request: Request) -> int:
    try:
        with _opener(request).open(request, timeout=TIMEOUT) as answer:
            reached: int = json.load(answer)["reached"]
            return reached
    except HTTPError as error:
        raise click.ClickException(
            f"the server answered {error.code}: {_sentence(error)}"
        ) from error
    except (URLError, OSError) as error:
        reason = getattr(error, "reason", error)
        raise click.ClickException(
            f"no server at {request.full_url} ({reason}); start one with: asgi-notify serve, "
            "or say with --url where it is"
        ) from error
    except (HTTPException, ValueError, KeyError, TypeError) as error:
        raise click.ClickException(
            f"what answers at {request.full_url} is no notification server"
        ) from error


def _opener(request: Request) -> OpenerDirector:
    # A proxy for the internet does not lead back to this machine.
    host = urlsplit(request.full_url).hostname or ""
    return build_opener(ProxyHandler({})) if is_loopback(host) else build_opener()


def _sentence(error: HTTPError) -> str:
    try:
        return str(json.load(error)["error"])
    except (ValueError, KeyError, TypeError):
        return error.reason
