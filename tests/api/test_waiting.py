"""Waiting costs nothing: one listening connection for all, and no question asked while nothing happens."""

from __future__ import annotations

import asyncio
from typing import Any

import redis as redis_py
from httpx import AsyncClient

from broker.models import ReleaseReason
from tests.api.acting import add_account, bearer, calls, claimed, services_of
from tests.api.conftest import api_settings, client, serving
from tests.waiting import wait_until_async

WAITERS = 200


def listeners(redis: redis_py.Redis) -> int:
    """Connections that wait for events."""
    found: Any = redis.client_list()
    return sum(1 for one in found if one["cmd"] == "xread")


async def test_two_hundred_waiters_share_one_connection_and_ask_nothing(redis_url: str, redis: redis_py.Redis) -> None:
    settings = api_settings(redis_url, max_leases_per_owner=WAITERS)
    async with serving(settings) as app, client(app) as http:
        for number in range(WAITERS // 10):
            await add_account(app, f"host-{number:02}", capacity=10)
        starts = [asyncio.create_task(start(http, number)) for number in range(WAITERS)]

        async def all_wait() -> bool:
            return f"zoompool_waiters {WAITERS}.0" in (await http.get("/metrics")).text

        await wait_until_async(all_wait, "all wait", 60)
        before = calls(redis)
        turns = before["xread"] + 3

        async def listened_on() -> bool:
            return calls(redis)["xread"] >= turns

        await wait_until_async(listened_on, "the listener goes on listening")
        after = calls(redis)
        assert listeners(redis) == 1
        assert not {"evalsha", "eval", "hget", "hgetall", "xrevrange"} & {
            name for name in after if after[name] > before.get(name, 0)
        }, "waiting must not ask Redis anything"

        lease = await claimed(app, "lesson-7")
        before = calls(redis)
        run, pool = services_of(app).broker.run, services_of(app).broker.pool()
        await run(pool.release([lease.id], ReleaseReason.FAILED, detail="zoom_timeout"))
        assert await starts[7] == 502
        assert calls(redis)["evalsha"] - before["evalsha"] == 2, "the release, and one look by the waiter concerned"
        for one in starts:
            one.cancel()
        await asyncio.wait(starts)


async def start(http: AsyncClient, number: int) -> int:
    """Start a lesson of its own; the answer's status."""
    headers = bearer(f"teacher-{number}") | {"Prefer": "wait=30"}
    return (await http.post(f"/api/schedule/lessons/lesson-{number}/start-new/", headers=headers)).status_code
