"""A recording comes long after the lesson; the web app is told whose it is, and gets no token with it."""

from __future__ import annotations

import dataclasses
import json

import pytest

from broker.models import ReleaseReason
from broker.notifications import notification
from broker.zoom.webhooks import parse
from tests.integration.conftest import School
from tests.integration.test_webhook_events import ready
from workers.webhook_events import handle_event


def webhook(meeting_id: int | None) -> bytes:
    """What Zoom sends, in its form."""
    return json.dumps(
        {
            "event": "recording.completed",
            "event_ts": 1_700_000_000_000,
            "download_token": "made-up-download-token",
            "payload": {
                "account_id": "made-up",
                "object": {
                    "id": meeting_id,
                    "uuid": "made-up==",
                    "host_id": "made-up",
                    "topic": "Algebra",
                    "start_time": "2026-01-01T10:00:00Z",
                    "duration": 45,
                    "share_url": "https://zoom.example/rec/share/1",
                    "recording_files": [
                        {
                            "id": "file-1",
                            "file_type": "MP4",
                            "file_size": 1,
                            "recording_type": "shared_screen_with_speaker_view",
                            "play_url": "https://zoom.example/rec/play/1",
                            "download_url": "https://zoom.example/rec/download/1",
                            "status": "completed",
                        }
                    ],
                },
            },
        }
    ).encode()


async def take(meeting_id: int | None) -> str:
    return await handle_event(json.loads(json.dumps(dataclasses.asdict(parse(webhook(meeting_id))))))


async def test_recording_of_a_lesson_that_is_over_is_told(school: School) -> None:
    lease = await ready(school)
    await school.broker.run(school.pool.release([lease.id], ReleaseReason.ENDED))
    assert await take(lease.meeting_id) == "told"
    newest = (await school.broker.run(school.pool.events(count=1)))[0]
    told = notification(newest, None)
    assert told is not None
    assert (told.type, told.data["lesson_id"], told.data["teacher_id"]) == ("recording.completed", "algebra", "anna")
    assert told.data["zoom_meeting_id"] == lease.meeting_id
    assert told.data["recording"] == {
        "share_url": "https://zoom.example/rec/share/1",
        "start_time": "2026-01-01T10:00:00Z",
        "duration": 45,
        "files": [
            {
                "id": "file-1",
                "file_type": "MP4",
                "recording_type": "shared_screen_with_speaker_view",
                "status": "completed",
                "play_url": "https://zoom.example/rec/play/1",
            }
        ],
    }


@pytest.mark.parametrize("meeting", [12345, None])
async def test_recording_of_somebody_elses_meeting_is_left_alone(school: School, meeting: int | None) -> None:
    await ready(school)
    assert await take(meeting) in ("not ours", "not for us")
    events = await school.broker.run(school.pool.events(count=50))
    assert "recording.completed" not in {event.type for event in events}


def test_neither_token_nor_download_links_are_kept() -> None:
    kept = json.dumps(dataclasses.asdict(parse(webhook(1))))
    assert "made-up-download-token" not in kept
    assert "rec/download" not in kept
