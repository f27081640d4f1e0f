"""Consumers that speak JSON, and what becomes of a client that does not."""

import json
import logging
from typing import Any

import pytest

from asgi_notify import AsyncJsonWebsocketConsumer, ClientError, JsonWebsocketConsumer
from tests.consumers.harness import connected

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("layer")]


class Echo(AsyncJsonWebsocketConsumer):
    """Sends back what it received; closes on "bye"."""

    async def receive_json(self, content: Any, **kwargs: Any) -> None:
        await self.send_json(content, close=content == "bye")


class EchoInThread(JsonWebsocketConsumer):
    """The same with plain functions."""

    def receive_json(self, content: Any, **kwargs: Any) -> None:
        self.send_json(content, close=content == "bye")


both = pytest.mark.parametrize("app", [Echo, EchoInThread])


@both
@pytest.mark.parametrize("content", [{"a": [1, "é", None]}, [], "text", 1.5, None])
async def test_what_is_received_as_json_is_sent_as_json(app: Any, content: Any) -> None:
    async with connected(app) as client:
        await client.send_json_to(content)
        assert await client.receive_json_from() == content


@both
async def test_send_json_closes_afterwards_if_told(app: Any) -> None:
    async with connected(app) as client:
        await client.send_json_to("bye")
        assert await client.receive_json_from() == "bye"
        assert (await client.receive_output())["code"] == 1000


@pytest.mark.parametrize("base", [AsyncJsonWebsocketConsumer, JsonWebsocketConsumer])
async def test_what_is_received_is_passed_over_unless_handled(base: Any) -> None:
    async with connected(base) as client:
        await client.send_json_to({})
        assert await client.receive_nothing(0.01)


@both
@pytest.mark.parametrize("frame", ["", "{", "{'a': 1}", "[" * 100_000, "1" * 10_000])
async def test_malformed_json_closes_with_4400_and_a_reason_and_no_traceback(
    app: Any, frame: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with connected(app) as client:
        await client.send_to(frame)
        event = await client.receive_output()
        assert event["code"] == 4400
        assert event["reason"].startswith("the frame is no JSON: ")
    assert not any(record.exc_info for record in caplog.records)


@both
async def test_a_binary_frame_closes_with_1003(app: Any) -> None:
    async with connected(app) as client:
        await client.send_to(bytes_data=b"{}")
        event = await client.receive_output()
        assert event["code"] == 1003
        assert "binary" in event["reason"]


class Shouts(Echo):
    """Has JSON of its own."""

    @classmethod
    async def decode_json(cls, text_data: str) -> Any:
        if text_data == "secret":
            raise ClientError("no secrets here")
        return json.loads(text_data.lower())

    @classmethod
    async def encode_json(cls, content: Any) -> str:
        return json.dumps(content).upper()


class ShoutsInThread(EchoInThread):
    """The same with plain functions."""

    @classmethod
    def decode_json(cls, text_data: str) -> Any:
        if text_data == "secret":
            raise ClientError("no secrets here")
        return json.loads(text_data.lower())

    @classmethod
    def encode_json(cls, content: Any) -> str:
        return json.dumps(content).upper()


@pytest.mark.parametrize("app", [Shouts, ShoutsInThread])
async def test_encode_and_decode_may_be_overridden(app: Any) -> None:
    async with connected(app) as client:
        await client.send_to('{"A": TRUE}')
        assert await client.receive_from() == '{"A": TRUE}'


@pytest.mark.parametrize("app", [Shouts, ShoutsInThread])
@pytest.mark.parametrize(
    ("frame", "reason"), [("{", "the frame is no JSON: "), ("secret", "no secrets here")]
)
async def test_what_an_overridden_decode_cannot_read_is_the_clients_fault_too(
    app: Any, frame: str, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with connected(app) as client:
        await client.send_to(frame)
        event = await client.receive_output()
        assert event["code"] == 4400
        assert event["reason"].startswith(reason)
    assert caplog.records == []


@both
async def test_what_the_consumer_itself_cannot_encode_is_its_own_error(
    app: Any, caplog: pytest.LogCaptureFixture
) -> None:
    class Wrong(app):  # type: ignore[misc]
        def receive_json(self, content: object) -> object:
            return self.send_json({1, 2})

    async with connected(Wrong) as client:
        await client.send_json_to({})
        assert (await client.receive_output())["code"] == 1011
    [record] = caplog.records
    assert record.exc_info is not None
    assert isinstance(record.exc_info[1], TypeError)
