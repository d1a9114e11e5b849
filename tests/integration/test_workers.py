"""Every job runs under every worker: ours, which runs many at a time with shared connections, and RQ's own two."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from redis import Redis
from rq.results import Result

from broker import jobs
from broker.jobs import JobSpec, QueueName
from broker.models import Phase
from broker.testing.process import Process
from broker.zoom.webhooks import WebhookEvent
from tests.integration.conftest import School
from tests.waiting import wait_until_async
from workers.context import Context, open_context, share_context
from workers.queues import JsonJob, enqueue, open_queue

ROOT = Path(__file__).parents[2]
RQ = ["-m", "rq.cli", "worker", "--burst", "--serializer", "rq.serializers.JSONSerializer", "--worker-class"]
WORKERS = {
    "ours": ["-m", "workers"],
    "ours, one at a time": ["-m", "workers", "--stock"],
    "rq simple": [*RQ, "rq.worker.SimpleWorker"],
    "rq fork": [*RQ, "rq.worker.Worker"],
}

Run = Callable[..., Awaitable[list[Any]]]


@pytest.fixture(params=list(WORKERS.values()), ids=list(WORKERS))
def run(request: pytest.FixtureRequest, school: School, redis_url: str, tmp_path: Path) -> Run:
    """Enqueues jobs of one queue, runs them with a worker process, and returns what they returned."""

    async def run(queue: QueueName, *calls: tuple[JobSpec, tuple[Any, ...]]) -> list[Any]:
        given = [sys.executable, *request.param]
        given += ["--url", redis_url, queue] if "--burst" in given else [queue]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        process = Process("worker", given, environment=environment, log=tmp_path / "worker.log")
        with Redis.from_url(redis_url) as connection:
            ids = [f"job-{number}-{os.urandom(4).hex()}" for number, _ in enumerate(calls)]
            for id, (spec, args) in zip(ids, calls, strict=True):
                assert spec.queue is queue
                enqueue(connection, spec, *args, job_id=id)

            async def done() -> bool:
                return bool(open_queue(queue, connection).finished_job_registry.get_job_count() >= len(ids))

            process.start()
            try:
                await wait_until_async(done, f"the jobs are finished; {tmp_path / 'worker.log'} says why not", 40)
            finally:
                await asyncio.to_thread(process.stop)
            open_queue(queue, connection).finished_job_registry.cleanup(timestamp=2**40)
            results = [JsonJob.fetch(id, connection=connection).latest_result() for id in ids]
        assert all(result is not None and result.type is Result.Type.SUCCESSFUL for result in results)
        return [result.return_value for result in results if result is not None]

    return run


async def test_every_job_runs(school: School, run: Run) -> None:
    lease = await school.claim()
    pool, id = lease.pool, str(lease.id)
    event = dataclasses.asdict(WebhookEvent("meeting.sharing_started", meeting_id=1))
    assert await run(QueueName.CREATE, (jobs.CREATE_MEETING, (pool, id))) == ["ready"]
    ready = await school.look(lease.id)
    assert ready is not None
    assert ready.phase is Phase.READY
    assert [ready.meeting_id] == school.meetings()
    assert await run(QueueName.CREATE, (jobs.REFRESH_START_URL, (pool, id))) == ["refreshed"]
    assert await run(QueueName.CREATE, (jobs.END_MEETING, (pool, id, "ended_by_owner", "algebra"))) == ["released"]
    (imported,) = await run(QueueName.CREATE, (jobs.IMPORT_ACCOUNTS, (pool, "default", True)))
    assert len(imported["accounts"]) == 2
    assert school.meetings() == []
    assert await run(
        QueueName.WEBHOOKS,
        (jobs.WEBHOOK_EVENT, (event,)),
        (jobs.DELETE_MEETING, ("default", ready.meeting_id)),
    ) == ["not for us", "deleted"]
    periodic = [spec for spec in jobs.ALL if spec.queue is QueueName.PERIODIC]
    assert len(await run(QueueName.PERIODIC, *((spec, ()) for spec in periodic))) == len(periodic)
    notification = {"id": "n", "type": "lesson.ready", "at_ms": 1, "data": {}}
    assert await run(QueueName.NOTIFY, (jobs.RELAY, ()), (jobs.NOTIFY, (notification,))) == ["nobody to tell"] * 2


async def test_jobs_of_one_worker_share_a_context(school: School) -> None:
    async def job() -> Context:
        async with open_context() as context:
            return context

    async with share_context(school.settings) as shared:
        assert await asyncio.gather(*(asyncio.create_task(job()) for _ in range(3))) == [shared] * 3
        await shared.redis.ping()
    assert await job() is not shared


async def test_jobs_elsewhere_open_their_own(school: School) -> None:
    async with open_context() as one, open_context() as other:
        assert one is not other
        assert await one.enqueue(jobs.REAP)
