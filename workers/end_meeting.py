"""End and delete meetings at Zoom, and give their slots back only when Zoom has no use for them any more."""

from __future__ import annotations

import structlog

from broker.errors import ZoomPoolError
from broker.models import Change, Credential, Lease, LeaseId, Phase, ReleaseReason
from broker.zoom import ZoomError
from workers.context import Context, open_context

log = structlog.get_logger(__name__)


class NotYet(ZoomPoolError):
    """The meeting of this lease is just being made; ending it has to wait for that."""

    code = "not_yet"


async def end_meeting(pool: str, lease: str, reason: str, lesson: str) -> str:
    """Job: end and delete the meeting of `lease` at Zoom, then release the lease. Returns a word for the log.

    If the lesson got another host since, because that one failed it, it is ended there.

    Raises:
        NotYet: the meeting is being made; the job's retry comes back to it.
    """
    async with open_context() as context:
        operations = context.broker.pool(pool)
        id = LeaseId.parse(lease)
        found = (await context.broker.run(operations.find_lease(id))).lease
        if found is None:
            found = (await context.broker.run(operations.find_lesson(lesson))).lease
            if found is None or found.moved_from != id:
                return "moved on"
        if found.meeting_id is not None:
            return await finish(context, found, ReleaseReason(reason))
        if found.phase is Phase.CLAIMED:
            # Refused if a worker has begun to create meanwhile.
            (change,) = await context.broker.run(
                operations.release([found.id], ReleaseReason(reason), only_phase=Phase.CLAIMED)
            )
            if change is not Change.REFUSED:
                return "released"
        # Noted, so that the lesson does not move to another host meanwhile.
        noted = await context.broker.run(operations.record(found.id, ending=reason))
        if noted.change is Change.STALE:
            return await end_meeting(pool, str(found.id), reason, lesson)
        raise NotYet(f"the meeting of lease {lease} is just being made; it is ended when that is done")


async def delete_meeting(credential: str, meeting_id: int) -> str:
    """Job: delete a meeting that no lease wants any more. Returns deleted."""
    async with open_context() as context:
        await remove(context, await context.credential(credential), meeting_id)
        return "deleted"


async def finish(context: Context, lease: Lease, reason: ReleaseReason, *, only_phase: Phase | None = None) -> str:
    """End and delete the meeting of a lease at Zoom, then release the lease: in this order, so that the next lesson on
    this host never meets the old one.

    Raises:
        ZoomError: Zoom did not confirm; the lease stays.
    """
    if lease.meeting_id is not None:
        await remove(context, await context.credential(lease.credential), lease.meeting_id)
    pool = context.broker.pool(lease.pool)
    (change,) = await context.broker.run(pool.release([lease.id], reason, only_phase=only_phase))
    return "released" if change is Change.DONE else "moved on"


async def remove(context: Context, credential: Credential, meeting_id: int) -> None:
    """End a meeting if it runs, then delete it. A meeting that does not exist is fine.

    Raises:
        ZoomError: Zoom did not confirm.
    """
    try:
        meeting = await context.zoom.get_meeting(credential, meeting_id)
        if meeting.started:
            await context.zoom.end_meeting(credential, meeting_id)
        await context.zoom.delete_meeting(credential, meeting_id)
    except ZoomError as error:
        if error.code != "zoom_meeting_missing":
            raise
        log.debug("the meeting is gone already", meeting_id=meeting_id)
