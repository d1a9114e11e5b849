"""Is everybody there who does the work: a worker on every queue, a scheduler, and jobs that do not pile up?"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from redis import Redis
from rq import Worker
from rq.serializers import JSONSerializer
from rq.worker import WorkerStatus
from rq_scheduler import Scheduler

from broker.client import translated
from broker.doctor import Finding, Level
from broker.jobs import QueueName
from broker.settings import Settings
from workers.queues import JsonJob, JsonQueue, open_queue
from workers.run import WORKER_TTL_S
from workers.schedule import job_id, periodic

LONGEST_WAIT_S = 60.0
"""A job that waits longer has lost somebody's patience."""
LATE_S = 30.0
"""A periodic job that is overdue by more than this was not seen by any scheduler."""
SILENT_S = WORKER_TTL_S + 15.0
"""A worker that is idle and says nothing for so long is dead."""


def check_processes(settings: Settings, connection: Redis) -> Iterator[Finding]:
    """Workers and backlog of every queue, then the scheduler.

    Args:
        settings: the periods of the periodic jobs.
        connection: a client that does not decode responses.

    Raises:
        BrokerUnavailable: Redis did not answer.
    """
    with translated("doctor"):
        for name in queues(settings):
            yield from _check_queue(open_queue(name, connection))
        yield from _check_schedule(settings, connection)


def queues(settings: Settings) -> tuple[QueueName, ...]:
    """The queues that somebody has to work on."""
    return tuple(name for name in QueueName if name is not QueueName.NOTIFY or settings.notify_url)


def _check_queue(queue: JsonQueue) -> Iterator[Finding]:
    alive, waiting = _alive(queue), queue.count
    do = f"start 'zoompool worker {queue.name}'; its log says why it stopped"
    if not alive:
        says = f"nobody works on queue {queue.name}; {waiting} jobs wait"
        yield Finding("workers.alive", Level.FAILED, says, do)
    else:
        yield Finding("workers.alive", Level.OK, f"queue {queue.name}: {alive} at work, {waiting} jobs wait")
    waited_s = _longest_wait_s(queue)
    if alive and waited_s > LONGEST_WAIT_S:
        says = f"the first job of queue {queue.name} has waited for {waited_s:.0f} s"
        yield Finding("workers.backlog", Level.FAILED, says, f"start more of 'zoompool worker {queue.name}'")
    failed = queue.failed_job_registry.get_job_count(cleanup=False)
    if failed:
        says = f"{failed} jobs of queue {queue.name} failed for good; they are kept for a while"
        yield Finding("workers.failed", Level.WARNING, says, "search the worker's log for 'job failed'")


def _alive(queue: JsonQueue) -> int:
    found = Worker.all(queue=queue, job_class=JsonJob, queue_class=JsonQueue, serializer=JSONSerializer)
    now = datetime.now(UTC)
    return sum(
        worker.get_state() == WorkerStatus.BUSY
        or (worker.last_heartbeat is not None and (now - worker.last_heartbeat).total_seconds() < SILENT_S)
        for worker in found
    )


def _longest_wait_s(queue: JsonQueue) -> float:
    job = queue.fetch_job(ids[0]) if (ids := queue.get_job_ids(0, 1)) else None
    if job is None or job.enqueued_at is None:
        return 0.0
    return (datetime.now(UTC) - job.enqueued_at.replace(tzinfo=UTC)).total_seconds()


def _check_schedule(settings: Settings, connection: Redis) -> Iterator[Finding]:
    check, do = "scheduler.jobs", "start 'zoompool scheduler'; of several, one is active"
    now_s = datetime.now(UTC).timestamp()
    fine = []
    for spec, period_s in periodic(settings):
        id = job_id(spec)
        due_s: Any = connection.zscore(Scheduler.scheduled_jobs_key, id)
        if due_s is None or not JsonJob.exists(id, connection=connection):
            yield Finding(check, Level.FAILED, f"{spec.function} is not in the schedule", do)
        elif now_s - due_s > LATE_S:
            says = f"{spec.function} is overdue by {now_s - due_s:.0f} s: no scheduler is at work"
            yield Finding(check, Level.FAILED, says, do)
        else:
            fine.append(f"{spec.function.rsplit('.', 1)[-1]} every {period_s} s")
    if fine:
        yield Finding(check, Level.OK, f"scheduled: {', '.join(fine)}")
