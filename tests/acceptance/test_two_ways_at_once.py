"""The same lesson started on the pool and on the teacher's own Zoom account, at the same instant: one meeting."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

import httpx
import pytest

from broker.models import Lease, ReleaseReason
from broker.registry.teachers import pool_of
from broker.testing.environment import everyday_zoom, example_accounts
from broker.testing.school import mint_token
from broker.testing.stack import Stack
from broker.testing.zoom_simulator import Latency

TEACHERS = 12
ROUNDS = 3
HOSTS = example_accounts(2 * TEACHERS, (1,))
"""One for each teacher in the pool, and one that is the teacher's own."""
ZOOM = everyday_zoom(HOSTS).model_copy(update={"latency": Latency(ms=40)})
WAYS = ("start", "start-new")
S = 60.0


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    """The running system, with as many hosts in the pool as it takes for both starts of every lesson to get one."""
    with Stack(HOSTS[:TEACHERS], zoom=ZOOM) as running:
        yield running


@pytest.fixture
async def web_app(stack: Stack) -> AsyncIterator[httpx.AsyncClient]:
    """The web app, with every teacher's own Zoom account registered."""
    async with httpx.AsyncClient(base_url=stack.api_url, trust_env=False, timeout=S) as client:
        app, token = stack.zoom_app, mint_token(stack.settings.jwt_key, "web-app", "service")
        for number, host in enumerate(HOSTS[TEACHERS:]):
            own = {
                "zoom_account_id": app.account_id,
                "zoom_client_id": app.client_id,
                "zoom_client_secret": app.client_secret.get_secret_value(),
                "zoom_user_id": host.email,
            }
            answer = await client.put(
                f"/api/teachers/anna-{number}/", json=own, headers={"Authorization": f"Bearer {token}"}
            )
            answer.raise_for_status()
        yield client


async def test_lesson_that_is_started_both_ways_at_once_has_one_meeting(
    stack: Stack, web_app: httpx.AsyncClient
) -> None:
    twice = 0
    for round in range(ROUNDS):
        lessons = {f"lesson-{round}-{number}": f"anna-{number}" for number in range(TEACHERS)}
        pairs = await asyncio.gather(*(both_ways(stack, web_app, *pair) for pair in lessons.items()))
        for pair in pairs:
            assert [answer.status_code for answer in pair] == [200, 200], [answer.text for answer in pair]
            assert len({answer.json()["zoom_meeting_id"] for answer in pair}) == 1
        async with stack.school() as people:
            assert len(await people.meetings()) == len(lessons), "none was made in vain"
            for lesson, teacher in lessons.items():
                assert len(leases(stack, lesson, teacher)) == 1
                twice += stood_back(stack, lesson, teacher)
                assert (await people.end(lesson, teacher)).status_code == 200
    assert twice, "no lesson had two hosts for a moment: the starts did not meet"


async def both_ways(stack: Stack, web_app: httpx.AsyncClient, lesson: str, teacher: str) -> list[httpx.Response]:
    """Press both buttons at once."""
    headers = {"Authorization": f"Bearer {mint_token(stack.settings.jwt_key, teacher)}", "Prefer": "wait=30"}
    paths = [f"/api/schedule/lessons/{lesson}/{way}/" for way in WAYS]
    return await asyncio.gather(*(web_app.post(path, headers=headers) for path in paths))


def leases(stack: Stack, lesson: str, teacher: str) -> list[Lease]:
    """All leases of a lesson."""
    found = [stack.broker.run(stack.broker.pool(pool).find_lesson(lesson)) for pool in ("", pool_of(teacher))]
    return [each.lease for each in found if each.lease is not None]


def stood_back(stack: Stack, lesson: str, teacher: str) -> bool:
    """Whether a lease of this lesson stood back behind one in another pool."""
    found = [stack.broker.run(stack.broker.pool(pool).find_lesson(lesson)) for pool in ("", pool_of(teacher))]
    return any(each.outcome is not None and each.outcome.reason is ReleaseReason.ELSEWHERE for each in found)
