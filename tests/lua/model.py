"""What the scripts should do, once more, in plain Python and without sorted sets: the model of the state machine.

It knows no ranks, indices or parked slots: an account has a capacity, a state, its leases and the moment when it was
last touched, and everything else follows. Time is in milliseconds since the start of the example.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from broker.models import AccountState, Change, Granted, Phase
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


@dataclass
class Host:
    """An account."""

    capacity: int
    state: AccountState = IN_ROTATION
    until: int = 0
    rested: int = 0
    leases: dict[int, HeldLease] = field(default_factory=dict)

    def open_slots(self) -> list[int]:
        """The empty slots that may be granted, in the order in which they are."""
        if self.state is not IN_ROTATION:
            return []
        empty = [index for index in range(self.capacity) if index not in self.leases]
        return empty[: max(0, self.capacity - len(self.leases))]

    def shut_slots(self) -> list[int]:
        """The empty slots that may not."""
        return [index for index in range(self.capacity) if index not in self.leases and index not in self.open_slots()]


class PoolModel:
    """A pool of hosts. Each method does what the operation of the same name should, at the moment `now`."""

    def __init__(self, settings: Settings, batch: int) -> None:
        self.now = 0
        self.fence = 0
        self.hosts: dict[str, Host] = {}
        self.outcomes: dict[str, tuple[str, str]] = {}
        self._batch = batch
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

    def claim(self, lesson: str, owner: str, quota: int) -> tuple[Granted, str]:
        self._expire(self._batch)
        for lease in self.leases.values():
            if lease.lesson == lesson:
                if lease.owner != owner:
                    return Granted.HELD_BY_OTHER, ""
                if lease.phase is not Phase.CLAIMED or lease.deadline > self.now:
                    return Granted.HELD, lease.id
                self._end(lease, "lapsed")
                break
        if sum(lease.owner == owner for lease in self.leases.values()) >= quota:
            return Granted.QUOTA, ""
        choice = min(
            (
                (len(host.leases), host.rested, f"{id}#{host.open_slots()[0]}")
                for id, host in self.hosts.items()
                if host.open_slots()
            ),
            default=None,
        )
        if choice is None:
            return (Granted.BUSY if self.hosts else Granted.UNKNOWN_POOL), ""
        self.fence += 1
        slot = choice[2]
        id, _, index = slot.rpartition("#")
        hold_until = self.now + self._ms(self._settings.max_hold_s)
        deadline = self.now + self._ms(self._settings.claim_ttl_s)
        lease = HeldLease(f"{slot}@{self.fence}", slot, lesson, owner, self.now, hold_until, deadline, self.now)
        self.hosts[id].leases[int(index)] = lease
        return Granted.GRANTED, lease.id

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
            "more": len(lapsed) + len(suspected) == batch or len(due) == batch,
        }

    # Accounts

    def add_account(self, id: str, capacity: int) -> Change:
        host = self.hosts.setdefault(id, Host(capacity))
        host.capacity = capacity
        if host.state is AccountState.REMOVING:
            host.state = IN_ROTATION
        self._touch(id)
        return Change.DONE

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
