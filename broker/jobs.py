"""The jobs that exist, by name, with their queues and limits; what runs them is none of the broker's business.

The API enqueues by these names without importing the code, and a test resolves every name. A job takes ids only, may
run twice, late, or after its lease is gone.
"""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass
from enum import StrEnum


class QueueName(StrEnum):
    """One queue per kind of work, because a worker that listens to two queues can lose a job when it is killed."""

    CREATE = "create"
    """Somebody waits for these."""
    WEBHOOKS = "webhooks"
    PERIODIC = "periodic"


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


CREATE_MEETING = JobSpec("workers.create_meeting.create_meeting", QueueName.CREATE, 90, (1, 3, 10))
"""`(pool, lease)`: make the meeting of a claimed lease, or find the one that an earlier run made."""

REFRESH_START_URL = JobSpec("workers.create_meeting.refresh_start_url", QueueName.CREATE, 30, (1, 3))
"""`(pool, lease)`: get a new start_url for a meeting that exists; the old one works for two hours only."""

END_MEETING = JobSpec("workers.end_meeting.end_meeting", QueueName.CREATE, 60, (1, 5, 30))
"""`(pool, lease, reason)`: end and delete the meeting of a lease at Zoom, then release the lease."""

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

ALL = (CREATE_MEETING, REFRESH_START_URL, END_MEETING, DELETE_MEETING, WEBHOOK_EVENT, REAP, RECONCILE)


def once_per(spec: JobSpec, args: tuple[str, ...], period_s: int) -> str:
    """A job id that stays the same for the same work within a period: however often it is asked for, it is one job.

    Periods follow this machine's clock; a clock that is off costs a needless job, which does no harm.
    """
    work = hashlib.sha256("\0".join((spec.function, *args)).encode()).hexdigest()[:32]
    return f"{work}-{int(time.time() // period_s)}"
