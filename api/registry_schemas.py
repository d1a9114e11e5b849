"""The bodies that go in and out of the registries' and pools' routes. Secrets only go in."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Annotated, Literal, Self

from pydantic import (
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    StrictInt,
    StringConstraints,
)

from api.lessons import at, moment
from api.schemas import LessonState, LessonStatus, Minutes, Subscription, Topic
from broker.models import ACCOUNT, MAX_CAPACITY, NAME, Account, AccountState, Event, Lease, Phase, PoolStatus
from broker.registry.credentials import Identity
from broker.registry.lessons import Lesson
from broker.registry.teachers import Teacher

Name = Annotated[str, StringConstraints(pattern=f"^{NAME.pattern}$")]
ZoomText = Annotated[str, StringConstraints(min_length=1, max_length=256, strip_whitespace=True)]
Secret = Annotated[SecretStr, Field(min_length=1, max_length=512)]
Capacity = Annotated[int, Field(ge=1, le=MAX_CAPACITY, description="Meetings at a time.")]


WRITTEN_OUT = r"^(19[7-9]\d|[2-9]\d{3})-\d\d-\d\d[Tt ]"


def _written_out(value: object) -> object:
    """A bare number would be taken for seconds or milliseconds since 1970, by its size."""
    if not isinstance(value, str) or re.match(WRITTEN_OUT, value) is None:
        raise ValueError("write date, time and offset, from 1970 on, such as 2026-09-01T10:00:00+03:00")
    return value


Moment = Annotated[
    AwareDatetime,
    BeforeValidator(_written_out),
    Field(
        ge=datetime(1970, 1, 1, tzinfo=UTC),
        le=datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC),
        json_schema_extra={"pattern": WRITTEN_OUT},
    ),
]


class In(BaseModel):
    """A body that is sent to us. A misspelt field is an error: ignored, it would look as if it had been taken."""

    model_config = ConfigDict(extra="forbid")


# Lessons


class LessonIn(In):
    """A lesson as the web app knows it."""

    teacher: Name = Field(examples=["17"])
    title: Topic = ""
    group_id: str | StrictInt | None = Field(default=None, examples=[12])
    starts_at: Moment | None = None
    duration: Minutes | None = None


class RegisteredLesson(BaseModel):
    """What is registered of a lesson."""

    teacher: str
    title: str
    group_id: str | None
    starts_at: datetime | None
    duration: int | None = Field(description="Planned, in minutes.")

    @classmethod
    def of(cls, lesson: Lesson) -> Self:
        """A lesson of the registry."""
        return cls(
            teacher=lesson.teacher,
            title=lesson.title,
            group_id=lesson.group or None,
            starts_at=None if lesson.starts_ms is None else at(lesson.starts_ms),
            duration=lesson.duration_min or None,
        )


class LessonView(LessonState):
    """A lesson as it is now, and what is registered of it."""

    registered: RegisteredLesson | None = Field(default=None, description="Null for a lesson that was only started.")

    @classmethod
    def of(cls, state: LessonState | None, lesson: str, registered: Lesson | None) -> Self:
        """Put both together; without a state nobody has started it."""
        state = state or LessonState(lesson_id=lesson, status=LessonStatus.PLANNED)
        return cls(**state.model_dump(), registered=RegisteredLesson.of(registered) if registered else None)


class LessonPage(BaseModel):
    """Lessons by their start."""

    lessons: list[LessonView]
    next: str | None = Field(description="The `cursor` of the next page; null: there is none. A page may be short.")


# Teachers and credentials


class ZoomAppView(BaseModel):
    """A Zoom app without its secrets."""

    zoom_account_id: str
    zoom_client_id: str
    has_webhook_secret: bool


class TeacherIn(In):
    """What to change; what is left out stays, null takes it away. A teacher who is not registered gets registered."""

    subscription_until: Moment | None = Field(default=None, description="From this moment on, starts are refused.")
    zoom_account_id: ZoomText | None = None
    zoom_client_id: ZoomText | None = None
    zoom_client_secret: Secret | None = None
    zoom_user_id: ZoomText | None = Field(
        default=None, description="User id or e-mail at Zoom; without it, whoever owns that Zoom account."
    )
    zoom_webhook_secret: Secret | None = Field(default=None, description="The secret token of the app's webhooks.")
    zoom_capacity: Capacity | None = None


class TeacherView(BaseModel):
    """What is registered of a teacher."""

    teacher_id: str
    subscription: Subscription | None
    zoom_app: ZoomAppView | None = Field(description="Of the teacher's own Zoom account.")
    zoom_user_id: str | None
    zoom_capacity: int

    @classmethod
    def of(cls, teacher: Teacher, app: Identity | None) -> Self:
        """A teacher of the registry, and the credential of their own app."""
        until = None if teacher.subscription_until_ms is None else at(teacher.subscription_until_ms)
        return cls(
            teacher_id=teacher.id,
            subscription=Subscription(active=datetime.now(UTC) < until, until=until) if until else None,
            zoom_app=ZoomAppView(
                zoom_account_id=app.account_id,
                zoom_client_id=app.client_id,
                has_webhook_secret=app.has_webhook_secret,
            )
            if app
            else None,
            zoom_user_id=teacher.zoom_user_id or None,
            zoom_capacity=teacher.capacity,
        )


class TeacherPage(BaseModel):
    """Teachers by their ids."""

    teachers: list[TeacherView]
    next: str | None = Field(description="The `after` of the next page; null: there is none.")


class CredentialIn(In):
    """A Zoom Server-to-Server OAuth app. A secret that is left out stays; null takes the webhook secret away."""

    account_id: ZoomText
    client_id: ZoomText
    client_secret: Secret | None = Field(default=None, description="Has to be there for a new credential.")
    webhook_secret: Secret | None = Field(
        default=None, description="Of this app's own webhooks, where they are signed with another than the service's."
    )


class CredentialView(BaseModel):
    """A credential without its secrets."""

    name: str
    account_id: str
    client_id: str
    has_webhook_secret: bool

    @classmethod
    def of(cls, identity: Identity) -> Self:
        """A credential of the registry."""
        return cls(
            name=identity.name,
            account_id=identity.account_id,
            client_id=identity.client_id,
            has_webhook_secret=identity.has_webhook_secret,
        )


class CredentialList(BaseModel):
    """The school's credentials. Those of teachers' own Zoom accounts are shown with the teachers."""

    credentials: list[CredentialView]


# Pools


class PoolView(BaseModel):
    """A pool, counted this moment."""

    pool: str
    accounts: int
    slots: int
    free: int
    leased: int
    suspect: int = Field(description="Expired while a meeting may exist: Zoom is being asked.")
    parked: int = Field(description="Empty slots of accounts that are out of rotation.")
    waiting: int
    reservations: int
    phases: dict[str, int] = Field(description="Leases by phase.")

    @classmethod
    def of(cls, status: PoolStatus) -> Self:
        """A pool's counts."""
        return cls(
            pool=status.pool,
            accounts=status.accounts,
            slots=status.slots,
            free=status.free,
            leased=status.leased,
            suspect=status.suspect,
            parked=status.parked,
            waiting=status.waiting,
            reservations=status.reservations,
            phases=dict(status.phases),
        )


class PoolList(BaseModel):
    """All pools in use."""

    pools: list[PoolView]


class AccountIn(In):
    """A Zoom host. It needs an e-mail or a Zoom user id."""

    email: str = Field(default="", max_length=256)
    zoom_user_id: str = Field(default="", max_length=256, description="Outlives a changed e-mail.")
    credential: Name | None = Field(default=None, description="ZOOMPOOL_DEFAULT_CREDENTIAL if absent.")
    capacity: Capacity = 1


class ResizeIn(In):
    """How many meetings at a time."""

    capacity: Capacity


class ReasonIn(In):
    """Why, for whoever looks at the pool."""

    reason: str = Field(default="", max_length=500)


class AccountView(BaseModel):
    """A Zoom host of a pool."""

    id: str = Field(pattern=f"^{ACCOUNT.pattern}$")
    email: str
    zoom_user_id: str
    credential: str
    capacity: int
    state: AccountState
    reason: str = Field(description="Why it is out of rotation.")
    until: datetime | None = Field(description="When it returns by itself; null: by somebody's word, or Zoom's.")

    @classmethod
    def of(cls, account: Account) -> Self:
        """An account of a pool."""
        return cls(
            id=account.id,
            email=account.email,
            zoom_user_id=account.zoom_user_id,
            credential=account.credential,
            capacity=account.capacity,
            state=account.state,
            reason=account.reason,
            until=moment(account.until_ms),
        )


class AccountPage(BaseModel):
    """Accounts by their ids."""

    accounts: list[AccountView]


class AccountChanged(BaseModel):
    """What became of an account."""

    account: AccountView | None = Field(description="Null: it has left the pool.")
    leases: int = Field(description="Lessons on it; one that is being removed leaves with the last of them.")


class Imported(BaseModel):
    """What was imported."""

    accounts: list[str] = Field(description="Their ids.")


class ImportFromZoomIn(In):
    """Whose users, and whether to take them."""

    credential: Name | None = Field(
        default=None, description="By which they are listed and will be reached. ZOOMPOOL_DEFAULT_CREDENTIAL if absent."
    )
    dry_run: bool = Field(default=False, strict=True, description="Say what would be imported, and change nothing.")


class ImportedAccount(BaseModel):
    """A Zoom user who can host, as an account."""

    id: str = Field(pattern=f"^{ACCOUNT.pattern}$", description="The e-mail, if an account can be called so.")
    email: str
    zoom_user_id: str
    credential: str
    capacity: int = Field(description="What the licence allows, with ZOOMPOOL_LICENSED_CAPACITY for Licensed users.")


class ImportedFromZoom(BaseModel):
    """All users that Zoom lets host, added to the pool, or with `dry_run` as they would be."""

    accounts: list[ImportedAccount]


class ImportGoesOn(BaseModel):
    """The import is not done yet, and goes on by itself."""

    status: Literal["importing"] = "importing"
    pool: str
    credential: str
    dry_run: bool


class LeaseView(BaseModel):
    """Who holds a slot. Links and passcodes are not shown: whoever has them can enter the lesson."""

    id: str
    account: str
    email: str
    lesson_id: str
    owner: str
    phase: Phase
    was: Phase | None = Field(description="With `suspect`: the phase that expired.")
    granted_at: datetime
    since: datetime = Field(description="When this phase began.")
    expires_at: datetime | None
    age_s: int
    topic: str
    zoom_meeting_id: int | None

    @classmethod
    def of(cls, lease: Lease) -> Self:
        """A lease of a pool."""
        return cls(
            id=str(lease.id),
            account=lease.account,
            email=lease.email,
            lesson_id=lease.lesson,
            owner=lease.owner,
            phase=lease.phase,
            was=lease.was,
            granted_at=at(lease.granted_ms),
            since=at(lease.since_ms),
            expires_at=moment(lease.deadline_ms),
            age_s=max(0, lease.now_ms - lease.granted_ms) // 1000,
            topic=lease.topic,
            zoom_meeting_id=lease.meeting_id,
        )


class LeasePage(BaseModel):
    """Leases: with the nearest deadline first, or suspect ones, oldest first."""

    leases: list[LeaseView]


class ReleaseIn(In):
    """Why a slot is taken from its lesson."""

    reason: str = Field(min_length=1, max_length=500, pattern=r"\S")
    force: bool = Field(default=False, description="Although a meeting may exist at Zoom.")


class Released(BaseModel):
    """A slot was given back."""

    lease: str


class EventView(BaseModel):
    """A change of state."""

    id: str
    at: datetime
    type: str
    lesson: str
    lease: str
    fields: dict[str, str]

    @classmethod
    def of(cls, event: Event) -> Self:
        """An entry of a pool's events."""
        return cls(
            id=event.id,
            at=at(int(event.id.partition("-")[0])),
            type=event.type,
            lesson=event.lesson,
            lease=event.lease,
            fields=dict(event.fields),
        )


class EventPage(BaseModel):
    """The newest events first."""

    events: list[EventView]
    next: str | None = Field(description="The `before` of the next, older page; null: there is none.")
