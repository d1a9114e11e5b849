"""For machines: is the process alive, can it do its work, what are the counts."""

from __future__ import annotations

import asyncio
from http import HTTPStatus

import structlog
from fastapi import APIRouter, Response
from prometheus_client import CONTENT_TYPE_LATEST

from api.deps import ServicesDep
from api.openapi import problems
from api.pool_metrics import measure
from api.schemas import Alive, Check, Readiness
from api.services import Services
from broker.client import translated
from broker.errors import ZoomPoolError
from broker.fitness import unfit
from broker.scripts import load_all

log = structlog.get_logger(__name__)

router = APIRouter(tags=["machines"])

CHECK_S = 5.0
REDIS_CHECKS = ("redis", "version", "eviction", "primary", "scripts")


@router.get("/healthz", summary="Is the process alive", responses=problems(bearer=False))
async def alive() -> Alive:
    """The process runs. Restart it when this does not answer, and not when `/readyz` says no."""
    return Alive()


@router.get(
    "/readyz",
    summary="Can the process do its work",
    responses=problems(bearer=False)
    | {503: {"model": Readiness, "description": "Send it no requests; `reason` says why."}},
)
async def ready(services: ServicesDep, response: Response) -> Readiness:
    """Redis answers, is fit to hold leases and takes the scripts, and this process hears of events."""
    reasons = await redis_reasons(services)
    reasons["events"] = "" if services.hub.connected else "the connection that hears of events is down; it tries again"
    good = not any(reasons.values())
    if not good:
        log.warning("not ready", **{name: reason for name, reason in reasons.items() if reason})
        response.status_code = HTTPStatus.SERVICE_UNAVAILABLE
    return Readiness(ready=good, checks={name: Check(ok=not reason, reason=reason) for name, reason in reasons.items()})


async def redis_reasons(services: Services) -> dict[str, str]:
    """What is wrong with Redis, by the name of the check."""
    redis = services.broker.redis
    try:
        async with asyncio.timeout(CHECK_S):
            with translated("readiness"):
                reasons = {"redis": "", **unfit(await redis.info())}
                texts = {script.sha: script.text for script in load_all()}
                known = await redis.script_exists(*texts)
                for sha, there in zip(texts, known, strict=True):
                    if not there:
                        await redis.script_load(texts[sha])
    except (ZoomPoolError, TimeoutError) as error:
        reason = str(error) or f"Redis did not answer within {CHECK_S:g} s"
        return dict.fromkeys(REDIS_CHECKS, "not known") | {"redis": reason}
    return {**reasons, "scripts": ""}


@router.get(
    "/metrics",
    summary="Counts for Prometheus",
    response_class=Response,
    responses=problems(bearer=False) | {200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
)
async def metrics(services: ServicesDep) -> Response:
    """What this service has counted, and the pools' and queues' state now. It answers without Redis, too."""
    return Response(services.metrics.text() + await measure(services), media_type=CONTENT_TYPE_LATEST)
