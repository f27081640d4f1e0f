"""How a program that is no server publishes: a POST to the server's HTTP API, which waits."""

import json
from http.client import HTTPException
from typing import NamedTuple
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import OpenerDirector, ProxyHandler, Request, build_opener

from ..exceptions import ClientError, Forbidden, NoRouteFound, NotifyError, Unauthorized
from ..hosts import is_loopback
from .errors import PASSING, ServerUnavailable, WrongServer, sentence_of

__all__ = ["Published", "Publisher"]

TIMEOUT = 10.0  # seconds

_KINDS: dict[int, type[ClientError]] = {401: Unauthorized, 403: Forbidden, 404: NoRouteFound}


class Published(NamedTuple):
    """What became of a notification.

    Attributes:
        reached: how many connections of the server's process took it.
        position: its place in the history, or None where none is kept.
    """

    reached: int
    position: str | None


class Publisher:
    """Publishes notifications to the rooms of one server, from any language's point of view.

    It waits for the answer: in an event loop, call it in a thread. It keeps no
    connection, so that there is nothing to close, and several threads may share it.

    Args:
        url: where the server is, or where in it the application is mounted, such
            as ``http://127.0.0.1:8000``.
        key: the publish key, or None.
        timeout: seconds that one request may take.
    """

    def __init__(self, url: str, key: str | None = None, *, timeout: float = TIMEOUT) -> None:
        self.url = url.rstrip("/")
        self.key = key
        self.timeout = timeout
        self._opener = _opener(self.url)

    def room(self, room: int) -> str:
        """The address of a room."""
        return f"{self.url}/notifications/{room}/"

    def publish(self, room: int, data: object, *, idempotency_key: str | None = None) -> Published:
        """Publish to all that watch a room.

        Args:
            room: its number.
            data: anything that JSON has.
            idempotency_key: with the same one, it is published once, however
                often it is sent.

        Raises:
            ServerUnavailable: there is no such server, or it is busy: later it may work.
            WrongServer: what answers is no notification server.
            ClientError: the server refuses; `Unauthorized` where the key is missing or wrong.
        """
        headers = {"content-type": "application/json"}
        if self.key:
            # Headers are written in Latin-1; the server compares the key's bytes in UTF-8.
            headers["authorization"] = f"Bearer {self.key}".encode().decode("latin-1")
        content = {"data": data}
        if idempotency_key is not None:
            content["idempotency_key"] = idempotency_key
        url = self.room(room)
        return self._post(Request(url, json.dumps(content).encode(), headers, method="POST"))

    def _post(self, request: Request) -> Published:
        url = request.full_url
        try:
            with self._opener.open(request, timeout=self.timeout) as answer:
                content = json.load(answer)
                return Published(int(content["reached"]), content.get("position"))
        except HTTPError as error:
            raise _refused(error) from error
        except (URLError, OSError) as error:
            reason = getattr(error, "reason", error)
            raise ServerUnavailable(
                f"no server at {url} ({reason}); start one with: asgi-notify serve, "
                "or give the address of another"
            ) from error
        except (HTTPException, ValueError, KeyError, TypeError, AttributeError) as error:
            raise WrongServer(f"what answers at {url} is no notification server") from error


def _opener(url: str) -> OpenerDirector:
    # A proxy for the internet does not lead back to this machine.
    is_local = is_loopback(urlsplit(url).hostname or "")
    return build_opener(ProxyHandler({})) if is_local else build_opener()


def _refused(error: HTTPError) -> NotifyError:
    # What a server of ours says of it; another one says nothing that could be read here.
    sentence = sentence_of(error.read(), "")
    said = f"the server answered {error.code}: {sentence or error.reason}"
    if error.code >= 500 or error.code in PASSING:
        return ServerUnavailable(said)
    if error.code == 401 and not sentence:
        return ClientError(said)  # of a proxy, which asks for no key of ours
    return _KINDS.get(error.code, ClientError)(said)
