"""Hosts, meetings and the people in them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from broker.testing.zoom_simulator.settings import Plan, UserStatus, UserType

INSTANT, SCHEDULED, RECURRING, RECURRING_FIXED = 1, 2, 3, 8
MAX_LISTED_AGENDA = 250


class MeetingStatus(StrEnum):
    """Zoom's `status` of a meeting. One that ended is waiting again, under a new uuid."""

    WAITING = "waiting"
    STARTED = "started"


class Role(StrEnum):
    """What somebody may do in a meeting."""

    HOST = "host"
    GUEST = "guest"


@dataclass
class Participant:
    """Somebody's stay in a meeting; coming again makes another one."""

    id: str
    uuid: str
    name: str
    role: Role
    joined_at_s: float


@dataclass(eq=False)
class Host:
    """A Zoom user."""

    id: str
    email: str
    display_name: str
    account_id: str
    type: UserType
    plan: Plan
    status: UserStatus
    set_capacity: int | None = None
    created_at_s: float = 0.0
    meetings: dict[int, Meeting] = field(default_factory=dict)
    """All that exist, oldest first."""
    running: list[Meeting] = field(default_factory=list)
    """Those that are started, in the order of their starts."""
    changes_on: int = 0
    """The UTC day that `changes` counts for."""
    changes: int = 0
    """Create and update calls of that day."""

    @property
    def can_host(self) -> bool:
        """Whether Zoom lets this user have meetings."""
        return self.status is UserStatus.ACTIVE and self.type in (UserType.BASIC, UserType.LICENSED)

    @property
    def capacity(self) -> int:
        """How many meetings can run at a time."""
        if self.set_capacity is not None:
            return self.set_capacity
        return 2 if self.type is UserType.LICENSED and self.plan not in (Plan.BASIC, Plan.PRO) else 1

    @property
    def names(self) -> frozenset[str]:
        """What a path may call this user."""
        return frozenset({self.id, self.email})


@dataclass(eq=False)
class Meeting:
    """A meeting that exists: it waits or runs."""

    id: int
    uuid: str
    host: Host
    topic: str
    agenda: str
    type: int
    start_time_s: float
    duration_min: int
    timezone: str
    password: str = field(repr=False)
    settings: dict[str, Any] = field(repr=False)
    tracking_fields: list[dict[str, str]] = field(repr=False)
    created_at_s: float
    status: MeetingStatus = MeetingStatus.WAITING
    participants: dict[str, Participant] = field(default_factory=dict)
    lobby: dict[str, Participant] = field(default_factory=dict)
    """Guests who came before the host, where joining before the host is not allowed."""
    started_at_s: float = 0.0
    empty_since_s: float | None = None
    attended: int = 0
    """How many came in since the start."""
    ends: int = 0

    @property
    def started(self) -> bool:
        """Whether it runs."""
        return self.status is MeetingStatus.STARTED

    @property
    def listed_agenda(self) -> str:
        """The agenda as far as lists show it."""
        return self.agenda[:MAX_LISTED_AGENDA]


@dataclass(frozen=True)
class PastMeeting:
    """One instance of a meeting that is over."""

    uuid: str
    id: int
    account_id: str
    host: Host
    topic: str
    type: int
    started_at_s: float
    ended_at_s: float
    participants: int


@dataclass(frozen=True)
class Event:
    """Something that Zoom tells by webhook.

    Attributes:
        name: such as `meeting.ended`.
        at_s: when it happened, in seconds since the epoch.
        account_id: of the Zoom account.
        object: the payload's object.
        host_email: of the meeting's host; part of the object only where configured.
        extra: further members of the envelope.
    """

    name: str
    at_s: float
    account_id: str
    object: Mapping[str, Any] = field(repr=False)
    host_email: str = ""
    extra: Mapping[str, Any] = field(default_factory=dict, repr=False)


def zulu(at_s: float) -> str:
    """A time as Zoom writes it."""
    return datetime.fromtimestamp(at_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
