"""How a message is put into words once, for all who get the same words."""

from collections.abc import Callable
from typing import Any, Generic, TypeVar

from .codec import FrozenMessage
from .types import Message

__all__ = ["MEMORY", "LastSpelled", "SpelledOnce"]

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
