"""Starts that are turned away at once: asked too often, or with more to do than Zoom allows."""

from __future__ import annotations

import httpx
import pytest
from fastapi import FastAPI

from api.gate import creations_per_s
from broker.settings import RateLimit
from tests.api.acting import AT_ONCE, add_account, bearer, jobs_in, lease_of, services_of
from tests.api.conftest import api_settings, client, serving

START = "/api/schedule/lessons/{}/start-new/"


async def start(http: httpx.AsyncClient, lesson: str, owner: str = "anna") -> httpx.Response:
    return await http.post(START.format(lesson), headers=bearer(owner) | AT_ONCE)


async def test_owner_who_asks_too_often_is_told_when_to_come_back(redis_url: str) -> None:
    async with serving(api_settings(redis_url, starts_per_min=2)) as app, client(app) as http:
        await add_account(app, capacity=2)
        for _ in range(2):
            assert (await start(http, "7")).status_code == 202
        answer = await start(http, "7")
        assert (answer.status_code, answer.json()["code"]) == (429, "too_many_requests")
        assert 1 <= int(answer.headers["retry-after"]) <= 60
        assert (await start(http, "8", "boris")).status_code == 202, "others are not concerned"
        await services_of(app).broker.redis.delete("zp:starts:anna")  # as its time-to-live does
        assert (await start(http, "7")).status_code == 202


async def test_no_limit_counts_nothing(redis_url: str) -> None:
    settings = api_settings(redis_url, starts_per_min=0, creations_per_s=0)
    async with serving(settings) as app, client(app) as http:
        await add_account(app)
        assert (await start(http, "7")).status_code == 202
        assert await services_of(app).broker.redis.keys("zp:starts:*") == []


@pytest.fixture
def slow(redis_url: str) -> dict[str, object]:
    """Zoom lets us make one meeting in ten seconds, and callers wait for fifteen."""
    return {"redis_url": redis_url, "creations_per_s": 0.1, "wait_default_s": 15}


async def test_start_that_could_not_be_made_in_time_is_refused_before_it_takes_a_host(slow: dict[str, object]) -> None:
    async with serving(api_settings(**slow)) as app, client(app) as http:  # type: ignore[arg-type]
        await add_account(app, capacity=5)
        for lesson in "12":
            assert (await start(http, lesson, f"owner-{lesson}")).status_code == 202
        answer = await start(http, "3")
        assert (answer.status_code, answer.json()["code"]) == (503, "overloaded")
        assert answer.headers["retry-after"] == "5", "two before it, ten seconds each, minus the wait"
        assert await lease_of(app, "3") is None
        assert len(jobs_in(app, "create")) == 2
        assert (await start(http, "1", "owner-1")).status_code == 202, "it has its host already"


async def test_each_credential_adds_to_what_zoom_allows(slow: dict[str, object], redis_url: str) -> None:
    async with serving(api_settings(**slow)) as app, client(app) as http:  # type: ignore[arg-type]
        await add_account(app, capacity=5)
        await services_of(app).broker.redis.sadd("zp:credentials", "north", "south")
        for lesson in "123":
            assert (await start(http, lesson, f"owner-{lesson}")).status_code == 202


@pytest.mark.parametrize(
    ("changes", "per_s"),
    [
        ({}, 60),
        ({"zoom_plan": "pro"}, 20),
        ({"zoom_create_category": "light"}, 80),
        ({"zoom_limits": {"medium": RateLimit(per_s=7)}}, 7),
        ({"zoom_limits": {"medium": RateLimit()}}, 0),
        ({"creations_per_s": 3}, 3),
        ({"creations_per_s": 0}, 0),
    ],
)
def test_pace_is_the_plans_unless_said_otherwise(redis_url: str, changes: dict[str, object], per_s: float) -> None:
    assert creations_per_s(api_settings(redis_url, **changes)) == per_s


async def test_damaged_counter_is_the_services_trouble(app: FastAPI, http: httpx.AsyncClient) -> None:
    await add_account(app)
    await services_of(app).broker.redis.lpush("zp:starts:anna", "damage")
    answer = await start(http, "7")
    assert answer.status_code == 500
