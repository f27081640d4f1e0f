"""The application of docs/javascript.md lets each user hear their own, over each transport."""

import re
from typing import Any

import pytest

from asgi_notify import InMemoryChannelLayer, channel_layers
from asgi_notify.testing import HttpCommunicator, WebsocketCommunicator
from tests.servers import ROOT

pytestmark = pytest.mark.anyio


def documented() -> dict[str, Any]:
    text = (ROOT / "docs/javascript.md").read_text()
    (code,) = re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    names: dict[str, Any] = {}
    exec(code, names)
    return names


async def test_the_application_of_the_page_lets_each_user_hear_their_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(channel_layers, "_layers", {})
    channel_layers.set("default", InMemoryChannelLayer())
    names = documented()
    headers = [(b"cookie", f"login={names['tokens'].sign(42)}".encode())]
    for user, is_own in (42, True), (7, False):
        path = f"/live/notifications/?group=user_{user}"
        socket = WebsocketCommunicator(names["app"], path, headers, denial_response=True)
        async with socket:
            assert await socket.connect() == ((True, None) if is_own else (False, 403))
        async with HttpCommunicator(names["app"], "GET", f"{path}&timeout=0", b"", headers) as poll:
            assert (await poll.get_response())["status"] == (200 if is_own else 403)
    path = "/live/notifications/?group=user_42"
    async with WebsocketCommunicator(names["app"], path, denial_response=True) as socket:
        assert await socket.connect() == (False, 401)
    async with HttpCommunicator(names["app"], "GET", path) as poll:
        assert (await poll.get_response())["status"] == 401
