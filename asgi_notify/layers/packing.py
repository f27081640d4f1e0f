"""The format of the bytes that travel between processes, and how they are encoded and decoded.

::

    byte 0    byte 1    from byte 2 on
    0x02      kind      MessagePack                                   without encryption keys
    0x02      "s"       place, newline, kind and MessagePack,         with encryption keys
                        encrypted

Byte 0 is the version. Version 1 was JSON, and was never released. The kind is "m" for a message
to the members of a topic, "p" for a message to the processes that follow it, or "i" for the info
that a channel gives to the presence of a group. The place is the topic, channel or group that the
payload was made for. Without it, whoever may write to the server could read what is encrypted: by
copying a payload into a group of which he is a member, and which decrypts it for him.

Whoever may write to the server that carries them can put anything there, and so can a newer
release of this package. So every payload may turn out to be unreadable. Then it is counted, and
logged for the first time of each reason. It never raises: an error there would end the task
that receives all messages of the process.
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

__all__ = ["INFO", "KEY", "TO_MEMBERS", "TO_PROCESS", "Packing", "Unpacked", "place_of_channel"]

logger = logging.getLogger("asgi_notify.layers")

TO_MEMBERS, TO_PROCESS, INFO = b"m", b"p", b"i"
_VERSION, _SEALED = b"\x02", b"s"

# The reasons why a payload cannot be read. The counters have these names.
VERSION, KEY, PLACE, GARBAGE = "version", "key", "place", "garbage"

_ADVICE = {
    VERSION: "it is of another version; run the same release of asgi-notify in all processes",
    KEY: "it cannot be decrypted with the keys of this process, or is not encrypted although "
    "they are set; give all processes the same encryption_keys",
    PLACE: "it was encrypted for another group or channel, and somebody has copied it here; see "
    "who may write to the server, and run the same release of asgi-notify in all processes",
    GARBAGE: "its bytes are no message; see that no other program writes under this prefix",
}


class Unpacked(NamedTuple):
    """What a payload contained."""

    what: bytes
    """`TO_MEMBERS`, `TO_PROCESS` or `INFO`."""
    content: dict[str, Any]


class _Unreadable(Exception):
    """A payload that cannot be read. Its text is the reason, one of the four above."""


class Packing:
    """Encodes messages into payloads, and decodes payloads into messages.

    Args:
        max_size: bytes that an encoded message may take, before it is encrypted.
        keys: what payloads are encrypted with; see `Sealing`. Without any, they are not
            encrypted.

    Attributes:
        refused: how many payloads could not be read, by reason.

    Raises:
        ConfigurationError: a key is not a valid one.
        MissingExtra: there are keys, and the ``encryption`` extra is not installed.
    """

    def __init__(self, max_size: int, keys: Sequence[str | bytes] = ()) -> None:
        self.refused: Counter[str] = Counter()
        self._max_size = max_size
        self._sealing = _sealing(keys) if keys else None

    def pack(self, what: bytes, content: Mapping[str, Any], place: str) -> bytes:
        """Encode a message, or the info of a channel.

        Args:
            what: `TO_MEMBERS`, `TO_PROCESS` or `INFO`.
            content: the message, or the info.
            place: where it goes: the topic, the channel (see `place_of_channel`), or the group
                of an info. Encrypted, it can be read there alone.

        Raises:
            InvalidMessage: it holds a value that cannot be encoded, or is too large.
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
        return _VERSION + _SEALED + self._sealing.seal(_bound(place) + packed)

    def unpack(self, payload: bytes, place: str, expected: bytes) -> Unpacked | None:
        """Decode a payload; None if it cannot be read, which is counted and logged.

        Args:
            payload: the bytes that came.
            place: where they were found, as `pack` was told where they go.
            expected: the kinds that are allowed here, such as ``TO_MEMBERS + TO_PROCESS``.
        """
        try:
            return self._unpacked(payload, place, expected)
        except _Unreadable as error:
            reason = str(error)
        except Exception:  # a decoder may raise anything for bytes that it was not made for
            reason = GARBAGE
        self.refused[reason] += 1
        if self.refused[reason] == 1:
            logger.error(
                "a message of %s cannot be read, and is lost: %s. Further ones are only counted",
                place, _ADVICE[reason], extra={"source": place, "reason": reason},
            )  # fmt: skip
        return None

    def _unpacked(self, payload: bytes, place: str, expected: bytes) -> Unpacked:
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
            if not opened.startswith(_bound(place)):
                raise _Unreadable(PLACE)
            packed = opened.removeprefix(_bound(place))
        what, content = packed[:1], _decoder.decode(memoryview(packed)[1:])
        if what not in expected or type(content) is not dict:
            raise _Unreadable(GARBAGE)
        if what != INFO and type(content["type"]) is not str:
            raise _Unreadable(GARBAGE)
        return Unpacked(what, content)


def place_of_channel(channel: str) -> str:
    """The place of what waits in a fixed-name channel, which a group may have the name of."""
    return f"!{channel}"


def _bound(place: str) -> bytes:
    return place.encode() + b"\n"  # which no name has in it


def _sealing(keys: Sequence[str | bytes]) -> "Sealing":
    from .sealing import Sealing  # not above: it needs a package that few have installed

    return Sealing(keys)


def _packed(content: Mapping[str, Any]) -> bytes:
    if is_plain(content):
        try:
            return _encoder.encode(content)
        except (OverflowError, UnicodeEncodeError):
            pass  # a long number or half of a surrogate pair: `spelled` deals with both
    return _encoder.encode(spelled(content))


def _extended(value: object) -> Ext:
    assert isinstance(value, Foreign)  # `spelled` leaves nothing else that msgspec cannot encode
    return Ext(value.code, _encoder.encode(value.spelling))


def _read(code: int, data: memoryview) -> object:
    return FOREIGN[code].read(_decoder.decode(data))


# Made once: to make one takes longer than to encode or decode a small message.
_encoder = Encoder(enc_hook=_extended)
_decoder: Decoder[Any] = Decoder(ext_hook=_read)
