"""Budgets: Zoom is not called more often than it allows, and whoever cannot wait learns how long it would be."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest
import redis.asyncio

from broker.models import Credential
from broker.settings import RateLimit
from broker.zoom.auth import TokenSource
from broker.zoom.client import ZoomClient
from broker.zoom.errors import Kind
from broker.zoom.limits import PLANS, Budgets, Category
from tests.zoom.scripted_zoom import (
    BOX,
    CREDENTIAL,
    LIMITED,
    MARK,
    MEETING,
    MEETING_ID,
    MEETINGS,
    REQUEST,
    Zoom,
    failed,
    meeting_json,
    settings,
    waiting,
)

HOST = "anna@school.test"
HOST_DAILY = httpx.Response(
    429,
    json={
        "code": 429,
        "message": "You have exceeded the daily rate limit (100) of Meeting Create/Update API requests permitted for "
        "this particular user. You may resume these requests at GMT 00:00:00.",
    },
)
ACCOUNT_DAILY = httpx.Response(
    429, json={"code": 429, "message": "You have reached the maximum daily rate limit for this API."}
)


def client_of(zoom: Zoom, aredis: redis.asyncio.Redis, *, background: bool = False, **changes: Any) -> ZoomClient:
    config = settings(**changes)
    http = httpx.AsyncClient(transport=httpx.MockTransport(zoom))
    tokens = TokenSource(aredis, BOX, http, "http://zoom.test")
    client = ZoomClient(http, tokens, Budgets(aredis, config), config)
    return client.in_background() if background else client


def narrow(category: str, per_s: int = 1, per_day: int = 0) -> dict[str, Any]:
    return {"zoom_limits": {category: {"per_s": per_s, "per_day": per_day}}}


def created(zoom: Zoom) -> None:
    zoom.on("POST", MEETINGS, httpx.Response(201, json=meeting_json()))


@pytest.mark.parametrize(
    ("plan", "light", "medium", "heavy"),
    [
        ("free", (4, 6_000), (2, 2_000), (1, 1_000)),
        ("pro", (30, 0), (20, 0), (10, 30_000)),
        ("business", (80, 0), (60, 0), (40, 60_000)),
    ],
)
def test_presets_are_zooms_published_numbers(
    plan: str, light: tuple[int, int], medium: tuple[int, int], heavy: tuple[int, int]
) -> None:
    found = [(PLANS[plan][category].per_s, PLANS[plan][category].per_day) for category in Category]
    assert found == [light, medium, heavy]


def test_settings_choose_plan_and_numbers_by_credential(aredis: redis.asyncio.Redis) -> None:
    config = settings(zoom_plan="pro", zoom_plans={"small": "free"}, zoom_limits={"light": {"per_s": 7, "per_day": 9}})
    budgets = Budgets(aredis, config)
    small = Credential("small", "acc-2", "client-2", CREDENTIAL.client_secret)
    assert budgets.limit(CREDENTIAL, Category.MEDIUM) == RateLimit(per_s=20)
    assert budgets.limit(small, Category.MEDIUM) == RateLimit(per_s=2, per_day=2_000)
    assert budgets.limit(small, Category.LIGHT) == RateLimit(per_s=7, per_day=9)


def test_settings_come_from_the_environment_as_json(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZOOMPOOL_ZOOM_LIMITS", '{"medium": {"per_s": 3}}')
    monkeypatch.setenv("ZOOMPOOL_ZOOM_PLANS", '{"small": "free"}')
    config = settings()
    assert config.zoom_limits == {"medium": RateLimit(per_s=3)}
    assert config.zoom_plans == {"small": "free"}


async def test_a_short_wait_is_waited_out(zoom: Zoom, aredis: redis.asyncio.Redis) -> None:
    client = client_of(zoom, aredis, **narrow("light"))
    zoom.on("GET", MEETING, waiting())
    before = asyncio.get_running_loop().time()
    for _ in range(2):
        await client.get_meeting(CREDENTIAL, MEETING_ID)
    assert asyncio.get_running_loop().time() - before >= 1
    assert zoom.count("GET") == 2


async def test_a_long_wait_fails_at_once_and_sends_nothing(zoom: Zoom, aredis: redis.asyncio.Redis) -> None:
    client = client_of(zoom, aredis, zoom_timeout_s=1.0, **narrow("medium"))
    created(zoom)
    await client.create_meeting(CREDENTIAL, HOST, REQUEST)
    error = await failed(client.create_meeting(CREDENTIAL, HOST, REQUEST))
    assert (error.code, error.kind, error.outcome_unknown) == ("zoom_rate_budget", Kind.TRANSIENT, False)
    assert error.retry_after_s is not None
    assert 0 < error.retry_after_s <= 1.1
    assert zoom.count("POST") == 1


async def test_processes_share_one_budget(zoom: Zoom, aredis: redis.asyncio.Redis) -> None:
    created(zoom)
    await client_of(zoom, aredis, zoom_timeout_s=1.0, **narrow("medium")).create_meeting(CREDENTIAL, HOST, REQUEST)
    other = client_of(zoom, aredis, zoom_timeout_s=1.0, **narrow("medium"))
    assert (await failed(other.create_meeting(CREDENTIAL, HOST, REQUEST))).code == "zoom_rate_budget"


async def test_apps_of_one_zoom_account_share_its_budget(zoom: Zoom, aredis: redis.asyncio.Redis) -> None:
    client = client_of(zoom, aredis, zoom_timeout_s=1.0, **narrow("medium"))
    created(zoom)
    twin = Credential("twin", CREDENTIAL.account_id, "client-2", CREDENTIAL.client_secret)
    stranger = Credential("stranger", "acc-2", "client-3", CREDENTIAL.client_secret)
    await client.create_meeting(CREDENTIAL, HOST, REQUEST)
    assert (await failed(client.create_meeting(twin, HOST, REQUEST))).code == "zoom_rate_budget"
    await client.create_meeting(stranger, HOST, REQUEST)


async def test_background_leaves_half_of_the_budget_to_lessons(zoom: Zoom, aredis: redis.asyncio.Redis) -> None:
    zoom.on("GET", MEETINGS, httpx.Response(200, json={"meetings": []}))
    created(zoom)
    limits = narrow("medium", per_s=4)
    background = client_of(zoom, aredis, background=True, zoom_timeout_s=0.8, **limits)
    answers = await asyncio.gather(
        *(background.live_meetings(CREDENTIAL, HOST) for _ in range(4)), return_exceptions=True
    )
    assert [getattr(answer, "code", "listed") for answer in answers].count("listed") == 2
    for _ in range(2):
        await client_of(zoom, aredis, zoom_timeout_s=0.8, **limits).create_meeting(CREDENTIAL, HOST, REQUEST)


@pytest.mark.parametrize("category", ["light", "medium"])
async def test_creating_counts_against_the_category_of_the_settings(
    zoom: Zoom, aredis: redis.asyncio.Redis, category: str
) -> None:
    client = client_of(zoom, aredis, zoom_create_category=category, zoom_timeout_s=1.0, **narrow(category))
    created(zoom)
    await client.create_meeting(CREDENTIAL, HOST, REQUEST)
    assert (await failed(client.create_meeting(CREDENTIAL, HOST, REQUEST))).code == "zoom_rate_budget"


async def test_looking_a_marker_up_counts_every_list(zoom: Zoom, aredis: redis.asyncio.Redis) -> None:
    client = client_of(zoom, aredis, **narrow("medium", per_s=0, per_day=3))
    zoom.on("GET", MEETINGS, httpx.Response(200, json={"meetings": []}))
    await client.find_by_marker(CREDENTIAL, HOST, MARK)
    error = await failed(client.live_meetings(CREDENTIAL, HOST))
    assert (error.code, error.kind) == ("zoom_account_daily_limit", Kind.TRANSIENT)


async def test_creations_of_a_host_are_counted_and_the_last_one_is_not_sent(
    zoom: Zoom, aredis: redis.asyncio.Redis
) -> None:
    client = client_of(zoom, aredis, zoom_host_daily=2)
    created(zoom)
    for _ in range(2):
        await client.create_meeting(CREDENTIAL, HOST, REQUEST)
    error = await failed(client.create_meeting(CREDENTIAL, HOST, REQUEST))
    assert (error.code, error.kind, error.outcome_unknown) == ("zoom_daily_limit", Kind.HOST, False)
    assert error.retry_after_s is not None
    assert 0 < error.retry_after_s <= 24 * 3600
    assert zoom.count("POST") == 2


async def test_zooms_daily_refusal_of_a_host_is_believed(zoom: Zoom, client: ZoomClient) -> None:
    zoom.on("POST", MEETINGS, HOST_DAILY, httpx.Response(201, json=meeting_json()))
    for _ in range(2):
        error = await failed(client.create_meeting(CREDENTIAL, HOST, REQUEST))
        assert error.code == "zoom_daily_limit"
    assert zoom.count("POST") == 1


async def test_zooms_daily_refusal_of_the_account_is_believed_for_its_category(zoom: Zoom, client: ZoomClient) -> None:
    zoom.on("POST", MEETINGS, ACCOUNT_DAILY)
    zoom.on("GET", MEETING, waiting())
    for _ in range(2):
        error = await failed(client.create_meeting(CREDENTIAL, HOST, REQUEST))
        assert error.code == "zoom_account_daily_limit"
    assert zoom.count("POST") == 1
    await client.get_meeting(CREDENTIAL, MEETING_ID)


async def test_refusals_of_a_second_teach_nothing_about_the_day(zoom: Zoom, client: ZoomClient) -> None:
    zoom.on("POST", MEETINGS, LIMITED, httpx.Response(201, json=meeting_json()))
    assert (await failed(client.create_meeting(CREDENTIAL, HOST, REQUEST))).code == "zoom_rate_limited"
    await client.create_meeting(CREDENTIAL, HOST, REQUEST)


async def test_background_that_has_used_its_share_of_the_day_stops_nobody_else(
    zoom: Zoom, aredis: redis.asyncio.Redis
) -> None:
    limits = narrow("light", per_s=0, per_day=4)
    zoom.on("GET", MEETING, waiting())
    background = client_of(zoom, aredis, background=True, **limits)
    for _ in range(2):
        await background.get_meeting(CREDENTIAL, MEETING_ID)
    assert (await failed(background.get_meeting(CREDENTIAL, MEETING_ID))).code == "zoom_account_daily_limit"
    await client_of(zoom, aredis, **limits).get_meeting(CREDENTIAL, MEETING_ID)
