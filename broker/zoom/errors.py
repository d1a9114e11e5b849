"""Zoom's failures in our words: whose fault it is, whether it may have had an effect, and when to try again.

Zoom's `code` and message say what happened; the HTTP status often does not (a missing scope is a 400, "user does not
exist" may be a 400 or a 404, and every limit is a 429). So `classify` goes by code, then by message, then by status.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from enum import StrEnum
from http import HTTPStatus
from typing import Any

import httpx

from broker.errors import UnknownCredential, ZoomPoolError

MAX_TEXT = 300


class Kind(StrEnum):
    """Whose fault a failure is; that decides what to do next."""

    TRANSIENT = "transient"
    """Nobody's: wait and try again."""
    HOST = "host"
    """This host's: take it out of rotation and use another."""
    CREDENTIAL = "credential"
    """The OAuth app's: every host behind it fails alike."""
    REQUEST = "request"
    """Ours: the same request will fail again, on every host."""


class ZoomError(ZoomPoolError):
    """A call to Zoom failed.

    Attributes:
        code: stable name of what happened, such as `zoom_host_not_allowed`.
        kind: whose fault it is.
        zoom_code: Zoom's own code, if the answer had one. It is not the HTTP status.
        http_status: the status of the answer, if there was one.
        retry_after_s: how long to wait before the next try, if Zoom said so or its limits imply it.
        outcome_unknown: the call may have had its effect although it failed. Look before repeating a creation.
        scopes: for `zoom_scope_missing`, the scopes that the OAuth app has to be given.
    """

    def __init__(
        self,
        message: str,
        *,
        code: str,
        kind: Kind,
        zoom_code: int | None = None,
        http_status: int | None = None,
        retry_after_s: float | None = None,
        outcome_unknown: bool = False,
        scopes: Sequence[str] = (),
    ) -> None:
        self.code = code
        self.kind = kind
        self.zoom_code = zoom_code
        self.http_status = http_status
        self.retry_after_s = retry_after_s
        self.outcome_unknown = outcome_unknown
        self.scopes = tuple(scopes)
        super().__init__(message)

    @property
    def token_refused(self) -> bool:
        """Zoom did not accept the access token: one refresh may help. Code 124 also comes under HTTP 400."""
        return self.code == "zoom_credential_rejected" and (
            self.zoom_code == _TOKEN_REFUSED or self.http_status == HTTPStatus.UNAUTHORIZED
        )


CREDENTIAL_CODES = frozenset({"zoom_credential_rejected", "zoom_scope_missing", UnknownCredential.code})
"""Codes of faults that saving the credential anew may mend."""

_TOKEN_REFUSED = 124
_SCOPES_MISSING = 4711
_HOST_NOT_ALLOWED = 3161
_HOST_UNKNOWN = frozenset({1001, 1010})
_MEETING_MISSING = 3001
_PER_SECOND_PAUSE_S = 1.0

_SCOPES = re.compile(r"does not contain scopes?\s*:?\s*\[(?P<scopes>[^\]]*)\]", re.IGNORECASE)
_HOST_DAILY = re.compile(r"daily rate limit \(\d+\)|permitted for this particular user", re.IGNORECASE)
_DAILY = re.compile(r"\bdaily\b", re.IGNORECASE)
_INACTIVE = re.compile(r"\b(?:user|host)\b.*\b(?:inactive|deactivated|not active)\b", re.IGNORECASE)


def classify(response: httpx.Response, *, changes: bool = True, now: datetime | None = None) -> ZoomError:
    """Return the error that an answer of Zoom stands for; the caller raises it.

    Args:
        response: any answer that is not the expected success, its body read.
        changes: whether the call would have changed something at Zoom, so that a server error leaves it in doubt.
        now: the time against which dates and daily limits are reckoned; the present by default.
    """
    now = now or datetime.now(UTC)
    status = response.status_code
    body = _object(response)
    zoom_code = _integer(body.get("code"))
    message = _readable(body.get("message") or body.get("reason") or body.get("errorMessage"))
    said = (
        f"HTTP {status}"
        + (f", code {zoom_code}" if zoom_code is not None else "")
        + (f": {message}" if message else "")
    )

    def error(code: str, kind: Kind, text: str, **more: Any) -> ZoomError:
        return ZoomError(f"{text} ({said})", code=code, kind=kind, zoom_code=zoom_code, http_status=status, **more)

    if isinstance(body.get("error"), str) and status < HTTPStatus.INTERNAL_SERVER_ERROR:
        # Only the token endpoint answers in this form (RFC 6749, section 5.2).
        return error(
            "zoom_credential_rejected",
            Kind.CREDENTIAL,
            f"Zoom refused the OAuth app: {_readable(body['error'])}; check account id, client id and client secret",
        )
    if zoom_code == _SCOPES_MISSING or _SCOPES.search(message):
        scopes = _missing_scopes(message)
        return error(
            "zoom_scope_missing",
            Kind.CREDENTIAL,
            f"the OAuth app lacks scopes; add {', '.join(scopes) or 'them'} in the Zoom marketplace",
            scopes=scopes,
        )
    if zoom_code == _TOKEN_REFUSED:
        return _token_refused(error)
    if zoom_code == _HOST_NOT_ALLOWED:
        return error("zoom_host_not_allowed", Kind.HOST, "Zoom does not let this user host meetings; check its licence")
    if _INACTIVE.search(message):
        return error("zoom_host_inactive", Kind.HOST, "this Zoom user is not active; activate it or remove the account")
    if zoom_code in _HOST_UNKNOWN:
        return error(
            "zoom_host_unknown", Kind.HOST, "Zoom knows no such user on this account; correct the account's e-mail"
        )
    if zoom_code == _MEETING_MISSING:
        return error("zoom_meeting_missing", Kind.REQUEST, "this meeting does not exist at Zoom (any more)")
    if status == HTTPStatus.TOO_MANY_REQUESTS or zoom_code == HTTPStatus.TOO_MANY_REQUESTS:
        return _limited(error, response.headers, message, now)
    if status == HTTPStatus.UNAUTHORIZED:
        return _token_refused(error)
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR or status == HTTPStatus.REQUEST_TIMEOUT:
        return error(
            "zoom_unavailable",
            Kind.TRANSIENT,
            "Zoom could not handle the call; try again later",
            retry_after_s=retry_after_s(response.headers, now),
            outcome_unknown=changes,
        )
    fields = _wrong_fields(body)
    return error("zoom_request_rejected", Kind.REQUEST, "Zoom refused the request" + (f": {fields}" if fields else ""))


def unexpected_answer(response: httpx.Response, what: str, *, changes: bool) -> ZoomError:
    """Zoom reported success, but with a body that does not say what it must (a proxy's page, a cut-off body).

    Args:
        response: the answer.
        what: what could not be read, without its content.
        changes: whether the call changes something at Zoom; then that has probably happened.
    """
    return ZoomError(
        f"Zoom's answer could not be read: {what} (HTTP {response.status_code}); try again",
        code="zoom_answer_unreadable",
        kind=Kind.TRANSIENT,
        http_status=response.status_code,
        outcome_unknown=changes,
    )


def timed_out(what: str, timeout_s: float, *, outcome_unknown: bool) -> ZoomError:
    """The call did not finish in its time."""
    return ZoomError(
        f"{what}: Zoom did not answer within {timeout_s:g} s; try again",
        code="zoom_timeout",
        kind=Kind.TRANSIENT,
        outcome_unknown=outcome_unknown,
    )


def transport_failed(failure: httpx.HTTPError, what: str, *, changes: bool) -> ZoomError:
    """Translate a failure on the way to Zoom or back.

    Failures before the first byte went out had no effect for sure; after any other, only Zoom knows. The failure itself
    is named by its type: its text may quote a URL.
    """
    never_sent = isinstance(
        failure,
        httpx.ConnectError | httpx.ConnectTimeout | httpx.PoolTimeout | httpx.UnsupportedProtocol | httpx.ProxyError,
    )
    late = isinstance(failure, httpx.TimeoutException)
    happened = "Zoom could not be reached" if never_sent else "Zoom did not answer" if late else "the connection broke"
    return ZoomError(
        f"{what}: {happened} ({type(failure).__name__}); try again",
        code="zoom_timeout" if late else "zoom_unavailable",
        kind=Kind.TRANSIENT,
        outcome_unknown=changes and not never_sent,
    )


def retry_after_s(headers: Mapping[str, str], now: datetime) -> float | None:
    """Read `Retry-After`: seconds or a date (RFC 9110, section 10.2.3); None if it is absent or unreadable."""
    value = headers.get("retry-after", "").strip()
    if re.fullmatch(r"\d{1,9}(?:\.\d{1,9})?", value, re.ASCII):
        return float(value)
    try:
        # Zoom's own examples write the date as ISO 8601, the RFC as an HTTP date.
        when = datetime.fromisoformat(value) if re.match(r"\d{4}-", value) else parsedate_to_datetime(value)
    except ValueError:
        return None
    if when.tzinfo is None:
        when = when.replace(tzinfo=UTC)
    return max(0.0, (when - now).total_seconds())


def _limited(error: Callable[..., ZoomError], headers: Mapping[str, str], message: str, now: datetime) -> ZoomError:
    said = retry_after_s(headers, now)
    midnight = datetime(now.year, now.month, now.day, tzinfo=UTC) + timedelta(days=1)
    until_midnight_s = (midnight - now).total_seconds()
    if _HOST_DAILY.search(message):
        return error(
            "zoom_daily_limit",
            Kind.HOST,
            "this host has used up today's meeting creations; it is usable again at 00:00 UTC",
            retry_after_s=until_midnight_s if said is None else said,
        )
    if _DAILY.search(message) or (not message and _DAILY.search(headers.get("x-ratelimit-type", ""))):
        return error(
            "zoom_account_daily_limit",
            Kind.TRANSIENT,
            "the Zoom account has used up today's calls of this category",
            retry_after_s=until_midnight_s if said is None else said,
        )
    return error(
        "zoom_rate_limited",
        Kind.TRANSIENT,
        "too many calls to Zoom at once; slow down",
        retry_after_s=_PER_SECOND_PAUSE_S if said is None else said,
    )


def _token_refused(error: Callable[..., ZoomError]) -> ZoomError:
    return error(
        "zoom_credential_rejected",
        Kind.CREDENTIAL,
        "Zoom refused the access token; check that the OAuth app is activated",
    )


def _object(response: httpx.Response) -> dict[str, Any]:
    try:
        body = response.json()
    except (ValueError, RecursionError, httpx.ResponseNotRead):
        return {}
    return body if isinstance(body, dict) else {}


def _integer(value: object) -> int | None:
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return value
    return int(value) if isinstance(value, str) and re.fullmatch(r"\d{1,9}", value, re.ASCII) else None


def _missing_scopes(message: str) -> tuple[str, ...]:
    match = _SCOPES.search(message)
    return tuple(scope for part in match["scopes"].split(",") if (scope := part.strip())) if match else ()


def _wrong_fields(body: Mapping[str, Any]) -> str:
    errors = body.get("errors")
    if not isinstance(errors, list):
        return ""
    lines = (f"{item.get('field')}: {item.get('message')}" for item in errors if isinstance(item, dict))
    return _readable("; ".join(lines))


_HIDDEN = (
    (re.compile(r"\w+://\S+"), "[link]"),
    (
        re.compile(
            r"\b(zak|pwd|tk|\w*token|\w*secret|password|passcode|authorization)\b(\s*[=:]\s*)\S+", re.IGNORECASE
        ),
        r"\1\2[hidden]",
    ),
    (re.compile(r"\b(bearer|basic)\s+\S+", re.IGNORECASE), r"\1 [hidden]"),
    (re.compile(r"\beyJ[\w-]+(?:\.[\w-]*)*"), "[hidden]"),
)


def _readable(value: object) -> str:
    """Make a text of Zoom's fit for people and logs: no links, keys or tokens, on one line, not too long."""
    if not isinstance(value, str):
        return ""
    text = " ".join("".join(char if char.isprintable() else " " for char in value).split())
    for pattern, instead in _HIDDEN:
        text = pattern.sub(instead, text)
    return text if len(text) <= MAX_TEXT else text[: MAX_TEXT - 1] + "…"
