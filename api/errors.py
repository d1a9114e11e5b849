"""Answers that are errors: problem+json (RFC 9457) with a stable code, and the one place where statuses are chosen."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from api.messages import choose_language, text
from broker.errors import BrokerUnavailable, InvalidName, ZoomPoolError

log = structlog.get_logger(__name__)

RETRY_S = 2


class Problem(Exception):
    """An answer with an error status.

    Args:
        status: HTTP status.
        code: stable; `api.messages` has its text.
        headers: such as Retry-After.
        more: further members of the body.
        detail: instead of the code's text; for answers whose wording others rely on.
    """

    def __init__(
        self, status: int, code: str, *, headers: dict[str, str] | None = None, detail: str = "", **more: Any
    ) -> None:
        self.status = status
        self.code = code
        self.headers = headers
        self.detail = detail
        self.more = more
        super().__init__(code)


def answer(request: Request, problem: Problem) -> JSONResponse:
    """The answer for a problem, in the reader's language."""
    default = request.app.state.settings.default_language
    language = choose_language(request.headers.get("accept-language", ""), default)
    body = {
        "type": "about:blank",
        "title": HTTPStatus(problem.status).phrase,
        "status": problem.status,
        "detail": problem.detail or text(problem.code, language),
        "code": problem.code,
        "instance": request.url.path,
        **problem.more,
    }
    headers = {"Content-Language": language, **(problem.headers or {})}
    return JSONResponse(body, problem.status, headers, media_type="application/problem+json")


def translate(error: Exception) -> Problem:
    """Choose the status of an error."""
    match error:
        case Problem():
            return error
        case BrokerUnavailable():
            return Problem(503, "broker_unavailable", headers={"Retry-After": str(RETRY_S)})
        case InvalidName():
            return Problem(422, "invalid_name")
        case RequestValidationError():
            fields = [{"field": ".".join(map(str, item["loc"])), "message": item["msg"]} for item in error.errors()]
            return Problem(422, "invalid_request", errors=fields)
        case HTTPException(status_code=404):
            return Problem(404, "not_found")
        case HTTPException():
            return Problem(error.status_code, "invalid_request", headers=dict(error.headers or {}))
        case _:
            log.error("unhandled", exc_info=error)
            return Problem(500, "internal_error")


def install(app: FastAPI) -> None:
    """Let every error leave the application in this form."""

    async def handle(request: Request, error: Exception) -> JSONResponse:
        return answer(request, translate(error))

    for kind in (Problem, ZoomPoolError, RequestValidationError, HTTPException, Exception):
        app.add_exception_handler(kind, handle)
