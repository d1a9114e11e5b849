"""What RQ has to know about jobs, written for many jobs at a time instead of one.

RQ's own worker makes about twenty round trips for a job. Here a batch of jobs is popped, started and finished in five,
with the same keys and fields: RQ's own classes write them, only into one pipeline. What is rare (failures, retries,
callbacks, dependants, rate limits) is left to RQ's own methods, job by job.

Every method blocks, so they are called on threads, and those that write about running jobs never two at a time.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from datetime import timedelta
from typing import Any

import structlog
from redis.client import Pipeline
from redis.exceptions import ConnectionError, ResponseError, TimeoutError, WatchError
from rq import Queue, Retry, worker_registration
from rq.callbacks import execute_stopped_callback
from rq.executions import Execution
from rq.job import Job, JobStatus
from rq.job_lifecycle import call_exception_handlers
from rq.suspension import is_suspended
from rq.timeouts import TimerDeathPenalty
from rq.utils import as_text, now
from rq.worker import BaseWorker, WorkerStatus

from workers.flight import Outcome, Run
from workers.queues import JsonJob, JsonQueue

log = structlog.get_logger(__name__)

BATCH = 50
"""Most jobs of one transaction: it holds up everybody else at Redis for about a millisecond."""
JOB_TTL_S = 30
"""How long RQ believes that a job runs without hearing of it; then another worker's maintenance brings it back."""
UNREACHABLE = (ConnectionError, TimeoutError)

Popped = tuple[str, dict[bytes, bytes] | None]
"""The id of a job that was taken from its queue, and what is stored of it, if that was read already."""


class BatchWorker(BaseWorker):
    """The books of a worker on one queue; what runs the jobs is up to the subclass."""

    job_class = JsonJob
    queue_class: type[Queue] = JsonQueue
    # For callbacks. The usual one works with signals, on the main thread only.
    death_penalty_class = TimerDeathPenalty

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        # Popped, but not yet started, because Redis failed in between.
        self._popped: list[Popped] = []
        self._paused = False
        self._showing = threading.Lock()

    @property
    def queue(self) -> Queue:
        """The one queue: a worker on two could lose a job between pop and start."""
        (queue,) = self.queues
        return queue

    def get_heartbeat_ttl(self, job: Job, working_time: float = 0.0) -> int:
        """How long a started job is believed to run until its next heartbeat, in seconds."""
        return JOB_TTL_S

    # Taking jobs

    def take(self, most: int, block_s: int | None) -> list[Run]:
        """Pop up to `most` jobs and enter them as started.

        A job that was popped when Redis failed is started by the next call. Should this process die in between, RQ's
        maintenance finds it in the intermediate queue. While all workers are suspended (`rq suspend`), there are none.

        Args:
            most: at least one.
            block_s: how long to wait for the first; None: not at all.

        Raises:
            RedisError: Redis failed.
        """
        if self._is_paused():
            time.sleep(block_s or 0)
            return []
        if self._popped:
            # What was read of them may have changed since.
            self._popped = [(id, None) for id, _ in self._popped]
        else:
            self._pop(min(most, BATCH), block_s)
        if not self._popped:
            return []
        runs = self._start(self._popped)
        self._popped = []
        return runs

    def _is_paused(self) -> bool:
        before, self._paused = self._paused, bool(is_suspended(self.connection))
        if before != self._paused:
            self.show_state()
        return self._paused

    def show_state(self, pipeline: Pipeline | None = None) -> None:
        """Write the state that others see; with a pipeline, by executing it.

        Both threads do, so nobody may write between another one's look and its writing.
        """
        with self._showing:
            busy = WorkerStatus.BUSY if self.executions else WorkerStatus.IDLE
            self.set_state(WorkerStatus.SUSPENDED if self._paused else busy, pipeline=pipeline)
            if pipeline is not None:
                pipeline.execute()

    def _pop(self, most: int, block_s: int | None) -> None:
        source, aside = self.queue.key, self.queue.intermediate_queue_key
        if block_s is None:
            first = self.connection.lmove(source, aside)
        else:
            first = self.connection.blmove(source, aside, block_s)
        if first is None:
            return
        id = as_text(first)
        self._popped.append((id, None))
        with self.connection.pipeline(transaction=False) as pipeline:
            pipeline.llen(source)
            # Often it is the only one, and then this is all that there is to ask.
            pipeline.hgetall(self.job_class.key_for(id))
            waiting, fields = pipeline.execute()
            self._popped[-1] = (id, fields)
        if more := min(most - 1, waiting):
            with self.connection.pipeline(transaction=False) as pipeline:
                for _ in range(more):
                    pipeline.lmove(source, aside)
                self._popped += [(as_text(id), None) for id in pipeline.execute() if id is not None]

    def _start(self, popped: Sequence[Popped]) -> list[Run]:
        with self.connection.pipeline(transaction=False) as pipeline:
            for id, fields in popped:
                if fields is None:
                    pipeline.hgetall(self.job_class.key_for(id))
            read = iter(pipeline.execute())
        stored = [(id, next(read) if fields is None else fields) for id, fields in popped]
        runs = []
        with self.connection.pipeline() as pipeline:
            for id, fields in stored:
                pipeline.lrem(self.queue.intermediate_queue_key, 1, id)
                job = self._restored(id, fields)
                if job is not None:
                    execution = Execution.create(job, JOB_TTL_S, pipeline, self.name)
                    job.prepare_for_execution(self.name, pipeline)
                    pipeline.persist(job.key)
                    runs.append(Run(job, execution))
                    self.executions[execution.id] = execution
            try:
                self.show_state(pipeline)
            except BaseException:
                for run in runs:
                    del self.executions[run.execution.id]
                raise
        for run in runs:
            # Imports its module here and not on the event loop; what is wrong with it shows when it is run.
            with suppress(Exception):
                _ = run.job.func
        return runs

    def _restored(self, id: str, fields: dict[bytes, bytes]) -> Job | None:
        """The job as it was stored; None if it was deleted meanwhile, or is none of ours."""
        if not fields:
            return None
        try:
            job = self.job_class(id, connection=self.connection, serializer=self.serializer)
            job.restore(fields)
        except Exception as error:
            log.error("a job cannot be read, it is left out", job=id, error=type(error).__name__)
            return None
        return job

    # While they run

    def beat(self, runs: Sequence[Run]) -> None:
        """Tell RQ that this worker lives and these jobs run.

        Raises:
            RedisError: Redis failed.
        """
        with self.connection.pipeline(transaction=False) as pipeline:
            self.heartbeat(pipeline=pipeline)
            marks = []
            for run in runs:
                run.execution.heartbeat(run.job.started_job_registry, JOB_TTL_S, pipeline)
                marks.append(len(pipeline))
                run.job.heartbeat(now(), JOB_TTL_S, pipeline=pipeline)
            created = pipeline.execute()
            # A heartbeat that creates its key came too late: the job was deleted meanwhile, or this process slept so
            # long that its own record lapsed.
            for run, mark in zip(runs, marks, strict=True):
                if created[mark]:
                    pipeline.delete(run.job.key)
            if created[0]:
                pipeline.hset(self.key, mapping=self.serialize())
                pipeline.expire(self.key, self.worker_ttl + 60)
                worker_registration.register(self, pipeline)
            self.show_state(pipeline)

    # When they have ended

    def settle(self, outcomes: list[Outcome]) -> None:
        """Record how these runs ended, and remove them from the list.

        Raises:
            ConnectionError, TimeoutError: of redis-py. The list has what is not recorded, and can be tried again.
        """
        plain = [outcome for outcome in outcomes if self._is_plain(outcome)]
        for first in range(0, len(plain), BATCH):
            batch = plain[first : first + BATCH]
            if self._settle_together(batch):
                self._settled(outcomes, batch)
        for outcome in outcomes[:]:
            try:
                self._settle_alone(outcome)
            except UNREACHABLE:
                raise
            except Exception as error:
                # It must not keep others from being recorded. Without heartbeats RQ takes it for abandoned and retries.
                log.error("the end of a job cannot be recorded", job=outcome.run.job.id, error=repr(error))
            self._settled(outcomes, [outcome])
        if not self.executions:
            self.show_state()

    def _settled(self, outcomes: list[Outcome], done: Iterable[Outcome]) -> None:
        for outcome in done:
            outcomes.remove(outcome)
            self.executions.pop(outcome.run.execution.id, None)

    def _is_plain(self, outcome: Outcome) -> bool:
        """Whether it succeeded, and nothing but its result follows from that."""
        job = outcome.run.job
        follow_ups = job.repeats_left or job.webhooks or job._success_callback_name or job.has_rate_limit
        keeps_result = job.get_result_ttl(self.default_result_ttl) != 0
        failed = outcome.error is not None or isinstance(outcome.value, Retry)
        return keeps_result and not failed and not follow_ups

    def _settle_together(self, outcomes: Sequence[Outcome]) -> bool:
        """Record plain successes in one transaction.

        Returns:
            Whether that was done. If not, nothing is recorded: a job depends on one of them, or one is refused.
        """
        dependants = [outcome.run.job.dependents_key for outcome in outcomes]
        with self.connection.pipeline() as pipeline:
            pipeline.watch(*dependants)
            if pipeline.exists(*dependants):
                return False
            pipeline.multi()
            worked = timedelta()
            for outcome in outcomes:
                worked += self._record_success(outcome, pipeline)
            pipeline.hincrby(self.key, "successful_job_count", len(outcomes))
            self.increment_total_working_time(worked, pipeline)
            try:
                pipeline.execute()
            except (WatchError, ResponseError):
                return False
        return True

    def _record_success(self, outcome: Outcome, pipeline: Pipeline) -> timedelta:
        """Add to `pipeline` what RQ records of a success; returns how long the job worked."""
        job, execution = outcome.run.job, outcome.run.execution
        job.ended_at = job.last_heartbeat = now()
        job._result = outcome.value
        result_ttl_s = job.get_result_ttl(self.default_result_ttl)
        job._handle_success(
            result_ttl_s,
            pipeline=pipeline,
            worker_name=self.name,
            execution_id=execution.id,
            execution_started_at=execution.created_at,
            execution_ended_at=job.ended_at,
        )
        job.cleanup(result_ttl_s, pipeline=pipeline, remove_from_queue=False)
        execution.delete(job=job, pipeline=pipeline)
        assert job.started_at is not None
        return job.ended_at - job.started_at

    def _settle_alone(self, outcome: Outcome) -> None:
        """Let RQ record it, with all that follows: retry or failure, callbacks, dependants."""
        job, execution, error = outcome.run.job, outcome.run.execution, outcome.error
        if outcome.stopped:
            self._settle_stopped(job, execution)
            return
        if error is None:
            try:
                self._finalize_success(job, self.queue, execution, outcome.value)
                return
            except UNREACHABLE:
                raise
            except Exception as failure:
                # Such as a callback that raised: then the job failed, as it does in RQ's own workers.
                error = failure
        self._finalize_failure(job, self.queue, execution, (type(error), error, error.__traceback__))

    def handle_exception(self, job: Job, *exc_info: Any) -> None:
        """Log a failure; RQ calls it for each. Its own line would hold the job's arguments."""
        log.error("job failed", job=job.id, function=job.description, retries=job.retries_left or 0, exc_info=exc_info)
        call_exception_handlers(self._exc_handlers, job, *exc_info)

    def _settle_stopped(self, job: Job, execution: Execution) -> None:
        log.warning("job stopped on request", job=job.id, function=job.description)
        job._status = JobStatus.STOPPED
        self.handle_execution_ended(job, self.queue, job.stopped_callback_timeout)
        try:
            execute_stopped_callback(job, self.death_penalty_class)
        except Exception as error:
            log.error("the callback of a stopped job raised", job=job.id, error=type(error).__name__)
        # RQ's sign that this failure was asked for; nobody else writes it meanwhile.
        self._stopped_job_id = job.id
        self.handle_job_failure(job, queue=self.queue, exc_string="Job stopped by user.", execution=execution)
