"""The bodies that go in and out of the lesson routes, as OpenAPI shows them."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StrictInt
from pydantic.config import JsonDict

from api.auth import Role
from broker.models import ReleaseReason


class ProblemBody(BaseModel):
    """An answer that is an error (RFC 9457). Programs go by `code`; `detail` is in the reader's language."""

    model_config = ConfigDict(extra="allow")

    type: str = "about:blank"
    title: str = Field(default="", examples=["Service Unavailable"])
    status: int = Field(examples=[503])
    detail: str = Field(examples=["Все Zoom аккаунты заняты"])
    code: str = Field(examples=["pool_exhausted"])
    instance: str = Field(default="", examples=["/api/schedule/lessons/4711/start-new/"])
    request_id: str = Field(default="", description="Name it to whoever reads the logs.")
    errors: list[dict[str, Any]] = Field(default=[], description="With `invalid_request`: the fields that are wrong.")
    taken: dict[str, str] = Field(
        default={},
        description="With `host_taken`: by account that was not added, the account of the pool that has its Zoom user.",
        examples=[{"anna@school.example": "host-01"}],
    )


class LessonStatus(StrEnum):
    """How far a lesson is."""

    PLANNED = "planned"
    """It is registered, and no start of it is known."""
    QUEUED = "queued"
    """Waits for a host; `position` says where in line."""
    STARTING = "starting"
    """Its meeting is being made."""
    READY = "ready"
    """The meeting exists, nobody is in it yet."""
    LIVE = "live"
    """The meeting runs."""
    CLOSING = "closing"
    """The meeting is being ended, or Zoom is asked whether it is over; until then its host is not free."""
    ENDED = "ended"
    FAILED = "failed"
    """It could not be started; `code` says why."""


Topic = Annotated[str, Field(max_length=200, description="The meeting's title at Zoom.", examples=["Алгебра, 7Б"])]
Minutes = Annotated[int, Field(ge=1, le=24 * 60, description="Planned duration in minutes.", examples=[45])]
Owner = Annotated[
    str, Field(max_length=128, description="For whom `service` and `ops` start it; teachers are their own.")
]


Position = Annotated[int | None, Field(description="With `queued`: the place in line, from 1.", examples=[3])]
Estimate = Annotated[
    int | None, Field(description="With `queued`: seconds until its turn at the pace of late, if known.", examples=[40])
]


class StartBody(BaseModel):
    """What the meeting is called, and how long it is meant to be. All of it may be left out."""

    title: Topic = ""
    duration: Minutes = 60
    owner: Owner = ""


class QuickStartBody(StartBody):
    """A new lesson on the spot."""

    group_id: str | StrictInt | None = Field(default=None, description="The group that it is for.", examples=[12])


_LINKS: JsonDict = {
    "zoom_start_url": "https://zoom.us/s/98765432101?zak=…",
    "zoom_join_url": "https://zoom.us/j/98765432101?pwd=…",
    "zoom_meeting_id": 98765432101,
    "zoom_password": "123456",
    "account_email": "host-03@school.example",
    "lesson_id": "4711",
    "status": "ready",
    "expires_at": "2026-09-01T10:20:00Z",
}


class StartedLesson(BaseModel):
    """A lesson that can begin. `zoom_start_url` makes whoever opens it the host: give it to the teacher alone."""

    model_config = ConfigDict(json_schema_extra={"examples": [_LINKS]})

    zoom_start_url: str
    zoom_join_url: str
    zoom_meeting_id: int
    zoom_password: str
    account_email: str
    lesson_id: str
    status: LessonStatus
    expires_at: datetime | None = Field(
        description="When the lesson loses its host unless Zoom shows a sign of life before; null while it is closing."
    )


class LessonProgress(BaseModel):
    """A start that goes on: repeat the request, or look at `Location`."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"lesson_id": "4711", "status": "starting"}]})

    lesson_id: str
    status: LessonStatus
    position: Position = None
    estimate_s: Estimate = None
    expires_at: datetime | None = Field(
        default=None, description="With `queued`: when the place is lost unless the start is repeated."
    )


class LessonState(BaseModel):
    """A lesson as it is now. The links are null until the meeting exists; the start link is for its owner alone."""

    lesson_id: str
    status: LessonStatus
    position: Position = None
    estimate_s: Estimate = None
    zoom_start_url: str | None = None
    zoom_join_url: str | None = None
    zoom_meeting_id: int | None = None
    zoom_password: str | None = None
    account_email: str | None = None
    since: datetime | None = Field(default=None, description="Since when it has this status.")
    expires_at: datetime | None = None
    reason: ReleaseReason | None = Field(default=None, description="With `ended` and `failed`: how it came to its end.")
    code: str | None = Field(default=None, description="With `failed`: the problem's code.")


class LessonEnd(BaseModel):
    """The answer to `end`."""

    lesson_id: str
    status: LessonStatus = Field(examples=[LessonStatus.ENDED])


class ActiveLesson(BaseModel):
    """A lesson that holds a host."""

    lesson_id: str
    status: LessonStatus
    since: datetime
    expires_at: datetime | None


class Subscription(BaseModel):
    """A teacher's right to start lessons."""

    active: bool
    until: datetime | None = None


class Me(BaseModel):
    """The bearer of the token."""

    user_id: str
    role: Role
    subscription: Subscription | None = Field(default=None, description="Null where none is registered.")
    active_lessons: list[ActiveLesson]


class Check(BaseModel):
    """One thing that readiness depends on."""

    ok: bool
    reason: str = Field(default="", description="What is wrong, and what to do.")


class Readiness(BaseModel):
    """Whether this process can do its work, and if not, why."""

    ready: bool
    checks: dict[str, Check]


class Alive(BaseModel):
    """The process runs."""

    status: str = "alive"


class Taken(BaseModel):
    """The webhook is taken; nothing more is known yet."""

    status: str = "taken"
