"""Litestar's channels plugin, with its backend in memory and the handlers that it makes."""

from litestar import Litestar
from litestar.channels import ChannelsPlugin
from litestar.channels.backends.memory import MemoryChannelsBackend

channels = ChannelsPlugin(
    backend=MemoryChannelsBackend(),
    arbitrary_channels_allowed=True,
    create_ws_route_handlers=True,
)

app = Litestar(plugins=[channels])


async def publish(group: str, text: str) -> None:
    """Hand the text to the plugin, which sends it in a task of its own."""
    channels.publish(text, group)


async def add_others(count: int) -> None:
    """Subscribe to as many channels."""
    for number in range(count):
        await channels.subscribe(f"other-{number}")
