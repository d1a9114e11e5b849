"""What the webhook route takes and refuses."""

from __future__ import annotations

import hashlib
import hmac
import json
import time
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from rq import Queue

from tests.api.conftest import WEBHOOK_SECRET

URL = "/schedule/api/zoom/webhook/"


def signed(raw: bytes, secret: str = WEBHOOK_SECRET, at_s: float | None = None) -> dict[str, str]:
    timestamp = str(int(time.time() if at_s is None else at_s))
    digest = hmac.new(secret.encode(), b"v0:" + timestamp.encode() + b":" + raw, hashlib.sha256).hexdigest()
    return {"x-zm-request-timestamp": timestamp, "x-zm-signature": f"v0={digest}"}


def body(event: str = "meeting.ended", **thing: Any) -> bytes:
    payload = {"account_id": "a", "object": {"id": "98765432101", "uuid": "uuid==", **thing}}
    return json.dumps({"event": event, "event_ts": 1_700_000_000_000, "payload": payload}).encode()


def waiting(app: FastAPI) -> int:
    return Queue("webhooks", connection=app.state.jobs._connection).count


async def test_event_becomes_one_job_however_often_it_comes(app: FastAPI, http: httpx.AsyncClient) -> None:
    raw = body()
    for _ in range(3):
        assert (await http.post(URL, content=raw, headers=signed(raw))).status_code == 200
    assert waiting(app) == 1


async def test_previous_secret_and_an_hour_old_retry_are_taken(app: FastAPI, http: httpx.AsyncClient) -> None:
    raw = body()
    headers = signed(raw, "made-up-previous", time.time() - 85 * 60)
    assert (await http.post(URL, content=raw, headers=headers)).status_code == 200
    assert waiting(app) == 1


@pytest.mark.parametrize("headers", [{}, signed(body(), "wrong"), signed(body(), at_s=0), signed(b"another body")])
async def test_bad_signature_is_401_and_enqueues_nothing(
    app: FastAPI, http: httpx.AsyncClient, headers: dict[str, str]
) -> None:
    assert (await http.post(URL, content=body(), headers=headers)).status_code == 401
    assert waiting(app) == 0


async def test_url_validation_is_answered_with_the_secret(http: httpx.AsyncClient) -> None:
    raw = json.dumps({"event": "endpoint.url_validation", "event_ts": 1, "payload": {"plainToken": "abc"}}).encode()
    answer = await http.post(URL, content=raw, headers=signed(raw))
    expected = hmac.new(WEBHOOK_SECRET.encode(), b"abc", hashlib.sha256).hexdigest()
    assert answer.json() == {"plainToken": "abc", "encryptedToken": expected}


async def test_megabyte_is_refused_and_text_that_is_not_json_too(http: httpx.AsyncClient) -> None:
    huge = b"x" * 1024 * 1024
    assert (await http.post(URL, content=huge, headers=signed(huge))).status_code == 413
    assert (await http.post(URL, content=b"not json", headers=signed(b"not json"))).status_code == 400
