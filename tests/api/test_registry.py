"""Registered lessons over HTTP: who may enter and see them, and what a start makes of them."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from tests.api.acting import AT_ONCE, START_URL, add_account, bearer, claimed, make_ready

LESSONS = "/api/schedule/lessons/"
LESSON = f"{LESSONS}7/"
WEB = bearer("web", role="service")
OPS = bearer("root", role="ops")
BODY = {
    "teacher": "anna",
    "title": "Algebra",
    "group_id": 12,
    "starts_at": "2033-05-18T10:00:00+03:00",
    "duration": 45,
}


async def register(http: httpx.AsyncClient, lesson: str = "7", **changes: Any) -> None:
    answer = await http.put(f"{LESSONS}{lesson}/", json=BODY | changes, headers=WEB)
    assert answer.status_code == 200, answer.text


def ids(answer: httpx.Response) -> list[str]:
    assert answer.status_code == 200, answer.text
    return [lesson["lesson_id"] for lesson in answer.json()["lessons"]]


async def test_registered_lesson_is_shown_to_its_teacher_and_forgotten_when_told(http: httpx.AsyncClient) -> None:
    await register(http)
    seen = (await http.get(LESSON, headers=bearer())).json()
    assert (seen["status"], seen["registered"]) == (
        "planned",
        {
            "teacher": "anna",
            "title": "Algebra",
            "group_id": "12",
            "starts_at": "2033-05-18T07:00:00Z",
            "duration": 45,
        },
    )
    assert (await http.delete(LESSON, headers=WEB)).status_code == 204
    for again in (await http.get(LESSON, headers=bearer()), await http.delete(LESSON, headers=WEB)):
        assert (again.status_code, again.json()["code"]) == (404, "lesson_unknown")


async def test_teachers_register_nothing(http: httpx.AsyncClient) -> None:
    for answer in (
        await http.put(LESSON, json=BODY, headers=bearer()),
        await http.delete(LESSON, headers=bearer()),
    ):
        assert (answer.status_code, answer.json()["code"]) == (403, "role_required")


@pytest.mark.parametrize(
    "changes",
    [
        {"teacher": "a b"},
        {"teacher": ""},
        {"group_id": "a b"},
        {"starts_at": "tomorrow"},
        {"starts_at": "2033-05-18T10:00:00"},
        {"duration": 0},
        {"titel": "Algebra"},
    ],
)
async def test_a_lesson_that_makes_no_sense_is_refused(http: httpx.AsyncClient, changes: dict[str, Any]) -> None:
    answer = await http.put(LESSON, json=BODY | changes, headers=WEB)
    assert answer.status_code == 422


async def test_start_uses_what_is_registered_of_the_lesson(app: FastAPI, http: httpx.AsyncClient) -> None:
    await add_account(app)
    await register(http)
    started = await http.post(f"{LESSON}start-new/", json={"title": "Fun", "duration": 5}, headers=bearer() | AT_ONCE)
    assert started.status_code == 202
    lease = await claimed(app, "7")
    assert (lease.owner, lease.topic, lease.duration_min) == ("anna", "Algebra", 45)


async def test_the_web_app_need_not_say_whose_registered_lesson_it_starts(
    app: FastAPI, http: httpx.AsyncClient
) -> None:
    await add_account(app)
    await register(http)
    wrong = await http.post(f"{LESSON}start-new/", json={"owner": "boris"}, headers=WEB | AT_ONCE)
    assert (wrong.status_code, wrong.json()["code"]) == (403, "lesson_of_another_teacher")
    assert (await http.post(f"{LESSON}start-new/", headers=WEB | AT_ONCE)).status_code == 202
    assert (await claimed(app, "7")).owner == "anna"


async def test_another_teachers_lesson_can_neither_be_started_seen_nor_ended(
    app: FastAPI, http: httpx.AsyncClient
) -> None:
    await add_account(app, capacity=2)
    await register(http)
    boris = bearer("boris") | AT_ONCE

    async def all_are_refused() -> None:
        for answer in (
            await http.post(f"{LESSON}start-new/", headers=boris),
            await http.post(f"{LESSON}start/", headers=boris),
            await http.post(f"{LESSON}end/", headers=boris),
            await http.get(LESSON, headers=boris),
            await http.get(LESSONS, params={"teacher": "anna"}, headers=boris),
        ):
            assert (answer.status_code, answer.json()["code"]) == (403, "lesson_of_another_teacher")
            assert START_URL not in answer.text
        assert ids(await http.get(LESSONS, headers=boris)) == []

    await all_are_refused()
    await http.post(f"{LESSON}start-new/", headers=bearer() | AT_ONCE)
    await make_ready(app, "7")
    await all_are_refused()
    # Given to Boris while Anna's lesson runs, it still is Anna's meeting.
    await register(http, teacher="boris")
    seen = await http.get(LESSON, headers=boris)
    assert (seen.status_code, seen.json()["zoom_start_url"]) == (200, None)
    assert (await http.post(f"{LESSON}start-new/", headers=boris)).status_code == 403
    assert (await http.get(LESSON, headers=bearer())).json()["zoom_start_url"] == START_URL


async def test_list_goes_by_teacher_group_status_and_time(app: FastAPI, http: httpx.AsyncClient) -> None:
    await add_account(app)
    await register(http)
    await register(http, "8", teacher="boris", starts_at="2033-05-18T08:00:00Z")
    await register(http, "9", group_id="b", starts_at="2033-05-19T07:00:00Z")
    await http.post(f"{LESSON}start-new/", headers=bearer() | AT_ONCE)

    async def listed(headers: dict[str, str] = WEB, **params: str) -> list[str]:
        return ids(await http.get(LESSONS, params=params, headers=headers))

    assert await listed() == ["7", "8", "9"]
    assert await listed(bearer()) == ["7", "9"]
    assert await listed(teacher="boris") == ["8"]
    assert await listed(group="12") == ["7", "8"]
    assert await listed(status="starting") == ["7"]
    assert await listed(status="planned") == ["8", "9"]
    assert await listed(starts_from="2033-05-18T08:00:00Z") == ["8", "9"]
    assert await listed(starts_before="2033-05-18T08:00:00Z") == ["7"]


async def test_list_is_read_page_by_page(http: httpx.AsyncClient) -> None:
    for number in range(7):
        await register(http, f"l{number}")
    seen: list[str] = []
    cursor = ""
    while cursor is not None:
        answer = await http.get(LESSONS, params={"limit": "3", "cursor": cursor}, headers=OPS)
        seen += ids(answer)
        cursor = answer.json()["next"]
    assert seen == [f"l{number}" for number in range(7)]
    wrong = await http.get(LESSONS, params={"cursor": "made up"}, headers=OPS)
    assert (wrong.status_code, wrong.json()["code"]) == (422, "invalid_name")


async def test_quick_lesson_is_registered_by_its_start(app: FastAPI, http: httpx.AsyncClient) -> None:
    await add_account(app)
    body = {"title": "Algebra", "duration": 45, "group_id": 3}
    quick = (await http.post(f"{LESSONS}quick-start/", json=body, headers=bearer() | AT_ONCE)).json()
    (listed,) = (await http.get(LESSONS, params={"group": "3"}, headers=bearer())).json()["lessons"]
    assert listed["lesson_id"] == quick["lesson_id"]
    assert listed["registered"]["title"] == "Algebra"
