"""Starting and ending lessons: claim, enqueue, and wait for the pool's events. No polling, no call to Zoom."""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import AsyncGenerator, Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

import structlog

from api.errors import Problem
from api.jobs import Jobs
from api.line import Line, Place
from api.messages import PROBLEMS
from api.metrics import Metrics
from api.schemas import ActiveLesson, LessonProgress, LessonState, LessonStatus, StartedLesson
from broker.client import AsyncBroker
from broker.errors import SecretUnreadable
from broker.events import EventHub, Watch
from broker.jobs import CREATE_MEETING, END_MEETING, RECONCILE, REFRESH_START_URL, JobSpec, once_per
from broker.models import ClaimResult, Found, Granted, Lease, Outcome, Phase, Priority, ReleaseReason, Ticket
from broker.operations import Operation, Pool
from broker.secrets import SecretBox

log = structlog.get_logger(__name__)

AGAIN_S = 5
"""A job that seems lost is enqueued again at most once in this time, however often the teacher presses start."""
LINK_FRESH_S = 100 * 60
"""Zoom's start_url works for two hours; an older one than this is replaced."""
LINK_USABLE_S = 118 * 60
"""If the replacement does not come in time, the old one is handed out up to this age."""
MOST_RETRY_AFTER_S = 60
OWN_DOING = frozenset({"lease.claimed", "lease.creating", "ticket.queued"})
"""Events that tell a start nothing: it caused them itself, or waits for what comes after them."""

_STATUS = {
    Phase.CLAIMED: LessonStatus.STARTING,
    Phase.CREATING: LessonStatus.STARTING,
    Phase.READY: LessonStatus.READY,
    Phase.LIVE: LessonStatus.LIVE,
    Phase.SUSPECT: LessonStatus.CLOSING,
}


@dataclass(frozen=True)
class Start:
    """A start that is allowed: which lesson, for whom, on which pool (the default one if empty)."""

    lesson: str
    owner: str
    topic: str = ""
    duration_min: int = 60
    pool: str = ""
    priority: Priority = Priority.QUICK
    queue: bool = False
    """Whether it may wait in line when no host is free."""


class Deadline:
    """The end of one caller's patience, on the event loop's clock."""

    def __init__(self, wait_s: float) -> None:
        self._end_s = asyncio.get_running_loop().time() + wait_s

    @property
    def left_s(self) -> float:
        return self._end_s - asyncio.get_running_loop().time()


@dataclass(frozen=True)
class Lessons:
    """What happens to lessons; the routes decide who may ask for it."""

    broker: AsyncBroker
    hub: EventHub
    jobs: Jobs
    box: SecretBox
    metrics: Metrics
    line: Line

    async def start(self, wanted: Start, wait_s: float) -> StartedLesson | LessonProgress:
        """Start a lesson, or find the meeting that it has; after `wait_s` say how far it is.

        Raises:
            Problem: it cannot be started, and why.
        """
        try:
            async with contextlib.aclosing(self.steps(wanted, wait_s)) as steps:
                async for step in steps:
                    last = step
        except asyncio.CancelledError:
            if wanted.queue:
                # The caller hung up. A lease, once granted, runs its course; a place in line is the next one's.
                self.line.leave(self.broker.pool(wanted.pool), wanted.lesson, wanted.owner)
            raise
        return last

    async def steps(
        self, wanted: Start, wait_s: float, tell_s: float = math.inf
    ) -> AsyncGenerator[StartedLesson | LessonProgress, None]:
        """Start a lesson like `start` does, and say how far it is on the way; the last step is the result.

        Args:
            wanted: the start.
            wait_s: after that it goes on by itself.
            tell_s: how often to say its place in line, where nothing else happens.

        Raises:
            Problem: it cannot be started, and why.
        """
        pool = self.broker.pool(wanted.pool)
        deadline = Deadline(wait_s)
        # Watched before it is claimed, or what happens in between would wake nobody.
        async with self.hub.watch(pool.name, wanted.lesson, unheard=OWN_DOING) as watch:
            while True:
                # Shielded: a caller who hangs up in between must not leave a lease without its job.
                claim = await asyncio.shield(self._claim(pool, wanted, deadline.left_s))
                if claim.ticket is not None:
                    yield in_line(claim.ticket)
                    if deadline.left_s <= 0:
                        return
                    with self._stand(pool, wanted, claim.ticket, watch, deadline) as place:
                        # Claims once more when the time is over: that keeps the place until the caller comes back.
                        while not await watch.news(min(tell_s, deadline.left_s)) and deadline.left_s > 0:
                            yield in_line(place.ticket)
                    continue
                if claim.lease is None:
                    raise refused(claim)
                yield progress(claim.lease)
                found = await self._look(watch, pool, claim.lease, deadline, self._can_begin)
                lease = found.lease
                if lease is not None and lease.owner == wanted.owner:
                    # Perhaps on another host than the one claimed: a lease moves when its host is at fault.
                    yield self._started(lease) or progress(lease)
                    return
                if found.outcome is not None and found.outcome.released_ms >= claim.now_ms:
                    raise_failure(found.outcome)
                # The lease is gone for another reason: it lapsed, or it was the suspect one of an earlier meeting and
                # Zoom has been asked. Claim anew while the caller waits.
                if deadline.left_s <= 0:
                    raise Problem("start_lapsed", headers={"Retry-After": "1"})

    @contextlib.contextmanager
    def _stand(self, pool: Pool, wanted: Start, ticket: Ticket, watch: Watch, deadline: Deadline) -> Iterator[Place]:
        """Have a place in line kept, for as long as this block lasts."""
        keep = self._claim_operation(pool, wanted, deadline.left_s)
        with self.metrics.waiters.track_inprogress(), self.line.stand(pool, ticket, watch, keep) as place:
            yield place

    def _claim_operation(self, pool: Pool, wanted: Start, left_s: float) -> Operation[ClaimResult]:
        # A place outlives the answer, so that the caller can come back to it.
        wait_s = left_s + self.broker.settings.ticket_ttl_s
        return pool.claim(
            wanted.lesson,
            wanted.owner,
            topic=wanted.topic,
            duration_min=wanted.duration_min,
            wait_s=wait_s if wanted.queue else 0,
            priority=wanted.priority,
        )

    async def _claim(self, pool: Pool, wanted: Start, left_s: float) -> ClaimResult:
        """Claim, and see that somebody works on what the lesson needs next.

        If the job cannot be enqueued, the lease stays: the caller gets 503 and asks again, which enqueues it; and if
        nobody asks again, the reaper finds the lease without an attempt and enqueues it. Giving the lease back here
        would be one more call to a Redis that just failed, and could take it from a second start of the same lesson.
        """
        claim = await self.broker.run(self._claim_operation(pool, wanted, max(left_s, 0)))
        lease = claim.lease
        if lease is None:
            return claim
        if claim.outcome is Granted.GRANTED:
            await self.jobs.enqueue(CREATE_MEETING, pool.name, str(lease.id))
        elif lease.phase in (Phase.CLAIMED, Phase.CREATING):
            await self._once(CREATE_MEETING, pool.name, str(lease.id))
        elif lease.phase is Phase.SUSPECT:
            # The lesson's last meeting went quiet, so Zoom has to be asked. Now rather than in a minute.
            await self._once(RECONCILE)
        elif not self._can_begin(lease):
            await self._once(REFRESH_START_URL, pool.name, str(lease.id))
        return claim

    async def _once(self, spec: JobSpec, *args: str) -> None:
        await self.jobs.enqueue(spec, *args, job_id=once_per(spec, args, AGAIN_S))

    async def _look(
        self, watch: Watch, pool: Pool, known: Lease, deadline: Deadline, enough: Callable[[Lease], bool]
    ) -> Found:
        """The state of a lesson when its lease is gone or is `enough`, or else when the wait is over.

        Args:
            watch: registered before `known` was read, so that whatever came after it wakes us.
            pool: where the lesson is.
            known: its lease.
            deadline: the end of the wait.
            enough: whether there is nothing more to wait for.
        """
        found = Found(known, None, known.now_ms)
        with self.metrics.waiters.track_inprogress():
            while found.lease is not None and not enough(found.lease) and deadline.left_s > 0:
                # Looks once more when the time is over, too: a wake-up may have been lost.
                await watch.news(deadline.left_s)
                found = await self.broker.run(pool.find_lesson(known.lesson))
        return found

    def _can_begin(self, lease: Lease) -> bool:
        return bool(self._link(lease, LINK_FRESH_S))

    def _link(self, lease: Lease, most_age_s: float) -> str:
        """The start_url, if there is one of this age and we can read it."""
        if lease.phase not in (Phase.READY, Phase.LIVE) or not lease.sealed_start_url:
            return ""
        if lease.now_ms - lease.start_url_ms > most_age_s * 1000:
            return ""
        try:
            return self.box.open(lease.sealed_start_url, f"the start_url of lease {lease.id}")
        except SecretUnreadable as error:
            # Sealed with a key that was taken away: as good as none, so that the worker gets a new one.
            log.error("a start_url cannot be read", code=error.code, lease=str(lease.id))
            return ""

    def _started(self, lease: Lease) -> StartedLesson | None:
        link = self._link(lease, LINK_USABLE_S)
        if not link or lease.meeting_id is None:
            return None
        return StartedLesson(
            zoom_start_url=link,
            zoom_join_url=lease.join_url,
            zoom_meeting_id=lease.meeting_id,
            zoom_password=lease.passcode,
            account_email=lease.email,
            lesson_id=lease.lesson,
            status=_STATUS[lease.phase],
            expires_at=moment(lease.deadline_ms),
        )

    async def end(self, lease: Lease, wait_s: float) -> bool:
        """End a lesson; whether it is over when this returns."""
        pool = self.broker.pool(lease.pool)
        deadline = Deadline(wait_s)
        async with self.hub.watch(pool.name, lease.lesson) as watch:
            args = (pool.name, str(lease.id), ReleaseReason.ENDED_BY_OWNER.value, lease.lesson)
            await asyncio.shield(self._once(END_MEETING, *args))
            # A lesson that moves to another host is granted no more than it was.
            found = await self._look(watch, pool, lease, deadline, lambda now: now.granted_ms != lease.granted_ms)
        return found.lease is None or found.lease.granted_ms != lease.granted_ms

    async def give_up(self, ticket: Ticket) -> None:
        """Take a lesson out of the line."""
        await self.broker.run(self.broker.pool(ticket.pool).cancel(ticket.lesson, ticket.owner))

    async def find(self, lesson: str, pool: str = "") -> Found:
        """What is known of a lesson in a pool."""
        return await self.broker.run(self.broker.pool(pool).find_lesson(lesson))

    def state(self, lease: Lease, *, with_start_url: bool) -> LessonState:
        """A running lesson as people see it."""
        return LessonState(
            lesson_id=lease.lesson,
            status=_STATUS[lease.phase],
            zoom_start_url=(self._link(lease, LINK_USABLE_S) or None) if with_start_url else None,
            zoom_join_url=lease.join_url or None,
            zoom_meeting_id=lease.meeting_id,
            zoom_password=lease.passcode or None,
            account_email=lease.email or None,
            since=moment(lease.since_ms),
            expires_at=moment(lease.deadline_ms),
        )

    def seen(self, found: Found, user: str) -> LessonState | None:
        """What is known of a lesson as `user` may see it; the start link is for its owner alone."""
        if found.lease is not None:
            return self.state(found.lease, with_start_url=found.lease.owner == user)
        if found.ticket is not None:
            return waiting(found.ticket)
        return ended(found.outcome) if found.outcome is not None else None

    async def active(self, owner: str, pool: str = "") -> list[ActiveLesson]:
        """The lessons for which this owner holds hosts, oldest first."""
        operations = self.broker.pool(pool)
        ids = await self.broker.run(operations.owned(owner))
        found = await asyncio.gather(*(self.broker.run(operations.find_lease(id)) for id in ids))
        leases = sorted((now.lease for now in found if now.lease is not None), key=lambda lease: lease.granted_ms)
        return [
            ActiveLesson(
                lesson_id=lease.lesson,
                status=_STATUS[lease.phase],
                since=at(lease.since_ms),
                expires_at=moment(lease.deadline_ms),
            )
            for lease in leases
        ]


def progress(lease: Lease) -> LessonProgress:
    """A lesson that cannot begin yet."""
    return LessonProgress(lesson_id=lease.lesson, status=_STATUS[lease.phase], expires_at=moment(lease.deadline_ms))


def in_line(ticket: Ticket) -> LessonProgress:
    """A lesson that waits for a host."""
    return LessonProgress(
        lesson_id=ticket.lesson,
        status=LessonStatus.QUEUED,
        position=ticket.position,
        estimate_s=seconds(ticket.estimate_ms),
        expires_at=at(ticket.until_ms),
    )


def seconds(ms: int | None) -> int | None:
    """Milliseconds as whole seconds, for people: 0 is said by nobody who still waits."""
    return None if ms is None else max(1, math.ceil(ms / 1000))


def waiting(ticket: Ticket) -> LessonState:
    """The same, for whoever looks at the lesson."""
    return LessonState(
        lesson_id=ticket.lesson,
        status=LessonStatus.QUEUED,
        position=ticket.position,
        estimate_s=seconds(ticket.estimate_ms),
        since=at(ticket.asked_ms),
        expires_at=at(ticket.until_ms),
    )


def ended(outcome: Outcome) -> LessonState:
    """A lesson that is over."""
    failed = outcome.reason in (ReleaseReason.FAILED, ReleaseReason.LAPSED)
    return LessonState(
        lesson_id=outcome.lesson,
        status=LessonStatus.FAILED if failed else LessonStatus.ENDED,
        zoom_meeting_id=outcome.meeting_id,
        since=at(outcome.released_ms),
        reason=outcome.reason,
        code=(outcome.detail or None) if outcome.reason is ReleaseReason.FAILED else None,
    )


def refused(claim: ClaimResult) -> Problem:
    """Why a claim was not granted."""
    match claim.outcome:
        case Granted.BUSY:
            free_in_s = (claim.free_at_ms - claim.now_ms) // 1000 if claim.free_at_ms else 1
            return Problem("pool_exhausted", headers={"Retry-After": str(min(max(free_in_s, 1), MOST_RETRY_AFTER_S))})
        case Granted.QUEUE_FULL:
            estimate_s = seconds(claim.estimate_ms) or MOST_RETRY_AFTER_S
            headers = {"Retry-After": str(min(estimate_s, MOST_RETRY_AFTER_S))}
            return Problem("queue_full", headers=headers, waiting=claim.waiting)
        case Granted.QUOTA:
            return Problem("owner_quota")
        case Granted.HELD_BY_OTHER:
            return Problem("lesson_of_another_teacher")
        case _:
            return Problem("pool_empty", headers={"Retry-After": str(MOST_RETRY_AFTER_S)})


def raise_failure(outcome: Outcome) -> None:
    """Tell the caller why the meeting could not be made, if that is how the lease ended.

    Raises:
        Problem: 502, with Zoom's reason as its code; or 503 `started_elsewhere`, the lesson has a host in another pool.
    """
    if outcome.reason is ReleaseReason.ELSEWHERE:
        raise Problem("started_elsewhere", headers={"Retry-After": "1"})
    # When the host was at fault and all others are in use, a claim says best when to come back.
    if outcome.reason is ReleaseReason.FAILED and outcome.detail != "pool_exhausted":
        known = outcome.detail in PROBLEMS
        raise Problem(outcome.detail if known else "start_failed", status=PROBLEMS["start_failed"].status)


def at(ms: int) -> datetime:
    """Milliseconds since the epoch as a time in UTC, in whole seconds: finer ones would only be read as exact."""
    return datetime.fromtimestamp(ms // 1000, UTC)


def moment(ms: int) -> datetime | None:
    """The same; None for 0."""
    return at(ms) if ms else None
