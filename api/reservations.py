"""Hosts for lessons with a time: kept from a while before the start, and refused when too many lessons want one."""

from __future__ import annotations

import time

from api.errors import Problem
from api.lessons import at
from api.services import Services
from broker.models import Priority, Reservation
from broker.registry.lessons import Lesson

USUAL_MIN = 60
"""Of a lesson whose duration nobody gave."""


async def reserve(services: Services, lesson: Lesson) -> None:
    """Keep a host for a lesson, move what is kept, or give it up if the lesson has no time (any more).

    Killed behind this and before the lesson is registered, the reservation lapses by itself. A pool without any account
    has nothing to keep and refuses nothing: lessons may be registered before the accounts are.

    Raises:
        Problem: 409, the pool would be overbooked at that time.
        BrokerUnavailable: Redis did not answer; repeating is safe.
    """
    if not services.settings.reserve_lessons:
        return
    if lesson.starts_ms is None:
        await give_up(services, lesson.id)
        return
    pool = services.broker.pool()
    answer = await services.broker.run(pool.reserve(lesson.id, lesson.starts_ms, _end_ms(lesson)))
    if answer.result is Reservation.OVERBOOKED and answer.capacity:
        raise Problem(
            "pool_overbooked",
            window={"from": at(answer.from_ms).isoformat(), "until": at(answer.until_ms).isoformat()},
            reserved=answer.reserved,
            capacity=answer.capacity,
        )


async def give_up(services: Services, lesson: str) -> None:
    """Keep no host for this lesson any more.

    Raises:
        BrokerUnavailable: Redis did not answer; repeating is safe.
    """
    await services.broker.run(services.broker.pool().unreserve(lesson))


def priority(services: Services, lesson: Lesson | None) -> Priority:
    """How a lesson stands in line: one inside its scheduled time before one out of the blue."""
    if lesson is None or lesson.starts_ms is None:
        return Priority.QUICK
    now_ms = time.time() * 1000
    begins_ms = lesson.starts_ms - services.settings.reserve_lead_s * 1000
    return Priority.SCHEDULED if begins_ms <= now_ms < _end_ms(lesson) else Priority.QUICK


def _end_ms(lesson: Lesson) -> int:
    return (lesson.starts_ms or 0) + (lesson.duration_min or USUAL_MIN) * 60_000
