"""A queue of jobs that only wait and fail, and concurrent workers on it: on threads, or as processes of their own."""

from __future__ import annotations

import itertools
import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from redis import Redis
from rq import Retry
from rq.job import Job, JobStatus
from rq.serializers import JSONSerializer

from broker.jobs import QueueName
from broker.secrets import new_key
from broker.testing.process import Process
from tests.waiting import wait_until
from tests.workers import jobs
from workers.concurrent import ConcurrentWorker
from workers.queues import JsonJob, JsonQueue, open_queue

ROOT = Path(__file__).parents[2]


class Site:
    """The queue, what is in it, and who works on it."""

    def __init__(self, connection: Redis, folder: Path) -> None:
        self.connection = connection
        self.queue: JsonQueue = open_queue(QueueName.CREATE, connection)
        self._folder = folder
        self._numbers = itertools.count(1)
        self._stops: list[Any] = []

    def enqueue(self, function: Any, *args: Any, **options: Any) -> Job:
        """Put a job in the queue; `retries` are the pauses before each retry."""
        retries = options.pop("retries", None)
        retry = Retry(len(retries), list(retries)) if retries else None
        name = f"{jobs.__name__}.{function.__name__}"
        options = {"timeout": 30, "result_ttl": 600, "failure_ttl": 600, "description": name, **options}
        return self.queue.enqueue_call(name, args=args, retry=retry, **options)

    def worker(self, **options: Any) -> ConcurrentWorker:
        """A worker that does nothing yet."""
        given = {"connection": self.connection, "serializer": JSONSerializer, "log_job_description": False}
        return ConcurrentWorker([self.queue], **{**given, **options})

    def at_work(self, **options: Any) -> ConcurrentWorker:
        """A worker on a thread, until the test ends."""
        worker = self.worker(**options)
        thread = threading.Thread(target=worker.work, kwargs={"logging_level": "CRITICAL"})
        thread.start()
        self._stops.append((worker, thread))
        return worker

    def process(self, *arguments: str, **settings: Any) -> Process:
        """A worker as a process of its own, until the test ends."""
        name = f"worker-{next(self._numbers)}"
        changes = {f"ZOOMPOOL_{key.upper()}": str(value) for key, value in settings.items()}
        process = Process(
            name,
            [sys.executable, "-m", "workers", QueueName.CREATE, *arguments],
            environment={**os.environ, "PYTHONPATH": str(ROOT), **changes},
            log=self._folder / f"{name}.log",
        )
        self._stops.append((process, None))
        process.start()
        return process

    def run_all(self, **options: Any) -> None:
        """Work until nothing is left in the queue."""
        self.worker(**options).work(burst=True, logging_level="CRITICAL")

    def open_gate(self) -> None:
        """Let all jobs end that wait for it."""
        self.connection.set(jobs.GATE, 1)

    def starts(self) -> list[str]:
        """The ids of the jobs that noted their start, each time."""
        entries: Any = self.connection.lrange(jobs.STARTED, 0, -1)
        return [entry.decode() for entry in entries]

    def wait_started(self, count: int) -> None:
        """Wait until so many starts are noted."""
        wait_until(lambda: len(self.starts()) >= count, f"{count} jobs were started")

    def status(self, job: Job) -> JobStatus:
        """The job's status in Redis."""
        return JsonJob.fetch(job.id, connection=self.connection).get_status()

    def wait_status(self, job: Job, status: JobStatus, timeout_s: float = 15) -> None:
        """Wait until the job has this status."""
        wait_until(lambda: self.status(job) is status, f"{job.func_name} is {status}", timeout_s)

    def registries(self) -> dict[str, list[str]]:
        """The ids in each registry that has some, the queue, and what was popped but not started."""
        queue = self.queue
        found = {
            "queued": queue.job_ids,
            "popped": queue.intermediate_queue.get_job_ids(),
            "started": queue.started_job_registry.get_job_ids(cleanup=False),
            "finished": queue.finished_job_registry.get_job_ids(cleanup=False),
            "failed": queue.failed_job_registry.get_job_ids(cleanup=False),
            "scheduled": queue.scheduled_job_registry.get_job_ids(cleanup=False),
            "deferred": queue.deferred_job_registry.get_job_ids(cleanup=False),
        }
        return {name: ids for name, ids in found.items() if ids}

    def close(self) -> None:
        """End all workers."""
        self.open_gate()
        for worker, thread in self._stops:
            if thread is None:
                worker.stop()
                continue
            worker.request_stop()
            thread.join(30)
            assert not thread.is_alive(), "a worker did not stop"


@pytest.fixture
def site(redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """Nobody works yet."""
    for name, value in {
        "REDIS_URL": redis_url,
        "ZOOMPOOL_ENVIRONMENT": "development",
        "ZOOMPOOL_SECRET_KEYS": new_key(),
    }.items():
        monkeypatch.setenv(name, value)
    with Redis.from_url(redis_url, socket_timeout=20) as connection:
        site = Site(connection, tmp_path)
        yield site
        site.close()
