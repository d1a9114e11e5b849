"""What a check found."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from broker.errors import ZoomPoolError


class Level(StrEnum):
    """How bad it is."""

    OK = "ok"
    WARNING = "warning"
    """Lessons start, but somebody should look."""
    FAILED = "failed"
    """Lessons fail or leases leak, now or soon."""


@dataclass(frozen=True)
class Finding:
    """One line of the doctor's report.

    Attributes:
        check: stable name of the check, such as `redis.version`.
        level: how bad it is.
        says: what is so, with the thing it is about.
        do: what to do about it; empty if all is well.
    """

    check: str
    level: Level
    says: str
    do: str = ""


def failure(check: str, error: ZoomPoolError) -> Finding:
    """A check that could not be made, or whose subject refuses."""
    return Finding(check, Level.FAILED, str(error), f"zoompool explain {error.code}")
