"""How often Zoom may be called: a budget for each Zoom account and category, shared by all processes through Redis.

Zoom counts calls for a whole account, whichever app makes them, by category and second, on some plans also by day; and
the creations of each host by UTC day ("Rate limits" in Zoom's API documentation). Staying below is better than being
refused: whoever is refused at ten o'clock tries again together with everybody else. So each call is entered in the
budget first, and gets a moment of its own when the present second is full; the caller waits for it. If that would take
longer than the caller has time for, it fails at once, with the time to wait.

Work in the background never books ahead and leaves a share of every budget to lessons that are about to start.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from enum import StrEnum
from typing import Any

import redis.asyncio

from broker import keys, scripts
from broker.client import AsyncBroker
from broker.models import Credential
from broker.operations import Operation
from broker.settings import RateLimit, Settings
from broker.zoom.errors import Kind, ZoomError

WINDOW_MS = 1_100
"""Zoom's second, and how much later than the one before it a call may arrive."""


class Category(StrEnum):
    """Zoom's rate limit label of a call."""

    LIGHT = "light"
    """One thing: get, update, end, delete a meeting; get a user."""
    MEDIUM = "medium"
    """Many things: lists. And, by Zoom's reference, creating a meeting."""
    HEAVY = "heavy"
    """Reports; the broker asks for none, but other apps of the account may."""


PLANS: Mapping[str, Mapping[Category, RateLimit]] = {
    "free": {
        Category.LIGHT: RateLimit(per_s=4, per_day=6_000),
        Category.MEDIUM: RateLimit(per_s=2, per_day=2_000),
        Category.HEAVY: RateLimit(per_s=1, per_day=1_000),
    },
    "pro": {
        Category.LIGHT: RateLimit(per_s=30),
        Category.MEDIUM: RateLimit(per_s=20),
        Category.HEAVY: RateLimit(per_s=10, per_day=30_000),
    },
    "business": {
        Category.LIGHT: RateLimit(per_s=80),
        Category.MEDIUM: RateLimit(per_s=60),
        Category.HEAVY: RateLimit(per_s=40, per_day=60_000),
    },
}
"""Zoom's numbers; "business" stands for Business, Education and Enterprise."""


class Budgets:
    """The budgets of all Zoom accounts, as one kind of caller sees them.

    Args:
        redis: where they are shared; must decode responses.
        settings: plans and numbers.
        background: nobody waits for this caller.
    """

    def __init__(self, redis: redis.asyncio.Redis, settings: Settings, *, background: bool = False) -> None:
        self._broker = AsyncBroker(redis, settings)
        self._settings = settings
        self._background = background

    def in_background(self) -> Budgets:
        """The same budgets as they are for work that nobody waits for."""
        return Budgets(self._broker.redis, self._settings, background=True)

    @property
    def of_creations(self) -> Category:
        """The category of creating a meeting, which Zoom documents both as light and as medium."""
        return Category(self._settings.zoom_create_category)

    async def spend(self, credential: Credential, category: Category, *, patience_s: float, host: str = "") -> None:
        """Enter one call in its budget, and wait until it may be made.

        Args:
            credential: the OAuth app that will call; its Zoom account pays.
            category: of the call.
            patience_s: how long the caller can wait.
            host: for a creation: on which host.

        Raises:
            ZoomError: `zoom_rate_budget` if the wait is too long; `zoom_account_daily_limit` or `zoom_daily_limit` if
                the account or the host has nothing left today. Zoom was not called.
            BrokerUnavailable: Redis did not answer.
        """
        if not self._limited(credential, category, host):
            return
        outcome, wait_s = await self._broker.run(
            self._operation(credential, category, host=host, patience_s=0 if self._background else patience_s)
        )
        if outcome == "granted":
            await asyncio.sleep(wait_s)
            return
        raise _refusal(outcome, wait_s, credential, category, host)

    async def learn(self, credential: Credential, category: Category, error: ZoomError, *, host: str = "") -> None:
        """Take Zoom's word when it counted more calls than we did: other apps call it, too.

        Args:
            credential: the OAuth app that was refused.
            category: of the call.
            error: what Zoom answered; nothing is learnt from most.
            host: for a creation: on which host.

        Raises:
            BrokerUnavailable: Redis did not answer.
        """
        used_up = {"zoom_account_daily_limit": "day", "zoom_daily_limit": "host" if host else ""}.get(error.code)
        if used_up and error.http_status is not None:  # else it is our own word
            await self._broker.run(self._operation(credential, category, host=host, used_up=used_up))

    def _limited(self, credential: Credential, category: Category, host: str) -> bool:
        limit = self.limit(credential, category)
        return bool(limit.per_s or limit.per_day or (host and self._settings.zoom_host_daily))

    def limit(self, credential: Credential, category: Category) -> RateLimit:
        """How often this category may be called with this credential: by settings, or else by the account's plan."""
        settings = self._settings
        plan = PLANS[settings.zoom_plans.get(credential.name, settings.zoom_plan)]
        return settings.zoom_limits.get(category.value) or plan[category]

    def _operation(
        self, credential: Credential, category: Category, *, host: str, patience_s: float = 0, used_up: str = ""
    ) -> Operation[tuple[str, float]]:
        limit = self.limit(credential, category)
        share = 1 - self._settings.zoom_reserve if self._background else 1
        script = scripts.load("spend")
        arguments = script.arguments(
            {
                "per_s": limit.per_s,
                "places": max(1, int(limit.per_s * share)),
                "window_ms": WINDOW_MS,
                "per_day": limit.per_day and max(1, int(limit.per_day * share)),
                "host": host.lower(),
                "host_per_day": self._settings.zoom_host_daily,
                "most_wait_ms": round(patience_s * 1000),
                "used_up": used_up,
            }
        )
        key = keys.budget(credential.account_id, category)
        return Operation("spend", (1, key, *arguments), _read, script)


def _read(answer: Any) -> tuple[str, float]:
    return str(answer[0]), int(answer[2]) / 1000


def _refusal(outcome: str, wait_s: float, credential: Credential, category: Category, host: str) -> ZoomError:
    match outcome:
        case "host_day":
            return ZoomError(
                f"host {host} has used up today's meeting creations by our count; it is usable again at 00:00 UTC",
                code="zoom_daily_limit",
                kind=Kind.HOST,
                retry_after_s=wait_s,
            )
        case "day":
            return ZoomError(
                f"the Zoom account of credential {credential.name!r} has used up today's {category} calls; they start "
                "anew at 00:00 UTC",
                code="zoom_account_daily_limit",
                kind=Kind.TRANSIENT,
                retry_after_s=wait_s,
            )
        case _:
            return ZoomError(
                f"too many {category} calls are waiting for the Zoom account of credential {credential.name!r}; try "
                f"again in {wait_s:.1f} s",
                code="zoom_rate_budget",
                kind=Kind.TRANSIENT,
                retry_after_s=wait_s,
            )
