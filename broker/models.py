"""The words of the broker as types: leases, slots, accounts, and the typed answers of its operations.

Times are integers in milliseconds since the epoch on Redis's clock (`_ms`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from string import ascii_lowercase, ascii_uppercase
from typing import Self

from pydantic import SecretStr

from broker.errors import InvalidName

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@:-]{0,127}")
# Pool and account names are shorter than others: with the lease they make up the marker of a meeting, of which Zoom's
# lists show 250 characters.
MAX_POOL_NAME = 100
ACCOUNT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,99}")
LEASE_ID = re.compile(r"(?P<account>[A-Za-z0-9][A-Za-z0-9._@-]{0,99})#(?P<index>\d{1,2})@(?P<fence>\d{1,16})")
SMALL = str.maketrans(ascii_uppercase, ascii_lowercase)
MAX_CAPACITY = 10
NO_SECRET = SecretStr("")


class Phase(StrEnum):
    """Where a lease stands; see the table in broker/README.md."""

    CLAIMED = "claimed"
    CREATING = "creating"
    READY = "ready"
    LIVE = "live"
    SUSPECT = "suspect"


class AccountState(StrEnum):
    """Why an account is in rotation or not."""

    ACTIVE = "active"
    DRAINING = "draining"
    DISABLED = "disabled"
    QUARANTINED = "quarantined"
    LIMITED = "limited"
    REMOVING = "removing"


FOREIGN_MEETING = "foreign_meeting"
"""Begins the reason of an account that the reconciler quarantined because a meeting runs there that nobody leased. The
reconciler alone brings such an account back: that its user may host says nothing."""


class ReleaseReason(StrEnum):
    """Why a lease ended; kept in its outcome record and in the event stream."""

    ENDED = "ended"
    """Zoom said that the meeting is over."""
    ENDED_BY_OWNER = "ended_by_owner"
    """Somebody pressed "end lesson"."""
    FAILED = "failed"
    """The meeting could not be created; the outcome's detail holds the error code."""
    LAPSED = "lapsed"
    """A claim that no worker picked up in time."""
    RECONCILED = "reconciled"
    """Zoom was asked and knows no running meeting for it any more."""
    FORCED = "forced"
    """An operator said so."""
    ELSEWHERE = "elsewhere"
    """The lesson was started in two pools at once, and the other one was first; the detail names that pool."""


class Granted(StrEnum):
    """What `claim` can answer."""

    GRANTED = "granted"
    HELD = "held"
    HELD_BY_OTHER = "held_by_other"
    QUEUED = "queued"
    QUEUE_FULL = "queue_full"
    BUSY = "busy"
    QUOTA = "quota"
    UNKNOWN_POOL = "unknown_pool"


class Priority(IntEnum):
    """How a lesson that has to wait stands in line. The value is its head start in milliseconds.

    It stands as if it had been asked for that much earlier, so whoever waits is overtaken only by those who come within
    that time behind him, and nobody starves. A lesson whose reservation is due goes before all of these by itself.
    """

    QUICK = 0
    """A start out of the blue."""
    SCHEDULED = 120_000
    """A lesson inside its scheduled time."""
    OPS = 3_600_000
    """An operator says that it matters."""


class Reservation(StrEnum):
    """What `reserve` can answer."""

    DONE = "done"
    OVERBOOKED = "overbooked"
    PAST = "past"


class Change(StrEnum):
    """What a compare-and-set on a lease can answer."""

    DONE = "done"
    """The change was made (or had been made before, by the same call)."""
    STALE = "stale"
    """The lease is over: the slot is free or belongs to a later fence."""
    REFUSED = "refused"
    """The lease exists, but is not in a phase from which this change is allowed."""
    BUSY = "busy"
    """Another worker's attempt is still under way."""
    CONFLICT = "conflict"
    """The lease already has another meeting; another account already has the host."""


@dataclass(frozen=True, order=True)
class LeaseId:
    """`{account}#{index}@{fence}`: the slot and the number that makes this lease of it unique for ever."""

    account: str
    index: int
    fence: int

    @property
    def slot(self) -> str:
        return f"{self.account}#{self.index}"

    def __str__(self) -> str:
        return f"{self.account}#{self.index}@{self.fence}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a lease id.

        Raises:
            InvalidName: the text is not one.
        """
        match = LEASE_ID.fullmatch(text)
        if match is None:
            raise InvalidName("lease id", text, "it looks like account#0@17")
        return cls(match["account"], int(match["index"]), int(match["fence"]))


@dataclass(frozen=True)
class Lease:
    """One lease as Redis holds it.

    `sealed_start_url` is still encrypted: open it with `SecretBox` where it is handed to its owner, nowhere else.
    """

    id: LeaseId
    pool: str
    lesson: str
    owner: str
    phase: Phase
    granted_ms: int
    since_ms: int
    deadline_ms: int
    """When the phase runs out; 0 for suspect leases, which wait for Zoom's word."""
    hold_until_ms: int
    now_ms: int
    """Redis's clock when this was read."""
    email: str = ""
    zoom_user_id: str = ""
    credential: str = ""
    topic: str = ""
    duration_min: int = 0
    was: Phase | None = None
    """For suspect leases: the phase that expired."""
    meeting_id: int | None = None
    meeting_uuid: str = ""
    join_url: str = ""
    passcode: str = field(default="", repr=False)
    sealed_start_url: str = field(default="", repr=False)
    start_url_ms: int = 0
    """When Zoom made the start_url: it works for two hours."""
    instance_ms: int = 0
    """Zoom's time of the newest `meeting.started` that we know of."""
    attempt: str = ""
    attempt_until_ms: int = 0
    moves: int = 0
    """How often the lesson got another host because one failed it."""
    moved_from: LeaseId | None = None
    """Its lease before the last move."""
    looks: int = 0
    """How often in a row the reconciler looked and Zoom did not know this meeting as running."""
    look_ms: int = 0
    """When it last did so; means something only while `looks` is not 0."""

    @property
    def account(self) -> str:
        return self.id.account

    @classmethod
    def from_fields(cls, pool: str, fields: Mapping[str, str], deadline_ms: int, now_ms: int) -> Self:
        """Build a lease from the hash `slot:{slot}`."""
        return cls(
            id=LeaseId.parse(fields["lease"]),
            pool=pool,
            lesson=fields["lesson"],
            owner=fields["owner"],
            phase=Phase(fields["phase"]),
            granted_ms=int(fields["granted_ms"]),
            since_ms=int(fields["since_ms"]),
            deadline_ms=deadline_ms,
            hold_until_ms=int(fields["hold_until_ms"]),
            now_ms=now_ms,
            email=fields.get("email", ""),
            zoom_user_id=fields.get("zoom_user_id", ""),
            credential=fields.get("credential", ""),
            topic=fields.get("topic", ""),
            duration_min=int(fields.get("duration_min") or 0),
            was=Phase(fields["was"]) if fields.get("was") else None,
            meeting_id=int(fields["meeting_id"]) if fields.get("meeting_id") else None,
            meeting_uuid=fields.get("meeting_uuid", ""),
            join_url=fields.get("join_url", ""),
            passcode=fields.get("passcode", ""),
            sealed_start_url=fields.get("start_url", ""),
            start_url_ms=int(fields.get("start_url_ms") or 0),
            instance_ms=int(fields.get("instance_ms") or 0),
            attempt=fields.get("attempt", ""),
            attempt_until_ms=int(fields.get("attempt_until_ms") or 0),
            moves=int(fields.get("moves") or 0),
            moved_from=LeaseId.parse(fields["moved_from"]) if fields.get("moved_from") else None,
            looks=int(fields.get("looks") or 0),
            look_ms=int(fields.get("look_ms") or 0),
        )


@dataclass(frozen=True)
class Outcome:
    """How the last lease of a lesson ended; kept for a day."""

    pool: str
    lesson: str
    owner: str
    lease: LeaseId
    reason: ReleaseReason
    detail: str
    """For `failed`: the error's code. For `forced`: what the operator wrote."""
    phase: Phase
    """The phase in which it ended."""
    granted_ms: int
    released_ms: int
    meeting_id: int | None


@dataclass(frozen=True)
class Ticket:
    """A lesson's place in the queue of a pool."""

    pool: str
    lesson: str
    owner: str
    position: int
    """1 is next."""
    length: int
    """How many wait."""
    asked_ms: int
    until_ms: int
    """It is served before this moment or not at all; asking again moves it."""
    estimate_ms: int | None
    """How long it will wait at the pace of late; None if that is unknown."""
    now_ms: int

    @classmethod
    def from_fields(
        cls, pool: str, fields: Mapping[str, str], position: int, length: int, estimate_ms: int, now_ms: int
    ) -> Self:
        """Build a ticket from the hash `ticket:{lesson}` and its place."""
        return cls(
            pool=pool,
            lesson=fields["lesson"],
            owner=fields["owner"],
            position=position,
            length=length,
            asked_ms=int(fields["asked_ms"]),
            until_ms=int(fields["until_ms"]),
            estimate_ms=estimate_ms if estimate_ms >= 0 else None,
            now_ms=now_ms,
        )


@dataclass(frozen=True)
class ClaimResult:
    """The answer to a claim.

    `lease` is set for granted and held, and for held_by_other it is not: another teacher's lease tells nothing.
    `free_at_ms` is set for busy: the nearest deadline at which a slot may come back, 0 if none is known.
    `ticket` is set for queued. `waiting` and `estimate_ms` are set for queue_full: how many wait, and how long the last
    of them will.
    """

    outcome: Granted
    now_ms: int
    lease: Lease | None = None
    free_at_ms: int = 0
    ticket: Ticket | None = None
    waiting: int = 0
    estimate_ms: int | None = None


@dataclass(frozen=True)
class ChangeResult:
    """The answer to advance, renew and release: what happened, and the lease's deadline afterwards (0: none)."""

    change: Change
    now_ms: int
    deadline_ms: int = 0
    detail: str = ""


@dataclass(frozen=True)
class AccountChange:
    """The answer to a change of an account: what happened, and how many leases are on it afterwards.

    `STALE` says that the pool has no such account, `CONFLICT` that it was not added, because the account `taken_by` has
    its host. An account that is removed while it has leases leaves with the last.
    """

    change: Change
    now_ms: int
    leases: int = 0
    taken_by: str = ""


class Moved(StrEnum):
    """What `move` can answer."""

    MOVED = "moved"
    """The lesson has a lease on another host."""
    BUSY = "busy"
    """No other host is free."""
    EXHAUSTED = "exhausted"
    """It has moved too often already."""
    REFUSED = "refused"
    """A meeting may exist, or somebody else tries to create it; nothing was changed."""
    STALE = "stale"
    """The lease is over."""


@dataclass(frozen=True)
class MoveResult:
    """The answer to a move. `lease` is set for moved; `free_at_ms` for busy, as in `ClaimResult`."""

    outcome: Moved
    now_ms: int
    lease: Lease | None = None
    free_at_ms: int = 0
    detail: str = ""


@dataclass(frozen=True)
class Reaped:
    """What one bounded run of `reap` did. `more` says that another run would find work at once."""

    lapsed: tuple[LeaseId, ...]
    suspected: tuple[LeaseId, ...]
    stalled: tuple[LeaseId, ...]
    """Leases without a meeting on which no worker works: their job was lost and has to be enqueued again."""
    unparked: tuple[str, ...]
    more: bool


@dataclass(frozen=True)
class Found:
    """What is known of a lesson, a meeting or a lease: a running lease, or else how the last one ended.

    A lesson that waits in the queue has a ticket, and perhaps an outcome from before.
    """

    lease: Lease | None
    outcome: Outcome | None
    now_ms: int
    ticket: Ticket | None = None


@dataclass(frozen=True)
class Reserved:
    """The answer to a reservation.

    When done, the slot is kept from `from_ms`. When overbooked, `reserved` of the pool's `capacity` slots are taken in
    the fullest quarters of an hour; the first of them begins at `from_ms`, the last ends at `until_ms`.
    """

    result: Reservation
    now_ms: int
    from_ms: int = 0
    until_ms: int = 0
    reserved: int = 0
    capacity: int = 0


@dataclass(frozen=True)
class Quarter:
    """A quarter of an hour in a pool's forecast: its start, the pool's slots, and how many of them are reserved."""

    start_ms: int
    capacity: int
    reserved: int

    @property
    def free(self) -> int:
        """Slots that nobody has reserved; never negative, even if accounts left after the reservations were made."""
        return max(0, self.capacity - self.reserved)


@dataclass(frozen=True)
class Forecast:
    """Reserved and free capacity of the time to come. Lessons without a reservation are not foreseen."""

    pool: str
    now_ms: int
    free_now: int
    quarters: tuple[Quarter, ...]


@dataclass(frozen=True)
class Account:
    """One Zoom host in a pool."""

    id: str
    email: str
    zoom_user_id: str
    credential: str
    capacity: int
    state: AccountState = AccountState.ACTIVE
    reason: str = ""
    until_ms: int = 0
    """For an account out of rotation: when it comes back by itself; 0 means by an operator or a probe."""

    @property
    def host(self) -> str:
        """What Zoom's `/users/{userId}` takes: the user id, or else the e-mail."""
        return self.zoom_user_id or self.email

    @property
    def names(self) -> tuple[str, ...]:
        """The names under which Zoom knows the host; two accounts with one in common are the same host."""
        return host_names(self.email, self.zoom_user_id)


@dataclass(frozen=True)
class Credential:
    """One Zoom Server-to-Server OAuth app."""

    name: str
    account_id: str
    client_id: str
    client_secret: SecretStr
    webhook_secret: SecretStr = NO_SECRET
    """The app's own secret token for webhooks; empty: its webhooks are signed with the service's, or there are none."""


@dataclass(frozen=True)
class PoolStatus:
    """Counts of a pool's slots; all counted when asked, none kept."""

    pool: str
    now_ms: int
    accounts: int
    free: int
    leased: int
    suspect: int
    parked: int
    phases: Mapping[str, int]
    lessons: int
    fence: int
    events: int
    next_deadline_ms: int
    waiting: int = 0
    """Lessons in the queue."""
    due: int = 0
    """Slots kept free now for lessons that reserved them and have not begun."""
    reservations: int = 0
    """Reservations, now and later."""
    behind_ms: int = 0
    """How far Redis's clock is behind the largest time seen; no deadline passes until it has caught up."""

    @property
    def slots(self) -> int:
        return self.free + self.leased + self.suspect + self.parked


@dataclass(frozen=True)
class Event:
    """One entry of a pool's event stream."""

    pool: str
    id: str
    type: str
    lesson: str
    lease: str
    fields: Mapping[str, str]


def host_names(email: str, zoom_user_id: str) -> tuple[str, ...]:
    """The names under which Zoom knows a user: its id, then its e-mail, as far as they are given.

    Zoom takes e-mails in any letters, and in the place of an id, too. Only ASCII letters are made small, as Redis does.
    """
    given = (name.translate(SMALL) if "@" in name else name for name in (zoom_user_id, email) if name)
    return tuple(dict.fromkeys(given))


def check_name(kind: str, value: str) -> str:
    """Return `value` if it may be part of a Redis key.

    Raises:
        InvalidName: it may not.
    """
    longest = MAX_POOL_NAME if kind == "pool" else 128
    if not NAME.fullmatch(value) or len(value) > longest:
        raise InvalidName(kind, value, f"use 1 to {longest} letters, digits, dots, dashes, underscores, colons or @")
    return value


def check_account(value: str) -> str:
    """Return `value` if it may name an account: like any name, but without a colon.

    Raises:
        InvalidName: it may not.
    """
    if not ACCOUNT.fullmatch(value) or value == "me":
        raise InvalidName(
            "account", value, "use 1 to 100 letters, digits, dots, dashes, underscores or @ ('me' is refused by Zoom)"
        )
    return value
