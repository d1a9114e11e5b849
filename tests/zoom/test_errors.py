"""Zoom's failures as it documents them, and what each one means for us."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from broker.zoom.errors import Kind, ZoomError, classify, retry_after_s

NOW = datetime(2026, 3, 4, 22, 0, 0, tzinfo=UTC)

HOST_DAILY = (
    "You have exceeded the daily rate limit (100) of Meeting Create/Update API requests permitted for this particular "
    "user. You may resume these requests at GMT 00:00:00."
)
PER_SECOND = "You have reached the maximum per-second rate limit for this API. Try again later."
ACCOUNT_DAILY = "You have reached the maximum daily rate limit for this API. Refer to the response header for details."


def failure(status: int, body: Any = None, headers: dict[str, str] | None = None, *, changes: bool = True) -> ZoomError:
    response = (
        httpx.Response(status, headers=headers) if body is None else httpx.Response(status, json=body, headers=headers)
    )
    return classify(response, changes=changes, now=NOW)


@pytest.mark.parametrize(
    ("status", "body", "code", "kind", "zoom_code"),
    [
        (
            400,
            {"reason": "Invalid client_id or client_secret", "error": "invalid_client"},
            "zoom_credential_rejected",
            Kind.CREDENTIAL,
            None,
        ),
        (
            400,
            {"reason": "unsupported grant type", "error": "unsupported_grant_type"},
            "zoom_credential_rejected",
            Kind.CREDENTIAL,
            None,
        ),
        (401, {"code": 124, "message": "Access token is expired."}, "zoom_credential_rejected", Kind.CREDENTIAL, 124),
        (401, {"code": 124, "message": "Invalid access token."}, "zoom_credential_rejected", Kind.CREDENTIAL, 124),
        (400, {"code": 124, "message": "Invalid access token."}, "zoom_credential_rejected", Kind.CREDENTIAL, 124),
        (401, None, "zoom_credential_rejected", Kind.CREDENTIAL, None),
        (
            400,
            {"code": 4711, "message": "Invalid access token, does not contain scopes:[user:read:user:admin]."},
            "zoom_scope_missing",
            Kind.CREDENTIAL,
            4711,
        ),
        (
            400,
            {"code": 300, "message": "Validation Failed.", "errors": [{"field": "topic", "message": "too long"}]},
            "zoom_request_rejected",
            Kind.REQUEST,
            300,
        ),
        (
            400,
            {"code": 3000, "message": "Cannot access meeting information."},
            "zoom_request_rejected",
            Kind.REQUEST,
            3000,
        ),
        (
            400,
            {"code": 3161, "message": "Your user account is not allowed meeting hosting and scheduling capabilities."},
            "zoom_host_not_allowed",
            Kind.HOST,
            3161,
        ),
        (404, {"code": 1001, "message": "User does not exist: a@b.c."}, "zoom_host_unknown", Kind.HOST, 1001),
        (400, {"code": 1010, "message": "User not found on this account"}, "zoom_host_unknown", Kind.HOST, 1010),
        (404, {"code": 1001, "message": "User a@b.c is inactive."}, "zoom_host_inactive", Kind.HOST, 1001),
        (
            400,
            {"code": 200, "message": "Only available for paid account: abc."},
            "zoom_request_rejected",
            Kind.REQUEST,
            200,
        ),
        (404, {"code": 3001, "message": "Meeting does not exist: 1."}, "zoom_meeting_missing", Kind.REQUEST, 3001),
        (429, {"code": 429, "message": HOST_DAILY}, "zoom_daily_limit", Kind.HOST, 429),
        (429, {"code": 429, "message": PER_SECOND}, "zoom_rate_limited", Kind.TRANSIENT, 429),
        (429, {"code": 429, "message": ACCOUNT_DAILY}, "zoom_account_daily_limit", Kind.TRANSIENT, 429),
        (429, None, "zoom_rate_limited", Kind.TRANSIENT, None),
        (500, None, "zoom_unavailable", Kind.TRANSIENT, None),
        (503, {"code": 5000, "message": "busy"}, "zoom_unavailable", Kind.TRANSIENT, 5000),
        (404, None, "zoom_request_rejected", Kind.REQUEST, None),
        (302, None, "zoom_request_rejected", Kind.REQUEST, None),
    ],
)
def test_each_documented_failure_has_its_kind_and_code(
    status: int, body: Any, code: str, kind: Kind, zoom_code: int | None
) -> None:
    error = failure(status, body)
    assert (error.code, error.kind, error.zoom_code, error.http_status) == (code, kind, zoom_code, status)


def test_missing_scopes_are_named() -> None:
    message = "Invalid access token, does not contain scopes:[meeting:write:meeting:admin, user:read:user:admin]."
    error = failure(400, {"code": 4711, "message": message})
    assert error.scopes == ("meeting:write:meeting:admin", "user:read:user:admin")
    assert "user:read:user:admin" in str(error)
    assert not error.token_refused


@pytest.mark.parametrize("status", [400, 401])
def test_a_refused_token_is_recognised_under_both_statuses(status: int) -> None:
    assert failure(status, {"code": 124, "message": "Invalid access token."}).token_refused


def test_a_refused_app_is_no_refused_token() -> None:
    assert not failure(400, {"reason": "Invalid client_id or client_secret", "error": "invalid_client"}).token_refused


@pytest.mark.parametrize(
    "body", ["just text", b"\xff\xfe", b"[1, 2]", b'{"code": {"a": 1}, "message": 7}', b'{"errors": 3}']
)
def test_bodies_that_are_not_zooms_are_classified_by_status(body: bytes | str) -> None:
    assert classify(httpx.Response(502, content=body)).code == "zoom_unavailable"
    assert classify(httpx.Response(400, content=body)).code == "zoom_request_rejected"


@pytest.mark.parametrize(
    ("status", "unknown"), [(500, True), (502, True), (408, True), (429, False), (400, False), (401, False)]
)
def test_only_server_errors_leave_a_change_in_doubt(status: int, unknown: bool) -> None:
    assert failure(status).outcome_unknown is unknown
    assert failure(status, changes=False).outcome_unknown is False


def test_hosts_daily_limit_lasts_until_midnight_utc() -> None:
    assert failure(429, {"code": 429, "message": HOST_DAILY}).retry_after_s == 2 * 3600


def test_accounts_daily_limit_goes_by_the_header_and_else_until_midnight_utc() -> None:
    body = {"code": 429, "message": ACCOUNT_DAILY}
    assert failure(429, body).retry_after_s == 2 * 3600
    assert failure(429, body, {"Retry-After": "2026-03-04T22:10:00Z"}).retry_after_s == 600


def test_the_limit_header_counts_only_without_a_message() -> None:
    daily = {"X-RateLimit-Type": "Daily-limit"}
    assert failure(429, None, daily).code == "zoom_account_daily_limit"
    assert failure(429, {"code": 429, "message": PER_SECOND}, daily).code == "zoom_rate_limited"


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("3", 3),
        (" 1.5 ", 1.5),
        ("Wed, 04 Mar 2026 22:00:30 GMT", 30),
        ("2026-03-04T22:01:00Z", 60),
        ("2026-03-04T22:01:00", 60),
        ("Wed, 04 Mar 2026 21:00:00 GMT", 0),
        ("soon", None),
        ("-5", None),
        ("2026-99-99", None),
        ("", None),
    ],
)
def test_retry_after_is_read_as_seconds_or_as_a_date(value: str, seconds: float | None) -> None:
    assert retry_after_s(httpx.Headers({"Retry-After": value}), NOW) == seconds


def test_texts_of_zoom_are_cleaned_of_keys_and_links() -> None:
    secret = "s3cr3t"
    message = (
        f"see https://zoom.us/s/1?zak={secret} or zak={secret} pwd: {secret} access_token={secret}"
        f" Bearer {secret} eyJ{secret}.{secret}.{secret}\n{'x' * 2000}"
    )
    for error in (
        failure(400, {"code": 300, "message": message}),
        failure(400, {"code": 300, "message": "no", "errors": [{"field": "password", "message": secret}]}),
        failure(400, {"error": f"zak={secret}", "reason": message}),
    ):
        assert secret not in str(error)
        assert secret not in repr(error)
        assert "\n" not in str(error)
        assert len(str(error)) < 1000


def test_a_rejected_field_is_named() -> None:
    error = failure(
        400, {"code": 300, "message": "Validation Failed.", "errors": [{"field": "topic", "message": "too long"}]}
    )
    assert "topic: too long" in str(error)
