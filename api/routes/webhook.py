"""Zoom's webhook: verify, enqueue, 200. Everything else is a job's business."""

from __future__ import annotations

import dataclasses
import time
from typing import Any

from fastapi import APIRouter, Request

from api.errors import Problem
from broker.jobs import WEBHOOK_EVENT
from broker.zoom import webhooks

router = APIRouter()


async def read_body(request: Request, most: int) -> bytes:
    """The raw body, reading no more than is allowed."""
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > most:
            raise Problem(413, "too_large")
    return body


@router.post("/schedule/api/zoom/webhook/")
async def receive(request: Request) -> dict[str, Any]:
    """Take an event. 401 only for a bad signature: Zoom never repeats what is answered with 4xx."""
    settings = request.app.state.settings
    secrets = [s for s in (settings.webhook_secret, settings.webhook_secret_previous) if s.get_secret_value()]
    if not secrets:
        raise Problem(404, "not_found")
    raw = await read_body(request, settings.webhook_max_bytes)
    try:
        webhooks.verify(
            raw,
            request.headers.get("x-zm-request-timestamp", ""),
            request.headers.get("x-zm-signature", ""),
            secrets,
            time.time(),
            settings.webhook_window_s,
        )
        event = webhooks.parse(raw)
    except webhooks.BadSignature:
        raise Problem(401, "bad_signature") from None
    except webhooks.BadWebhook:
        raise Problem(400, "bad_webhook") from None
    if event.event == webhooks.URL_VALIDATION:
        return dict(webhooks.url_validation_answer(event.plain_token, secrets[0]))
    if event.event.startswith(("meeting.", "user.")):
        job_id = webhooks.dedupe_key(event)
        await request.app.state.jobs.enqueue(WEBHOOK_EVENT, dataclasses.asdict(event), job_id=job_id)
    return {"status": "taken"}
