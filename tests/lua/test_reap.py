"""reap: what passed deadlines mean, in bounded batches."""

from __future__ import annotations

import pytest

from broker.client import Broker
from broker.models import AccountState, Change, Phase, ReleaseReason
from broker.operations import Pool
from tests.factories import add, claimed, expire, lease_in, look, now_ms, pass_time, try_claim


def test_nothing_due_is_nothing_done(broker: Broker, pool: Pool) -> None:
    add(broker, pool, "host-1", "host-2")
    lease_in(Phase.LIVE, broker, pool)
    before = broker.run(pool.status())
    reaped = broker.run(pool.reap())
    assert (reaped.lapsed, reaped.suspected, reaped.stalled, reaped.unparked, reaped.more) == ((), (), (), (), False)
    assert broker.run(pool.status()).events == before.events


def test_empty_pool_has_nothing_to_reap(broker: Broker, pool: Pool) -> None:
    assert broker.run(pool.reap()).more is False


def test_expired_claim_is_free_and_remembered_as_lapsed(broker: Broker, pool: Pool) -> None:
    add(broker, pool, "host-1")
    lease = claimed(broker, pool)
    expire(broker, pool, lease.id.slot)
    assert broker.run(pool.reap()).lapsed == (lease.id,)
    found = broker.run(pool.find_lesson("algebra"))
    assert found.outcome is not None
    assert found.outcome.reason is ReleaseReason.LAPSED
    assert broker.run(pool.status()).free == 1
    assert broker.run(pool.reap()).lapsed == ()


@pytest.mark.parametrize("phase", [Phase.CREATING, Phase.READY, Phase.LIVE])
def test_expired_lease_that_reached_zoom_waits_for_its_word(broker: Broker, pool: Pool, phase: Phase) -> None:
    add(broker, pool, "host-1")
    lease = lease_in(phase, broker, pool)
    expire(broker, pool, lease.id.slot)
    reaped = broker.run(pool.reap())
    assert (reaped.suspected, reaped.lapsed) == ((lease.id,), ())
    after = look(broker, pool)
    assert (after.phase, after.was, after.deadline_ms, after.meeting_id) == (Phase.SUSPECT, phase, 0, lease.meeting_id)
    status = broker.run(pool.status())
    assert (status.free, status.leased, status.suspect) == (0, 0, 1)
    newest = broker.run(pool.events(count=1))[0]
    assert (newest.type, newest.fields["was"]) == ("lease.suspect", phase)
    assert broker.run(pool.reap()).suspected == ()


def test_batch_is_bounded_and_says_that_more_is_due(broker: Broker, pool: Pool) -> None:
    add(broker, pool, "host-1", capacity=10)
    leases = [claimed(broker, pool, f"lesson-{n}") for n in range(5)]
    expire(broker, pool, *(lease.id.slot for lease in leases))
    first, second, third = (broker.run(pool.reap(batch=2)) for _ in range(3))
    assert [len(run.lapsed) for run in (first, second, third)] == [2, 2, 1]
    assert {lease for run in (first, second, third) for lease in run.lapsed} == {lease.id for lease in leases}
    assert (first.more, second.more, third.more) == (True, True, False)


def test_claim_without_an_intent_is_stalled_after_a_while(broker: Broker, pool: Pool) -> None:
    add(broker, pool, "host-1")
    lease = claimed(broker, pool)
    assert broker.run(pool.reap()).stalled == ()
    pass_time(broker.redis, pool, 5_000)
    assert broker.run(pool.reap()).stalled == (lease.id,)
    broker.run(pool.begin_creating(lease.id, "attempt-1"))
    assert broker.run(pool.reap()).stalled == ()


def test_creation_whose_attempt_ran_out_is_stalled(broker: Broker, pool: Pool) -> None:
    add(broker, pool, "host-1")
    lease = lease_in(Phase.CREATING, broker, pool)
    assert broker.run(pool.reap()).stalled == ()
    pass_time(broker.redis, pool, 15_001)
    assert broker.run(pool.reap()).stalled == (lease.id,)
    assert broker.run(pool.begin_creating(lease.id, "attempt-2")).change is Change.DONE
    assert broker.run(pool.reap()).stalled == ()


@pytest.mark.parametrize("phase", [Phase.READY, Phase.LIVE, Phase.SUSPECT])
def test_lease_with_a_meeting_is_never_stalled(broker: Broker, pool: Pool, phase: Phase) -> None:
    add(broker, pool, "host-1")
    lease_in(phase, broker, pool)
    pass_time(broker.redis, pool, 14 * 60_000 + 30_000)  # a live lease ends within the horizon now
    assert broker.run(pool.reap()).stalled == ()


def test_limited_account_returns_when_its_time_is_up(broker: Broker, pool: Pool) -> None:
    add(broker, pool, "host-1", capacity=2)
    until_ms = now_ms(broker.redis) + 60_000
    broker.run(pool.park_account("host-1", AccountState.LIMITED, "daily limit", until_ms=until_ms))
    pass_time(broker.redis, pool, 59_000)
    assert broker.run(pool.reap()).unparked == ()
    pass_time(broker.redis, pool, 1_000)
    assert broker.run(pool.reap()).unparked == ("host-1",)
    (account,) = broker.run(pool.accounts())
    assert (account.state, account.reason, account.until_ms) == (AccountState.ACTIVE, "", 0)
    assert broker.run(pool.status()).free == 2
    newest = broker.run(pool.events(count=1))[0]
    assert (newest.type, newest.fields["account"]) == ("account.unparked", "host-1")
    assert broker.run(pool.reap()).unparked == ()


def test_limited_account_whose_slots_were_busy_returns_when_they_are_empty(broker: Broker, pool: Pool) -> None:
    add(broker, pool, "host-1")
    lease = lease_in(Phase.LIVE, broker, pool)
    until_ms = now_ms(broker.redis) + 60_000
    broker.run(pool.park_account("host-1", AccountState.LIMITED, "daily limit", until_ms=until_ms))
    pass_time(broker.redis, pool, 61_000)
    assert broker.run(pool.reap()).unparked == ()
    broker.run(pool.release([lease.id], ReleaseReason.ENDED))
    assert broker.run(pool.reap()).unparked == ("host-1",)
    assert broker.run(pool.status()).free == 1


def test_account_parked_for_good_stays(broker: Broker, pool: Pool) -> None:
    add(broker, pool, "host-1")
    broker.run(pool.park_account("host-1", AccountState.DISABLED, "repairs"))
    pass_time(broker.redis, pool, 10 * 365 * 24 * 3600 * 1000)
    assert broker.run(pool.reap()).unparked == ()


def test_accounts_return_in_bounded_batches(broker: Broker, pool: Pool) -> None:
    add(broker, pool, "a", "b", "c", capacity=2)
    for account in "abc":
        broker.run(pool.park_account(account, AccountState.LIMITED, "x", until_ms=now_ms(broker.redis) + 1000))
    pass_time(broker.redis, pool, 2000)
    returned: list[str] = []
    runs = 0
    more = True
    while more:
        reaped = broker.run(pool.reap(batch=2))
        returned += reaped.unparked
        more = reaped.more
        runs += 1
    assert sorted(returned) == ["a", "b", "c"]
    assert 3 <= runs <= 4


def test_slot_freed_by_the_reaper_is_granted_at_once(broker: Broker, pool: Pool) -> None:
    add(broker, pool, "host-1")
    lapsed = claimed(broker, pool)
    expire(broker, pool, lapsed.id.slot)
    broker.run(pool.reap())
    result = try_claim(broker, pool, "biology")
    assert result.lease is not None
    assert result.lease.id.fence > lapsed.id.fence
