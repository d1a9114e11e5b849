"""Every operation on a pool, described once and without I/O.

A method of `Pool` returns an `Operation`: which script, which keys, which arguments, and how to read the answer.
`broker.client` has the two runners, one blocking and one async, that carry operations to Redis.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from broker import scripts
from broker.errors import ScriptError
from broker.keys import POOLS, Keys
from broker.models import (
    MAX_CAPACITY,
    Account,
    AccountChange,
    AccountState,
    Change,
    ChangeResult,
    ClaimResult,
    Event,
    Forecast,
    Found,
    Granted,
    Lease,
    LeaseId,
    Moved,
    MoveResult,
    Outcome,
    Phase,
    PoolStatus,
    Priority,
    Quarter,
    Reaped,
    ReleaseReason,
    Reservation,
    Reserved,
    Ticket,
    check_account,
    check_name,
)
from broker.settings import Settings

T = TypeVar("T")

# More slots than a page would make one script run long enough to be felt by every other client of the server.
EXPIRE_BATCH = 5
REAP_BATCH = 200
RELEASE_BATCH = 100
PHASES_OF = 2_000
QUARTER_MS = 15 * 60 * 1000
WEEK_QUARTERS = 7 * 24 * 4
LONGEST_LESSON_MS = 24 * 3600 * 1000
CLAIM_STALL_S = 5.0
MOST_MOVES = 3
"""How often a lesson gets another host because one failed it; then something else than the hosts is wrong."""


@dataclass(frozen=True)
class Operation(Generic[T]):
    """One call to Redis: the command without its name's spelling, and the reader of its answer."""

    name: str
    command: tuple[scripts.Argument, ...]
    """For a script: the number of keys, keys and arguments. For a plain command: the whole command."""
    read: Callable[[Any], T]
    script: scripts.Script | None = None


class Pool:
    """The operations on one pool.

    Args:
        name: the pool's name.
        settings: lease times, quota and caps.

    Raises:
        InvalidName: the name cannot be part of a Redis key.
    """

    def __init__(self, name: str, settings: Settings) -> None:
        self.name = name
        self.keys = Keys(name)
        self._settings = settings
        self._maxlen = settings.events_maxlen
        self._outcome_ttl_ms = ms(settings.outcome_ttl_s)

    def _script(
        self,
        name: str,
        read: Callable[[Any], T],
        args: Mapping[str, scripts.Argument],
        rest: Sequence[scripts.Argument] = (),
    ) -> Operation[T]:
        script = scripts.load(name)
        return Operation(name, (1, self.keys.base, *script.arguments(args, rest)), read, script)

    # Leases

    def claim(
        self,
        lesson: str,
        owner: str,
        *,
        topic: str = "",
        duration_min: int = 60,
        max_leases: int | None = None,
        wait_s: float = 0,
        priority: Priority = Priority.QUICK,
    ) -> Operation[ClaimResult]:
        """Take the best free slot for `lesson`; the same lesson asked for again gets the lease that it has.

        Args:
            lesson: the idempotency key.
            owner: who asks.
            topic: of the meeting to be made.
            duration_min: planned, in minutes.
            max_leases: the owner's quota of leases and places in the queue; the setting if not given.
            wait_s: if no slot is free, wait for up to so long in the queue. The claim must be repeated within every
                `ticket_ttl_s`, which keeps the place; each time counts from then. 0: take no place in the queue.
            priority: where to stand in the queue.

        Raises:
            InvalidName: the lesson's or the owner's id cannot be part of a Redis key.
        """
        asked = {
            "lesson": check_name("lesson", lesson),
            "owner": check_name("owner", owner),
            "topic": topic,
            "duration_min": str(duration_min),
        }
        return self._script(
            "claim",
            lambda answer: self._read_claim(asked, answer),
            {
                **asked,
                "claim_ttl_ms": ms(self._settings.claim_ttl_s),
                "max_hold_ms": ms(self._settings.max_hold_s),
                "max_leases": max_leases or self._settings.max_leases_per_owner,
                "wait_ms": ms(wait_s),
                "ticket_ttl_ms": ms(self._settings.ticket_ttl_s),
                "head_start_ms": int(priority),
                "queue_max": self._settings.queue_max,
                "batch": EXPIRE_BATCH,
                "outcome_ttl_ms": self._outcome_ttl_ms,
                "events_maxlen": self._maxlen,
            },
        )

    def cancel(self, lesson: str, owner: str) -> Operation[ChangeResult]:
        """Give up the place of a lesson in the queue. `STALE`: it does not wait; perhaps it was served just before."""
        return self._script(
            "cancel",
            read_change,
            {
                "lesson": check_name("lesson", lesson),
                "owner": check_name("owner", owner),
                "events_maxlen": self._maxlen,
            },
        )

    def begin_creating(self, lease: LeaseId, attempt: str) -> Operation[ChangeResult]:
        """Record that `attempt` is about to call Zoom. Must be done before the call.

        `BUSY` means that another attempt may still have a call under way; `ChangeResult.deadline_ms` then says until
        when. `DONE` with the detail `creating` means that an earlier attempt may have made a meeting.
        """
        return self._advance(lease, "creating", self._settings.create_ttl_s, attempt=attempt)

    def made_ready(
        self,
        lease: LeaseId,
        *,
        meeting_id: int,
        meeting_uuid: str,
        join_url: str,
        passcode: str,
        sealed_start_url: str,
        start_url_ms: int,
    ) -> Operation[ChangeResult]:
        """Record the meeting that now exists at Zoom. `CONFLICT` says that the lease has another one."""
        return self._advance(
            lease,
            "ready",
            self._settings.start_grace_s,
            fields={
                "meeting_id": meeting_id,
                "meeting_uuid": meeting_uuid,
                "join_url": join_url,
                "passcode": passcode,
                "start_url": sealed_start_url,
                "start_url_ms": start_url_ms,
            },
        )

    def went_live(
        self, lease: LeaseId, *, meeting_uuid: str, at_ms: int = 0, meeting_id: int | None = None
    ) -> Operation[ChangeResult]:
        """Record that Zoom says the meeting runs, as the instance `meeting_uuid`, since `at_ms` (Zoom's clock)."""
        fields: dict[str, scripts.Argument] = {"meeting_uuid": meeting_uuid}
        if meeting_id is not None:
            fields["meeting_id"] = meeting_id
        return self._advance(lease, "live", self._settings.live_ttl_s, at_ms=at_ms, fields=fields)

    def record(self, lease: LeaseId, **fields: scripts.Argument) -> Operation[ChangeResult]:
        """Record facts about a lease without a change of phase or deadline."""
        return self._advance(lease, "", 0, fields=fields)

    def _advance(
        self,
        lease: LeaseId,
        phase: str,
        ttl_s: float,
        *,
        attempt: str = "",
        at_ms: int = 0,
        fields: Mapping[str, scripts.Argument] | None = None,
    ) -> Operation[ChangeResult]:
        pairs = [part for pair in (fields or {}).items() for part in pair]
        return self._script(
            "advance",
            read_change,
            {
                "lease": str(lease),
                "phase": phase,
                "ttl_ms": ms(ttl_s),
                "attempt": attempt,
                "attempt_ttl_ms": ms(self._settings.attempt_ttl_s),
                "at_ms": at_ms,
                "events_maxlen": self._maxlen,
            },
            pairs,
        )

    def renew(self, lease: LeaseId) -> Operation[ChangeResult]:
        """Push back the deadline of a live lease after a sign of life."""
        return self._script("renew", read_change, {"lease": str(lease), "ttl_ms": ms(self._settings.live_ttl_s)})

    def release(
        self,
        leases: Sequence[LeaseId],
        reason: ReleaseReason,
        *,
        detail: str = "",
        only_phase: Phase | None = None,
        only_uuid: str = "",
    ) -> Operation[tuple[Change, ...]]:
        """End leases for good and give their slots back.

        The caller vouches that no meeting is left at Zoom that could still run on these slots.

        Args:
            leases: up to 100.
            reason: kept in the outcome record.
            detail: error code or an operator's words.
            only_phase: refuse leases in any other phase.
            only_uuid: refuse a lease whose meeting's current uuid is another.
        """
        return self._script(
            "release",
            lambda answer: tuple(Change(item) for item in answer[1:]),
            {
                "reason": reason,
                "detail": detail,
                "only_phase": only_phase or "",
                "only_uuid": only_uuid,
                "outcome_ttl_ms": self._outcome_ttl_ms,
                "events_maxlen": self._maxlen,
            },
            [str(lease) for lease in leases],
        )

    def reap(self, batch: int = REAP_BATCH) -> Operation[Reaped]:
        """Act on passed deadlines; at most `batch` leases and parked slots in one run."""
        return self._script(
            "reap",
            _read_reaped,
            {
                "batch": batch,
                "claim_stall_ms": ms(CLAIM_STALL_S),
                "horizon_ms": ms(max(self._settings.claim_ttl_s, self._settings.create_ttl_s)),
                "outcome_ttl_ms": self._outcome_ttl_ms,
                "events_maxlen": self._maxlen,
            },
        )

    def move(
        self, lease: Lease, attempt: str, state: AccountState, reason: str, *, until_ms: int = 0
    ) -> Operation[MoveResult]:
        """Give the lesson of `lease` another host because its own failed it, and park that account, in one step.

        The caller vouches that Zoom refused to create a meeting for this lease and that no earlier try was in doubt.

        Args:
            lease: the lease on the host that failed.
            attempt: the one that `begin_creating` was called with; any other is refused.
            state: what becomes of the failed account: quarantined or limited. An operator's word on it stays.
            reason: why, for people.
            until_ms: when the account returns by itself; 0 for not by itself.
        """
        return self._script(
            "move",
            self._read_move,
            {
                "lease": str(lease.id),
                "lesson": lease.lesson,
                "attempt": attempt,
                "state": state,
                "reason": reason,
                "until_ms": until_ms,
                "ttl_ms": ms(self._settings.claim_ttl_s),
                "most_moves": MOST_MOVES,
                "events_maxlen": self._maxlen,
            },
        )

    def find_lesson(self, lesson: str) -> Operation[Found]:
        """The lease of a lesson, or how its last one ended."""
        return self._find("lesson", check_name("lesson", lesson))

    def find_meeting(self, meeting_id: int) -> Operation[Found]:
        """The lease that holds a Zoom meeting, if one does."""
        return self._find("meeting", str(meeting_id))

    def find_lease(self, lease: LeaseId) -> Operation[Found]:
        """A lease, if it has not ended."""
        return self._find("lease", str(lease))

    def _find(self, kind: str, id: str) -> Operation[Found]:
        return self._script("find", self._read_found, {"kind": kind, "id": id})

    def leases(self, *, suspect: bool = False, offset: int = 0, count: int = 200) -> Operation[tuple[Lease, ...]]:
        """A page of running leases, nearest deadline first, or of suspect ones, oldest first."""

        def read(answer: Any) -> tuple[Lease, ...]:
            now_ms = int(answer[0])
            return tuple(
                Lease.from_fields(self.name, pairs(flat), 0 if suspect else int(score), now_ms)
                for score, flat in answer[1:]
                if flat
            )

        kind = "suspect" if suspect else "leased"
        return self._script("list", read, {"kind": kind, "offset": offset, "count": count})

    def past_meeting(self, meeting_id: int) -> Operation[tuple[str, str] | None]:
        """Lesson and owner of a meeting, for three days after it was made; None if it was none of ours."""

        def read(answer: Any) -> tuple[str, str] | None:
            return (answer[0], answer[1] or "") if answer[0] else None

        return Operation("past_meeting", ("HMGET", self.keys.past(meeting_id), "lesson", "owner"), read)

    def tell(self, type: str, lesson: str, **fields: scripts.Argument) -> Operation[None]:
        """Enter something in the event stream that changes no lease."""
        flat = [part for pair in fields.items() for part in pair]
        entry = ("type", type, "lesson", lesson, "lease", "", *flat)
        return Operation("tell", ("XADD", self.keys.events, "MAXLEN", "~", self._maxlen, "*", *entry), lambda _: None)

    def owned(self, owner: str) -> Operation[tuple[LeaseId, ...]]:
        """The leases that an owner holds.

        Raises:
            InvalidName: the owner's id cannot be part of a Redis key.
        """

        def read(answer: Any) -> tuple[LeaseId, ...]:
            return tuple(sorted(LeaseId.parse(name) for name in (answer or "").split() if "#" in name))

        return Operation("owned", ("HGET", self.keys.owners, check_name("owner", owner)), read)

    # Reservations

    def reserve(self, lesson: str, start_ms: int, end_ms: int) -> Operation[Reserved]:
        """Keep a slot for `lesson` from `reserve_lead_s` before its start until its end, or move its reservation.

        Unused, it lapses `start_grace_s` after the start.

        Args:
            lesson: who claims it gets the slot.
            start_ms: planned start.
            end_ms: planned end, at most a day later.

        Raises:
            InvalidName: the lesson's id cannot be part of a Redis key.
            ValueError: the end is not within a day after the start.
        """
        if not 0 < end_ms - start_ms <= LONGEST_LESSON_MS:
            raise ValueError(
                f"lesson {lesson!r} lasts {end_ms - start_ms} ms; it must end within a day after its start"
            )
        return self._script(
            "reserve",
            _read_reserved,
            {
                "lesson": check_name("lesson", lesson),
                "start_ms": start_ms,
                "end_ms": end_ms,
                "lead_ms": ms(self._settings.reserve_lead_s),
                "grace_ms": ms(self._settings.start_grace_s),
                "batch": EXPIRE_BATCH,
                "events_maxlen": self._maxlen,
            },
        )

    def unreserve(self, lesson: str) -> Operation[ChangeResult]:
        """Give up a reservation, used or not. A lease that the lesson has runs on."""
        return self._script(
            "unreserve", read_change, {"lesson": check_name("lesson", lesson), "events_maxlen": self._maxlen}
        )

    def forecast(self, quarters: int = WEEK_QUARTERS) -> Operation[Forecast]:
        """The pool's slots and how many of them are reserved, by quarters of an hour from now on, for a week."""

        def read(answer: Any) -> Forecast:
            now_ms, first_ms, free, *counts = map(int, answer)
            return Forecast(
                self.name,
                now_ms,
                free,
                tuple(
                    Quarter(first_ms + index * QUARTER_MS, capacity, reserved)
                    for index, (capacity, reserved) in enumerate(zip(counts[::2], counts[1::2], strict=True))
                ),
            )

        return self._script("forecast", read, {"count": quarters})

    # Accounts

    def register(self) -> Operation[None]:
        """Enter the pool in the list of pools. A command of its own: the list lives outside the pool's hash tag."""
        return Operation("register", ("SADD", POOLS, self.name), lambda answer: None)

    def add_account(self, account: Account) -> Operation[AccountChange]:
        """Add an account, or change its e-mail, Zoom user, credential and capacity.

        A pool has a Zoom user once: if another account has it, nothing is changed.

        Raises:
            InvalidName: its id cannot be part of a Redis key.
            ValueError: its capacity is not between 1 and 10.
        """
        return self._set_account(
            "add",
            account.id,
            email=account.email,
            zoom_user_id=account.zoom_user_id,
            credential=account.credential,
            capacity=account.capacity,
        )

    def resize_account(self, account: str, capacity: int) -> Operation[AccountChange]:
        """Change how many meetings an account hosts at a time; slots above it leave when they are released."""
        return self._set_account("resize", account, capacity=capacity)

    def park_account(
        self, account: str, state: AccountState, reason: str, *, until_ms: int = 0
    ) -> Operation[AccountChange]:
        """Take an account out of rotation; its leases run on, its empty slots are given to nobody."""
        if state in (AccountState.ACTIVE, AccountState.REMOVING):
            raise ValueError(f"an account cannot be parked as {state.value!r}; unpark or remove it")
        return self._set_account("park", account, state=state, reason=reason, until_ms=until_ms)

    def unpark_account(self, account: str) -> Operation[AccountChange]:
        """Bring an account back into rotation."""
        return self._set_account("unpark", account)

    def remove_account(self, account: str) -> Operation[AccountChange]:
        """Remove an account: at once if it is idle, else when its last lease ends."""
        return self._set_account("remove", account)

    def _set_account(
        self,
        action: str,
        account: str,
        *,
        email: str = "",
        zoom_user_id: str = "",
        credential: str = "",
        capacity: int | None = None,
        state: str = "",
        reason: str = "",
        until_ms: int = 0,
    ) -> Operation[AccountChange]:
        if capacity is not None and not 1 <= capacity <= MAX_CAPACITY:
            raise ValueError(f"capacity of {account!r} is {capacity}; it must be between 1 and {MAX_CAPACITY}")
        return self._script(
            "set_account",
            _read_account_change,
            {
                "action": action,
                "account": check_account(account),
                "email": email,
                "zoom_user_id": zoom_user_id,
                "credential": credential,
                "capacity": "" if capacity is None else capacity,
                "state": state,
                "reason": reason,
                "until_ms": until_ms,
                "events_maxlen": self._maxlen,
            },
        )

    def account(self, id: str) -> Operation[Account | None]:
        """One account; None if the pool has none of this id."""
        return Operation("account", ("HGETALL", self.keys.account(id)), lambda f: _account(id, f) if f else None)

    def accounts(self, *, offset: int = 0, count: int = 200) -> Operation[tuple[Account, ...]]:
        """A page of the pool's accounts, in the order of their ids."""

        def read(answer: Any) -> tuple[Account, ...]:
            return tuple(_account(id, pairs(flat)) for id, flat in answer[1:] if flat)

        return self._script("list", read, {"kind": "accounts", "offset": offset, "count": count})

    # For people and machines that watch

    def status(self) -> Operation[PoolStatus]:
        """The pool's counts."""
        return self._script("status", self._read_status, {"phases_of": PHASES_OF})

    def dashboard(self, *, rows: int = 50, utc_offset_min: int = 0) -> Operation[str]:
        """The pool as text for people: the same that redis-cli prints."""
        return self._script("dashboard", str, {"rows": rows, "utc_offset_min": utc_offset_min})

    def events(self, *, count: int = 100, before: str = "+") -> Operation[tuple[Event, ...]]:
        """The newest events, newest first."""

        def read(answer: Any) -> tuple[Event, ...]:
            return tuple(read_event(self.name, id, fields) for id, fields in answer)

        return Operation("events", ("XREVRANGE", self.keys.events, before, "-", "COUNT", count), read)

    # Answers

    def _read_claim(self, asked: Mapping[str, str], answer: Any) -> ClaimResult:
        outcome, now_ms = Granted(answer[0]), int(answer[1])
        if outcome in (Granted.GRANTED, Granted.HELD):
            if outcome is Granted.GRANTED:
                new = dict(
                    zip(("lease", "hold_until_ms", "email", "zoom_user_id", "credential"), answer[3:], strict=True)
                )
                fields = {**asked, **new, "phase": Phase.CLAIMED, "granted_ms": answer[1], "since_ms": answer[1]}
            else:
                fields = pairs(answer[3])
            return ClaimResult(outcome, now_ms, Lease.from_fields(self.name, fields, int(answer[2]), now_ms))
        if outcome is Granted.QUEUED:
            return ClaimResult(outcome, now_ms, ticket=self._ticket(answer[2:], now_ms))
        if outcome is Granted.QUEUE_FULL:
            estimate_ms = int(answer[3])
            return ClaimResult(
                outcome, now_ms, waiting=int(answer[2]), estimate_ms=estimate_ms if estimate_ms >= 0 else None
            )
        return ClaimResult(outcome, now_ms, free_at_ms=int(answer[2]) if outcome is Granted.BUSY else 0)

    def _read_move(self, answer: Any) -> MoveResult:
        outcome, now_ms = Moved(answer[0]), int(answer[1])
        match outcome:
            case Moved.MOVED:
                lease = Lease.from_fields(self.name, pairs(answer[3]), int(answer[2]), now_ms)
                return MoveResult(outcome, now_ms, lease)
            case Moved.BUSY:
                return MoveResult(outcome, now_ms, free_at_ms=int(answer[2]))
            case Moved.REFUSED:
                return MoveResult(outcome, now_ms, detail=str(answer[2]))
            case _:
                return MoveResult(outcome, now_ms)

    def _read_found(self, answer: Any) -> Found:
        now_ms, deadline_ms = int(answer[0]), int(answer[1])
        lease = Lease.from_fields(self.name, pairs(answer[2]), deadline_ms, now_ms) if answer[2] else None
        ticket = self._ticket(answer[4], now_ms) if answer[4] else None
        return Found(lease, self._outcome(answer[3]) if answer[3] else None, now_ms, ticket)

    def _ticket(self, place: Sequence[Any], now_ms: int) -> Ticket:
        position, length, estimate_ms, fields = place
        return Ticket.from_fields(self.name, pairs(fields), int(position), int(length), int(estimate_ms), now_ms)

    def _outcome(self, line: str) -> Outcome:
        lease, lesson, owner, reason, phase, granted_ms, released_ms, meeting, detail = line.split(" ", 8)
        return Outcome(
            pool=self.name,
            lesson=lesson,
            owner=owner,
            lease=LeaseId.parse(lease),
            reason=ReleaseReason(reason),
            detail=detail,
            phase=Phase(phase),
            granted_ms=int(granted_ms),
            released_ms=int(released_ms),
            meeting_id=None if meeting == "-" else int(meeting),
        )

    def _read_status(self, answer: Any) -> PoolStatus:
        now_ms, counts, nearest, behind_ms, phases = answer
        return PoolStatus(
            pool=self.name,
            now_ms=int(now_ms),
            phases={phase: int(count) for phase, count in pairs(phases).items()},
            next_deadline_ms=int(nearest),
            behind_ms=int(behind_ms),
            **{name: int(count) for name, count in pairs(counts).items()},
        )


def pools() -> Operation[tuple[str, ...]]:
    """The names of all registered pools, in order."""
    return Operation("pools", ("SMEMBERS", POOLS), lambda answer: tuple(sorted(answer)))


def ms(seconds: float) -> int:
    """Seconds as whole milliseconds."""
    return round(seconds * 1000)


def pairs(flat: Sequence[Any]) -> dict[str, Any]:
    """A flat list of fields and values as a dictionary."""
    return dict(zip(flat[::2], flat[1::2], strict=True))


def read_change(answer: Any) -> ChangeResult:
    """Read the answer of a compare-and-set on a lease, a ticket or a reservation."""
    return ChangeResult(
        change=Change(answer[0]),
        now_ms=int(answer[1]),
        deadline_ms=int(answer[2]) if len(answer) > 2 else 0,
        detail=str(answer[3]) if len(answer) > 3 else "",
    )


def read_event(pool: str, id: str, fields: Mapping[str, str] | Sequence[str]) -> Event:
    """Read one stream entry."""
    known = dict(fields) if isinstance(fields, Mapping) else pairs(fields)
    try:
        return Event(pool, id, known.pop("type"), known.pop("lesson"), known.pop("lease"), known)
    except KeyError as missing:
        raise ScriptError("events", f"entry {id} of pool {pool!r} has no field {missing}") from None


def _read_reaped(answer: Any) -> Reaped:
    lapsed, suspected, stalled = (tuple(LeaseId.parse(item) for item in part) for part in answer[:3])
    return Reaped(lapsed, suspected, stalled, tuple(answer[3]), bool(answer[4]))


def _read_reserved(answer: Any) -> Reserved:
    return Reserved(Reservation(answer[0]), *map(int, answer[1:]))


def _read_account_change(answer: Any) -> AccountChange:
    change, now_ms = Change(answer[0]), int(answer[1])
    if change is Change.CONFLICT:
        return AccountChange(change, now_ms, taken_by=str(answer[2]))
    return AccountChange(change, now_ms, int(answer[2]) if len(answer) > 2 else 0)


def _account(id: str, fields: Mapping[str, str]) -> Account:
    return Account(
        id=id,
        email=fields["email"],
        zoom_user_id=fields["zoom_user_id"],
        credential=fields["credential"],
        capacity=int(fields["capacity"]),
        state=AccountState(fields["state"]),
        reason=fields["reason"],
        until_ms=int(fields["until_ms"]),
    )
