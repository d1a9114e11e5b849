"""Queues and jobs as RQ knows them: JSON only, because whoever can write to Redis could run code in a pickle worker."""

from __future__ import annotations

from typing import Any

from redis import Redis
from rq import Queue, Retry
from rq.exceptions import DuplicateJobError
from rq.job import Job
from rq.serializers import JSONSerializer

from broker.jobs import JobSpec, QueueName

MAINTENANCE_LOCK_S = 60
"""Much longer than cleaning the registries of a queue takes."""


class JsonJob(Job):
    """A job that is JSON even where a library forgets to say so (rq-scheduler has no setting for it)."""

    def __init__(self, id: str | None = None, connection: Redis | None = None, serializer: Any = None) -> None:
        super().__init__(id, connection, serializer or JSONSerializer)


class JsonQueue(Queue):
    """A queue of such jobs."""

    job_class = JsonJob

    def __init__(self, name: str = "default", connection: Redis | None = None, **options: Any) -> None:
        options["serializer"] = options.get("serializer") or JSONSerializer
        super().__init__(name, connection, **options)

    def acquire_maintenance_lock(self) -> bool:
        """Take the right to bring back jobs of dead workers.

        RQ's own lock lives for 15 minutes, and for so long nobody would do it after a worker was killed while it did.
        """
        return bool(self.connection.set(self.registry_cleaning_key, 1, nx=True, ex=MAINTENANCE_LOCK_S))


def enqueue(connection: Redis, spec: JobSpec, *args: str | int | dict[str, Any], job_id: str | None = None) -> bool:
    """Put a job in its queue.

    Args:
        connection: a client that does not decode responses.
        spec: which job.
        args: ids only; they are stored in the clear.
        job_id: makes the job the only one with this id until its result expires.

    Returns:
        Whether it was enqueued: False when a job with this id exists already.
    """
    try:
        JsonQueue(spec.queue, connection=connection).enqueue_call(**spec.call(args, job_id, Retry))
    except DuplicateJobError:
        return False
    return True


def open_queue(name: QueueName, connection: Redis) -> JsonQueue:
    """Return the queue `name`."""
    return JsonQueue(name, connection=connection)
