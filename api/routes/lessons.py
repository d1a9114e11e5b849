"""Routes of teachers and the web app."""

from __future__ import annotations

import hashlib
import re
from typing import Annotated, Any
from uuid import uuid4

from fastapi import APIRouter, Header, Request, Response
from pydantic import BaseModel, Field

from api.auth import Caller, User
from api.errors import Problem
from api.lessons import Lessons
from broker import keys
from broker.client import translated
from broker.models import Found, ReleaseReason, check_name
from broker.settings import Settings

router = APIRouter(prefix="/api")


class StartBody(BaseModel):
    """What the meeting is called; `owner` says for whom service and ops start it."""

    title: str = Field(default="", max_length=200)
    duration: int = Field(default=60, ge=1, le=24 * 60)
    owner: str = ""


class QuickStartBody(StartBody):
    """A new lesson on the spot."""

    group_id: str | int | None = None


def preferred_wait_s(prefer: str, settings: Settings) -> float:
    """The wait that `Prefer` asks for (RFC 7240); what cannot be read is ignored."""
    if re.search(r"(^|[,;\s])respond-async($|[,;\s])", prefer):
        return 0
    match = re.search(r"(?:^|[,;\s])wait=(\d{1,6})(?:$|[,;\s])", prefer)
    return min(float(match[1]) if match else settings.wait_default_s, settings.wait_max_s)


def owner_of(caller: Caller, owner: str) -> str:
    """For whom a lesson is started."""
    if not caller.sees_all:
        return caller.user
    if not owner:
        raise Problem(422, "owner_missing")
    return check_name("owner", owner)


async def start(
    request: Request, response: Response, caller: Caller, lesson: str, body: StartBody, prefer: str
) -> dict[str, Any]:
    lessons: Lessons = request.app.state.lessons
    wait_s = preferred_wait_s(prefer, request.app.state.settings)
    answer = await lessons.start(
        check_name("lesson", lesson),
        owner_of(caller, body.owner),
        topic=body.title,
        duration_min=body.duration,
        wait_s=wait_s,
    )
    if "zoom_start_url" not in answer:
        response.status_code = 202
        response.headers["Location"] = f"/api/schedule/lessons/{lesson}/"
        response.headers["Retry-After"] = "1"
    if prefer:
        response.headers["Preference-Applied"] = "respond-async" if not wait_s else f"wait={wait_s:g}"
    return answer


@router.post("/schedule/lessons/{lesson}/start-new/")
async def start_new(
    request: Request,
    response: Response,
    caller: User,
    lesson: str,
    body: StartBody | None = None,
    prefer: Annotated[str, Header()] = "",
) -> dict[str, Any]:
    """Start a lesson on a host of the pool. Repeating it gives the same meeting."""
    return await start(request, response, caller, lesson, body or StartBody(), prefer)


@router.post("/schedule/lessons/quick-start/")
async def quick_start(
    request: Request,
    response: Response,
    caller: User,
    body: QuickStartBody,
    prefer: Annotated[str, Header()] = "",
    idempotency_key: Annotated[str, Header(max_length=255)] = "",
) -> dict[str, Any]:
    """Start a new lesson at once; with the same `Idempotency-Key`, the same one."""
    lesson = f"quick-{uuid4().hex}"
    if idempotency_key:
        key = keys.idempotency(caller.user, hashlib.sha256(idempotency_key.encode()).hexdigest())
        digest = hashlib.sha256(body.model_dump_json().encode()).hexdigest()
        redis, settings = request.app.state.broker.redis, request.app.state.settings
        with translated("idempotency key"):
            await redis.set(key, f"{lesson} {digest}", nx=True, ex=round(settings.idempotency_ttl_s))
            stored = await redis.get(key)
        lesson, _, first = (stored or f"{lesson} {digest}").partition(" ")
        if first != digest:
            raise Problem(422, "idempotency_key_reused")
    return await start(request, response, caller, lesson, body, prefer)


async def find(request: Request, caller: Caller, lesson: str) -> Found:
    """A lesson that the caller may see.

    Raises:
        Problem: 404 if nothing is known of it, 403 if it is another teacher's.
    """
    broker = request.app.state.broker
    found: Found = await broker.run(broker.pool().find_lesson(check_name("lesson", lesson)))
    known = found.lease or found.outcome
    if known is None:
        raise Problem(404, "lesson_unknown")
    if known.owner != caller.user and not caller.sees_all:
        raise Problem(403, "lesson_of_another_teacher")
    return found


@router.post("/schedule/lessons/{lesson}/end/")
async def end(
    request: Request, response: Response, caller: User, lesson: str, prefer: Annotated[str, Header()] = ""
) -> dict[str, Any]:
    """End a lesson now: its meeting is ended and deleted at Zoom, then the slot is free."""
    found = await find(request, caller, lesson)
    lessons: Lessons = request.app.state.lessons
    over = await lessons.end(lesson, found, preferred_wait_s(prefer, request.app.state.settings))
    if not over:
        response.status_code = 202
        response.headers["Location"] = f"/api/schedule/lessons/{lesson}/"
    return {"lesson_id": lesson, "status": "ended" if over else "closing"}


@router.get("/schedule/lessons/{lesson}/")
async def state(request: Request, caller: User, lesson: str) -> dict[str, Any]:
    """How a lesson is; the start link only for its owner."""
    found = await find(request, caller, lesson)
    lessons: Lessons = request.app.state.lessons
    if found.lease is not None:
        return lessons.body(found.lease, with_start_url=found.lease.owner == caller.user)
    outcome = found.outcome
    assert outcome is not None
    failed = outcome.reason in (ReleaseReason.FAILED, ReleaseReason.LAPSED)
    return {
        "lesson_id": lesson,
        "status": "failed" if failed else "ended",
        "reason": outcome.reason.value,
        "code": outcome.detail or None,
        "zoom_meeting_id": outcome.meeting_id,
    }


@router.get("/me/")
async def me(request: Request, caller: User) -> dict[str, Any]:
    """Who am I, and what runs."""
    broker = request.app.state.broker
    with translated("leases of an owner"):
        held = await broker.redis.smembers(broker.pool().keys.owner(caller.user))
    return {"user_id": caller.user, "role": caller.role, "active_leases": sorted(held)}
