"""How much a client may do: the limits, and what counts what is done."""

from .bounds import Limits

__all__ = ["Limits"]
