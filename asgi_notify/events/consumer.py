"""The class-based consumer of event routing: which of its methods handles which channel."""

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

__all__ = ["EventConsumer"]


class EventConsumer:
    """Handles the messages of several channels, each in a method of its own.

    Made anew for every message, without arguments; what has to outlive one
    message belongs in its ``state``. A method is called with the message and
    what the filters captured, in the event loop if it is ``async def``, else
    in a worker thread.

    Attributes:
        method_mapping: channel name -> name of the method.

    Source: Django Channels 1, "Class-Based Consumers".
    """

    method_mapping: ClassVar[Mapping[str, str]] = {}

    @classmethod
    def channel_names(cls) -> set[str]:
        """The channels whose messages this class handles."""
        return set(cls.method_mapping)

    def get_handler(self, channel: str) -> Callable[..., Any]:
        """The method that handles the messages of a channel.

        Raises:
            AttributeError: there is no such method.
        """
        handler: Callable[..., Any] = getattr(self, self.method_mapping[channel])
        return handler
