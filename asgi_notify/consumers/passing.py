"""How ``passes_on`` works: messages that a consumer only passes on, and what they are sent as.

The declaration ``passes_on = {"chat.message": as_text}`` stands for a handler::

    async def chat_message(self, message):
        await self.send(text_data=as_text(message))

or, in a consumer of server-sent events, for one that calls ``send_event(as_text(message))``.
Unlike a handler, it says that the text is the same for all who get the message. This has two
uses. The text is made once for all members of a group. And it can be made before the consumer has
its turn, so that the message can go by the direct lane; see `direct`.
"""

import inspect
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Generic, TypeVar
from weakref import WeakValueDictionary

from .. import sse
from ..codec import FrozenMessage
from ..exceptions import ConfigurationError, InvalidMessage, MisuseError
from ..layers.entries import CLOSE
from ..names import handler_name
from ..spelling import LastSpelled, SpelledOnce
from ..types import Message
from .handlers import is_helper

__all__ = [
    "EventRendering",
    "Render",
    "RenderEvent",
    "Rendering",
    "add_handlers",
    "is_ours",
    "renderings_of",
]

Render = Callable[[Message], str]
"""Makes the text frame of a message; called once for all who get it, in the event loop."""

RenderEvent = Callable[[Message], str | bytes]
"""Makes the event of a message: its data, or the whole of it, as of `asgi_notify.sse.event`."""

Handler = Callable[[Any, Message], Any]

MEMORY = 256 * 1024  # characters of one function's texts that are kept for the next who ask


Made = TypeVar("Made", bound=str | bytes)
Sent = TypeVar("Sent", bound=str | bytes)


class _Rendering(Generic[Made, Sent]):
    """What one function makes of messages, and what is sent of it; each is made once.

    Args:
        render: the function.

    Attributes:
        last: what is sent for a message, faster where the message is the one that was asked for
            last. That is so while one message is delivered to the members of a group, one
            after the other.
    """

    returns: ClassVar[tuple[type, ...]]
    way_out: ClassVar[str]

    def __init__(self, render: Callable[[Message], Made]) -> None:
        self.render = render
        self.last: LastSpelled[Sent] = LastSpelled(self._sent)
        self._spelled = SpelledOnce(self._made, MEMORY)

    def __call__(self, message: Message) -> Made:
        """What the function has made of a message.

        Raises:
            Exception: what the function raises, each time that somebody asks.
            MisuseError: it did not return what it has to.
        """
        if isinstance(message, FrozenMessage) and message.group is not None:
            return self._spelled(message)
        return self._made(message)  # it was sent to one channel, so nobody else asks for it

    def handler(self) -> Handler:
        """The handler that the declaration stands for."""
        raise NotImplementedError

    def _sent(self, message: Message) -> Sent:
        raise NotImplementedError

    def _made(self, message: Message) -> Made:
        made = self.render(message)
        if not isinstance(made, self.returns):
            raise MisuseError(
                f"{_name(self.render)}() returned {made!r} for {message['type']!r}; a function of "
                f"passes_on returns {self.way_out}"
            )
        return made


class Rendering(_Rendering[str, str]):
    """The texts that one function makes of messages, for WebSockets."""

    returns = (str,)
    way_out = "the text of a frame, such as json.dumps(...)"

    def handler(self) -> Handler:
        def handler(consumer: Any, message: Message, /) -> Any:
            return consumer.send(text_data=self(message))  # an awaitable where the class is async

        return handler

    def _sent(self, message: Message) -> str:
        return self(message)


class EventRendering(_Rendering[str | bytes, bytes]):
    """The events that one function makes of messages, for streams."""

    returns = (str, bytes)
    way_out = "an event's data, or the whole of it, as of asgi_notify.sse.event(...)"

    def handler(self) -> Handler:
        def handler(consumer: Any, message: Message, /) -> Any:
            made = self(message)
            if isinstance(made, str):
                return consumer.send_event(made)
            return consumer._write(made)

        return handler

    def _sent(self, message: Message) -> bytes:
        made = self(message)
        return sse.event(made) if isinstance(made, str) else made


AnyRendering = Rendering | EventRendering
SomeRendering = TypeVar("SomeRendering", Rendering, EventRendering)

# The keys are the ids of the functions, since not every callable can be hashed. A rendering keeps
# its function alive, so no other object gets that id as long as the entry exists.
_renderings: WeakValueDictionary[tuple[type, int], AnyRendering] = WeakValueDictionary()


def _shared_rendering(kind: type[AnyRendering], render: Any) -> AnyRendering:
    """The one rendering of a function, whichever classes have declared it."""
    rendering = _renderings.get((kind, id(render)))
    if rendering is None:
        rendering = _renderings[kind, id(render)] = kind(render)
    return rendering


def add_handlers(cls: type, kind: type[AnyRendering]) -> None:
    """Give a consumer's class the handlers that its ``passes_on`` stands for.

    That includes what its base classes declare, unless the class has a method of that name.

    Args:
        cls: the class.
        kind: of its connections.

    Raises:
        ConfigurationError: the declaration makes no sense; the sentence says where.
    """
    for base in cls.__mro__:
        declared = vars(base).get("passes_on", {})
        where = f"{base.__qualname__}.passes_on"
        for type_, render in _require_mapping(where, declared).items():
            name = _require_type(cls, where, type_)
            _require_function(f"{where}[{type_!r}]", render)
            if base is cls and name in vars(cls):
                raise ConfigurationError(
                    f"{cls.__qualname__} has both a method {name} and {where}[{type_!r}], which "
                    "stands for one: take one of the two away"
                )
            # A base that is a consumer got its handlers when it was made. What is left are bases
            # that are no consumers (mixins).
            if base is cls or not hasattr(cls, name):
                setattr(cls, name, _handler(cls, name, _shared_rendering(kind, render)))


def renderings_of(cls: type, kind: type[SomeRendering], *methods: str) -> dict[str, SomeRendering]:
    """The renderings of a class, by message type, for messages that need not run its code.

    A type is left out if the class has a handler of its own for it, which must run. All of them
    are if the class overrides one of the methods that must see every message.

    Args:
        cls: the class.
        kind: of its connections.
        methods: ``dispatch``, and what sends.
    """
    if not is_ours(cls, *methods):
        return {}
    types = {type_ for base in cls.__mro__ for type_ in vars(base).get("passes_on", {})}
    handlers = {type_: getattr(cls, handler_name({"type": type_})) for type_ in types}
    return {
        type_: handler.rendering
        for type_, handler in handlers.items()
        if isinstance(getattr(handler, "rendering", None), kind) and not _is_decorated(handler)
    }


def is_ours(cls: type, *methods: str) -> bool:
    """Whether a class overrides none of these methods, but has them all from this library."""
    found = [getattr(cls, name) for name in methods]
    owners = (getattr(method, "__module__", "") for method in found)
    are_ours = all(owner.startswith(f"{__package__}.") for owner in owners)
    return are_ours and not any(map(_is_decorated, found))


def _is_decorated(method: object) -> bool:
    # `functools.wraps` copies all that a method of ours is known by.
    return hasattr(method, "__wrapped__")


def _handler(cls: type, name: str, rendering: AnyRendering) -> Handler:
    handler = rendering.handler()
    handler.__name__, handler.__qualname__ = name, f"{cls.__qualname__}.{name}"
    handler.__doc__ = "Pass a message on to the client."
    handler.rendering = rendering  # type: ignore[attr-defined]  # `renderings_of` reads it
    return handler


def _require_mapping(where: str, declared: object) -> Mapping[str, object]:
    if not isinstance(declared, Mapping):
        raise ConfigurationError(
            f"{where} is a mapping of message types to functions, such as "
            f"{{'chat.message': as_text}}, not {declared!r}"
        )
    return declared


def _require_type(cls: type, where: str, kind: object) -> str:
    try:
        name = handler_name({"type": kind})
    except InvalidMessage as error:
        raise ConfigurationError(f"{where}: {error}") from error
    if kind == CLOSE or name.startswith(("websocket_", "http_")):
        raise ConfigurationError(
            f"{where}[{kind!r}]: this is an event of the connection, which cannot be passed on"
        )
    if is_helper(cls, name):
        raise ConfigurationError(
            f"{where}[{kind!r}]: {name} is for the consumer's own use; name the type otherwise"
        )
    return name


def _require_function(where: str, render: object) -> None:
    if not callable(render):
        raise ConfigurationError(
            f"{where} is a function that makes a message's text, not {render!r}"
        )
    if inspect.iscoroutinefunction(render):
        raise ConfigurationError(
            f"{where}: {_name(render)}() is async; the text is made without waiting: write `def`, "
            "or a handler where it has to wait"
        )
    try:
        inspect.signature(render).bind({})
    except TypeError:
        raise ConfigurationError(
            f"{where}: {_name(render)}() takes one argument, the message, and no consumer, since "
            "its text is the same for all"
        ) from None
    except ValueError:  # some functions written in C have no signature
        pass


def _name(render: object) -> str:
    return str(getattr(render, "__qualname__", render))
