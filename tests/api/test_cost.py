"""What a start, a webhook and a release ask of Redis: a command more here is a command more a thousand times at ten."""

from __future__ import annotations

import asyncio

import httpx
import redis as redis_py
from fastapi import FastAPI

from broker.models import ReleaseReason
from tests.api.acting import AT_ONCE, add_account, bearer, calls, difference, make_ready, services_of
from tests.api.conftest import api_settings, client, serving
from tests.api.test_webhook import body, send
from tests.waiting import wait_until_async

START = "/api/schedule/lessons/{}/start-new/"
SCRIPT = "evalsha"
# Commands inside scripts count, too; these are only there, or belong to the listener and to the test.
NOT_OURS = {"xread", "info", "client|list", "client|id", "client|setinfo", "client|setname", "hello", "select"}
WAITERS = 2000


async def test_new_start_is_one_claim_one_job_and_one_look(
    app: FastAPI, http: httpx.AsyncClient, redis: redis_py.Redis
) -> None:
    await add_account(app, capacity=2)
    await http.post(START.format("warm"), headers=bearer("warm") | AT_ONCE)
    before = calls(redis)
    starting = asyncio.create_task(http.post(START.format("7"), headers=bearer()))
    await wait_until_async(lambda: waits(app), "it waits")
    asked = difference(redis, before)
    assert asked[SCRIPT] == 2, "the claim, and RQ's script that enters the job"
    assert asked["rpush"] == 1
    await make_ready(app, "7")
    before = calls(redis)
    assert (await starting).status_code == 200
    assert difference(redis, before)[SCRIPT] <= 1, "one look when it is ready"


async def waits(app: FastAPI) -> bool:
    return bool(services_of(app).metrics.waiters._value.get() > 0)


async def test_progress_of_the_worker_wakes_nobody(
    app: FastAPI, http: httpx.AsyncClient, redis: redis_py.Redis
) -> None:
    await add_account(app)
    starting = asyncio.create_task(http.post(START.format("7"), headers=bearer()))
    await wait_until_async(lambda: waits(app), "it waits")
    before = calls(redis)
    await make_ready(app, "7")
    assert (await starting).status_code == 200
    # The test's own: find_lesson, begin_creating, made_ready. The waiter's: one look, at the end.
    assert difference(redis, before)[SCRIPT] == 4


async def test_webhook_is_one_script_and_one_command(
    app: FastAPI, http: httpx.AsyncClient, redis: redis_py.Redis
) -> None:
    await send(http, body(uuid="first=="))
    before = calls(redis)
    assert (await send(http, body(uuid="second=="))).status_code == 200
    asked = difference(redis, before)
    inside = {"exists": 1, "hset": 1, "rpush": 1}
    asked.pop("smembers", None)  # the secrets of teachers' own Zoom apps
    assert {name: count for name, count in asked.items() if name not in NOT_OURS} == {"evalsha": 1, "sadd": 1} | inside


async def test_release_is_one_script_and_wakes_only_the_next_in_line(redis_url: str, redis: redis_py.Redis) -> None:
    async with serving(api_settings(redis_url)) as app, client(app) as http:
        await add_account(app)
        services = services_of(app)
        await http.post(START.format("first"), headers=bearer("first") | AT_ONCE)
        lease = (await services.lessons.find("first")).lease
        assert lease is not None
        starting = [
            asyncio.create_task(http.post(START.format(f"l-{n}"), headers=bearer(f"o-{n}") | {"Prefer": "wait=30"}))
            for n in range(20)
        ]

        async def all_wait() -> bool:
            return bool(services.metrics.waiters._value.get() == len(starting))

        await wait_until_async(all_wait, "all stand in line")
        before = calls(redis)
        await services.broker.run(services.broker.pool().release([lease.id], ReleaseReason.ENDED))

        async def one_starts() -> bool:
            return bool(difference(redis, before)["rpush"])

        await wait_until_async(one_starts, "the first has the host")
        # The release, the claim of the first in line, its job; and a heartbeat of the line may fall in between.
        assert difference(redis, before)[SCRIPT] in (3, 3 + len(starting), 3 + len(starting) - 1)
        for one in starting:
            one.cancel()
        await asyncio.wait(starting)


async def test_two_thousand_waiting_requests_hold_no_connection(redis_url: str, redis: redis_py.Redis) -> None:
    settings = api_settings(redis_url, max_leases_per_owner=WAITERS, queue_max=WAITERS)
    async with serving(settings) as app, client(app) as http:
        await add_account(app)
        starting = [
            asyncio.create_task(http.post(START.format(f"l-{n}"), headers=bearer(f"o-{n}") | {"Prefer": "wait=30"}))
            for n in range(WAITERS)
        ]

        async def all_wait() -> bool:
            return bool(services_of(app).metrics.waiters._value.get() == WAITERS)

        await wait_until_async(all_wait, "all wait", 60)
        connections = len(redis.client_list())
        assert connections <= settings.redis_max_connections + 5
        pool = services_of(app).broker.redis.connection_pool

        async def idle() -> bool:
            return not pool._in_use_connections

        await wait_until_async(idle, "no connection is held by who only waits")
        assert (await http.get("/api/me/", headers=bearer("boris"))).status_code == 200
        for one in starting:
            one.cancel()
        await asyncio.wait(starting)
