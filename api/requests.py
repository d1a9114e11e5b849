"""What surrounds every request: its id, its log line, its measurement, the limit of its body, and the last resort.

Plain ASGI, so that a stream of events passes through it like any other answer.
"""

from __future__ import annotations

import re
import time
from typing import Any
from uuid import uuid4

import structlog
from fastapi import FastAPI, Request
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api import errors
from api.hang_up import HUNG_UP
from api.services import Services

log = structlog.get_logger(__name__)

REQUEST_ID = "X-Request-ID"
_SANE = re.compile(r"[A-Za-z0-9._-]{1,64}")
"""An id from outside that may go into logs and headers as it is; another is replaced."""
QUIET = frozenset({"/healthz", "/readyz", "/metrics", "/schedule/api/zoom/webhook/"})
"""Machines ask for these all the time; they are counted, and logged only when something is wrong."""


class Requests:
    """Wraps the application.

    Args:
        app: what comes next.
        services: where settings and metrics are.
    """

    def __init__(self, app: ASGIApp, services: Services) -> None:
        self._app = app
        self._metrics = services.metrics
        self._most_bytes = services.settings.request_max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = Headers(scope=scope).get(REQUEST_ID, "")
        request_id = given if _SANE.fullmatch(given) else uuid4().hex
        scope.setdefault("state", {})["request_id"] = request_id
        began_s = time.perf_counter()
        status = 0

        async def told(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers[REQUEST_ID] = request_id
                if scope["path"].startswith("/api/"):
                    # They hold links that make their bearer the host.
                    headers.setdefault("Cache-Control", "no-store")
            await send(message)

        with structlog.contextvars.bound_contextvars(request_id=request_id):
            try:
                await self._app(scope, limited(scope, receive, self._most_bytes), told)
            except Exception as error:
                if status:
                    # Half an answer is out. Only a cut connection tells the client that it is not all.
                    log.error("failed in the middle of an answer", exc_info=error)
                    raise
                await errors.handled(Request(scope), error)(scope, receive, told)
            finally:
                self._record(scope, status or HUNG_UP, time.perf_counter() - began_s)

    def _record(self, scope: Scope, status: int, seconds: float) -> None:
        route = template(scope)
        self._metrics.request(route, scope["method"], status, seconds)
        level = log.debug if route in QUIET and status < 400 else log.info
        # The template instead of the path, and no query: neither ids nor secrets.
        level("request", method=scope["method"], route=route, status=status, ms=round(seconds * 1000, 1))


def limited(scope: Scope, receive: Receive, most_bytes: int) -> Receive:
    """`receive`, which fails once the body turns out to be larger than it may be.

    Raises:
        HTTPException: 413, at once for a body that says its length, or later out of the returned function. It is the
            framework's own error, because FastAPI turns any other one that comes out of a body into its 400.
    """
    length = Headers(scope=scope).get("content-length", "")
    if length.isdecimal() and int(length[:18]) > most_bytes:
        raise HTTPException(413)
    seen = 0

    async def counted() -> Message:
        nonlocal seen
        message = await receive()
        seen += len(message.get("body", b""))
        if seen > most_bytes:
            raise HTTPException(413)
        return message

    return counted


def template(scope: Scope) -> str:
    """The route that a request matched, with `{lesson}` in it and not a lesson's id; empty where none did."""
    route: Any = scope.get("route")
    return str(getattr(route, "path", ""))


def install(app: FastAPI, services: Services) -> None:
    """Put this around the application."""
    app.add_middleware(Requests, services=services)
