"""The guard of work that only one process may do at a time."""

from __future__ import annotations

import asyncio
import itertools

import pytest
import redis.asyncio

from tests.waiting import wait_until_async
from workers.guard import GuardLost, guarded

KEY = "zp:{default}:guard:test"


async def test_only_one_holder_at_a_time_and_free_again_afterwards(aredis: redis.asyncio.Redis) -> None:
    async with guarded(aredis, KEY) as first, guarded(aredis, KEY) as second:
        assert (first, second) == (True, False)
    async with guarded(aredis, KEY) as third:
        assert third


async def test_guard_outlasts_its_life_while_its_holder_works(aredis: redis.asyncio.Redis) -> None:
    async with guarded(aredis, KEY, life_s=2.0):
        seen: list[int] = []

        async def extended() -> bool:
            seen.append(await aredis.pttl(KEY))
            assert seen[-1] > 0
            return sum(later > earlier for earlier, later in itertools.pairwise(seen)) >= 6

        await wait_until_async(extended, "six extensions, a fifth of its life apart")


async def test_guard_of_a_killed_holder_lapses(aredis: redis.asyncio.Redis) -> None:
    await aredis.set(KEY, "somebody who was killed", px=50)

    async def taken() -> bool:
        async with guarded(aredis, KEY) as free:
            return free

    assert await wait_until_async(taken, "the guard lapses")


async def test_work_stops_when_the_guard_is_lost(aredis: redis.asyncio.Redis) -> None:
    async def work() -> None:
        async with guarded(aredis, KEY, life_s=0.5):
            await aredis.set(KEY, "another holder")
            await asyncio.Event().wait()

    with pytest.raises(GuardLost, match="could not be extended"):
        await work()
    assert await aredis.get(KEY) == "another holder"


async def test_work_that_fails_gives_the_guard_back(aredis: redis.asyncio.Redis) -> None:
    async def work() -> None:
        async with guarded(aredis, KEY):
            raise TimeoutError("of the work itself")

    with pytest.raises(TimeoutError, match="of the work"):
        await work()
    assert await aredis.exists(KEY) == 0
