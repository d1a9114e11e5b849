"""What the webhook route takes and refuses."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import time
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from pydantic import SecretStr

from api.jobs import Jobs
from api.routes import webhook
from broker.testing.redis_server import RedisServer
from tests.api.acting import jobs_in
from tests.api.conftest import PREVIOUS_SECRET, WEBHOOK_SECRET, api_settings, client, serving

URL = "/schedule/api/zoom/webhook/"


def signed(raw: bytes, secret: str = WEBHOOK_SECRET, at_s: float | None = None) -> dict[str, str]:
    timestamp = str(int(time.time() if at_s is None else at_s))
    digest = hmac.new(secret.encode(), b"v0:" + timestamp.encode() + b":" + raw, hashlib.sha256).hexdigest()
    return {"x-zm-request-timestamp": timestamp, "x-zm-signature": f"v0={digest}", "content-type": "application/json"}


def body(event: str = "meeting.ended", **thing: Any) -> bytes:
    payload = {"account_id": "a", "object": {"id": "98765432101", "uuid": "uuid==", **thing}}
    return json.dumps({"event": event, "event_ts": 1_700_000_000_000, "payload": payload}).encode()


async def send(http: httpx.AsyncClient, raw: bytes, **how: Any) -> httpx.Response:
    return await http.post(URL, content=raw, headers=signed(raw, **how))


def waiting(app: FastAPI) -> int:
    return len(jobs_in(app, "webhooks"))


async def test_event_becomes_one_job_however_often_it_comes(app: FastAPI, http: httpx.AsyncClient) -> None:
    answers = await asyncio.gather(*(send(http, body()) for _ in range(5)))
    assert [(answer.status_code, answer.json()) for answer in answers] == [(200, {"status": "taken"})] * 5
    ((name, (fields,)),) = jobs_in(app, "webhooks")
    assert (name, fields["event"], fields["meeting_id"]) == ("handle_event", "meeting.ended", 98765432101)


async def test_events_are_taken_in_any_order_and_for_any_instance(app: FastAPI, http: httpx.AsyncClient) -> None:
    for event, uuid in (("meeting.ended", "new"), ("meeting.started", "new"), ("meeting.ended", "old")):
        assert (await send(http, body(event, uuid=uuid))).status_code == 200
    assert waiting(app) == 3


async def test_unknown_meetings_are_taken_and_unwanted_events_are_let_go(app: FastAPI, http: httpx.AsyncClient) -> None:
    assert (await send(http, body(id=1))).status_code == 200
    assert waiting(app) == 1
    for event in ("phone.callee_ringing", "something new", "x" * 1000):
        assert (await send(http, body(event))).status_code == 200
    assert waiting(app) == 1


@pytest.mark.parametrize("minutes", [0, 85, 99, -1])
async def test_previous_secret_and_zooms_latest_retry_are_taken(
    app: FastAPI, http: httpx.AsyncClient, minutes: int
) -> None:
    answer = await send(http, body(), secret=PREVIOUS_SECRET, at_s=time.time() - minutes * 60)
    assert (answer.status_code, waiting(app)) == (200, 1)


REFUSED: dict[str, dict[str, Any]] = {
    "nothing": {},
    "no signature": {"x-zm-request-timestamp": str(int(time.time()))},
    "no timestamp": {"x-zm-signature": signed(body())["x-zm-signature"]},
    "wrong secret": signed(body(), "wrong"),
    "another body": signed(b"another body"),
    "too old": signed(body(), at_s=time.time() - 200 * 60),
    "from the future": signed(body(), at_s=time.time() + 200 * 60),
    "no number": signed(body()) | {"x-zm-request-timestamp": "soon"},
    "not ascii": {"x-zm-request-timestamp": "١".encode(), "x-zm-signature": "v0=подпись".encode()},
    "empty": {"x-zm-request-timestamp": "", "x-zm-signature": ""},
}


@pytest.mark.parametrize("headers", REFUSED.values(), ids=REFUSED)
async def test_bad_signature_is_401_and_enqueues_nothing(
    app: FastAPI, http: httpx.AsyncClient, headers: dict[str, Any]
) -> None:
    answer = await http.post(URL, content=body(), headers=list(headers.items()))
    assert (answer.status_code, answer.json()["code"]) == (401, "bad_signature")
    assert waiting(app) == 0


@pytest.mark.parametrize("secret", [WEBHOOK_SECRET, PREVIOUS_SECRET])
async def test_url_validation_is_answered_with_the_secret_that_zoom_uses(http: httpx.AsyncClient, secret: str) -> None:
    raw = json.dumps({"event": "endpoint.url_validation", "event_ts": 1, "payload": {"plainToken": "abc"}}).encode()
    answer = await send(http, raw, secret=secret)
    expected = hmac.new(secret.encode(), b"abc", hashlib.sha256).hexdigest()
    assert (answer.status_code, answer.json()) == (200, {"plainToken": "abc", "encryptedToken": expected})


async def test_url_validation_is_not_answered_to_strangers(http: httpx.AsyncClient) -> None:
    raw = json.dumps({"event": "endpoint.url_validation", "payload": {"plainToken": "abc"}}).encode()
    assert (await send(http, raw, secret="wrong")).status_code == 401


@pytest.mark.parametrize("raw", [b"not json", b"[]", b"", b"{}", b"\xff\xfe", b'{"event": 5.5}', b"[" * 100_000])
async def test_rubbish_is_refused_for_good_when_signed_and_as_unsigned_when_not(
    app: FastAPI, http: httpx.AsyncClient, raw: bytes
) -> None:
    answer = await send(http, raw)
    assert (answer.status_code, answer.json()["code"]) == (400, "bad_webhook")
    assert (await send(http, raw, secret="wrong")).status_code == 401
    assert waiting(app) == 0


async def test_megabyte_is_refused_before_it_is_all_read(app: FastAPI, http: httpx.AsyncClient) -> None:
    huge = body(topic="x" * 1024 * 1024)
    assert (await send(http, huge)).status_code == 413
    read = 0

    async def endless() -> Any:
        nonlocal read
        while True:
            read += 65536
            yield b"x" * 65536

    answer = await http.post(URL, content=endless(), headers=signed(b""))
    assert (answer.status_code, answer.json()["code"]) == (413, "too_large")
    assert read < 2 * 1024 * 1024
    assert waiting(app) == 0


async def test_without_a_secret_there_is_nothing_here(redis_url: str) -> None:
    settings = api_settings(redis_url, webhook_secret=SecretStr(""), webhook_secret_previous=SecretStr(""))
    async with serving(settings) as app, client(app) as http:
        assert (await send(http, body(), secret="")).status_code == 404


async def test_zoom_is_asked_to_repeat_while_redis_is_down() -> None:
    with RedisServer(fsync="no") as server:
        async with serving(api_settings(server.url, redis_timeout_s=1)) as app, client(app) as http:
            assert (await send(http, body())).status_code == 200
            server.kill()
            down = await send(http, body("meeting.started"))
            assert (down.status_code, down.json()["code"]) == (503, "broker_unavailable")
            assert int(down.headers["retry-after"]) > 0
            assert (await http.post(URL, content=body())).status_code == 401
            server.start()
            again = await send(http, body("meeting.started"))
            assert (again.status_code, waiting(app)) == (200, 2)


async def test_zoom_gets_its_answer_in_time_while_redis_hangs(
    app: FastAPI, http: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def hangs(self: Jobs, *args: Any, **more: Any) -> bool:
        await asyncio.Event().wait()
        raise AssertionError("nobody sets that event")

    monkeypatch.setattr(webhook, "ANSWER_S", 0.05)
    monkeypatch.setattr(Jobs, "enqueue", hangs)
    answer = await send(http, body())
    assert (answer.status_code, answer.json()["code"]) == (503, "broker_unavailable")
