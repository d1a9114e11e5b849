"""Holds a pool against its invariants and names every violation in a sentence.

`read_snapshot` copies a pool in one transaction, `check` is pure. Tests check after every step, the demo at its end, an
operator whenever something looks odd. Expired leases are no violation: they wait for the reaper.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import redis

from broker.client import Broker, translated
from broker.errors import InvalidName
from broker.keys import Keys
from broker.models import MAX_CAPACITY, AccountState, LeaseId, Phase
from broker.operations import Pool

LOAD = 10**14
"""What one lease on an account adds to the rank of its free slots; see `Keys.free`."""
READS = 5
"""How often the snapshot is taken again because it names keys that appeared while it was being read."""


@dataclass(frozen=True)
class Violation:
    """One contradiction in the data.

    Attributes:
        key: the Redis key that is wrong, or that another key contradicts.
        text: a sentence that names the key and its value.
    """

    key: str
    text: str

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True)
class Snapshot:
    """A pool at one moment. `slots`, `owners` and `account` hold an empty value for keys that do not exist."""

    keys: Keys
    now_ms: int
    fence: int
    free: Mapping[str, float]
    leased: Mapping[str, float]
    suspect: Mapping[str, float]
    parked: Mapping[str, float]
    lessons: Mapping[str, str]
    meetings: Mapping[str, str]
    accounts: frozenset[str]
    slots: Mapping[str, Mapping[str, str]]
    owners: Mapping[str, frozenset[str]]
    account: Mapping[str, Mapping[str, str]]

    @property
    def occupied(self) -> dict[str, float]:
        """Slots with a lease, running or suspect."""
        return {**self.leased, **self.suspect}

    def places(self, slot: str) -> list[str]:
        """The sets that hold `slot`; one, if all is well."""
        sets = {"free": self.free, "leased": self.leased, "suspect": self.suspect, "parked": self.parked}
        return [name for name, members in sets.items() if slot in members]


def violations(broker: Broker, pool: Pool) -> list[str]:
    """Everything in the data of `pool` that contradicts the invariants, in sentences.

    Raises:
        BrokerUnavailable: Redis did not answer.
    """
    return [str(violation) for violation in check(read_snapshot(broker.redis, pool))]


def read_snapshot(connection: redis.Redis, pool: Pool) -> Snapshot:
    """Copy a pool as it is at one moment, while others go on working on it.

    Names are collected first, by SCAN, so that records which no index mentions are found, too; then all is read in one
    transaction. Records that appeared in between are asked for again, a few times; in a pool that never pauses the last
    ones may stay unread, and are then not judged.

    Args:
        connection: a client that decodes responses.
        pool: which one.

    Raises:
        BrokerUnavailable: Redis did not answer.
    """
    keys = pool.keys
    with translated("invariants"):
        slots = _names(connection, keys.slot(""))
        owners = _names(connection, keys.owner(""))
        accounts = _names(connection, keys.account(""))
        for _ in range(READS):
            snapshot = _read(connection, keys, sorted(slots), sorted(owners), sorted(accounts))
            known = (len(slots), len(owners), len(accounts))
            slots |= snapshot.occupied.keys() | {lease.rpartition("@")[0] for lease in _indexed(snapshot)}
            owners |= {fields["owner"] for fields in snapshot.slots.values() if "owner" in fields}
            accounts |= snapshot.accounts
            if (len(slots), len(owners), len(accounts)) == known:
                break
    return snapshot


def check(snapshot: Snapshot) -> list[Violation]:
    """Everything that contradicts the invariants; nothing, if all is well."""
    return [
        *_check_accounts(snapshot),
        *_check_members(snapshot),
        *_check_leases(snapshot),
        *_check_fences(snapshot),
        *_check_indices(snapshot),
    ]


def _names(connection: redis.Redis, prefix: str) -> set[str]:
    found: Iterator[Any] = connection.scan_iter(match=f"{prefix}*", count=1000)
    return {str(key).removeprefix(prefix) for key in found}


def _read(connection: redis.Redis, keys: Keys, slots: list[str], owners: list[str], accounts: list[str]) -> Snapshot:
    with connection.pipeline(transaction=True) as ask:
        ask.time()
        ask.get(keys.fence)
        for members in (keys.free, keys.leased, keys.suspect, keys.parked):
            ask.zrange(members, 0, -1, withscores=True)
        ask.hgetall(keys.lessons)
        ask.hgetall(keys.meetings)
        ask.smembers(keys.accounts)
        for slot in slots:
            ask.hgetall(keys.slot(slot))
        for owner in owners:
            ask.smembers(keys.owner(owner))
        for account in accounts:
            ask.hgetall(keys.account(account))
        answers: list[Any] = ask.execute()
    (seconds, microseconds), fence, free, leased, suspect, parked, lessons, meetings, ids = answers[:9]
    rest = iter(answers[9:])
    return Snapshot(
        keys=keys,
        now_ms=seconds * 1000 + microseconds // 1000,
        fence=int(fence or 0),
        free=dict(free),
        leased=dict(leased),
        suspect=dict(suspect),
        parked=dict(parked),
        lessons=lessons,
        meetings=meetings,
        accounts=frozenset(ids),
        slots={slot: next(rest) for slot in slots},
        owners={owner: frozenset(next(rest)) for owner in owners},
        account={account: next(rest) for account in accounts},
    )


def _indexed(snapshot: Snapshot) -> Iterator[str]:
    """Every lease id that some index mentions."""
    yield from snapshot.lessons.values()
    yield from snapshot.meetings.values()
    for leases in snapshot.owners.values():
        yield from leases


def _check_accounts(snapshot: Snapshot) -> Iterator[Violation]:
    keys = snapshot.keys
    for id, fields in snapshot.account.items():
        key = keys.account(id)
        if bool(fields) != (id in snapshot.accounts):
            yield Violation(
                key, f"{key} {'exists' if fields else 'is missing'}, but {keys.accounts} says otherwise about {id!r}"
            )
        if not fields:
            continue
        try:
            capacity, slots, until_ms = int(fields["capacity"]), int(fields["slots"]), int(fields["until_ms"])
            state = AccountState(fields["state"])
        except (KeyError, ValueError) as error:
            yield Violation(key, f"{key} cannot be read: {type(error).__name__} {error}")
            continue
        if not 1 <= capacity <= MAX_CAPACITY or slots < capacity:
            yield Violation(key, f"{key} has capacity {capacity} and slots {slots}")
        yield from _check_account(snapshot, id, capacity, slots, state, until_ms)


def _check_account(
    snapshot: Snapshot, id: str, capacity: int, slots: int, state: AccountState, until_ms: int
) -> Iterator[Violation]:
    keys = snapshot.keys
    key = keys.account(id)
    names = [f"{id}#{index}" for index in range(slots)]
    for index, slot in enumerate(names):
        places = snapshot.places(slot)
        if index < capacity and len(places) != 1:
            where = " and ".join(places) or "none"
            yield Violation(
                keys.slot(slot), f"slot {slot} is in {where} of free, leased, suspect and parked, not in one"
            )
        elif index >= capacity and places not in ([], ["leased"], ["suspect"]):
            where = " and ".join(places)
            yield Violation(keys.slot(slot), f"slot {slot} lies above capacity {capacity} of {key}, but is in {where}")
    load = sum(slot in snapshot.occupied for slot in names)
    free = sorted(snapshot.free[slot] for slot in names if slot in snapshot.free)
    wanted = max(0, capacity - load) if state is AccountState.ACTIVE else 0
    if len(free) != wanted:
        yield Violation(
            keys.free,
            f"{keys.free} holds {len(free)} slots of {id}, which is {state}, capacity {capacity}, {load} leases: "
            f"it should hold {wanted}",
        )
    loads = [int(rank // LOAD) for rank in free]
    if loads != list(range(load, load + len(loads))):
        yield Violation(
            keys.free, f"{keys.free} ranks the free slots of {id}, which has {load} leases, as loads {loads}"
        )
    for rank in free:
        if rank % LOAD > snapshot.now_ms:
            yield Violation(keys.free, f"{keys.free} says that a slot of {id} was used in the future: rank {rank:.0f}")
    if state is AccountState.REMOVING and not load:
        yield Violation(key, f"{key} is removing without a lease to wait for")
    until = until_ms if state is not AccountState.ACTIVE and until_ms > 0 else math.inf
    for slot in names:
        if slot in snapshot.parked and snapshot.parked[slot] != until:
            yield Violation(
                keys.parked,
                f"{keys.parked} keeps {slot} until {snapshot.parked[slot]:.0f}, its account until {until:.0f}",
            )


def _check_members(snapshot: Snapshot) -> Iterator[Violation]:
    """Nothing is in a set that belongs to no account, and every lease record to an occupied slot."""
    keys = snapshot.keys
    sets = {
        keys.free: snapshot.free,
        keys.leased: snapshot.leased,
        keys.suspect: snapshot.suspect,
        keys.parked: snapshot.parked,
    }
    for key, members in sets.items():
        for slot in members:
            account, _, index = slot.rpartition("#")
            fields = snapshot.account.get(account) or {}
            slots = fields.get("slots", "0")
            if not index.isdecimal() or not slots.isdecimal() or int(index) >= int(slots):
                yield Violation(key, f"{key} holds {slot}, which is no slot of any account")
    for slot, fields in snapshot.slots.items():
        if fields and slot not in snapshot.occupied:
            key = keys.slot(slot)
            yield Violation(key, f"{key} holds lease {fields.get('lease')!r}, but is neither leased nor suspect")


def _check_leases(snapshot: Snapshot) -> Iterator[Violation]:
    keys = snapshot.keys
    for slot, score in snapshot.occupied.items():
        key = keys.slot(slot)
        if slot not in snapshot.slots:
            continue  # appeared in the middle of the last read
        fields = snapshot.slots[slot]
        try:
            id, phase = LeaseId.parse(fields["lease"]), Phase(fields["phase"])
            hold_until_ms, lesson, owner = int(fields["hold_until_ms"]), fields["lesson"], fields["owner"]
        except (KeyError, ValueError, InvalidName) as error:
            yield Violation(key, f"{key} cannot be read: {type(error).__name__} {error}")
            continue
        if id.slot != slot:
            yield Violation(key, f"{key} holds lease {id}, which is of another slot")
        where = "suspect" if slot in snapshot.suspect else "leased"
        if (phase is Phase.SUSPECT) != (where == "suspect"):
            yield Violation(key, f"{key} is in phase {phase}, but the slot is in {where}")
        if where == "leased" and score > hold_until_ms:
            yield Violation(keys.leased, f"{keys.leased} lets {id} run until {score:.0f}, past its end {hold_until_ms}")
        if phase in (Phase.READY, Phase.LIVE) and not fields.get("meeting_id"):
            yield Violation(key, f"{key} is {phase}, but has no meeting")
        if snapshot.lessons.get(lesson) != str(id):
            was = snapshot.lessons.get(lesson)
            yield Violation(keys.lessons, f"{keys.lessons} says {was!r} for lesson {lesson!r}, whose lease is {id}")
        if owner in snapshot.owners and str(id) not in snapshot.owners[owner]:
            yield Violation(keys.owner(owner), f"{keys.owner(owner)} does not hold {id}")
        meeting = fields.get("meeting_id")
        if meeting and snapshot.meetings.get(meeting) != str(id):
            was = snapshot.meetings.get(meeting)
            yield Violation(keys.meetings, f"{keys.meetings} says {was!r} for meeting {meeting}, whose lease is {id}")


def _check_fences(snapshot: Snapshot) -> Iterator[Violation]:
    seen: dict[str, str] = {}
    for slot, fields in snapshot.slots.items():
        lease = fields.get("lease", "")
        fence = lease.rpartition("@")[2]
        if not fence.isdecimal():
            continue
        key = snapshot.keys.fence
        if int(fence) > snapshot.fence:
            yield Violation(key, f"{key} is {snapshot.fence}, but slot {slot} holds lease {lease}")
        if fence in seen:
            yield Violation(key, f"fence {fence} is on slot {slot} and on slot {seen[fence]}")
        seen[fence] = slot


def _check_indices(snapshot: Snapshot) -> Iterator[Violation]:
    """Whatever an index says, the lease says, too."""
    keys = snapshot.keys
    entries = [
        *((keys.lessons, "lesson", lesson, lease) for lesson, lease in snapshot.lessons.items()),
        *((keys.meetings, "meeting_id", meeting, lease) for meeting, lease in snapshot.meetings.items()),
        *((keys.owner(owner), "owner", owner, lease) for owner, held in snapshot.owners.items() for lease in held),
    ]
    for key, field, value, lease in entries:
        slot = lease.rpartition("@")[0]
        fields = snapshot.slots.get(slot, {})
        if fields.get("lease") != lease:
            yield Violation(key, f"{key} names {lease} for {field} {value!r}, but that lease is over")
        elif fields.get(field) != value:
            yield Violation(key, f"{key} names {lease} for {field} {value!r}, but the lease says {fields.get(field)!r}")
