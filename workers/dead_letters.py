"""Notifications that the web app did not take for a day: kept for thirty days, to be looked at and sent again."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import uuid4

from redis import Redis
from rq.exceptions import NoSuchJobError
from rq.registry import FailedJobRegistry

from broker.client import translated
from broker.jobs import NOTIFY
from broker.notifications import Notification
from workers.queues import JsonJob, enqueue, open_queue


@dataclass(frozen=True)
class DeadLetter:
    """One notification that failed to its end.

    Attributes:
        job_id: by which it is sent again.
        message: what was to be told.
        failed_at: when the last attempt failed.
        error: how; the last line of it.
    """

    job_id: str
    message: Notification
    failed_at: datetime
    error: str


def dead_letters(connection: Redis) -> Iterator[DeadLetter]:
    """All dead letters, the oldest first.

    Args:
        connection: a client that does not decode responses.

    Raises:
        BrokerUnavailable: Redis did not answer.
    """
    with translated("dead letters"):
        for job_id in _registry(connection).get_job_ids():
            letter = _load(connection, job_id)
            if letter is not None:
                yield letter


def redeliver(connection: Redis, letter: DeadLetter) -> None:
    """Send a dead letter again, with all retries, under the notification's own id: the receiver may have taken it.

    Raises:
        BrokerUnavailable: Redis did not answer; repeating is safe.
    """
    with translated("redeliver"):
        # First the new job, then the old one goes: killed in between, the letter is told twice rather than never.
        fields = {"id": letter.message.id, "type": letter.message.type, "at_ms": letter.message.at_ms}
        enqueue(
            connection,
            NOTIFY,
            {**fields, "data": dict(letter.message.data)},
            job_id=f"{letter.message.id}-{uuid4().hex}",
        )
        _registry(connection).remove(letter.job_id, delete_job=True)


def _registry(connection: Redis) -> FailedJobRegistry:
    return FailedJobRegistry(queue=open_queue(NOTIFY.queue, connection), job_class=JsonJob)


def _load(connection: Redis, job_id: str) -> DeadLetter | None:
    try:
        job = JsonJob.fetch(job_id, connection=connection)
    except NoSuchJobError:
        return None
    if job.func_name != NOTIFY.function:
        return None
    result = job.latest_result()
    lines = ((result.exc_string if result else None) or "").strip().splitlines()
    failed_at = job.ended_at or job.enqueued_at or datetime.now(UTC)
    return DeadLetter(job_id, Notification(**job.args[0]), failed_at.replace(tzinfo=UTC), lines[-1] if lines else "")
