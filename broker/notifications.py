"""What the web app is told, and in which form: Standard Webhooks, signed so that it can check who speaks.

Events of a pool become notifications here, without I/O; `workers.notify` reads and sends. The specification of the
headers and the signature: standardwebhooks.com.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from pydantic import SecretStr
from standardwebhooks import Webhook
from standardwebhooks.webhooks import EmptyWebhookSecretError

from broker.errors import ConfigurationError
from broker.models import Event, Lease, ReleaseReason

NEVER_STARTED = frozenset({ReleaseReason.FAILED, ReleaseReason.LAPSED})


@dataclass(frozen=True)
class Notification:
    """One thing that the web app is told. Plain JSON values only: `dataclasses.asdict` gives a job's arguments.

    Attributes:
        id: the same each time it is sent, so that the receiver can drop repetitions; fit for a job id.
        type: `lesson.ready`, `lesson.live`, `lesson.ended`, `lesson.failed`, `recording.completed`, `pool.exhausted`.
        at_ms: when it happened, on Redis's clock.
        data: what it is about.
    """

    id: str
    type: str
    at_ms: int
    data: Mapping[str, Any]

    def body(self) -> str:
        """The request's body, the same bytes each time."""
        when = datetime.fromtimestamp(self.at_ms / 1000, UTC).isoformat(timespec="milliseconds")
        return json.dumps(
            {"type": self.type, "timestamp": when.replace("+00:00", "Z"), "data": self.data},
            ensure_ascii=False,
            separators=(",", ":"),
        )


def notification(event: Event, lease: Lease | None) -> Notification | None:
    """What to tell of an event, or None if it is of no interest to the web app.

    Args:
        event: one entry of a pool's stream.
        lease: the event's lease as it is now, if it still runs: it knows links that the stream does not.
    """
    type = _type(event)
    if type is None:
        return None
    known = {"pool": event.pool, "lesson_id": event.lesson, "teacher_id": event.fields.get("owner", "")}
    meeting = event.fields.get("meeting_id", "")
    data: dict[str, Any] = {name: value for name, value in known.items() if value}
    if meeting:
        data["zoom_meeting_id"] = int(meeting)
    match type:
        case "lesson.ready" | "lesson.live" if lease is not None and lease.join_url:
            data |= {"zoom_join_url": lease.join_url, "zoom_password": lease.passcode, "account_email": lease.email}
        case "lesson.ended":
            data["reason"] = event.fields.get("reason", "")
        case "lesson.failed":
            data["code"] = event.fields.get("detail") or event.fields.get("reason", "")
        case "recording.completed":
            data["recording"] = json.loads(event.fields["recording"])
    # The id of a stream entry is unique in its pool only.
    digest = hashlib.sha256(f"{event.pool}\0{event.id}".encode()).hexdigest()[:32]
    return Notification(f"msg_{digest}", type, int(event.id.split("-")[0]), data)


def _type(event: Event) -> str | None:
    if event.type in ("lease.ready", "lease.live"):
        return event.type.replace("lease", "lesson")
    if event.type == "lease.released" and event.fields.get("reason") == ReleaseReason.ELSEWHERE:
        return None  # the lesson goes on, on another host
    if event.type == "lease.released":
        # A lease that ends without ever having had a meeting is a lesson that did not start, whoever ended it.
        failed = event.fields.get("reason") in NEVER_STARTED or not event.fields.get("meeting_id")
        return "lesson.failed" if failed else "lesson.ended"
    return event.type if event.type in ("recording.completed", "pool.exhausted") else None


def headers(notification: Notification, body: str, secrets: Sequence[SecretStr], now: datetime) -> dict[str, str]:
    """The headers of one attempt to send `body`.

    Args:
        notification: what is sent.
        body: as `notification.body()` gave it; the signature covers these bytes.
        secrets: the current one first; each signs, so that the receiver may change over at any moment.
        now: the time of this attempt, with its zone.

    Raises:
        ConfigurationError: a secret is not base64.
    """
    signatures = [_webhook(secret).sign(notification.id, now.astimezone(UTC), body) for secret in secrets]
    return {
        "content-type": "application/json",
        "webhook-id": notification.id,
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": " ".join(signatures),
    }


def _webhook(secret: SecretStr) -> Webhook:
    try:
        return Webhook(secret.get_secret_value())
    except (EmptyWebhookSecretError, ValueError):  # base64's error is a ValueError
        raise ConfigurationError(
            "ZOOMPOOL_NOTIFY_SECRET is not base64; make one with 'zoompool notifications secret'"
        ) from None
