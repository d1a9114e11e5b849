"""The subscription guard: until when a teacher may start lessons, by the registry or else by the token."""

from __future__ import annotations

import math
from datetime import UTC, datetime

import structlog

from api.auth import Caller
from api.errors import Problem
from api.lessons import at
from api.schemas import Subscription
from api.services import Services
from broker.registry import teachers

log = structlog.get_logger(__name__)


async def demand(services: Services, who: Caller, owner: str) -> None:
    """Let pass whose subscription runs, or of whose subscription nobody knows anything.

    Raises:
        Problem: 403, it is over; 401, the token's claim cannot be read.
    """
    if services.settings.subscription_guard:
        found = await subscription_of(services, who, owner)
        if found is not None and not found.active:
            raise Problem("subscription_expired")


async def subscription_of(services: Services, who: Caller, owner: str) -> Subscription | None:
    """What is known of a teacher's subscription. The registry's word takes effect at once, so it counts first.

    Raises:
        Problem: 401, the token's claim cannot be read.
    """
    registered = await teachers.find(services.broker.redis, owner)
    if registered is not None and registered.subscription_until_ms is not None:
        until = at(registered.subscription_until_ms)
    elif owner == who.user and (claim := who.claims.get(services.settings.subscription_claim)) is not None:
        until = _moment(claim)
    else:
        return None
    return Subscription(active=datetime.now(UTC) < until, until=until)


def _moment(claim: object) -> datetime:
    """A time in a token: seconds since the epoch, as in `exp`, or ISO 8601; without an offset it is UTC."""
    try:
        if isinstance(claim, int | float) and not isinstance(claim, bool) and math.isfinite(claim):
            return datetime.fromtimestamp(claim, UTC)
        if isinstance(claim, str):
            read = datetime.fromisoformat(claim)
            return read if read.tzinfo else read.replace(tzinfo=UTC)
    except (ValueError, OverflowError, OSError):
        pass
    # Letting everybody in would be noticed late; the web app's developers notice this at once.
    log.warning("the token's subscription claim is neither a number of seconds nor an ISO 8601 time")
    raise Problem("token_invalid", headers={"WWW-Authenticate": 'Bearer error="invalid_token"'})
