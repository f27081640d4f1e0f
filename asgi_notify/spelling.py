"""How a message is put into words once, for all who get the same words."""

from collections.abc import Callable
from json import JSONEncoder
from typing import Any, Generic, TypeVar

from .codec import FrozenMessage, plain
from .exceptions import InvalidMessage
from .protocol import frames
from .types import Message

__all__ = [
    "MEMORY",
    "PUBLISHED_BY",
    "LastSpelled",
    "SpelledOnce",
    "as_text",
    "frame_of",
    "last_frame",
    "last_text",
    "text_of",
]

MEMORY = 4 * 1024 * 1024  # characters; thousands of usual texts
ENTRY = 512  # characters that an entry counts for beside its text: the message is held, too


Words = TypeVar("Words", bound=str | bytes)  # bytes are text that is encoded already


class SpelledOnce(Generic[Words]):
    """The texts of the messages that were spelled lately, so that each is spelled once.

    A message is known by being the same object, as it is for all members of a
    group. When the texts have grown to ``memory``, the next that many follow
    beside them, and then these are forgotten: a burst that fits is never
    spelled twice, whatever the order in which its readers come to it.

    Args:
        spell: makes the text of a message; what it raises is raised each time.
        memory: in characters, of which each text takes some 500 more than it has; at most
            twice as much is kept.
    """

    def __init__(self, spell: Callable[[FrozenMessage], Words], memory: int = MEMORY) -> None:
        self._spell = spell
        self._memory = memory
        self._size = 0  # of the new ones
        self._new: dict[int, tuple[FrozenMessage, Words]] = {}
        self._old: dict[int, tuple[FrozenMessage, Words]] = {}

    def __call__(self, message: FrozenMessage) -> Words:
        """The text of a message."""
        # The message is held, so nothing else can have its id meanwhile.
        known = self._new.get(id(message)) or self._old.get(id(message))
        if known is not None:
            return known[1]
        text = self._spell(message)
        if self._size >= self._memory:
            self._old, self._new, self._size = self._new, {}, 0
        self._new[id(message)] = message, text
        self._size += len(text) + ENTRY
        return text


class LastSpelled(Generic[Words]):
    """The text of one message, for a walk that asks for it at each of its members.

    Args:
        spell: makes the text of a message.

    Several event loops may walk at the same time, each in its thread. So the message and its
    text are one object: whoever takes it has both, whatever another thread does meanwhile.

    Attributes:
        known: the message that was asked for last, and what it reads like; None where that
            cannot be said, or not be sent.
    """

    __slots__ = ("_spell", "known")

    def __init__(self, spell: Callable[[Any], Words]) -> None:
        self._spell = spell
        self.known: tuple[Message | None, Words | None] = (None, None)

    def find(self, message: Message) -> Words | None:
        """The text of a message. Callers look at `known` first, which is faster."""
        text: Words | None
        try:
            text = self._spell(message)
            if isinstance(text, str) and not text.isascii():
                text.encode()  # half of a surrogate pair is no text
        except Exception:  # which its handlers will meet in their turn
            text = None
        self.known = message, text
        return text


# Whose client has sent a message. Back ends may have a "user" in theirs, which is no client's
# business.
PUBLISHED_BY = "published_by"

# Made once: json.dumps() makes an encoder at each call, if it is given options.
_spell = JSONEncoder(allow_nan=False, default=plain).encode


def as_text(data: object) -> str:
    """The text frame that carries a notification's data: text as it is, anything else as JSON.

    Values that JSON does not have, such as a date, are written as `plain` says.

    Raises:
        InvalidMessage: the data cannot be written as text or JSON.
    """
    try:
        text = data if isinstance(data, str) else _spell(data)
        if not text.isascii():
            text.encode()  # raises for half of a surrogate pair, which UTF-8 cannot encode
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidMessage(f"its data cannot be sent as text or JSON: {error}") from error
    if text is not data:
        frames.require_shallow(text)
    return text


# Shared by all connections of the process: all members of a group get the same message object,
# and its frame is made once.
frame_of = SpelledOnce(
    lambda message: frames.notification(
        message.group, message.position, message["data"], message.get(PUBLISHED_BY)
    )
)
_texts = SpelledOnce(lambda message: as_text(message["data"]))


def text_of(message: Message) -> str:
    """What a client without the protocol gets, unless `Notifications.render` is overridden."""
    data = message["data"]
    if type(data) is str and data.isascii():  # what `as_text` would find, and most often is so
        return data
    # It is not worth remembering where the data is the text already, or where the message was
    # sent to one channel, so that nobody else asks for it.
    if isinstance(data, str) or not isinstance(message, FrozenMessage) or message.group is None:
        return as_text(data)
    return _texts(message)


last_frame = LastSpelled(frame_of)
last_text = LastSpelled(text_of)
