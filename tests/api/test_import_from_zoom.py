"""Accounts from Zoom's list over HTTP: what the worker's job returns is answered, joined, and told once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from rq.serializers import JSONSerializer

from api import importing
from api.messages import PROBLEMS
from broker.jobs import IMPORT_ACCOUNTS, QueueName
from broker.redis import connect
from tests.api.acting import AT_ONCE, jobs_in, services_of
from tests.api.test_registry import OPS, WEB
from tests.waiting import wait_until_async
from workers import import_accounts
from workers.concurrent import ConcurrentWorker
from workers.queues import open_queue

IMPORT = "/api/pools/default/accounts/import-from-zoom/"
ROW = {"id": "a@s.e", "email": "a@s.e", "zoom_user_id": "A1", "credential": "default", "capacity": 2}
UNDER_WAY = {"status": "importing", "pool": "default", "credential": "default", "dry_run": False}

Play = Callable[..., None]


def refusal(code: str, **more: Any) -> dict[str, Any]:
    """What the job returns when it added nothing."""
    return {"code": code, "mistakes": [], "taken": {}} | more


@pytest.fixture
def play(monkeypatch: pytest.MonkeyPatch) -> Play:
    """Say what the job returns from now on; a list is what it does in one run after the other, errors are raised."""

    def play(*scenes: Any) -> None:
        left = list(scenes)

        async def job(pool: str, credential: str, dry_run: bool) -> Any:
            scene = left.pop(0) if len(left) > 1 else left[0]
            if isinstance(scene, Exception):
                raise scene
            return scene

        monkeypatch.setattr(import_accounts, "import_accounts", job)

    play({"accounts": [ROW]})
    return play


@pytest.fixture
async def school(http: httpx.AsyncClient, play: Play) -> httpx.AsyncClient:
    """Two credentials, and no accounts."""
    for name in ("default", "other"):
        sent = {"account_id": "acc", "client_id": "cli", "client_secret": "made-up"}
        assert (await http.put(f"/api/credentials/{name}/", json=sent, headers=WEB)).status_code == 200
    return http


def jobs(app: FastAPI) -> list[list[Any]]:
    """The arguments of the jobs that wait."""
    found = jobs_in(app, QueueName.CREATE)
    assert all(function == "import_accounts" for function, _ in found)
    return [arguments for _, arguments in found]


async def work(app: FastAPI) -> None:
    """Run whatever waits, as the worker of that queue."""

    def burst() -> None:
        connection = connect(services_of(app).settings, decode_responses=False)
        try:
            queue = open_queue(QueueName.CREATE, connection)
            worker = ConcurrentWorker([queue], connection=connection, serializer=JSONSerializer)
            worker.work(burst=True, logging_level="CRITICAL")
        finally:
            connection.close()

    await asyncio.to_thread(burst)


async def ask(http: httpx.AsyncClient, headers: dict[str, str] = AT_ONCE, **body: Any) -> httpx.Response:
    return await http.post(IMPORT, json=body, headers=OPS | headers)


async def answered(app: FastAPI, http: httpx.AsyncClient, **body: Any) -> httpx.Response:
    """The answer to somebody who waits until the job is done."""
    asked = asyncio.create_task(ask(http, {"Prefer": "wait=20"}, **body))

    async def enqueued() -> bool:
        return bool(jobs(app))

    await wait_until_async(enqueued, "the job waits")
    await work(app)
    return await asked


async def test_accounts_that_the_job_made_are_the_answer(app: FastAPI, school: httpx.AsyncClient) -> None:
    answer = await answered(app, school)
    assert (answer.status_code, answer.json()) == (200, {"accounts": [ROW]})
    assert answer.headers["preference-applied"] == "wait=20"
    assert (await school.post(IMPORT, headers=WEB | AT_ONCE)).status_code == 202, "a body is not needed"


async def test_job_gets_ids_and_the_default_credential(app: FastAPI, school: httpx.AsyncClient) -> None:
    for body in ({}, {"credential": "default"}, {"dry_run": True}, {"credential": "other"}):
        assert (await ask(school, **body)).status_code == 202
    assert jobs(app) == [["default", "default", False], ["default", "default", True], ["default", "other", False]]


async def test_same_request_joins_the_job_and_is_told_how_it_ended(app: FastAPI, school: httpx.AsyncClient) -> None:
    for _ in range(2):
        answer = await ask(school)
        assert (answer.status_code, answer.json()) == (202, UNDER_WAY)
        assert answer.headers["retry-after"] == "1"
    assert len(jobs(app)) == 1
    await work(app)
    assert (await ask(school)).json() == {"accounts": [ROW]}
    assert jobs(app) == []


async def test_request_after_somebody_was_told_asks_zoom_anew(
    app: FastAPI, school: httpx.AsyncClient, play: Play
) -> None:
    play(refusal("zoom_scope_missing"), {"accounts": [ROW]})
    assert (await answered(app, school)).json()["code"] == "zoom_scope_missing"
    assert (await answered(app, school)).json() == {"accounts": [ROW]}


async def test_all_who_wait_for_one_job_are_told(app: FastAPI, school: httpx.AsyncClient) -> None:
    others = [asyncio.create_task(ask(school, {"Prefer": "wait=20"})) for _ in range(5)]
    answers = [await answered(app, school), *await asyncio.gather(*others)]
    assert [answer.json() for answer in answers] == [{"accounts": [ROW]}] * 6
    assert jobs(app) == []


async def test_job_that_is_not_there_although_somebody_meant_to_enqueue_it_is_enqueued(
    app: FastAPI, school: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def killed(*_: object, **__: object) -> bool:
        raise RuntimeError

    with monkeypatch.context() as patched:
        patched.setattr(type(services_of(app).jobs), "enqueue", killed)
        assert (await ask(school)).status_code == 500
    assert jobs(app) == []
    assert (await answered(app, school)).status_code == 200


async def test_one_who_was_told_late_leaves_the_next_job_to_others(app: FastAPI, school: httpx.AsyncClient) -> None:
    redis = services_of(app).broker.redis
    key = services_of(app).broker.pool().keys.guard("import:default")
    assert (await ask(school)).status_code == 202
    await importing._told(redis, key, "import-of-before")
    assert (await ask(school)).status_code == 202
    assert len(jobs(app)) == 1


async def test_job_that_failed_and_is_tried_again_is_waited_for(
    app: FastAPI, school: httpx.AsyncClient, play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importing, "IMPORT_ACCOUNTS", replace(IMPORT_ACCOUNTS, retry_after_s=(0,)))
    play(OSError("Redis is away"), {"accounts": []})
    assert (await answered(app, school)).json() == {"accounts": []}


async def test_job_that_failed_for_good_is_500_and_the_next_request_is_a_new_one(
    app: FastAPI, school: httpx.AsyncClient, play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importing, "IMPORT_ACCOUNTS", replace(IMPORT_ACCOUNTS, retry_after_s=()))
    play(OSError("Redis is away"), {"accounts": []})
    failed = await answered(app, school)
    assert (failed.status_code, failed.json()["code"]) == (500, "internal_error")
    assert (await answered(app, school)).json() == {"accounts": []}


REFUSALS = (
    "zoom_credential_rejected",
    "zoom_scope_missing",
    "zoom_rate_limited",
    "zoom_rate_budget",
    "zoom_timeout",
    "zoom_unavailable",
    "unknown_credential",
)


@pytest.mark.parametrize("code", REFUSALS)
async def test_refusal_has_the_same_code_as_elsewhere(
    app: FastAPI, school: httpx.AsyncClient, play: Play, code: str
) -> None:
    play(refusal(code))
    answer = await answered(app, school)
    assert (answer.status_code, answer.json()["code"]) == (PROBLEMS[code].status, code)
    assert not {"mistakes", "taken"} & answer.json().keys()


async def test_user_who_cannot_be_an_account_is_named(app: FastAPI, school: httpx.AsyncClient, play: Play) -> None:
    play(refusal("import_refused", mistakes=["Zoom's user 'ü' cannot be named; add it by hand"]))
    answer = await answered(app, school)
    assert (answer.status_code, answer.json()["mistakes"]) == (422, ["Zoom's user 'ü' cannot be named; add it by hand"])


async def test_users_who_are_two_accounts_are_named(app: FastAPI, school: httpx.AsyncClient, play: Play) -> None:
    play(refusal("host_taken", taken={"host-1": "host-2"}))
    answer = await answered(app, school)
    assert (answer.status_code, answer.json()["code"]) == (409, "host_taken")
    assert answer.json()["taken"] == {"host-1": "host-2"}


@pytest.mark.parametrize("code", ["secret_unreadable", "guard_lost"])
async def test_refusal_that_callers_know_nothing_of_is_500(
    app: FastAPI, school: httpx.AsyncClient, play: Play, code: str
) -> None:
    play(refusal(code))
    answer = await answered(app, school)
    assert (answer.status_code, answer.json()["code"]) == (500, "internal_error")


@pytest.mark.parametrize(
    ("path", "body", "status", "code"),
    [
        (IMPORT, {"credential": "nothing"}, 404, "unknown_credential"),
        (IMPORT, {"credential": "a b"}, 422, "invalid_request"),
        (IMPORT, {"dry_run": "perhaps"}, 422, "invalid_request"),
        (IMPORT, {"dry-run": True}, 422, "invalid_request"),
        (IMPORT.replace("default", "teacher-anna"), {}, 422, "invalid_name"),
    ],
)
async def test_request_that_cannot_be_meant_is_refused_without_a_job(
    app: FastAPI, school: httpx.AsyncClient, path: str, body: dict[str, Any], status: int, code: str
) -> None:
    answer = await school.post(path, json=body, headers=WEB)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert jobs(app) == []
