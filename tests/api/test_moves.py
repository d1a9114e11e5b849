"""A host that fails a lesson is the worker's trouble: the caller waits on, and gets one answer."""

from __future__ import annotations

import asyncio

import httpx
from fastapi import FastAPI

from broker.models import AccountState, ReleaseReason
from tests.api.acting import add_account, bearer, claimed, jobs_in, lease_of, make_ready, services_of
from tests.waiting import wait_until_async

START = "/api/schedule/lessons/7/start-new/"


async def test_caller_follows_the_lesson_to_its_new_host(app: FastAPI, http: httpx.AsyncClient) -> None:
    for name in ("host-1", "host-2"):
        await add_account(app, name)
    starting = asyncio.create_task(http.post(START, headers=bearer()))
    lease = await claimed(app, "7")
    run, pool = services_of(app).broker.run, services_of(app).broker.pool()
    await run(pool.begin_creating(lease.id, "worker"))
    moved = await run(pool.move(lease, "worker", AccountState.QUARANTINED, "zoom_host_not_allowed: no licence"))
    assert moved.lease is not None
    assert await make_ready(app, "7") == moved.lease.id
    answer = await starting
    assert answer.status_code == 200
    assert answer.json()["account_email"] == moved.lease.email != lease.email


async def test_lesson_that_found_no_other_host_is_told_when_to_come_back(app: FastAPI, http: httpx.AsyncClient) -> None:
    await add_account(app, "host-1")
    starting = asyncio.create_task(http.post(START, headers=bearer()))
    lease = await claimed(app, "7")
    run, pool = services_of(app).broker.run, services_of(app).broker.pool()
    await run(pool.begin_creating(lease.id, "worker"))
    await add_account(app, "host-2")
    await run(pool.claim("8", "boris"))
    busy = await run(pool.move(lease, "worker", AccountState.QUARANTINED, "zoom_host_not_allowed: no licence"))
    assert busy.free_at_ms > 0
    await run(pool.release([lease.id], ReleaseReason.FAILED, detail="pool_exhausted"))
    answer = await starting
    assert (answer.status_code, answer.json()["code"]) == (503, "pool_exhausted")
    assert 1 <= int(answer.headers["Retry-After"]) <= 30


async def test_lesson_that_found_no_other_host_takes_one_that_was_freed_meanwhile(
    app: FastAPI, http: httpx.AsyncClient
) -> None:
    await add_account(app, "host-1")
    starting = asyncio.create_task(http.post(START, headers=bearer()))
    lease = await claimed(app, "7")
    run, pool = services_of(app).broker.run, services_of(app).broker.pool()
    await add_account(app, "host-2")
    await run(pool.park_account("host-1", AccountState.QUARANTINED, "no licence"))
    await run(pool.release([lease.id], ReleaseReason.FAILED, detail="pool_exhausted"))

    async def claimed_anew() -> bool:
        now = await lease_of(app, "7")
        return now is not None and now.account == "host-2"

    await wait_until_async(claimed_anew, "the waiting caller claims the other host")
    await make_ready(app, "7")
    assert (await starting).status_code == 200


async def test_lesson_that_moves_while_it_is_being_ended_is_not_over(app: FastAPI, http: httpx.AsyncClient) -> None:
    for name in ("host-1", "host-2"):
        await add_account(app, name)
    await http.post(START, headers=bearer() | {"Prefer": "respond-async"})
    lease = await claimed(app, "7")
    ending = asyncio.create_task(http.post("/api/schedule/lessons/7/end/", headers=bearer() | {"Prefer": "wait=1"}))

    async def asked() -> bool:
        return any(name == "end_meeting" for name, _ in jobs_in(app, "create"))

    await wait_until_async(asked, "the end is asked for")
    run, pool = services_of(app).broker.run, services_of(app).broker.pool()
    await run(pool.begin_creating(lease.id, "worker"))
    moved = await run(pool.move(lease, "worker", AccountState.QUARANTINED, "zoom_host_not_allowed: no licence"))
    assert moved.lease is not None
    answer = await ending
    assert (answer.status_code, answer.json()["status"]) == (202, "closing")
