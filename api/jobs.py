"""Puts jobs into their queues, by name: the API knows no code of theirs."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

from redis import Redis
from rq import Queue, Retry
from rq.exceptions import DuplicateJobError
from rq.serializers import JSONSerializer

from broker.client import translated
from broker.jobs import JobSpec, QueueName


@dataclass(frozen=True)
class QueueCounts:
    """How full a queue is, by the registries of RQ."""

    waiting: int
    started: int
    scheduled: int
    failed: int


class Jobs:
    """The way to the queues.

    Args:
        connection: a blocking client that does not decode responses; used on threads.
    """

    def __init__(self, connection: Redis) -> None:
        self._connection = connection

    async def enqueue(self, spec: JobSpec, *args: Any, job_id: str | None = None) -> bool:
        """Put a job in its queue; False if one with this id is there already.

        Raises:
            BrokerUnavailable: Redis did not take it, or it is not known whether it did.
        """
        return await asyncio.to_thread(self._enqueue, spec, args, job_id)

    def _enqueue(self, spec: JobSpec, args: tuple[Any, ...], job_id: str | None) -> bool:
        with translated("enqueue"):
            try:
                self._queue(spec.queue).enqueue_call(**spec.call(args, job_id, Retry))
            except DuplicateJobError:
                return False
        return True

    async def counts(self) -> dict[QueueName, QueueCounts]:
        """How full the queues are.

        Raises:
            BrokerUnavailable: Redis did not answer.
        """
        return await asyncio.to_thread(lambda: {name: self._counts(name) for name in QueueName})

    def _counts(self, name: QueueName) -> QueueCounts:
        queue = self._queue(name)
        with translated("queues"):
            return QueueCounts(
                waiting=queue.count,
                started=queue.started_job_registry.get_job_count(cleanup=False),
                scheduled=queue.scheduled_job_registry.get_job_count(cleanup=False),
                failed=queue.failed_job_registry.get_job_count(cleanup=False),
            )

    def _queue(self, name: QueueName) -> Queue:
        return Queue(name, connection=self._connection, serializer=JSONSerializer)

    def close(self) -> None:
        """Close the connections."""
        self._connection.close()
