"""Zoom's webhook: verify, enqueue, 200. Everything else is a job's business.

Zoom repeats what is answered with 5xx or not within three seconds, and never what is answered with 4xx. So each answer
is chosen by whether a repetition would help: an event that nothing can be done about is taken (200) or refused for good
(400), and 503 is for our own outage.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import time
from collections.abc import Sequence

import structlog
from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response
from pydantic import SecretStr

from api.deps import CredentialName, ServicesDep
from api.errors import Problem
from api.openapi import problems
from api.schemas import Taken
from api.services import Services
from broker.errors import BrokerUnavailable
from broker.jobs import WEBHOOK_EVENT
from broker.registry import credentials
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

    `endpoint.url_validation` is answered with `plainToken` and `encryptedToken`. Events may also be signed with the
    webhook secret of a credential; they count for the hosts of that credential alone. Without
    ZOOMPOOL_WEBHOOK_SECRET, there is nothing at this address for anybody else.
    """
    return await _answer(request, services, "")


@router.post(
    "/schedule/api/zoom/webhook/{credential}/",
    summary="Take an event of one Zoom app",
    tags=["zoom"],
    response_model=Taken,
    responses=problems("bad_signature", "bad_webhook", "not_found", bearer=False),
    openapi_extra={
        "parameters": HEADERS,
        "requestBody": {"required": True, "content": {"application/json": {"schema": {"type": "object"}}}},
    },
)
async def receive_of(request: Request, services: ServicesDep, credential: CredentialName) -> Response:
    """The same for an app with a webhook secret of its own: `teacher-{id}` for a teacher's.

    Zoom's check of the address (`endpoint.url_validation`) does not say whose it is, so it has to stand in the address.
    """
    return await _answer(request, services, credential)


async def _answer(request: Request, services: Services, credential: str) -> Response:
    try:
        result, body = await _take(request, services, credential)
    except Problem as problem:
        services.metrics.webhook(problem.code)
        raise
    except BrokerUnavailable as error:
        services.metrics.webhook(error.code)
        raise
    services.metrics.webhook(result)
    return JSONResponse(body)


async def _take(request: Request, services: Services, credential: str) -> tuple[str, dict[str, str]]:
    """What became of the event, for the count, and the answer."""
    settings = services.settings
    raw = await read_body(request, settings.webhook_max_bytes)
    try:
        async with asyncio.timeout(ANSWER_S):
            signer, secret = await signer_of(request, raw, services, credential)
            event = dataclasses.replace(read(raw), credential=signer)
            if event.event == webhooks.URL_VALIDATION:
                # Zoom checks an address with the secret that it has now, which is the one that just verified.
                return "validation", webhooks.url_validation_answer(event.plain_token, secret)
            taken = Taken().model_dump()
            if not event.event.startswith(("meeting.", "recording.", "user.")):
                return "ignored", taken
            job_id = webhooks.dedupe_key(event)
            new = await services.jobs.enqueue(WEBHOOK_EVENT, dataclasses.asdict(event), job_id=job_id)
    except TimeoutError:
        raise BrokerUnavailable("webhook: Redis did not take it in time; Zoom will repeat it") from None
    return "enqueued" if new else "duplicate", taken


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


async def signer_of(request: Request, raw: bytes, services: Services, credential: str) -> tuple[str, SecretStr]:
    """Whose secret the request was signed with, and that secret; the service's own belong to nobody ("").

    The service's secrets come first. Only where none of them fits, credentials of the Zoom account that the body names
    are looked up: what it says is not believed, it only says which secrets to try.

    Raises:
        Problem: 404 if there is no secret at all, so that this address is not in use; 401 if none fits.
        BrokerUnavailable: Redis did not answer.
    """
    settings = services.settings
    redis, box = services.broker.redis, services.box
    own = [settings.webhook_secret, settings.webhook_secret_previous] if not credential else []
    candidates = [("", secret) for secret in own if secret.get_secret_value()]
    found = fitting(request, raw, candidates)
    if found is None:
        if credential:
            others = await credentials.webhook_secret(redis, box, credential)
        elif signed(request) and (account_id := claimed_account(raw)):
            others = await credentials.webhook_secrets(redis, box, account_id)
        else:
            others = ()
        candidates += others
        found = fitting(request, raw, others)
    if not candidates:
        raise Problem("not_found")
    try:
        verify(request, raw, [found[1]] if found else [], settings.webhook_window_s)
    except webhooks.BadSignature as error:
        log.warning("webhook refused", reason=error.reason, error=str(error), bytes=len(raw))
        raise Problem("bad_signature") from None
    assert found is not None, "without a secret nothing verifies"
    return found


def fitting(request: Request, raw: bytes, candidates: Sequence[tuple[str, SecretStr]]) -> tuple[str, SecretStr] | None:
    """The first whose secret made the signature, whatever its time."""
    for candidate in candidates:
        with contextlib.suppress(webhooks.BadSignature):
            verify(request, raw, [candidate[1]], float("inf"))
            return candidate
    return None


def signed(request: Request) -> bool:
    """Whether there is a signature at all: for a body without one, nothing needs to be looked up."""
    return "x-zm-signature" in request.headers


def claimed_account(raw: bytes) -> str:
    """The Zoom account that a body names; empty if it names none."""
    try:
        return webhooks.parse(raw).account_id
    except webhooks.BadWebhook:
        return ""


def read(raw: bytes) -> webhooks.WebhookEvent:
    """The event in a body that Zoom sent.

    Raises:
        Problem: 400, it is not one. To repeat it would not help, and unlike a 200 it shows up in Zoom's own record of
            deliveries.
    """
    try:
        return webhooks.parse(raw)
    except webhooks.BadWebhook as error:
        log.error("webhook with a good signature is unreadable", error=str(error), bytes=len(raw))
        raise Problem("bad_webhook") from None


def verify(request: Request, raw: bytes, secrets: list[SecretStr], window_s: float) -> None:
    """See `broker.zoom.webhooks.verify`."""
    timestamp, signature = (request.headers.get(name, "") for name in ("x-zm-request-timestamp", "x-zm-signature"))
    webhooks.verify(raw, timestamp, signature, secrets, time.time(), window_s)
