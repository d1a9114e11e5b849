"""The way of every start, whichever route it came by: allowed → claimed → made, waited for → answered."""

from __future__ import annotations

from dataclasses import replace
from http import HTTPStatus
from typing import Any

from fastapi.responses import Response
from pydantic import BaseModel

from api.admission import admit
from api.auth import Caller
from api.errors import Problem, translate
from api.gate import let_in
from api.hang_up import HUNG_UP, HungUp, unless_hung_up
from api.lessons import Deadline
from api.openapi import ZOOM, problems
from api.prefer import Wait
from api.schemas import LessonProgress, LessonStatus, StartBody, StartedLesson
from api.services import Services

AGAIN_S = 1
"""When to look again after a 202."""


def accepted(model: type[BaseModel]) -> dict[str, Any]:
    """The entry of a 202 in a route's `responses`."""
    return {
        "model": model,
        "description": "It goes on: repeat the request, or look at `Location`.",
        "headers": {
            "Location": {"required": True, "schema": {"type": "string"}},
            "Retry-After": {"description": "Seconds.", "required": True, "schema": {"type": "integer"}},
        },
    }


_REFUSALS = (
    "owner_missing",
    "lesson_of_another_teacher",
    "subscription_expired",
    "owner_quota",
    "pool_exhausted",
    "queue_full",
    "overloaded",
    "too_many_requests",
    "pool_empty",
    "start_lapsed",
    "started_elsewhere",
)
_FAILURES = (
    "start_failed",
    "zoom_host_not_allowed",
    "zoom_host_inactive",
    "zoom_host_unknown",
    "zoom_daily_limit",
    "zoom_outcome_unknown",
    *ZOOM,
)


def start_responses(*more: str) -> dict[int | str, dict[str, Any]]:
    """The `responses` of a route that starts lessons, and that can answer with the problems `more` besides."""
    return {202: accepted(LessonProgress), **problems(*_REFUSALS, *_FAILURES, *more)}


def refusals(*more: str) -> dict[int | str, dict[str, Any]]:
    """The `responses` of a route that may be refused for the reasons of a start, but answers before it has failed."""
    return problems(*_REFUSALS, *more)


async def begin(
    services: Services, who: Caller, lesson: str, body: StartBody, wait: Wait, *, personal: bool = False
) -> Response:
    """Start a lesson and answer: 200 with its links, or 202.

    Args:
        services: the service's means.
        who: asks for it.
        lesson: which.
        body: the request's.
        wait: how long the answer may take.
        personal: on the teacher's own Zoom account.

    Raises:
        Problem: it cannot be started, and why.
    """
    try:
        result = await _start(services, who, lesson, body, wait, personal=personal)
    except HungUp:
        services.metrics.start("hung_up")
        return Response(status_code=HUNG_UP)
    except Exception as error:
        services.metrics.start(translate(error).code)
        raise
    if isinstance(result, StartedLesson):
        services.metrics.start("ready")
        return json_answer(result, HTTPStatus.OK, wait.headers)
    services.metrics.start("queued" if result.status is LessonStatus.QUEUED else "accepted")
    return json_answer(result, HTTPStatus.ACCEPTED, wait.headers | look_at(lesson))


async def _start(
    services: Services, who: Caller, lesson: str, body: StartBody, wait: Wait, *, personal: bool
) -> StartedLesson | LessonProgress:
    # A teacher's own pool may be closed between being opened and being claimed from; a lesson that is started in two
    # pools at once stays where it was first. Either way the next try finds what is right, and fails not so twice.
    anew = {"pool_empty", "started_elsewhere"} if personal else {"started_elsewhere"}
    deadline = Deadline(wait.seconds)
    while True:
        admitted = await admit(services, who, lesson, body, personal=personal)
        wanted = replace(admitted, queue=may_queue(services, wait))
        await let_in(services, wanted, wait.seconds)
        try:
            return await unless_hung_up(wait.request, services.lessons.start(wanted, max(deadline.left_s, 0)))
        except Problem as problem:
            if problem.code not in anew:
                raise
            anew.remove(problem.code)


def may_queue(services: Services, wait: Wait) -> bool:
    """Whether this caller stands in line when no host is free, rather than being refused."""
    if wait.patient is None:
        return services.settings.queue_starts == "always"
    return wait.patient and services.settings.queue_starts != "never"


def look_at(lesson: str) -> dict[str, str]:
    """The headers of a 202: where to look, and when."""
    return {"Location": f"/api/schedule/lessons/{lesson}/", "Retry-After": str(AGAIN_S)}


def json_answer(body: BaseModel, status: int, headers: dict[str, str]) -> Response:
    """A model as an answer, without FastAPI serializing it a second time."""
    return Response(body.model_dump_json(), status, headers, media_type="application/json")
