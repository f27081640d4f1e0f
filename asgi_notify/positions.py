"""Where a message stands in the history of its group, and how a client spells that."""

import re
import secrets
import string
from hashlib import blake2b
from typing import NamedTuple, Self

from .exceptions import ClientError

__all__ = ["MAX_OFFSET", "Position", "epoch_of", "new_epoch"]

MAX_OFFSET = 2**53 - 1  # the last whole number that JavaScript can count to

_LETTERS = string.ascii_lowercase + string.digits
_SPELLED = re.compile(r"([a-z0-9]{8})-(0|[1-9][0-9]{0,15})")


class Position(NamedTuple):
    """A place in a group's history: right behind one message, or before the first.

    As text it is ``"<epoch>-<offset>"``, the id of a notification.
    """

    epoch: str
    """Which history: 8 lower-case letters and digits, new whenever one is lost."""
    offset: int
    """How many messages were sent in it up to here; 0 stands before the first."""

    def __str__(self) -> str:
        return f"{self.epoch}-{self.offset}"

    def is_within(self, other: "Position") -> bool:
        """Whether it is of the same history as another position, and no later."""
        return self.epoch == other.epoch and self.offset <= other.offset

    @classmethod
    def parse(cls, text: object) -> Self:
        """The position that a client sent back.

        Raises:
            ClientError: it is none; the sentence says what to send.
        """
        spelled = _SPELLED.fullmatch(text) if isinstance(text, str) else None
        if spelled is None or int(spelled[2]) > MAX_OFFSET:
            raise ClientError(
                f"{_shortened(text)} is no position: send the id of the last notification "
                "as it came, or none to begin anew"
            )
        return cls(spelled[1], int(spelled[2]))


def new_epoch() -> str:
    """The name of a history that begins: no two have the same."""
    return "".join(secrets.choice(_LETTERS) for _ in range(8))


def epoch_of(base: str, group: str) -> str:
    """The first epoch of a group, out of one that is shared by all groups.

    So a position names its group without a word more: one of another group's is of
    another epoch, and nothing has to be kept for groups that were never sent to.
    """
    number = int.from_bytes(blake2b(f"{base}/{group}".encode(), digest_size=8).digest())
    letters = []
    for _ in base:
        number, index = divmod(number, len(_LETTERS))
        letters.append(_LETTERS[index])
    return "".join(letters)


def _shortened(value: object) -> str:
    """What to quote of a client's value; a close reason has room for 123 bytes in all."""
    if not isinstance(value, str):
        return f"a {type(value).__name__}"
    return ascii(value if len(value) <= 20 else f"{value[:20]}...")
