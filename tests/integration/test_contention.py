"""Eight processes fight for nine slots while scripts are flushed all the time: never two holders, nothing lost."""

from __future__ import annotations

import multiprocessing
import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from multiprocessing.pool import Pool as Processes

import pytest
import redis as redis_py

from broker.client import Broker
from broker.invariants import violations
from broker.models import Account, Change, Event, Granted, LeaseId, ReleaseReason
from broker.redis import connect
from broker.settings import Settings
from broker.testing.environment import private_settings

PROCESSES = 8
TURNS = 1500
ACCOUNTS, CAPACITIES = 6, (1, 2)
SLOTS = 9
HELD_AT_ONCE = 2


@dataclass
class Seen:
    """What one process saw."""

    granted: list[tuple[str, int]] = field(default_factory=list)
    """Slot and fence of each grant, in order."""
    collisions: list[str] = field(default_factory=list)
    busy: int = 0


def settings_of(url: str) -> Settings:
    """What all processes work with; the event stream keeps everything."""
    changes = {"max_leases_per_owner": HELD_AT_ONCE, "claim_ttl_s": 300, "events_maxlen": 10 * PROCESSES * TURNS}
    return private_settings(url, "http://zoom.invalid", changes)


def fight(url: str, number: int) -> Seen:
    """Claim and release at random. Who holds a slot marks it with a key of the test's own, which must be free then."""
    settings = settings_of(url)
    seen, chance = Seen(), random.Random(number)
    held: list[LeaseId] = []
    with connect(settings) as connection:
        broker = Broker(connection, settings)
        pool = broker.pool()
        for turn in range(TURNS):
            if held and (len(held) == HELD_AT_ONCE or chance.random() < 0.5):
                give_back(broker, held.pop(chance.randrange(len(held))), seen)
                continue
            claim = broker.run(pool.claim(f"lesson-{number}-{turn}", f"teacher-{number}"))
            if claim.lease is None:
                assert claim.outcome is Granted.BUSY
                seen.busy += 1
                continue
            id = claim.lease.id
            if not connection.set(f"holder:{id.slot}", id.fence, nx=True):
                seen.collisions.append(f"{id}: {connection.get(f'holder:{id.slot}')!r} holds the slot")
            seen.granted.append((id.slot, id.fence))
            held.append(id)
        for id in held:
            give_back(broker, id, seen)
    return seen


def give_back(broker: Broker, id: LeaseId, seen: Seen) -> None:
    """Release a slot; the mark goes first, or the next holder might find it."""
    marked = broker.redis.get(f"holder:{id.slot}")
    if marked != str(id.fence):
        seen.collisions.append(f"{id}: the slot is marked by {marked!r}")
    broker.redis.delete(f"holder:{id.slot}")
    (change,) = broker.run(broker.pool().release([id], ReleaseReason.ENDED))
    # Stale when a lost answer made redis-py send it twice; nobody else can have released it.
    assert change in (Change.DONE, Change.STALE)


def assert_one_after_the_other(events: Iterable[Event], grants: int) -> None:
    """On each slot a grant and its release take turns, and the fences grow."""
    held: dict[str, int] = {}
    newest: dict[str, int] = {}
    for event in events:
        if event.type == "lease.claimed":
            id = LeaseId.parse(event.lease)
            assert id.slot not in held, f"{event.lease} was granted while fence {held[id.slot]} held the slot"
            assert id.fence > newest.get(id.slot, 0), f"{event.lease} came after fence {newest[id.slot]}"
            held[id.slot] = newest[id.slot] = id.fence
            grants -= 1
        elif event.type == "lease.released":
            id = LeaseId.parse(event.lease)
            assert held.pop(id.slot, None) == id.fence, f"{event.lease} was released, but was not the holder"
    assert (grants, held) == (0, {})


@pytest.fixture
def processes() -> Iterator[Processes]:
    with multiprocessing.get_context("spawn").Pool(PROCESSES) as pool:
        yield pool


def test_eight_processes_never_hold_one_slot_together_and_lose_none(
    redis_url: str, redis: redis_py.Redis, processes: Processes
) -> None:
    broker = Broker(redis, settings_of(redis_url))
    pool = broker.pool()
    broker.run(pool.register())
    for number in range(ACCOUNTS):
        capacity = CAPACITIES[number % len(CAPACITIES)]
        broker.run(
            pool.add_account(Account(f"host-{number}", f"host-{number}@school.example", "", "default", capacity))
        )

    running = processes.starmap_async(fight, [(redis_url, number) for number in range(PROCESSES)])
    flushes = 0
    while not running.ready():
        redis.script_flush()
        flushes += 1
        running.wait(0.01)
    seen = running.get(timeout=60)

    assert [collision for one in seen for collision in one.collisions] == []
    grants = [grant for one in seen for grant in one.granted]
    assert len(grants) > PROCESSES * TURNS / 4
    assert len({fence for _, fence in grants}) == len(grants), "a fence was minted twice"
    for one in seen:
        fences = [fence for _, fence in one.granted]
        assert fences == sorted(fences), "a later grant had a lower fence"
    assert len({slot for slot, _ in grants}) == SLOTS, "some slot was never used"
    assert sum(one.busy for one in seen) > 0, "there was no contention"
    assert flushes > 10
    events = broker.run(pool.events(count=10 * PROCESSES * TURNS))
    assert_one_after_the_other(reversed(events), len(grants))
    status = broker.run(pool.status())
    assert (status.free, status.leased, status.suspect, status.parked) == (SLOTS, 0, 0, 0)
    assert violations(broker, pool) == []
