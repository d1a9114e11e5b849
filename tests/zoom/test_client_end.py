"""Ending and deleting: what counts is that the meeting does not run."""

from __future__ import annotations

import json

import httpx
import pytest

from broker.zoom.client import ZoomClient
from broker.zoom.errors import Kind
from tests.zoom.scripted_zoom import (
    CREDENTIAL,
    DONE,
    LIMITED,
    MEETING,
    MEETING_ID,
    MISSING,
    NOT_ALLOWED,
    STATUS,
    UNAVAILABLE,
    Zoom,
    failed,
    started,
    waiting,
)


async def test_ending_asks_and_then_makes_sure(zoom: Zoom, client: ZoomClient) -> None:
    zoom.on("PUT", STATUS, DONE)
    zoom.on("GET", MEETING, waiting())
    await client.end_meeting(CREDENTIAL, MEETING_ID)
    assert [call.method for call in zoom.calls] == ["PUT", "GET"]
    assert json.loads(zoom.calls[0].content) == {"action": "end"}


async def test_ending_allows_zoom_a_moment(zoom: Zoom, client: ZoomClient) -> None:
    zoom.on("PUT", STATUS, DONE)
    zoom.on("GET", MEETING, started(), started(), waiting())
    await client.end_meeting(CREDENTIAL, MEETING_ID)
    assert zoom.count("PUT") == 1


async def test_ending_asks_again_when_zoom_did_not_end_it(zoom: Zoom, client: ZoomClient) -> None:
    zoom.on("PUT", STATUS, DONE)
    zoom.on("GET", MEETING, lambda _: started() if zoom.count("PUT") == 1 else waiting())
    await client.end_meeting(CREDENTIAL, MEETING_ID)
    assert zoom.count("PUT") == 2


async def test_a_meeting_that_runs_on_is_an_error(zoom: Zoom, client: ZoomClient) -> None:
    zoom.on("PUT", STATUS, DONE)
    zoom.on("GET", MEETING, started())
    error = await failed(client.end_meeting(CREDENTIAL, MEETING_ID))
    assert (error.code, error.kind, zoom.count("PUT")) == ("zoom_still_running", Kind.TRANSIENT, 2)


@pytest.mark.parametrize(
    "refusal", [httpx.Response(400, json={"code": 3000, "message": "not started"}), UNAVAILABLE, LIMITED]
)
async def test_a_refused_end_of_an_idle_meeting_is_as_good_as_done(
    zoom: Zoom, client: ZoomClient, refusal: httpx.Response
) -> None:
    zoom.on("PUT", STATUS, refusal)
    zoom.on("GET", MEETING, waiting())
    await client.end_meeting(CREDENTIAL, MEETING_ID)


@pytest.mark.parametrize(
    ("refusal", "code", "asked"),
    [
        (httpx.Response(400, json={"code": 3000, "message": "no"}), "zoom_request_rejected", 1),
        (NOT_ALLOWED, "zoom_host_not_allowed", 1),
        (UNAVAILABLE, "zoom_unavailable", 2),
    ],
)
async def test_a_refused_end_of_a_running_meeting_is_reported(
    zoom: Zoom, client: ZoomClient, refusal: httpx.Response, code: str, asked: int
) -> None:
    zoom.on("PUT", STATUS, refusal)
    zoom.on("GET", MEETING, started())
    assert (await failed(client.end_meeting(CREDENTIAL, MEETING_ID))).code == code
    assert zoom.count("PUT") == asked


async def test_a_missing_meeting_is_over_and_gone(zoom: Zoom, client: ZoomClient) -> None:
    zoom.on("PUT", STATUS, MISSING)
    zoom.on("DELETE", MEETING, MISSING)
    await client.end_meeting(CREDENTIAL, MEETING_ID)
    await client.delete_meeting(CREDENTIAL, MEETING_ID)


async def test_a_meeting_deleted_while_it_is_being_ended_is_over(zoom: Zoom, client: ZoomClient) -> None:
    zoom.on("PUT", STATUS, DONE)
    zoom.on("GET", MEETING, MISSING)
    await client.end_meeting(CREDENTIAL, MEETING_ID)


async def test_a_deletion_whose_answer_got_lost_is_repeated(zoom: Zoom, client: ZoomClient) -> None:
    zoom.on("DELETE", MEETING, httpx.ReadError("reset"), MISSING)
    await client.delete_meeting(CREDENTIAL, MEETING_ID)
    assert len(zoom.calls) == 2


async def test_a_refused_deletion_is_reported(zoom: Zoom, client: ZoomClient) -> None:
    zoom.on("DELETE", MEETING, NOT_ALLOWED)
    assert (await failed(client.delete_meeting(CREDENTIAL, MEETING_ID))).code == "zoom_host_not_allowed"
