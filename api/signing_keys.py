"""The keys that tokens are checked with: one that is configured, or a published set of them (JWKS, RFC 7517)."""

from __future__ import annotations

import asyncio
import time
from typing import Any, Protocol

import httpx
import jwt
import structlog
from jwt.algorithms import RSAAlgorithm

from broker.errors import ConfigurationError, ZoomPoolError
from broker.settings import Settings

log = structlog.get_logger(__name__)

FETCH_S = 5.0
FRESH_S = 300.0
"""A set older than this is fetched again, so that a withdrawn key stops working; the old one serves if that fails."""
AGAIN_S = 10.0
"""A set is fetched at most once in this time, however many tokens name keys that nobody knows."""


class KeysUnavailable(ZoomPoolError):
    """The address of the signing keys does not answer, so nobody can say whether a token is good."""

    code = "keys_unavailable"


class SigningKeys(Protocol):
    """Where the key of a token comes from."""

    async def key_of(self, token: str) -> Any:
        """The key that `token` must be signed with.

        Raises:
            jwt.PyJWTError: no key fits this token.
            KeysUnavailable: the keys could not be fetched.
        """

    async def aclose(self) -> None:
        """Close connections."""


class FixedKey:
    """One configured key.

    Args:
        key: shared secret or public key; None refuses every token.
    """

    def __init__(self, key: Any) -> None:
        self._key = key

    async def key_of(self, token: str) -> Any:
        """The key, whatever the token."""
        if self._key is None:
            raise jwt.InvalidTokenError("no key is configured")
        return self._key

    async def aclose(self) -> None:
        """Nothing to close."""


class PublishedKeys:
    """A key set behind a URL; fetched when it is needed, by one request at a time.

    Args:
        url: of the key set.
        transport: the way there; httpx's own by default.
    """

    def __init__(self, url: str, transport: httpx.AsyncBaseTransport | None = None) -> None:
        self._url = url
        self._http = httpx.AsyncClient(timeout=FETCH_S, transport=transport)
        self._keys: dict[str, Any] = {}
        self._fetched_s = self._tried_s = float("-inf")
        self._fetching = asyncio.Lock()

    async def key_of(self, token: str) -> Any:
        """The key that the token's header names by `kid`."""
        kid = str(jwt.get_unverified_header(token).get("kid", ""))
        if self._wanted(kid):
            async with self._fetching:
                if self._wanted(kid):
                    await self._fetch()
        if kid in self._keys:
            return self._keys[kid]
        if self._fetched_s < self._tried_s:
            raise KeysUnavailable("the signing keys could not be fetched; see that ZOOMPOOL_JWT_JWKS_URL answers")
        raise jwt.InvalidTokenError("the token names a key that is not published")

    def _wanted(self, kid: str) -> bool:
        now_s = time.monotonic()
        stale = kid not in self._keys or now_s - self._fetched_s > FRESH_S
        return stale and now_s - self._tried_s > AGAIN_S

    async def _fetch(self) -> None:
        self._tried_s = time.monotonic()
        try:
            answer = await self._http.get(self._url)
            answer.raise_for_status()
            found = jwt.PyJWKSet.from_dict(answer.json()).keys
        except (httpx.HTTPError, jwt.PyJWTError, ValueError, AttributeError, TypeError) as error:
            log.error("cannot fetch the signing keys", error=type(error).__name__, known=len(self._keys))
            return
        self._keys = {key.key_id or "": key.key for key in found if key.algorithm_name == "RS256"}
        self._fetched_s = self._tried_s = time.monotonic()

    async def aclose(self) -> None:
        """Close the connection."""
        await self._http.aclose()


def signing_keys(settings: Settings) -> SigningKeys:
    """The keys that the settings name.

    Raises:
        ConfigurationError: the public key is not one.
    """
    text = settings.jwt_key.get_secret_value()
    if settings.jwt_algorithm == "RS256" and settings.jwt_jwks_url:
        return PublishedKeys(settings.jwt_jwks_url)
    if not text:
        log.warning("no key for tokens is configured: every call that needs a token is refused")
        return FixedKey(None)
    if settings.jwt_algorithm == "HS256":
        return FixedKey(text)
    try:
        return FixedKey(RSAAlgorithm(RSAAlgorithm.SHA256).prepare_key(text))
    except (jwt.PyJWTError, ValueError):
        raise ConfigurationError("ZOOMPOOL_JWT_KEY is not a public RSA key in PEM form, as RS256 needs it") from None
