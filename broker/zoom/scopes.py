"""The OAuth scopes that the app needs at Zoom."""

from __future__ import annotations

from collections.abc import Iterable

NEEDED = (
    "meeting:write:meeting:admin",
    "meeting:read:meeting:admin",
    "meeting:read:list_meetings:admin",
    "meeting:update:meeting:admin",
    "meeting:update:status:admin",
    "meeting:delete:meeting:admin",
    "user:read:user:admin",
    "user:read:list_users:admin",
)
_CLASSIC = {
    "meeting:write:admin": ("meeting:write:", "meeting:update:", "meeting:delete:"),
    "meeting:read:admin": ("meeting:read:",),
    "user:read:admin": ("user:read:",),
    "user:write:admin": ("user:read:",),
}
"""Apps made before granular scopes came have these; each stands for all that begin so."""


def missing(granted: Iterable[str]) -> tuple[str, ...]:
    """Which of the needed scopes an app was not given.

    Args:
        granted: the scopes of its access token.
    """
    have = set(granted)
    covered = tuple(start for classic in have & _CLASSIC.keys() for start in _CLASSIC[classic])
    return tuple(scope for scope in NEEDED if scope not in have and not scope.startswith(covered))
