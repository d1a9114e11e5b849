"""The guide for Django, done: tokens as SimpleJWT mints them, notifications into the lesson's record."""

from __future__ import annotations

import httpx

from broker.testing.stack import Stack
from tests.django.conftest import Site
from tests.waiting import wait_until, wait_until_async

PATIENCE_S = 40.0


def start(stack: Stack, token: str, lesson: int, **body: str) -> httpx.Response:
    return httpx.post(
        f"{stack.api_url}/api/schedule/lessons/{lesson}/start-new/",
        headers={"Authorization": f"Bearer {token}"},
        json=body,
        timeout=40,
        trust_env=False,
    )


async def test_lesson_started_with_djangos_token_gets_its_meeting_id_and_loses_it_when_it_ends(
    together: tuple[Stack, Site],
) -> None:
    stack, site = together
    answer = start(stack, site.token("anna"), 1)
    assert answer.status_code == 200, answer.text
    links = answer.json()
    wait_until(lambda: site.lesson(1)[2] == "ready", "the web app is told that the lesson is ready", PATIENCE_S)
    assert site.lesson(1) == (links["zoom_meeting_id"], links["zoom_join_url"], "ready")
    async with stack.school() as people:
        await people.join(links["zoom_meeting_id"], "anna", start_url=links["zoom_start_url"])

        async def live() -> bool:
            return site.lesson(1)[2] == "live"

        await wait_until_async(live, "the web app is told that the lesson runs", PATIENCE_S)
        await people.end_in_zoom(links["zoom_meeting_id"])
    wait_until(lambda: site.lesson(1)[2] == "ended", "the web app is told that the lesson is over", PATIENCE_S)
    assert site.lesson(1) == (links["zoom_meeting_id"], "", "ended")


def test_web_apps_own_token_acts_for_a_teacher(together: tuple[Stack, Site]) -> None:
    stack, site = together
    token = site.run("import django; django.setup()\nfrom school.tokens import service_token\nprint(service_token())")
    answer = start(stack, token, 2, owner="2")
    assert answer.status_code == 200, answer.text
    wait_until(lambda: site.lesson(2)[0], "the web app is told of the meeting", PATIENCE_S)
    url = f"{stack.api_url}/api/schedule/lessons/2/end/"
    answer = httpx.post(url, headers={"Authorization": f"Bearer {token}"}, timeout=40, trust_env=False)
    assert answer.is_success, answer.text
    wait_until(lambda: site.lesson(2)[2] == "ended", "the web app is told that the lesson is over", PATIENCE_S)


def test_refresh_token_is_not_an_access_token(together: tuple[Stack, Site]) -> None:
    stack, site = together
    pair = httpx.post(
        f"{site.url}/api/token/", json={"username": "anna", "password": "made-up-anna"}, timeout=20, trust_env=False
    ).json()
    assert start(stack, pair["refresh"], 1).status_code == 401


def test_unsigned_notification_changes_nothing(together: tuple[Stack, Site]) -> None:
    _, site = together
    before = site.lesson(2)
    body = {"type": "lesson.failed", "timestamp": "2030-01-01T00:00:00Z", "data": {"lesson_id": "2"}}
    answer = httpx.post(f"{site.url}/zoom/notifications/", json=body, timeout=20, trust_env=False)
    assert answer.status_code == 401
    assert site.lesson(2) == before
