"""What the scripts should do, once more, in plain Python and without sorted sets: the model of the state machine.

It knows no ranks, indices or parked slots: an account has a capacity, a state, its leases and the moment when it was
last touched, and everything else follows. Time is in milliseconds since the start of the example.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from broker.invariants import RESERVED_HEAD_START_MS
from broker.models import AccountState, Change, Granted, Moved, Phase, Reservation
from broker.settings import Settings

IN_ROTATION = AccountState.ACTIVE
STALL_MS = 50_000


@dataclass
class HeldLease:
    """A lease that is not over."""

    id: str
    slot: str
    lesson: str
    owner: str
    granted: int
    hold_until: int
    deadline: int
    since: int
    phase: Phase = Phase.CLAIMED
    was: Phase | None = None
    attempt: str = ""
    attempt_until: int = 0
    meeting: int | None = None
    uuid: str = ""
    instance: int = 0
    looks: int = 0
    moves: int = 0
    moved_from: str = ""


@dataclass
class Host:
    """An account."""

    capacity: int
    state: AccountState = IN_ROTATION
    until: int = 0
    rested: int = 0
    leases: dict[int, HeldLease] = field(default_factory=dict)
    names: frozenset[str] = frozenset()

    def open_slots(self) -> list[int]:
        """The empty slots that may be granted, in the order in which they are."""
        if self.state is not IN_ROTATION:
            return []
        empty = [index for index in range(self.capacity) if index not in self.leases]
        return empty[: max(0, self.capacity - len(self.leases))]

    def shut_slots(self) -> list[int]:
        """The empty slots that may not."""
        return [index for index in range(self.capacity) if index not in self.leases and index not in self.open_slots()]


@dataclass
class Waiting:
    """A lesson in the queue."""

    owner: str
    asked: int
    head_start: int
    place: int
    until: int
    patience: int


@dataclass
class Booking:
    """A reservation."""

    start: int
    begin: int
    end: int
    lapse: int
    used: bool = False

    @property
    def goes(self) -> int:
        """When it is taken away."""
        return self.end if self.used else self.lapse


class PoolModel:
    """A pool of hosts. Each method does what the operation of the same name should, at the moment `now`."""

    def __init__(self, settings: Settings, *, batch: int, most_moves: int) -> None:
        self.now = 0
        self.fence = 0
        self.hosts: dict[str, Host] = {}
        self.queue: dict[str, Waiting] = {}
        self.bookings: dict[str, Booking] = {}
        self.outcomes: dict[str, tuple[str, str]] = {}
        self._batch = batch
        self._most_moves = most_moves
        self._settings = settings

    @property
    def leases(self) -> dict[str, HeldLease]:
        """All leases by their ids."""
        return {lease.id: lease for host in self.hosts.values() for lease in host.leases.values()}

    def slots(self, *, free: bool) -> set[str]:
        """The empty slots that may be granted, or those that may not."""
        return {
            f"{id}#{index}"
            for id, host in self.hosts.items()
            for index in (host.open_slots() if free else host.shut_slots())
        }

    def running(self) -> list[HeldLease]:
        """Leases that are not suspect, nearest deadline first."""
        running = (lease for lease in self.leases.values() if lease.phase is not Phase.SUSPECT)
        return sorted(running, key=lambda lease: (lease.deadline, lease.slot))

    # Leases

    def claim(
        self, lesson: str, owner: str, quota: int, fence: int, wait: int = 0, head_start: int = 0
    ) -> tuple[Granted, str]:
        """`fence` is what a grant would mint: the model knows only that it grows."""
        unknown = all(lease.lesson != lesson for lease in self.leases.values())
        nobody_before = not self.queue and all(booking.used for booking in self.bookings.values())
        in_quota = sum(lease.owner == owner for lease in self.leases.values()) < quota
        short_way = unknown and in_quota and nobody_before and bool(self.slots(free=True))
        if not short_way:
            self._expire(self._batch)
        for lease in self.leases.values():
            if lease.lesson == lesson:
                if lease.owner != owner:
                    return Granted.HELD_BY_OTHER, ""
                if lease.phase is not Phase.CLAIMED or lease.deadline > self.now:
                    return Granted.HELD, lease.id
                self._end(lease, "lapsed")
                break
        if not short_way:
            self._drop_lapsed(self._batch)
        ticket = self.queue.get(lesson)
        if ticket and ticket.patience <= self.now:
            del self.queue[lesson]
            ticket = None
        if ticket and ticket.owner != owner:
            return Granted.HELD_BY_OTHER, ""
        holds = sum(lease.owner == owner for lease in self.leases.values())
        waits = sum(other.owner == owner for name, other in self.queue.items() if name != lesson)
        if holds + waits >= quota:
            return Granted.QUOTA, ""
        if ticket and wait:
            ticket.head_start = max(ticket.head_start, head_start)
        ahead = ticket.head_start if ticket else head_start
        reserved_ahead = RESERVED_HEAD_START_MS if self._due(lesson) else 0
        place = (ticket.asked if ticket else self.now) - ahead - reserved_ahead
        if ticket:
            ticket.place = place
        rank = sum(other.place < place for name, other in self.queue.items() if name != lesson)
        room = len(self.slots(free=True))
        if not self._due(lesson):
            room -= sum(self._due(name) for name in self.bookings)
        if rank >= room:
            return self._wait(lesson, owner, wait, head_start, place)
        self.queue.pop(lesson, None)
        if lesson in self.bookings:
            self.bookings[lesson].used = True
        slot = self._best_slot()
        self.fence = fence
        id, _, index = slot.rpartition("#")
        hold_until = self.now + self._ms(self._settings.max_hold_s)
        deadline = self.now + self._ms(self._settings.claim_ttl_s)
        lease = HeldLease(f"{slot}@{fence}", slot, lesson, owner, self.now, hold_until, deadline, self.now)
        self.hosts[id].leases[int(index)] = lease
        return Granted.GRANTED, lease.id

    def _wait(self, lesson: str, owner: str, wait: int, head_start: int, place: int) -> tuple[Granted, str]:
        ticket = self.queue.get(lesson)
        if not self.hosts:
            return Granted.UNKNOWN_POOL, ""
        if not ticket and not wait:
            return Granted.BUSY, ""
        if not ticket and len(self.queue) >= self._settings.queue_max:
            return Granted.QUEUE_FULL, str(len(self.queue))
        ttl = self._ms(self._settings.ticket_ttl_s)
        if ticket is None:
            until = self.now + wait
            self.queue[lesson] = Waiting(owner, self.now, head_start, place, until, self.now + min(wait, ttl))
        elif wait:
            ticket.until = max(ticket.until, self.now + wait)
            ticket.patience = min(ticket.until, self.now + ttl)
        return Granted.QUEUED, f"{self.line().index(lesson) + 1} of {len(self.queue)}"

    def line(self) -> list[str]:
        """Who waits, first in line first."""
        return sorted(self.queue, key=lambda lesson: self.queue[lesson].place)

    def cancel(self, lesson: str, owner: str) -> Change:
        ticket = self.queue.get(lesson)
        if ticket is None:
            return Change.STALE
        if ticket.owner != owner:
            return Change.REFUSED
        del self.queue[lesson]
        return Change.DONE

    def reserve(self, lesson: str, start: int, end: int) -> tuple[Reservation, Booking]:
        """The answer, if the pool has room; whether it has is for the caller to find out."""
        self._drop_lapsed(self._batch)
        grace = self._ms(self._settings.start_grace_s)
        running = any(lease.lesson == lesson for lease in self.leases.values())
        booking = Booking(start, start - self._ms(self._settings.reserve_lead_s), end, min(start + grace, end), running)
        past = end <= self.now or (booking.lapse <= self.now and not running)
        return (Reservation.PAST if past else Reservation.DONE), booking

    def fullest(self, booking: Booking, besides: str, slack: int) -> int:
        """The most reservations at one instant of `booking`, each lasting `slack` longer at both ends."""
        others = [other for name, other in self.bookings.items() if name != besides]
        instants = [booking.begin - slack, *(other.begin - slack for other in others)]
        return max(
            sum(other.begin - slack <= instant < other.end + slack for other in others)
            for instant in instants
            if booking.begin - slack <= instant < booking.end + slack
        )

    def capacity(self, at: int) -> int:
        """The slots that the pool will have."""
        back = (id for id, host in self.hosts.items() if host.state is not IN_ROTATION and 0 < host.until <= at)
        return len(self.slots(free=True)) + len(self.leases) + sum(len(self.hosts[id].shut_slots()) for id in back)

    def unreserve(self, lesson: str) -> Change:
        return Change.DONE if self.bookings.pop(lesson, None) else Change.STALE

    def begin_creating(self, id: str, attempt: str) -> Change:
        lease = self.leases.get(id)
        if lease is None:
            return Change.STALE
        if lease.phase not in (Phase.CLAIMED, Phase.CREATING) or lease.deadline <= self.now:
            return Change.REFUSED
        if lease.phase is Phase.CREATING and lease.attempt != attempt and lease.attempt_until > self.now:
            return Change.BUSY
        if lease.phase is Phase.CLAIMED:
            self._enter(lease, Phase.CREATING, self._settings.create_ttl_s)
        lease.attempt = attempt
        lease.attempt_until = self.now + self._ms(self._settings.attempt_ttl_s)
        return Change.DONE

    def move(
        self, id: str, lesson: str, attempt: str, state: AccountState, until: int, fence: int
    ) -> tuple[Moved, str]:
        """`fence` is what a grant would mint."""
        lease = self.leases.get(id)
        if lease is None:
            moved = next((new.id for new in self.leases.values() if (new.moved_from, new.lesson) == (id, lesson)), "")
            return (Moved.MOVED if moved else Moved.STALE), moved
        if lease.phase is not Phase.CREATING or lease.attempt != attempt or lease.deadline <= self.now:
            return Moved.REFUSED, ""
        failed, _, index = lease.slot.rpartition("#")
        if self.hosts[failed].state in (IN_ROTATION, AccountState.QUARANTINED, AccountState.LIMITED):
            self.hosts[failed].state, self.hosts[failed].until = state, until
        if lease.moves == self._most_moves:
            return Moved.EXHAUSTED, ""
        if not self.slots(free=True):
            return Moved.BUSY, ""
        slot = self._best_slot()
        self.fence = fence
        new = replace(lease, id=f"{slot}@{fence}", slot=slot, since=self.now, phase=Phase.CLAIMED, moved_from=id)
        new.moves, new.attempt, new.attempt_until = lease.moves + 1, "", 0
        new.deadline = self._capped(lease, self._settings.claim_ttl_s)
        host, _, place = slot.rpartition("#")
        self.hosts[host].leases[int(place)] = new
        del self.hosts[failed].leases[int(index)]
        self._touch(failed)
        return Moved.MOVED, new.id

    def made_ready(self, id: str, meeting: int, uuid: str) -> Change:
        lease = self.leases.get(id)
        if lease is None:
            return Change.STALE
        if lease.meeting not in (None, meeting):
            return Change.CONFLICT
        if lease.phase is Phase.LIVE:
            return Change.DONE
        if lease.phase not in (Phase.CREATING, Phase.READY):
            return Change.REFUSED
        self._enter(lease, Phase.READY, self._settings.start_grace_s)
        lease.meeting, lease.uuid = meeting, uuid
        return Change.DONE

    def went_live(self, id: str, uuid: str, at: int, meeting: int | None) -> Change:
        lease = self.leases.get(id)
        if lease is None:
            return Change.STALE
        if meeting is not None and lease.meeting not in (None, meeting):
            return Change.CONFLICT
        if lease.phase is Phase.CLAIMED or (meeting is None and lease.meeting is None):
            return Change.REFUSED
        if 0 < at < lease.instance and uuid != lease.uuid:
            return Change.REFUSED
        self._enter(lease, Phase.LIVE, self._settings.live_ttl_s)
        lease.uuid, lease.instance = uuid, max(at, lease.instance)
        lease.meeting = lease.meeting or meeting
        lease.looks, lease.was = 0, None
        return Change.DONE

    def record(self, id: str, looks: int) -> Change:
        lease = self.leases.get(id)
        if lease is None:
            return Change.STALE
        if lease.phase is Phase.CLAIMED and lease.deadline <= self.now:
            return Change.REFUSED
        lease.looks = looks
        return Change.DONE

    def renew(self, id: str) -> Change:
        lease = self.leases.get(id)
        if lease is None:
            return Change.STALE
        if lease.phase is not Phase.LIVE or lease.deadline <= self.now:
            return Change.REFUSED
        lease.deadline = max(lease.deadline, self._capped(lease, self._settings.live_ttl_s))
        lease.looks = 0
        return Change.DONE

    def release(self, ids: Iterable[str], reason: str, phase: Phase | None, uuid: str) -> tuple[Change, ...]:
        return tuple(self._release(id, reason, phase, uuid) for id in ids)

    def _release(self, id: str, reason: str, phase: Phase | None, uuid: str) -> Change:
        lease = self.leases.get(id)
        if lease is None:
            return Change.STALE
        if (phase and lease.phase is not phase) or (uuid and lease.uuid != uuid):
            return Change.REFUSED
        self._end(lease, reason)
        return Change.DONE

    def reap(self, batch: int) -> dict[str, Any]:
        lapsed, suspected = self._expire(batch)
        dropped = self._drop_lapsed(batch)
        looked_at = [lease for lease in self.running() if lease.deadline > self.now][:batch]
        stalled = {
            lease.id
            for lease in looked_at
            if (lease.phase is Phase.CLAIMED and lease.since + STALL_MS <= self.now)
            or (lease.phase is Phase.CREATING and lease.attempt_until <= self.now)
        }
        due = sorted(self._due_slots())[:batch]
        unparked = list(dict.fromkeys(slot.rpartition("#")[0] for _, slot in due))
        for id in unparked:
            self.hosts[id].state, self.hosts[id].until = IN_ROTATION, 0
            self._touch(id)
        return {
            "lapsed": lapsed,
            "suspected": suspected,
            "stalled": stalled,
            "unparked": unparked,
            "more": len(lapsed) + len(suspected) == batch or len(due) == batch or dropped == batch,
        }

    # Accounts

    def add_account(self, id: str, capacity: int, names: frozenset[str]) -> tuple[Change, str]:
        """The answer, and who has the Zoom user already."""
        others = [other for other, host in self.hosts.items() if other != id and host.names & names]
        if others:
            return Change.CONFLICT, others[0]
        host = self.hosts.setdefault(id, Host(capacity))
        host.capacity, host.names = capacity, names
        if host.state is AccountState.REMOVING:
            host.state = IN_ROTATION
        self._touch(id)
        return Change.DONE, ""

    def resize_account(self, id: str, capacity: int) -> Change:
        if id not in self.hosts:
            return Change.STALE
        self.hosts[id].capacity = capacity
        self._touch(id)
        return Change.DONE

    def set_state(self, id: str, state: AccountState, until: int = 0) -> Change:
        """Park, unpark and remove."""
        host = self.hosts.get(id)
        if host is None:
            return Change.STALE
        parks = state not in (IN_ROTATION, AccountState.REMOVING)
        if not (parks and host.state is AccountState.REMOVING):
            host.state, host.until = state, until
        self._touch(id)
        return Change.DONE

    # What follows from them

    def _best_slot(self) -> str:
        """Of the account with the fewest leases, and of several such, of the one that rested longest."""
        _, _, slot = min(
            (len(host.leases), host.rested, f"{id}#{host.open_slots()[0]}")
            for id, host in self.hosts.items()
            if host.open_slots()
        )
        return slot

    def _due(self, lesson: str) -> bool:
        booking = self.bookings.get(lesson)
        return booking is not None and not booking.used and booking.begin <= self.now

    def _drop_lapsed(self, batch: int) -> int:
        late = [name for name, ticket in self.queue.items() if ticket.patience <= self.now]
        late = sorted(late, key=lambda name: self.queue[name].patience)[:batch]
        over = [name for name, booking in self.bookings.items() if booking.goes <= self.now]
        over = sorted(over, key=lambda name: self.bookings[name].goes)[:batch]
        for name in late:
            del self.queue[name]
        for name in over:
            del self.bookings[name]
        return max(len(late), len(over))

    def _ms(self, seconds: float) -> int:
        return round(seconds * 1000)

    def _capped(self, lease: HeldLease, ttl_s: float) -> int:
        return min(self.now + self._ms(ttl_s), lease.hold_until)

    def _enter(self, lease: HeldLease, phase: Phase, ttl_s: float) -> None:
        lease.deadline = self._capped(lease, ttl_s)
        if lease.phase is not phase:
            lease.since = self.now
        lease.phase = phase

    def _end(self, lease: HeldLease, reason: str) -> None:
        id, _, index = lease.slot.rpartition("#")
        del self.hosts[id].leases[int(index)]
        self.outcomes[lease.lesson] = (lease.id, reason)
        self._touch(id)

    def _touch(self, id: str) -> None:
        host = self.hosts[id]
        host.rested = self.now
        if host.state is AccountState.REMOVING and not host.leases:
            del self.hosts[id]

    def _expire(self, batch: int) -> tuple[list[str], list[str]]:
        lapsed, suspected = [], []
        for lease in [lease for lease in self.running() if lease.deadline <= self.now][:batch]:
            if lease.phase is Phase.CLAIMED:
                self._end(lease, "lapsed")
                lapsed.append(lease.id)
            else:
                lease.was, lease.phase, lease.since, lease.deadline = lease.phase, Phase.SUSPECT, self.now, 0
                suspected.append(lease.id)
        return lapsed, suspected

    def _due_slots(self) -> Iterator[tuple[int, str]]:
        for id, host in self.hosts.items():
            if host.state is not IN_ROTATION and 0 < host.until <= self.now:
                yield from ((host.until, f"{id}#{index}") for index in host.shut_slots())
