"""The subscription guard: nothing is claimed for a teacher whose subscription is over."""

from __future__ import annotations

import time
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from tests.api.acting import AT_ONCE, add_account, bearer, lease_of
from tests.api.conftest import api_settings, client, serving
from tests.api.test_registry import WEB

LESSON = "/api/schedule/lessons/7/"
PAST = "2020-01-01T00:00:00Z"
FUTURE = "2099-01-01T00:00:00Z"
STARTS = (f"{LESSON}start-new/", f"{LESSON}start/", "/api/schedule/lessons/quick-start/")


async def subscribe(http: httpx.AsyncClient, until: str | None) -> None:
    answer = await http.put("/api/teachers/anna/", json={"subscription_until": until}, headers=WEB)
    assert answer.status_code == 200, answer.text


async def start(http: httpx.AsyncClient, **claims: object) -> httpx.Response:
    return await http.post(f"{LESSON}start-new/", headers=bearer(**claims) | AT_ONCE)


@pytest.mark.parametrize("route", STARTS)
async def test_expired_subscription_refuses_every_start_and_claims_nothing(
    app: FastAPI, http: httpx.AsyncClient, route: str
) -> None:
    await add_account(app)
    await subscribe(http, PAST)
    for headers, body in ((bearer(), {}), (WEB, {"owner": "anna"})):
        answer = await http.post(route, json=body, headers=headers)
        assert answer.status_code == 403
        assert (answer.json()["detail"], answer.json()["code"]) == ("Подписка истекла", "subscription_expired")
    assert await lease_of(app, "7") is None


async def test_renewed_subscription_counts_at_once(app: FastAPI, http: httpx.AsyncClient) -> None:
    await add_account(app)
    await subscribe(http, PAST)
    assert (await start(http)).status_code == 403
    await subscribe(http, FUTURE)
    assert (await start(http)).status_code == 202


async def test_nothing_known_of_a_subscription_lets_the_teacher_start(app: FastAPI, http: httpx.AsyncClient) -> None:
    await add_account(app)
    await subscribe(http, None)
    assert (await start(http)).status_code == 202


@pytest.mark.parametrize(
    ("claim", "status"),
    [
        (1_600_000_000, 403),
        (4_000_000_000, 202),
        (PAST, 403),
        (FUTURE, 202),
        ("2020-01-01", 403),
        ("2099-01-01T03:00:00+03:00", 202),
        (None, 202),
        ("soon", 401),
        (True, 401),
        (1e300, 401),
        ([], 401),
    ],
)
async def test_claim_of_the_token_says_until_when(
    app: FastAPI, http: httpx.AsyncClient, claim: Any, status: int
) -> None:
    await add_account(app)
    assert (await start(http, subscription_until=claim)).status_code == status


async def test_registered_subscription_counts_before_the_tokens(app: FastAPI, http: httpx.AsyncClient) -> None:
    await add_account(app)
    await subscribe(http, PAST)
    assert (await start(http, subscription_until=FUTURE)).status_code == 403
    await subscribe(http, FUTURE)
    assert (await start(http, subscription_until=PAST)).status_code == 202


async def test_claim_of_the_web_apps_token_says_nothing_of_a_teacher(app: FastAPI, http: httpx.AsyncClient) -> None:
    await add_account(app)
    headers = bearer("web", role="service", subscription_until=PAST) | AT_ONCE
    assert (await http.post(f"{LESSON}start-new/", json={"owner": "anna"}, headers=headers)).status_code == 202


async def test_guard_can_be_off_and_the_claim_can_have_another_name(redis_url: str) -> None:
    async with serving(api_settings(redis_url, subscription_guard=False)) as app, client(app) as http:
        await add_account(app)
        await subscribe(http, PAST)
        assert (await start(http)).status_code == 202
    async with serving(api_settings(redis_url, subscription_claim="paid")) as app, client(app) as http:
        await subscribe(http, None)
        assert (await start(http, paid=time.time() - 1)).status_code == 403


async def test_who_am_i_tells_the_subscription(http: httpx.AsyncClient) -> None:
    assert (await http.get("/api/me/", headers=bearer())).json()["subscription"] is None
    await subscribe(http, PAST)
    mine = (await http.get("/api/me/", headers=bearer())).json()
    assert mine["subscription"] == {"active": False, "until": PAST}
