"""What to do about one host, given what Redis and Zoom say about it. Facts in, decisions out; no I/O.

| the lease is | Zoom says | then |
|---|---|---|
| suspect | its meeting runs, and its time is not up | it is live again: we missed the signs, the lesson goes on |
| suspect | its meeting runs, and its time is up | by `overrun_policy`: more time, a warning, or its end |
| suspect | its meeting does not run | end and delete what is there, then free the slot |
| suspect | the host cannot host any more | free the slot, which is parked with its account |
| live | its meeting runs | renew |
| live | not running, in two looks | delete the meeting, free the slot: we missed the end |
| ready | its meeting runs | live: we missed the start |

| beside the leases there is | then |
|---|---|
| a running meeting that nobody leased | park the account until it is gone |
| a meeting of ours whose lease is over | end and delete it, once the jobs that should have done so had their time |
| a user who cannot host | park the account |
| a capacity above what the licence allows | lower it, and raise it again when the licence is back |
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Literal

from broker.models import FOREIGN_MEETING, Account, AccountState, Lease, LeaseId, Phase
from broker.settings import Settings
from broker.zoom import ZoomError
from broker.zoom.models import Meeting, User

LOOKS = 2
"""How often in a row a live meeting must be missing from Zoom's list before we believe it."""


class Verb(StrEnum):
    """What to do."""

    NOTHING = "nothing"
    GO_LIVE = "go live"
    RENEW = "renew"
    LOOK_AGAIN = "look again"
    EXTEND = "extend"
    """Give a lesson that outlasted `max_hold` more time."""
    WARN = "warn"
    """Say that a lesson outlasts `max_hold`; its slot stays suspect while it runs."""
    FINISH = "finish"
    """End and delete the lease's meeting, free the slot."""
    SEARCH = "search"
    """Nobody knows whether a meeting was made: search by marker, delete what is found, free the slot."""
    ABANDON = "abandon"
    """Free a slot whose host Zoom does not let do anything; what is left there is deleted when it may again."""
    WATCH = "watch"
    """Note since when a meeting is there that no lease wants."""
    DELETE = "delete"
    """End and delete a meeting of ours whose lease is over."""
    PARK = "park"
    UNPARK = "unpark"
    RESIZE = "resize"


@dataclass(frozen=True)
class Policy:
    """The settings that decisions depend on, in milliseconds."""

    grace_ms: int
    look_gap_ms: int
    overrun: Literal["extend", "warn", "end"]
    licensed_capacity: int

    @classmethod
    def of(cls, settings: Settings) -> Policy:
        """Take them from the settings."""
        look_gap_s = settings.reconcile_look_gap_s
        return cls(
            grace_ms=round(settings.reconcile_grace_s * 1000),
            look_gap_ms=round((settings.reconcile_interval_s / 2 if look_gap_s is None else look_gap_s) * 1000),
            overrun=settings.overrun_policy,
            licensed_capacity=settings.licensed_capacity,
        )


@dataclass(frozen=True)
class Stray:
    """A meeting at Zoom that no lease holds.

    Attributes:
        meeting: the meeting.
        running: whether Zoom lists it as live.
        lease: the lease that it was made for, if it is ours for sure: it bears our marker, and that lease is over.
        since_ms: since when the reconciler sees it; 0 if it has not seen it before.
    """

    meeting: Meeting
    running: bool
    lease: LeaseId | None = None
    since_ms: int = 0


@dataclass(frozen=True)
class HostFacts:
    """What is known about one host. Zoom was asked first, Redis after it, so no meeting of a lease looks like a stray.

    Attributes:
        account: the host in its pool.
        now_ms: Redis's clock when the leases were read.
        leases: those on the host that Zoom was asked about.
        running: the meetings that run on the host, by id.
        strays: meetings that no lease holds; those that do not run only if `user` is set.
        user: the host's user at Zoom, if the host was looked at as a whole.
        refusal: why Zoom says nothing about this host: it cannot host, or does not exist.
        lowered_from: its capacity before we lowered it; 0 if we did not.
    """

    account: Account
    now_ms: int
    leases: tuple[Lease, ...] = ()
    running: Mapping[int, Meeting] | None = None
    strays: tuple[Stray, ...] = ()
    user: User | None = None
    refusal: ZoomError | None = None
    lowered_from: int = 0


@dataclass(frozen=True)
class Decision:
    """One thing to do, and why.

    Attributes:
        verb: what.
        why: a sentence for people.
        zoom: what Zoom says, in a few words.
        account: the host that it concerns.
        lease: the lease that it concerns, if it concerns one.
        meeting: the meeting at Zoom that it concerns, if it is known.
        capacity: for `RESIZE`: the new one.
    """

    verb: Verb
    why: str
    zoom: str
    account: Account
    lease: Lease | None = None
    meeting: Meeting | None = None
    capacity: int = 0

    def fields(self) -> dict[str, Any]:
        """As plain values, for JSON and tables; no links, for whoever has them can enter the lesson."""
        lease = self.lease
        return {
            "account": self.account.id,
            "lease": str(lease.id) if lease else None,
            "lesson": lease.lesson if lease else None,
            "phase": lease.phase.value if lease else None,
            "meeting_id": self.meeting.id if self.meeting else lease.meeting_id if lease else None,
            "zoom": self.zoom,
            "decision": self.verb.value,
            "capacity": self.capacity or None,
            "why": self.why,
        }


def decide(facts: HostFacts, policy: Policy) -> list[Decision]:
    """Everything to do about a host, in the order in which it is to be done."""
    return [
        *_decide_account(facts, policy),
        *(decide_lease(lease, facts, policy) for lease in facts.leases),
        *(_decide_stray(stray, facts, policy) for stray in facts.strays if stray.lease),
    ]


def decide_lease(lease: Lease, facts: HostFacts, policy: Policy) -> Decision:
    """What to do with one lease."""
    if facts.refusal is not None:
        verb, why = _decide_without_zoom(lease, facts.refusal)
        return Decision(verb, why, facts.refusal.code, facts.account, lease)
    running = (facts.running or {}).get(lease.meeting_id or 0)
    zoom = "no meeting known" if lease.meeting_id is None else "not running" if running is None else "running"
    verb, why = _decide_lease(lease, running, policy)
    return Decision(verb, why, zoom, facts.account, lease, running)


def _decide_lease(lease: Lease, running: Meeting | None, policy: Policy) -> tuple[Verb, str]:
    if lease.phase is Phase.SUSPECT:
        return _decide_suspect(lease, running, policy)
    if lease.now_ms - lease.since_ms < policy.grace_ms:
        return Verb.NOTHING, "too young: its own jobs and webhooks come first"
    match lease.phase:
        case Phase.LIVE if running is not None and running.uuid not in ("", lease.meeting_uuid):
            return Verb.GO_LIVE, "it was ended and started again, and we missed both"
        case Phase.LIVE if running is not None:
            return Verb.RENEW, "it runs"
        case Phase.LIVE if lease.looks + 1 < LOOKS:
            return Verb.LOOK_AGAIN, "it does not run; one look may be wrong"
        case Phase.LIVE if lease.now_ms - lease.look_ms < policy.look_gap_ms:
            return Verb.NOTHING, "it does not run; the first look was just now"
        case Phase.LIVE:
            return Verb.FINISH, f"we missed its end: it did not run in {LOOKS} looks"
        case Phase.READY if running is not None:
            return Verb.GO_LIVE, "we missed its start"
        case Phase.READY:
            return Verb.NOTHING, "nobody has started it, and there is time left"
        case _:
            return Verb.NOTHING, "its meeting is just being made"


def _decide_suspect(lease: Lease, running: Meeting | None, policy: Policy) -> tuple[Verb, str]:
    if running is None:
        if lease.meeting_id is None:
            return Verb.SEARCH, "its creation was cut off: a meeting may exist"
        return Verb.FINISH, "its time passed, and it does not run"
    if lease.now_ms < lease.hold_until_ms:
        return Verb.GO_LIVE, "it runs: we missed its signs of life"
    match policy.overrun:
        case "extend":
            return Verb.EXTEND, "it runs past the longest hold; the policy gives it more time"
        case "warn":
            return Verb.WARN, "it runs past the longest hold; the policy lets it run, its slot goes to nobody meanwhile"
        case "end":
            return Verb.FINISH, "it runs past the longest hold; the policy ends it"


def _decide_without_zoom(lease: Lease, refusal: ZoomError) -> tuple[Verb, str]:
    if lease.phase is Phase.SUSPECT:
        return Verb.ABANDON, f"its host cannot host any more ({refusal.code}); the lesson may start on another"
    return Verb.NOTHING, f"Zoom says nothing about its host ({refusal.code}); its deadline decides"


def _decide_stray(stray: Stray, facts: HostFacts, policy: Policy) -> Decision:
    zoom = f"meeting {stray.meeting.id} {'runs' if stray.running else 'exists'}"
    made_for = f"it was made for lease {stray.lease}, which is over or has another meeting"
    if not stray.since_ms:
        verb, why = Verb.WATCH, f"{made_for}; its own jobs may be about to delete it"
    elif facts.now_ms - stray.since_ms < policy.grace_ms:
        verb, why = Verb.NOTHING, f"{made_for}; its own jobs still have time to delete it"
    else:
        verb, why = Verb.DELETE, f"{made_for}, and nobody else deletes it"
    return Decision(verb, why, zoom, facts.account, meeting=stray.meeting)


def _decide_account(facts: HostFacts, policy: Policy) -> Iterator[Decision]:
    account = facts.account
    if facts.refusal is not None:
        if account.state is AccountState.ACTIVE:
            yield Decision(Verb.PARK, f"{facts.refusal.code}: {facts.refusal}", facts.refusal.code, account)
        return
    foreign = sorted(stray.meeting.id for stray in facts.strays if stray.running and not stray.lease)
    ours = account.state is AccountState.QUARANTINED and account.reason.startswith(FOREIGN_MEETING)
    if foreign and account.state is AccountState.ACTIVE:
        many = ", ".join(map(str, foreign))
        why = f"{FOREIGN_MEETING}: a meeting that nobody leased runs on this host: {many}; it returns when that is over"
        yield Decision(Verb.PARK, why, f"meeting {many} runs", account)
    elif ours and not foreign:
        yield Decision(Verb.UNPARK, "the meeting that nobody leased is over", "nothing else runs", account)
    if facts.user is not None:
        yield from _decide_licence(facts, facts.user, policy)


def _decide_licence(facts: HostFacts, user: User, policy: Policy) -> Iterator[Decision]:
    account = facts.account
    most = user.most_meetings(policy.licensed_capacity)
    zoom = f"user is {user.status or 'unknown'}, type {user.type}"
    if most == 0:
        if account.state is AccountState.ACTIVE:
            code = "zoom_host_inactive" if user.status != "active" else "zoom_host_not_allowed"
            yield Decision(Verb.PARK, f"{code}: {zoom}", zoom, account)
    elif account.capacity > most:
        yield Decision(Verb.RESIZE, f"its licence allows {most} at a time", zoom, account, capacity=most)
    elif account.capacity < facts.lowered_from <= most:
        why = "its licence allows as many as before again"
        yield Decision(Verb.RESIZE, why, zoom, account, capacity=facts.lowered_from)
