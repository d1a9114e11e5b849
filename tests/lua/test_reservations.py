"""Reservations: who is admitted, what is kept free for whom, and when it is given up."""

from __future__ import annotations

import dataclasses

import pytest
import redis as redis_py

from broker.client import Broker
from broker.errors import ScriptError
from broker.models import AccountState, Change, Granted, ReleaseReason, Reservation, Reserved
from broker.operations import EXPIRE_BATCH, QUARTER_MS, Pool
from tests import factories
from tests.factories import add, claimed, now_ms, pass_time

MINUTE_MS = 60_000
LEAD_MS = 10 * MINUTE_MS
GRACE_MS = 20 * MINUTE_MS


@pytest.fixture
def broker(redis: redis_py.Redis, redis_url: str) -> Broker:
    """Its claims live long, so that a full pool stays full while time passes."""
    return Broker(redis, factories.settings(redis_url, claim_ttl_s=3 * 3600))


def reserve(broker: Broker, pool: Pool, lesson: str, in_min: float = 0, lasts_min: float = 60) -> Reserved:
    start_ms = now_ms(broker.redis) + round(in_min * MINUTE_MS)
    return broker.run(pool.reserve(lesson, start_ms, start_ms + round(lasts_min * MINUTE_MS)))


def claim(broker: Broker, pool: Pool, lesson: str, wait_s: float = 0) -> Granted:
    return broker.run(pool.claim(lesson, f"teacher-of-{lesson}", wait_s=wait_s)).outcome


def booked(broker: Broker, pool: Pool) -> list[int]:
    return [int(count) for count in broker.redis.hvals(pool.keys.booked)]


def test_slot_is_kept_for_the_lesson_from_its_lead_on(broker: Broker, pool: Pool) -> None:
    add(broker, pool, "a")
    result = reserve(broker, pool, "algebra", in_min=15)
    assert result.result is Reservation.DONE
    assert abs(result.from_ms - result.now_ms - 5 * MINUTE_MS) < MINUTE_MS
    early = claimed(broker, pool, "early-bird")
    broker.run(pool.release([early.id], ReleaseReason.ENDED))
    pass_time(broker.redis, pool, 6 * MINUTE_MS)
    assert claim(broker, pool, "early-bird") is Granted.BUSY
    assert broker.run(pool.status()).due == 1
    assert claim(broker, pool, "algebra") is Granted.GRANTED
    status = broker.run(pool.status())
    assert (status.due, status.reservations) == (0, 1)


def test_unreserved_starts_get_what_is_not_reserved(broker: Broker, pool: Pool) -> None:
    add(broker, pool, "a", "b", "c")
    reserve(broker, pool, "x")
    reserve(broker, pool, "y")
    assert [claim(broker, pool, f"quick-{n}") for n in range(2)] == [Granted.GRANTED, Granted.BUSY]
    assert [claim(broker, pool, lesson) for lesson in "yx"] == [Granted.GRANTED, Granted.GRANTED]


def test_unused_reservation_lapses_and_wakes_who_waits(broker: Broker, pool: Pool) -> None:
    add(broker, pool, "a")
    reserve(broker, pool, "algebra")
    pass_time(broker.redis, pool, GRACE_MS - 2_000)
    assert claim(broker, pool, "quick", wait_s=60) is Granted.QUEUED
    pass_time(broker.redis, pool, 2_001)
    broker.run(pool.reap())
    event = broker.run(pool.events(count=1))[0]
    assert (event.type, event.lesson, event.fields["wake"]) == ("reservation.lapsed", "algebra", "quick")
    assert booked(broker, pool) == []
    assert claim(broker, pool, "quick", wait_s=60) is Granted.GRANTED


def test_claim_itself_drops_a_lapsed_reservation(broker: Broker, pool: Pool) -> None:
    add(broker, pool, "a")
    reserve(broker, pool, "algebra")
    assert claim(broker, pool, "quick") is Granted.BUSY
    pass_time(broker.redis, pool, GRACE_MS + 1)
    assert claim(broker, pool, "quick") is Granted.GRANTED


def test_reservation_ends_with_its_lesson_however_long_the_grace(broker: Broker, pool: Pool) -> None:
    add(broker, pool, "a")
    reserve(broker, pool, "short", lasts_min=5)
    pass_time(broker.redis, pool, 5 * MINUTE_MS + 1)
    assert claim(broker, pool, "quick") is Granted.GRANTED


def test_used_reservation_counts_until_its_planned_end(broker: Broker, pool: Pool) -> None:
    add(broker, pool, "a")
    reserve(broker, pool, "algebra", lasts_min=60)
    lease = broker.run(pool.claim("algebra", "anna")).lease
    assert lease is not None
    pass_time(broker.redis, pool, 30 * MINUTE_MS)
    broker.run(pool.reap())
    assert reserve(broker, pool, "other", lasts_min=20).result is Reservation.OVERBOOKED
    assert claim(broker, pool, "algebra") is Granted.HELD_BY_OTHER
    broker.run(pool.release([lease.id], ReleaseReason.ENDED))
    pass_time(broker.redis, pool, 31 * MINUTE_MS)
    broker.run(pool.reap())
    assert (booked(broker, pool), broker.run(pool.status()).reservations) == ([], 0)
    assert "reservation.lapsed" not in {event.type for event in broker.run(pool.events())}, "it was used"


def test_slot_that_is_kept_for_a_reservation_wakes_nobody_else(broker: Broker, pool: Pool) -> None:
    add(broker, pool, "a", "b")
    leases = [claimed(broker, pool, lesson).id for lesson in ("first", "second")]
    reserve(broker, pool, "algebra")
    assert claim(broker, pool, "quick", wait_s=60) is Granted.QUEUED
    broker.run(pool.release(leases[:1], ReleaseReason.ENDED))
    assert "wake" not in broker.run(pool.events(count=1))[0].fields
    broker.run(pool.release(leases[1:], ReleaseReason.ENDED))
    assert broker.run(pool.events(count=1))[0].fields["wake"] == "quick"


def test_overbooked_window_is_refused_with_the_window_and_the_numbers(broker: Broker, pool: Pool) -> None:
    add(broker, pool, "a", "b")
    for lesson in ("x", "y"):
        assert reserve(broker, pool, lesson, in_min=120, lasts_min=60).result is Reservation.DONE
    refused = reserve(broker, pool, "z", in_min=60, lasts_min=120)
    assert (refused.result, refused.reserved, refused.capacity) == (Reservation.OVERBOOKED, 2, 2)
    start_ms = refused.now_ms + 120 * MINUTE_MS
    assert refused.from_ms <= start_ms - LEAD_MS < refused.from_ms + QUARTER_MS
    assert refused.until_ms - QUARTER_MS < start_ms + 60 * MINUTE_MS <= refused.until_ms + MINUTE_MS
    assert refused.from_ms % QUARTER_MS == refused.until_ms % QUARTER_MS == 0
    assert reserve(broker, pool, "z", in_min=240).result is Reservation.DONE
    assert broker.run(pool.status()).reservations == 3


def test_capacity_is_what_will_be_in_rotation(broker: Broker, pool: Pool) -> None:
    add(broker, pool, "a", "b", "c")
    claimed(broker, pool, "running")
    broker.run(pool.park_account("b", AccountState.DISABLED, "broken"))
    until_ms = now_ms(broker.redis) + 60 * MINUTE_MS
    broker.run(pool.park_account("c", AccountState.LIMITED, "daily limit", until_ms=until_ms))
    assert reserve(broker, pool, "x", in_min=30).result is Reservation.DONE
    refused = reserve(broker, pool, "y", in_min=30)
    assert (refused.result, refused.capacity) == (Reservation.OVERBOOKED, 1)
    assert reserve(broker, pool, "y", in_min=90).result is Reservation.DONE, "c is back by then"


def test_reserving_again_is_the_same_and_another_time_moves_it(broker: Broker, pool: Pool) -> None:
    add(broker, pool, "a")
    start_ms = now_ms(broker.redis) + 60 * MINUTE_MS
    operation = pool.reserve("x", start_ms, start_ms + 60 * MINUTE_MS)
    first, again = broker.run(operation), broker.run(operation)
    assert (again.result, again.from_ms) == (Reservation.DONE, first.from_ms) == (Reservation.DONE, start_ms - LEAD_MS)
    assert set(booked(broker, pool)) == {1}
    moved = broker.run(pool.reserve("x", start_ms + 15 * MINUTE_MS, start_ms + 75 * MINUTE_MS))
    assert moved.result is Reservation.DONE, "its own reservation is not in its way"
    assert set(booked(broker, pool)) == {1}
    assert broker.run(pool.status()).reservations == 1


def test_unreserving_gives_the_slot_back(broker: Broker, pool: Pool) -> None:
    add(broker, pool, "a")
    reserve(broker, pool, "x")
    assert claim(broker, pool, "quick", wait_s=60) is Granted.QUEUED
    assert broker.run(pool.unreserve("x")).change is Change.DONE
    assert broker.run(pool.events(count=1))[0].fields["wake"] == "quick"
    assert broker.run(pool.unreserve("x")).change is Change.STALE
    assert claim(broker, pool, "quick", wait_s=60) is Granted.GRANTED


def test_reserved_lesson_goes_in_front_when_its_slot_is_late(broker: Broker, pool: Pool) -> None:
    add(broker, pool, "a")
    lease = claimed(broker, pool, "overrun")
    assert claim(broker, pool, "quick", wait_s=60) is Granted.QUEUED
    reserve(broker, pool, "algebra")
    assert claim(broker, pool, "algebra", wait_s=60) is Granted.QUEUED
    assert broker.redis.zrange(pool.keys.waiting, 0, -1) == ["algebra", "quick"]
    broker.run(pool.release([lease.id], ReleaseReason.ENDED))
    assert broker.run(pool.events(count=1))[0].fields["wake"] == "algebra"
    assert claim(broker, pool, "quick", wait_s=60) is Granted.QUEUED
    assert claim(broker, pool, "algebra", wait_s=60) is Granted.GRANTED


def test_lesson_that_waits_moves_up_when_its_reservation_falls_due(broker: Broker, pool: Pool) -> None:
    add(broker, pool, "a")
    claimed(broker, pool, "running")
    reserve(broker, pool, "algebra", in_min=10.1)
    for lesson in ("quick", "algebra"):
        claim(broker, pool, lesson, wait_s=600)
    assert broker.redis.zrange(pool.keys.waiting, 0, -1) == ["quick", "algebra"]
    pass_time(broker.redis, pool, 7_000)
    for lesson in ("quick", "algebra"):
        claim(broker, pool, lesson, wait_s=600)
    assert broker.redis.zrange(pool.keys.waiting, 0, -1) == ["algebra", "quick"]


def test_lesson_that_begins_early_uses_its_reservation(broker: Broker, pool: Pool) -> None:
    add(broker, pool, "a")
    reserve(broker, pool, "algebra", in_min=60)
    assert claim(broker, pool, "algebra") is Granted.GRANTED
    pass_time(broker.redis, pool, 55 * MINUTE_MS)
    assert broker.run(pool.status()).due == 0


def test_running_lesson_may_reserve_its_own_time(broker: Broker, pool: Pool) -> None:
    add(broker, pool, "a")
    claimed(broker, pool, "algebra")
    assert reserve(broker, pool, "algebra", in_min=-30).result is Reservation.DONE
    assert broker.run(pool.status()).due == 0


@pytest.mark.parametrize(("in_min", "lasts_min"), [(-61, 60), (-21, 60)])
def test_lesson_that_should_have_begun_long_ago_is_past(
    broker: Broker, pool: Pool, in_min: float, lasts_min: float
) -> None:
    add(broker, pool, "a")
    assert reserve(broker, pool, "algebra", in_min, lasts_min).result is Reservation.PAST
    assert booked(broker, pool) == []


@pytest.mark.parametrize("lasts_min", [0, -5, 24 * 60 + 1])
def test_lesson_must_end_within_a_day_after_its_start(broker: Broker, pool: Pool, lasts_min: int) -> None:
    with pytest.raises(ValueError, match="within a day"):
        reserve(broker, pool, "algebra", lasts_min=lasts_min)
    operation = pool.reserve("algebra", 1, 2)
    wrong = (*operation.command[:4], 1 + lasts_min * MINUTE_MS, *operation.command[5:])
    with pytest.raises(ScriptError, match="BAD_WINDOW"):
        broker.run(dataclasses.replace(operation, command=wrong))


def test_lapsed_reservations_are_dropped_a_few_at_a_time(broker: Broker, pool: Pool) -> None:
    add(broker, pool, "a", capacity=10)
    for number in range(10):
        reserve(broker, pool, f"lesson-{number}")
    pass_time(broker.redis, pool, GRACE_MS + 1)
    assert claim(broker, pool, "quick") is Granted.GRANTED
    assert broker.run(pool.status()).reservations == 10 - EXPIRE_BATCH
    assert broker.run(pool.reap()).more is False
    assert broker.run(pool.status()).reservations == 0


def test_forecast_shows_a_week_by_quarters_of_an_hour(broker: Broker, pool: Pool) -> None:
    add(broker, pool, "a", "b")
    add(broker, pool, "c")
    until_ms = now_ms(broker.redis) + 3 * 60 * MINUTE_MS
    broker.run(pool.park_account("c", AccountState.LIMITED, "x", until_ms=until_ms))
    claimed(broker, pool, "running")
    reserve(broker, pool, "x", in_min=120, lasts_min=60)
    forecast = broker.run(pool.forecast())
    assert (forecast.free_now, len(forecast.quarters)) == (1, 7 * 96)
    first, last = forecast.quarters[0], forecast.quarters[-1]
    assert first.start_ms <= forecast.now_ms < first.start_ms + QUARTER_MS
    assert last.start_ms == first.start_ms + (7 * 96 - 1) * QUARTER_MS
    assert (first.capacity, first.reserved, first.free) == (2, 0, 2)
    assert (last.capacity, last.free) == (3, 3)
    start_ms = forecast.now_ms + 120 * MINUTE_MS
    taken = [quarter.start_ms for quarter in forecast.quarters if quarter.reserved]
    assert taken[0] <= start_ms - LEAD_MS + MINUTE_MS
    assert taken[-1] + QUARTER_MS >= start_ms + 60 * MINUTE_MS - MINUTE_MS
    assert 5 <= len(taken) <= 6
    assert {quarter.free for quarter in forecast.quarters if quarter.reserved} <= {1, 2}


def test_dashboard_shows_what_is_reserved(broker: Broker, pool: Pool) -> None:
    add(broker, pool, "a", "b")
    reserve(broker, pool, "x")
    reserve(broker, pool, "y", in_min=120)
    assert "RESERVED 1 now, for lessons about to start; 2 reservations in all" in broker.run(pool.dashboard())
