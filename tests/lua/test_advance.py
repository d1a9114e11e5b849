"""advance: phases in their order, facts recorded, attempts that exclude each other."""

from __future__ import annotations

import pytest

from broker.client import Broker
from broker.errors import ScriptError
from broker.models import Change, ChangeResult, LeaseId, Phase, ReleaseReason
from broker.operations import Operation, Pool
from tests.factories import MEETING_ID, add, claimed, expire, lease_in, look, meeting, pass_time


@pytest.fixture(autouse=True)
def _one_account(broker: Broker, pool: Pool) -> None:
    add(broker, pool, "host-1")


def stored(broker: Broker, pool: Pool) -> dict[str, object]:
    """The lease without its clock readings."""
    fields = vars(look(broker, pool)).copy()
    for name in ("now_ms", "deadline_ms", "attempt_until_ms", "since_ms"):
        del fields[name]
    return fields


def test_intent_then_meeting_then_start(broker: Broker, pool: Pool) -> None:
    id = claimed(broker, pool).id
    began = broker.run(pool.begin_creating(id, "attempt-1"))
    assert (began.change, began.detail) == (Change.DONE, "claimed")
    assert began.deadline_ms == began.now_ms + 60_000
    ready = broker.run(pool.made_ready(id, **meeting()))
    assert (ready.change, ready.detail, ready.deadline_ms) == (Change.DONE, "creating", ready.now_ms + 20 * 60_000)
    live = broker.run(pool.went_live(id, meeting_uuid="second==", at_ms=77))
    assert (live.change, live.detail, live.deadline_ms) == (Change.DONE, "ready", live.now_ms + 15 * 60_000)
    lease = look(broker, pool)
    assert (lease.phase, lease.meeting_id, lease.meeting_uuid) == (Phase.LIVE, MEETING_ID, "second==")
    assert (lease.join_url, lease.passcode, lease.sealed_start_url) == (
        f"https://zoom.example/j/{MEETING_ID}",
        "pass",
        "sealed",
    )
    assert (lease.start_url_ms, lease.instance_ms, lease.since_ms) == (1_700_000_000_000, 77, live.now_ms)
    found = broker.run(pool.find_meeting(MEETING_ID)).lease
    assert found is not None
    assert found.id == id


def test_meeting_is_remembered_beyond_its_lease(broker: Broker, pool: Pool) -> None:
    add(broker, pool, "host-1")
    lease = lease_in(Phase.READY, broker, pool)
    broker.run(pool.release([lease.id], ReleaseReason.ENDED))
    assert broker.run(pool.past_meeting(MEETING_ID)) == (lease.lesson, lease.owner)
    assert broker.run(pool.past_meeting(MEETING_ID + 1)) is None
    assert 2 * 86_400_000 < int(broker.redis.pttl(pool.keys.past(MEETING_ID))) <= 3 * 86_400_000


@pytest.mark.parametrize("phase", list(Phase))
def test_stale_fence_changes_nothing(broker: Broker, pool: Pool, phase: Phase) -> None:
    old = claimed(broker, pool).id
    broker.run(pool.release([old], ReleaseReason.FAILED))
    lease_in(phase, broker, pool, "biology")
    before = broker.redis.hgetall(pool.keys.slot(old.slot))
    late: list[Operation[ChangeResult]] = [
        pool.begin_creating(old, "late"),
        pool.made_ready(old, **meeting(1)),
        pool.went_live(old, meeting_uuid="late==", meeting_id=1),
        pool.record(old, looks=9),
        pool.renew(old),
    ]
    assert {broker.run(operation).change for operation in late} == {Change.STALE}
    assert broker.redis.hgetall(pool.keys.slot(old.slot)) == before
    assert broker.run(pool.find_meeting(1)).lease is None


def test_lease_of_a_slot_that_never_was_is_stale(broker: Broker, pool: Pool) -> None:
    assert broker.run(pool.begin_creating(LeaseId("nobody", 0, 1), "x")).change is Change.STALE


@pytest.mark.parametrize(
    ("phase", "allowed"),
    [
        (Phase.CLAIMED, {"creating", "record"}),
        (Phase.CREATING, {"creating", "ready", "live", "record"}),
        (Phase.READY, {"ready", "live", "record"}),
        (Phase.LIVE, {"ready", "live", "record"}),
        (Phase.SUSPECT, {"live", "record"}),
    ],
)
def test_phase_allows_these_steps_and_refuses_the_others(
    broker: Broker, pool: Pool, phase: Phase, allowed: set[str]
) -> None:
    for step in ("creating", "ready", "live", "record"):
        lease = lease_in(phase, broker, pool)
        operation = {
            "creating": pool.begin_creating(lease.id, "attempt-1"),
            "ready": pool.made_ready(lease.id, **meeting()),
            "live": pool.went_live(lease.id, meeting_uuid="first==", meeting_id=MEETING_ID),
            "record": pool.record(lease.id, looks=1),
        }[step]
        result = broker.run(operation)
        assert result.change is (Change.DONE if step in allowed else Change.REFUSED), step
        assert result.detail == phase, step
        broker.run(pool.release([lease.id], ReleaseReason.ENDED))


def test_second_attempt_waits_until_the_first_one_cannot_be_under_way(broker: Broker, pool: Pool) -> None:
    id = claimed(broker, pool).id
    first = broker.run(pool.begin_creating(id, "attempt-1"))
    second = broker.run(pool.begin_creating(id, "attempt-2"))
    assert second.change is Change.BUSY
    assert second.deadline_ms == first.now_ms + 15_000
    assert look(broker, pool).attempt == "attempt-1"
    pass_time(broker.redis, pool, 15_001)
    third = broker.run(pool.begin_creating(id, "attempt-2"))
    assert (third.change, third.detail) == (Change.DONE, "creating"), "it has to look for the first one's meeting"
    assert broker.run(pool.begin_creating(id, "attempt-1")).change is Change.BUSY


def test_same_attempt_may_ask_again_and_goes_on(broker: Broker, pool: Pool) -> None:
    id = claimed(broker, pool).id
    broker.run(pool.begin_creating(id, "attempt-1"))
    pass_time(broker.redis, pool, 10_000)
    again = broker.run(pool.begin_creating(id, "attempt-1"))
    assert again.change is Change.DONE
    assert look(broker, pool).attempt_until_ms == again.now_ms + 15_000


def test_retries_never_stretch_a_creation(broker: Broker, pool: Pool) -> None:
    id = claimed(broker, pool).id
    first = broker.run(pool.begin_creating(id, "attempt-1"))
    for number in range(2, 5):
        pass_time(broker.redis, pool, 16_000)
        again = broker.run(pool.begin_creating(id, f"attempt-{number}"))
        assert again.change is Change.DONE
    assert again.deadline_ms <= first.deadline_ms - 3 * 16_000
    pass_time(broker.redis, pool, 16_000)
    late = broker.run(pool.begin_creating(id, "attempt-5"))
    assert (late.change, late.detail) == (Change.REFUSED, "expired")


def test_expired_claim_cannot_be_begun_even_before_anybody_took_its_slot(broker: Broker, pool: Pool) -> None:
    id = claimed(broker, pool).id
    expire(broker, pool, id.slot)
    result = broker.run(pool.begin_creating(id, "late"))
    assert (result.change, result.detail) == (Change.REFUSED, "lapsed")
    assert look(broker, pool).phase is Phase.CLAIMED


@pytest.mark.parametrize("phase", [Phase.CREATING, Phase.READY, Phase.LIVE, Phase.SUSPECT])
def test_expired_lease_whose_meeting_starts_lives(broker: Broker, pool: Pool, phase: Phase) -> None:
    lease = lease_in(phase, broker, pool)
    if phase is not Phase.SUSPECT:
        expire(broker, pool, lease.id.slot)
    result = broker.run(pool.went_live(lease.id, meeting_uuid="again==", meeting_id=MEETING_ID))
    assert result.change is Change.DONE
    assert result.deadline_ms == result.now_ms + 15 * 60_000
    after = look(broker, pool)
    assert (after.phase, after.was, after.looks) == (Phase.LIVE, None, 0)


def test_no_phase_outlives_the_longest_hold(broker: Broker, pool: Pool) -> None:
    lease = lease_in(Phase.READY, broker, pool)
    pass_time(broker.redis, pool, 6 * 3600 * 1000 - 60_000)
    live = broker.run(pool.went_live(lease.id, meeting_uuid="first=="))
    assert live.change is Change.DONE
    assert live.deadline_ms == look(broker, pool).hold_until_ms < live.now_ms + 61_000


def test_start_without_a_known_meeting_is_refused(broker: Broker, pool: Pool) -> None:
    lease = lease_in(Phase.CREATING, broker, pool)
    result = broker.run(pool.went_live(lease.id, meeting_uuid="first=="))
    assert (result.change, result.detail) == (Change.REFUSED, "no meeting")


def test_lease_keeps_its_first_meeting(broker: Broker, pool: Pool) -> None:
    lease = lease_in(Phase.READY, broker, pool)
    for operation in (
        pool.made_ready(lease.id, **meeting(MEETING_ID + 1)),
        pool.went_live(lease.id, meeting_uuid="x", meeting_id=MEETING_ID + 1),
        pool.record(lease.id, meeting_id=MEETING_ID + 1),
    ):
        result = broker.run(operation)
        assert (result.change, result.detail) == (Change.CONFLICT, str(MEETING_ID))
    assert look(broker, pool).meeting_id == MEETING_ID
    assert broker.run(pool.find_meeting(MEETING_ID + 1)).lease is None


def test_older_instance_does_not_replace_a_newer_one(broker: Broker, pool: Pool) -> None:
    lease = lease_in(Phase.READY, broker, pool)
    assert broker.run(pool.went_live(lease.id, meeting_uuid="new==", at_ms=200)).change is Change.DONE
    late = broker.run(pool.went_live(lease.id, meeting_uuid="old==", at_ms=100))
    assert (late.change, late.detail) == (Change.REFUSED, "older instance")
    assert (look(broker, pool).meeting_uuid, look(broker, pool).instance_ms) == ("new==", 200)
    assert broker.run(pool.went_live(lease.id, meeting_uuid="new==", at_ms=150)).change is Change.DONE
    assert look(broker, pool).instance_ms == 200
    assert broker.run(pool.went_live(lease.id, meeting_uuid="newer==", at_ms=300)).change is Change.DONE
    assert look(broker, pool).meeting_uuid == "newer=="


def test_refused_start_leaves_the_looks_alone(broker: Broker, pool: Pool) -> None:
    lease = lease_in(Phase.LIVE, broker, pool)
    broker.run(pool.record(lease.id, looks=1))
    assert broker.run(pool.went_live(lease.id, meeting_uuid="old==", at_ms=10)).change is Change.REFUSED
    assert look(broker, pool).looks == 1
    assert broker.run(pool.went_live(lease.id, meeting_uuid="first==", at_ms=2000)).change is Change.DONE
    assert look(broker, pool).looks == 0


def test_meeting_reported_late_does_not_bring_a_live_lesson_back_to_ready(broker: Broker, pool: Pool) -> None:
    lease = lease_in(Phase.LIVE, broker, pool)
    deadline_ms = look(broker, pool).deadline_ms
    late = broker.run(pool.made_ready(lease.id, **meeting(meeting_uuid="older==")))
    assert (late.change, late.detail, late.deadline_ms) == (Change.DONE, "live", deadline_ms)
    assert (look(broker, pool).phase, look(broker, pool).meeting_uuid) == (Phase.LIVE, "first==")


def test_recording_changes_neither_phase_nor_deadline(broker: Broker, pool: Pool) -> None:
    lease = lease_in(Phase.READY, broker, pool)
    result = broker.run(pool.record(lease.id, start_url="sealed anew", start_url_ms=5))
    after = look(broker, pool)
    assert (result.change, result.deadline_ms) == (Change.DONE, lease.deadline_ms)
    assert (after.phase, after.deadline_ms, after.since_ms) == (Phase.READY, lease.deadline_ms, lease.since_ms)
    assert (after.sealed_start_url, after.start_url_ms) == ("sealed anew", 5)


def test_new_start_url_wakes_whoever_waits_for_it_and_a_look_does_not(broker: Broker, pool: Pool) -> None:
    lease = lease_in(Phase.LIVE, broker, pool)
    before = broker.run(pool.status()).events
    broker.run(pool.record(lease.id, looks=1))
    assert broker.run(pool.status()).events == before
    broker.run(pool.record(lease.id, start_url="sealed anew"))
    newest = broker.run(pool.events(count=1))[0]
    assert (newest.type, newest.lease) == ("lease.refreshed", str(lease.id))
    assert "sealed anew" not in repr(newest)


def test_recorded_meeting_is_found_by_its_id(broker: Broker, pool: Pool) -> None:
    lease = lease_in(Phase.CREATING, broker, pool)
    assert broker.run(pool.record(lease.id, meeting_id=MEETING_ID)).change is Change.DONE
    found = broker.run(pool.find_meeting(MEETING_ID)).lease
    assert found is not None
    assert found.id == lease.id


def test_recording_on_a_suspect_lease_leaves_it_suspect(broker: Broker, pool: Pool) -> None:
    lease = lease_in(Phase.SUSPECT, broker, pool)
    result = broker.run(pool.record(lease.id, looks=1))
    assert (result.change, result.deadline_ms) == (Change.DONE, 0)
    assert look(broker, pool).phase is Phase.SUSPECT


def test_every_step_may_be_repeated(broker: Broker, pool: Pool) -> None:
    id = claimed(broker, pool).id
    for operation in (
        pool.begin_creating(id, "attempt-1"),
        pool.made_ready(id, **meeting()),
        pool.went_live(id, meeting_uuid="second==", at_ms=50),
        pool.record(id, looks=1),
    ):
        assert broker.run(operation).change is Change.DONE
        once = stored(broker, pool)
        assert broker.run(operation).change is Change.DONE
        assert stored(broker, pool) == once


def test_each_change_of_phase_is_one_event(broker: Broker, pool: Pool) -> None:
    id = claimed(broker, pool).id
    broker.run(pool.begin_creating(id, "attempt-1"))
    broker.run(pool.made_ready(id, **meeting()))
    for _ in range(3):
        broker.run(pool.went_live(id, meeting_uuid="second==", at_ms=50))
    events = broker.run(pool.events())
    assert [event.type for event in events] == [
        "lease.live",
        "lease.ready",
        "lease.creating",
        "lease.claimed",
        "account.added",
    ]
    assert events[0].fields == {"owner": "anna", "meeting_id": str(MEETING_ID)}


def test_unknown_phase_is_an_error(broker: Broker, pool: Pool) -> None:
    id = claimed(broker, pool).id
    script = pool.begin_creating(id, "x").script
    wrong = Operation("advance", (1, pool.keys.base, str(id), "asleep", 1, "", 0, 0, 100), str, script)
    with pytest.raises(ScriptError, match="UNKNOWN_PHASE asleep"):
        broker.run(wrong)
    assert look(broker, pool).phase is Phase.CLAIMED
