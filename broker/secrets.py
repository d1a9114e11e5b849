"""Encryption at rest for everything that must not be readable in Redis.

Fernet (AES-128-CBC with HMAC-SHA256) from `cryptography`. Several keys make rotation possible: the first encrypts,
all decrypt.
"""

from __future__ import annotations

from collections.abc import Sequence

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from pydantic import SecretStr

from broker.errors import ConfigurationError, SecretUnreadable


class SecretBox:
    """Encrypts and decrypts short texts with the configured keys.

    Args:
        keys: url-safe base64 Fernet keys, newest first (make one with `zoompool secret-key`).

    Raises:
        ConfigurationError: no key is given, or one is not a Fernet key.
    """

    def __init__(self, keys: Sequence[SecretStr]) -> None:
        if not keys:
            raise ConfigurationError("ZOOMPOOL_SECRET_KEYS is empty; make a key with 'zoompool secret-key'")
        try:
            self._fernet = MultiFernet([Fernet(key.get_secret_value().encode()) for key in keys])
        except ValueError:
            # The original error may quote the key, so it is not chained.
            raise ConfigurationError(
                "ZOOMPOOL_SECRET_KEYS holds something that is not a key; make one with 'zoompool secret-key'"
            ) from None

    def __repr__(self) -> str:
        return "SecretBox(…)"

    def seal(self, text: str) -> str:
        """Return `text` encrypted with the newest key."""
        return self._fernet.encrypt(text.encode()).decode()

    def open(self, sealed: str, what: str) -> str:
        """Return the text behind `sealed`.

        Args:
            sealed: what `seal` returned, under any of the configured keys.
            what: the name of the thing, for the error message only.

        Raises:
            SecretUnreadable: no configured key fits, or the text was damaged.
        """
        try:
            return self._fernet.decrypt(sealed.encode()).decode()
        except InvalidToken:
            raise SecretUnreadable(what) from None


def new_key() -> str:
    """Return a fresh random key for ZOOMPOOL_SECRET_KEYS."""
    return Fernet.generate_key().decode()
