"""Webhooks from Zoom: is it really Zoom, and what does it say. No web framework here.

Zoom repeats, reorders and loses webhooks. This module only verifies and reads; `dedupe_key` gives a repeated one the
same name.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Self

from pydantic import SecretStr

from broker.errors import ZoomPoolError

URL_VALIDATION = "endpoint.url_validation"

_TIMESTAMP = re.compile(r"\d{1,12}", re.ASCII)
_MAX_MEETING_ID = 2**63 - 1
_MAX_TIME_MS = 2**53 - 1  # the largest that Lua can count exactly


class BadSignature(ZoomPoolError):
    """A webhook that is not from Zoom, or too old or new to be believed.

    Attributes:
        reason: `unsigned`, `mismatch` or `stale`.
    """

    code = "bad_signature"

    def __init__(self, reason: str, message: str) -> None:
        self.reason = reason
        super().__init__(message)


class BadWebhook(ZoomPoolError):
    """A webhook whose body is not what Zoom sends."""

    code = "bad_webhook"


def verify(
    raw: bytes, timestamp: str, signature: str, secrets: Sequence[SecretStr], now_s: float, window_s: float
) -> None:
    """Make sure that Zoom sent this body.

    The signature is `v0=` and the hex HMAC-SHA256 of `v0:{timestamp}:{body}`, over the bytes as they came. See "Verify
    webhook events" in Zoom's developer documentation.

    Args:
        raw: the body as received.
        timestamp: header `x-zm-request-timestamp`, in seconds.
        signature: header `x-zm-signature`.
        secrets: the current and, while one is being replaced, the previous secret; empty ones are passed over.
        now_s: the present, in seconds since the epoch.
        window_s: how far the timestamp may be from it. Wide, because a retry may come after 85 minutes with its first
            timestamp.

    Raises:
        BadSignature: no secret fits, or the time is out of the window.
    """
    if not _TIMESTAMP.fullmatch(timestamp) or not signature:
        raise BadSignature("unsigned", "the webhook has no usable signature headers; only Zoom may call this address")
    message = b"v0:" + timestamp.encode() + b":" + raw
    given = signature.encode("utf-8", "replace")
    genuine = False
    for secret in secrets:
        key = secret.get_secret_value()
        if key:
            # No early exit: the time taken must not tell which secret fits.
            genuine |= hmac.compare_digest(b"v0=" + _hmac(key, message).encode(), given)
    if not genuine:
        raise BadSignature(
            "mismatch", "the webhook's signature fits none of the configured secrets; compare them with Zoom's"
        )
    if abs(now_s - int(timestamp)) > window_s:
        raise BadSignature(
            "stale",
            f"the webhook's timestamp is more than {window_s:g} s from our time; check the clock of this machine",
        )


def url_validation_answer(plain_token: str, secret: SecretStr) -> dict[str, str]:
    """The body that proves to Zoom that this address is ours; due within three seconds."""
    return {"plainToken": plain_token, "encryptedToken": _hmac(secret.get_secret_value(), plain_token.encode())}


@dataclass(frozen=True)
class WebhookEvent:
    """What the broker wants to know of a webhook. Plain JSON values only: `dataclasses.asdict` gives a job's arguments.

    Fields that an event does not have are empty, 0 or None.
    """

    event: str
    """Such as `meeting.ended`."""
    event_ts: int = 0
    """When it happened, in milliseconds since the epoch, on Zoom's clock."""
    account_id: str = ""
    meeting_id: int | None = None
    uuid: str = ""
    """The instance of the meeting; it changes after each end."""
    host_id: str = ""
    """The meeting's host, or the user that a `user.*` event is about."""
    email: str = ""
    """That person's e-mail."""
    participant: str = ""
    """Somebody in the meeting, by Zoom's key for this stay."""
    start_time_ms: int | None = None
    end_time_ms: int | None = None
    recording: dict[str, Any] | None = field(default=None, repr=False)
    """For `recording.completed`: where people can see it. Neither the token nor the links for downloads are kept."""
    credential: str = ""
    """Whose secret it was signed with, if not with the service's own: it may speak of that credential's hosts alone."""
    plain_token: str = field(default="", repr=False)
    """For `endpoint.url_validation`."""

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> Self:
        """Read a decoded body, leniently: only the event's name must be there.

        Raises:
            BadWebhook: there is no event name.
        """
        event = _text(body.get("event"))
        if not event:
            raise BadWebhook("the webhook names no event; Zoom's always do")
        payload = _mapping(body.get("payload"))
        thing = _mapping(payload.get("object"))
        person = _mapping(thing.get("participant"))
        about_user = event.startswith("user.")
        return cls(
            event=event,
            event_ts=_integer(body.get("event_ts"), _MAX_TIME_MS) or 0,
            account_id=_text(payload.get("account_id")),
            # Text in some events, a number in others. The id of a user is something else.
            meeting_id=None if about_user else _integer(thing.get("id"), _MAX_MEETING_ID),
            uuid=_text(thing.get("uuid")),
            host_id=_text(thing.get("id") if about_user else thing.get("host_id")),
            email=_text(thing.get("email") if about_user else thing.get("host_email")),
            participant=_first(person, "participant_uuid", "user_id", "id"),
            start_time_ms=_time_ms(thing.get("start_time")),
            end_time_ms=_time_ms(thing.get("end_time")),
            recording=_recording(thing) if event == "recording.completed" else None,
            plain_token=_text(payload.get("plainToken")),
        )


def parse(raw: bytes) -> WebhookEvent:
    """Read a webhook's body.

    Raises:
        BadWebhook: it is not a JSON object, or names no event.
    """
    try:
        body = json.loads(raw)
    except (ValueError, RecursionError):
        body = None
    if not isinstance(body, dict):
        raise BadWebhook("the webhook's body is not a JSON object")
    return WebhookEvent.from_json(body)


def dedupe_key(event: WebhookEvent) -> str:
    """A name that all deliveries of one event share and no other event has; of `[A-Za-z0-9_-]` only, for job ids."""
    identity = [event.event, event.meeting_id, event.uuid, event.host_id, event.participant, event.event_ts]
    if event.credential:
        # Whoever has a secret of his own must not be able to pass off something as known that another will say.
        identity.append(event.credential)
    digest = hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:40]
    slug = re.sub(r"[^A-Za-z0-9]+", "-", event.event)[:40].strip("-")
    return f"{slug}-{digest}" if slug else digest


def _recording(thing: Mapping[str, Any]) -> dict[str, Any]:
    files = thing.get("recording_files")
    return {
        "share_url": _text(thing.get("share_url")),
        "start_time": _text(thing.get("start_time")),
        "duration": _integer(thing.get("duration"), _MAX_TIME_MS) or 0,
        "files": [
            {name: _text(file.get(name)) for name in ("id", "file_type", "recording_type", "status", "play_url")}
            for file in (files if isinstance(files, list) else ())
            if isinstance(file, dict)
        ],
    }


def _hmac(key: str, message: bytes) -> str:
    return hmac.new(key.encode(), message, hashlib.sha256).hexdigest()


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _text(value: object) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int):
        return ""
    # Lone surrogates are legal in JSON, but cannot be written to Redis.
    return str(value).encode("utf-8", "replace").decode()


def _first(mapping: Mapping[str, Any], *names: str) -> str:
    return next((text for name in names if (text := _text(mapping.get(name)))), "")


def _integer(value: object, most: int) -> int | None:
    """A whole number from 1 to `most`, written as a number or as text."""
    if isinstance(value, str) and re.fullmatch(r"\d{1,19}", value, re.ASCII):
        value = int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 < value <= most else None


def _time_ms(value: object) -> int | None:
    if not isinstance(value, str):
        return None
    try:
        when = datetime.fromisoformat(value)
        # Zoom writes UTC with a Z; without any zone it can only be the same.
        return round((when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp() * 1000)
    except (ValueError, OverflowError):
        return None
