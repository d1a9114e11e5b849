"""Puts jobs into RQ's queues, by name: the API knows no code of theirs.

What is written is RQ's: its classes make the job, its own script enters it. Only the way there is ours, because RQ's is
blocking and takes two round trips for one job. Here jobs that are wanted at the same time go out together, and while
one batch is under way the next one gathers.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import redis.asyncio
from redis import Redis
from redis.asyncio.client import Pipeline
from redis.exceptions import NoScriptError
from rq import Queue, Retry
from rq.job import Job
from rq.results import Result
from rq.scripts import UNIQUE_ENQUEUE_SCRIPT
from rq.serializers import JSONSerializer
from rq.utils import now

from broker.client import translated
from broker.jobs import JobSpec, QueueName

BATCH = 100
"""Most jobs of one round trip: the server is busy with it for about two milliseconds."""

_SHA = hashlib.sha1(UNIQUE_ENQUEUE_SCRIPT.encode(), usedforsecurity=False).hexdigest()
"""By which Redis knows RQ's script: unless the job's hash exists, write it and push the job's id, or neither."""

FIRST_LOOK_S = 0.05
LONGEST_LOOK_S = 0.5
"""Pauses between two looks whether a job has ended: the first one, and what they grow to."""


@dataclass(frozen=True)
class Ended:
    """How a job ended.

    Attributes:
        succeeded: false if it raised to the last, or was stopped.
        value: what it returned.
    """

    succeeded: bool
    value: Any


@dataclass(frozen=True)
class QueueCounts:
    """How full a queue is, by the registries of RQ."""

    waiting: int
    started: int
    scheduled: int
    failed: int


@dataclass(frozen=True)
class _Wanted:
    """A job on its way, and who waits to hear that it is there."""

    queue: Queue
    arguments: tuple[Any, ...]
    done: asyncio.Future[bool] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class Jobs:
    """The way to the queues.

    Args:
        commands: carries the jobs.
        blocking: a client that does not decode responses; counts queues, on threads.
    """

    def __init__(self, commands: redis.asyncio.Redis, blocking: Redis) -> None:
        self._commands = commands
        self._blocking = blocking
        self._queues = {name: Queue(name, connection=blocking, serializer=JSONSerializer) for name in QueueName}
        self._wanted: list[_Wanted] = []
        self._sending: asyncio.Task[None] | None = None

    async def enqueue(self, spec: JobSpec, *args: Any, job_id: str | None = None) -> bool:
        """Put a job in its queue; False if one with this id is there already.

        Who is cancelled before it was sent has not enqueued it; afterwards, it is there.

        Raises:
            BrokerUnavailable: Redis did not take it, or it is not known whether it did.
        """
        queue = self._queues[spec.queue]
        wanted = _Wanted(queue, _entry(queue, spec.call(args, job_id, Retry)))
        self._wanted.append(wanted)
        if self._sending is None:
            self._sending = asyncio.create_task(self._send(), name="enqueue jobs")
        # A job without an id of its own cannot be there before, unless its first answer got lost on the way back.
        return await wanted.done or job_id is None

    async def _send(self) -> None:
        """Send all that is wanted; a failure is everybody's whose job was in that batch."""
        try:
            while self._wanted:
                # Without those who gave up: while Redis is away they would pile up.
                waiting = [wanted for wanted in self._wanted if not wanted.done.cancelled()]
                batch, self._wanted = waiting[:BATCH], waiting[BATCH:]
                try:
                    with translated("enqueue"):
                        entered = await self._enter(batch)
                except Exception as error:
                    entered = [error] * len(batch)
                for wanted, answer in zip(batch, entered, strict=True):
                    if wanted.done.cancelled():
                        continue
                    if isinstance(answer, Exception):
                        wanted.done.set_exception(answer)
                    else:
                        wanted.done.set_result(bool(answer))
        finally:
            self._sending = None

    async def _enter(self, batch: Sequence[_Wanted]) -> list[Any]:
        """One round trip. Each job is entered whole or not at all, and twice is once, so that it may be repeated."""
        try:
            return await self._pipeline(batch, ("EVALSHA", _SHA))
        except NoScriptError:
            # A new server, or SCRIPT FLUSH. The jobs before the error are there, and are recognised as such.
            return await self._pipeline(batch, ("EVAL", UNIQUE_ENQUEUE_SCRIPT))

    async def _pipeline(self, batch: Sequence[_Wanted], how: tuple[str, str]) -> list[Any]:
        async with self._commands.pipeline(transaction=False) as pipe:
            queues = {wanted.queue.key for wanted in batch}
            # First, as RQ does: a queue that nobody has heard of would be looked after by nobody.
            pipe.sadd(Queue.redis_queues_keys, *queues)
            for wanted in batch:
                pipe.execute_command(*how, *wanted.arguments)
            answers = await pipe.execute(raise_on_error=False)
        for answer in answers:
            if isinstance(answer, Exception):
                raise answer  # as it is: raised by the pipeline, it would quote the job
        return list(answers[1:])

    async def ended(self, job_id: str, wait_s: float) -> Ended | None:
        """How a job ended, as soon as it has; None if it has not within `wait_s`. A failure with a retry is no end.

        It is looked at again and again, for the few who wait for a job itself: a read that blocks would keep a
        connection from everybody else for as long.

        Raises:
            BrokerUnavailable: Redis did not answer.
        """
        loop = asyncio.get_running_loop()
        end_s = loop.time() + wait_s
        pause_s = FIRST_LOOK_S
        while True:
            found = await asyncio.to_thread(self._ended, job_id)
            left_s = end_s - loop.time()
            if found is not None or left_s <= 0:
                return found
            await asyncio.sleep(min(pause_s, left_s))
            pause_s = min(pause_s * 2, LONGEST_LOOK_S)

    def _ended(self, job_id: str) -> Ended | None:
        with translated("end of a job"):
            result = Job(job_id, connection=self._blocking, serializer=JSONSerializer).latest_result()
        if result is None or result.type is Result.Type.RETRIED:
            return None
        return Ended(result.type is Result.Type.SUCCESSFUL, result.return_value)

    def ask_backlog(self, pipe: Pipeline, name: QueueName) -> None:
        """Add to a pipeline the questions how many jobs of a queue wait and how many run."""
        queue = self._queues[name]
        pipe.llen(queue.key)
        pipe.zcard(queue.started_job_registry.key)

    async def counts(self) -> dict[QueueName, QueueCounts]:
        """How full the queues are.

        Raises:
            BrokerUnavailable: Redis did not answer.
        """
        return await asyncio.to_thread(lambda: {name: self._counts(queue) for name, queue in self._queues.items()})

    def _counts(self, queue: Queue) -> QueueCounts:
        with translated("queues"):
            return QueueCounts(
                waiting=queue.count,
                started=queue.started_job_registry.get_job_count(cleanup=False),
                scheduled=queue.scheduled_job_registry.get_job_count(cleanup=False),
                failed=queue.failed_job_registry.get_job_count(cleanup=False),
            )

    async def aclose(self) -> None:
        """Let the last jobs out and close the blocking connections."""
        if self._sending is not None:
            with contextlib.suppress(Exception):
                await self._sending
        self._blocking.close()


def _entry(queue: Queue, call: dict[str, Any]) -> tuple[Any, ...]:
    """Keys and arguments of RQ's script for a new job that is as RQ would make it."""
    options = {name: value for name, value in call.items() if name != "unique"}
    job = queue.create_job(**options)
    job.enqueued_at = now()
    fields = [part for name, value in job.to_dict().items() if value is not None for part in (name, value)]
    no_ttl, at_the_end = -1, "R"
    return (2, job.key, queue.key, job.id, at_the_end, no_ttl, *fields)
