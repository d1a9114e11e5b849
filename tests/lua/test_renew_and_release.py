"""renew and release: signs of life, and the end of a lease."""

from __future__ import annotations

import pytest

from broker.client import Broker
from broker.errors import ScriptError
from broker.models import Change, Granted, LeaseId, Phase, ReleaseReason
from broker.operations import RELEASE_BATCH, Pool
from tests.factories import MEETING_ID, add, claimed, expire, lease_in, look, pass_time, try_claim

HOUR_MS = 3600 * 1000


@pytest.fixture(autouse=True)
def _one_account(broker: Broker, pool: Pool) -> None:
    add(broker, pool, "host-1")


def test_sign_of_life_pushes_the_deadline_back(broker: Broker, pool: Pool) -> None:
    lease = lease_in(Phase.LIVE, broker, pool)
    pass_time(broker.redis, pool, 10 * 60_000)
    renewed = broker.run(pool.renew(lease.id))
    assert (renewed.change, renewed.deadline_ms) == (Change.DONE, renewed.now_ms + 15 * 60_000)
    assert look(broker, pool).deadline_ms == renewed.deadline_ms


def test_later_deadline_stays(broker: Broker, pool: Pool) -> None:
    lease = lease_in(Phase.LIVE, broker, pool)
    far = lease.now_ms + HOUR_MS
    broker.redis.zadd(pool.keys.leased, {lease.id.slot: far})
    assert broker.run(pool.renew(lease.id)).deadline_ms == far


def test_renewing_ends_at_the_longest_hold(broker: Broker, pool: Pool) -> None:
    lease = lease_in(Phase.LIVE, broker, pool)
    for _ in range(36):
        pass_time(broker.redis, pool, 10 * 60_000 - 1000)
        renewed = broker.run(pool.renew(lease.id))
        assert renewed.change is Change.DONE
    assert renewed.deadline_ms == look(broker, pool).hold_until_ms
    pass_time(broker.redis, pool, HOUR_MS)
    late = broker.run(pool.renew(lease.id))
    assert (late.change, late.detail) == (Change.REFUSED, "expired")


@pytest.mark.parametrize("phase", [Phase.CLAIMED, Phase.CREATING, Phase.READY, Phase.SUSPECT])
def test_only_a_live_lease_is_renewed(broker: Broker, pool: Pool, phase: Phase) -> None:
    lease = lease_in(phase, broker, pool)
    result = broker.run(pool.renew(lease.id))
    assert (result.change, result.detail) == (Change.REFUSED, phase)
    assert look(broker, pool).deadline_ms == lease.deadline_ms


def test_sign_of_life_forgets_earlier_looks(broker: Broker, pool: Pool) -> None:
    lease = lease_in(Phase.LIVE, broker, pool)
    broker.run(pool.record(lease.id, looks=1))
    broker.run(pool.renew(lease.id))
    assert look(broker, pool).looks == 0


@pytest.mark.parametrize("phase", list(Phase))
def test_released_slot_is_free_and_its_lease_remembered(broker: Broker, pool: Pool, phase: Phase) -> None:
    lease = lease_in(phase, broker, pool)
    assert broker.run(pool.release([lease.id], ReleaseReason.FORCED, detail="by hand")) == (Change.DONE,)
    found = broker.run(pool.find_lesson("algebra"))
    assert found.lease is None
    assert found.outcome is not None
    assert (found.outcome.reason, found.outcome.detail) == (ReleaseReason.FORCED, "by hand")
    assert (found.outcome.phase, found.outcome.lease, found.outcome.owner) == (phase, lease.id, "anna")
    assert found.outcome.meeting_id == lease.meeting_id
    assert found.outcome.granted_ms == lease.granted_ms <= found.outcome.released_ms <= found.now_ms
    assert broker.run(pool.find_meeting(MEETING_ID)).lease is None
    assert broker.run(pool.status()).free == 1
    kept_ms = broker.redis.pttl(pool.keys.outcome("algebra"))
    assert 23 * HOUR_MS < int(str(kept_ms)) <= 24 * HOUR_MS


def test_releasing_again_is_stale_and_keeps_the_first_reason(broker: Broker, pool: Pool) -> None:
    lease = claimed(broker, pool)
    assert broker.run(pool.release([lease.id], ReleaseReason.FAILED, detail="zoom_down")) == (Change.DONE,)
    before = broker.run(pool.status())
    assert broker.run(pool.release([lease.id], ReleaseReason.FORCED)) == (Change.STALE,)
    outcome = broker.run(pool.find_lesson("algebra")).outcome
    assert outcome is not None
    assert (outcome.reason, outcome.detail) == (ReleaseReason.FAILED, "zoom_down")
    assert broker.run(pool.status()).events == before.events


def test_late_release_does_not_touch_the_next_lesson_on_the_slot(broker: Broker, pool: Pool) -> None:
    old = claimed(broker, pool, "algebra")
    broker.run(pool.release([old.id], ReleaseReason.ENDED))
    new = lease_in(Phase.LIVE, broker, pool, "biology")
    assert new.id.slot == old.id.slot
    assert broker.run(pool.release([old.id], ReleaseReason.ENDED)) == (Change.STALE,)
    assert look(broker, pool, "biology").phase is Phase.LIVE


def test_conditions_protect_a_lease_that_moved_on(broker: Broker, pool: Pool) -> None:
    lease = lease_in(Phase.LIVE, broker, pool)
    release = pool.release
    assert broker.run(release([lease.id], ReleaseReason.ENDED, only_uuid="other==")) == (Change.REFUSED,)
    assert broker.run(release([lease.id], ReleaseReason.ENDED, only_phase=Phase.SUSPECT)) == (Change.REFUSED,)
    both = release([lease.id], ReleaseReason.ENDED, only_phase=Phase.LIVE, only_uuid="other==")
    assert broker.run(both) == (Change.REFUSED,)
    assert look(broker, pool).phase is Phase.LIVE
    both = release([lease.id], ReleaseReason.ENDED, only_phase=Phase.LIVE, only_uuid="first==")
    assert broker.run(both) == (Change.DONE,)


def test_lease_without_a_meeting_has_no_uuid_to_match(broker: Broker, pool: Pool) -> None:
    lease = claimed(broker, pool)
    assert broker.run(pool.release([lease.id], ReleaseReason.ENDED, only_uuid="first==")) == (Change.REFUSED,)


def test_many_are_released_in_one_go_each_with_its_own_answer(broker: Broker, pool: Pool) -> None:
    add(broker, pool, "host-2", "host-3")
    a, b, c = (claimed(broker, pool, lesson) for lesson in "abc")
    broker.run(pool.begin_creating(b.id, "x"))
    answers = broker.run(
        pool.release([a.id, b.id, c.id, a.id, LeaseId("gone", 3, 9)], ReleaseReason.FAILED, only_phase=Phase.CLAIMED)
    )
    assert answers == (Change.DONE, Change.REFUSED, Change.DONE, Change.STALE, Change.STALE)
    assert broker.run(pool.release([], ReleaseReason.FAILED)) == ()


def test_batch_is_bounded(broker: Broker, pool: Pool) -> None:
    lease = claimed(broker, pool)
    others = [LeaseId("gone", 0, fence) for fence in range(1, RELEASE_BATCH)]
    with pytest.raises(ScriptError, match="TOO_MANY"):
        broker.run(pool.release([lease.id, *others, LeaseId("gone", 0, 0)], ReleaseReason.FORCED))
    assert look(broker, pool).id == lease.id, "nothing of too large a batch is done"
    answers = broker.run(pool.release([lease.id, *others], ReleaseReason.FORCED))
    assert answers == (Change.DONE, *[Change.STALE] * (RELEASE_BATCH - 1))


def test_expired_lease_can_still_be_released(broker: Broker, pool: Pool) -> None:
    lease = lease_in(Phase.LIVE, broker, pool)
    expire(broker, pool, lease.id.slot)
    assert broker.run(pool.release([lease.id], ReleaseReason.ENDED)) == (Change.DONE,)


def test_owner_key_is_gone_with_the_last_lease(broker: Broker, pool: Pool) -> None:
    add(broker, pool, "host-2")
    first, second = claimed(broker, pool, "a"), claimed(broker, pool, "b")
    broker.run(pool.release([first.id], ReleaseReason.ENDED))
    assert broker.run(pool.owned("anna")) == (second.id,)
    broker.run(pool.release([second.id], ReleaseReason.ENDED))
    assert broker.redis.exists(pool.keys.owners) == 0


def test_outcome_is_that_of_the_last_lease(broker: Broker, pool: Pool) -> None:
    first = lease_in(Phase.READY, broker, pool)
    broker.run(pool.release([first.id], ReleaseReason.FAILED, detail="x"))
    second = claimed(broker, pool)
    assert try_claim(broker, pool).outcome is Granted.HELD
    broker.run(pool.release([second.id], ReleaseReason.ENDED_BY_OWNER))
    outcome = broker.run(pool.find_lesson("algebra")).outcome
    assert outcome is not None
    assert (outcome.lease, outcome.reason, outcome.detail, outcome.meeting_id) == (
        second.id,
        ReleaseReason.ENDED_BY_OWNER,
        "",
        None,
    )


def test_release_is_an_event_that_says_why(broker: Broker, pool: Pool) -> None:
    lease = lease_in(Phase.READY, broker, pool)
    broker.run(pool.release([lease.id], ReleaseReason.FAILED, detail="zoom_3161"))
    newest = broker.run(pool.events(count=1))[0]
    assert (newest.type, newest.lesson, newest.lease) == ("lease.released", "algebra", str(lease.id))
    assert newest.fields == {
        "owner": "anna",
        "reason": "failed",
        "detail": "zoom_3161",
        "phase": "ready",
        "meeting_id": str(MEETING_ID),
    }
