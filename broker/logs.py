"""Logging, set up in one place: JSON lines in production, readable lines elsewhere, always on stderr.

Results go to stdout, so that `zoompool … --json` stays readable by machines. Records of libraries (uvicorn, RQ) take
the same form. Whatever carries a secret's name, or looks like one inside a text, is masked before it is rendered.
"""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Mapping, MutableMapping
from typing import Any

import structlog
from structlog.typing import Processor

from broker.settings import Settings

MASK = "[hidden]"

SECRET_FIELDS = frozenset(
    {
        "access_token",
        "api_key",
        "authorization",
        "client_secret",
        "cookie",
        "credentials",
        "download_token",
        "encrypted_token",
        "encryptedtoken",
        "h323_password",
        "join_url",
        "jwt_key",
        "passcode",
        "password",
        "plain_token",
        "plaintoken",
        "play_url",
        "download_url",
        "pstn_password",
        "encrypted_password",
        "redis_url",
        "sealed_start_url",
        "secret",
        "secret_key",
        "secret_keys",
        "set_cookie",
        "start_url",
        "token",
        "webhook_secret",
        "webhook_secret_previous",
        "x_zm_signature",
        "zak",
        "zoom_join_url",
        "zoom_password",
        "zoom_start_url",
    }
)
"""Names, in lower case and with underscores, whose values are never written. Whoever has a start_url is the host of
the lesson, and a join_url carries the passcode."""

# Secrets inside texts, above all in tracebacks, which nobody writes field by field.
_IN_TEXT = (
    (re.compile(r"\b(zak|pwd|tk|access_token|download_token|client_secret)=[^\s&\"']+", re.IGNORECASE), rf"\1={MASK}"),
    (re.compile(r"\b(bearer|basic)\s+[A-Za-z0-9._~+/=-]{8,}", re.IGNORECASE), rf"\1 {MASK}"),
    (re.compile(r"\b(rediss?|unix)://[^\s/@]*@"), rf"\1://{MASK}@"),
    (re.compile(r"\beyJ[\w-]{8,}(?:\.[\w-]*)+"), MASK),
)
_DEEPEST = 6

# These say on INFO what we say better (every HTTP call with its URL, every job with its life story).
_QUIET = {"httpx": logging.WARNING, "httpcore": logging.WARNING, "uvicorn.access": logging.WARNING}


def configure(settings: Settings) -> None:
    """Set up structlog and the standard library's logging for this process. Calling it again starts anew.

    Args:
        settings: `environment` chooses the form, `log_level` what is written.
    """
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
        # Before masking, and as plain text: structlog's other renderers quote local variables, secrets among them.
        structlog.processors.format_exc_info,
        mask_secrets,
    ]
    renderer: Processor = (
        structlog.processors.JSONRenderer(ensure_ascii=False)
        if settings.environment == "production"
        else structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
        )
    )
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.stdlib.PositionalArgumentsFormatter(),
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(settings.log_level.upper())
    for name, level in _QUIET.items():
        logging.getLogger(name).setLevel(level)


def mask_secrets(logger: Any, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """A structlog processor: hide the values of fields with secret names, and secrets inside texts."""
    for name in list(event):
        if not name.startswith("_"):
            event[name] = MASK if _is_secret(name) else masked(event[name])
    return event


def masked(value: Any, depth: int = 0) -> Any:
    """Return `value` without its secrets; containers are copied, other objects become their `repr`."""
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, bytes):
        return f"<{len(value)} bytes>"
    if isinstance(value, str):
        return _mask_text(value)
    if depth >= _DEEPEST:
        return "…"
    if isinstance(value, Mapping):
        return {str(k): MASK if _is_secret(str(k)) else masked(v, depth + 1) for k, v in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [masked(item, depth + 1) for item in value]
    return _mask_text(repr(value))


def _is_secret(name: str) -> bool:
    return name.lower().replace("-", "_") in SECRET_FIELDS


def _mask_text(text: str) -> str:
    for pattern, instead in _IN_TEXT:
        text = pattern.sub(instead, text)
    return text
