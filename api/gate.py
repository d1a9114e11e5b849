"""Which starts are turned away at once, because they could only come to nothing: one round trip before the claim.

Nobody gains from a start that times out: it costs Zoom's calls, and the teacher's time.
"""

from __future__ import annotations

import math
from typing import Any

from api.errors import Problem
from api.lessons import Start
from api.services import Services
from broker import keys
from broker.client import translated
from broker.jobs import QueueName
from broker.settings import Settings
from broker.zoom.limits import PLANS, Category

MINUTE_S = 60


async def let_in(services: Services, wanted: Start, wait_s: float) -> None:
    """Let a start through, or say when to come back.

    Raises:
        Problem: 429 `too_many_requests`, this owner asks too often; 503 `overloaded`, more meetings wait to be made
            than Zoom lets us make while this caller waits.
        BrokerUnavailable: Redis did not answer.
    """
    most, per_s = services.settings.starts_per_min, creations_per_s(services.settings)
    if not most and not per_s:
        return
    counter = keys.starts(wanted.owner)
    with translated("gate"):
        async with services.broker.redis.pipeline() as pipe:
            pipe.set(counter, 0, ex=MINUTE_S, nx=True)
            pipe.incr(counter)
            pipe.scard(keys.CREDENTIALS)
            services.jobs.ask_backlog(pipe, QueueName.CREATE)
            answers: list[Any] = await pipe.execute()
        _, asked, credentials, waiting, started = answers
        if most and asked > most:
            left_ms = int(await services.broker.redis.pttl(counter))
            raise Problem("too_many_requests", headers={"Retry-After": str(max(1, math.ceil(left_ms / 1000)))})
    # Each credential may be of another Zoom account, with a limit of its own; where it is not, we refuse too late.
    backlog_s = (waiting + started) / (per_s * max(1, credentials)) if per_s else 0
    # Who wants his answer soon knows that 202 is one, and comes back.
    patience_s = max(wait_s, services.settings.wait_default_s)
    if backlog_s > patience_s and await _is_new(services, wanted):
        raise Problem("overloaded", headers={"Retry-After": str(math.ceil(backlog_s - patience_s))})


def creations_per_s(settings: Settings) -> float:
    """How many meetings may be made on one Zoom account; 0 for no limit."""
    if settings.creations_per_s is not None:
        return settings.creations_per_s
    category = Category(settings.zoom_create_category)
    return (settings.zoom_limits.get(category.value) or PLANS[settings.zoom_plan][category]).per_s


async def _is_new(services: Services, wanted: Start) -> bool:
    """Whether the start would be one more; one that has its host or its place in line is let through."""
    found = await services.lessons.find(wanted.lesson, wanted.pool)
    return found.lease is None and found.ticket is None
