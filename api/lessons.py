"""Starting and ending lessons: claim, enqueue, and wait for the pool's events. No polling, no call to Zoom."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any

from api.errors import Problem
from api.jobs import Jobs
from broker.client import AsyncBroker
from broker.events import EventHub, Watch
from broker.jobs import CREATE_MEETING, END_MEETING, REFRESH_START_URL, once_per
from broker.models import ClaimResult, Found, Granted, Lease, Phase, ReleaseReason
from broker.secrets import SecretBox

AGAIN_S = 5
"""A job that seems lost is enqueued again at most once in this time, however often the teacher presses start."""
START_URL_S = 100 * 60
"""Zoom's start_url works for two hours; an older one than this is replaced."""
MOST_RETRY_AFTER_S = 60


@dataclass(frozen=True)
class Lessons:
    """What the routes work with."""

    broker: AsyncBroker
    hub: EventHub
    jobs: Jobs
    box: SecretBox

    async def start(self, lesson: str, owner: str, *, topic: str, duration_min: int, wait_s: float) -> dict[str, Any]:
        """Start a lesson, or find the meeting that it has; the body has `zoom_start_url`, or says how far it is.

        Raises:
            Problem: it cannot be started, and why.
        """
        deadline = asyncio.get_running_loop().time() + wait_s
        pool = self.broker.pool()
        async with self.hub.watch(pool.name, lesson) as watch:
            while True:
                # Shielded: a caller who hangs up in between must not leave a lease without its job.
                claim = await asyncio.shield(self._claim(lesson, owner, topic, duration_min))
                lease = claim.lease
                if lease is None:
                    raise refused(claim)
                found = await self._until(watch, lesson, deadline, partial(self._settled, lease))
                if found.lease is not None and found.lease.id == lease.id:
                    return self.body(found.lease, with_start_url=True)
                outcome = found.outcome
                if outcome is not None and outcome.lease == lease.id and outcome.reason is ReleaseReason.FAILED:
                    raise Problem(502, outcome.detail or "start_failed")
                if asyncio.get_running_loop().time() >= deadline:
                    raise Problem(503, "start_lapsed", headers={"Retry-After": "1"})

    async def _claim(self, lesson: str, owner: str, topic: str, duration_min: int) -> ClaimResult:
        pool = self.broker.pool()
        claim = await self.broker.run(pool.claim(lesson, owner, topic=topic, duration_min=duration_min))
        lease = claim.lease
        if lease is None:
            return claim
        if claim.outcome is Granted.GRANTED:
            await self.jobs.enqueue(CREATE_MEETING, pool.name, str(lease.id))
        elif lease.phase in (Phase.CLAIMED, Phase.CREATING):
            await self._again(CREATE_MEETING, lease)
        elif stale_start_url(lease):
            await self._again(REFRESH_START_URL, lease)
        return claim

    async def _again(self, spec: Any, lease: Lease) -> None:
        job_id = once_per(spec, (lease.pool, str(lease.id)), AGAIN_S)
        await self.jobs.enqueue(spec, lease.pool, str(lease.id), job_id=job_id)

    def _settled(self, wanted: Lease, found: Found) -> bool:
        lease = found.lease
        if lease is None or lease.id != wanted.id:
            return True
        return lease.phase in (Phase.READY, Phase.LIVE) and not stale_start_url(lease)

    async def _until(self, watch: Watch, lesson: str, deadline: float, settled: Any) -> Found:
        """The lesson's state when it is settled, or when the wait is over."""
        pool = self.broker.pool()
        while True:
            found = await self.broker.run(pool.find_lesson(lesson))
            left = deadline - asyncio.get_running_loop().time()
            if settled(found) or left <= 0 or not await watch.news(left):
                return found

    async def end(self, lesson: str, found: Found, wait_s: float) -> bool:
        """End a lesson; whether it is over when this returns."""
        lease = found.lease
        if lease is None:
            return True
        deadline = asyncio.get_running_loop().time() + wait_s
        async with self.hub.watch(lease.pool, lesson) as watch:
            job_id = once_per(END_MEETING, (lease.pool, str(lease.id)), AGAIN_S)
            args = (lease.pool, str(lease.id), ReleaseReason.ENDED_BY_OWNER.value)
            await asyncio.shield(self.jobs.enqueue(END_MEETING, *args, job_id=job_id))
            over = await self._until(watch, lesson, deadline, lambda now: now.lease is None or now.lease.id != lease.id)
        return over.lease is None or over.lease.id != lease.id

    def body(self, lease: Lease, *, with_start_url: bool) -> dict[str, Any]:
        """A lease as people get it."""
        status = {Phase.CLAIMED: "starting", Phase.CREATING: "starting", Phase.SUSPECT: "closing"}
        body: dict[str, Any] = {
            "lesson_id": lease.lesson,
            "status": status.get(lease.phase, lease.phase.value),
            "zoom_meeting_id": lease.meeting_id,
            "zoom_join_url": lease.join_url or None,
            "zoom_password": lease.passcode or None,
            "account_email": lease.email,
            "expires_at": iso(lease.deadline_ms) if lease.deadline_ms else None,
        }
        if with_start_url and lease.phase in (Phase.READY, Phase.LIVE) and lease.sealed_start_url:
            body["zoom_start_url"] = self.box.open(lease.sealed_start_url, f"the start_url of lease {lease.id}")
        return body


def stale_start_url(lease: Lease) -> bool:
    """Whether the lease's start_url may have stopped working."""
    return bool(lease.start_url_ms) and lease.now_ms - lease.start_url_ms > START_URL_S * 1000


def refused(claim: ClaimResult) -> Problem:
    """Why a claim was not granted."""
    match claim.outcome:
        case Granted.BUSY:
            seconds = (claim.free_at_ms - claim.now_ms) // 1000 if claim.free_at_ms else 1
            return Problem(
                503, "pool_exhausted", headers={"Retry-After": str(min(max(seconds, 1), MOST_RETRY_AFTER_S))}
            )
        case Granted.QUOTA:
            return Problem(409, "owner_quota")
        case Granted.HELD_BY_OTHER:
            return Problem(403, "lesson_of_another_teacher")
        case _:
            return Problem(503, "pool_empty", headers={"Retry-After": str(MOST_RETRY_AFTER_S)})


def iso(ms: int) -> str:
    """Milliseconds since the epoch as ISO 8601 in UTC."""
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
