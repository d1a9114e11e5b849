"""The queue: who waits, who is next, who is woken, who is forgotten."""

from __future__ import annotations

import random

import pytest
import redis as redis_py

from broker.client import Broker
from broker.models import AccountState, Change, ClaimResult, Granted, LeaseId, Phase, Priority, ReleaseReason, Ticket
from broker.operations import EXPIRE_BATCH, Pool
from tests import factories
from tests.factories import add, claimed, lease_in, pass_time

QUICK, SCHEDULED, OPS = Priority.QUICK, Priority.SCHEDULED, Priority.OPS


@pytest.fixture
def broker(redis: redis_py.Redis, redis_url: str) -> Broker:
    """Its claims live long, so that a full pool stays full while time passes."""
    return Broker(redis, factories.settings(redis_url, claim_ttl_s=3 * 3600))


def ask(
    broker: Broker, pool: Pool, lesson: str, wait_s: float = 60, priority: Priority = QUICK, owner: str = ""
) -> ClaimResult:
    """A claim that would wait, each lesson by a teacher of its own."""
    return broker.run(pool.claim(lesson, owner or f"teacher-of-{lesson}", wait_s=wait_s, priority=priority))


def ticket(broker: Broker, pool: Pool, lesson: str, wait_s: float = 60, priority: Priority = QUICK) -> Ticket:
    result = ask(broker, pool, lesson, wait_s, priority)
    assert result.ticket is not None, result
    return result.ticket


def line(broker: Broker, pool: Pool) -> list[str]:
    return [str(lesson) for lesson in broker.redis.zrange(pool.keys.waiting, 0, -1)]


def full(broker: Broker, pool: Pool, *hosts: str) -> list[LeaseId]:
    """A pool without a free slot, and its leases."""
    add(broker, pool, *hosts)
    return [claimed(broker, pool, f"running-on-{host}", f"owner-{host}").id for host in hosts]


def free(broker: Broker, pool: Pool, *leases: LeaseId) -> list[str]:
    """Release leases and tell whom that woke, in the words of the last event."""
    broker.run(pool.release(leases, ReleaseReason.ENDED))
    return woken(broker, pool)


def woken(broker: Broker, pool: Pool) -> list[str]:
    return broker.run(pool.events(count=1))[0].fields.get("wake", "").split()


def test_first_come_first_served(broker: Broker, pool: Pool) -> None:
    (lease,) = full(broker, pool, "a")
    first, second = ticket(broker, pool, "first"), ticket(broker, pool, "second")
    assert [(t.lesson, t.owner, t.position) for t in (first, second)] == [
        ("first", "teacher-of-first", 1),
        ("second", "teacher-of-second", 2),
    ]
    assert (second.length, second.until_ms) == (2, second.now_ms + 60_000)
    free(broker, pool, lease)
    assert ask(broker, pool, "second").outcome is Granted.QUEUED
    assert ask(broker, pool, "first").outcome is Granted.GRANTED
    assert ticket(broker, pool, "second").position == 1


def test_who_does_not_wait_gets_only_what_those_who_do_leave(broker: Broker, pool: Pool) -> None:
    leases = full(broker, pool, "a", "b")
    ticket(broker, pool, "patient")
    free(broker, pool, leases[0])
    assert ask(broker, pool, "hasty", wait_s=0).outcome is Granted.BUSY
    free(broker, pool, leases[1])
    assert ask(broker, pool, "hasty", wait_s=0).outcome is Granted.GRANTED
    assert ask(broker, pool, "patient").outcome is Granted.GRANTED


def test_asking_again_keeps_the_place_and_moves_the_deadline(broker: Broker, pool: Pool) -> None:
    full(broker, pool, "a")
    ticket(broker, pool, "first")
    ticket(broker, pool, "second")
    pass_time(broker.redis, pool, 5_000)
    again = ticket(broker, pool, "first", wait_s=58)
    assert (again.position, again.length, again.until_ms) == (1, 2, again.now_ms + 58_000)
    assert again.asked_ms < again.now_ms
    pass_time(broker.redis, pool, 8_000)
    assert ticket(broker, pool, "first").position == 1
    assert line(broker, pool) == ["first"], "the second was not heard of for 13 s"


def test_question_without_a_wait_keeps_the_place_but_is_no_sign_of_life(broker: Broker, pool: Pool) -> None:
    full(broker, pool, "a")
    ticket(broker, pool, "first")
    pass_time(broker.redis, pool, 6_000)
    assert ticket(broker, pool, "first", wait_s=0).position == 1
    pass_time(broker.redis, pool, 6_000)
    assert ask(broker, pool, "first", wait_s=0).outcome is Granted.BUSY


def test_dead_waiter_delays_nobody_by_more_than_a_heartbeat(broker: Broker, pool: Pool) -> None:
    (lease,) = full(broker, pool, "a")
    for number in range(3 * EXPIRE_BATCH):
        ticket(broker, pool, f"dead-{number:02d}")
    ticket(broker, pool, "alive")
    pass_time(broker.redis, pool, 6_000)
    ticket(broker, pool, "alive")
    free(broker, pool, lease)
    pass_time(broker.redis, pool, 5_000)
    outcomes = [ask(broker, pool, "alive").outcome for _ in range(3)]
    assert outcomes == [Granted.QUEUED, Granted.QUEUED, Granted.GRANTED], "a bounded number is forgotten at a time"


def test_reaper_forgets_who_was_not_heard_of_and_wakes_the_next(broker: Broker, pool: Pool) -> None:
    (lease,) = full(broker, pool, "a")
    ticket(broker, pool, "dead", wait_s=5)
    ticket(broker, pool, "alive")
    assert free(broker, pool, lease) == ["dead"]
    pass_time(broker.redis, pool, 6_000)
    broker.run(pool.reap())
    event = broker.run(pool.events(count=1))[0]
    assert (event.type, event.lesson, event.fields) == (
        "ticket.lapsed",
        "dead",
        {"owner": "teacher-of-dead", "wake": "alive"},
    )


def test_nothing_is_granted_past_the_deadline_of_a_ticket(broker: Broker, pool: Pool) -> None:
    (lease,) = full(broker, pool, "a")
    ticket(broker, pool, "late", wait_s=3)
    pass_time(broker.redis, pool, 3_001)
    ticket(broker, pool, "in-time")
    free(broker, pool, lease)
    again = ticket(broker, pool, "late", wait_s=3)
    assert (again.position, again.asked_ms) == (2, again.now_ms), "its old place is lost; this is a new request"
    assert ask(broker, pool, "in-time").outcome is Granted.GRANTED


def test_own_lapsed_ticket_is_seen_behind_any_number_of_others(broker: Broker, pool: Pool) -> None:
    full(broker, pool, "a")
    for number in range(EXPIRE_BATCH + 1):
        ticket(broker, pool, f"lesson-{number}", wait_s=3)
    pass_time(broker.redis, pool, 3_001)
    again = ticket(broker, pool, f"lesson-{EXPIRE_BATCH}", wait_s=3)
    assert (again.length, again.asked_ms) == (1, again.now_ms)


def test_queue_is_bounded(broker: Broker) -> None:
    small = Broker(broker.redis, factories.settings(queue_max=2))
    pool = small.pool(factories.POOL)
    full(small, pool, "a")
    assert [ask(small, pool, lesson).outcome for lesson in "xyz"] == [
        Granted.QUEUED,
        Granted.QUEUED,
        Granted.QUEUE_FULL,
    ]
    refused = ask(small, pool, "z")
    assert (refused.waiting, refused.ticket, refused.estimate_ms) == (2, None, None)
    assert ask(small, pool, "x").outcome is Granted.QUEUED, "who waits already goes on waiting"


def test_quota_counts_places_in_the_queue(broker: Broker, pool: Pool) -> None:
    full(broker, pool, "a")

    def claim(lesson: str) -> Granted:
        return broker.run(pool.claim(lesson, "anna", max_leases=2, wait_s=60)).outcome

    assert [claim(lesson) for lesson in ("x", "y", "z", "x", "y")] == [
        Granted.QUEUED,
        Granted.QUEUED,
        Granted.QUOTA,
        Granted.QUEUED,
        Granted.QUEUED,
    ]
    broker.run(pool.cancel("x", "anna"))
    assert claim("z") is Granted.QUEUED
    assert broker.run(pool.owned("anna")) == (), "a place in the queue is no lease"


def test_lesson_for_which_another_owner_waits_tells_nothing(broker: Broker, pool: Pool) -> None:
    full(broker, pool, "a")
    ticket(broker, pool, "x")
    assert ask(broker, pool, "x", owner="boris").outcome is Granted.HELD_BY_OTHER
    assert broker.run(pool.cancel("x", "boris")).change is Change.REFUSED
    assert line(broker, pool) == ["x"]


def test_cancelled_ticket_is_gone_and_the_next_is_woken(broker: Broker, pool: Pool) -> None:
    (lease,) = full(broker, pool, "a")
    ticket(broker, pool, "x")
    ticket(broker, pool, "y")
    free(broker, pool, lease)
    assert broker.run(pool.cancel("x", "teacher-of-x")).change is Change.DONE
    event = broker.run(pool.events(count=1))[0]
    assert (event.type, event.lesson, event.fields["wake"]) == ("ticket.cancelled", "x", "y")
    assert broker.run(pool.cancel("x", "teacher-of-x")).change is Change.STALE
    assert ask(broker, pool, "y").outcome is Granted.GRANTED
    assert broker.run(pool.cancel("y", "teacher-of-y")).change is Change.STALE, "a lease is not cancelled"


def test_freeing_slots_wakes_as_many_and_no_more(broker: Broker, pool: Pool) -> None:
    leases = full(broker, pool, "a", "b", "c")
    for lesson in "vwxyz":
        ticket(broker, pool, lesson)
    assert free(broker, pool, leases[0]) == ["v"]
    assert free(broker, pool, *leases[1:]) == ["v", "w", "x"], "v did not ask yet"
    assert ask(broker, pool, "w").outcome is Granted.GRANTED, "its slot is there, whether v asks or not"
    assert woken(broker, pool) == ["v", "x"]


def test_who_is_served_wakes_the_next_when_more_came_free_than_one_event_names(broker: Broker, pool: Pool) -> None:
    full(broker, pool, "a")
    lessons = [f"lesson-{number:02d}" for number in range(20)]
    for lesson in lessons:
        ticket(broker, pool, lesson)
    add(broker, pool, "big", capacity=10)
    assert woken(broker, pool) == lessons[:10]
    add(broker, pool, "huge", capacity=10)
    assert woken(broker, pool) == lessons[:16]
    served = 0
    names = lessons[:16]
    while names:
        assert ask(broker, pool, names[0]).outcome is Granted.GRANTED
        served += 1
        names = woken(broker, pool)
    assert served == 20, "each was named by the event of the one before"


@pytest.mark.parametrize("how", ["unparked", "resized", "added", "returned"])
def test_slots_that_come_into_rotation_wake_those_who_wait(broker: Broker, pool: Pool, how: str) -> None:
    full(broker, pool, "a")
    add(broker, pool, "b")
    until_ms = factories.now_ms(broker.redis) + 5_000 if how == "returned" else 0
    broker.run(pool.park_account("b", AccountState.LIMITED, "x", until_ms=until_ms))
    ticket(broker, pool, "x")
    ticket(broker, pool, "y")
    if how == "unparked":
        broker.run(pool.unpark_account("b"))
    elif how == "resized":
        broker.run(pool.resize_account("a", 2))
    elif how == "added":
        add(broker, pool, "c")
    else:
        pass_time(broker.redis, pool, 5_001)
        broker.run(pool.reap())
    assert woken(broker, pool) == ["x"]


def test_suspect_slot_wakes_nobody_until_it_is_free(broker: Broker, pool: Pool) -> None:
    add(broker, pool, "a")
    lease = lease_in(Phase.LIVE, broker, pool)
    ticket(broker, pool, "x")
    factories.expire(broker, pool, lease.id.slot)
    broker.run(pool.reap())
    assert woken(broker, pool) == []
    assert ask(broker, pool, "x").outcome is Granted.QUEUED
    assert free(broker, pool, lease.id) == ["x"]


def test_priority_is_a_head_start(broker: Broker, pool: Pool) -> None:
    full(broker, pool, "a")
    order = [("quick", QUICK), ("scheduled", SCHEDULED), ("more-quick", QUICK), ("ops", OPS)]
    for lesson, priority in order:
        ticket(broker, pool, lesson, priority=priority)
    assert line(broker, pool) == ["ops", "scheduled", "quick", "more-quick"]


def test_who_has_waited_longer_than_the_head_start_is_not_overtaken(broker: Broker, pool: Pool) -> None:
    full(broker, pool, "a")
    ticket(broker, pool, "quick", wait_s=1000)
    for _ in range(13):
        pass_time(broker.redis, pool, 9_500)
        ticket(broker, pool, "quick", wait_s=1000)
    ticket(broker, pool, "scheduled", priority=SCHEDULED)
    ticket(broker, pool, "ops", priority=OPS)
    assert line(broker, pool) == ["ops", "quick", "scheduled"]


def test_priority_may_rise_while_waiting_and_never_falls(broker: Broker, pool: Pool) -> None:
    full(broker, pool, "a")
    ticket(broker, pool, "x")
    ticket(broker, pool, "y")
    assert ticket(broker, pool, "y", priority=SCHEDULED).position == 1
    assert ticket(broker, pool, "y", priority=QUICK).position == 1


def test_nobody_starves_under_lasting_overload(broker: Broker, pool: Pool) -> None:
    """Twice as many lessons come as can be served, most of them with a head start; every one of the first is served."""
    (lease,) = full(broker, pool, "a")
    dice = random.Random(7)
    waiting: dict[str, Priority] = {}
    asked: dict[str, int] = {}
    served: dict[str, int] = {}
    running: LeaseId = lease
    for minute in range(40):
        for number in range(2):
            lesson = f"lesson-{minute:02d}-{number}"
            waiting[lesson] = SCHEDULED if dice.random() < 0.7 else QUICK
            asked[lesson] = minute
        broker.run(pool.release([running], ReleaseReason.ENDED))
        # Everybody gives a sign of life, in any order, between two minutes.
        for _ in range(7):
            pass_time(broker.redis, pool, 9_000)
            for lesson in dice.sample(sorted(waiting), len(waiting)):
                result = ask(broker, pool, lesson, wait_s=7200, priority=waiting[lesson])
                if result.lease:
                    running = result.lease.id
                    served[lesson] = minute
                    del waiting[lesson]
    order = sorted(served, key=lambda lesson: served[lesson])
    overtaken = [
        (lesson, other)
        for place, lesson in enumerate(order)
        for other in order[:place]
        if asked[other] > asked[lesson] + 3
    ]
    assert len(served) == 40
    assert overtaken == [], "two minutes of head start, and nobody who came later than that was served before"
    newest = max(asked[lesson] for lesson in served)
    assert all(asked[lesson] >= newest - 3 for lesson in waiting), "nobody is left behind"


def test_estimate_is_unknown_until_the_queue_has_moved_and_follows_its_pace(broker: Broker, pool: Pool) -> None:
    leases = full(broker, pool, "a", "b", "c")
    for lesson in "uvwxy":
        assert ticket(broker, pool, lesson).estimate_ms is None
    for lesson, lease in zip("uv", leases, strict=False):
        pass_time(broker.redis, pool, 4_000)
        for other in "uvwxy":
            ask(broker, pool, other)
        free(broker, pool, lease)
        assert ask(broker, pool, lesson).outcome is Granted.GRANTED
    last = ticket(broker, pool, "y")
    assert last.position == 3
    assert last.estimate_ms is not None
    assert 3 * 4_000 <= last.estimate_ms < 3 * 4_000 + 5_000
    pass_time(broker.redis, pool, 8_000)
    slower = ticket(broker, pool, "y").estimate_ms
    assert slower is not None
    assert slower >= 3 * 8_000, "a queue that stands still is slower than it was"


def test_found_lesson_says_how_long_its_line_is(broker: Broker, pool: Pool) -> None:
    full(broker, pool, "a")
    for lesson in "xyz":
        ticket(broker, pool, lesson)
    found = broker.run(pool.find_lesson("y"))
    assert found.lease is None
    assert found.ticket is not None
    assert (found.ticket.position, found.ticket.length, found.ticket.owner) == (2, 3, "teacher-of-y")
    pass_time(broker.redis, pool, 11_000)
    assert broker.run(pool.find_lesson("y")).ticket is None, "it lapsed, though nobody has cleared it yet"


def test_status_and_dashboard_show_the_queue(broker: Broker, pool: Pool) -> None:
    full(broker, pool, "a")
    for number in range(12):
        ticket(broker, pool, f"lesson-{number:02d}", wait_s=120)
    assert broker.run(pool.status()).waiting == 12
    text = broker.run(pool.dashboard())
    assert "WAITING 12 lessons" in text
    assert "lesson-09  teacher-of-lesson-09" in text
    assert "… and 2 more waiting" in text
