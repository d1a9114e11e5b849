"""Puts jobs into their queues, by name: the API knows no code of theirs."""

from __future__ import annotations

import asyncio
from typing import Any

from redis import Redis
from rq import Queue, Retry
from rq.exceptions import DuplicateJobError
from rq.serializers import JSONSerializer

from broker.client import translated
from broker.jobs import JobSpec


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
            BrokerUnavailable: Redis did not take it.
        """
        return await asyncio.to_thread(self._enqueue, spec, args, job_id)

    def _enqueue(self, spec: JobSpec, args: tuple[Any, ...], job_id: str | None) -> bool:
        queue = Queue(spec.queue, connection=self._connection, serializer=JSONSerializer)
        retry = Retry(len(spec.retry_after_s), list(spec.retry_after_s)) if spec.retry_after_s else None
        with translated("enqueue"):
            try:
                queue.enqueue_call(
                    spec.function,
                    args=args,
                    timeout=spec.timeout_s,
                    result_ttl=spec.result_ttl_s,
                    failure_ttl=spec.failure_ttl_s,
                    description=spec.function,
                    retry=retry,
                    job_id=job_id,
                    unique=job_id is not None,
                )
            except DuplicateJobError:
                return False
        return True
