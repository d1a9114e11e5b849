"""The route of those who follow a start while it goes on."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import StreamingResponse

from api import events
from api.admission import admit, visible
from api.deps import LessonId, ServicesDep, User
from api.errors import Problem
from api.messages import choose_language
from api.schemas import StartBody
from api.starting import refusals

router = APIRouter(prefix="/api")


@router.get(
    "/schedule/lessons/{lesson}/events/",
    summary="Follow a start",
    tags=["lessons"],
    response_class=StreamingResponse,
    responses={
        200: {
            "description": "`progress` (status, position, estimate_s), then `ready` (links) or `failed` (code).",
            "content": {events.MEDIA_TYPE: {"schema": events.SCHEMA}},
        },
        **refusals("lesson_unknown"),
    },
)
async def follow(
    all: ServicesDep, who: User, lesson: LessonId, request: Request, body: Annotated[StartBody, Query()]
) -> StreamingResponse:
    """The way of a lesson that was started, for its teacher. Reading keeps its place in line.

    Repeat title and duration of the start unless the lesson is registered: it may get its host here.
    """
    found, _ = await visible(all.lessons, who, lesson)
    known = found.lease or found.ticket
    if known is None:
        raise Problem("lesson_unknown")
    if known.owner != who.user:
        raise Problem("lesson_of_another_teacher")
    admitted = await admit(all, who, lesson, body)
    wanted = replace(admitted, pool=known.pool, queue=found.ticket is not None)
    language = choose_language(request.headers.get("accept-language", ""), all.settings.default_language)
    return StreamingResponse(
        events.stream(all.lessons, wanted, language),
        media_type=events.MEDIA_TYPE,
        # nginx would keep what it is given until its buffer is full.
        headers={"X-Accel-Buffering": "no", "Content-Language": language},
    )
