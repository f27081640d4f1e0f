"""What the tests of the protocol share: its schema, and clients that hold each frame against it."""

import json
from importlib.resources import files
from typing import Any

from jsonschema import Draft202012Validator

from asgi_notify.protocol import PROTOCOL
from asgi_notify.testing import WebsocketCommunicator

__all__ = ["SCHEMA", "Client", "check", "is_valid"]

SCHEMA: dict[str, Any] = json.loads((files("asgi_notify.protocol") / "schema.json").read_text())

Frame = dict[str, Any]


def _validator(side: str) -> Draft202012Validator:
    return Draft202012Validator({**SCHEMA, "anyOf": [{"$ref": f"#/$defs/{side}"}]})


_VALIDATORS = {side: _validator(side) for side in SCHEMA["$defs"]}


def check(text: str, side: str = "server") -> Frame:
    """The frame that a text holds, if the schema has such a one on this side."""
    frame: Frame = json.loads(text)
    _VALIDATORS[side].validate(frame)
    return frame


def is_valid(frame: object, side: str) -> bool:
    """Whether the schema allows it."""
    return _VALIDATORS[side].is_valid(frame)


class Client(WebsocketCommunicator):
    """A WebSocket that speaks the protocol; fails at any frame that the schema does not know."""

    def __init__(self, application: Any, path: str = "/notifications/", **kwargs: Any) -> None:
        super().__init__(application, path, subprotocols=["chat", PROTOCOL], **kwargs)

    async def welcome(self) -> Frame:
        """Connect, and return the first frame."""
        assert await self.connect() == (True, PROTOCOL)
        return await self.expect("welcome")

    async def frame(self) -> Frame:
        """The next frame."""
        text = await self.receive_from()
        assert isinstance(text, str)
        return check(text)

    async def expect(self, kind: str) -> Frame:
        """The next frame, which is of this type."""
        frame = await self.frame()
        assert frame["type"] == kind, frame
        return frame

    async def say(self, **frame: Any) -> None:
        """Send a frame."""
        text = json.dumps(frame)
        check(text, "client")
        await self.send_to(text)

    async def subscribe(self, group: str, **more: Any) -> Frame:
        """Subscribe, and return the answer."""
        await self.say(type="subscribe", group=group, **more)
        return await self.expect("subscribed")

    async def data(self, count: int) -> list[Any]:
        """The data of the next notifications."""
        return [(await self.expect("notification"))["data"] for _ in range(count)]
