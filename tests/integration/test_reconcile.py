"""Zoom's word settles what we missed."""

from __future__ import annotations

import asyncio

from broker.models import Lease, Phase, ReleaseReason
from broker.testing.zoom_simulator import FaultAction, FaultRule, Role, When
from tests.integration.conftest import School
from tests.integration.test_webhook_events import phase, ready, tell
from tests.waiting import wait_until_async
from workers.create_meeting import create_meeting
from workers.reconcile import reconcile


async def expire(school: School, lease: Lease) -> None:
    """Let the lease's deadline pass and the reaper see it."""
    await school.broker.redis.zadd(school.pool.keys.leased, {lease.id.slot: 1})
    await school.broker.run(school.pool.reap())
    assert await phase(school, lease) is Phase.SUSPECT


async def test_suspect_meeting_that_nobody_started_is_deleted_and_its_slot_freed(school: School) -> None:
    lease = await ready(school)
    await expire(school, lease)
    await reconcile()
    assert school.meetings() == []
    assert await phase(school, lease) is None
    status = await school.broker.run(school.pool.status())
    assert (status.free, status.suspect) == (3, 0)


async def test_suspect_meeting_that_runs_goes_on_as_live(school: School) -> None:
    lease = await ready(school)
    assert lease.meeting_id is not None
    school.zoom.world.join(lease.meeting_id, "Anna", Role.HOST)
    await expire(school, lease)
    await reconcile()
    assert await phase(school, lease) is Phase.LIVE
    assert school.meetings() == [lease.meeting_id]


async def test_meeting_past_its_longest_hold_is_ended(school: School) -> None:
    lease = await ready(school)
    assert lease.meeting_id is not None
    school.zoom.world.join(lease.meeting_id, "Anna", Role.HOST)
    await expire(school, lease)
    await school.broker.redis.hset(school.pool.keys.slot(lease.id.slot), "hold_until_ms", "1")
    await reconcile()
    assert school.meetings() == []
    assert await phase(school, lease) is None


async def test_unknown_creation_is_searched_for_deleted_and_freed(school: School) -> None:
    lease = await school.claim()
    path = "/v2/users/*/meetings"
    school.zoom.faults.add(FaultRule(action=FaultAction.HANG, when=When.AFTER, method="POST", path=path))
    dying = asyncio.create_task(create_meeting("default", str(lease.id)))
    await wait_until_async(lambda: asyncio.sleep(0, school.meetings()), "the meeting exists at Zoom")
    dying.cancel()
    await asyncio.gather(dying, return_exceptions=True)
    await expire(school, lease)
    await reconcile()
    assert school.meetings() == []
    found = await school.broker.run(school.pool.find_lesson("algebra"))
    assert found.lease is None
    assert found.outcome is not None
    assert (found.outcome.reason, found.outcome.detail) == (ReleaseReason.FAILED, "zoom_outcome_unknown")


async def test_missed_start_makes_the_lease_live(school: School) -> None:
    lease = await ready(school)
    assert lease.meeting_id is not None
    school.zoom.world.join(lease.meeting_id, "Anna", Role.HOST)
    await reconcile()
    assert await phase(school, lease) is Phase.LIVE


async def test_missed_end_is_believed_at_the_second_look(school: School) -> None:
    lease = await ready(school)
    await tell("meeting.started", lease, at_ms=1_000)
    await reconcile()
    assert await phase(school, lease) is Phase.LIVE
    await reconcile()
    assert await phase(school, lease) is None
    assert school.meetings() == []


async def test_running_meeting_is_renewed(school: School) -> None:
    lease = await ready(school)
    assert lease.meeting_id is not None
    school.zoom.world.join(lease.meeting_id, "Anna", Role.HOST)
    await tell("meeting.started", lease, at_ms=1_000)
    live = await school.look(lease.id)
    assert live is not None
    await school.broker.redis.zadd(school.pool.keys.leased, {lease.id.slot: live.now_ms + 30_000})
    await reconcile()
    renewed = await school.look(lease.id)
    assert renewed is not None
    assert renewed.deadline_ms > live.now_ms + 60_000


async def test_nothing_is_freed_while_zoom_does_not_answer(school: School) -> None:
    lease = await ready(school)
    await expire(school, lease)
    school.zoom.faults.add(FaultRule(action=FaultAction.RESPOND, status=503))
    await reconcile()
    assert await phase(school, lease) is Phase.SUSPECT


async def test_two_reconcilers_do_not_overlap(school: School) -> None:
    lease = await ready(school)
    await expire(school, lease)
    guard = school.broker.redis.lock(school.pool.keys.guard("reconcile"), timeout=30)
    await guard.acquire()
    assert await reconcile() == "nothing to do"
    assert await phase(school, lease) is Phase.SUSPECT
    await guard.release()
    await reconcile()
    assert await phase(school, lease) is None
