"""Holds a pool against its invariants and names every violation in a sentence.

`broker.snapshot` copies a pool in one transaction, `check` is pure. Tests check after every step, the demo at its end,
an operator whenever something looks odd. Expired leases are no violation: they wait for the reaper.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

from broker.client import Broker
from broker.errors import InvalidName
from broker.models import MAX_CAPACITY, AccountState, LeaseId, Phase, host_names
from broker.operations import QUARTER_MS, Pool
from broker.snapshot import Snapshot, read_snapshot

LOAD = 10**14
"""What one lease on an account adds to the rank of its free slots; see `Keys.free`."""
RESERVED_HEAD_START_MS = 24 * 3600 * 1000
"""How far in front a lesson stands whose reservation is due; see `lua/include_queue.lua`."""


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


def violations(broker: Broker, pool: Pool) -> list[str]:
    """Everything in the data of `pool` that contradicts the invariants, in sentences.

    Raises:
        BrokerUnavailable: Redis did not answer.
    """
    return [str(violation) for violation in check(read_snapshot(broker.redis, pool))]


def check(snapshot: Snapshot) -> list[Violation]:
    """Everything that contradicts the invariants; nothing, if all is well."""
    return [
        *(Violation(key, f"{key} cannot be read: {why}") for key, why in snapshot.unreadable.items()),
        *_check_accounts(snapshot),
        *_check_hosts(snapshot),
        *_check_members(snapshot),
        *_check_leases(snapshot),
        *_check_fences(snapshot),
        *_check_indices(snapshot),
        *_check_queue(snapshot),
        *_check_reservations(snapshot),
    ]


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


def _check_hosts(snapshot: Snapshot) -> Iterator[Violation]:
    """A Zoom user is one account, and the index says which."""
    key = snapshot.keys.hosts
    accounts: defaultdict[str, list[str]] = defaultdict(list)
    for id, fields in sorted(snapshot.account.items()):
        for name in host_names(fields.get("email", ""), fields.get("zoom_user_id", "")):
            accounts[name].append(id)
    for name, ids in accounts.items():
        if len(ids) > 1:
            yield Violation(
                snapshot.keys.account(ids[1]), f"Zoom user {name!r} is {len(ids)} accounts: {', '.join(ids)}"
            )
        elif name not in snapshot.hosts:
            yield Violation(key, f"{key} does not have Zoom user {name!r}, who is account {ids[0]}")
    for name, id in snapshot.hosts.items():
        unread = id in snapshot.accounts and id not in snapshot.account
        if id not in accounts.get(name, ()) and not unread:
            yield Violation(key, f"{key} says that Zoom user {name!r} is account {id}, which is another or none")


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
    for slot, links in snapshot.links.items():
        if links and slot in snapshot.slots and "meeting_id" not in snapshot.slots[slot]:
            key = keys.links(slot)
            yield Violation(key, f"{key} holds links, but there is no meeting on slot {slot}")


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
            int(fields["granted_ms"]), int(fields["since_ms"])
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
        if str(id) not in snapshot.owners.get(owner, "").split():
            yield Violation(keys.owners, f"{keys.owners} does not name {id} for owner {owner!r}, who holds it")
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
        *((keys.owners, "owner", owner, name) for owner, name in snapshot.owned() if "#" in name),
    ]
    for key, field, value, lease in entries:
        slot = lease.rpartition("@")[0]
        fields = snapshot.slots.get(slot, {})
        if fields.get("lease") != lease:
            yield Violation(key, f"{key} names {lease} for {field} {value!r}, but that lease is over")
        elif fields.get(field) != value:
            yield Violation(key, f"{key} names {lease} for {field} {value!r}, but the lease says {fields.get(field)!r}")


def _check_queue(snapshot: Snapshot) -> Iterator[Violation]:
    """Who waits has a ticket, a place and a moment at which it lapses, and no lease."""
    keys = snapshot.keys
    for lesson in snapshot.waiting.keys() | snapshot.patience.keys() | snapshot.tickets.keys():
        key = keys.ticket(lesson)
        fields = snapshot.tickets.get(lesson, {})
        places = (lesson in snapshot.waiting, lesson in snapshot.patience, bool(fields))
        if len(set(places)) > 1:
            yield Violation(
                key,
                f"lesson {lesson!r} is in waiting: {places[0]}, in patience: {places[1]}, has a ticket: {places[2]}",
            )
        if not fields:
            continue
        if lesson in snapshot.lessons:
            yield Violation(key, f"lesson {lesson!r} waits although it has lease {snapshot.lessons[lesson]}")
        try:
            tick, head_start_ms, until_ms = (int(fields[name]) for name in ("tick", "head_start_ms", "until_ms"))
            int(fields["asked_ms"])
            owner = fields["owner"]
        except (KeyError, ValueError) as error:
            yield Violation(key, f"{key} cannot be read: {type(error).__name__} {error}")
            continue
        place, earliest = snapshot.waiting.get(lesson, tick), tick - head_start_ms * 1000
        if place not in (earliest, earliest - RESERVED_HEAD_START_MS * 1000):
            yield Violation(keys.waiting, f"{keys.waiting} puts {lesson!r} at {place:.0f}, its ticket says {earliest}")
        if tick > snapshot.fence:
            yield Violation(keys.fence, f"{keys.fence} is {snapshot.fence}, but {key} was written at {tick}")
        if snapshot.patience.get(lesson, until_ms) > until_ms:
            yield Violation(keys.patience, f"{keys.patience} lets {lesson!r} wait past its deadline {until_ms}")
        if lesson not in snapshot.owners.get(owner, "").split():
            yield Violation(
                keys.owners, f"{keys.owners} does not name {lesson!r} for owner {owner!r}, who waits for it"
            )
    for owner, name in snapshot.owned():
        if "#" not in name and snapshot.tickets.get(name, {}).get("owner") != owner:
            yield Violation(
                keys.owners, f"{keys.owners} says that {owner!r} waits for {name!r}, which has no such ticket"
            )


def _check_reservations(snapshot: Snapshot) -> Iterator[Violation]:
    """Every reservation is in the list, an unused one is to come, and the counts by quarter follow from them."""
    keys = snapshot.keys
    booked: Counter[str] = Counter()
    for lesson in snapshot.reservations.keys() | snapshot.due.keys() | snapshot.reservation.keys():
        key = keys.reservation(lesson)
        fields = snapshot.reservation.get(lesson, {})
        if bool(fields) != (lesson in snapshot.reservations):
            yield Violation(
                key, f"{key} {'exists' if fields else 'is missing'}, but {keys.reservations} says otherwise"
            )
        if bool(fields) and (lesson in snapshot.due) == ("used_ms" in fields):
            yield Violation(
                keys.due, f"{keys.due} and {key} disagree about whether {lesson!r} has used its reservation"
            )
        if not fields:
            if lesson in snapshot.due:
                yield Violation(keys.due, f"{keys.due} holds {lesson!r}, which has no reservation")
            continue
        try:
            from_ms, end_ms, lapse_ms = (int(fields[name]) for name in ("from_ms", "end_ms", "lapse_ms"))
            int(fields["start_ms"])
        except (KeyError, ValueError) as error:
            yield Violation(key, f"{key} cannot be read: {type(error).__name__} {error}")
            continue
        booked.update(str(quarter) for quarter in range(from_ms // QUARTER_MS, (end_ms - 1) // QUARTER_MS + 1))
        goes_ms = end_ms if "used_ms" in fields else lapse_ms
        if snapshot.reservations.get(lesson, goes_ms) != goes_ms:
            yield Violation(
                keys.reservations,
                f"{keys.reservations} keeps {lesson!r} until {snapshot.reservations[lesson]:.0f}, not until {goes_ms}",
            )
        if snapshot.due.get(lesson, from_ms) != from_ms:
            yield Violation(keys.due, f"{keys.due} has {lesson!r} from {snapshot.due[lesson]:.0f}, {key} {from_ms}")
    for quarter in booked.keys() | snapshot.booked.keys():
        if str(booked[quarter]) != snapshot.booked.get(quarter, "0"):
            yield Violation(
                keys.booked,
                f"{keys.booked} counts {snapshot.booked.get(quarter)} reservations in quarter {quarter}, "
                f"there are {booked[quarter]}",
            )
