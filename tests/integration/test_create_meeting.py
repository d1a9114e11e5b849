"""The creation job against a simulated Zoom: one meeting per lease, whatever goes wrong."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from broker.jobs import CREATE_MEETING, DELETE_MEETING
from broker.models import Account, AccountState, Change, Credential, Lease, Moved, Outcome, Phase, ReleaseReason
from broker.operations import CLAIM_STALL_S, ms
from broker.registry import credentials
from broker.testing.zoom_simulator import FaultAction, FaultRule, HostSpec, When
from broker.zoom import Meeting, marker
from tests.integration.conftest import School
from tests.waiting import wait_until_async
from workers.create_meeting import Creation, create_meeting, refresh_start_url
from workers.end_meeting import NotYet, end_meeting
from workers.reap import reap

CREATE: dict[str, Any] = {"method": "POST", "path": "/v2/users/*/meetings"}
LIST: dict[str, Any] = {"method": "GET", "path": "/v2/users/*/meetings"}
NOT_ALLOWED = {"code": 3161, "message": "Your user account is not allowed meeting hosting and scheduling capabilities."}
DAILY_LIMIT = {
    "code": 429,
    "message": "You have exceeded the daily rate limit (100) of Meeting Create/Update API requests permitted for this "
    "particular user. You may resume these requests at GMT 00:00:00.",
}


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


async def account(school: School, id: str) -> Account:
    """An account as it is now."""
    found = await school.broker.run(school.pool.account(id))
    assert found is not None
    return found


async def outcome(school: School, lesson: str = "algebra") -> Outcome:
    """How the lesson's lease ended."""
    found = await school.broker.run(school.pool.find_lesson(lesson))
    assert found.outcome is not None
    return found.outcome


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (
            (400, {"code": 3161, "message": "Your user account is not allowed meeting hosting."}),
            "zoom_host_not_allowed",
        ),
        ((404, {"code": 1001, "message": "User does not exist: anna."}), "zoom_host_unknown"),
        ((400, {"code": 1010, "message": "User not found on this account"}), "zoom_host_unknown"),
        ((400, {"code": 200, "message": "This user is inactive."}), "zoom_host_inactive"),
    ],
)
async def test_host_at_fault_leaves_the_rotation_and_the_lesson_starts_on_another_in_the_same_run(
    school: School, answer: tuple[int, dict[str, Any]], code: str
) -> None:
    lease = await school.claim()
    status, body = answer
    school.zoom.faults.add(FaultRule(action=FaultAction.RESPOND, status=status, body=body, host=lease.email, **CREATE))
    assert await create_meeting("default", str(lease.id)) == "ready"
    moved = (await school.broker.run(school.pool.find_lesson("algebra"))).lease
    assert moved is not None
    assert (moved.phase, moved.moves, moved.moved_from) == (Phase.READY, 1, lease.id)
    assert moved.account != lease.account
    assert [moved.meeting_id] == school.meetings()
    parked = await account(school, lease.account)
    assert parked.state is AccountState.QUARANTINED
    assert parked.reason.startswith(f"{code}: ")


async def test_daily_limit_parks_the_host_until_midnight_utc_and_the_lesson_moves(school: School) -> None:
    lease = await school.claim()
    school.zoom.faults.add(
        FaultRule(action=FaultAction.RESPOND, status=429, body=DAILY_LIMIT, host=lease.email, **CREATE)
    )
    assert await create_meeting("default", str(lease.id)) == "ready"
    parked = await account(school, lease.account)
    assert parked.state is AccountState.LIMITED
    assert parked.until_ms > lease.now_ms
    assert parked.until_ms % (24 * 3600 * 1000) == 0


async def test_when_no_host_is_left_the_lesson_fails_with_the_hosts_own_code(school: School) -> None:
    lease = await school.claim()
    school.zoom.faults.add(FaultRule(action=FaultAction.RESPOND, status=400, body=NOT_ALLOWED, **CREATE))
    assert await create_meeting("default", str(lease.id)) == "failed"
    failed = await outcome(school)
    assert (failed.reason, failed.detail) == (ReleaseReason.FAILED, "zoom_host_not_allowed")
    assert failed.lease != lease.id
    status = await school.broker.run(school.pool.status())
    assert (status.leased, status.free, status.parked) == (0, 0, 3)


async def test_when_all_other_hosts_are_in_use_the_lesson_fails_as_if_all_were_busy(school: School) -> None:
    lease = await school.claim()
    for lesson in ("biology", "chemistry"):
        assert await create_meeting("default", str((await school.claim(lesson, lesson)).id)) == "ready"
    school.zoom.faults.add(
        FaultRule(action=FaultAction.RESPOND, status=400, body=NOT_ALLOWED, host=lease.email, **CREATE)
    )
    assert await create_meeting("default", str(lease.id)) == "failed"
    assert (await outcome(school)).detail == "pool_exhausted"


async def test_credential_at_fault_takes_all_its_accounts_along_and_the_lesson_moves_to_another(
    school: School,
) -> None:
    school.zoom.world.hosts.add(HostSpec(email="second@school.example"))
    second = Account("other", "second@school.example", "", "second", 1)
    third = Account("third", "third@school.example", "", "default", 1)
    other_pool = school.broker.pool("other-pool")
    app = school.zoom.settings.apps[0]
    await credentials.save(
        school.broker.redis, school.box, Credential("second", app.account_id, app.client_id, app.client_secret)
    )
    lease = await school.claim()
    await school.broker.run(other_pool.register())
    await school.broker.run(other_pool.add_account(third))
    await school.broker.run(school.pool.add_account(second))
    wrong = Credential("default", app.account_id, "no-such-client", app.client_secret)
    await credentials.save(school.broker.redis, school.box, wrong)

    assert await create_meeting("default", str(lease.id)) == "ready"
    moved = (await school.broker.run(school.pool.find_lesson("algebra"))).lease
    assert moved is not None
    assert (moved.account, moved.moves) == ("other", 1)
    for id in ("host01", "host02"):
        parked = await account(school, id)
        assert parked.state is AccountState.QUARANTINED
        assert parked.reason.startswith("zoom_credential_rejected: ")
    elsewhere = await school.broker.run(other_pool.account("third"))
    assert elsewhere is not None
    assert elsewhere.state is AccountState.QUARANTINED


@pytest.mark.parametrize(
    ("status", "body", "code"),
    [
        (401, {"code": 124, "message": "Invalid access token."}, "zoom_credential_rejected"),
        (400, {"code": 4711, "message": "Invalid access token, does not contain scopes:[a]."}, "zoom_scope_missing"),
    ],
)
async def test_the_only_credential_at_fault_fails_the_lesson_with_its_code(
    school: School, status: int, body: dict[str, Any], code: str
) -> None:
    lease = await school.claim()
    school.zoom.faults.add(FaultRule(action=FaultAction.RESPOND, status=status, body=body, **CREATE))
    assert await create_meeting("default", str(lease.id)) == "failed"
    assert (await outcome(school)).detail == code
    assert (await school.broker.run(school.pool.status())).parked == 3


async def test_credential_that_was_removed_fails_the_lesson_at_once(school: School) -> None:
    lease = await school.claim()
    await credentials.delete(school.broker.redis, "default")
    assert await create_meeting("default", str(lease.id)) == "failed"
    assert (await outcome(school)).detail == "unknown_credential"
    assert (await account(school, lease.account)).state is AccountState.QUARANTINED


async def test_lesson_whose_earlier_attempt_is_in_doubt_never_moves(school: School) -> None:
    lease = await school.claim()
    school.zoom.faults.add(FaultRule(action=FaultAction.RESET, when=When.AFTER, times=1, **CREATE))
    school.zoom.faults.add(FaultRule(action=FaultAction.RESPOND, status=400, body=NOT_ALLOWED, **CREATE))
    empty = {"page_size": 30, "next_page_token": "", "meetings": []}
    school.zoom.faults.add(FaultRule(action=FaultAction.RESPOND, status=200, body=empty, **LIST))
    assert await create_meeting("default", str(lease.id)) == "unknown"
    kept = await school.look(lease.id)
    assert kept is not None
    assert kept.phase is Phase.CREATING
    assert len(school.meetings()) == 1
    assert (await account(school, lease.account)).state is AccountState.QUARANTINED


async def test_without_the_look_up_a_lost_answer_would_make_two_meetings(
    school: School, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The look-up is what keeps it at one: the protection is real, and so is this test's fault."""

    async def no_look(creation: Creation, lease: Lease, credential: Credential) -> list[Meeting]:
        return []

    monkeypatch.setattr(Creation, "_look", no_look)
    lease = await school.claim()
    school.zoom.faults.add(FaultRule(action=FaultAction.RESET, when=When.AFTER, times=1, **CREATE))
    assert await create_meeting("default", str(lease.id)) == "ready"
    assert len(school.meetings()) == 2


async def test_meeting_that_zoom_lists_late_is_found_by_the_second_look(school: School) -> None:
    lease = await school.claim()
    school.zoom.faults.add(FaultRule(action=FaultAction.RESET, when=When.AFTER, times=1, **CREATE))
    empty = {"page_size": 30, "next_page_token": "", "meetings": []}
    school.zoom.faults.add(FaultRule(action=FaultAction.RESPOND, status=200, body=empty, times=3, **LIST))
    assert await create_meeting("default", str(lease.id)) == "ready"
    assert len(school.meetings()) == 1


async def test_retry_after_is_waited_out(school: School) -> None:
    lease = await school.claim()
    body = {"code": 429, "message": "You have reached the maximum per-second rate limit for this API."}
    school.zoom.faults.add(
        FaultRule(action=FaultAction.RESPOND, status=429, body=body, headers={"Retry-After": "1"}, times=1, **CREATE)
    )
    before = asyncio.get_running_loop().time()
    assert await create_meeting("default", str(lease.id)) == "ready"
    assert asyncio.get_running_loop().time() - before >= 1


async def test_retry_after_beyond_the_time_to_create_fails_at_once(school: School) -> None:
    lease = await school.claim()
    body = {"code": 429, "message": "You have reached the maximum per-second rate limit for this API."}
    school.zoom.faults.add(
        FaultRule(action=FaultAction.RESPOND, status=429, body=body, headers={"Retry-After": "60"}, times=1, **CREATE)
    )
    assert await create_meeting("default", str(lease.id)) == "failed"
    assert (await outcome(school)).detail == "zoom_rate_limited"


async def test_creations_of_a_host_are_counted_and_the_lesson_moves_before_zoom_refuses(
    school: School, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZOOMPOOL_ZOOM_HOST_DAILY", "1")
    first = await school.claim()
    assert await create_meeting("default", str(first.id)) == "ready"
    await end_meeting("default", str(first.id), ReleaseReason.ENDED_BY_OWNER, first.lesson)
    await school.broker.run(school.pool.park_account("host02", AccountState.DRAINING, "so that host01 is next"))
    again = await school.claim("biology")
    assert again.account == first.account
    await school.broker.run(school.pool.unpark_account("host02"))
    assert await create_meeting("default", str(again.id)) == "ready"
    assert (await account(school, first.account)).state is AccountState.LIMITED
    moved = (await school.broker.run(school.pool.find_lesson("biology"))).lease
    assert moved is not None
    assert moved.account == "host02"


async def test_a_full_budget_is_waited_out_inside_the_time_to_create(
    school: School, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZOOMPOOL_ZOOM_LIMITS", '{"medium": {"per_s": 1}}')
    leases = [await school.claim(lesson, lesson) for lesson in "abc"]
    answers = await asyncio.gather(*(create_meeting("default", str(lease.id)) for lease in leases))
    assert answers == ["ready"] * 3
    assert len(school.meetings()) == 3


async def test_lesson_that_its_teacher_ends_meanwhile_does_not_move(school: School) -> None:
    lease = await school.claim()
    school.zoom.faults.add(
        FaultRule(action=FaultAction.RESPOND, status=400, body=NOT_ALLOWED, host=lease.email, **CREATE)
    )
    await school.broker.run(school.pool.begin_creating(lease.id, "killed"))
    with pytest.raises(NotYet):
        await end_meeting("default", str(lease.id), ReleaseReason.ENDED_BY_OWNER, lease.lesson)
    result = await school.broker.run(school.pool.move(lease, "killed", AccountState.QUARANTINED, "licence"))
    assert (result.outcome, result.detail) == (Moved.REFUSED, "ending")


async def test_worker_gone_after_a_move_is_made_up_for_by_the_reaper(school: School) -> None:
    lease = await school.claim()
    await school.broker.run(school.pool.begin_creating(lease.id, "killed"))
    moved = (await school.broker.run(school.pool.move(lease, "killed", AccountState.QUARANTINED, "licence"))).lease
    assert moved is not None
    since = moved.since_ms - ms(CLAIM_STALL_S)
    await school.broker.redis.hset(school.pool.keys.slot(moved.id.slot), "since_ms", str(since))
    assert (await school.broker.run(school.pool.reap())).stalled == (moved.id,)
    assert await create_meeting("default", str(moved.id)) == "ready"


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


async def test_lesson_that_moved_before_its_end_was_begun_is_ended_where_it_is(school: School) -> None:
    lease = await school.claim()
    await school.broker.run(school.pool.begin_creating(lease.id, "killed"))
    moved = (await school.broker.run(school.pool.move(lease, "killed", AccountState.QUARANTINED, "licence"))).lease
    assert moved is not None
    assert await create_meeting("default", str(moved.id)) == "ready"
    assert await end_meeting("default", str(lease.id), ReleaseReason.ENDED_BY_OWNER, lease.lesson) == "released"
    assert school.meetings() == []
    assert (await school.broker.run(school.pool.find_lesson(lease.lesson))).lease is None
