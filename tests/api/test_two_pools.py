"""A start whose host was given up because its lesson has one in another pool already."""

from __future__ import annotations

import asyncio

import httpx
from fastapi import FastAPI

from broker.models import Account, Lease, LeaseId, ReleaseReason
from broker.registry import personal
from tests.api.acting import START_URL, add_account, bearer, claimed, lease_of, services_of
from tests.waiting import wait_until_async

START = "/api/schedule/lessons/7/start-new/"
OWN = "teacher-anna"


async def stand_back(app: FastAPI, lease: LeaseId) -> None:
    """Be the job that finds the other lease."""
    broker = services_of(app).broker
    await broker.run(broker.pool().begin_creating(lease, "test"))
    await broker.run(broker.pool().release([lease], ReleaseReason.ELSEWHERE, detail=OWN))


async def test_start_gets_the_meeting_of_the_other_pool(app: FastAPI, http: httpx.AsyncClient) -> None:
    await add_account(app)
    starting = asyncio.create_task(http.post(START, headers=bearer()))
    lease = await claimed(app, "7")
    services = services_of(app)
    run, own = services.broker.run, services.broker.pool(OWN)
    await run(own.add_account(Account("host", "anna@home.example", "", OWN, 1)))
    await personal.note(services.broker.redis, "7", OWN, ttl_s=60)
    other = (await run(own.claim("7", "anna"))).lease
    assert other is not None
    await run(own.begin_creating(other.id, "test"))
    await stand_back(app, lease.id)
    await run(
        own.made_ready(
            other.id,
            meeting_id=1,
            meeting_uuid="uuid==",
            join_url="https://zoom.example/j/1",
            passcode="",
            sealed_start_url=services.box.seal(START_URL),
            start_url_ms=other.now_ms,
        )
    )
    answer = await starting
    assert (answer.status_code, answer.json()["account_email"]) == (200, "anna@home.example")
    assert await lease_of(app, "7") is None


async def test_start_that_never_finds_the_other_lease_is_told_to_come_back(
    app: FastAPI, http: httpx.AsyncClient
) -> None:
    await add_account(app)
    starting = asyncio.create_task(http.post(START, headers=bearer()))
    first = await claimed(app, "7")
    await stand_back(app, first.id)

    async def another() -> Lease | None:
        lease = await lease_of(app, "7")
        return lease if lease is not None and lease.id != first.id else None

    second = await wait_until_async(another, "it is claimed anew, once")
    assert second is not None
    await stand_back(app, second.id)
    answer = await starting
    assert (answer.status_code, answer.json()["code"]) == (503, "started_elsewhere")
    assert answer.headers["retry-after"] == "1"
