"""Who calls: bearer tokens (JWT) as a Django web app mints them, HS256 or RS256."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from functools import cache
from typing import Annotated

import jwt
from fastapi import Depends, Request

from api.errors import Problem
from broker.models import check_name
from broker.settings import Settings

JWKS_TIMEOUT_S = 5
SEES_ALL = frozenset({"service", "ops"})


@dataclass(frozen=True)
class Caller:
    """Who sent the request."""

    user: str
    role: str

    @property
    def sees_all(self) -> bool:
        """Whether it may act for any teacher."""
        return self.role in SEES_ALL


@cache
def _jwks(url: str) -> jwt.PyJWKClient:
    return jwt.PyJWKClient(url, cache_keys=True, timeout=JWKS_TIMEOUT_S)


def _decode(token: str, settings: Settings) -> Caller:
    key: object = settings.jwt_key.get_secret_value()
    if settings.jwt_algorithm == "RS256" and settings.jwt_jwks_url:
        key = _jwks(settings.jwt_jwks_url).get_signing_key_from_jwt(token).key
    if not key:
        raise jwt.InvalidTokenError("no key is configured")
    claims = jwt.decode(
        token,
        key,  # type: ignore[arg-type]
        algorithms=[settings.jwt_algorithm],
        audience=settings.jwt_audience or None,
        issuer=settings.jwt_issuer or None,
        leeway=settings.jwt_leeway_s,
        options={"require": ["exp", "user_id"], "verify_aud": bool(settings.jwt_audience)},
    )
    if claims.get("token_type", "access") != "access":
        raise jwt.InvalidTokenError("not an access token")
    roles = {str(claims.get("role", "")), *map(str, claims.get("roles") or [])}
    role = next((name for name in ("ops", "service") if name in roles), "teacher")
    return Caller(check_name("user_id", str(claims["user_id"])), role)


async def current(request: Request) -> Caller:
    """The caller of a request.

    Raises:
        Problem: 401; the token is missing, expired or not ours.
    """
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    detail = "Authentication credentials were not provided."
    if scheme.lower() == "bearer" and token:
        try:
            return await asyncio.to_thread(_decode, token.strip(), request.app.state.settings)
        except (jwt.PyJWTError, ValueError):
            detail = "The token is not valid or has expired."
    raise Problem(401, "not_authenticated", headers={"WWW-Authenticate": "Bearer"}, detail=detail)


User = Annotated[Caller, Depends(current)]
