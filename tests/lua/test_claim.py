"""claim: who gets which slot, and who gets none and why."""

from __future__ import annotations

import pytest
import redis as redis_py

from broker.client import Broker
from broker.keys import Keys
from broker.models import AccountState, Change, Granted, Phase, ReleaseReason
from broker.operations import EXPIRE_BATCH, Pool
from tests import factories
from tests.factories import add, claimed, expire, lease_in, look, now_ms, pass_time, try_claim


def test_granted_lease_says_everything_that_its_worker_needs(broker: Broker, pool: Pool) -> None:
    broker.run(pool.add_account(factories.account("host-1", zoom_user_id="U1", credential="school")))
    result = try_claim(broker, pool)
    assert result.outcome is Granted.GRANTED
    lease = result.lease
    assert lease is not None
    assert lease.id.slot == "host-1#0"
    assert (lease.lesson, lease.owner, lease.phase) == ("algebra", "anna", Phase.CLAIMED)
    assert (lease.email, lease.zoom_user_id, lease.credential) == ("host-1@school.example", "U1", "school")
    assert (lease.topic, lease.duration_min) == ("Algebra", 45)
    assert lease.granted_ms == lease.since_ms == result.now_ms
    assert lease.deadline_ms == result.now_ms + 30_000
    assert lease.hold_until_ms == result.now_ms + 6 * 3600 * 1000
    assert look(broker, pool).id == lease.id


def test_second_claim_of_a_lesson_gets_the_lease_that_it_has(broker: Broker, pool: Pool) -> None:
    add(broker, pool, "host-1", "host-2")
    first, again = try_claim(broker, pool), try_claim(broker, pool)
    assert (first.outcome, again.outcome) == (Granted.GRANTED, Granted.HELD)
    assert first.lease is not None
    assert again.lease is not None
    assert again.lease.id == first.lease.id
    assert again.lease.deadline_ms == first.lease.deadline_ms
    assert broker.run(pool.status()).leased == 1


@pytest.mark.parametrize("phase", list(Phase))
def test_held_lease_is_found_in_any_phase(broker: Broker, pool: Pool, phase: Phase) -> None:
    add(broker, pool, "host-1")
    lease = lease_in(phase, broker, pool)
    result = try_claim(broker, pool)
    assert result.outcome is Granted.HELD
    assert result.lease is not None
    assert (result.lease.id, result.lease.phase) == (lease.id, phase)
    assert (result.lease.deadline_ms == 0) == (phase is Phase.SUSPECT)


def test_lesson_of_another_owner_tells_nothing(broker: Broker, pool: Pool) -> None:
    add(broker, pool, "host-1", "host-2")
    claimed(broker, pool, owner="anna")
    result = try_claim(broker, pool, owner="boris")
    assert (result.outcome, result.lease, result.free_at_ms) == (Granted.HELD_BY_OTHER, None, 0)


def test_pool_without_accounts_is_unknown(broker: Broker, pool: Pool) -> None:
    assert try_claim(broker, pool).outcome is Granted.UNKNOWN_POOL


def test_pool_whose_accounts_are_all_parked_is_busy_and_knows_no_deadline(broker: Broker, pool: Pool) -> None:
    add(broker, pool, "host-1")
    broker.run(pool.park_account("host-1", AccountState.DISABLED, "repairs"))
    result = try_claim(broker, pool)
    assert (result.outcome, result.free_at_ms) == (Granted.BUSY, 0)


def test_full_pool_says_when_the_next_slot_may_be_free(broker: Broker, pool: Pool) -> None:
    add(broker, pool, "host-1", "host-2")
    later = lease_in(Phase.LIVE, broker, pool, "algebra")
    sooner = claimed(broker, pool, "biology")
    result = try_claim(broker, pool, "chemistry")
    assert result.outcome is Granted.BUSY
    assert result.free_at_ms == sooner.deadline_ms < later.deadline_ms
    assert broker.run(pool.status()).fence == sooner.id.fence, "a refused claim mints no fence"


def test_quota_counts_what_an_owner_holds_and_nothing_else(broker: Broker, pool: Pool) -> None:
    add(broker, pool, "host-1", capacity=5)
    limited = [broker.run(pool.claim(f"lesson-{n}", "anna", max_leases=2)) for n in range(3)]
    assert [result.outcome for result in limited] == [Granted.GRANTED, Granted.GRANTED, Granted.QUOTA]
    assert limited[2].lease is None
    assert broker.run(pool.claim("lesson-0", "anna", max_leases=2)).outcome is Granted.HELD, "asking again is no second"
    assert broker.run(pool.claim("lesson-2", "boris", max_leases=2)).outcome is Granted.GRANTED
    assert limited[0].lease is not None
    broker.run(pool.release([limited[0].lease.id], ReleaseReason.ENDED))
    assert broker.run(pool.claim("lesson-3", "anna", max_leases=2)).outcome is Granted.GRANTED


def test_default_quota_is_the_setting(broker: Broker) -> None:
    strict = Broker(broker.redis, factories.settings(max_leases_per_owner=1))
    pool = strict.pool(factories.POOL)
    add(strict, pool, "host-1", capacity=2)
    assert [try_claim(strict, pool, lesson).outcome for lesson in "ab"] == [Granted.GRANTED, Granted.QUOTA]


def test_least_loaded_account_is_taken_first(broker: Broker, pool: Pool) -> None:
    add(broker, pool, "a", "b", capacity=3)
    add(broker, pool, "c", capacity=1)
    taken = [claimed(broker, pool, f"lesson-{n}").id.slot for n in range(7)]
    assert taken == ["a#0", "b#0", "c#0", "a#1", "b#1", "a#2", "b#2"]


def test_of_equally_loaded_accounts_the_one_that_rested_longest_is_taken(broker: Broker, pool: Pool) -> None:
    add(broker, pool, "a", "b", "c")
    leases = {lesson: claimed(broker, pool, lesson) for lesson in "xyz"}
    for lesson in "yxz":
        pass_time(broker.redis, pool, 10)
        broker.run(pool.release([leases[lesson].id], ReleaseReason.ENDED))
    wanted = [leases[lesson].account for lesson in "yxz"]
    assert [claimed(broker, pool, lesson).account for lesson in ("1", "2", "3")] == wanted


def test_suspect_lease_is_a_load_like_any_other(broker: Broker, pool: Pool) -> None:
    add(broker, pool, "a", "b", capacity=2)
    lease_in(Phase.SUSPECT, broker, pool, "old")
    first = claimed(broker, pool, "first")
    assert first.id.slot == "b#0"
    second = claimed(broker, pool, "second")
    assert second.id.slot == "a#1"
    broker.run(pool.release([second.id], ReleaseReason.ENDED))  # ranks what is left of a anew
    broker.run(pool.release([first.id], ReleaseReason.ENDED))
    assert [claimed(broker, pool, lesson).id.slot for lesson in "xyz"] == ["b#0", "a#1", "b#1"]


@pytest.mark.parametrize("capacity", range(1, 11))
def test_account_hosts_as_many_lessons_as_its_capacity(broker: Broker, pool: Pool, capacity: int) -> None:
    add(broker, pool, "host-1", capacity=capacity)
    slots = [claimed(broker, pool, f"lesson-{n}").id.slot for n in range(capacity)]
    assert slots == [f"host-1#{n}" for n in range(capacity)]
    assert try_claim(broker, pool, "one-more").outcome is Granted.BUSY


def test_slot_that_came_back_in_the_middle_is_ranked_by_the_load_that_is_left(broker: Broker, pool: Pool) -> None:
    add(broker, pool, "a", capacity=10)
    add(broker, pool, "b", capacity=10)
    leases = [claimed(broker, pool, f"lesson-{n}") for n in range(10)]  # five on each
    for lease in leases[0:6:2]:  # a keeps two
        broker.run(pool.release([lease.id], ReleaseReason.ENDED))
    assert {lease.account for lease in leases[0:6:2]} == {"a"}
    more = [claimed(broker, pool, f"more-{n}").account for n in range(4)]
    assert more == ["a", "a", "a", "b"], "three to draw level, then the one that rested longer"


def test_expired_claim_is_given_to_the_next_who_asks(broker: Broker, pool: Pool) -> None:
    add(broker, pool, "host-1")
    lapsed = claimed(broker, pool, "algebra")
    expire(broker, pool, lapsed.id.slot)
    result = try_claim(broker, pool, "biology", "boris")
    assert result.outcome is Granted.GRANTED
    assert result.lease is not None
    assert result.lease.id.slot == lapsed.id.slot
    assert result.lease.id.fence > lapsed.id.fence
    outcome = broker.run(pool.find_lesson("algebra")).outcome
    assert outcome is not None
    assert (outcome.reason, outcome.lease, outcome.phase) == (ReleaseReason.LAPSED, lapsed.id, Phase.CLAIMED)
    assert broker.run(pool.begin_creating(lapsed.id, "late")).change is Change.STALE


def test_expired_claim_of_the_same_lesson_becomes_a_new_lease(broker: Broker, pool: Pool) -> None:
    add(broker, pool, "host-1")
    lapsed = claimed(broker, pool)
    expire(broker, pool, lapsed.id.slot)
    again = try_claim(broker, pool)
    assert again.outcome is Granted.GRANTED
    assert again.lease is not None
    assert again.lease.id.fence > lapsed.id.fence


def test_own_expired_claim_is_seen_behind_any_number_of_others(broker: Broker, pool: Pool) -> None:
    add(broker, pool, *(f"host-{n:02d}" for n in range(EXPIRE_BATCH + 1)))
    leases = [claimed(broker, pool, f"lesson-{n}") for n in range(EXPIRE_BATCH + 1)]
    expire(broker, pool, *(lease.id.slot for lease in leases))
    again = try_claim(broker, pool, f"lesson-{EXPIRE_BATCH}")
    assert again.outcome is Granted.GRANTED
    assert again.lease is not None
    assert again.lease.id.fence > max(lease.id.fence for lease in leases)


def test_expired_lease_that_reached_zoom_is_not_given_away(broker: Broker, pool: Pool) -> None:
    add(broker, pool, "host-1")
    lease = lease_in(Phase.CREATING, broker, pool)
    expire(broker, pool, lease.id.slot)
    assert try_claim(broker, pool, "biology").outcome is Granted.BUSY
    assert look(broker, pool).phase is Phase.SUSPECT
    assert look(broker, pool).was is Phase.CREATING


def test_claim_clears_a_bounded_number_of_expired_leases(broker: Broker, pool: Pool) -> None:
    add(broker, pool, *(f"host-{n:02d}" for n in range(3 * EXPIRE_BATCH)))
    leases = [claimed(broker, pool, f"lesson-{n}") for n in range(3 * EXPIRE_BATCH)]
    expire(broker, pool, *(lease.id.slot for lease in leases))
    claimed(broker, pool, "new")
    status = broker.run(pool.status())
    assert (status.free, status.leased) == (EXPIRE_BATCH - 1, 2 * EXPIRE_BATCH + 1)


def test_fences_go_on_over_accounts_and_releases(broker: Broker, pool: Pool) -> None:
    add(broker, pool, "a", "b")
    fences = []
    for number in range(6):
        lease = claimed(broker, pool, f"lesson-{number}")
        fences.append(lease.id.fence)
        broker.run(pool.release([lease.id], ReleaseReason.ENDED))
    broker.run(pool.remove_account("a"))
    broker.run(pool.remove_account("b"))
    add(broker, pool, "a")
    fences.append(claimed(broker, pool, "after").id.fence)
    assert fences == sorted(set(fences))


def test_no_lease_outlives_its_longest_hold(broker: Broker) -> None:
    short = Broker(broker.redis, factories.settings(claim_ttl_s=30, max_hold_s=10))
    pool = short.pool(factories.POOL)
    add(short, pool, "host-1")
    lease = claimed(short, pool)
    assert lease.deadline_ms == lease.hold_until_ms == lease.granted_ms + 10_000


def test_exhausted_pool_is_told_once_in_a_while(broker: Broker, pool: Pool, redis: redis_py.Redis) -> None:
    add(broker, pool, "host-1")
    claimed(broker, pool)
    for number in range(5):
        try_claim(broker, pool, f"lesson-{number}")
    assert [event.type for event in broker.run(pool.events())].count("pool.exhausted") == 1
    assert 0 < redis.pttl(pool.keys.exhausted) <= 60_000
    redis.delete(pool.keys.exhausted)
    try_claim(broker, pool, "biology")
    assert [event.type for event in broker.run(pool.events())].count("pool.exhausted") == 2


def test_claim_is_one_event_and_a_refusal_only_one_of_the_pool(broker: Broker, pool: Pool) -> None:
    add(broker, pool, "host-1")
    lease = claimed(broker, pool)
    claimed(broker, pool)
    try_claim(broker, pool, "biology")
    try_claim(broker, pool, "algebra", "boris")
    exhausted, newest, before, *_ = broker.run(pool.events())
    assert (exhausted.type, exhausted.lesson, exhausted.lease) == ("pool.exhausted", "", "")
    assert (newest.type, newest.lesson, newest.lease, newest.fields) == (
        "lease.claimed",
        "algebra",
        str(lease.id),
        {"owner": "anna"},
    )
    assert before.type == "account.added"


def test_pools_do_not_see_each_other(broker: Broker, pool: Pool) -> None:
    other = broker.pool("other")
    add(broker, pool, "host-1")
    add(broker, other, "host-1")
    assert [claimed(broker, each).id.slot for each in (pool, other)] == ["host-1#0", "host-1#0"]
    assert {key for key in broker.redis.scan_iter("*") if not key.startswith(("zp:{default}:", "zp:{other}:"))} == set()


def test_deadlines_are_whole_milliseconds(broker: Broker, pool: Pool) -> None:
    """Lua prints large numbers as 1.8e+12 when asked carelessly."""
    add(broker, pool, "host-1")
    claimed(broker, pool)
    keys = Keys(factories.POOL)
    for name in ("since_ms", "granted_ms", "hold_until_ms"):
        assert str(broker.redis.hget(keys.slot("host-1#0"), name)).isdecimal()
    assert abs(now_ms(broker.redis) - int(str(broker.redis.hget(keys.slot("host-1#0"), "since_ms")))) < 60_000
