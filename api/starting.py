"""The way of every start, whichever route it came by: allowed → claimed → made, waited for → answered."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from fastapi.responses import Response
from pydantic import BaseModel

from api.admission import admit
from api.auth import Caller
from api.errors import translate
from api.openapi import problems
from api.prefer import Wait
from api.schemas import LessonProgress, StartBody, StartedLesson
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
    "owner_quota",
    "pool_exhausted",
    "pool_empty",
    "start_lapsed",
)
_FAILURES = (
    "start_failed",
    "zoom_credential_rejected",
    "zoom_scope_missing",
    "zoom_host_not_allowed",
    "zoom_host_inactive",
    "zoom_host_unknown",
    "zoom_daily_limit",
    "zoom_account_daily_limit",
    "zoom_rate_limited",
    "zoom_rate_budget",
    "zoom_timeout",
    "zoom_unavailable",
    "zoom_answer_unreadable",
    "zoom_request_rejected",
    "zoom_token_busy",
    "zoom_outcome_unknown",
)


def start_responses(*more: str) -> dict[int | str, dict[str, Any]]:
    """The `responses` of a route that starts lessons, and that can answer with the problems `more` besides."""
    return {202: accepted(LessonProgress), **problems(*_REFUSALS, *_FAILURES, *more)}


async def begin(services: Services, who: Caller, lesson: str, body: StartBody, wait: Wait, pool: str = "") -> Response:
    """Start a lesson and answer: 200 with its links, or 202.

    Raises:
        Problem: it cannot be started, and why.
    """
    try:
        wanted = await admit(services, who, lesson, body, pool)
        result = await services.lessons.start(wanted, wait.seconds)
    except Exception as error:
        services.metrics.start(translate(error).code)
        raise
    if isinstance(result, StartedLesson):
        services.metrics.start("ready")
        return json_answer(result, HTTPStatus.OK, wait.headers)
    services.metrics.start("accepted")
    return json_answer(result, HTTPStatus.ACCEPTED, wait.headers | look_at(lesson))


def look_at(lesson: str) -> dict[str, str]:
    """The headers of a 202: where to look, and when."""
    return {"Location": f"/api/schedule/lessons/{lesson}/", "Retry-After": str(AGAIN_S)}


def json_answer(body: BaseModel, status: int, headers: dict[str, str]) -> Response:
    """A model as an answer, without FastAPI serializing it a second time."""
    return Response(body.model_dump_json(), status, headers, media_type="application/json")
