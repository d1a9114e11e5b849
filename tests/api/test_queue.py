"""Starts that wait in line for a host."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from api import events
from api.lessons import Start
from broker.models import Lease, ReleaseReason
from tests.api.acting import AT_ONCE, add_account, bearer, jobs_in, lease_of, make_ready, services_of
from tests.api.conftest import api_settings, client, serving
from tests.waiting import wait_until_async

PATIENT = {"Prefer": "wait=30"}


def path(lesson: str, rest: str = "start-new/") -> str:
    return f"/api/schedule/lessons/{lesson}/{rest}"


@pytest.fixture
async def app(redis_url: str) -> AsyncIterator[FastAPI]:
    """A pool of one host, which the lesson `first` has."""
    async with serving(api_settings(redis_url, ticket_ttl_s=3)) as application:
        await add_account(application)
        async with client(application) as http:
            assert (await http.post(path("first"), headers=bearer("first") | AT_ONCE)).status_code == 202
        yield application


async def free(app: FastAPI, lesson: str) -> None:
    """End a lesson, so that its host is free."""
    services = services_of(app)
    lease = await lease_of(app, lesson)
    assert lease is not None
    await services.broker.run(services.broker.pool().release([lease.id], ReleaseReason.ENDED))


async def in_line(app: FastAPI) -> list[str]:
    """Who waits, first in line first."""
    services = services_of(app)
    found: Any = await services.broker.redis.zrange(services.broker.pool().keys.waiting, 0, -1)
    return list(found)


async def stands(app: FastAPI, *lessons: str) -> None:
    """Wait until these are in line."""

    async def so() -> bool:
        return await in_line(app) == list(lessons)

    await wait_until_async(so, f"{lessons} are in line")


async def granted(app: FastAPI, lesson: str) -> Lease:
    found = await wait_until_async(lambda: lease_of(app, lesson), f"{lesson} has a host")
    assert found is not None
    return found


async def test_who_waits_gets_the_next_host_in_the_order_of_arrival(app: FastAPI, http: httpx.AsyncClient) -> None:
    starting = {}
    for number, lesson in enumerate(("a", "b"), 1):
        starting[lesson] = asyncio.create_task(http.post(path(lesson), headers=bearer(lesson) | PATIENT))
        await stands(app, *list(starting)[:number])
    for lesson, before in (("a", "first"), ("b", "a")):
        await free(app, before)
        await make_ready(app, lesson, meeting_id=ord(lesson))
        answer = await starting[lesson]
        assert (answer.status_code, answer.json()["lesson_id"]) == (200, lesson)
    assert [arguments[1].rsplit("@")[0] for _, arguments in jobs_in(app, "create")] == ["host#0"] * 3


async def test_past_the_wait_the_answer_is_the_place_in_line(app: FastAPI, http: httpx.AsyncClient) -> None:
    await http.post(path("a"), headers=bearer("a") | AT_ONCE)
    answer = await http.post(path("b"), headers=bearer("b") | AT_ONCE)
    assert answer.status_code == 202
    assert (answer.json()["status"], answer.json()["position"]) == ("queued", 2)
    assert "estimate_s" in answer.json()
    assert answer.headers["location"] == path("b", "")
    state = (await http.get(path("b", ""), headers=bearer("b"))).json()
    assert (state["status"], state["position"]) == ("queued", 2)
    assert (await http.get(path("b", ""), headers=bearer("boris"))).status_code == 403


async def test_place_is_kept_while_the_request_waits_and_lapses_soon_after_nobody_asks(
    app: FastAPI, http: httpx.AsyncClient
) -> None:
    starting = asyncio.create_task(http.post(path("a"), headers=bearer("a") | {"Prefer": "wait=8"}))
    await stands(app, "a")
    await http.post(path("b"), headers=bearer("b") | AT_ONCE)
    assert (await starting).json()["position"] == 1, "longer than a ticket lives unheard of"
    await wait_until_async(lambda: gone(app, http, "b"), "the place that nobody asks for is gone")


async def gone(app: FastAPI, http: httpx.AsyncClient, lesson: str) -> bool:
    await http.post(path("visitor"), headers=bearer("visitor"))  # any claim drops what has lapsed
    return lesson not in await in_line(app)


async def test_caller_who_hangs_up_gives_his_place_to_the_next(app: FastAPI, http: httpx.AsyncClient) -> None:
    impatient = asyncio.create_task(http.post(path("a"), headers=bearer("a") | PATIENT))
    await stands(app, "a")
    patient = asyncio.create_task(http.post(path("b"), headers=bearer("b") | PATIENT))
    await stands(app, "a", "b")
    impatient.cancel()
    await stands(app, "b")
    await free(app, "first")
    await make_ready(app, "b")
    assert (await patient).status_code == 200


async def test_server_stops_a_start_when_it_says_that_the_caller_hung_up(app: FastAPI) -> None:
    left = asyncio.Event()
    sent: list[Any] = []
    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "POST", "scheme": "http",
        "path": path("a"), "raw_path": path("a").encode(), "query_string": b"", "root_path": "",
        "client": ("192.0.2.1", 1), "server": ("api.test", 80),
        "headers": [(k.lower().encode(), v.encode()) for k, v in (bearer("a") | PATIENT).items()],
    }  # fmt: skip
    messages = [{"type": "http.request", "body": b"", "more_body": False}]

    async def receive() -> dict[str, object]:
        if messages:
            return messages.pop()
        await left.wait()
        return {"type": "http.disconnect"}

    async def send(message: object) -> None:
        sent.append(message)

    serving_it = asyncio.create_task(app(scope, receive, send))
    await stands(app, "a")
    left.set()
    await serving_it
    assert sent[0]["status"] == 499
    await stands(app)


async def test_start_that_says_nothing_about_waiting_is_refused_at_once(app: FastAPI, http: httpx.AsyncClient) -> None:
    for headers in ({}, {"Prefer": "wait=0"}):
        answer = await http.post(path("a"), headers=bearer("a") | headers)
        assert (answer.status_code, answer.json()["code"]) == (503, "pool_exhausted")
    assert await in_line(app) == []


@pytest.mark.parametrize(("setting", "headers", "waits"), [("always", {}, True), ("never", AT_ONCE, False)])
async def test_setting_says_who_may_wait(redis_url: str, setting: str, headers: dict[str, str], waits: bool) -> None:
    settings = api_settings(redis_url, queue_starts=setting, wait_default_s=0.1)
    async with serving(settings) as app, client(app) as http:
        await add_account(app)
        await http.post(path("first"), headers=bearer("first") | AT_ONCE)
        answer = await http.post(path("a"), headers=bearer("a") | headers)
        assert answer.status_code == (202 if waits else 503)


async def test_full_queue_says_so(redis_url: str) -> None:
    async with serving(api_settings(redis_url, queue_max=1)) as app, client(app) as http:
        await add_account(app)
        for lesson in ("first", "a"):
            assert (await http.post(path(lesson), headers=bearer(lesson) | AT_ONCE)).status_code == 202
        answer = await http.post(path("b"), headers=bearer("b") | AT_ONCE)
        assert (answer.status_code, answer.json()["code"]) == (503, "queue_full")
        assert int(answer.headers["retry-after"]) >= 1
        assert answer.json()["waiting"] == 1


async def test_operator_stands_in_front(app: FastAPI, http: httpx.AsyncClient) -> None:
    await http.post(path("a"), headers=bearer("a") | AT_ONCE)
    answer = await http.post(path("b"), headers=bearer("root", role="ops") | AT_ONCE, json={"owner": "b"})
    assert answer.json()["position"] == 1
    assert await in_line(app) == ["b", "a"]


async def test_ending_a_lesson_that_waits_gives_up_its_place(app: FastAPI, http: httpx.AsyncClient) -> None:
    await http.post(path("a"), headers=bearer("a") | AT_ONCE)
    assert (await http.post(path("a", "end/"), headers=bearer("a"))).json()["status"] == "ended"
    assert await in_line(app) == []


async def test_operators_see_the_queue_and_the_forecast(app: FastAPI, http: httpx.AsyncClient) -> None:
    for lesson in ("a", "b"):
        await http.post(path(lesson), headers=bearer(f"owner-of-{lesson}") | AT_ONCE)
    ops = bearer("root", role="ops")
    found = (await http.get("/api/pools/default/queue/", headers=ops)).json()
    assert (found["length"], [(t["position"], t["lesson_id"], t["owner"]) for t in found["tickets"]]) == (
        2, [(1, "a", "owner-of-a"), (2, "b", "owner-of-b")]
    )  # fmt: skip
    forecast = (await http.get("/api/pools/default/forecast/?quarters=4", headers=ops)).json()
    assert (forecast["free_now"], [each["free"] for each in forecast["quarters"]]) == (0, [1] * 4)
    assert (await http.get("/api/pools/default/queue/", headers=bearer())).status_code == 403


async def read(lessons: str, app: FastAPI, who: str, seen: list[tuple[str, dict[str, object]]]) -> int:
    """Read a lesson's events to the end; the answer's status."""
    async with client(app) as http:
        answer = await http.get(path(lessons, "events/"), headers=bearer(who), timeout=30)
    for block in answer.text.split("\n\n"):
        if block.startswith("event: "):
            name, data = block.split("\n", 1)
            seen.append((name.removeprefix("event: "), json.loads(data.removeprefix("data: "))))
    return answer.status_code


async def test_events_tell_the_way_and_keep_the_place(
    app: FastAPI, http: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "TELL_S", 0.1)
    for lesson in "ab":
        await http.post(path(lesson), headers=bearer(lesson) | AT_ONCE)
    stream = events.stream(services_of(app).lessons, Start("b", "b", queue=True), "ru")
    assert await told(stream) == ("progress", "queued", 2)
    assert (await anext(stream)).startswith(":"), "a sign of life"
    await wait_until_async(lambda: gone(app, http, "a"), "nobody asks for a any more")
    assert await told(stream) == ("progress", "queued", 1)
    await free(app, "first")
    assert await told(stream) == ("progress", "starting", None)
    await make_ready(app, "b")
    assert await told(stream) == ("ready", "ready", None)
    assert [rest async for rest in stream] == []


async def told(stream: AsyncIterator[str]) -> tuple[str, object, object]:
    """The next event that says more than an estimate: name, status, position."""
    while (text := await anext(stream)).startswith(":"):
        pass
    name, data = text.rstrip().split("\n")
    body = json.loads(data.removeprefix("data: "))
    return name.removeprefix("event: "), body["status"], body.get("position")


async def test_events_of_a_failed_start_end_with_its_code(app: FastAPI) -> None:
    seen: list[tuple[str, dict[str, object]]] = []
    reading = asyncio.create_task(read("first", app, "first", seen))
    services = services_of(app)
    lease = await granted(app, "first")
    await wait_until_async(lambda: watched(app, "first"), "somebody follows")
    await services.broker.run(services.broker.pool().release([lease.id], ReleaseReason.FAILED, detail="zoom_timeout"))
    assert await reading == 200
    assert seen[-1] == (
        "failed",
        {"status": "failed", "code": "zoom_timeout", "detail": "Zoom не ответил вовремя, попробуйте ещё раз"},
    )


async def watched(app: FastAPI, lesson: str) -> bool:
    return bool(services_of(app).metrics.waiters._value.get() > 0)


async def test_events_are_for_the_teacher_alone(app: FastAPI, http: httpx.AsyncClient) -> None:
    assert (await http.get(path("first", "events/"), headers=bearer("boris"))).status_code == 403
    assert (await http.get(path("unknown", "events/"), headers=bearer("boris"))).status_code == 404
