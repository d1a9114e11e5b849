"""Builders that several suites share: settings, accounts, leases in every phase, and time that passes at once."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import redis as redis_py

from broker.client import Broker
from broker.models import Account, Change, ClaimResult, Lease, Phase
from broker.operations import QUARTER_MS, Pool
from broker.settings import Settings

POOL = "default"
MEETING_ID = 89_012_345_678
TIMES_OF_A_LEASE = ("since_ms", "granted_ms", "hold_until_ms", "attempt_until_ms")
TIMES_OF_A_RESERVATION = ("start_ms", "end_ms", "from_ms", "lapse_ms", "used_ms")


def settings(url: str = "", **changes: Any) -> Settings:
    """Settings for a test, which never look at the environment; quotas are out of the way unless asked for."""
    values: dict[str, Any] = {"environment": "development", "max_leases_per_owner": 1000}
    if url:
        values["redis_url"] = url
    return Settings(**(values | changes))


def account(id: str = "host-1", capacity: int = 1, **changes: Any) -> Account:
    """An account; everything but its id and capacity follows from the id."""
    values: dict[str, Any] = {"email": f"{id}@school.example", "zoom_user_id": "", "credential": "default"}
    return Account(id=id, capacity=capacity, **(values | changes))


def add(broker: Broker, pool: Pool, *ids: str, capacity: int = 1) -> None:
    """Put accounts into the pool."""
    for id in ids:
        assert broker.run(pool.add_account(account(id, capacity))).change is Change.DONE


def try_claim(broker: Broker, pool: Pool, lesson: str = "algebra", owner: str = "anna") -> ClaimResult:
    """Whatever a claim answers."""
    return broker.run(pool.claim(lesson, owner, topic="Algebra", duration_min=45))


def claimed(broker: Broker, pool: Pool, lesson: str = "algebra", owner: str = "anna") -> Lease:
    """A lease that was granted or is held."""
    result = try_claim(broker, pool, lesson, owner)
    assert result.lease is not None, result
    return result.lease


def meeting(meeting_id: int = MEETING_ID, **changes: Any) -> dict[str, Any]:
    """What `made_ready` records of a meeting."""
    return {
        "meeting_id": meeting_id,
        "meeting_uuid": "first==",
        "join_url": f"https://zoom.example/j/{meeting_id}",
        "passcode": "pass",
        "sealed_start_url": "sealed",
        "start_url_ms": 1_700_000_000_000,
    } | changes


def lease_in(
    phase: Phase,
    broker: Broker,
    pool: Pool,
    lesson: str = "algebra",
    owner: str = "anna",
    *,
    meeting_id: int = MEETING_ID,
) -> Lease:
    """A new lease that went through its phases up to `phase`; a suspect one was ready."""
    id = claimed(broker, pool, lesson, owner).id
    if phase is not Phase.CLAIMED:
        assert broker.run(pool.begin_creating(id, "attempt-1")).change is Change.DONE
    if phase in (Phase.READY, Phase.LIVE, Phase.SUSPECT):
        assert broker.run(pool.made_ready(id, **meeting(meeting_id))).change is Change.DONE
    if phase is Phase.LIVE:
        assert broker.run(pool.went_live(id, meeting_uuid="first==", at_ms=1000)).change is Change.DONE
    if phase is Phase.SUSPECT:
        expire(broker, pool, id.slot)
        broker.run(pool.reap())
    return look(broker, pool, lesson)


def look(broker: Broker, pool: Pool, lesson: str = "algebra") -> Lease:
    """The lease that a lesson has now."""
    lease = broker.run(pool.find_lesson(lesson)).lease
    assert lease is not None, f"lesson {lesson} has no lease"
    return lease


def expire(broker: Broker, pool: Pool, *slots: str) -> None:
    """Let the deadlines of these slots lie in the past, each a millisecond later than the one before."""
    for ago, slot in enumerate(reversed(slots), 1):
        broker.redis.zadd(pool.keys.leased, {slot: now_ms(broker.redis) - ago}, xx=True)


def now_ms(connection: redis_py.Redis) -> int:
    """Redis's clock."""
    clock: Any = connection.time()
    return int(clock[0]) * 1000 + int(clock[1]) // 1000


def pass_time(connection: redis_py.Redis, pool: Pool, passed_ms: int) -> None:
    """Make everything in the pool `passed_ms` older, which is the same as letting that much time pass, only faster."""
    keys = pool.keys
    sets = (keys.leased, keys.suspect, keys.parked, keys.free, keys.patience, keys.due, keys.reservations)
    answers: Any
    with connection.pipeline() as ask:
        for name in sets:
            ask.zrange(name, 0, -1, withscores=True)
        ask.smembers(keys.accounts)
        *scores, accounts = ask.execute()
    leased, suspect, _, _, patience, _, reservations = scores
    records: list[tuple[str, tuple[str, ...]]]
    records = [(keys.slot(slot), TIMES_OF_A_LEASE) for slot, _ in (*leased, *suspect)]
    records += [(keys.ticket(lesson), ("asked_ms", "until_ms")) for lesson, _ in patience]
    records += [(keys.reservation(lesson), TIMES_OF_A_RESERVATION) for lesson, _ in reservations]
    records += [(keys.pace, ("at_ms",))]
    with connection.pipeline() as ask:
        for key, times in records:
            ask.hmget(key, times)
        for id in accounts:
            ask.hget(keys.account(id), "until_ms")
        answers = ask.execute()
    booked: Counter[int] = Counter()
    with connection.pipeline() as change:
        for lesson, _ in patience:
            # Places in line are in ticks of a microsecond.
            change.zincrby(keys.waiting, -passed_ms * 1000, lesson)
            change.hincrby(keys.ticket(lesson), "tick", -passed_ms * 1000)
        for name, members in zip(sets, scores, strict=True):
            finite = {slot: score - passed_ms for slot, score in members if math.isfinite(score)}
            if finite:
                change.zadd(name, finite)
        for (key, times), known in zip(records, answers, strict=False):
            older: dict[Any, Any] = {
                name: str(int(time) - passed_ms) for name, time in zip(times, known, strict=True) if time
            }
            if older:
                change.hset(key, mapping=older)
            if "from_ms" in older:
                first, last = int(older["from_ms"]) // QUARTER_MS, (int(older["end_ms"]) - 1) // QUARTER_MS
                booked.update(range(first, last + 1))
        for id, until in zip(accounts, answers[len(records) :], strict=True):
            if int(until) > 0:
                change.hset(keys.account(id), "until_ms", int(until) - passed_ms)
        change.delete(keys.booked)
        if booked:
            change.hset(keys.booked, mapping={str(quarter): count for quarter, count in booked.items()})
        change.execute()
