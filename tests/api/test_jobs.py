"""The API and the workers enqueue a job in the same way, though neither imports the other's code."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import redis as redis_py
from fastapi import FastAPI
from redis import Redis
from rq import Queue, SimpleWorker
from rq.job import Job
from rq.serializers import JSONSerializer

from api.jobs import BATCH
from broker.errors import BrokerUnavailable
from broker.jobs import ALL, CREATE_MEETING, WEBHOOK_EVENT, JobSpec, QueueName
from tests.api.acting import calls, difference, services_of
from workers import queues

TIMES = {b"created_at", b"enqueued_at"}


@pytest.fixture
def raw(redis_url: str) -> Redis:
    """A client that decodes nothing, as RQ wants it."""
    return redis_py.Redis.from_url(redis_url, socket_timeout=10)


@pytest.mark.parametrize("job_id", ["named", None], ids=["unique", "any"])
@pytest.mark.parametrize("spec", ALL, ids=lambda spec: spec.function)
async def test_job_is_written_as_rq_writes_it(app: FastAPI, raw: Redis, spec: JobSpec, job_id: str | None) -> None:
    arguments = ("default", {"text": "Алгебра", "n": 1})
    found: list[Any] = []
    for enqueue in (services_of(app).jobs.enqueue, from_a_worker(raw)):
        raw.flushdb()
        assert await enqueue(spec, *arguments, job_id=job_id)
        ids: Any = raw.lrange(f"rq:queue:{spec.queue}", 0, -1)
        [id] = ids
        key = b"rq:job:" + id
        keys = {b"JOB" if key == name else name: raw.type(name) for name in raw.scan_iter()}
        fields = raw.hgetall(key)
        found.append((keys, raw.ttl(key), raw.smembers("rq:queues"), len(id), fields.keys()))
        found.append({name: value for name, value in fields.items() if name not in TIMES})
    assert found[:2] == found[2:]


def from_a_worker(connection: Redis):  # type: ignore[no-untyped-def]
    """The workers' way to enqueue, called like the API's."""

    async def enqueue(spec: JobSpec, *args: object, job_id: str | None) -> bool:
        return queues.enqueue(connection, spec, *args, job_id=job_id)  # type: ignore[arg-type]

    return enqueue


async def test_rqs_own_worker_runs_it(app: FastAPI, raw: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    # Its handlers of signals would stay in this process.
    monkeypatch.setattr(SimpleWorker, "_install_signal_handlers", lambda self: None)
    spec = JobSpec("operator.add", QueueName.CREATE, 10, (1,))
    assert await services_of(app).jobs.enqueue(spec, 20, 22, job_id="sum")
    queue = Queue(QueueName.CREATE, connection=raw, serializer=JSONSerializer)
    # On this thread: a worker's time limits need the main one.
    SimpleWorker([queue], connection=raw, serializer=JSONSerializer).work(burst=True, logging_level="WARNING")
    assert Job.fetch("sum", connection=raw, serializer=JSONSerializer).return_value() == 42


async def test_same_id_is_enqueued_once_and_counted(app: FastAPI) -> None:
    jobs = services_of(app).jobs
    assert await jobs.enqueue(CREATE_MEETING, "default", "host#0@1", job_id="once")
    assert not await jobs.enqueue(CREATE_MEETING, "default", "host#0@1", job_id="once")
    counts = await jobs.counts()
    assert counts.keys() == set(QueueName)
    assert (counts[QueueName.CREATE].waiting, counts[QueueName.CREATE].failed) == (1, 0)


async def test_jobs_wanted_at_the_same_time_share_a_round_trip(app: FastAPI, redis: Redis) -> None:
    jobs = services_of(app).jobs
    await jobs.enqueue(WEBHOOK_EVENT, {}, job_id="first")
    before = calls(redis)
    entered = await asyncio.gather(*(jobs.enqueue(WEBHOOK_EVENT, {}, job_id=f"job-{n % 50}") for n in range(BATCH + 1)))
    assert sum(entered) == 50, "each id once"
    asked = difference(redis, before)
    assert (asked["evalsha"], asked["sadd"]) == (BATCH + 1, 2), "one round trip for a batch, one for the rest"
    assert redis.llen("rq:queue:webhooks") == 51


async def test_server_that_lost_its_scripts_takes_jobs(app: FastAPI, redis: Redis) -> None:
    redis.script_flush()
    jobs = services_of(app).jobs
    entered = await asyncio.gather(*(jobs.enqueue(CREATE_MEETING, "default", f"host#0@{n}") for n in range(3)))
    assert entered == [True] * 3
    assert redis.llen("rq:queue:create") == 3


async def test_failure_reaches_everybody_and_the_next_job_is_taken(app: FastAPI, redis: Redis) -> None:
    jobs = services_of(app).jobs
    redis.set("rq:queues", "damaged")
    failed = await asyncio.gather(
        *(jobs.enqueue(CREATE_MEETING, "default", f"host#0@{n}") for n in range(2)), return_exceptions=True
    )
    assert [type(error).__name__ for error in failed] == ["PoolDamaged"] * 2
    redis.delete("rq:queues")
    assert await jobs.enqueue(CREATE_MEETING, "default", "host#0@1")


async def test_job_that_was_given_up_before_it_was_sent_is_not_there(app: FastAPI, redis: Redis) -> None:
    jobs = services_of(app).jobs
    given_up = asyncio.create_task(jobs.enqueue(CREATE_MEETING, "default", "host#0@1"))
    await asyncio.sleep(0)  # it is wanted, and nothing has gone out
    given_up.cancel()
    assert await jobs.enqueue(CREATE_MEETING, "default", "host#0@2")
    assert redis.llen("rq:queue:create") == 1


async def test_redis_that_is_away_is_said_so(app: FastAPI, redis: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    async def lost(*_: object) -> None:
        raise redis_py.ConnectionError("redis://:password@host")

    jobs = services_of(app).jobs
    with monkeypatch.context() as patch:
        patch.setattr(type(jobs), "_pipeline", lost)
        with pytest.raises(BrokerUnavailable) as raised:
            await jobs.enqueue(CREATE_MEETING, "default", "host#0@1")
    assert "password" not in str(raised.value)
