"""Starting lessons over HTTP, with the test in the worker's part."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from pydantic import SecretStr

from api.jobs import Jobs
from api.messages import PROBLEMS
from broker.errors import BrokerUnavailable
from broker.models import Phase, ReleaseReason
from broker.secrets import SecretBox, new_key
from tests.api.acting import (
    AT_ONCE,
    START_URL,
    add_account,
    bearer,
    claimed,
    jobs_in,
    lease_of,
    make_ready,
    services_of,
)
from tests.api.conftest import api_settings, client, serving
from tests.waiting import wait_until_async

START = "/api/schedule/lessons/7/start-new/"


async def test_start_waits_for_the_meeting_and_answers_with_its_links(app: FastAPI, http: httpx.AsyncClient) -> None:
    await add_account(app)
    starting = asyncio.create_task(http.post(START, headers=bearer()))
    await make_ready(app, "7")
    answer = await starting
    assert answer.status_code == 200
    body = answer.json()
    assert body.pop("expires_at").endswith("Z")
    assert body == {
        "zoom_start_url": START_URL,
        "zoom_join_url": "https://zoom.example/j/98765432101?pwd=x",
        "zoom_meeting_id": 98765432101,
        "zoom_password": "123456",
        "account_email": "host@school.example",
        "lesson_id": "7",
        "status": "ready",
    }
    assert answer.headers["cache-control"] == "no-store"
    again = await http.post(START, headers=bearer())
    assert again.json()["zoom_meeting_id"] == 98765432101


async def test_topic_and_duration_reach_the_worker(app: FastAPI, http: httpx.AsyncClient) -> None:
    await add_account(app)
    await http.post(START, headers=bearer() | AT_ONCE, json={"title": "Алгебра", "duration": 45})
    lease = await claimed(app, "7")
    assert (lease.topic, lease.duration_min, lease.owner) == ("Алгебра", 45, "anna")
    assert jobs_in(app, "create") == [("create_meeting", ["default", str(lease.id)])]


async def test_past_the_wait_the_answer_is_202_with_a_place_to_look(app: FastAPI, http: httpx.AsyncClient) -> None:
    await add_account(app)
    answer = await http.post(START, headers=bearer() | AT_ONCE)
    assert answer.status_code == 202
    assert (answer.headers["location"], answer.headers["retry-after"]) == ("/api/schedule/lessons/7/", "1")
    assert answer.headers["preference-applied"] == "respond-async"
    body = answer.json()
    assert (body["lesson_id"], body["status"], body["position"]) == ("7", "starting", None)
    assert body["expires_at"]
    state = await http.get(answer.headers["location"], headers=bearer())
    assert state.json()["status"] == "starting"


async def test_two_starts_of_one_lesson_at_the_same_time_get_one_meeting(app: FastAPI, http: httpx.AsyncClient) -> None:
    await add_account(app, capacity=2)
    both = [asyncio.create_task(http.post(START, headers=bearer())) for _ in range(2)]
    await make_ready(app, "7")
    answers = [await one for one in both]
    assert [answer.status_code for answer in answers] == [200, 200]
    assert answers[0].json() == answers[1].json()


async def test_busy_pool_says_so_and_when_to_come_back(app: FastAPI, http: httpx.AsyncClient) -> None:
    await add_account(app)
    await http.post("/api/schedule/lessons/1/start-new/", headers=bearer() | AT_ONCE)
    answer = await http.post(START, headers=bearer("boris"))
    assert answer.status_code == 503
    assert 1 <= int(answer.headers["retry-after"]) <= 60
    assert (answer.json()["code"], answer.json()["detail"]) == ("pool_exhausted", "Все Zoom аккаунты заняты")


async def test_pool_without_accounts_is_told_from_a_busy_one(http: httpx.AsyncClient) -> None:
    answer = await http.post(START, headers=bearer())
    assert (answer.status_code, answer.json()["code"]) == (503, "pool_empty")


async def test_owner_may_not_hold_more_hosts_than_allowed(app: FastAPI, http: httpx.AsyncClient) -> None:
    await add_account(app, capacity=3)
    for lesson in "12":
        await http.post(f"/api/schedule/lessons/{lesson}/start-new/", headers=bearer() | AT_ONCE)
    answer = await http.post(START, headers=bearer())
    assert (answer.status_code, answer.json()["code"]) == (409, "owner_quota")
    assert (await http.post(START, headers=bearer("boris") | AT_ONCE)).status_code == 202


@pytest.mark.parametrize(
    "code", [code for code, text in PROBLEMS.items() if code.startswith("zoom_") and text.status == 502]
)
async def test_failure_at_zoom_reaches_the_caller_with_its_code(
    app: FastAPI, http: httpx.AsyncClient, code: str
) -> None:
    await add_account(app)
    starting = asyncio.create_task(http.post(START, headers=bearer() | {"Accept-Language": "en"}))
    lease = await claimed(app, "7")
    await services_of(app).broker.run(
        services_of(app).broker.pool().release([lease.id], ReleaseReason.FAILED, detail=code)
    )
    answer = await starting
    assert (answer.status_code, answer.json()["code"]) == (502, code)
    assert answer.json()["detail"] == PROBLEMS[code].english
    state = await http.get("/api/schedule/lessons/7/", headers=bearer())
    assert (state.json()["status"], state.json()["code"]) == ("failed", code)


@pytest.mark.parametrize("detail", ["something_new", "", "unknown_credential"])
async def test_failure_without_a_text_of_its_own_is_a_failed_start(
    app: FastAPI, http: httpx.AsyncClient, detail: str
) -> None:
    await add_account(app)
    starting = asyncio.create_task(http.post(START, headers=bearer()))
    lease = await claimed(app, "7")
    pool = services_of(app).broker.pool()
    await services_of(app).broker.run(pool.release([lease.id], ReleaseReason.FAILED, detail=detail))
    assert (await starting).status_code == 502


async def test_claim_that_lapses_is_made_anew_while_the_caller_waits(app: FastAPI, http: httpx.AsyncClient) -> None:
    await add_account(app)
    starting = asyncio.create_task(http.post(START, headers=bearer()))
    first = await claimed(app, "7")
    pool = services_of(app).broker.pool()
    await services_of(app).broker.run(pool.release([first.id], ReleaseReason.LAPSED))

    async def second() -> bool:
        lease = await lease_of(app, "7")
        return lease is not None and lease.id != first.id

    await wait_until_async(second, "claimed again")
    await make_ready(app, "7")
    assert (await starting).status_code == 200


async def test_suspect_lease_is_waited_for_and_then_the_lesson_gets_a_new_meeting(
    app: FastAPI, http: httpx.AsyncClient
) -> None:
    await add_account(app)
    await http.post(START, headers=bearer() | AT_ONCE)
    old = await make_ready(app, "7")
    run, pool = services_of(app).broker.run, services_of(app).broker.pool()
    await services_of(app).broker.redis.zadd(pool.keys.leased, {old.slot: 1})
    await run(pool.reap())
    closing = await http.post(START, headers=bearer() | AT_ONCE)
    assert (closing.status_code, closing.json()["status"]) == (202, "closing")
    assert ("reconcile", []) in jobs_in(app, "periodic")

    starting = asyncio.create_task(http.post(START, headers=bearer()))
    await run(pool.release([old], ReleaseReason.RECONCILED))

    async def new() -> bool:
        lease = await lease_of(app, "7")
        return lease is not None and lease.phase is Phase.CLAIMED

    await wait_until_async(new, "claimed anew")
    await make_ready(app, "7", meeting_id=77777777777)
    answer = await starting
    assert (answer.status_code, answer.json()["zoom_meeting_id"]) == (200, 77777777777)


async def test_old_start_url_is_replaced_before_it_is_given_out(app: FastAPI, http: httpx.AsyncClient) -> None:
    await add_account(app)
    await http.post(START, headers=bearer() | AT_ONCE)
    lease = await make_ready(app, "7", age_s=101 * 60)
    starting = asyncio.create_task(http.post(START, headers=bearer()))

    async def asked() -> bool:
        return ("refresh_start_url", ["default", str(lease)]) in jobs_in(app, "create")

    await wait_until_async(asked, "a new start_url is asked for")
    services = services_of(app)
    found = await claimed(app, "7")
    fresh = services.box.seal("https://zoom.example/s/98765432101?zak=fresh")
    await services.broker.run(services.broker.pool().record(lease, start_url=fresh, start_url_ms=found.now_ms))
    answer = await starting
    assert (answer.status_code, answer.json()["zoom_start_url"][-5:]) == (200, "fresh")


@pytest.mark.parametrize(("age_min", "status"), [(110, 200), (121, 202)])
async def test_without_a_replacement_a_start_url_is_given_out_only_while_it_works(
    app: FastAPI, http: httpx.AsyncClient, age_min: int, status: int
) -> None:
    await add_account(app)
    await http.post(START, headers=bearer() | AT_ONCE)
    await make_ready(app, "7", age_s=age_min * 60)
    answer = await http.post(START, headers=bearer() | AT_ONCE)
    assert answer.status_code == status
    assert ("zak" in answer.text) is (status == 200)


async def test_start_url_under_a_lost_key_is_replaced_instead_of_failing(app: FastAPI, http: httpx.AsyncClient) -> None:
    await add_account(app)
    await http.post(START, headers=bearer() | AT_ONCE)
    lease = await make_ready(app, "7")
    other = SecretBox((SecretStr(new_key()),)).seal(START_URL)
    pool = services_of(app).broker.pool()
    now_ms = (await claimed(app, "7")).now_ms
    await services_of(app).broker.run(pool.record(lease, start_url=other, start_url_ms=now_ms))
    answer = await http.post(START, headers=bearer() | AT_ONCE)
    assert answer.status_code == 202
    assert ("refresh_start_url", ["default", str(lease)]) in jobs_in(app, "create")


async def test_another_teachers_lesson_is_neither_started_nor_shown(app: FastAPI, http: httpx.AsyncClient) -> None:
    await add_account(app)
    await http.post(START, headers=bearer() | AT_ONCE)
    await make_ready(app, "7")
    for method, path in (("POST", "start-new/"), ("POST", "end/"), ("GET", "")):
        answer = await http.request(method, f"/api/schedule/lessons/7/{path}", headers=bearer("boris"))
        assert (answer.status_code, answer.json()["code"]) == (403, "lesson_of_another_teacher")
        assert "zak" not in answer.text
    seen = await http.get("/api/schedule/lessons/7/", headers=bearer("boss", role="ops"))
    assert seen.status_code == 200
    assert "zak" not in seen.text


async def test_web_app_starts_for_a_teacher_whom_it_names(app: FastAPI, http: httpx.AsyncClient) -> None:
    await add_account(app)
    as_service = bearer("web", role="service") | AT_ONCE
    missing = await http.post(START, headers=as_service)
    assert (missing.status_code, missing.json()["code"]) == (422, "owner_missing")
    assert (await http.post(START, headers=as_service, json={"owner": "anna"})).status_code == 202
    assert (await claimed(app, "7")).owner == "anna"
    assert (await http.post(START, headers=bearer("anna") | AT_ONCE)).status_code == 202


async def test_teacher_cannot_start_in_another_ones_name(app: FastAPI, http: httpx.AsyncClient) -> None:
    await add_account(app)
    await http.post(START, headers=bearer("anna") | AT_ONCE, json={"owner": "boris"})
    assert (await claimed(app, "7")).owner == "anna"


async def test_caller_who_hangs_up_after_the_claim_leaves_a_lease_with_its_job(
    app: FastAPI, http: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    await add_account(app)
    reached, go_on = asyncio.Event(), asyncio.Event()
    enqueue = Jobs.enqueue

    async def slow(self: Jobs, *args: Any, **more: Any) -> bool:
        reached.set()
        await go_on.wait()
        return await enqueue(self, *args, **more)

    monkeypatch.setattr(Jobs, "enqueue", slow)
    starting = asyncio.create_task(http.post(START, headers=bearer()))
    await reached.wait()
    starting.cancel()
    await asyncio.wait({starting})
    go_on.set()

    async def enqueued() -> bool:
        return bool(jobs_in(app, "create"))

    await wait_until_async(enqueued, "the job is enqueued all the same")
    lease = await claimed(app, "7")
    assert jobs_in(app, "create") == [("create_meeting", ["default", str(lease.id)])]


async def test_claim_whose_job_could_not_be_enqueued_gets_it_with_the_next_start(
    app: FastAPI, http: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    await add_account(app)

    async def fails(self: Jobs, *args: Any, **more: Any) -> bool:
        raise BrokerUnavailable("enqueue: Redis did not answer")

    with monkeypatch.context() as patch:
        patch.setattr(Jobs, "enqueue", fails)
        answer = await http.post(START, headers=bearer())
    assert (answer.status_code, answer.json()["code"]) == (503, "broker_unavailable")
    assert int(answer.headers["retry-after"]) > 0
    lease = await claimed(app, "7")
    assert (await http.post(START, headers=bearer() | AT_ONCE)).status_code == 202
    assert jobs_in(app, "create") == [("create_meeting", ["default", str(lease.id)])]


async def test_waits_no_longer_than_the_longest_wait(redis_url: str) -> None:
    async with serving(api_settings(redis_url, wait_max_s=0.2, wait_default_s=0.1)) as app, client(app) as http:
        await add_account(app)
        answer = await http.post(START, headers=bearer() | {"Prefer": "wait=3600"})
        assert answer.status_code == 202
        assert answer.headers["preference-applied"] == "wait=0.2"
