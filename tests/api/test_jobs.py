"""The API and the workers enqueue a job in the same way, though neither imports the other's code."""

from __future__ import annotations

import pytest
from fastapi import FastAPI
from redis import Redis
from rq.job import Job
from rq.serializers import JSONSerializer

from broker.jobs import ALL, CREATE_MEETING, JobSpec, QueueName
from broker.redis import connect
from tests.api.acting import services_of
from workers import queues


@pytest.mark.parametrize("spec", ALL, ids=lambda spec: spec.function)
async def test_job_is_the_same_whoever_enqueues_it(app: FastAPI, spec: JobSpec) -> None:
    connection = connect(services_of(app).settings, decode_responses=False)
    try:
        assert await services_of(app).jobs.enqueue(spec, "default", "host#0@1", job_id="from-the-api")
        assert queues.enqueue(connection, spec, "default", "host#0@1", job_id="from-a-worker")
        assert stored(connection, "from-the-api") == stored(connection, "from-a-worker")
    finally:
        connection.close()


def stored(connection: Redis, id: str) -> dict[str, object]:
    """A job as RQ keeps it, but for its times."""
    job = Job.fetch(id, connection=connection, serializer=JSONSerializer)
    names = ("func_name", "args", "kwargs", "timeout", "result_ttl", "failure_ttl", "description", "origin",
             "retries_left", "retry_intervals")  # fmt: skip
    return {name: getattr(job, name) for name in names}


async def test_same_id_is_enqueued_once_and_counted(app: FastAPI) -> None:
    jobs = services_of(app).jobs
    assert await jobs.enqueue(CREATE_MEETING, "default", "host#0@1", job_id="once")
    assert not await jobs.enqueue(CREATE_MEETING, "default", "host#0@1", job_id="once")
    counts = await jobs.counts()
    assert counts.keys() == set(QueueName)
    assert (counts[QueueName.CREATE].waiting, counts[QueueName.CREATE].failed) == (1, 0)
