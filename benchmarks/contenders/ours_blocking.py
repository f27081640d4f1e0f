"""asgi_notify: a synchronous consumer whose handlers block for a tenth of a second."""

import time

from asgi_notify import Message, ProtocolTypeRouter, URLRouter, get_channel_layer, path

from . import ours_sync

BLOCKED = 0.1  # seconds; what a query of a database may take


class Client(ours_sync.Client):
    """Takes its time with each message."""

    def text_message(self, event: Message) -> None:
        """Handle a message of the group, slowly."""
        time.sleep(BLOCKED)
        self.send(event["text"])


app = ProtocolTypeRouter({"websocket": URLRouter([path("<str:group>", Client)])})


async def publish(group: str, text: str) -> None:
    """Send a message to the group."""
    await get_channel_layer().group_send(group, {"type": "text.message", "text": text})
