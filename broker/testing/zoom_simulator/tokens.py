"""OAuth apps and the access tokens they were given."""

from __future__ import annotations

import base64
import binascii
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from broker.testing.zoom_simulator import refusals
from broker.testing.zoom_simulator.settings import AppSpec, TokenPolicy

GRANT = "account_credentials"
_REMEMBERED_S = 3600.0
"""How long an expired token is told apart from one that never was."""


@dataclass
class AccessToken:
    """What an access token stands for. Its scopes are those of the app when it was issued."""

    app: AppSpec = field(repr=False)
    scopes: frozenset[str]
    expires_at_s: float
    revoked: bool = False


class Tokens:
    """Issues access tokens and checks them.

    Args:
        apps: the apps that exist at first.
        ttl_s: life of a token.
        policy: whether a new token makes the app's previous one invalid.
        clock: seconds since the epoch.
    """

    def __init__(
        self, apps: tuple[AppSpec, ...], *, ttl_s: int, policy: TokenPolicy, clock: Callable[[], float]
    ) -> None:
        self.apps: dict[str, AppSpec] = {app.client_id: app for app in apps}
        self.issued = 0
        self.policy = policy
        self._ttl_s = ttl_s
        self._clock = clock
        self._tokens: dict[str, AccessToken] = {}

    def issue(self, authorization: str, form: Mapping[str, str]) -> dict[str, object]:
        """Answer a token request.

        Args:
            authorization: the header, Basic with client id and secret.
            form: the decoded form body; a query string does not count.

        Raises:
            Refused: in the form of RFC 6749, section 5.2.
        """
        if form.get("grant_type") != GRANT:
            raise refusals.unsupported_grant()
        client_id, client_secret = _basic(authorization)
        app = self.apps.get(client_id)
        if (
            app is None
            or not app.enabled
            or not secrets.compare_digest(app.client_secret.get_secret_value().encode(), client_secret.encode())
            or form.get("account_id") != app.account_id
        ):
            raise refusals.invalid_client()
        now = self._clock()
        self._tokens = {text: token for text, token in self._tokens.items() if token.expires_at_s > now - _REMEMBERED_S}
        if self.policy is TokenPolicy.SINGLE_VALID:
            self.revoke(client_id)
        text = secrets.token_urlsafe(48)
        self._tokens[text] = AccessToken(app, frozenset(app.scopes), now + self._ttl_s)
        self.issued += 1
        return {
            "access_token": text,
            "token_type": "bearer",
            "expires_in": self._ttl_s,
            "scope": " ".join(sorted(app.scopes)),
            "api_url": "https://api.zoom.us",
        }

    def authenticate(self, authorization: str) -> AccessToken:
        """Return what a bearer token stands for.

        Raises:
            Refused: 401 with code 124.
        """
        scheme, _, text = authorization.partition(" ")
        token = self._tokens.get(text.strip()) if scheme.lower() == "bearer" else None
        if token is None or token.revoked or not self.apps.get(token.app.client_id, token.app).enabled:
            raise refusals.invalid_token()
        if self._clock() >= token.expires_at_s:
            raise refusals.expired_token()
        return token

    def texts(self) -> list[str]:
        """The tokens of the last hour, whether they still work or not."""
        return list(self._tokens)

    def revoke(self, client_id: str | None = None) -> int:
        """Make all tokens of an app, or of all apps, invalid; return how many were."""
        hit = [
            token
            for token in self._tokens.values()
            if not token.revoked and client_id in (None, token.app.client_id) and token.expires_at_s > self._clock()
        ]
        for token in hit:
            token.revoked = True
        return len(hit)


def _basic(authorization: str) -> tuple[str, str]:
    scheme, _, encoded = authorization.partition(" ")
    if scheme.lower() != "basic":
        raise refusals.invalid_client()
    try:
        client_id, colon, client_secret = base64.b64decode(encoded, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        raise refusals.invalid_client() from None
    if not colon:
        raise refusals.invalid_client()
    return client_id, client_secret
