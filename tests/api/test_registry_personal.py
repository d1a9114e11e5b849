"""Starts on the teacher's own Zoom account, teachers over HTTP, and webhooks signed with a secret of their own."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from broker import keys
from broker.models import Lease, ReleaseReason
from broker.registry import personal
from tests.api.acting import AT_ONCE, add_account, bearer, jobs_in, lease_of, services_of
from tests.api.conftest import WEBHOOK_SECRET
from tests.api.test_registry import OPS, WEB, register
from tests.api.test_webhook import body, signed

LESSON = "/api/schedule/lessons/7/"
TEACHER = "/api/teachers/anna/"
HOOK = "/schedule/api/zoom/webhook/"
APP = {
    "zoom_account_id": "_-annas-account",
    "zoom_client_id": "annas-client",
    "zoom_client_secret": "annas-client-secret",
    "zoom_webhook_secret": "annas-webhook-secret",
    "zoom_user_id": "anna@home.example",
}


async def put_teacher(http: httpx.AsyncClient, **fields: Any) -> httpx.Response:
    return await http.put(TEACHER, json=fields, headers=WEB)


async def own_lease(app: FastAPI, lesson: str = "7") -> Lease | None:
    broker = services_of(app).broker
    return (await broker.run(broker.pool("teacher-anna").find_lesson(lesson))).lease


async def test_without_own_credentials_start_is_400(http: httpx.AsyncClient) -> None:
    for headers, sent in ((bearer(), {}), (WEB, {"owner": "anna"})):
        answer = await http.post(f"{LESSON}start/", json=sent, headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (400, "zoom_credentials_missing")


async def test_start_claims_the_teachers_own_account(app: FastAPI, http: httpx.AsyncClient) -> None:
    assert (await put_teacher(http, **APP)).status_code == 200
    answer = await http.post(f"{LESSON}start/", json={"title": "Algebra"}, headers=bearer() | AT_ONCE)
    assert (answer.status_code, answer.headers["location"]) == (202, LESSON)
    lease = await own_lease(app)
    assert lease is not None
    assert (lease.credential, lease.zoom_user_id, lease.topic) == ("teacher-anna", "anna@home.example", "Algebra")
    assert jobs_in(app, "create") == [("create_meeting", ["teacher-anna", str(lease.id)])]
    # Looked at, listed and ended like any other.
    assert (await http.get(LESSON, headers=bearer())).json()["status"] == "starting"
    assert (await http.get(LESSON, headers=bearer("boris"))).status_code == 403
    (active,) = (await http.get("/api/me/", headers=bearer())).json()["active_lessons"]
    assert active["lesson_id"] == "7"
    assert (await http.post(f"{LESSON}end/", headers=bearer() | AT_ONCE)).status_code == 202
    assert ("end_meeting", ["teacher-anna", str(lease.id), "ended_by_owner", lease.lesson]) in jobs_in(app, "create")


async def test_refused_credentials_are_502_with_zooms_code(app: FastAPI, http: httpx.AsyncClient) -> None:
    await put_teacher(http, **APP)
    broker = services_of(app).broker
    pool = broker.pool("teacher-anna")
    await http.post(f"{LESSON}start/", headers=bearer() | AT_ONCE)
    for _ in range(2):
        lease = await own_lease(app)
        assert lease is not None
        # Be the worker whom Zoom refused.
        await broker.run(pool.begin_creating(lease.id, "test"))
        await broker.run(pool.release([lease.id], ReleaseReason.FAILED, detail="zoom_credential_rejected"))
        seen = (await http.get(LESSON, headers=bearer())).json()
        assert (seen["status"], seen["code"]) == ("failed", "zoom_credential_rejected")
        # Pressed again, Zoom is asked again.
        assert (await http.post(f"{LESSON}start/", headers=bearer() | AT_ONCE)).status_code == 202


async def test_a_lesson_that_runs_is_not_started_a_second_time_elsewhere(app: FastAPI, http: httpx.AsyncClient) -> None:
    await add_account(app)
    await put_teacher(http, **APP)
    await http.post(f"{LESSON}start-new/", headers=bearer() | AT_ONCE)
    await http.post(f"{LESSON}start/", headers=bearer() | AT_ONCE)
    assert await own_lease(app) is None
    await http.post("/api/schedule/lessons/8/start/", headers=bearer() | AT_ONCE)
    await http.post("/api/schedule/lessons/8/start-new/", headers=bearer() | AT_ONCE)
    assert await lease_of(app, "8") is None
    other = await http.post("/api/schedule/lessons/8/start-new/", headers=bearer("boris") | AT_ONCE)
    assert (other.status_code, other.json()["code"]) == (403, "lesson_of_another_teacher")


async def test_a_pool_that_was_just_closed_is_opened_again(
    app: FastAPI, http: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    await put_teacher(http, **APP)
    services = services_of(app)
    opened = personal.open_pool
    times = 0

    async def closed_at_once(*args: Any) -> Any:
        nonlocal times
        pool = await opened(*args)
        times += 1
        if times == 1:
            assert await personal.close_idle(services.broker, 0) == ("teacher-anna",)
        return pool

    monkeypatch.setattr(personal, "open_pool", closed_at_once)
    assert (await http.post(f"{LESSON}start/", headers=bearer() | AT_ONCE)).status_code == 202
    assert await services.broker.pools() == ("teacher-anna",)


async def test_secrets_of_a_teacher_go_in_and_never_come_out(
    app: FastAPI, http: httpx.AsyncClient, capfd: pytest.CaptureFixture[str]
) -> None:
    answers = [
        await put_teacher(http, **APP),
        await http.get(TEACHER, headers=WEB),
        await http.get("/api/teachers/", headers=OPS),
        await http.get("/api/credentials/", headers=OPS),
        await http.get("/api/credentials/teacher-anna/", headers=OPS),
        await put_teacher(http, zoom_client_secret={"wrong": APP["zoom_client_secret"]}),
    ]
    redis = services_of(app).broker.redis
    stored = [str(await redis.hgetall(key)) for key in (keys.credential("teacher-anna"), keys.teacher("anna"))]
    shown = "".join((*(answer.text for answer in answers), *stored, *capfd.readouterr()))
    for name in ("zoom_client_secret", "zoom_webhook_secret"):
        assert APP[name] not in shown
    assert answers[1].json()["zoom_app"] == {
        "zoom_account_id": APP["zoom_account_id"],
        "zoom_client_id": APP["zoom_client_id"],
        "has_webhook_secret": True,
    }
    assert answers[3].json() == {"credentials": []}, "a teacher's own is not the school's"


async def test_what_is_left_out_of_a_teacher_stays_and_null_takes_away(http: httpx.AsyncClient) -> None:
    await put_teacher(http, **APP)
    now = (await put_teacher(http, subscription_until="2099-01-01T00:00:00Z", zoom_capacity=2)).json()
    assert (now["zoom_app"]["zoom_client_id"], now["zoom_user_id"], now["zoom_capacity"]) == (
        "annas-client",
        "anna@home.example",
        2,
    )
    now = (await put_teacher(http, zoom_webhook_secret=None, zoom_user_id=None)).json()
    assert (now["zoom_app"]["has_webhook_secret"], now["zoom_user_id"]) == (False, None)
    assert now["subscription"]["active"] is True
    now = (await put_teacher(http, zoom_account_id=None)).json()
    assert now["zoom_app"] is None


async def test_half_a_zoom_app_is_refused(http: httpx.AsyncClient) -> None:
    answer = await put_teacher(http, zoom_account_id="a", zoom_client_id="c")
    assert (answer.status_code, answer.json()["code"]) == (422, "secret_missing")
    assert (await http.get(TEACHER, headers=WEB)).status_code == 404


async def test_a_teacher_is_forgotten_but_not_while_a_lesson_runs_on_the_own_account(
    app: FastAPI, http: httpx.AsyncClient
) -> None:
    await put_teacher(http, **APP)
    await http.post(f"{LESSON}start/", headers=bearer() | AT_ONCE)
    for answer in (await http.delete(TEACHER, headers=WEB), await put_teacher(http, zoom_account_id=None)):
        assert (answer.status_code, answer.json()["code"]) == (409, "credential_in_use")
    lease = await own_lease(app)
    assert lease is not None
    broker = services_of(app).broker
    await broker.run(broker.pool("teacher-anna").release([lease.id], ReleaseReason.ENDED))
    assert (await http.delete(TEACHER, headers=WEB)).status_code == 204
    gone = await http.delete(TEACHER, headers=WEB)
    assert (gone.status_code, gone.json()["code"]) == (404, "unknown_teacher")
    assert await broker.redis.keys("zp:credential*") == []


async def test_teachers_see_no_teachers(http: httpx.AsyncClient) -> None:
    for method, path in (("GET", "/api/teachers/"), ("GET", TEACHER), ("PUT", TEACHER), ("DELETE", TEACHER)):
        answer = await http.request(method, path, json={}, headers=bearer())
        assert (answer.status_code, answer.json()["code"]) == (403, "role_required")


def own_body(**changes: Any) -> bytes:
    sent = json.loads(body())
    sent["payload"]["account_id"] = APP["zoom_account_id"]
    return json.dumps(sent | changes).encode()


async def test_webhook_with_the_teachers_own_secret_is_taken_as_the_teachers(
    app: FastAPI, http: httpx.AsyncClient
) -> None:
    await put_teacher(http, **APP)
    raw = own_body()
    headers = signed(raw, APP["zoom_webhook_secret"])
    for address in (HOOK, f"{HOOK}teacher-anna/"):
        assert (await http.post(address, content=raw, headers=headers)).status_code == 200
    ((_, (fields,)),) = jobs_in(app, "webhooks")
    assert fields["credential"] == "teacher-anna"
    # The service's own secret speaks for all hosts; the same event by it is another event.
    assert (await http.post(HOOK, content=raw, headers=signed(raw, WEBHOOK_SECRET))).status_code == 200
    assert {fields["credential"] for _, (fields,) in jobs_in(app, "webhooks")} == {"teacher-anna", ""}


async def test_own_secret_counts_for_its_own_zoom_account_alone(http: httpx.AsyncClient) -> None:
    await put_teacher(http, **APP)
    other = body()
    wrong = [
        (HOOK, other, signed(other, APP["zoom_webhook_secret"])),
        (HOOK, own_body(), signed(own_body(), "guessed")),
        (f"{HOOK}teacher-anna/", own_body(), signed(own_body(), WEBHOOK_SECRET)),
    ]
    for address, raw, headers in wrong:
        answer = await http.post(address, content=raw, headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (401, "bad_signature")
    nobody = await http.post(f"{HOOK}teacher-boris/", content=other, headers=signed(other))
    assert (nobody.status_code, nobody.json()["code"]) == (404, "not_found")


async def test_zooms_check_of_a_teachers_address_is_answered_with_the_teachers_secret(http: httpx.AsyncClient) -> None:
    await put_teacher(http, **APP)
    raw = json.dumps({"event": "endpoint.url_validation", "payload": {"plainToken": "t"}}).encode()
    answer = await http.post(f"{HOOK}teacher-anna/", content=raw, headers=signed(raw, APP["zoom_webhook_secret"]))
    assert (answer.status_code, answer.json()["plainToken"]) == (200, "t")


async def test_registered_title_is_used_for_personal_starts_too(app: FastAPI, http: httpx.AsyncClient) -> None:
    await put_teacher(http, **APP)
    await register(http)
    await http.post(f"{LESSON}start/", headers=bearer() | AT_ONCE)
    lease = await own_lease(app)
    assert lease is not None
    assert (lease.topic, lease.duration_min) == ("Algebra", 45)
