"""What a test asks of a lesson."""

from __future__ import annotations

from typing import Any

import httpx

from broker.models import Lease, Outcome
from broker.testing.school import School
from broker.testing.stack import Stack
from tests.waiting import wait_until_async

LINKS_S = 25.0
ASYNC = {"Prefer": "respond-async"}


def lease_of(stack: Stack, lesson: str) -> Lease | None:
    """The lease of a lesson, if it has one."""
    return stack.broker.run(stack.broker.pool().find_lesson(lesson)).lease


def outcome_of(stack: Stack, lesson: str) -> Outcome | None:
    """How the last lease of a lesson ended, if it has."""
    return stack.broker.run(stack.broker.pool().find_lesson(lesson)).outcome


def free_slots(stack: Stack) -> int:
    """How many slots could be had now."""
    return stack.broker.run(stack.broker.pool().status()).free


async def links_of(school: School, lesson: str, teacher: str) -> dict[str, Any]:
    """The links of a lesson, for a teacher who presses start until they come."""

    async def press() -> dict[str, Any] | None:
        try:
            answer = await school.start(lesson, teacher, headers={"Prefer": "wait=2"})
        except httpx.TransportError:
            return None
        links: dict[str, Any] | None = answer.json() if answer.status_code == httpx.codes.OK else None
        return links

    links = await wait_until_async(press, f"{lesson} has its links", LINKS_S)
    assert links is not None
    return links


async def meetings_of(school: School, lease: Lease) -> list[int]:
    """The meetings at Zoom that were made for a lease."""
    return [int(each["id"]) for each in await school.meetings() if str(lease.id) in each["agenda"]]
