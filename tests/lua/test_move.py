"""move: another host for a lesson whose own failed it."""

from __future__ import annotations

import pytest

from broker.client import Broker
from broker.invariants import violations
from broker.models import Account, AccountState, Change, Lease, Moved, MoveResult, Phase, ReleaseReason
from broker.operations import MOST_MOVES, Pool
from tests.factories import MEETING_ID, add, claimed, expire, lease_in, look, meeting

REASON = "zoom_host_not_allowed: no licence"


def creating(broker: Broker, pool: Pool, lesson: str = "algebra") -> Lease:
    lease = lease_in(Phase.CREATING, broker, pool, lesson)
    assert lease.attempt == "attempt-1"
    return lease


def move(broker: Broker, pool: Pool, lease: Lease, attempt: str = "attempt-1", until_ms: int = 0) -> MoveResult:
    state = AccountState.LIMITED if until_ms else AccountState.QUARANTINED
    return broker.run(pool.move(lease, attempt, state, REASON, until_ms=until_ms))


def account(broker: Broker, pool: Pool, id: str) -> Account:
    found = broker.run(pool.account(id))
    assert found is not None
    return found


def test_lesson_gets_a_fresh_claim_on_another_host_and_its_own_is_parked(broker: Broker, pool: Pool) -> None:
    add(broker, pool, "a", "b")
    old = creating(broker, pool)
    result = move(broker, pool, old)
    new = result.lease
    assert result.outcome is Moved.MOVED
    assert new is not None
    assert (new.id.slot, new.phase, new.moves, new.moved_from) == ("b#0", Phase.CLAIMED, 1, old.id)
    assert (new.lesson, new.owner, new.topic, new.duration_min) == (old.lesson, old.owner, old.topic, old.duration_min)
    assert (new.email, new.attempt, new.attempt_until_ms) == ("b@school.example", "", 0)
    assert (new.granted_ms, new.hold_until_ms) == (old.granted_ms, old.hold_until_ms)
    assert new.since_ms == result.now_ms
    assert new.deadline_ms == result.now_ms + 30_000
    assert look(broker, pool).id == new.id
    assert broker.run(pool.owned("anna")) == (new.id,)
    failed = account(broker, pool, "a")
    assert (failed.state, failed.reason, failed.until_ms) == (AccountState.QUARANTINED, REASON, 0)
    status = broker.run(pool.status())
    assert (status.free, status.leased, status.parked, status.lessons) == (0, 1, 1, 1)
    assert not violations(broker, pool)


def test_the_move_leaves_its_marks_in_the_event_stream(broker: Broker, pool: Pool) -> None:
    add(broker, pool, "a", "b")
    old = creating(broker, pool)
    new = move(broker, pool, old).lease
    assert new is not None
    moved, parked = broker.run(pool.events(count=2))
    assert (moved.type, moved.lesson, moved.lease) == ("lease.moved", "algebra", str(new.id))
    assert moved.fields == {"owner": "anna", "from": str(old.id), "reason": REASON}
    assert (parked.type, parked.fields["account"], parked.fields["state"]) == ("account.parked", "a", "quarantined")
    assert broker.run(pool.find_lesson("algebra")).outcome is None, "the lesson goes on"


def test_same_move_asked_for_again_answers_the_same(broker: Broker, pool: Pool) -> None:
    add(broker, pool, "a", "b", "c")
    old = creating(broker, pool)
    first, again = move(broker, pool, old), move(broker, pool, old)
    assert first.lease is not None
    assert again.lease is not None
    assert (again.outcome, again.lease.id, again.lease.moves) == (Moved.MOVED, first.lease.id, 1)
    assert broker.run(pool.status()).fence == first.lease.id.fence


def test_old_lease_is_over_for_everybody(broker: Broker, pool: Pool) -> None:
    add(broker, pool, "a", "b")
    old = creating(broker, pool)
    move(broker, pool, old)
    assert broker.run(pool.begin_creating(old.id, "late")).change is Change.STALE
    assert broker.run(pool.made_ready(old.id, **meeting())).change is Change.STALE
    assert broker.run(pool.release([old.id], ReleaseReason.FAILED)) == (Change.STALE,)


def test_other_slots_of_the_failed_account_are_no_way_out(broker: Broker, pool: Pool) -> None:
    add(broker, pool, "a", capacity=3)
    add(broker, pool, "b")
    old = creating(broker, pool)
    assert old.account == "a"
    new = move(broker, pool, old).lease
    assert new is not None
    assert new.account == "b"
    assert broker.run(pool.status()).parked == 3
    assert not violations(broker, pool)


def test_leases_that_run_on_the_failed_account_stay(broker: Broker, pool: Pool) -> None:
    add(broker, pool, "a", capacity=2)
    running = lease_in(Phase.LIVE, broker, pool, "biology")
    add(broker, pool, "b")
    blocker = claimed(broker, pool, "chemistry")
    assert blocker.account == "b"
    old = creating(broker, pool)
    assert old.account == "a"
    broker.run(pool.release([blocker.id], ReleaseReason.ENDED))
    assert move(broker, pool, old).outcome is Moved.MOVED
    assert look(broker, pool, "biology").id == running.id
    assert not violations(broker, pool)


def test_without_another_free_host_the_lease_stays_and_the_account_is_parked(broker: Broker, pool: Pool) -> None:
    add(broker, pool, "a", capacity=2)
    old = creating(broker, pool)
    result = move(broker, pool, old)
    assert (result.outcome, result.lease, result.free_at_ms) == (Moved.BUSY, None, 0)
    assert look(broker, pool).id == old.id
    assert account(broker, pool, "a").state is AccountState.QUARANTINED
    assert broker.run(pool.status()).free == 0
    assert not violations(broker, pool)


def test_busy_says_when_another_host_may_be_free(broker: Broker, pool: Pool) -> None:
    add(broker, pool, "a", "b")
    old = creating(broker, pool)
    other = lease_in(Phase.LIVE, broker, pool, "biology")
    assert move(broker, pool, old).free_at_ms == other.deadline_ms


def test_busy_counts_on_no_host_that_is_out_of_rotation(broker: Broker, pool: Pool) -> None:
    add(broker, pool, "a", "b")
    old = creating(broker, pool)
    lease_in(Phase.LIVE, broker, pool, "biology")
    broker.run(pool.park_account("b", AccountState.DRAINING, "repairs"))
    result = move(broker, pool, old)
    assert (result.outcome, result.free_at_ms) == (Moved.BUSY, 0)


def test_a_lesson_moves_only_so_often(broker: Broker, pool: Pool) -> None:
    add(broker, pool, *(f"host-{n}" for n in range(MOST_MOVES + 2)))
    for _ in range(MOST_MOVES):
        assert move(broker, pool, creating(broker, pool)).outcome is Moved.MOVED
    last = creating(broker, pool)
    assert last.moves == MOST_MOVES
    assert move(broker, pool, last).outcome is Moved.EXHAUSTED
    assert look(broker, pool).id == last.id
    assert account(broker, pool, last.account).state is AccountState.QUARANTINED
    assert not violations(broker, pool)


def test_daily_limit_parks_until_it_is_over(broker: Broker, pool: Pool) -> None:
    add(broker, pool, "a", "b")
    move(broker, pool, creating(broker, pool), until_ms=4_000_000_000_000)
    limited = account(broker, pool, "a")
    assert (limited.state, limited.until_ms) == (AccountState.LIMITED, 4_000_000_000_000)
    assert broker.redis.zscore(pool.keys.parked, "a#0") == 4_000_000_000_000


@pytest.mark.parametrize("state", [AccountState.DISABLED, AccountState.DRAINING])
def test_an_operators_word_on_the_account_stays(broker: Broker, pool: Pool, state: AccountState) -> None:
    add(broker, pool, "a", "b")
    old = creating(broker, pool)
    broker.run(pool.park_account("a", state, "repairs"))
    assert move(broker, pool, old).outcome is Moved.MOVED
    kept = account(broker, pool, "a")
    assert (kept.state, kept.reason) == (state, "repairs")


def test_account_that_was_to_leave_leaves_with_the_lesson(broker: Broker, pool: Pool) -> None:
    add(broker, pool, "a", "b")
    old = creating(broker, pool)
    broker.run(pool.remove_account("a"))
    assert move(broker, pool, old).outcome is Moved.MOVED
    assert broker.run(pool.account("a")) is None
    assert not violations(broker, pool)


@pytest.mark.parametrize("phase", [Phase.CLAIMED, Phase.READY, Phase.LIVE, Phase.SUSPECT])
def test_only_a_lease_whose_meeting_is_being_created_moves(broker: Broker, pool: Pool, phase: Phase) -> None:
    add(broker, pool, "a", "b")
    lease = lease_in(phase, broker, pool, meeting_id=MEETING_ID)
    attempt = "" if phase is Phase.CLAIMED else "attempt-1"
    assert move(broker, pool, lease, attempt).outcome is Moved.REFUSED
    assert look(broker, pool).id == lease.id
    assert account(broker, pool, "a").state is AccountState.ACTIVE


def test_another_attempt_cannot_move_it(broker: Broker, pool: Pool) -> None:
    add(broker, pool, "a", "b")
    result = move(broker, pool, creating(broker, pool), "attempt-2")
    assert (result.outcome, result.detail) == (Moved.REFUSED, "another attempt")


def test_an_expired_creation_does_not_move(broker: Broker, pool: Pool) -> None:
    add(broker, pool, "a", "b")
    old = creating(broker, pool)
    expire(broker, pool, old.id.slot)
    assert move(broker, pool, old).outcome is Moved.REFUSED


def test_a_lesson_that_is_to_end_does_not_move(broker: Broker, pool: Pool) -> None:
    add(broker, pool, "a", "b")
    old = creating(broker, pool)
    broker.run(pool.record(old.id, ending=ReleaseReason.ENDED_BY_OWNER))
    assert (move(broker, pool, old).detail, look(broker, pool).id) == ("ending", old.id)


def test_released_lease_is_stale(broker: Broker, pool: Pool) -> None:
    add(broker, pool, "a", "b")
    old = creating(broker, pool)
    broker.run(pool.release([old.id], ReleaseReason.FORCED))
    assert move(broker, pool, old).outcome is Moved.STALE
    assert account(broker, pool, "a").state is AccountState.ACTIVE
