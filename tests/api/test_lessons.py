"""Looking at lessons and ending them; new lessons and their idempotency keys; who am I."""

from __future__ import annotations

import asyncio

import httpx
from fastapi import FastAPI

from broker.models import Phase, ReleaseReason
from tests.api.acting import AT_ONCE, START_URL, add_account, bearer, claimed, jobs_in, make_ready, services_of
from tests.waiting import wait_until_async

LESSON = "/api/schedule/lessons/7/"
QUICK = "/api/schedule/lessons/quick-start/"
BODY = {"title": "Algebra", "duration": 45, "group_id": 3}


async def test_owner_sees_the_start_link_and_the_web_app_does_not(app: FastAPI, http: httpx.AsyncClient) -> None:
    await add_account(app)
    await http.post(f"{LESSON}start-new/", headers=bearer() | AT_ONCE)
    await make_ready(app, "7")
    own = (await http.get(LESSON, headers=bearer())).json()
    assert (own["status"], own["zoom_start_url"]) == ("ready", START_URL)
    other = (await http.get(LESSON, headers=bearer("web", role="service"))).json()
    assert (other["zoom_start_url"], other["zoom_meeting_id"]) == (None, 98765432101)


async def test_end_waits_until_the_slot_is_free(app: FastAPI, http: httpx.AsyncClient) -> None:
    await add_account(app)
    await http.post(f"{LESSON}start-new/", headers=bearer() | AT_ONCE)
    ending = asyncio.create_task(http.post(f"{LESSON}end/", headers=bearer()))
    lease = await claimed(app, "7")
    assert lease.phase is Phase.CLAIMED

    async def asked() -> bool:
        return ("end_meeting", ["default", str(lease.id), "ended_by_owner", lease.lesson]) in jobs_in(app, "create")

    await wait_until_async(asked, "the end is asked for")
    await services_of(app).broker.run(services_of(app).broker.pool().release([lease.id], ReleaseReason.ENDED_BY_OWNER))
    assert (await ending).json() == {"lesson_id": "7", "status": "ended"}
    again = await http.post(f"{LESSON}end/", headers=bearer())
    assert (again.status_code, again.json()["status"]) == (200, "ended")
    over = (await http.get(LESSON, headers=bearer())).json()
    assert (over["status"], over["reason"], over["code"]) == ("ended", "ended_by_owner", None)


async def test_end_that_takes_longer_is_202_with_a_place_to_look(app: FastAPI, http: httpx.AsyncClient) -> None:
    await add_account(app)
    await http.post(f"{LESSON}start-new/", headers=bearer() | AT_ONCE)
    answer = await http.post(f"{LESSON}end/", headers=bearer() | AT_ONCE)
    assert (answer.status_code, answer.json()) == (202, {"lesson_id": "7", "status": "closing"})
    assert (answer.headers["location"], answer.headers["retry-after"]) == (LESSON, "1")


async def test_unknown_lesson_is_404(http: httpx.AsyncClient) -> None:
    for answer in (await http.get(LESSON, headers=bearer()), await http.post(f"{LESSON}end/", headers=bearer())):
        assert (answer.status_code, answer.json()["code"]) == (404, "lesson_unknown")


async def test_idempotency_key_gives_the_same_lesson_and_refuses_another_body(
    app: FastAPI, http: httpx.AsyncClient
) -> None:
    await add_account(app, capacity=2)
    headers = bearer() | AT_ONCE | {"Idempotency-Key": "click-1"}
    first = await http.post(QUICK, headers=headers, json=BODY)
    second = await http.post(QUICK, headers=headers, json=BODY)
    assert first.status_code == second.status_code == 202
    assert first.json()["lesson_id"] == second.json()["lesson_id"]
    other = await http.post(QUICK, headers=headers, json=BODY | {"duration": 60})
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")


async def test_double_click_starts_one_lesson(app: FastAPI, http: httpx.AsyncClient) -> None:
    await add_account(app, capacity=5)
    headers = bearer() | AT_ONCE | {"Idempotency-Key": "click-1"}
    answers = await asyncio.gather(*(http.post(QUICK, headers=headers, json=BODY) for _ in range(5)))
    assert len({answer.json()["lesson_id"] for answer in answers}) == 1
    assert (await services_of(app).broker.run(services_of(app).broker.pool().status())).lessons == 1


async def test_same_key_of_another_teacher_is_another_lesson(app: FastAPI, http: httpx.AsyncClient) -> None:
    await add_account(app, capacity=2)
    key = AT_ONCE | {"Idempotency-Key": "click-1"}
    lessons = {
        (await http.post(QUICK, headers=bearer(user) | key, json=BODY)).json()["lesson_id"]
        for user in ("anna", "boris")
    }
    assert len(lessons) == 2


async def test_without_a_key_each_click_is_a_lesson(app: FastAPI, http: httpx.AsyncClient) -> None:
    await add_account(app, capacity=2)
    lessons = {(await http.post(QUICK, headers=bearer() | AT_ONCE, json=BODY)).json()["lesson_id"] for _ in range(2)}
    assert len(lessons) == 2


async def test_me_lists_the_lessons_that_hold_hosts(app: FastAPI, http: httpx.AsyncClient) -> None:
    await add_account(app, capacity=2)
    for lesson in ("7", "8"):
        await http.post(f"/api/schedule/lessons/{lesson}/start-new/", headers=bearer() | AT_ONCE)
    await make_ready(app, "7")
    me = (await http.get("/api/me/", headers=bearer())).json()
    assert (me["user_id"], me["role"], me["subscription"]) == ("anna", "teacher", None)
    assert [(one["lesson_id"], one["status"]) for one in me["active_lessons"]] == [("7", "ready"), ("8", "starting")]
    assert all(one["since"].endswith("Z") and one["expires_at"].endswith("Z") for one in me["active_lessons"])
    assert (await http.get("/api/me/", headers=bearer("boris"))).json()["active_lessons"] == []
