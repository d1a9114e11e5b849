"""Zoom's rate limits: per account and category, in seconds and in UTC days."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from broker.testing.zoom_simulator import refusals
from broker.testing.zoom_simulator.settings import RateLimits

DAY_S = 86_400


class RateLimiter:
    """Counts calls in fixed windows of a second and of a UTC day, pooled by account and category.

    Args:
        limits: the numbers; may be replaced while running.
        clock: seconds since the epoch.
    """

    def __init__(self, limits: RateLimits, clock: Callable[[], float]) -> None:
        self.limits = limits
        self._clock = clock
        self._second = 0
        self._in_second: Counter[tuple[str, str]] = Counter()
        self._day = 0
        self._in_day: Counter[tuple[str, str]] = Counter()

    def take(self, account_id: str, category: str) -> dict[str, str]:
        """Count one call; return the headers of its answer.

        Raises:
            Refused: 429.
        """
        if not self.limits.enabled:
            return {}
        now_s = self._clock()
        self._turn_windows(now_s)
        key = (account_id, category)
        per_day, per_second = self.limits.per_day.get(category, 0), self.limits.per_second.get(category, 0)
        if per_day and self._in_day[key] >= per_day:
            raise refusals.per_day_limit(self._headers(category, "Daily-limit", per_day, 0, retry_at=_midnight(now_s)))
        if per_second and self._in_second[key] >= per_second:
            raise refusals.per_second_limit(self._headers(category, "QPS", per_second, 0, retry_at="1"))
        self._in_day[key] += 1
        self._in_second[key] += 1
        if not per_second:
            return {}
        return self._headers(category, "QPS", per_second, per_second - self._in_second[key])

    def _turn_windows(self, now_s: float) -> None:
        if int(now_s) != self._second:
            self._second = int(now_s)
            self._in_second.clear()
        if int(now_s // DAY_S) != self._day:
            self._day = int(now_s // DAY_S)
            self._in_day.clear()

    def _headers(self, category: str, kind: str, limit: int, left: int, retry_at: str = "") -> dict[str, str]:
        if not self.limits.headers:
            return {}
        headers = {
            "X-RateLimit-Category": category.capitalize(),
            "X-RateLimit-Type": kind,
            "X-RateLimit-Limit": str(limit),
            "X-RateLimit-Remaining": str(left),
        }
        return headers | ({"Retry-After": retry_at} if retry_at else {})


def _midnight(now_s: float) -> str:
    today = datetime.fromtimestamp(now_s, UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    return (today + timedelta(days=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
