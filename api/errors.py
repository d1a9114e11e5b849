"""Answers that are errors: problem+json (RFC 9457) with a stable code.

Whoever meets an error raises `Problem(code)`, or lets an error of the broker pass: its code is looked up in
`api.messages`, which alone knows statuses and texts.
"""

from __future__ import annotations

from http import HTTPStatus
from itertools import islice
from typing import Any

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.routing import Match, Mount

from api.messages import PROBLEMS, choose_language
from broker.errors import HostTaken, ZoomPoolError

log = structlog.get_logger(__name__)

MEDIA_TYPE = "application/problem+json"
RETRY_S = 2
"""What `Retry-After` says where nothing better is known."""
MOST_FIELDS = 20
"""Of one request's wrong fields or refused accounts; a caller who sends thousands shall not get thousands back."""


class Problem(Exception):
    """An answer with an error status.

    Args:
        code: stable; `api.messages` has its status and its text.
        status: instead of the code's own, where the same code means something else.
        headers: such as Retry-After; each 503 has one anyway.
        more: further members of the body.
    """

    def __init__(
        self, code: str, *, status: int | None = None, headers: dict[str, str] | None = None, **more: Any
    ) -> None:
        self.code = code
        self.status = status or PROBLEMS[code].status
        self.headers = {"Retry-After": str(RETRY_S)} if self.status == HTTPStatus.SERVICE_UNAVAILABLE else {}
        self.headers |= headers or {}
        self.more = more
        super().__init__(code)


def answer(request: Request, problem: Problem) -> JSONResponse:
    """The answer for a problem, in the reader's language."""
    default = request.app.state.services.settings.default_language
    language = choose_language(request.headers.get("accept-language", ""), default)
    body = {
        "type": "about:blank",
        "title": HTTPStatus(problem.status).phrase,
        "status": problem.status,
        "detail": PROBLEMS[problem.code][language],
        "code": problem.code,
        "instance": request.url.path,
        "request_id": request.state.request_id,
        **problem.more,
    }
    headers = {"Content-Language": language, "Vary": "Accept-Language", **problem.headers}
    return JSONResponse(body, problem.status, headers, media_type=MEDIA_TYPE)


def translate(error: Exception) -> Problem:
    """Say which problem an error is for the caller."""
    match error:
        case Problem():
            return error
        case RequestValidationError():
            # Never what was sent: it may hold a secret.
            fields = [{"field": ".".join(map(str, item["loc"])), "message": item["msg"]} for item in error.errors()]
            return Problem("invalid_request", errors=fields[:MOST_FIELDS])
        case HTTPException():
            return _of_framework(error)
        case HostTaken():
            return Problem(error.code, taken=dict(islice(error.taken.items(), MOST_FIELDS)))
        case ZoomPoolError() if error.code in PROBLEMS:
            return Problem(error.code)
        case _:
            return Problem("internal_error")


def handled(request: Request, error: Exception) -> JSONResponse:
    """The answer for an error, which is logged if it is one of ours or of nobody's."""
    problem = translate(error)
    if problem.code == "method_not_allowed":
        problem.headers["Allow"] = ", ".join(_methods(request))
    elif problem.code == "internal_error":
        log.error("unhandled", exc_info=error)
    elif isinstance(error, ZoomPoolError):
        log.warning("refused", code=error.code, error=str(error))
    return answer(request, problem)


def _of_framework(error: HTTPException) -> Problem:
    match error.status_code:
        case HTTPStatus.NOT_FOUND:
            return Problem("not_found")
        case HTTPStatus.METHOD_NOT_ALLOWED:
            return Problem("method_not_allowed")
        case HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
            return Problem("too_large")
        case _:
            # A body that is not text, for instance; FastAPI calls that 400 and everything else about bodies 422.
            return Problem("invalid_request")


def _methods(request: Request) -> list[str]:
    """What a path can be asked with; the framework names only what its first route takes."""
    routes = [route for route in request.app.routes if not isinstance(route, Mount)]
    found = [
        method
        for method in ("DELETE", "GET", "HEAD", "PATCH", "POST", "PUT")
        if any(route.matches({**request.scope, "method": method})[0] is Match.FULL for route in routes)
    ]
    return found or ["GET", "HEAD"]  # a mounted folder of files


def install(app: FastAPI) -> None:
    """Let every error leave the application in this form."""

    async def handle(request: Request, error: Exception) -> JSONResponse:
        return handled(request, error)

    for kind in (Problem, ZoomPoolError, RequestValidationError, HTTPException):
        app.add_exception_handler(kind, handle)
