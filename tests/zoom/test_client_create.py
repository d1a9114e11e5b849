"""Creating a meeting: sent once, and honest about whether it happened."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import httpx
import pytest
import structlog.testing

from broker.errors import InvalidName
from broker.zoom.client import ZoomClient
from tests.zoom.scripted_zoom import (
    CREDENTIAL,
    EXPIRED,
    LIMITED,
    MEETING,
    MEETING_ID,
    MEETINGS,
    NOT_ALLOWED,
    REQUEST,
    UNAVAILABLE,
    Answer,
    Zoom,
    failed,
    meeting_json,
    waiting,
)


async def test_creating_sends_a_marked_scheduled_meeting_and_returns_it(zoom: Zoom, client: ZoomClient) -> None:
    zoom.on("POST", MEETINGS, httpx.Response(201, json=meeting_json()))
    before = datetime.now(UTC).replace(microsecond=0)
    meeting = await client.create_meeting(CREDENTIAL, "anna@school.test", REQUEST)
    assert (meeting.id, meeting.status, meeting.started) == (MEETING_ID, "waiting", False)
    assert meeting.start_url.get_secret_value().endswith("zak=zak-secret")
    [call] = zoom.calls
    assert call.headers["authorization"] == "Bearer token-1"
    body = json.loads(call.content)
    start = datetime.fromisoformat(body.pop("start_time"))
    assert before <= start <= datetime.now(UTC)
    assert body == {
        "topic": "Алгебра",
        "agenda": "[zoompool:default:anna#0@17]",
        "type": 2,
        "duration": 60,
        "timezone": "UTC",
        "settings": {"use_pmi": False, "join_before_host": False, "waiting_room": False, "auto_recording": "none"},
    }


@pytest.mark.parametrize(
    ("answer", "code", "unknown"),
    [
        (UNAVAILABLE, "zoom_unavailable", True),
        (httpx.Response(500), "zoom_unavailable", True),
        (LIMITED, "zoom_rate_limited", False),
        (NOT_ALLOWED, "zoom_host_not_allowed", False),
        (httpx.Response(400, json={"code": 300, "message": "Validation Failed."}), "zoom_request_rejected", False),
        (httpx.ConnectError("refused"), "zoom_unavailable", False),
        (httpx.ConnectTimeout("slow"), "zoom_timeout", False),
        (httpx.PoolTimeout("full"), "zoom_timeout", False),
        (httpx.ReadTimeout("slow"), "zoom_timeout", True),
        (httpx.WriteTimeout("slow"), "zoom_timeout", True),
        (httpx.ReadError("reset"), "zoom_unavailable", True),
        (httpx.WriteError("reset"), "zoom_unavailable", True),
        (httpx.RemoteProtocolError("cut off"), "zoom_unavailable", True),
        (httpx.Response(201, content=b"<html>"), "zoom_answer_unreadable", True),
        (httpx.Response(201, json={"uuid": "no id"}), "zoom_answer_unreadable", True),
    ],
    ids=lambda value: value.__class__.__name__ if isinstance(value, Exception) else None,
)
async def test_a_failed_creation_is_sent_once_and_says_whether_it_may_have_happened(
    zoom: Zoom, client: ZoomClient, answer: Answer, code: str, unknown: bool
) -> None:
    zoom.on("POST", MEETINGS, answer)
    error = await failed(client.create_meeting(CREDENTIAL, "anna@school.test", REQUEST))
    assert (error.code, error.outcome_unknown) == (code, unknown)
    assert zoom.count("POST") == 1


@pytest.mark.parametrize("host", ["me", "", "..", "."])
async def test_hosts_that_zoom_would_misunderstand_are_refused(zoom: Zoom, client: ZoomClient, host: str) -> None:
    with pytest.raises(InvalidName):
        await client.create_meeting(CREDENTIAL, host, REQUEST)
    assert zoom.calls == []


async def test_a_host_cannot_break_out_of_its_place_in_the_path(zoom: Zoom, client: ZoomClient) -> None:
    zoom.on("GET", "/v2/users/a/b?c#d+e@f", httpx.Response(200, json={"id": "x"}))
    await client.get_user(CREDENTIAL, "a/b?c#d+e@f")
    assert zoom.calls[0].url.raw_path == b"/v2/users/a%2Fb%3Fc%23d%2Be@f"


SECRETS = ("zak-secret", "pwd-secret", "passcode-secret", "token-1", "client-secret-1")


async def test_nothing_secret_is_shown_logged_or_part_of_an_error(
    zoom: Zoom, client: ZoomClient, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    zoom.on("GET", MEETING, EXPIRED, UNAVAILABLE, waiting())
    broken = meeting_json(id="not a number") | {"start_time": "zak-secret"}
    zoom.on("POST", MEETINGS, httpx.Response(201, json=broken))
    with structlog.testing.capture_logs() as logs:
        meeting = await client.get_meeting(CREDENTIAL, MEETING_ID)
        error = await failed(client.create_meeting(CREDENTIAL, "anna@school.test", REQUEST))
    assert error.code == "zoom_answer_unreadable"
    assert error.__context__ is None
    shown = f"{meeting!r} {meeting} {error!r} {error} {client!r} {logs} {caplog.text}"
    assert "zoom_token_refused" in shown
    for secret in SECRETS:
        assert secret not in shown


async def test_an_error_of_the_network_does_not_carry_the_request_along(zoom: Zoom, client: ZoomClient) -> None:
    zoom.on("POST", MEETINGS, httpx.ReadError("https://zoom.test/?zak=zak-secret"))
    error = await failed(client.create_meeting(CREDENTIAL, "anna@school.test", REQUEST))
    assert (error.__cause__, error.__context__) == (None, None)
    assert "zak-secret" not in str(error)
