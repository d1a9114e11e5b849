"""What the simulated Zoom says about hosts and meetings: bodies of answers and objects of webhooks."""

from __future__ import annotations

import math
from typing import Any

from broker.testing.zoom_simulator.entities import Host, Meeting, Participant, PastMeeting, zulu


def user(host: Host) -> dict[str, Any]:
    """An entry of the list of users; a single user has the same fields here."""
    first, _, last = host.display_name.partition(" ")
    return {
        "id": host.id,
        "first_name": first,
        "last_name": last,
        "display_name": host.display_name,
        "email": host.email,
        "type": int(host.type),
        "status": host.status.value,
        "timezone": "UTC",
        "verified": 1,
        "created_at": zulu(host.created_at_s),
    }


def meeting(meeting: Meeting, *, links: str, zak: str) -> dict[str, Any]:
    """A single meeting.

    Args:
        meeting: to describe.
        links: what its links begin with.
        zak: a fresh host key.
    """
    return {
        "uuid": meeting.uuid,
        "id": meeting.id,
        "host_id": meeting.host.id,
        "host_email": meeting.host.email,
        "topic": meeting.topic,
        "type": meeting.type,
        "status": meeting.status.value,
        "start_time": zulu(meeting.start_time_s),
        "duration": meeting.duration_min,
        "timezone": meeting.timezone,
        "agenda": meeting.agenda,
        "created_at": zulu(meeting.created_at_s),
        "start_url": f"{links}/s/{meeting.id}?zak={zak}",
        "join_url": join_url(meeting, links),
        "password": meeting.password,
        "h323_password": meeting.password,
        "pstn_password": meeting.password,
        "encrypted_password": _passcode_key(meeting),
        "tracking_fields": meeting.tracking_fields,
        "settings": meeting.settings,
    }


def listed_meeting(meeting: Meeting, links: str) -> dict[str, Any]:
    """A meeting as lists show it: no status, no start_url, a short agenda."""
    return {
        "uuid": meeting.uuid,
        "id": meeting.id,
        "host_id": meeting.host.id,
        "topic": meeting.topic,
        "type": meeting.type,
        "start_time": zulu(meeting.started_at_s if meeting.started else meeting.start_time_s),
        "duration": meeting.duration_min,
        "timezone": meeting.timezone,
        "agenda": meeting.listed_agenda,
        "created_at": zulu(meeting.created_at_s),
        "join_url": join_url(meeting, links),
    }


def past_meeting(past: PastMeeting) -> dict[str, Any]:
    """An instance that is over."""
    return {
        "uuid": past.uuid,
        "id": past.id,
        "host_id": past.host.id,
        "type": past.type,
        "topic": past.topic,
        "user_name": past.host.display_name,
        "user_email": past.host.email,
        "start_time": zulu(past.started_at_s),
        "end_time": zulu(past.ended_at_s),
        "duration": math.ceil((past.ended_at_s - past.started_at_s) / 60),
        "total_minutes": math.ceil((past.ended_at_s - past.started_at_s) / 60) * past.participants,
        "participants_count": past.participants,
    }


def event_meeting(meeting: Meeting) -> dict[str, Any]:
    """The object of `meeting.started` and `meeting.ended`: the id is text, the duration the scheduled one."""
    return {
        "id": str(meeting.id),
        "uuid": meeting.uuid,
        "host_id": meeting.host.id,
        "topic": meeting.topic,
        "type": meeting.type,
        "start_time": zulu(meeting.started_at_s),
        "timezone": meeting.timezone,
        "duration": meeting.duration_min,
    }


def event_definition(meeting: Meeting) -> dict[str, Any]:
    """The object of `meeting.created` and `meeting.deleted`: the id is a number."""
    return event_meeting(meeting) | {"id": meeting.id, "start_time": zulu(meeting.start_time_s)}


def event_participant(meeting: Meeting, person: Participant, more: dict[str, Any]) -> dict[str, Any]:
    """The object of `meeting.participant_joined` and `meeting.participant_left`."""
    participant = {
        "user_id": person.id,
        "user_name": person.name,
        "id": meeting.host.id if person.role == "host" else "",
        "participant_uuid": person.uuid,
        "email": meeting.host.email if person.role == "host" else "",
        **more,
    }
    return event_meeting(meeting) | {"participant": participant}


def event_recording(meeting: Meeting, past: PastMeeting, links: str) -> dict[str, Any]:
    """The object of `recording.completed`: the id is a number."""
    address = f"{links}/rec/{past.id}-{meeting.ends}"
    return {
        "id": past.id,
        "uuid": past.uuid,
        "host_id": past.host.id,
        "topic": past.topic,
        "start_time": zulu(past.started_at_s),
        "duration": math.ceil((past.ended_at_s - past.started_at_s) / 60),
        "share_url": f"{address}/share",
        "recording_files": [
            {
                "id": f"{past.id}-{meeting.ends}-mp4",
                "file_type": "MP4",
                "file_size": 1_048_576,
                "recording_type": "shared_screen_with_speaker_view",
                "play_url": f"{address}/play",
                "download_url": f"{address}/download",
                "status": "completed",
            }
        ],
    }


def event_user(host: Host) -> dict[str, Any]:
    """The object of `user.*` events."""
    return {"id": host.id, "email": host.email, "type": int(host.type)}


def join_url(meeting: Meeting, links: str) -> str:
    """The link for guests, with its passcode."""
    return f"{links}/j/{meeting.id}?pwd={_passcode_key(meeting)}"


def _passcode_key(meeting: Meeting) -> str:
    return f"{meeting.password}.{meeting.id % 997}"
