"""Webhooks in any order, twice, late or for old instances: the end is the same."""

from __future__ import annotations

import dataclasses
import itertools

import pytest

from broker.jobs import DELETE_MEETING
from broker.models import AccountState, Lease, Phase, ReleaseReason
from broker.testing.zoom_simulator import Role
from broker.zoom.webhooks import WebhookEvent
from tests.integration.conftest import School
from tests.integration.test_create_meeting import queued
from workers.create_meeting import create_meeting
from workers.end_meeting import delete_meeting, end_meeting
from workers.webhook_events import handle_event


async def ready(school: School, lesson: str = "algebra", owner: str = "anna") -> Lease:
    """A lease whose meeting exists."""
    lease = await school.claim(lesson, owner)
    assert await create_meeting("default", str(lease.id)) == "ready"
    found = await school.look(lease.id)
    assert found is not None
    return found


async def tell(event: str, lease: Lease, *, at_ms: int, uuid: str | None = None) -> str:
    """Handle an event as a worker would, from plain JSON values."""
    webhook = WebhookEvent(
        event=event,
        event_ts=at_ms,
        meeting_id=lease.meeting_id,
        uuid=lease.meeting_uuid if uuid is None else uuid,
        participant="somebody" if "participant" in event else "",
        start_time_ms=at_ms if event == "meeting.started" else None,
    )
    return await handle_event(dataclasses.asdict(webhook))


async def phase(school: School, lease: Lease) -> Phase | None:
    found = await school.look(lease.id)
    return found.phase if found else None


async def test_started_makes_the_lease_live_and_ended_frees_the_slot_and_deletes_the_meeting(school: School) -> None:
    lease = await ready(school)
    assert await tell("meeting.started", lease, at_ms=1_000) == "done"
    assert await phase(school, lease) is Phase.LIVE
    assert await tell("meeting.ended", lease, at_ms=2_000) == "done"
    assert await phase(school, lease) is None
    found = await school.broker.run(school.pool.find_lesson("algebra"))
    assert found.outcome is not None
    assert found.outcome.reason is ReleaseReason.ENDED
    assert await queued(school, DELETE_MEETING.function) == 1
    assert lease.meeting_id is not None
    await delete_meeting("default", lease.meeting_id)
    assert school.meetings() == []


EVENTS = ("meeting.started", "meeting.participant_joined", "meeting.participant_left", "meeting.ended")


@pytest.mark.parametrize("order", list(itertools.permutations(range(len(EVENTS)))), ids=str)
async def test_any_order_of_one_lesson_ends_with_a_free_slot(school: School, order: tuple[int, ...]) -> None:
    lease = await ready(school)
    for number in order:
        await tell(EVENTS[number], lease, at_ms=1_000 + number)
        await tell(EVENTS[number], lease, at_ms=1_000 + number)
    status = await school.broker.run(school.pool.status())
    assert (status.free, status.leased, status.suspect) == (3, 0, 0)


async def test_ended_of_an_old_instance_is_ignored(school: School) -> None:
    lease = await ready(school)
    await tell("meeting.started", lease, at_ms=1_000, uuid="first==")
    await tell("meeting.started", lease, at_ms=5_000, uuid="second==")
    assert await tell("meeting.ended", lease, at_ms=4_000, uuid="first==") == "old instance"
    assert await phase(school, lease) is Phase.LIVE
    assert await tell("meeting.ended", lease, at_ms=6_000, uuid="second==") == "done"


async def test_late_start_of_an_old_instance_does_not_replace_the_current_one(school: School) -> None:
    lease = await ready(school)
    await tell("meeting.started", lease, at_ms=5_000, uuid="second==")
    assert await tell("meeting.started", lease, at_ms=1_000, uuid="first==") == "refused: older instance"
    found = await school.look(lease.id)
    assert found is not None
    assert found.meeting_uuid == "second=="


async def test_ended_of_an_unknown_instance_asks_zoom_before_it_frees_anything(school: School) -> None:
    lease = await ready(school)
    assert lease.meeting_id is not None
    school.zoom.world.join(lease.meeting_id, "Anna", Role.HOST)
    assert await tell("meeting.ended", lease, at_ms=1_000, uuid="unheard-of==") == "another instance runs"
    assert await phase(school, lease) is Phase.READY


async def test_event_of_a_lease_that_is_over_does_not_touch_the_next_lesson_on_its_slot(school: School) -> None:
    first = await ready(school)
    await tell("meeting.started", first, at_ms=1_000)
    await tell("meeting.ended", first, at_ms=2_000)
    for number in range(3):
        await ready(school, f"lesson-{number}", f"teacher-{number}")
    for event in EVENTS:
        assert await tell(event, first, at_ms=3_000) == "no lease"
    status = await school.broker.run(school.pool.status())
    assert status.phases == {"ready": 3}


async def test_somebody_in_an_expired_meeting_brings_its_lease_back(school: School) -> None:
    lease = await ready(school)
    await school.broker.redis.zadd(school.pool.keys.leased, {lease.id.slot: 1})
    await school.broker.run(school.pool.reap())
    assert await phase(school, lease) is Phase.SUSPECT
    assert await tell("meeting.participant_joined", lease, at_ms=1_000) == "done"
    assert await phase(school, lease) is Phase.LIVE


async def test_meeting_deleted_at_zoom_before_its_start_frees_the_slot(school: School) -> None:
    lease = await ready(school)
    assert lease.meeting_id is not None
    await delete_meeting("default", lease.meeting_id)
    assert await tell("meeting.deleted", lease, at_ms=1_000, uuid="") == "done"
    assert await phase(school, lease) is None


async def test_deactivated_user_leaves_the_rotation_by_e_mail(school: School) -> None:
    host = school.zoom.settings.hosts[0]
    event = WebhookEvent(event="user.deactivated", event_ts=1, host_id="someone", email=host.email.upper())
    assert await handle_event(dataclasses.asdict(event)) == "parked 1"
    states = {account.email: account.state for account in await school.broker.run(school.pool.accounts())}
    assert states[host.email] is AccountState.QUARANTINED
    assert list(states.values()).count(AccountState.ACTIVE) == 1


async def test_changed_user_who_can_still_host_stays(school: School) -> None:
    host = school.zoom.settings.hosts[0]
    event = WebhookEvent(event="user.updated", event_ts=1, host_id="someone", email=host.email)
    assert await handle_event(dataclasses.asdict(event)) == "can host"


@pytest.mark.parametrize("type", ["user.activated", "user.updated"])
async def test_user_who_can_host_again_brings_its_account_back_at_once(school: School, type: str) -> None:
    host = school.zoom.settings.hosts[0]
    about = WebhookEvent(event="user.deactivated", event_ts=1, host_id="someone", email=host.email)
    assert await handle_event(dataclasses.asdict(about)) == "parked 1"
    assert await handle_event(dataclasses.asdict(dataclasses.replace(about, event=type))) == "returned 1"
    assert (await school.broker.run(school.pool.status())).parked == 0


async def test_what_an_operator_said_of_an_account_outlives_what_zoom_says_of_its_user(school: School) -> None:
    host = school.zoom.settings.hosts[0]
    await school.broker.run(school.pool.park_account("host01", AccountState.DISABLED, "repairs"))
    for type in ("user.deactivated", "user.activated"):
        event = WebhookEvent(event=type, event_ts=1, host_id="someone", email=host.email)
        await handle_event(dataclasses.asdict(event))
    account = await school.broker.run(school.pool.account("host01"))
    assert account is not None
    assert (account.state, account.reason) == (AccountState.DISABLED, "repairs")


async def test_end_button_ends_and_deletes_the_running_meeting_before_the_slot_is_free(school: School) -> None:
    lease = await ready(school)
    assert lease.meeting_id is not None
    school.zoom.world.join(lease.meeting_id, "Anna", Role.HOST)
    await tell("meeting.started", lease, at_ms=1_000)
    assert await end_meeting("default", str(lease.id), ReleaseReason.ENDED_BY_OWNER, lease.lesson) == "released"
    assert school.meetings() == []
    assert await phase(school, lease) is None
    assert await end_meeting("default", str(lease.id), ReleaseReason.ENDED_BY_OWNER, lease.lesson) == "moved on"


async def test_end_button_before_the_meeting_exists_just_frees_the_slot(school: School) -> None:
    lease = await school.claim()
    assert await end_meeting("default", str(lease.id), ReleaseReason.ENDED_BY_OWNER, lease.lesson) == "released"
    assert await create_meeting("default", str(lease.id)) == "moved on"
    assert school.meetings() == []
