"""Make the meeting of a lease at Zoom: exactly one, whatever is killed and whenever.

Zoom knows no idempotency key, so the order of steps does the work:

1. Record in Redis the intent to create, and with it the sole right to try for `attempt_ttl`.
2. If there was an attempt before, its outcome is unknown: look for its meeting by the marker in the agenda, twice.
3. Else, or if there is none, create.
4. Record the meeting. If the lease has moved on meanwhile, the meeting is not wanted any more: delete it.

Killed after 1, 2 or 3, the lease stays in `creating` without a running attempt; the reaper enqueues this job again, and
step 2 finds what step 3 may have made.

Between 1 and 2 it looks whether the lesson got a host in another pool just before this one (`personal.older_lease`),
and then leaves the lesson to that. Here and not where it was claimed, because every lease passes here, whoever claimed
it and whatever died since.

What becomes of a failure depends on whose it is:

| fault | then |
|---|---|
| nobody's | wait and try again, while the time to create lasts |
| the host's, the credential's | take it out of rotation, and the lesson moves to another host, three times at most |
| the request's | release the lease; its outcome says why |
| unknown whether there is a meeting | the lease stays; it turns suspect, and the reconciler asks Zoom |
"""

from __future__ import annotations

import asyncio
import random
from typing import Any
from uuid import uuid4

import structlog

from broker.errors import SecretUnreadable, UnknownCredential
from broker.jobs import DELETE_MEETING
from broker.models import Change, ChangeResult, Credential, Found, Lease, LeaseId, Moved, Phase, ReleaseReason
from broker.operations import Operation, Pool
from broker.registry import personal
from broker.zoom import CreateMeeting, Meeting, marker
from broker.zoom.errors import Kind, ZoomError
from workers import quarantine
from workers.context import Context, open_context
from workers.own_host import with_host
from workers.quarantine import Fault

log = structlog.get_logger(__name__)

FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 8.0
LOOK_AGAIN_S = 2.0
"""Zoom may list a meeting only a moment after it was made, so one look that finds nothing is weak evidence."""
NO_OTHER_HOST = "pool_exhausted"
"""Why a lease failed whose host is to blame, when all others are in use: the same that a claim would have said."""


async def create_meeting(pool: str, lease: str) -> str:
    """Job: make the meeting of `lease`. Returns for the log: ready, moved on, busy, elsewhere, failed or unknown."""
    async with open_context() as context:
        id = LeaseId.parse(lease)
        while True:
            creation = Creation(context, context.broker.pool(pool), id)
            answer = await creation.run()
            if creation.moved_to is None:
                return answer
            # Killed here, the new lease is a claim without a worker, which the reaper notices within seconds.
            id = creation.moved_to


class Creation:
    """One run of the job on one host.

    Attributes:
        moved_to: the lesson's lease on another host, if this one failed it.
    """

    def __init__(self, context: Context, pool: Pool, lease: LeaseId) -> None:
        self._context = context
        self._pool = pool
        self._id = lease
        self._attempt = uuid4().hex
        self._log = log.bind(pool=pool.name, lease=str(lease))
        self.moved_to: LeaseId | None = None

    async def run(self) -> str:
        """Go through the steps above."""
        began, found = await self._begin()
        if began.change is Change.BUSY:
            # Its holder may be dead; then the reaper enqueues the job again when the attempt has run out.
            return "busy"
        lease = found.lease if began.change is Change.DONE else None
        if lease is None:
            return "moved on"
        earlier = began.detail == Phase.CREATING
        budget = asyncio.get_running_loop().time() + (began.deadline_ms - began.now_ms) / 1000
        try:
            credential, other = await asyncio.gather(
                self._context.credential(lease.credential), personal.older_lease(self._context.broker, lease)
            )
            # An earlier attempt, which died, may have found that there was no other lease, and made the meeting.
            if other is not None and not (earlier and await self._look(lease, credential)):
                return await self._stand_back(other)
            meeting = await self._obtain(lease, credential, earlier=earlier, budget=budget)
        except (UnknownCredential, SecretUnreadable) as error:
            # A credential that is gone is gone for every account; a key that is missing is missing on this machine.
            kind = Kind.CREDENTIAL if isinstance(error, UnknownCredential) else Kind.REQUEST
            return await self._give_up(
                lease, ZoomError(str(error), code=error.code, kind=kind, outcome_unknown=earlier)
            )
        except ZoomError as error:
            error.outcome_unknown = error.outcome_unknown or earlier
            return await self._give_up(lease, error)
        if meeting is None:
            return "moved on"
        return await self._record(lease, meeting)

    async def _begin(self) -> tuple[ChangeResult, Found]:
        """Record the intent, and see what is to be made; in one round trip, because every creation does."""
        steps: list[Operation[Any]] = [
            self._pool.begin_creating(self._id, self._attempt),
            self._pool.find_lease(self._id),
        ]
        began, found = await self._context.broker.run_all(steps)
        return began, found

    async def _obtain(self, lease: Lease, credential: Credential, *, earlier: bool, budget: float) -> Meeting | None:
        """Find or create the meeting, with patience for transient failures while the budget lasts.

        Returns:
            The meeting, or None if the lease moved on between two tries.

        Raises:
            ZoomError: it cannot be had. `outcome_unknown` says whether a meeting may exist all the same.
        """
        pause = FIRST_PAUSE_S
        while True:
            try:
                lease = await with_host(self._context, self._pool, lease, credential)
                if earlier:
                    found = await self._adopt(lease, credential)
                    if found is not None:
                        return found
                    # The look-up may have used up most of our time; the creation needs all of it again.
                    if not await self._still_ours():
                        return None
                return await self._create(lease, credential)
            except ZoomError as error:
                earlier = earlier or error.outcome_unknown
                error.outcome_unknown = earlier
                # Never before Zoom allows it, and not all at the same moment either.
                spread = random.uniform(0.5, 1.5) * pause  # noqa: S311 - jitter
                wait = spread if error.retry_after_s is None else error.retry_after_s + spread
                left = budget - asyncio.get_running_loop().time()
                if error.kind is not Kind.TRANSIENT or wait + self._context.settings.zoom_timeout_s > left:
                    raise
                self._log.warning("zoom failed, trying again", code=error.code, wait_s=round(wait, 2))
                await asyncio.sleep(wait)
                pause = min(pause * 2, LONGEST_PAUSE_S)
            if not await self._still_ours():
                return None

    async def _still_ours(self) -> bool:
        """Renew the sole right to try; False if the lease moved on, or another attempt took over."""
        again = await self._context.broker.run(self._pool.begin_creating(self._id, self._attempt))
        return again.change is Change.DONE

    async def _create(self, lease: Lease, credential: Credential) -> Meeting:
        request = CreateMeeting(
            topic=lease.topic or f"Lesson {lease.lesson}",
            marker=marker(lease.id, self._pool.name),
            duration_min=lease.duration_min or 60,
            timezone=self._context.settings.timezone,
            auto_recording=self._context.settings.auto_recording,
        )
        return await self._context.zoom.create_meeting(credential, lease.zoom_user_id or lease.email, request)

    async def _adopt(self, lease: Lease, credential: Credential) -> Meeting | None:
        """The meeting that an earlier attempt made, if it did. Should there be two, the younger ones are deleted."""
        found = await self._look(lease, credential)
        if not found:
            settings = self._context.settings
            await asyncio.sleep(min(LOOK_AGAIN_S, (settings.attempt_ttl_s - settings.zoom_timeout_s) / 2))
            # Keeps others out while we look; whether it is still ours is asked once more before anything is created.
            await self._still_ours()
            found = await self._look(lease, credential)
        if not found:
            return None
        first, *others = sorted(meeting.id for meeting in found)
        for other in others:
            await self._context.enqueue(DELETE_MEETING, lease.credential, other)
        self._log.info("found the meeting of an earlier attempt", meeting_id=first)
        # Lists carry no start_url.
        return await self._context.zoom.get_meeting(credential, first)

    async def _look(self, lease: Lease, credential: Credential) -> list[Meeting]:
        host = lease.zoom_user_id or lease.email
        return await self._context.zoom.find_by_marker(credential, host, marker(lease.id, self._pool.name))

    async def _record(self, lease: Lease, meeting: Meeting) -> str:
        recorded = await self._context.broker.run(
            self._pool.made_ready(
                self._id,
                meeting_id=meeting.id,
                meeting_uuid=meeting.uuid,
                join_url=meeting.join_url,
                passcode=meeting.password,
                sealed_start_url=self._context.box.seal(meeting.start_url.get_secret_value()),
                start_url_ms=lease.now_ms,
            )
        )
        if recorded.change is Change.DONE:
            return "ready"
        self._log.warning("the lease moved on, deleting its meeting", meeting_id=meeting.id, change=recorded.change)
        await self._context.enqueue(DELETE_MEETING, lease.credential, meeting.id)
        return "moved on"

    async def _give_up(self, lease: Lease, error: ZoomError) -> str:
        self._log.error("no meeting", code=error.code, kind=error.kind, unknown=error.outcome_unknown)
        fault = Fault.of(error, lease.now_ms)
        if fault is not None and fault.whole_credential:
            # Before the move, which must not end on another account behind the same credential.
            credential = lease.credential or self._context.settings.default_credential
            await quarantine.park_credential(self._context, credential, fault)
        if error.outcome_unknown:
            # A meeting may exist, so time alone must not free the slot: it turns suspect, and Zoom is asked.
            if fault is not None:
                await quarantine.park(self._context, self._pool, lease.account, fault)
            return "unknown"
        code = error.code
        if fault is not None:
            moved = await self._context.broker.run(
                self._pool.move(lease, self._attempt, fault.state, fault.reason, until_ms=fault.until_ms)
            )
            if moved.lease is not None:
                self._log.info("moved to another host", to=str(moved.lease.id), code=error.code)
                self.moved_to = moved.lease.id
                return "moved"
            if moved.outcome is Moved.BUSY and moved.free_at_ms:
                code = NO_OTHER_HOST
        return await self._fail(code)

    async def _stand_back(self, other: Lease) -> str:
        """Leave the lesson to the lease that it got before this one in another pool."""
        self._log.info("the lesson has a host elsewhere", elsewhere=other.pool, other=str(other.id))
        answer = await self._release(ReleaseReason.ELSEWHERE, other.pool)
        return "elsewhere" if answer == "released" else answer

    async def _fail(self, code: str) -> str:
        """Release the lease: there is no meeting, and its outcome says why."""
        answer = await self._release(ReleaseReason.FAILED, code)
        return "failed" if answer == "released" else answer

    async def _release(self, reason: ReleaseReason, detail: str) -> str:
        again = await self._context.broker.run(self._pool.begin_creating(self._id, self._attempt))
        if again.change in (Change.STALE, Change.BUSY):
            return "moved on"  # or another attempt took over, whose call to Zoom may be under way
        await self._context.broker.run(self._pool.release([self._id], reason, detail=detail, only_phase=Phase.CREATING))
        return "released"


async def refresh_start_url(pool: str, lease: str) -> str:
    """Job: ask Zoom for a new start_url of a meeting that exists. Returns refreshed, or moved on."""
    async with open_context() as context:
        operations = context.broker.pool(pool)
        found = (await context.broker.run(operations.find_lease(LeaseId.parse(lease)))).lease
        if found is None or found.meeting_id is None:
            return "moved on"
        meeting = await context.zoom.get_meeting(await context.credential(found.credential), found.meeting_id)
        sealed = context.box.seal(meeting.start_url.get_secret_value())
        await context.broker.run(operations.record(found.id, start_url=sealed, start_url_ms=found.now_ms))
        return "refreshed"
