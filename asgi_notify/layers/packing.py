"""What goes between processes as bytes: messages, and what is said of a channel that is present.

::

    0x02 | what it is (1) | MessagePack                 in clear
    0x02 | "s"            | of the two above, sealed    where the layer has encryption keys

The first byte is the version. Version 1 was JSON, and was never released. What it is: "m",
a message to the members of the topic; "p", one to the processes that follow it; "i", what
a channel says of itself.

Whoever may write to the server can put anything there, and so can a newer release of this
package. So nothing that comes is trusted to be readable: what is not is counted, logged
once for each reason, and never raises where messages are received.
"""

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from ..codec import FOREIGN, Foreign, is_plain, spelled
from ..exceptions import InvalidMessage, MissingExtra

try:
    from msgspec.msgpack import Decoder, Encoder, Ext
except ModuleNotFoundError as error:
    if error.name != "msgspec":
        raise
    raise MissingExtra("a layer that several processes share", "valkey") from error

if TYPE_CHECKING:
    from .sealing import Sealing

__all__ = ["INFO", "KEY", "TO_MEMBERS", "TO_PROCESS", "Packing", "Unpacked"]

logger = logging.getLogger("asgi_notify.layers")

TO_MEMBERS, TO_PROCESS, INFO = b"m", b"p", b"i"
_VERSION, _SEALED = b"\x02", b"s"

# Why a payload cannot be read; the names of the counters.
VERSION, KEY, GARBAGE = "version", "key", "garbage"

_ADVICE = {
    VERSION: "it is of another version; run the same release of asgi-notify in all processes",
    KEY: "it cannot be decrypted with the keys of this process, or is not encrypted although "
    "they are set; give all processes the same encryption_keys",
    GARBAGE: "its bytes are no message; see that no other program writes under this prefix",
}


class Unpacked(NamedTuple):
    """What a payload held."""

    what: bytes
    """`TO_MEMBERS`, `TO_PROCESS` or `INFO`."""
    content: dict[str, Any]


class _Unreadable(Exception):
    """A payload that is none of ours; with the reason."""


class Packing:
    """Makes bytes of messages, and messages of bytes.

    Args:
        max_size: bytes that a message may take.
        keys: what payloads are encrypted with; see `Sealing`. None of them: they are not.

    Attributes:
        refused: how many payloads could not be read, by reason.

    Raises:
        ConfigurationError: a key is none.
        MissingExtra: there are keys, and the ``encryption`` extra is not installed.
    """

    def __init__(self, max_size: int, keys: Sequence[str | bytes] = ()) -> None:
        self.refused: Counter[str] = Counter()
        self._max_size = max_size
        self._sealing = _sealing(keys) if keys else None

    def pack(self, what: bytes, content: Mapping[str, Any]) -> bytes:
        """The payload of a message, or of what a channel says of itself.

        Raises:
            InvalidMessage: it holds what cannot travel, or it is too large.
        """
        packed = what + _packed(content)
        if len(packed) > self._max_size:
            raise InvalidMessage(
                f"the message takes {len(packed)} bytes, and the layer carries at most "
                f"{self._max_size}: send where the data is found rather than the data, "
                "or raise the layer's max_message_size"
            )
        if self._sealing is None:
            return _VERSION + packed
        return _VERSION + _SEALED + self._sealing.seal(packed)

    def unpack(self, payload: bytes, source: str, expected: bytes) -> Unpacked | None:
        """What a payload holds; None where that cannot be read, which is counted and logged.

        Args:
            payload: what came.
            source: where from, for the log.
            expected: what it may be, such as ``TO_MEMBERS + TO_PROCESS``.
        """
        try:
            return self._unpacked(payload, expected)
        except _Unreadable as error:
            reason = str(error)
        except Exception:  # whatever a decoder makes of bytes that are nobody's
            reason = GARBAGE
        self.refused[reason] += 1
        if self.refused[reason] == 1:
            logger.error(
                "a message of %s cannot be read, and is lost: %s. Further ones are only counted",
                source, _ADVICE[reason], extra={"source": source, "reason": reason},
            )  # fmt: skip
        return None

    def _unpacked(self, payload: bytes, expected: bytes) -> Unpacked:
        if payload[:1] != _VERSION:
            raise _Unreadable(VERSION)
        is_sealed = payload[1:2] == _SEALED
        if is_sealed != (self._sealing is not None):
            raise _Unreadable(KEY)
        packed = payload[1:]
        if self._sealing is not None:
            opened = self._sealing.open(payload[2:])
            if opened is None:
                raise _Unreadable(KEY)
            packed = opened
        what, content = packed[:1], _decoder.decode(memoryview(packed)[1:])
        if what not in expected or type(content) is not dict:
            raise _Unreadable(GARBAGE)
        if what != INFO and type(content["type"]) is not str:
            raise _Unreadable(GARBAGE)
        return Unpacked(what, content)


def _sealing(keys: Sequence[str | bytes]) -> "Sealing":
    from .sealing import Sealing  # here, as few need what it imports

    return Sealing(keys)


def _packed(content: Mapping[str, Any]) -> bytes:
    if is_plain(content):
        try:
            return _encoder.encode(content)
        except (OverflowError, UnicodeEncodeError):
            pass  # a long number or half of a surrogate pair, which `spelled` finds
    return _encoder.encode(spelled(content))


def _extended(value: object) -> Ext:
    assert isinstance(value, Foreign)  # nothing else is left of what `spelled` returns
    return Ext(value.code, _encoder.encode(value.spelling))


def _read(code: int, data: memoryview) -> object:
    return FOREIGN[code].read(_decoder.decode(data))


# Made once, as both cost more than a small message.
_encoder = Encoder(enc_hook=_extended)
_decoder: Decoder[Any] = Decoder(ext_hook=_read)
