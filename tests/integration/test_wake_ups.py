"""A slot that comes free wakes those who are next in line, by name, and nobody behind them."""

from __future__ import annotations

import asyncio
from functools import partial

from broker.models import Account, Granted, LeaseId, ReleaseReason
from broker.testing.environment import private_settings
from tests.integration.test_events import running
from tests.waiting import wait_until_async

SOON_S = 15.0
WAITERS = 30
SLOTS = 3


async def test_waiters_take_freed_slots_in_order_each_woken_by_name(redis_url: str) -> None:
    settings = private_settings(redis_url, "http://zoom.invalid", {"ticket_ttl_s": 60})
    served: list[int] = []
    asked = 0
    async with running(settings) as listening:
        hub, broker = listening.hub, listening.broker
        pool = broker.pool("default")

        async def give_back(lease: LeaseId) -> None:
            await broker.run(pool.release([lease], ReleaseReason.ENDED))

        async def wait_in_line(number: int) -> None:
            nonlocal asked
            lesson = f"lesson-{number:02d}"
            async with hub.watch("default", lesson) as watch:
                while True:
                    result = await broker.run(pool.claim(lesson, f"owner-{number}", wait_s=60))
                    asked += 1
                    if result.lease:
                        served.append(number)
                        return await give_back(result.lease.id)
                    assert result.outcome is Granted.QUEUED
                    assert await watch.news(SOON_S), f"{lesson} was forgotten"

        async def waiting(at_least: int) -> bool:
            return (await broker.run(pool.status())).waiting >= at_least

        await broker.run(pool.add_account(Account("host", "host@school.example", "", "default", SLOTS)))
        held = []
        for number in range(SLOTS):
            lease = (await broker.run(pool.claim(f"before-{number}", f"early-{number}"))).lease
            assert lease is not None
            held.append(lease.id)
        async with asyncio.TaskGroup() as line, asyncio.timeout(4 * SOON_S):
            for number in range(WAITERS):
                line.create_task(wait_in_line(number))
                await wait_until_async(partial(waiting, number + 1), "the next one waits")
            for lease_id in held:
                await give_back(lease_id)
    assert sorted(served) == list(range(WAITERS))
    ahead = max(number - place for place, number in enumerate(served))
    assert ahead <= SLOTS, "nobody is overtaken by more than the slots that are free at once"
    # Each asks when it comes, when its own ticket is in the stream, and when it may be served; were everybody woken by
    # every release, this would be hundreds.
    assert asked <= 5 * WAITERS
