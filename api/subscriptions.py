"""The subscription guard: until when a teacher may start lessons, by the registry or else by the token."""

from __future__ import annotations

import math
from datetime import UTC, datetime

import structlog

from api.auth import Caller
from api.errors import Problem
from api.lessons import at
from api.schemas import Subscription
from broker.registry.teachers import Teacher
from broker.settings import Settings

log = structlog.get_logger(__name__)


def demand(settings: Settings, who: Caller, owner: str, registered: Teacher | None) -> None:
    """Let pass whose subscription runs, or of whose subscription nobody knows anything.

    Args:
        settings: whether anybody asks, and what the token's claim is called.
        who: asks for a start.
        owner: the teacher for whom.
        registered: what is registered of that teacher.

    Raises:
        Problem: 403, it is over; 401, the token's claim cannot be read.
    """
    if settings.subscription_guard:
        found = subscription_of(settings, who, owner, registered)
        if found is not None and not found.active:
            raise Problem("subscription_expired")


def subscription_of(settings: Settings, who: Caller, owner: str, registered: Teacher | None) -> Subscription | None:
    """What is known of a teacher's subscription. The registry's word takes effect at once, so it counts first.

    Raises:
        Problem: 401, the token's claim cannot be read.
    """
    if registered is not None and registered.subscription_until_ms is not None:
        until = at(registered.subscription_until_ms)
    elif owner == who.user and (claim := who.claims.get(settings.subscription_claim)) is not None:
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
