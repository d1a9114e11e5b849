"""The jobs that exist, by name, with their queues and limits; what runs them is none of the broker's business.

The API enqueues by these names without importing the code, and a test resolves every name. A job takes ids only, may
run twice, late, or after its lease is gone.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class QueueName(StrEnum):
    """One queue per kind of work, because a worker that listens to two queues can lose a job when it is killed."""

    CREATE = "create"
    """Somebody waits for these."""
    WEBHOOKS = "webhooks"
    PERIODIC = "periodic"
    NOTIFY = "notify"
    """What the web app is told; a slow web app must delay nothing else."""


@dataclass(frozen=True)
class JobSpec:
    """How a job is enqueued.

    Attributes:
        function: dotted name of the coroutine function.
        queue: where it waits.
        timeout_s: it is stopped after that.
        retry_after_s: pauses before its second, third, … run when it raised.
        result_ttl_s: how long its id stays taken after it succeeded.
        failure_ttl_s: how long a failed job is kept for people to look at.
    """

    function: str
    queue: QueueName
    timeout_s: int
    retry_after_s: tuple[int, ...]
    result_ttl_s: int = 60
    failure_ttl_s: int = 24 * 3600

    def call(self, args: Sequence[Any], job_id: str | None, retry: Callable[[int, list[int]], Any]) -> dict[str, Any]:
        """What RQ's `Queue.enqueue_call` is given for this job; written here once for all that enqueue.

        Args:
            args: ids only; they are stored in the clear.
            job_id: makes the job the only one with this id until its result expires.
            retry: RQ's class `Retry`, which the broker does not import.
        """
        return {
            "func": self.function,
            "args": tuple(args),
            "timeout": self.timeout_s,
            "result_ttl": self.result_ttl_s,
            "failure_ttl": self.failure_ttl_s,
            # RQ would put the arguments into the description, and the description into every log line.
            "description": self.function,
            "retry": retry(len(self.retry_after_s), list(self.retry_after_s)) if self.retry_after_s else None,
            "job_id": job_id,
            "unique": job_id is not None,
        }


CREATE_MEETING = JobSpec("workers.create_meeting.create_meeting", QueueName.CREATE, 90, (1, 3, 10))
"""`(pool, lease)`: make the meeting of a claimed lease, or find the one that an earlier run made."""

REFRESH_START_URL = JobSpec("workers.create_meeting.refresh_start_url", QueueName.CREATE, 30, (1, 3))
"""`(pool, lease)`: get a new start_url for a meeting that exists; the old one works for two hours only."""

END_MEETING = JobSpec("workers.end_meeting.end_meeting", QueueName.CREATE, 60, (1, 5, 30))
"""`(pool, lease, reason, lesson)`: end and delete the meeting of a lesson's lease at Zoom, then release the lease."""

IMPORT_ACCOUNTS = JobSpec("workers.import_accounts.import_accounts", QueueName.CREATE, 60, (1, 3, 10))
"""`(pool, credential, dry_run)`: make accounts of the users that Zoom lets host. Somebody waits for what it returns."""

DELETE_MEETING = JobSpec("workers.end_meeting.delete_meeting", QueueName.WEBHOOKS, 60, (5, 30, 120))
"""`(credential, meeting_id)`: delete a meeting whose lease is over, so that its links start nothing any more."""

WEBHOOK_EVENT = JobSpec(
    "workers.webhook_events.handle_event", QueueName.WEBHOOKS, 60, (1, 5, 30, 120), result_ttl_s=2 * 3600
)
"""`(fields)`: act on one verified webhook, given as `dataclasses.asdict(WebhookEvent)`. The job's id is made from the
event, so a duplicate is the same job for two hours, which is longer than Zoom repeats it."""

REAP = JobSpec("workers.reap.reap", QueueName.PERIODIC, 30, ())
"""`()`: act on passed deadlines in every pool. Runs again with the next period, so it needs no retry."""

RECONCILE = JobSpec("workers.reconcile.reconcile", QueueName.PERIODIC, 300, ())
"""`()`: ask Zoom about suspect and live leases in every pool."""

PROBE = JobSpec("workers.probe.probe", QueueName.PERIODIC, 60, ())
"""`()`: ask Zoom whether quarantined accounts may return. Runs again with the next period, so it needs no retry."""

RELAY = JobSpec("workers.notify.relay", QueueName.NOTIFY, 30, ())
"""`()`: turn new events of every pool into notifications, each a job of its own. Runs again with the next period."""

NOTIFY = JobSpec(
    "workers.notify.notify",
    QueueName.NOTIFY,
    30,
    # Close together at first, for a web app that restarts, then for about a day: 85,355 s.
    (5, 30, 120, 600, 1800, 3600, 7200, 14_400, 21_600, 36_000),
    result_ttl_s=3600,
    failure_ttl_s=30 * 24 * 3600,
)
"""`(fields)`: send one notification, given as `dataclasses.asdict(Notification)`. The job's id is the notification's,
so an event that is read twice is told once. Those that failed for a day are the dead letters."""

ALL = (
    CREATE_MEETING,
    REFRESH_START_URL,
    END_MEETING,
    IMPORT_ACCOUNTS,
    DELETE_MEETING,
    WEBHOOK_EVENT,
    REAP,
    RECONCILE,
    PROBE,
    RELAY,
    NOTIFY,
)


def once_per(spec: JobSpec, args: tuple[str, ...], period_s: int) -> str:
    """A job id that stays the same for the same work within a period: however often it is asked for, it is one job.

    Periods follow this machine's clock; a clock that is off costs a needless job, which does no harm.
    """
    work = hashlib.sha256("\0".join((spec.function, *args)).encode()).hexdigest()[:32]
    return f"{work}-{int(time.time() // period_s)}"
