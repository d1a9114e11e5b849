"""What the client does when Zoom refuses its token."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable

import httpx
import pytest
import redis.asyncio

from broker.zoom.auth import TokenSource
from broker.zoom.client import ZoomClient
from broker.zoom.errors import Kind
from broker.zoom.limits import Budgets
from tests.zoom.scripted_zoom import (
    BOX,
    CREDENTIAL,
    EXPIRED,
    EXPIRED_AS_400,
    MEETING,
    MEETING_ID,
    MEETINGS,
    REQUEST,
    UNAVAILABLE,
    Answer,
    Zoom,
    failed,
    meeting_json,
    settings,
    waiting,
)


@pytest.mark.parametrize("refusal", [EXPIRED, EXPIRED_AS_400], ids=["401", "400"])
async def test_a_refused_token_is_refreshed_once_and_the_call_repeated(
    zoom: Zoom, client: ZoomClient, refusal: httpx.Response
) -> None:
    zoom.on("POST", MEETINGS, refusal, httpx.Response(201, json=meeting_json()))
    assert (await client.create_meeting(CREDENTIAL, "anna@school.test", REQUEST)).id == MEETING_ID
    assert [call.headers["authorization"] for call in zoom.calls] == ["Bearer token-1", "Bearer token-2"]


@pytest.mark.parametrize("refusal", [EXPIRED, EXPIRED_AS_400], ids=["401", "400"])
@pytest.mark.parametrize("method", ["POST", "GET"])
async def test_a_second_refusal_is_the_credentials_fault(
    zoom: Zoom, client: ZoomClient, refusal: httpx.Response, method: str
) -> None:
    zoom.on("POST", MEETINGS, refusal)
    zoom.on("GET", MEETING, refusal)
    call: Awaitable[object] = (
        client.create_meeting(CREDENTIAL, "anna@school.test", REQUEST)
        if method == "POST"
        else client.get_meeting(CREDENTIAL, MEETING_ID)
    )
    error = await failed(call)
    assert (error.code, error.kind, error.outcome_unknown) == ("zoom_credential_rejected", Kind.CREDENTIAL, False)
    assert (len(zoom.calls), zoom.tokens) == (2, 2)


async def test_one_call_refreshes_once_over_all_its_tries(zoom: Zoom, client: ZoomClient) -> None:
    zoom.on("GET", MEETING, EXPIRED, UNAVAILABLE, EXPIRED, waiting())
    assert (await failed(client.get_meeting(CREDENTIAL, MEETING_ID))).code == "zoom_credential_rejected"
    assert (len(zoom.calls), zoom.tokens) == (3, 2)


async def test_a_stored_token_that_is_refused_too_is_not_the_credentials_fault(
    zoom: Zoom, aredis: redis.asyncio.Redis
) -> None:
    elsewhere = TokenSource(aredis, BOX, httpx.AsyncClient(transport=httpx.MockTransport(zoom)), "http://zoom.test")

    async def overtaken(request: httpx.Request) -> httpx.Response:
        answer = await zoom(request)
        if len(zoom.calls) == 1:
            # Another process stores a token meanwhile. A third one may be killed with a newer one before it stores it.
            await elsewhere.token(CREDENTIAL, refresh_of="token-1")
        return answer

    http = httpx.AsyncClient(transport=httpx.MockTransport(overtaken))
    config = settings()
    client = ZoomClient(http, TokenSource(aredis, BOX, http, "http://zoom.test"), Budgets(aredis, config), config)
    zoom.on("POST", MEETINGS, EXPIRED, EXPIRED, httpx.Response(201, json=meeting_json()))
    assert (await client.create_meeting(CREDENTIAL, "anna@school.test", REQUEST)).id == MEETING_ID
    assert [call.headers["authorization"][-1] for call in zoom.calls] == ["1", "2", "3"]


async def test_a_refresh_that_failed_leaves_the_next_try_another_one(zoom: Zoom, aredis: redis.asyncio.Redis) -> None:
    async def first_refresh_fails(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/oauth/token" and len(zoom.calls) == 1:
            return UNAVAILABLE
        return await zoom(request)

    http = httpx.AsyncClient(transport=httpx.MockTransport(first_refresh_fails))
    config = settings()
    client = ZoomClient(http, TokenSource(aredis, BOX, http, "http://zoom.test"), Budgets(aredis, config), config)
    zoom.on("GET", MEETING, EXPIRED, EXPIRED, waiting())
    assert (await client.get_meeting(CREDENTIAL, MEETING_ID)).id == MEETING_ID
    assert [call.headers["authorization"][-1] for call in zoom.calls] == ["1", "1", "2"]


async def test_a_crowd_with_an_expired_token_makes_one_refresh(zoom: Zoom, client: ZoomClient) -> None:
    def only_the_second(request: httpx.Request) -> Answer:
        return waiting() if request.headers["authorization"] == "Bearer token-2" else EXPIRED

    zoom.on("GET", MEETING, only_the_second)
    await asyncio.gather(*(client.get_meeting(CREDENTIAL, MEETING_ID) for _ in range(50)))
    assert zoom.tokens == 2


async def test_a_missing_scope_is_not_answered_with_a_refresh(zoom: Zoom, client: ZoomClient) -> None:
    message = "Invalid access token, does not contain scopes:[user:read:user:admin]."
    zoom.on("GET", "/v2/users/u1", httpx.Response(400, json={"code": 4711, "message": message}))
    error = await failed(client.get_user(CREDENTIAL, "u1"))
    assert (error.code, error.scopes) == ("zoom_scope_missing", ("user:read:user:admin",))
    assert (len(zoom.calls), zoom.tokens) == (1, 1)
