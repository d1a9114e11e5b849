"""For machines: is the process alive, can it do its work, what are the counts."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Gauge, generate_latest

from broker.client import translated
from broker.scripts import load_all

router = APIRouter()


@router.get("/healthz")
async def alive() -> dict[str, str]:
    """The process runs."""
    return {"status": "alive"}


@router.get("/readyz")
async def ready(request: Request, response: Response) -> dict[str, Any]:
    """Redis answers, keeps what it is given, and knows the scripts."""
    redis = request.app.state.broker.redis
    with translated("readiness"):
        policy = (await redis.info("memory")).get("maxmemory_policy", "noeviction")
        scripts = load_all()
        known = await redis.script_exists(*(script.sha for script in scripts))
        for script, there in zip(scripts, known, strict=True):
            if not there:
                await redis.script_load(script.text)
    checks = {"redis": True, "noeviction": policy == "noeviction", "scripts": True}
    checks["events"] = request.app.state.hub.connected
    if not all(checks.values()):
        response.status_code = 503
    return {"ready": all(checks.values()), "checks": checks}


@router.get("/metrics")
async def metrics(request: Request) -> Response:
    """The pools' slots by state, counted now."""
    registry = CollectorRegistry()
    slots = Gauge("zoompool_slots", "Slots by state", ["pool", "state"], registry=registry)
    broker = request.app.state.broker
    for name in await broker.pools():
        status = await broker.run(broker.pool(name).status())
        for state in ("free", "leased", "suspect", "parked"):
            slots.labels(name, state).set(getattr(status, state))
    return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)
