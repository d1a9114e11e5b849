"""Sends signed webhooks as Zoom does: late, sometimes twice or never, in any order, and again when they were not taken.

See "Using webhooks" in Zoom's developer documentation: the signature, the three seconds, and the retries after 5, 20
and 60 minutes on server errors, time-outs and broken connections; redirects and client errors are final.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
import json
import random
import secrets
import uuid
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import httpx
import structlog

from broker.testing.zoom_simulator.entities import Event
from broker.testing.zoom_simulator.faults import draw_s
from broker.testing.zoom_simulator.settings import WebhookConfig

VALIDATIONS_BEFORE_DISABLED = 6
RECENT = 100
AT_ONCE = 64
"""Deliveries under way at the same time."""

log = structlog.get_logger(__name__)


class Outcome(StrEnum):
    """How one try to deliver went."""

    TAKEN = "taken"
    REFUSED = "refused"
    """Final: Zoom repeats neither after a redirect nor after a client error."""
    RETRY = "retry"


@dataclass
class Delivery:
    """One event on its way to the receiver."""

    event: str
    body: bytes = field(repr=False)
    tries: int = 0
    outcome: str = "pending"
    statuses: list[int] = field(default_factory=list)
    """Of each try; 0 where no answer came."""
    signed_at: str = ""


class WebhookSender:
    """Delivers events to one receiver, in background tasks of the running loop.

    Args:
        config: where to, and what goes wrong; may be replaced while running.
        seed: of what goes wrong.
        time_scale: multiplies Zoom's delays.
        clock: seconds since the epoch.
    """

    def __init__(self, config: WebhookConfig, *, seed: int, time_scale: float, clock: Callable[[], float]) -> None:
        self.config = config
        self.enabled = True
        """False after too many failed URL validations in a row."""
        self.counts: Counter[str] = Counter()
        """events, sent (tries), acked, failed (given up), lost, duplicated."""
        self.recent: deque[Delivery] = deque(maxlen=RECENT)
        self._time_scale = time_scale
        self._clock = clock
        self._chance = random.Random(f"{seed}/webhooks")
        self._tasks: set[asyncio.Task[None]] = set()
        self._slots = asyncio.Semaphore(AT_ONCE)
        self._closing = asyncio.Event()
        self._http: httpx.AsyncClient | None = None
        self._failed_validations = 0

    @property
    def pending(self) -> int:
        """Deliveries that are not settled yet, those that wait for a retry included."""
        return len(self._tasks)

    def state(self) -> dict[str, Any]:
        """Settings without the secret, and counts; fit for JSON."""
        names = ("events", "sent", "acked", "failed", "lost", "duplicated")
        return {
            "config": self.config.model_dump(mode="json", exclude={"secret"}),
            "secret_set": bool(self.config.secret.get_secret_value()),
            "enabled": self.enabled,
            **{name: self.counts[name] for name in names},
            "pending": self.pending,
            "recent": [
                {"event": each.event, "tries": each.tries, "outcome": each.outcome, "statuses": each.statuses}
                for each in self.recent
            ],
        }

    def enqueue(self, event: Event) -> None:
        """Send an event some time soon; or never, if that is its fate. Needs a running loop if there is a receiver."""
        self.counts["events"] += 1
        config = self.config
        if not config.url or not self.enabled or self._closing.is_set():
            return
        # All chance is drawn here, in the order of events: the same seed has the same fate for the same events.
        lost = self._chance.random() < config.loss
        copies = 2 if self._chance.random() < config.duplication else 1
        held_back = self._chance.random() < config.reorder
        held_s = self._chance.uniform(0, config.reorder_window_s) if held_back else 0.0
        extra_s = [draw_s(config.delay, self._chance) for _ in range(copies)]
        if lost or event.name in config.drop:
            self.counts["lost"] += 1
            return
        self.counts["duplicated"] += copies - 1
        after_s = (config.delays_s.get(event.name, 0.0) + held_s) * self._time_scale
        body = self._body(event)
        for extra in extra_s:
            delivery = Delivery(event.name, body)
            self.recent.append(delivery)
            task = asyncio.get_running_loop().create_task(self._deliver(delivery, after_s + extra))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def validate(self) -> dict[str, Any]:
        """Ask the receiver to prove that it knows the secret; six failures in a row disable it.

        Returns:
            `valid`, the `status` of its answer (0: none came), and whether webhooks are still `enabled`.
        """
        plain = secrets.token_urlsafe(16)
        body = json.dumps(
            {
                "event": "endpoint.url_validation",
                "event_ts": round(self._clock() * 1000),
                "payload": {"plainToken": plain},
            }
        ).encode()
        expected = {"plainToken": plain, "encryptedToken": self._hmac(plain.encode())}
        status, answer = 0, None
        if self.config.url:
            with contextlib.suppress(httpx.HTTPError, httpx.InvalidURL, ValueError):
                response = await self._post(body, self._stamp())
                status, answer = response.status_code, response.json()
        valid = status == 200 and answer == expected
        self._failed_validations = 0 if valid else self._failed_validations + 1
        if valid:
            self.enabled = True
        elif self._failed_validations >= VALIDATIONS_BEFORE_DISABLED:
            self.enabled = False
        return {"valid": valid, "status": status, "enabled": self.enabled}

    def reopen(self) -> None:
        """Send again after `aclose`."""
        self._closing.clear()

    async def aclose(self, timeout_s: float = 3.0) -> None:
        """Send what is still waiting for its delay, give up retries, and stop; within `timeout_s`."""
        self._closing.set()
        if self._tasks:
            _, late = await asyncio.wait(set(self._tasks), timeout=timeout_s)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)
        if self._http is not None:
            await self._http.aclose()
            self._http = None

    async def _deliver(self, delivery: Delivery, after_s: float) -> None:
        await self._pause(after_s)
        pauses = (*self.config.retry_after_s, None)
        for pause_s in pauses:
            outcome = await self._try(delivery)
            if outcome is Outcome.TAKEN:
                self.counts["acked"] += 1
                delivery.outcome = "acked"
                return
            if outcome is Outcome.REFUSED or pause_s is None:
                break
            if not await self._pause(pause_s * self._time_scale):
                break
        self.counts["failed"] += 1
        delivery.outcome = "failed"
        log.info("webhook given up", event_name=delivery.event, tries=delivery.tries, statuses=delivery.statuses)

    async def _try(self, delivery: Delivery) -> Outcome:
        if not delivery.signed_at or self.config.fresh_timestamp_on_retry:
            delivery.signed_at = self._stamp()
        delivery.tries += 1
        self.counts["sent"] += 1
        try:
            async with self._slots:
                response = await self._post(delivery.body, delivery.signed_at)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            delivery.statuses.append(0)
            log.debug("webhook not delivered", event_name=delivery.event, error=type(error).__name__)
            return Outcome.RETRY
        delivery.statuses.append(response.status_code)
        if response.is_success:
            return Outcome.TAKEN
        return Outcome.RETRY if response.status_code >= 500 else Outcome.REFUSED

    async def _post(self, body: bytes, stamp: str) -> httpx.Response:
        if self._http is None:
            self._http = httpx.AsyncClient(
                follow_redirects=False, trust_env=False, limits=httpx.Limits(max_connections=AT_ONCE)
            )
        signature = self._hmac(b"v0:" + stamp.encode() + b":" + body)
        timeout_s = self.config.timeout_s
        try:
            # httpx limits each step; Zoom limits the whole.
            async with asyncio.timeout(timeout_s):
                return await self._http.post(
                    self.config.url,
                    content=body,
                    headers={
                        "content-type": "application/json; charset=utf-8",
                        "user-agent": "Zoom Marketplace/1.0a",
                        "x-zm-request-timestamp": stamp,
                        "x-zm-signature": f"v0={signature}",
                        "x-zm-request-id": uuid.uuid4().hex,
                    },
                    timeout=timeout_s,
                )
        except TimeoutError:
            raise httpx.ReadTimeout(f"no answer within {timeout_s:g} s") from None

    async def _pause(self, seconds: float) -> bool:
        """Wait; return whether the time passed before `aclose`."""
        if seconds <= 0:
            return not self._closing.is_set()
        try:
            await asyncio.wait_for(self._closing.wait(), seconds)
        except TimeoutError:
            return True
        return False

    def _body(self, event: Event) -> bytes:
        thing = dict(event.object)
        if self.config.host_email and event.host_email:
            thing["host_email"] = event.host_email
        envelope = {
            "event": event.name,
            "event_ts": round(event.at_s * 1000),
            "payload": {"account_id": event.account_id, "object": thing},
            **event.extra,
        }
        return json.dumps(envelope, ensure_ascii=False, separators=(",", ":")).encode()

    def _stamp(self) -> str:
        return str(int(self._clock()))

    def _hmac(self, message: bytes) -> str:
        return hmac.new(self.config.secret.get_secret_value().encode(), message, hashlib.sha256).hexdigest()
