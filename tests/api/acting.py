"""The parts that tests of the API play: the web app that mints tokens, and the worker that makes meetings."""

from __future__ import annotations

import time
from collections import Counter
from typing import Any

import jwt
import redis as redis_py
from fastapi import FastAPI
from rq import Queue
from rq.serializers import JSONSerializer

from api.services import Services
from broker.models import Account, Lease, LeaseId
from broker.redis import connect
from tests.api.conftest import JWT_KEY
from tests.waiting import wait_until_async

MEETING_ID = 98765432101
START_URL = "https://zoom.example/s/98765432101?zak=y"
AT_ONCE = {"Prefer": "respond-async"}


def bearer(user: object = "anna", **claims: object) -> dict[str, str]:
    """The headers of somebody with a token."""
    token = jwt.encode({"user_id": user, "exp": time.time() + 3600, **claims}, JWT_KEY, "HS256")
    return {"Authorization": f"Bearer {token}"}


def services_of(app: FastAPI) -> Services:
    """What the application works with."""
    found: Services = app.state.services
    return found


async def add_account(app: FastAPI, name: str = "host", capacity: int = 1) -> None:
    """Give the default pool a host."""
    broker = services_of(app).broker
    await broker.run(broker.pool().register())
    await broker.run(broker.pool().add_account(Account(name, f"{name}@school.example", "", "default", capacity)))


async def lease_of(app: FastAPI, lesson: str) -> Lease | None:
    """The lesson's lease, if it has one."""
    broker = services_of(app).broker
    return (await broker.run(broker.pool().find_lesson(lesson))).lease


async def claimed(app: FastAPI, lesson: str) -> Lease:
    """The lesson's lease, as soon as it has one."""
    lease = await wait_until_async(lambda: lease_of(app, lesson), f"{lesson} is claimed")
    assert lease is not None
    return lease


async def make_ready(
    app: FastAPI, lesson: str, *, start_url: str = START_URL, age_s: float = 0, meeting_id: int = MEETING_ID
) -> LeaseId:
    """Be the worker that makes the lesson's meeting; its start_url is `age_s` old."""
    services = services_of(app)
    run, pool = services.broker.run, services.broker.pool()
    lease = await claimed(app, lesson)
    await run(pool.begin_creating(lease.id, "test"))
    await run(
        pool.made_ready(
            lease.id,
            meeting_id=meeting_id,
            meeting_uuid="uuid==",
            join_url=f"https://zoom.example/j/{meeting_id}?pwd=x",
            passcode="123456",
            sealed_start_url=services.box.seal(start_url),
            start_url_ms=lease.now_ms - round(age_s * 1000),
        )
    )
    return lease.id


def jobs_in(app: FastAPI, queue: str) -> list[tuple[str, list[Any]]]:
    """The jobs that wait in a queue, as function and arguments."""
    connection = connect(services_of(app).settings, decode_responses=False)
    try:
        jobs = Queue(queue, connection=connection, serializer=JSONSerializer).jobs
        return [(str(job.func_name).rsplit(".", 1)[-1], list(job.args)) for job in jobs]
    finally:
        connection.close()


def calls(redis: redis_py.Redis) -> dict[str, int]:
    """How often each command ran so far."""
    stats: Any = redis.info("commandstats")
    return {name.removeprefix("cmdstat_"): int(stat["calls"]) for name, stat in stats.items()}


def difference(redis: redis_py.Redis, before: dict[str, int]) -> Counter[str]:
    """How often each command ran since `before`."""
    return Counter(calls(redis)) - Counter(before)
