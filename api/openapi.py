"""The OpenAPI document: every route says which problems it can answer with, by their codes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from api.errors import MEDIA_TYPE
from api.messages import PROBLEMS
from api.schemas import ProblemBody

ANY = ("invalid_request", "invalid_name", "too_large", "internal_error", "broker_unavailable", "broker_misconfigured")
"""What every route can answer with."""
BEARER = ("not_authenticated", "token_invalid", "keys_unavailable")
"""And every route that asks for a token."""
ZOOM = (
    "zoom_credential_rejected",
    "zoom_scope_missing",
    "zoom_account_daily_limit",
    "zoom_rate_limited",
    "zoom_rate_budget",
    "zoom_timeout",
    "zoom_unavailable",
    "zoom_answer_unreadable",
    "zoom_request_rejected",
    "zoom_token_busy",
)
"""And every route behind which Zoom is asked, whatever for."""

TAGS = [
    {"name": "lessons", "description": "Start, look at and end lessons."},
    {"name": "me", "description": "Who am I."},
    {"name": "pools", "description": "Pools of Zoom hosts: accounts, leases, events. For operators and the web app."},
    {"name": "teachers", "description": "Teachers, as the web app registers them."},
    {"name": "credentials", "description": "Zoom apps. Secrets go in and never come out."},
    {"name": "zoom", "description": "What Zoom calls."},
    {"name": "machines", "description": "Liveness, readiness, metrics."},
]


def problems(*codes: str, bearer: bool = True) -> dict[int | str, dict[str, Any]]:
    """The `responses` of a route that can answer with these problems, beside those that any route can.

    Args:
        codes: from `api.messages`.
        bearer: whether the route asks for a token.
    """
    by_status: defaultdict[int, list[str]] = defaultdict(list)
    for code in dict.fromkeys((*codes, *(BEARER if bearer else ()), *ANY)):
        by_status[PROBLEMS[code].status].append(code)
    return {status: _response(status, of_status) for status, of_status in sorted(by_status.items())}


def _response(status: int, codes: Iterable[str]) -> dict[str, Any]:
    schema = {"$ref": f"#/components/schemas/{ProblemBody.__name__}"}
    examples = {
        code: {
            "summary": PROBLEMS[code].english,
            "value": {"status": status, "code": code, "detail": PROBLEMS[code].russian},
        }
        for code in codes
    }
    found: dict[str, Any] = {
        "description": " · ".join(f"`{code}`" for code in codes),
        "content": {MEDIA_TYPE: {"schema": schema, "examples": examples}},
    }
    if status == 503:
        found["headers"] = {
            "Retry-After": {"description": "Seconds.", "required": True, "schema": {"type": "integer", "minimum": 0}}
        }
    return found


def install(app: FastAPI) -> None:
    """Complete FastAPI's document: the schema of problems, which no route returns as a model, has to be in it."""

    def document() -> dict[str, Any]:
        if app.openapi_schema is None:
            schema = get_openapi(
                title=app.title, version=app.version, description=app.description, routes=app.routes, tags=TAGS
            )
            schemas = schema.setdefault("components", {}).setdefault("schemas", {})
            schemas[ProblemBody.__name__] = ProblemBody.model_json_schema(ref_template="#/components/schemas/{model}")
            app.openapi_schema = schema
        return app.openapi_schema

    app.openapi = document  # type: ignore[method-assign]
