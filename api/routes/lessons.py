"""Routes of teachers: start, look at and end lessons; who am I."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated
from uuid import uuid4

import structlog
from fastapi import APIRouter, Header, Response

from api.admission import owner_of, visible
from api.auth import Caller
from api.deps import LessonId, LessonsDep, ServicesDep, User
from api.idempotency import same_lesson
from api.openapi import problems
from api.prefer import WaitDep
from api.registry_schemas import LessonView
from api.schemas import LessonEnd, LessonStatus, Me, QuickStartBody, StartBody, StartedLesson
from api.services import Services
from api.starting import accepted, begin, json_answer, look_at, start_responses
from api.subscriptions import subscription_of
from broker.errors import ZoomPoolError
from broker.registry import lessons as registry
from broker.registry import teachers
from broker.registry.teachers import LONGEST_TEACHER_ID, pool_of

log = structlog.get_logger(__name__)

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
    answer = await begin(all, who, lesson, body, wait)
    await remember(all, who, lesson, body)
    return answer


async def remember(all: Services, who: Caller, lesson: str, body: QuickStartBody) -> None:
    """Register a lesson that was made by its start; a trouble with that must not cost the teacher the lesson."""
    group = "" if body.group_id is None else str(body.group_id)
    made = registry.Lesson(lesson, owner_of(who, body.owner), body.title, group, duration_min=body.duration)
    try:
        await registry.save(all.broker.redis, made, keep_days=all.settings.lesson_keep_days)
    except ZoomPoolError as error:
        log.warning("a quick lesson is not registered", lesson=lesson, code=error.code)


@router.post(
    "/schedule/lessons/{lesson}/start/",
    summary="Start a lesson on the teacher's own Zoom account",
    tags=["lessons"],
    response_model=StartedLesson,
    responses=start_responses("zoom_credentials_missing"),
)
async def start(
    all: ServicesDep, who: User, wait: WaitDep, lesson: LessonId, body: StartBody | None = None
) -> Response:
    """Start a lesson on the teacher's own Zoom account. One that has a host already, wherever, stays there."""
    return await begin(all, who, lesson, body or StartBody(), wait, personal=True)


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
    """End a lesson: its meeting is ended and deleted at Zoom, then the host is free. Repeating it does no harm.

    A lesson that waits for a host gives up its place.
    """
    found, _ = await visible(lessons, who, lesson)
    if found.ticket is not None:
        await lessons.give_up(found.ticket)
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
async def state(lessons: LessonsDep, who: User, lesson: LessonId) -> LessonView:
    """A lesson now, and for a day after its end; the start link only for the lesson's owner."""
    found, registered = await visible(lessons, who, lesson)
    return LessonView.of(lessons.seen(found, who.user), lesson, registered)


@router.get("/me/", summary="Who am I, and what runs", tags=["me"], responses=problems())
async def me(all: ServicesDep, who: User) -> Me:
    """The bearer of the token, until when they may start lessons, and the lessons that hold hosts for them."""
    active = await all.lessons.active(who.user)
    if len(who.user) <= LONGEST_TEACHER_ID:
        active += await all.lessons.active(who.user, pool_of(who.user))
    registered = await teachers.find(all.broker.redis, who.user)
    subscription = subscription_of(all.settings, who, who.user, registered)
    return Me(user_id=who.user, role=who.role, subscription=subscription, active_lessons=active)
