"""How names are spelled on a server: one function maps a name to its keys and its slot.

A server has one space for the keys of all applications, and a cluster deals them out by
*slots*: 16,384 of them, each at home on one node. What a script touches must be in one
slot, so all that belongs to one name has one hash tag, the part in braces, which alone
decides the slot::

    asgi_notify:m:{1707}:user_42
    ----------- - ------ -------
    prefix      |   tag   name
               kind

Names share `HOMES` tags. So the few things that are kept once for each tag stay few
however many names there are, and questions about many names that share a tag are one
question. The tags are chosen so that they stand evenly over the slots: each node of a
cluster gets its share.
"""

import re
from binascii import crc_hqx
from functools import cache, lru_cache
from itertools import count
from zlib import crc32

from ..exceptions import InvalidChannelLayerError

__all__ = ["HOMES", "SLOTS", "Keys", "slot_of", "tag_of"]

SLOTS = 16_384  # Redis cluster specification, "Key distribution model"
NAMES = 10_000  # whose spelling is remembered
HOMES = 1024  # tags; with a hundred nodes, each still has about ten of them

_PREFIX = re.compile(r"[a-zA-Z0-9_.:-]{1,64}")


class Keys:
    """Spells the keys of one application.

    Args:
        prefix: what all of them begin with, so that several applications share a server.

    Raises:
        InvalidChannelLayerError: the prefix could not be distinguished from the rest of a key.
    """

    def __init__(self, prefix: str = "asgi_notify") -> None:
        if not _PREFIX.fullmatch(prefix):
            raise InvalidChannelLayerError(
                f"{prefix!r} is no prefix: use 1 to 64 letters, digits, and '_', '.', ':', '-'"
            )
        self.prefix = prefix
        # What SCAN finds them all with: kinds have one or two letters. With a mere "*" they would
        # find those of a prefix that goes on behind this one, too, such as shop:eu behind shop.
        self.patterns = f"{prefix}:?:{{*", f"{prefix}:??:{{*"
        self.history = lru_cache(NAMES)(self._history)

    def _history(self, topic: str) -> tuple[str, ...]:
        """The state, the stream and the root of a topic."""
        return self.topic(topic), self.stream(topic), self.root(topic)

    def topic(self, topic: str) -> str:
        """What stands for a topic: the key of its state, and the channel of its publications.

        Keys and pub/sub channels are two spaces, so one spelling serves both and goes over
        the wire once.
        """
        return self._spell("m", topic)

    def stream(self, topic: str) -> str:
        """What is kept of a topic."""
        return self._spell("s", topic)

    def root(self, topic: str) -> str:
        """What the first epochs of all topics with this tag come from."""
        return f"{self.prefix}:r:{{{tag_of(topic)}}}"

    @property
    def roots(self) -> str:
        """What SCAN finds all `root` keys with."""
        return f"{self.prefix}:r:{{*"

    def publication(self, topic: str, key: str) -> str:
        """That something was published to a topic under a key."""
        # With the length in front, the same text never comes of two pairs of topic and key.
        return f"{self._spell('k', str(len(topic)), topic)}:{topic}:{key}"

    def mark(self, name: str) -> str:
        """That a name is marked."""
        return self._spell("mk", name)

    def presence(self, group: str) -> list[str]:
        """Who is present: leases, channels, members, and those who leave."""
        return [self._spell(kind, group) for kind in ("pl", "pc", "pm", "pg")]

    def queue(self, channel: str) -> list[str]:
        """What waits in a channel with a fixed name: the row, the messages, those handed out.

        The first is also the pub/sub channel that wakes its readers.
        """
        return [self._spell(kind, channel) for kind in ("qw", "qm", "qh")]

    def _spell(self, kind: str, text: str, home: str | None = None) -> str:
        return f"{self.prefix}:{kind}:{{{tag_of(text if home is None else home)}}}:{text}"


@lru_cache(NAMES)
def tag_of(name: str) -> str:
    """The tag that a name shares with a 1,024th of all names."""
    return _tags()[crc32(name.encode()) % HOMES]


def slot_of(key: str) -> int:
    """The slot of a key.

    Source: Redis cluster specification, "Hash tags" and appendix A (CRC16, XMODEM).
    """
    start = key.find("{")
    end = key.find("}", start + 1)
    hashed = key[start + 1 : end] if 0 <= start < end - 1 else key
    return crc_hqx(hashed.encode(), 0) % SLOTS


@cache
def _tags() -> tuple[str, ...]:
    """Numbers whose slots lie one in each 1,024th of all slots."""
    found: dict[int, str] = {}
    for number in count():
        tag = str(number)
        found.setdefault(slot_of(tag) // (SLOTS // HOMES), tag)
        if len(found) == HOMES:
            return tuple(found[part] for part in range(HOMES))
    raise AssertionError("numbers do not end")
