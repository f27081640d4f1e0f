"""Consumers as an application writes them, for type checkers to look at."""

from typing import Any

from asgi_notify import (
    AsyncConsumer,
    AsyncHttpConsumer,
    AsyncJsonWebsocketConsumer,
    AsyncSseConsumer,
    AsyncWebsocketConsumer,
    HttpConsumer,
    JsonWebsocketConsumer,
    Message,
    NotificationConsumer,
    NotificationHttpConsumer,
    Notifications,
    PublishConsumer,
    SyncConsumer,
    WebsocketConsumer,
)


class A(AsyncJsonWebsocketConsumer):
    async def connect(self) -> None:
        await self.accept()

    async def disconnect(self, close_code: int) -> None: ...
    async def receive_json(self, content: Any) -> None:
        await self.send_json(content)

    async def chat_message(self, event: Message) -> None:
        await self.send_json(event["text"])

    @classmethod
    async def encode_json(cls, content: object) -> str:
        return ""


class A2(AsyncJsonWebsocketConsumer):
    async def receive_json(self, content: Any, **kwargs: Any) -> None: ...


class S(JsonWebsocketConsumer):
    def connect(self) -> None:
        self.accept()

    def disconnect(self, close_code: int) -> None: ...
    def receive_json(self, content: Any) -> None:
        self.send_json(content)


class W(AsyncWebsocketConsumer):
    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        await self.send(text_data)

    async def disconnect(self, code: int) -> None: ...


class WS(WebsocketConsumer):
    def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        self.send(text_data)

    def disconnect(self, code: int) -> None: ...


class Own(Notifications):
    async def authorize(self, group: str) -> bool:
        return True

    async def join(self) -> None:
        await super().join()

    def render(self, data: object) -> str:
        return super().render(data).strip()


class OwnSocket(Own, NotificationConsumer):
    async def send_notification(self, message: Message) -> None:
        await super().send_notification(message)

    async def client_message(self, text: str) -> None: ...


class OwnHttp(Own, NotificationHttpConsumer): ...


class H(AsyncHttpConsumer):
    async def handle(self, body: bytes) -> None:
        await self.send_response(200, b"", headers=[(b"a", b"b")])


class HS(HttpConsumer):
    def handle(self, body: bytes) -> None:
        self.send_response(200, b"")


class SS(AsyncSseConsumer):
    async def connect(self) -> None:
        await self.send_event("a")


class P(PublishConsumer):
    async def authorize(self) -> bool:
        return True


class C(AsyncConsumer):
    async def websocket_connect(self, event: Message) -> None:
        await self.send({"type": "websocket.accept"})


class CS(SyncConsumer):
    def websocket_connect(self, event: Message) -> None:
        self.send({"type": "websocket.accept"})
