"""Routes of teachers: start, look at and end lessons; who am I."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated
from uuid import uuid4

from fastapi import APIRouter, Header, Response

from api.admission import visible
from api.deps import LessonId, LessonsDep, ServicesDep, User
from api.idempotency import same_lesson
from api.lessons import ended
from api.openapi import problems
from api.prefer import WaitDep
from api.schemas import LessonEnd, LessonState, LessonStatus, Me, QuickStartBody, StartBody, StartedLesson
from api.starting import accepted, begin, json_answer, look_at, start_responses

router = APIRouter(prefix="/api")


@router.post(
    "/schedule/lessons/quick-start/",
    summary="Start a new lesson",
    tags=["lessons"],
    response_model=StartedLesson,
    responses=start_responses("idempotency_key_reused"),
)
async def quick_start(
    all: ServicesDep,
    who: User,
    wait: WaitDep,
    body: QuickStartBody,
    idempotency_key: Annotated[
        str, Header(max_length=255, description="Requests with the same key and body are about the same lesson.")
    ] = "",
) -> Response:
    """Start a lesson that did not exist before, at once, on a host of the pool."""
    lesson = f"quick-{uuid4().hex}"
    if idempotency_key:
        ttl_s = all.settings.idempotency_ttl_s
        lesson = await same_lesson(all.broker.redis, who.user, idempotency_key, body, lesson, ttl_s)
    return await begin(all, who, lesson, body, wait)


@router.post(
    "/schedule/lessons/{lesson}/start-new/",
    summary="Start a lesson on a host of the pool",
    tags=["lessons"],
    response_model=StartedLesson,
    responses=start_responses(),
)
async def start_new(
    all: ServicesDep, who: User, wait: WaitDep, lesson: LessonId, body: StartBody | None = None
) -> Response:
    """Start a lesson. Repeating it, also at the same time, gives the same meeting."""
    return await begin(all, who, lesson, body or StartBody(), wait)


@router.post(
    "/schedule/lessons/{lesson}/end/",
    summary="End a lesson now",
    tags=["lessons"],
    response_model=LessonEnd,
    responses={202: accepted(LessonEnd), **problems("lesson_unknown", "lesson_of_another_teacher")},
)
async def end(lessons: LessonsDep, who: User, wait: WaitDep, lesson: LessonId) -> Response:
    """End a lesson: its meeting is ended and deleted at Zoom, then the host is free. Repeating it does no harm."""
    found = await visible(lessons, who, lesson)
    if found.lease is None or await lessons.end(found.lease, wait.seconds):
        return json_answer(LessonEnd(lesson_id=lesson, status=LessonStatus.ENDED), HTTPStatus.OK, wait.headers)
    body = LessonEnd(lesson_id=lesson, status=LessonStatus.CLOSING)
    return json_answer(body, HTTPStatus.ACCEPTED, wait.headers | look_at(lesson))


@router.get(
    "/schedule/lessons/{lesson}/",
    summary="How a lesson is",
    tags=["lessons"],
    responses=problems("lesson_unknown", "lesson_of_another_teacher"),
)
async def state(lessons: LessonsDep, who: User, lesson: LessonId) -> LessonState:
    """A lesson now, and for a day after its end; the start link only for the lesson's owner."""
    found = await visible(lessons, who, lesson)
    if found.lease is not None:
        return lessons.state(found.lease, with_start_url=found.lease.owner == who.user)
    assert found.outcome is not None, "visible() knows a lease or an outcome"
    return ended(found.outcome)


@router.get("/me/", summary="Who am I, and what runs", tags=["me"], responses=problems())
async def me(lessons: LessonsDep, who: User) -> Me:
    """The bearer of the token, and the lessons that hold hosts for them."""
    return Me(user_id=who.user, role=who.role, active_lessons=await lessons.active(who.user))
