"""The pool's clock: never earlier than the largest time seen, and fences ahead of any that was ever handed out.

Redis's own time cannot be set, so a clock that went back is played by a `fence` that is ahead of it.
"""

from __future__ import annotations

import re

import pytest
import redis as redis_py

from broker import scripts
from broker.client import Broker
from broker.models import Change, Granted, Phase, ReleaseReason
from broker.operations import Pool
from tests.factories import add, claimed, expire, lease_in, look, now_ms, pass_time, try_claim

HOUR_MS = 3_600_000


def clock_went_back(broker: Broker, pool: Pool, by_ms: int = HOUR_MS) -> int:
    """Let Redis have shown, before now, a time that lies `by_ms` ahead; return that time."""
    seen_ms = now_ms(broker.redis) + by_ms
    broker.redis.set(pool.keys.fence, seen_ms * 1000)
    return seen_ms


def hour_later(broker: Broker, pool: Pool) -> None:
    """As `pass_time`, for a pool whose clock is ahead: Redis now shows what it had shown before it went back."""
    pass_time(broker.redis, pool, HOUR_MS)
    broker.redis.decrby(pool.keys.fence, HOUR_MS * 1000)


def test_deadline_is_reckoned_from_the_largest_time_seen(broker: Broker, pool: Pool) -> None:
    add(broker, pool, "a")
    seen_ms = clock_went_back(broker, pool)
    lease = claimed(broker, pool)
    assert lease.granted_ms == seen_ms
    assert lease.deadline_ms == seen_ms + 30_000
    broker.run(pool.begin_creating(lease.id, "one"))
    assert look(broker, pool).deadline_ms == seen_ms + 60_000


def test_lease_given_while_the_clock_was_back_outlives_its_correction(broker: Broker, pool: Pool) -> None:
    """Without the largest time seen its deadline would lie an hour in the past as soon as the clock is right again."""
    add(broker, pool, "a")
    clock_went_back(broker, pool)
    lease = claimed(broker, pool)
    hour_later(broker, pool)
    assert broker.run(pool.reap()).lapsed == ()
    assert try_claim(broker, pool, "biology").outcome is Granted.BUSY
    broker.run(pool.release([lease.id], ReleaseReason.ENDED))


def test_protection_is_what_saves_that_lease(broker: Broker, pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same with a clock that forgets: the lease is freed before its time."""
    forgetful = scripts.load("claim")
    text = forgetful.text.replace("math.floor(math.max(microseconds, fence) / 1000)", "math.floor(microseconds / 1000)")
    assert text != forgetful.text
    add(broker, pool, "a")
    clock_went_back(broker, pool)
    operation = pool.claim("algebra", "anna")
    answer = broker.redis.eval(text, *operation.command)  # type: ignore[arg-type]
    assert operation.read(answer).outcome is Granted.GRANTED
    hour_later(broker, pool)
    assert len(broker.run(pool.reap()).lapsed) == 1


def test_nothing_expires_while_time_stands_still(broker: Broker, pool: Pool) -> None:
    add(broker, pool, "a", "b")
    claimed(broker, pool, "algebra")
    lease_in(Phase.LIVE, broker, pool, "biology", meeting_id=7)
    before_ms = broker.run(pool.status()).now_ms
    clock_went_back(broker, pool, by_ms=5_000)
    reaped = broker.run(pool.reap())
    assert (reaped.lapsed, reaped.suspected) == ((), ())
    assert broker.run(pool.status()).now_ms >= before_ms


def test_jump_ahead_makes_leases_suspect_and_frees_none_that_reached_zoom(broker: Broker, pool: Pool) -> None:
    add(broker, pool, "a")
    lease = lease_in(Phase.LIVE, broker, pool)
    pass_time(broker.redis, pool, 10 * HOUR_MS)
    assert broker.run(pool.reap()).suspected == (lease.id,)
    assert try_claim(broker, pool, "biology").outcome is Granted.BUSY


def test_every_script_uses_the_same_clock(broker: Broker, pool: Pool) -> None:
    add(broker, pool, "a", "b")
    lease = lease_in(Phase.LIVE, broker, pool)
    seen_ms = clock_went_back(broker, pool, by_ms=60_000)
    assert broker.run(pool.renew(lease.id)).deadline_ms == seen_ms + 15 * 60_000
    assert broker.run(pool.find_lesson("algebra")).now_ms == seen_ms
    assert broker.run(pool.status()).now_ms == seen_ms
    assert broker.run(pool.forecast(1)).now_ms == seen_ms
    assert try_claim(broker, pool, "biology").now_ms == seen_ms
    broker.run(pool.release([lease.id], ReleaseReason.ENDED))
    outcome = broker.run(pool.find_lesson("algebra")).outcome
    assert outcome is not None
    assert outcome.released_ms == seen_ms


def test_reaper_records_the_time_of_a_quiet_pool(broker: Broker, pool: Pool) -> None:
    add(broker, pool, "a")
    assert broker.run(pool.status()).fence == 0
    broker.run(pool.reap())
    assert abs(broker.run(pool.status()).fence // 1000 - now_ms(broker.redis)) < 60_000


def test_clock_that_is_back_is_shown(broker: Broker, pool: Pool) -> None:
    add(broker, pool, "a")
    claimed(broker, pool)
    assert broker.run(pool.status()).behind_ms == 0
    clock_went_back(broker, pool)
    assert HOUR_MS - 60_000 < broker.run(pool.status()).behind_ms <= HOUR_MS
    text = broker.run(pool.dashboard())
    assert re.search(r"Redis's clock went back; no deadline passes until it has caught up, in (59m|1h00m)", text)


def test_fences_stay_ahead_after_a_restore_of_an_old_copy(broker: Broker, pool: Pool) -> None:
    """The copy is the one from before the first grant: nothing in it tells of the fences that were handed out."""
    add(broker, pool, "a")
    handed_out = []
    for number in range(20):
        lease = claimed(broker, pool, f"lesson-{number}")
        handed_out.append(lease.id.fence)
        broker.run(pool.release([lease.id], ReleaseReason.ENDED))
    broker.redis.delete(pool.keys.fence)
    again = claimed(broker, pool, "after")
    assert again.id.fence > max(handed_out)


def test_many_grants_within_a_millisecond_have_fences_of_their_own(broker: Broker, pool: Pool) -> None:
    add(broker, pool, *(f"host-{number}" for number in range(5)), capacity=10)
    seen_ms = clock_went_back(broker, pool)
    fences = [claimed(broker, pool, f"lesson-{number}").id.fence for number in range(50)]
    assert fences == [seen_ms * 1000 + number for number in range(1, 51)]


def test_old_worker_of_a_lost_lease_changes_nothing(broker: Broker, pool: Pool) -> None:
    """Redis forgot a lease in a restore; its slot is granted again; the worker of the lost one comes late."""
    add(broker, pool, "a")
    lost = claimed(broker, pool, "lost")
    broker.redis.flushall()
    add(broker, pool, "a")
    claimed(broker, pool, "new")
    assert broker.run(pool.begin_creating(lost.id, "late")).change is Change.STALE
    assert broker.run(pool.release([lost.id], ReleaseReason.FAILED)) == (Change.STALE,)


def test_expired_claim_is_free_once_time_has_caught_up(broker: Broker, pool: Pool, redis: redis_py.Redis) -> None:
    add(broker, pool, "a")
    lease = claimed(broker, pool)
    expire(broker, pool, lease.id.slot)
    assert try_claim(broker, pool, "biology").outcome is Granted.GRANTED
