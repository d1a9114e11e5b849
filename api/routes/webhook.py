"""Zoom's webhook: verify, enqueue, 200. Everything else is a job's business.

Zoom repeats what is answered with 5xx or not within three seconds, and never what is answered with 4xx. So each answer
is chosen by whether a repetition would help: an event that nothing can be done about is taken (200) or refused for good
(400), and 503 is for our own outage.
"""

from __future__ import annotations

import asyncio
import dataclasses
import time

import structlog
from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response
from pydantic import SecretStr

from api.deps import ServicesDep
from api.errors import Problem
from api.openapi import problems
from api.schemas import Taken
from api.services import Services
from broker.errors import BrokerUnavailable
from broker.jobs import WEBHOOK_EVENT
from broker.settings import Settings
from broker.zoom import webhooks

log = structlog.get_logger(__name__)

router = APIRouter()

ANSWER_S = 2.5
"""Zoom waits three seconds; past that it would not even learn that we are down."""
HEADERS = [
    {"name": name, "in": "header", "required": False, "schema": {"type": "string"}, "description": text}
    for name, text in (
        ("x-zm-request-timestamp", "Seconds since the epoch."),
        ("x-zm-signature", "`v0=` and the hex HMAC-SHA256 of `v0:{timestamp}:{body}` with the secret token."),
    )
]


@router.post(
    "/schedule/api/zoom/webhook/",
    summary="Take an event from Zoom",
    tags=["zoom"],
    response_model=Taken,
    responses=problems("bad_signature", "bad_webhook", "not_found", bearer=False),
    openapi_extra={
        "parameters": HEADERS,
        "requestBody": {"required": True, "content": {"application/json": {"schema": {"type": "object"}}}},
    },
)
async def receive(request: Request, services: ServicesDep) -> Response:
    """Take an event. Meetings that nobody knows and events that nobody wants are answered with 200, too.

    `endpoint.url_validation` is answered with `plainToken` and `encryptedToken`. Without ZOOMPOOL_WEBHOOK_SECRET there
    is nothing at this address.
    """
    try:
        result, body = await _take(request, services)
    except Problem as problem:
        services.metrics.webhook(problem.code)
        raise
    except BrokerUnavailable as error:
        services.metrics.webhook(error.code)
        raise
    services.metrics.webhook(result)
    return JSONResponse(body)


async def _take(request: Request, services: Services) -> tuple[str, dict[str, str]]:
    """What became of the event, for the count, and the answer."""
    settings = services.settings
    secrets = secrets_of(settings)
    raw = await read_body(request, settings.webhook_max_bytes)
    event = authentic(request, raw, secrets, settings.webhook_window_s)
    if event.event == webhooks.URL_VALIDATION:
        # Zoom checks an address with the secret that it has now, which is the one that just verified.
        return "validation", webhooks.url_validation_answer(event.plain_token, fitting(request, raw, secrets))
    taken = Taken().model_dump()
    if not event.event.startswith(("meeting.", "recording.", "user.")):
        return "ignored", taken
    try:
        async with asyncio.timeout(ANSWER_S):
            job_id = webhooks.dedupe_key(event)
            new = await services.jobs.enqueue(WEBHOOK_EVENT, dataclasses.asdict(event), job_id=job_id)
    except TimeoutError:
        raise BrokerUnavailable("webhook: Redis did not take it in time; Zoom will repeat it") from None
    return "enqueued" if new else "duplicate", taken


def secrets_of(settings: Settings) -> list[SecretStr]:
    """The secrets that a signature may be made with, the current one first.

    Raises:
        Problem: 404; there is none, so this address is not in use.
    """
    found = [s for s in (settings.webhook_secret, settings.webhook_secret_previous) if s.get_secret_value()]
    if not found:
        raise Problem("not_found")
    return found


async def read_body(request: Request, most_bytes: int) -> bytes:
    """The raw body, reading no more than is allowed.

    Raises:
        Problem: 413.
    """
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > most_bytes:
            raise Problem("too_large")
    return bytes(body)


def authentic(request: Request, raw: bytes, secrets: list[SecretStr], window_s: float) -> webhooks.WebhookEvent:
    """The event, if Zoom sent it.

    Raises:
        Problem: 401 if it did not; 400 if it did, and it is not an event. To repeat that would not help, and unlike a
            200 it shows up in Zoom's own record of deliveries.
    """
    try:
        verify(request, raw, secrets, window_s)
    except webhooks.BadSignature as error:
        log.warning("webhook refused", reason=error.reason, error=str(error), bytes=len(raw))
        raise Problem("bad_signature") from None
    try:
        return webhooks.parse(raw)
    except webhooks.BadWebhook as error:
        log.error("webhook with a good signature is unreadable", error=str(error), bytes=len(raw))
        raise Problem("bad_webhook") from None


def fitting(request: Request, raw: bytes, secrets: list[SecretStr]) -> SecretStr:
    """The secret that a verified request was signed with."""
    for secret in secrets[:-1]:
        try:
            verify(request, raw, [secret], float("inf"))
        except webhooks.BadSignature:
            continue
        return secret
    return secrets[-1]


def verify(request: Request, raw: bytes, secrets: list[SecretStr], window_s: float) -> None:
    """See `broker.zoom.webhooks.verify`."""
    timestamp, signature = (request.headers.get(name, "") for name in ("x-zm-request-timestamp", "x-zm-signature"))
    webhooks.verify(raw, timestamp, signature, secrets, time.time(), window_s)
