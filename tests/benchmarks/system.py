"""The real system for a benchmark: many hosts, and a Zoom without rate limits that takes its usual time."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import psutil

from broker.jobs import QueueName
from broker.settings import RateLimit
from broker.testing.environment import example_accounts
from broker.testing.school import mint_token
from broker.testing.stack import Stack
from broker.testing.zoom_simulator import HostSpec, Latency, RateLimits, SimulatorSettings, WebhookConfig
from tests.benchmarks.http_load import Answer, Connection

ZOOM_MS = 300.0
OPEN_AT_ONCE = 50

ONE_WORKER = {QueueName.CREATE: 1}
SETTINGS: dict[str, Any] = {
    "environment": "development",
    "log_level": "WARNING",
    "max_leases_per_owner": 1000,
    # Nothing shall expire in mid-measurement.
    "claim_ttl_s": 60,
    "zoom_timeout_s": 10,
    "attempt_ttl_s": 20,
    "create_ttl_s": 120,
    "start_grace_s": 3600,
    "live_ttl_s": 3600,
    "wait_default_s": 30,
    # Zoom has no rate limits here, so neither have we.
    "zoom_limits": {category: RateLimit() for category in ("light", "medium", "heavy")},
    "zoom_host_daily": 0,
}


def system(accounts: int, *, capacity: int = 1, webhooks: bool = False, **settings: Any) -> Stack:
    """One API process, one worker for creations, Zoom in a process of its own; Redis saves as in docker-compose.yml."""
    pool = example_accounts(accounts, (capacity,))
    zoom = SimulatorSettings(
        hosts=tuple(HostSpec(email=account.email, capacity=account.capacity) for account in pool),
        route_latency={"create_meeting": Latency(ms=ZOOM_MS)},
        rate_limits=RateLimits(host_daily=0),
        webhooks=WebhookConfig(loss=0 if webhooks else 1),
    )
    workers = dict(ONE_WORKER) | ({QueueName.WEBHOOKS: 1} if webhooks else {})
    return Stack(pool, workers=workers, settings=SETTINGS | settings, zoom=zoom, fsync="everysec")


@contextlib.asynccontextmanager
async def connections(url: str, count: int) -> AsyncIterator[list[Connection]]:
    """So many open connections."""
    made = [Connection(url) for _ in range(count)]
    for start in range(0, count, OPEN_AT_ONCE):
        await asyncio.gather(*(connection.open() for connection in made[start : start + OPEN_AT_ONCE]))
    try:
        yield made
    finally:
        await asyncio.gather(*(connection.close() for connection in made))


async def start_lesson(stack: Stack, connection: Connection, number: int | str) -> Answer:
    """Press "start lesson"."""
    token = mint_token(stack.settings.jwt_key, f"teacher-{number}")
    headers = {"authorization": f"Bearer {token}", "prefer": "wait=30"}
    return await connection.ask("POST", f"/api/schedule/lessons/bench-{number}/start-new/", headers=headers)


async def at_rate(count: int, per_second: float, send: Any) -> list[Any]:
    """Call `send(number)` `count` times at a fixed rate, whatever the answers take (an open loop)."""
    began = time.perf_counter()
    tasks = []
    for number in range(count):
        await asyncio.sleep(max(0.0, began + number / per_second - time.perf_counter()))
        tasks.append(asyncio.create_task(send(number)))
    return list(await asyncio.gather(*tasks))


@dataclass(frozen=True)
class Usage:
    """What one process uses."""

    name: str
    rss_bytes: int
    cpu_s: float


def usage(stack: Stack) -> Iterator[Usage]:
    """What each process of the system uses now; its children counted with it."""
    for name, process in stack.processes.items():
        if process.pid is None:
            continue
        parent = psutil.Process(process.pid)
        family = [parent, *parent.children(recursive=True)]
        times = [each.cpu_times() for each in family]
        yield Usage(
            name, sum(each.memory_info().rss for each in family), sum(time.user + time.system for time in times)
        )


def refused(answers: Sequence[Answer]) -> str:
    """The first answer that was not a success, for an error message; empty if there is none."""
    return next((f"{a.status} {a.body[:300].decode(errors='replace')}" for a in answers if a.status != 200), "")
