"""The ways in which Zoom says no, with its exact bodies. `code` is Zoom's own number, not the HTTP status."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from broker.errors import ZoomPoolError


class Refused(ZoomPoolError):
    """The simulated Zoom refuses a call.

    Attributes:
        status: the HTTP status.
        body: the JSON to answer with.
        headers: to answer with.
    """

    code = "simulated_refusal"

    def __init__(self, status: int, body: Mapping[str, Any], headers: Mapping[str, str] | None = None) -> None:
        self.status = status
        self.body = dict(body)
        self.headers = dict(headers or {})
        super().__init__(f"HTTP {status}: {self.body.get('message') or self.body.get('reason')}")


def _refused(status: int, zoom_code: int, message: str, **more: Any) -> Refused:
    return Refused(status, {"code": zoom_code, "message": message, **more})


def invalid_client() -> Refused:
    return Refused(400, {"reason": "Invalid client_id or client_secret", "error": "invalid_client"})


def unsupported_grant() -> Refused:
    return Refused(400, {"reason": "unsupported grant type", "error": "unsupported_grant_type"})


def invalid_token() -> Refused:
    return _refused(401, 124, "Invalid access token.")


def expired_token() -> Refused:
    return _refused(401, 124, "Access token is expired.")


def missing_scopes(scopes: Iterable[str]) -> Refused:
    return _refused(400, 4711, f"Invalid access token, does not contain scopes:[{', '.join(scopes)}].")


def validation_failed(*errors: tuple[str, str]) -> Refused:
    return _refused(400, 300, "Validation Failed.", errors=[{"field": f, "message": m} for f, m in errors])


def cannot_end() -> Refused:
    return _refused(400, 3000, "The meeting is not in progress.")


def cannot_delete_live() -> Refused:
    return _refused(400, 3002, "Sorry, you cannot delete this meeting since it's in progress.")


def not_allowed_to_host() -> Refused:
    return _refused(400, 3161, "Your user account is not allowed meeting hosting and scheduling capabilities.")


def unknown_user(user: str) -> Refused:
    return _refused(404, 1001, f"User does not exist: {user}.")


def user_of_another_account() -> Refused:
    return _refused(400, 1010, "User not found on this account")


def unknown_meeting(meeting: object) -> Refused:
    return _refused(404, 3001, f"Meeting does not exist: {meeting}.")


def unknown_endpoint() -> Refused:
    return _refused(404, 2300, "This API endpoint is not recognized.")


def host_daily_limit(limit: int) -> Refused:
    """Comes without Retry-After."""
    return _refused(
        429,
        429,
        f"You have exceeded the daily rate limit ({limit}) of Meeting Create/Update API requests permitted for this "
        "particular user. You may resume these requests at GMT 00:00:00.",
    )


def per_second_limit(headers: Mapping[str, str]) -> Refused:
    message = "You have reached the maximum per-second rate limit for this API. Try again later."
    return Refused(429, {"code": 429, "message": message}, headers)


def per_day_limit(headers: Mapping[str, str]) -> Refused:
    message = (
        "You have reached the maximum daily rate limit for this API. Refer to the response header for details on when "
        "you can make another request."
    )
    return Refused(429, {"code": 429, "message": message}, headers)
