"""`zoompool token` and `zoompool secret-key`: what one needs to try things out and to set them up."""

from __future__ import annotations

import time
from enum import StrEnum
from typing import Annotated

import typer

from broker.cli.session import settings_with_logging
from broker.errors import ConfigurationError
from broker.secrets import new_key


class Role(StrEnum):
    """Whom the API takes the bearer of a token for."""

    TEACHER = "teacher"
    SERVICE = "service"
    OPS = "ops"


def token(
    user: Annotated[str, typer.Option("--user", "-u", help="Whose token: the claim user_id.")],
    role: Annotated[Role, typer.Option("--role", help="What the bearer may do.")] = Role.TEACHER,
    ttl: Annotated[int, typer.Option(min=1, help="How long it is valid, in seconds.")] = 3600,
) -> None:
    """Mint a bearer token with ZOOMPOOL_JWT_KEY, for trying out; in production the web app mints them."""
    import jwt

    settings = settings_with_logging()
    key = settings.jwt_key.get_secret_value()
    if settings.jwt_algorithm != "HS256":
        raise ConfigurationError("tokens of RS256 are minted where the private key is, not here")
    if not key:
        raise ConfigurationError("ZOOMPOOL_JWT_KEY is empty; set the key that the API checks tokens with")
    now = int(time.time())
    claims: dict[str, object] = {"user_id": user, "role": role.value, "iat": now, "exp": now + ttl}
    if settings.jwt_audience:
        claims["aud"] = settings.jwt_audience
    if settings.jwt_issuer:
        claims["iss"] = settings.jwt_issuer
    typer.echo(jwt.encode(claims, key, algorithm="HS256"))


def secret_key() -> None:
    """Print a new key for ZOOMPOOL_SECRET_KEYS. Put it in front of the old ones to rotate."""
    typer.echo(new_key())
