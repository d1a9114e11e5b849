"""Registered lessons: the web app enters them; teachers see their own."""

from __future__ import annotations

import asyncio
from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Query, Response

from api import reservations
from api.admission import wherever
from api.auth import Caller
from api.deps import LessonId, Service, ServicesDep, User
from api.errors import Problem
from api.openapi import problems
from api.registry_schemas import LessonIn, LessonPage, LessonView, Moment
from api.schemas import LessonStatus
from api.services import Services
from broker.registry import lessons as registry

router = APIRouter(prefix="/api/schedule/lessons", tags=["lessons"])

MOST_LOOKED_AT = 500
"""Lessons of one page when only those of a status are wanted: a state is read for each. The next page goes on."""


@router.get("/", summary="Registered lessons", responses=problems("lesson_of_another_teacher"))
async def list_lessons(
    all: ServicesDep,
    who: User,
    teacher: Annotated[str, Query(max_length=128, description="Only this teacher's; teachers see their own.")] = "",
    group: Annotated[str, Query(max_length=128, description="Only this group's.")] = "",
    status: Annotated[LessonStatus | None, Query(description="Only those that are like this now.")] = None,
    starts_from: Annotated[Moment | None, Query(description="Only those that start then or later.")] = None,
    starts_before: Annotated[Moment | None, Query(description="Only those that start earlier.")] = None,
    cursor: Annotated[str, Query(max_length=200, description="`next` of the page before.")] = "",
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
) -> LessonPage:
    """Lessons by their start, or by when they were registered if they have none, each as it is now."""
    if not who.sees_all:
        if teacher not in ("", who.user):
            raise Problem("lesson_of_another_teacher")
        teacher = who.user
    query = registry.Query(teacher, group, _ms(starts_from), _ms(starts_before))
    after = registry.Cursor.parse(cursor) if cursor else None
    found: list[LessonView] = []
    looked_at = 0
    while len(found) < limit and looked_at < MOST_LOOKED_AT:
        lessons, after = await registry.page(all.broker.redis, query, after, limit - len(found))
        looked_at += len(lessons)
        views = await asyncio.gather(*(_view(all, who, lesson) for lesson in lessons))
        found += [view for view in views if status in (None, view.status)]
        if after is None:
            break
    return LessonPage(lessons=found, next=str(after) if after else None)


@router.put(
    "/{lesson}/",
    summary="Register a lesson",
    responses=problems("role_required", "lesson_unknown", "pool_overbooked"),
)
async def put_lesson(all: ServicesDep, who: Service, lesson: LessonId, body: LessonIn) -> LessonView:
    """Register a lesson, or replace what is registered of it. A start that goes on is not touched.

    With a time, a host of the pool is kept for it; 409 says for which window the pool has none left.
    """
    group = "" if body.group_id is None else str(body.group_id)
    new = registry.Lesson(lesson, body.teacher, body.title, group, _ms(body.starts_at), body.duration or 0)
    await reservations.reserve(all, new)
    saved = await registry.save(all.broker.redis, new, keep_days=all.settings.lesson_keep_days)
    return await _view(all, who, saved)


@router.delete(
    "/{lesson}/", summary="Forget a lesson", status_code=204, responses=problems("role_required", "lesson_unknown")
)
async def delete_lesson(all: ServicesDep, who: Service, lesson: LessonId) -> Response:
    """Forget what is registered of a lesson. If it runs, it runs on; `end` it first if it shall not."""
    await registry.delete(all.broker.redis, lesson)
    await reservations.give_up(all, lesson)
    return Response(status_code=204)


async def _view(all: Services, who: Caller, lesson: registry.Lesson) -> LessonView:
    found = await wherever(all.lessons, lesson.id)
    return LessonView.of(all.lessons.seen(found, who.user), lesson.id, lesson)


def _ms(moment: datetime | None) -> int | None:
    return None if moment is None else int(moment.timestamp() * 1000)
