r"""How a notification becomes JSON text: with msgspec where it is installed, the same text without.

msgspec takes a tenth of the standard library's time for short data, and half of it for long
data. Both are asked for the same text, and where they would differ, msgspec is not asked:

- It spells what JSON lacks in ways of its own (NaN as ``null``, a time difference as
  ``"PT1S"``, a set as a list), so it only gets what JSON has. The look at the data that
  finds this out is most of what is left to pay.
- It spells every character as it is, so the standard library does, too. Half of a surrogate
  pair cannot be sent as it is: then the whole text is spelled in ASCII, as ``"\ud83d"``.

One difference is left, in how the exponent of a very large or small number is written:
``1e16`` here, ``1e+16`` there.
"""

from collections.abc import Callable
from json import JSONEncoder

from .codec import is_plain, plain

_quick: Callable[[object], bytes] | None
try:
    from msgspec.json import encode
except ImportError:  # it comes with the valkey extra
    _quick = None
else:
    _quick = encode

__all__ = ["json_text"]

# Made once: json.dumps with options of its own makes an encoder at each call.
_spell = JSONEncoder(
    allow_nan=False, ensure_ascii=False, separators=(",", ":"), default=plain
).encode
_spell_in_ascii = JSONEncoder(allow_nan=False, separators=(",", ":"), default=plain).encode


def json_text(value: object) -> str:
    """The JSON of a value, without spaces, with `plain` for what JSON lacks.

    Raises:
        TypeError: `plain` does not know it either.
        ValueError: it holds a number that is not finite, or itself.
        RecursionError: it is too deep.
    """
    if _quick is not None and is_plain(value):
        try:
            return _quick(value).decode()
        except UnicodeEncodeError:
            pass
    text = _spell(value)
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            return _spell_in_ascii(value)
    return text
