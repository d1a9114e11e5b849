"""What Zoom takes when a meeting is created, and what it makes of it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from broker.testing.zoom_simulator import refusals

DEFAULT_SETTINGS: dict[str, Any] = {
    "host_video": False,
    "participant_video": False,
    "join_before_host": False,
    "jbh_time": 0,
    "mute_upon_entry": False,
    "use_pmi": False,
    "approval_type": 2,
    "audio": "both",
    "auto_recording": "none",
    "alternative_hosts": "",
    "waiting_room": False,
    "meeting_authentication": False,
}


class _Lenient(BaseModel):
    # Zoom ignores members that it does not know.
    model_config = ConfigDict(extra="ignore")


class TrackingField(_Lenient):
    """A label that reports can be grouped by."""

    field: str
    value: str = ""


class MeetingOptions(BaseModel):
    """The options that the simulator understands; others are echoed."""

    model_config = ConfigDict(extra="allow")

    join_before_host: bool = False
    use_pmi: bool = False
    waiting_room: bool = False
    auto_recording: Literal["local", "cloud", "none"] = "none"


class CreateBody(_Lenient):
    """The body of `POST /users/{userId}/meetings`."""

    topic: str = Field(default="Zoom Meeting", max_length=200)
    agenda: str = Field(default="", max_length=2000)
    type: Literal[1, 2, 3, 8] = 2
    start_time: datetime | None = None
    duration: int = Field(default=60, ge=1, le=1440)
    timezone: str = "UTC"
    password: str | None = Field(default=None, max_length=10)
    tracking_fields: list[TrackingField] = []
    settings: MeetingOptions = MeetingOptions()

    @field_validator("timezone")
    @classmethod
    def _known_zone(cls, value: str) -> str:
        try:
            ZoneInfo(value)
        except (ZoneInfoNotFoundError, ValueError):
            raise ValueError("Invalid field.") from None
        return value

    def start_s(self, now_s: float) -> float:
        """When it starts, in seconds since the epoch; missing or past means now."""
        if self.start_time is None:
            return now_s
        # Without a zone, the time is local in `timezone`; a Z makes it UTC.
        start = self.start_time if self.start_time.tzinfo else self.start_time.replace(tzinfo=ZoneInfo(self.timezone))
        return max(start.astimezone(UTC).timestamp(), now_s)

    def all_settings(self) -> dict[str, Any]:
        """The options with Zoom's defaults."""
        return DEFAULT_SETTINGS | self.settings.model_dump(exclude_unset=True)


def read_create(raw: bytes) -> CreateBody:
    """Read a body.

    Raises:
        Refused: 400 with code 300.
    """
    try:
        return CreateBody.model_validate_json(raw)
    except ValidationError as error:
        raise refusals.validation_failed(
            *((".".join(str(part) for part in item["loc"]) or "body", item["msg"]) for item in error.errors())
        ) from None
