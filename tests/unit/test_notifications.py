"""Which events the web app is told of, in which form, and under which signature."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest
from pydantic import SecretStr
from standardwebhooks import Webhook, WebhookVerificationError

from broker.errors import ConfigurationError
from broker.models import Event, Lease, LeaseId, Phase
from broker.notifications import Notification, headers, notification

SECRET = SecretStr("whsec_bWFkZS11cC1zZWNyZXQtZm9yLXRlc3Rz")
OTHER = SecretStr("whsec_YW5vdGhlci1tYWRlLXVwLXNlY3JldA==")


def event(type: str, **fields: str) -> Event:
    return Event("default", "1700000000123-4", type, "algebra", "host01#0@7", {"owner": "anna", **fields})


def lease() -> Lease:
    return Lease(
        id=LeaseId("host01", 0, 7), pool="default", lesson="algebra", owner="anna", phase=Phase.READY, granted_ms=1,
        since_ms=1, deadline_ms=9, hold_until_ms=9, now_ms=2, email="host01@school.example", meeting_id=77,
        join_url="https://zoom.example/j/77", passcode="made-up", sealed_start_url="sealed",
    )  # fmt: skip


def test_ready_lesson_is_told_with_the_links_for_pupils_and_never_with_the_hosts() -> None:
    told = notification(event("lease.ready", meeting_id="77"), lease())
    assert told is not None
    assert (told.type, told.at_ms) == ("lesson.ready", 1_700_000_000_123)
    assert told.data == {
        "pool": "default",
        "lesson_id": "algebra",
        "teacher_id": "anna",
        "zoom_meeting_id": 77,
        "zoom_join_url": "https://zoom.example/j/77",
        "zoom_password": "made-up",
        "account_email": "host01@school.example",
    }


def test_lesson_whose_lease_is_over_meanwhile_is_told_without_links() -> None:
    told = notification(event("lease.live", meeting_id="77"), None)
    assert told is not None
    assert told.type == "lesson.live"
    assert "zoom_join_url" not in told.data


@pytest.mark.parametrize(
    ("reason", "meeting", "type", "more"),
    [
        ("ended", "77", "lesson.ended", {"reason": "ended"}),
        ("ended_by_owner", "77", "lesson.ended", {"reason": "ended_by_owner"}),
        ("reconciled", "77", "lesson.ended", {"reason": "reconciled"}),
        ("reconciled", "", "lesson.failed", {"code": "reconciled"}),
        ("lapsed", "", "lesson.failed", {"code": "lapsed"}),
        ("failed", "77", "lesson.failed", {"code": "zoom_user_missing"}),
    ],
)
def test_released_lease_is_a_lesson_that_ended_or_one_that_never_started(
    reason: str, meeting: str, type: str, more: dict[str, str]
) -> None:
    detail = "zoom_user_missing" if reason == "failed" else ""
    told = notification(event("lease.released", reason=reason, detail=detail, meeting_id=meeting), None)
    assert told is not None
    assert told.type == type
    assert more.items() <= told.data.items()


def test_lesson_that_goes_on_on_another_host_is_not_told_as_failed() -> None:
    assert notification(event("lease.released", reason="elsewhere", detail="teacher-anna"), None) is None


def test_recording_is_told_as_it_came() -> None:
    recording = {"share_url": "https://zoom.example/rec/1", "files": [{"type": "MP4"}]}
    told = notification(event("recording.completed", meeting_id="77", recording=json.dumps(recording)), None)
    assert told is not None
    assert told.data["recording"] == recording


@pytest.mark.parametrize(
    "type", ["lease.claimed", "lease.creating", "lease.suspect", "account.added", "lease.refreshed"]
)
def test_inner_affairs_are_not_told(type: str) -> None:
    assert notification(event(type), lease()) is None


def test_the_same_event_has_the_same_id_and_another_pools_has_another() -> None:
    first = notification(event("lease.live"), None)
    again = notification(event("lease.live"), lease())
    elsewhere = notification(Event("evening", "1700000000123-4", "lease.live", "algebra", "h#0@7", {}), None)
    assert first is not None
    assert again is not None
    assert elsewhere is not None
    assert first.id == again.id != elsewhere.id
    assert first.id.replace("_", "").isalnum()


MESSAGE = Notification("msg_1", "lesson.live", 1_700_000_000_123, {"lesson_id": "алгебра"})


def test_receiver_with_either_secret_accepts_the_signature() -> None:
    body = MESSAGE.body()
    sent = headers(MESSAGE, body, [SECRET, OTHER], datetime.now(UTC))
    for secret in (SECRET, OTHER):
        message = Webhook(secret.get_secret_value()).verify(body, sent)
        assert message == {
            "type": "lesson.live",
            "timestamp": "2023-11-14T22:13:20.123Z",
            "data": {"lesson_id": "алгебра"},
        }


def test_changed_body_other_secret_and_old_time_are_refused() -> None:
    body = MESSAGE.body()
    sent = headers(MESSAGE, body, [SECRET], datetime.now(UTC))
    receiver = Webhook(SECRET.get_secret_value())
    with pytest.raises(WebhookVerificationError):
        receiver.verify(body.replace("live", "dead"), sent)
    with pytest.raises(WebhookVerificationError):
        Webhook(OTHER.get_secret_value()).verify(body, sent)
    old = headers(MESSAGE, body, [SECRET], datetime.now(UTC) - timedelta(minutes=6))
    with pytest.raises(WebhookVerificationError):
        receiver.verify(body, old)


def test_time_of_signing_does_not_depend_on_its_zone() -> None:
    now = datetime.now(UTC)
    elsewhere = now.astimezone(tz=None)
    assert headers(MESSAGE, "{}", [SECRET], now) == headers(MESSAGE, "{}", [SECRET], elsewhere)


@pytest.mark.parametrize("text", ["whsec_?", "whsec_", ""])
def test_secret_that_is_not_base64_is_named_and_not_shown(text: str) -> None:
    with pytest.raises(ConfigurationError, match="ZOOMPOOL_NOTIFY_SECRET"):
        headers(MESSAGE, "{}", [SecretStr(text)], datetime.now(UTC))
