"""A lesson that is registered with a time gets its host then, and nobody is promised one that is not there."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from api.reservations import priority
from broker.models import Priority
from broker.registry.lessons import Lesson
from tests.api.acting import AT_ONCE, add_account, bearer, services_of

WEB = bearer("web-app", role="service")
TOMORROW = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) + timedelta(days=1)


async def register(http: httpx.AsyncClient, lesson: str, at: datetime | None, **more: Any) -> httpx.Response:
    body = {"teacher": "anna", "duration": 45, **({"starts_at": at.isoformat()} if at else {}), **more}
    return await http.put(f"/api/schedule/lessons/{lesson}/", json=body, headers=WEB)


async def test_more_lessons_than_hosts_at_one_time_are_refused_with_the_numbers(
    app: FastAPI, http: httpx.AsyncClient
) -> None:
    await add_account(app)
    assert (await register(http, "first", TOMORROW)).status_code == 200
    refused = await register(http, "second", TOMORROW + timedelta(minutes=15))
    assert (refused.status_code, refused.json()["code"]) == (409, "pool_overbooked")
    assert (refused.json()["reserved"], refused.json()["capacity"]) == (1, 1)
    begins = datetime.fromisoformat(refused.json()["window"]["from"])
    assert TOMORROW - timedelta(minutes=15) <= begins <= TOMORROW + timedelta(minutes=15)
    known = await http.get("/api/schedule/lessons/second/", headers=WEB)
    assert known.status_code == 404, "what was refused is not registered"
    assert (await register(http, "second", TOMORROW + timedelta(hours=3))).status_code == 200


async def test_lesson_that_is_moved_or_forgotten_makes_room(app: FastAPI, http: httpx.AsyncClient) -> None:
    await add_account(app)
    for change in ("move", "no time", "delete"):
        assert (await register(http, "first", TOMORROW)).status_code == 200
        assert (await register(http, "second", TOMORROW)).status_code == 409
        if change == "delete":
            assert (await http.delete("/api/schedule/lessons/first/", headers=WEB)).status_code == 204
        else:
            later = TOMORROW + timedelta(hours=5) if change == "move" else None
            assert (await register(http, "first", later)).status_code == 200
        assert (await register(http, "second", TOMORROW)).status_code == 200
        assert (await http.delete("/api/schedule/lessons/second/", headers=WEB)).status_code == 204


async def test_host_of_a_lesson_that_is_due_is_not_given_to_others(app: FastAPI, http: httpx.AsyncClient) -> None:
    await add_account(app)
    assert (await register(http, "planned", datetime.now(UTC) + timedelta(minutes=5))).status_code == 200
    quick = await http.post("/api/schedule/lessons/other/start-new/", headers=bearer("boris"))
    assert (quick.status_code, quick.json()["code"]) == (503, "pool_exhausted")
    mine = await http.post("/api/schedule/lessons/planned/start-new/", headers=bearer("anna") | AT_ONCE)
    assert (mine.status_code, mine.json()["status"]) == (202, "starting")


async def test_forecast_shows_what_is_kept(app: FastAPI, http: httpx.AsyncClient) -> None:
    await add_account(app, capacity=2)
    await register(http, "first", TOMORROW)
    forecast = await http.get("/api/pools/default/forecast/", headers=WEB)
    assert forecast.status_code == 200
    assert "1" in forecast.text


async def test_lessons_may_be_registered_before_there_are_accounts(app: FastAPI, http: httpx.AsyncClient) -> None:
    assert (await register(http, "early", TOMORROW)).status_code == 200


@pytest.mark.parametrize(
    ("begins_min", "expected"),
    [(-30, Priority.SCHEDULED), (5, Priority.SCHEDULED), (30, Priority.QUICK), (-90, Priority.QUICK)],
)
async def test_lesson_inside_its_time_stands_before_one_out_of_the_blue(
    app: FastAPI, begins_min: int, expected: Priority
) -> None:
    starts_ms = round((time.time() + begins_min * 60) * 1000)
    assert priority(services_of(app), Lesson("7", "anna", starts_ms=starts_ms, duration_min=45)) is expected
    assert priority(services_of(app), None) is Priority.QUICK
    assert priority(services_of(app), Lesson("7", "anna")) is Priority.QUICK
