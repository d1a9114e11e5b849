"""What is sent to Zoom and what comes back, as types; and the marker by which a meeting is found again.

Models are lenient about what Zoom adds or leaves out (lists carry fewer fields than single meetings) and strict about
what the broker relies on. What lets somebody into a meeting is not in any `repr`, and a start_url, which makes whoever
holds it the host, is a `SecretStr`.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from enum import IntEnum, StrEnum
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SecretStr

from broker.models import LEASE_ID, NAME, LeaseId

MAX_AGENDA = 2000
MAX_LISTED_AGENDA = 250
"""Lists cut the agenda here, so a marker must end before."""
MAX_TOPIC = 200
MAX_DURATION_MIN = 24 * 60

_SCHEDULED = 2
_MARKER = re.compile(rf"\[zoompool:(?P<pool>{NAME.pattern}):(?P<lease>{LEASE_ID.pattern})\]", re.ASCII)


def marker(lease: LeaseId, pool: str) -> str:
    """The text that ties a meeting at Zoom to one lease, for the beginning of its agenda.

    Zoom knows no idempotency key. After a time-out the meeting is looked up by this text before another one is created.
    The brackets end it, so that fence 1 is not found in fence 12. Names are capped so that it always fits into what
    Zoom's lists show of an agenda.
    """
    return f"[zoompool:{pool}:{lease}]"


def parse_marker(agenda: str) -> tuple[str, LeaseId] | None:
    """The pool and lease that an agenda was marked with; None if it bears no (whole) marker."""
    match = _MARKER.search(agenda)
    return (match["pool"], LeaseId.parse(match["lease"])) if match else None


class MeetingList(StrEnum):
    """Zoom's `type` of a meeting list."""

    LIVE = "live"
    """Running now: the one trusted sign of life."""
    SCHEDULED = "scheduled"
    UPCOMING = "upcoming"


class UserType(IntEnum):
    """Zoom's `type` of a user. Only the first two can host."""

    BASIC = 1
    LICENSED = 2
    UNASSIGNED = 4
    NONE = 99


class CreateMeeting(BaseModel):
    """A meeting to be created, starting now.

    Its Zoom type is always 2, scheduled: an instant meeting (type 1) is not listed as scheduled, so the look-up by
    marker after an unknown outcome would miss it and create a second one.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    topic: str = Field(min_length=1)
    marker: str = Field(min_length=1, max_length=MAX_LISTED_AGENDA)
    """See `marker`; comes first in the agenda."""
    duration_min: int = Field(ge=1, le=MAX_DURATION_MIN)
    """Planned, not enforced by Zoom."""
    timezone: str = "UTC"
    """For Zoom's display; the start time itself is always sent in UTC."""
    agenda: str = ""
    """Text for people, behind the marker."""
    waiting_room: bool = False
    auto_recording: Literal["none", "local", "cloud"] = "none"

    def body(self, now: datetime | None = None) -> dict[str, Any]:
        """The JSON that Zoom takes. Topic and agenda are cut to Zoom's lengths.

        Args:
            now: start time; the present by default.
        """
        start = (now or datetime.now(UTC)).astimezone(UTC)
        return {
            "topic": self.topic[:MAX_TOPIC],
            "agenda": f"{self.marker}\n{self.agenda}".rstrip()[:MAX_AGENDA],
            "type": _SCHEDULED,
            "start_time": start.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "duration": self.duration_min,
            "timezone": self.timezone,
            "settings": {
                # The personal room is one meeting for all lessons: its id could not tell them apart.
                "use_pmi": False,
                # A pupil who comes early would start the meeting, and it would occupy the host.
                "join_before_host": False,
                "waiting_room": self.waiting_room,
                "auto_recording": self.auto_recording,
            },
        }


def _text(value: object) -> object:
    return "" if value is None else value


Text = Annotated[str, BeforeValidator(_text)]
"""A string that Zoom may leave out or send as null."""
Secret = Annotated[SecretStr, BeforeValidator(_text)]


class _Answer(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class Meeting(_Answer):
    """A meeting as Zoom describes it. Entries of lists lack status, start_url and password; their agenda is cut."""

    id: int = Field(gt=0, lt=2**63)
    """Up to 11 digits today, but documented as a 64-bit number."""
    uuid: Text = ""
    """Of the present or next instance; a meeting gets a new one after each end."""
    host_id: Text = ""
    host_email: Text = ""
    topic: Text = ""
    agenda: Text = ""
    status: Text = ""
    """`waiting` or `started`; empty in lists."""
    start_url: Secret = SecretStr("")
    """Makes its holder the host, for two hours; `get_meeting` brings a fresh one."""
    join_url: Text = Field(default="", repr=False)
    """For pupils; carries the passcode."""
    password: Text = Field(default="", repr=False)
    created_at: datetime | None = None
    start_time: datetime | None = None

    @property
    def started(self) -> bool:
        """Whether Zoom says that it runs."""
        return self.status == "started"


class User(_Answer):
    """A Zoom user, as far as it matters for hosting."""

    id: str
    email: Text = ""
    type: int = UserType.NONE
    status: Text = ""
    """`active`, `inactive` or `pending`."""
    role_id: Text = ""
    """`0` is the owner of the Zoom account."""

    @property
    def can_host(self) -> bool:
        """Whether Zoom will let this user host meetings."""
        return self.status == "active" and self.type in (UserType.BASIC, UserType.LICENSED)

    def most_meetings(self, licensed: int) -> int:
        """How many meetings Zoom lets this user run at a time.

        Args:
            licensed: what the plan of the Zoom account grants a Licensed user; users do not tell their plan.
        """
        if not self.can_host:
            return 0
        return 1 if self.type == UserType.BASIC else licensed


class MeetingPage(_Answer):
    """One page of a meeting list."""

    meetings: tuple[Meeting, ...] = ()
    next_page_token: Text = ""


class UserPage(_Answer):
    """One page of the list of users."""

    users: tuple[User, ...] = ()
    next_page_token: Text = ""


class TokenAnswer(_Answer):
    """What the token endpoint answers (RFC 6749, section 5.1)."""

    access_token: SecretStr = Field(min_length=1)
    expires_in: float = Field(gt=0)
    """Seconds."""
    scope: Text = ""
    """What the app may do, parted by spaces."""
