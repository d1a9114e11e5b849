"""Starting lessons over HTTP, with the test in the worker's part."""

from __future__ import annotations

import asyncio
import time

import httpx
import jwt
from fastapi import FastAPI

from broker.client import AsyncBroker
from broker.models import Account, Lease, Phase, ReleaseReason
from tests.api.conftest import JWT_KEY
from tests.waiting import wait_until_async


def bearer(user: str = "anna", **claims: object) -> dict[str, str]:
    token = jwt.encode({"user_id": user, "exp": time.time() + 60, **claims}, JWT_KEY, "HS256")
    return {"Authorization": f"Bearer {token}"}


async def add_account(app: FastAPI, name: str = "host", capacity: int = 1) -> None:
    broker: AsyncBroker = app.state.broker
    await broker.run(broker.pool().register())
    await broker.run(broker.pool().add_account(Account(name, f"{name}@school.example", "", "default", capacity)))


async def lease_of(app: FastAPI, lesson: str) -> Lease | None:
    broker: AsyncBroker = app.state.broker
    return (await broker.run(broker.pool().find_lesson(lesson))).lease


async def make_ready(app: FastAPI, lesson: str) -> None:
    broker: AsyncBroker = app.state.broker
    lease = await wait_until_async(lambda: lease_of(app, lesson), f"{lesson} is claimed")
    assert lease is not None
    await broker.run(broker.pool().begin_creating(lease.id, "test"))
    await broker.run(
        broker.pool().made_ready(
            lease.id,
            meeting_id=98765432101,
            meeting_uuid="uuid==",
            join_url="https://zoom.example/j/98765432101?pwd=x",
            passcode="123456",
            sealed_start_url=app.state.lessons.box.seal("https://zoom.example/s/98765432101?zak=y"),
            start_url_ms=lease.now_ms,
        )
    )


async def test_start_waits_for_the_meeting_and_answers_with_its_links(app: FastAPI, http: httpx.AsyncClient) -> None:
    await add_account(app)
    starting = asyncio.create_task(http.post("/api/schedule/lessons/7/start-new/", headers=bearer()))
    await make_ready(app, "7")
    answer = await starting
    assert answer.status_code == 200
    body = answer.json()
    assert body["zoom_start_url"] == "https://zoom.example/s/98765432101?zak=y"
    assert (body["zoom_meeting_id"], body["account_email"]) == (98765432101, "host@school.example")
    assert (body["lesson_id"], body["status"], body["zoom_password"]) == ("7", "ready", "123456")
    again = await http.post("/api/schedule/lessons/7/start-new/", headers=bearer())
    assert again.json()["zoom_meeting_id"] == 98765432101


async def test_past_the_wait_the_answer_is_202_with_a_place_to_look(app: FastAPI, http: httpx.AsyncClient) -> None:
    await add_account(app)
    answer = await http.post("/api/schedule/lessons/7/start-new/", headers={**bearer(), "Prefer": "respond-async"})
    assert answer.status_code == 202
    assert answer.headers["location"] == "/api/schedule/lessons/7/"
    assert answer.headers["preference-applied"] == "respond-async"
    state = await http.get(answer.headers["location"], headers=bearer())
    assert state.json()["status"] == "starting"


async def test_busy_pool_says_so_in_the_readers_language(app: FastAPI, http: httpx.AsyncClient) -> None:
    await add_account(app)
    headers = {**bearer(), "Prefer": "respond-async"}
    await http.post("/api/schedule/lessons/1/start-new/", headers=headers)
    answer = await http.post("/api/schedule/lessons/2/start-new/", headers={**bearer("boris"), "Prefer": "wait=1"})
    assert answer.status_code == 503
    assert answer.headers["content-type"] == "application/problem+json"
    assert 1 <= int(answer.headers["retry-after"]) <= 60
    assert (answer.json()["code"], answer.json()["detail"]) == ("pool_exhausted", "Все Zoom аккаунты заняты")
    english = await http.post(
        "/api/schedule/lessons/2/start-new/", headers={**bearer("boris"), "Accept-Language": "en"}
    )
    assert english.json()["detail"] == "All Zoom accounts are busy"


async def test_failed_creation_reaches_the_caller_with_its_code(app: FastAPI, http: httpx.AsyncClient) -> None:
    await add_account(app)
    starting = asyncio.create_task(http.post("/api/schedule/lessons/7/start-new/", headers=bearer()))
    lease = await wait_until_async(lambda: lease_of(app, "7"), "claimed")
    assert lease is not None
    pool = app.state.broker.pool()
    await app.state.broker.run(pool.release([lease.id], ReleaseReason.FAILED, detail="zoom_scope_missing"))
    answer = await starting
    assert (answer.status_code, answer.json()["code"]) == (502, "zoom_scope_missing")


async def test_another_teachers_lesson_is_neither_started_nor_shown(app: FastAPI, http: httpx.AsyncClient) -> None:
    await add_account(app)
    await http.post("/api/schedule/lessons/7/start-new/", headers={**bearer(), "Prefer": "respond-async"})
    await make_ready(app, "7")
    for method, path in (("POST", "start-new/"), ("POST", "end/"), ("GET", "")):
        answer = await http.request(method, f"/api/schedule/lessons/7/{path}", headers=bearer("boris"))
        assert (answer.status_code, answer.json()["code"]) == (403, "lesson_of_another_teacher")
        assert "zak" not in answer.text
    seen = await http.get("/api/schedule/lessons/7/", headers=bearer("boss", role="ops"))
    assert seen.status_code == 200
    assert "zak" not in seen.text


async def test_idempotency_key_gives_the_same_lesson_and_refuses_another_body(
    app: FastAPI, http: httpx.AsyncClient
) -> None:
    await add_account(app, capacity=2)
    headers = {**bearer(), "Prefer": "respond-async", "Idempotency-Key": "click-1"}
    body = {"title": "Algebra", "duration": 45, "group_id": 3}
    first = await http.post("/api/schedule/lessons/quick-start/", headers=headers, json=body)
    second = await http.post("/api/schedule/lessons/quick-start/", headers=headers, json=body)
    assert first.status_code == second.status_code == 202
    assert first.json()["lesson_id"] == second.json()["lesson_id"]
    other = await http.post("/api/schedule/lessons/quick-start/", headers=headers, json={**body, "duration": 60})
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")


async def test_end_waits_until_the_slot_is_free(app: FastAPI, http: httpx.AsyncClient) -> None:
    await add_account(app)
    await http.post("/api/schedule/lessons/7/start-new/", headers={**bearer(), "Prefer": "respond-async"})
    ending = asyncio.create_task(http.post("/api/schedule/lessons/7/end/", headers=bearer()))
    lease = await wait_until_async(lambda: lease_of(app, "7"), "claimed")
    assert lease is not None
    assert lease.phase is Phase.CLAIMED
    await app.state.broker.run(app.state.broker.pool().release([lease.id], ReleaseReason.ENDED_BY_OWNER))
    assert (await ending).json() == {"lesson_id": "7", "status": "ended"}
    again = await http.post("/api/schedule/lessons/7/end/", headers=bearer())
    assert again.json()["status"] == "ended"


async def test_unknown_lesson_is_404(http: httpx.AsyncClient) -> None:
    answer = await http.get("/api/schedule/lessons/nobody/", headers=bearer())
    assert (answer.status_code, answer.json()["code"]) == (404, "lesson_unknown")


async def test_tokens_that_do_not_count_are_refused(http: httpx.AsyncClient) -> None:
    missing = await http.get("/api/me/")
    assert missing.status_code == 401
    assert missing.json()["detail"] == "Authentication credentials were not provided."
    forged = jwt.encode(
        {"user_id": "anna", "exp": time.time() + 60}, "another-key-of-more-than-thirty-two-bytes", "HS256"
    )
    unsigned = jwt.encode({"user_id": "anna", "exp": time.time() + 60}, "", "none")
    for token in (forged, unsigned, "rubbish"):
        answer = await http.get("/api/me/", headers={"Authorization": f"Bearer {token}"})
        assert answer.status_code == 401
    for claims in ({"exp": time.time() - 600}, {"token_type": "refresh"}):
        assert (await http.get("/api/me/", headers=bearer(**claims))).status_code == 401
    assert (await http.get("/api/me/", headers=bearer())).json()["user_id"] == "anna"


async def test_ready_with_scripts_and_events(http: httpx.AsyncClient) -> None:
    async def ready() -> bool:
        return (await http.get("/readyz")).status_code == 200

    await wait_until_async(ready, "ready")
    assert (await http.get("/metrics")).status_code == 200
