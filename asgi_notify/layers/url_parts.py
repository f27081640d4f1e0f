"""The parts of a layer's URL, and how it is kept from a log where it cannot be read."""

from urllib.parse import SplitResult, urlsplit

from ..exceptions import InvalidChannelLayerError

__all__ = ["split_url"]

_ADVICE = "in a user name or a password write '/' as %2F, '?' as %3F, '#' as %23, '[' as %5B"


def split_url(url: str) -> SplitResult:
    """Split the URL of a layer.

    Raises:
        InvalidChannelLayerError: it cannot be split, or its password ends it too early. Neither
            the sentence nor the traceback shows anything of it.
    """
    try:
        parts = urlsplit(url)
    except ValueError:
        # From nothing, since the original error may show what stands before the "@".
        raise InvalidChannelLayerError(
            f"the URL of the channel layer cannot be read: {_ADVICE}"
        ) from None
    if parts.netloc and "@" in url and "@" not in parts.netloc:
        # What follows would else be quoted as a port, a database or an option.
        raise InvalidChannelLayerError(
            f"the '@' in the URL of the channel layer stands behind the host: {_ADVICE}; an '@' "
            "in an option is %40"
        )
    return parts
