"""Reading and listing: repeated a little, complete, or an error."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import httpx
import pytest

from broker.models import LeaseId
from broker.zoom.client import ZoomClient
from broker.zoom.errors import Kind
from broker.zoom.models import MeetingList, marker
from tests.zoom.scripted_zoom import (
    CREDENTIAL,
    LEASE,
    MARK,
    MEETING,
    MEETING_ID,
    MEETINGS,
    NOT_ALLOWED,
    UNAVAILABLE,
    Answer,
    Zoom,
    failed,
    meeting_json,
    waiting,
)


@pytest.mark.parametrize("failure", [UNAVAILABLE, httpx.ReadError("reset"), httpx.ConnectError("refused")])
async def test_reading_survives_two_short_failures(zoom: Zoom, client: ZoomClient, failure: Answer) -> None:
    zoom.on("GET", MEETING, failure, failure, waiting())
    assert (await client.get_meeting(CREDENTIAL, MEETING_ID)).id == MEETING_ID


async def test_reading_gives_up_after_three_tries(zoom: Zoom, client: ZoomClient) -> None:
    zoom.on("GET", MEETING, UNAVAILABLE)
    error = await failed(client.get_meeting(CREDENTIAL, MEETING_ID))
    assert (error.code, error.outcome_unknown, len(zoom.calls)) == ("zoom_unavailable", False, 3)


async def test_a_short_retry_after_is_waited_for(zoom: Zoom, client: ZoomClient) -> None:
    zoom.on("GET", MEETING, httpx.Response(429, headers={"Retry-After": "0.3"}), waiting())
    clock = asyncio.get_running_loop().time
    before = clock()
    await client.get_meeting(CREDENTIAL, MEETING_ID)
    assert clock() - before >= 0.3


async def test_a_long_retry_after_is_left_to_the_caller(zoom: Zoom, client: ZoomClient) -> None:
    zoom.on("GET", MEETING, httpx.Response(429, headers={"Retry-After": "30"}))
    error = await failed(client.get_meeting(CREDENTIAL, MEETING_ID))
    assert (error.retry_after_s, len(zoom.calls)) == (30, 1)


async def test_a_hosts_fault_is_not_repeated(zoom: Zoom, client: ZoomClient) -> None:
    zoom.on("GET", MEETING, NOT_ALLOWED)
    assert (await failed(client.get_meeting(CREDENTIAL, MEETING_ID))).kind is Kind.HOST
    assert len(zoom.calls) == 1


async def test_ids_keep_all_their_64_bits(zoom: Zoom, client: ZoomClient) -> None:
    largest = 2**63 - 1
    zoom.on("GET", f"/v2/meetings/{largest}", httpx.Response(200, json=meeting_json(id=largest)))
    assert (await client.get_meeting(CREDENTIAL, largest)).id == largest


@pytest.mark.parametrize(
    ("type_", "status", "able"),
    [(1, "active", True), (2, "active", True), (2, "inactive", False), (4, "active", False)],
)
async def test_a_user_says_whether_it_can_host(
    zoom: Zoom, client: ZoomClient, type_: int, status: str, able: bool
) -> None:
    zoom.on("GET", "/v2/users/u1", httpx.Response(200, json={"id": "u1", "type": type_, "status": status}))
    assert (await client.get_user(CREDENTIAL, "u1")).can_host is able


def pages(*agendas: list[str]) -> Callable[[httpx.Request], Answer]:
    """A list in pages; the meetings are numbered through from 1."""

    def answer(request: httpx.Request) -> Answer:
        number = int(request.url.params.get("next_page_token", "page-0").removeprefix("page-"))
        first = 1 + sum(len(page) for page in agendas[:number])
        meetings = [{"id": first + i, "agenda": agenda} for i, agenda in enumerate(agendas[number])]
        more = f"page-{number + 1}" if number + 1 < len(agendas) else ""
        return httpx.Response(200, json={"page_size": 300, "next_page_token": more, "meetings": meetings})

    return answer


async def test_all_pages_of_a_list_are_read(zoom: Zoom, client: ZoomClient) -> None:
    zoom.on("GET", MEETINGS, pages(["", ""], [], ["", "", ""]))
    live = await client.live_meetings(CREDENTIAL, "anna@school.test")
    assert [meeting.id for meeting in live] == [1, 2, 3, 4, 5]
    assert {call.url.params["type"] for call in zoom.calls} == {"live"}
    assert {call.url.params["page_size"] for call in zoom.calls} == {"300"}


async def test_a_list_that_repeats_its_page_token_ends(zoom: Zoom, client: ZoomClient) -> None:
    zoom.on("GET", MEETINGS, httpx.Response(200, json={"meetings": [{"id": 1}], "next_page_token": "same"}))
    await client.meetings_of(CREDENTIAL, "anna@school.test", MeetingList.SCHEDULED)
    assert len(zoom.calls) == 2


async def test_a_list_without_end_is_an_error_and_not_an_incomplete_answer(zoom: Zoom, client: ZoomClient) -> None:
    def endless(_: httpx.Request) -> Answer:
        return httpx.Response(200, json={"meetings": [], "next_page_token": f"t{len(zoom.calls)}"})

    zoom.on("GET", MEETINGS, endless)
    assert (await failed(client.live_meetings(CREDENTIAL, "anna@school.test"))).kind is Kind.TRANSIENT


@pytest.mark.parametrize("where", list(MeetingList))
async def test_a_marked_meeting_is_found_in_whichever_list_it_is(
    zoom: Zoom, client: ZoomClient, where: MeetingList
) -> None:
    neighbours = [
        marker(LeaseId("anna", 0, 1), "default"),
        marker(LeaseId("anna", 0, 171), "default"),
        marker(LeaseId("anna", 1, 17), "default"),
        marker(LeaseId("ann", 0, 17), "default"),
        marker(LEASE, "default2"),
        marker(LEASE, "a-default"),
        "",
    ]

    def answer(request: httpx.Request) -> Answer:
        mine = request.url.params["type"] == where
        return pages(neighbours, [MARK + "\nУрок"] if mine else [])(request)

    zoom.on("GET", MEETINGS, answer)
    found = await client.find_by_marker(CREDENTIAL, "anna@school.test", MARK)
    assert [meeting.id for meeting in found] == [8]


async def test_a_meeting_in_all_lists_is_found_once(zoom: Zoom, client: ZoomClient) -> None:
    zoom.on("GET", MEETINGS, pages([MARK], [MARK]))
    assert [meeting.id for meeting in await client.find_by_marker(CREDENTIAL, "anna@school.test", MARK)] == [1, 2]


async def test_a_look_up_with_a_failed_list_is_no_answer(zoom: Zoom, client: ZoomClient) -> None:
    """An incomplete look-up would say "not there" and let a second meeting be created."""

    def answer(request: httpx.Request) -> Answer:
        return UNAVAILABLE if request.url.params["type"] == "upcoming" else pages([])(request)

    zoom.on("GET", MEETINGS, answer)
    assert (await failed(client.find_by_marker(CREDENTIAL, "anna@school.test", MARK))).code == "zoom_unavailable"
