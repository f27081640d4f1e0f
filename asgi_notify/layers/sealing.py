"""Encryption of what goes between processes, so that the server in between cannot read it.

A sealed payload is a Fernet token: AES-128 in CBC mode, and an HMAC that shows who has
changed a byte. The token's own text is base64; the bytes that it stands for travel, which
are a quarter fewer.

Source: https://github.com/fernet/spec
"""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Sequence

from ..exceptions import ConfigurationError, MissingExtra

try:
    from cryptography.fernet import Fernet, InvalidToken, MultiFernet
except ModuleNotFoundError as error:
    if (error.name or "").partition(".")[0] != "cryptography":
        raise
    raise MissingExtra("encryption between processes", "encryption") from error

__all__ = ["Sealing"]


class Sealing:
    """Encrypts with the first key, and decrypts with any.

    So a key is changed in three steps, each in all processes before the next one begins:
    add the new one behind the old one; put it in front; take the old one out, once no
    history holds a message of its time.

    Args:
        keys: made by ``cryptography.fernet.Fernet.generate_key()``.

    Raises:
        ConfigurationError: one is no such key; the sentence does not show it.
    """

    def __init__(self, keys: Sequence[str | bytes]) -> None:
        fernets = []
        for number, key in enumerate(keys, 1):
            try:
                fernets.append(Fernet(key))
            except (ValueError, TypeError):
                # From nothing, since the original error might show a part of the key.
                raise ConfigurationError(
                    f"number {number} of encryption_keys is no key: make one with "
                    "cryptography.fernet.Fernet.generate_key()"
                ) from None
        self._fernet = MultiFernet(fernets)

    def seal(self, text: bytes) -> bytes:
        """Encrypt."""
        return urlsafe_b64decode(self._fernet.encrypt(text))

    def open(self, sealed: bytes) -> bytes | None:
        """Decrypt; None where it was sealed with none of the keys, or was changed."""
        try:
            return self._fernet.decrypt(urlsafe_b64encode(sealed))
        except InvalidToken:
            return None
