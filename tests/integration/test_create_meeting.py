"""The creation job against a simulated Zoom: one meeting per lease, whatever goes wrong."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from broker.jobs import CREATE_MEETING, DELETE_MEETING
from broker.models import AccountState, Change, Phase, ReleaseReason
from broker.testing.zoom_simulator import FaultAction, FaultRule, When
from broker.zoom import marker
from tests.integration.conftest import School
from tests.waiting import wait_until_async
from workers.create_meeting import create_meeting, refresh_start_url
from workers.reap import reap

CREATE: dict[str, Any] = {"method": "POST", "path": "/v2/users/*/meetings"}


async def queued(school: School, function: str) -> int:
    """How many jobs of this function are in RQ."""
    ids = await school.broker.redis.keys("rq:job:*")
    names = [await school.broker.redis.hget(id, "description") for id in ids]
    return names.count(function)


async def test_claimed_lease_gets_a_meeting_with_its_marker_and_a_sealed_start_url(school: School) -> None:
    lease = await school.claim()
    assert await create_meeting("default", str(lease.id)) == "ready"
    ready = await school.look(lease.id)
    assert ready is not None
    assert ready.phase is Phase.READY
    (meeting,) = school.zoom.world.meetings.values()
    assert (ready.meeting_id, ready.meeting_uuid) == (meeting.id, meeting.uuid)
    assert meeting.agenda.startswith(marker(lease.id, "default"))
    assert meeting.topic == "Algebra"
    assert "zak=" in school.box.open(ready.sealed_start_url, "start_url")
    assert "zak" not in ready.sealed_start_url


async def test_second_run_of_the_job_changes_nothing(school: School) -> None:
    lease = await school.claim()
    await create_meeting("default", str(lease.id))
    assert await create_meeting("default", str(lease.id)) == "moved on"
    assert len(school.meetings()) == 1


async def test_two_runs_at_the_same_time_make_one_meeting(school: School) -> None:
    lease = await school.claim()
    answers = await asyncio.gather(*(create_meeting("default", str(lease.id)) for _ in range(5)))
    assert sorted(answers) == ["busy", "busy", "busy", "busy", "ready"]
    assert len(school.meetings()) == 1


async def test_time_out_after_the_effect_adopts_the_meeting_instead_of_making_another(school: School) -> None:
    lease = await school.claim()
    school.zoom.faults.add(FaultRule(action=FaultAction.HANG, when=When.AFTER, times=1, **CREATE))
    assert await create_meeting("default", str(lease.id)) == "ready"
    ready = await school.look(lease.id)
    assert ready is not None
    assert [ready.meeting_id] == school.meetings()


@pytest.mark.parametrize("when", [When.BEFORE, When.AFTER])
async def test_reset_connection_ends_with_one_meeting(school: School, when: When) -> None:
    lease = await school.claim()
    school.zoom.faults.add(FaultRule(action=FaultAction.RESET, when=when, times=1, **CREATE))
    assert await create_meeting("default", str(lease.id)) == "ready"
    assert len(school.meetings()) == 1


async def test_server_errors_are_waited_out_inside_the_budget(school: School) -> None:
    lease = await school.claim()
    school.zoom.faults.add(FaultRule(action=FaultAction.RESPOND, status=503, times=2, **CREATE))
    assert await create_meeting("default", str(lease.id)) == "ready"
    assert len(school.meetings()) == 1


async def test_refused_request_frees_the_slot_and_says_why(school: School) -> None:
    lease = await school.claim()
    body = {"code": 300, "message": "Validation Failed.", "errors": [{"field": "topic", "message": "too rude"}]}
    school.zoom.faults.add(FaultRule(action=FaultAction.RESPOND, status=400, body=body, times=1, **CREATE))
    assert await create_meeting("default", str(lease.id)) == "failed"
    found = await school.broker.run(school.pool.find_lesson("algebra"))
    assert found.lease is None
    assert found.outcome is not None
    assert (found.outcome.reason, found.outcome.detail) == (ReleaseReason.FAILED, "zoom_request_rejected")


async def test_host_that_may_not_host_leaves_the_rotation_and_the_next_start_gets_another(school: School) -> None:
    lease = await school.claim()
    body = {"code": 3161, "message": "Your user account is not allowed meeting hosting and scheduling capabilities."}
    school.zoom.faults.add(FaultRule(action=FaultAction.RESPOND, status=400, body=body, host=lease.email, **CREATE))
    assert await create_meeting("default", str(lease.id)) == "failed"
    (parked,) = [account for account in await school.broker.run(school.pool.accounts()) if account.id == lease.account]
    assert parked.state is AccountState.QUARANTINED
    assert "zoom_host_not_allowed" in parked.reason
    again = await school.claim()
    assert again.account != lease.account
    assert await create_meeting("default", str(again.id)) == "ready"


async def test_daily_limit_parks_the_host_until_midnight_utc(school: School) -> None:
    lease = await school.claim()
    body = {
        "code": 429,
        "message": "You have exceeded the daily rate limit (100) of Meeting Create/Update API requests permitted for "
        "this particular user. You may resume these requests at GMT 00:00:00.",
    }
    school.zoom.faults.add(FaultRule(action=FaultAction.RESPOND, status=429, body=body, host=lease.email, **CREATE))
    assert await create_meeting("default", str(lease.id)) == "failed"
    (parked,) = [account for account in await school.broker.run(school.pool.accounts()) if account.id == lease.account]
    assert parked.state is AccountState.LIMITED
    assert parked.until_ms > lease.now_ms
    assert parked.until_ms % (24 * 3600 * 1000) == 0


async def test_worker_gone_after_the_effect_is_made_up_for_by_the_reaper(school: School) -> None:
    lease = await school.claim()
    school.zoom.faults.add(FaultRule(action=FaultAction.HANG, when=When.AFTER, times=1, **CREATE))
    dying = asyncio.create_task(create_meeting("default", str(lease.id)))
    await wait_until_async(lambda: asyncio.sleep(0, school.meetings()), "the meeting exists at Zoom")
    dying.cancel()
    await asyncio.gather(dying, return_exceptions=True)

    async def enqueued_again() -> bool:
        await reap()
        return await queued(school, CREATE_MEETING.function) > 0

    await wait_until_async(enqueued_again, "the reaper enqueues the lost job")
    assert await create_meeting("default", str(lease.id)) == "ready"
    ready = await school.look(lease.id)
    assert ready is not None
    assert [ready.meeting_id] == school.meetings()


async def test_meeting_of_a_lease_that_moved_on_is_deleted(school: School) -> None:
    lease = await school.claim()
    school.zoom.faults.add(FaultRule(action=FaultAction.DELAY, when=When.AFTER, delay_ms=300, times=1, **CREATE))
    creating = asyncio.create_task(create_meeting("default", str(lease.id)))
    await wait_until_async(lambda: asyncio.sleep(0, school.meetings()), "the meeting exists at Zoom")
    assert await school.broker.run(school.pool.release([lease.id], ReleaseReason.FORCED)) == (Change.DONE,)
    assert await creating == "moved on"
    assert await queued(school, DELETE_MEETING.function) == 1


async def test_refresh_brings_a_new_start_url(school: School) -> None:
    lease = await school.claim()
    await create_meeting("default", str(lease.id))
    before = await school.look(lease.id)
    assert await refresh_start_url("default", str(lease.id)) == "refreshed"
    after = await school.look(lease.id)
    assert before is not None
    assert after is not None
    assert after.phase is Phase.READY
    assert after.start_url_ms > before.start_url_ms
    assert after.sealed_start_url != before.sealed_start_url
    types = [event.type for event in await school.broker.run(school.pool.events())]
    assert types[0] == "lease.refreshed"
