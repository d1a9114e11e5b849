"""How much the system adds to Zoom's own time, and how many starts at once it serves."""

from __future__ import annotations

import asyncio
import time

from broker.testing.stack import Stack
from tests.benchmarks import postgres
from tests.benchmarks.http_load import Answer
from tests.benchmarks.report import Figure, percentile, spread
from tests.benchmarks.system import ZOOM_MS, at_rate, connections, refused, start_lesson, system

BURST = 1000
OLD_FLOW_STARTS = 200
WARM_UP = 20


def overhead() -> list[Figure]:
    """A start's time minus Zoom's own, at one and at fifty starts a second, beside a health check at the same rate.

    What rests for a second has to be fetched into the processor's caches again; the health check, which does next to
    nothing, tells how much that costs on this machine.

    Raises:
        RuntimeError: a start was refused.
    """
    figures: list[Figure] = []
    for per_second, count in ((1, 20), (50, 500)):
        with system(accounts=count + WARM_UP) as stack:
            took = asyncio.run(paced(stack, count, per_second))
            bare = percentile(asyncio.run(health_checks(stack, count, per_second)), 50)
        figures += spread(
            f"start_overhead_ms.{per_second}_per_s",
            [ms - ZOOM_MS for ms in took],
            limits=(15, 60),
            beside=f"{count} starts; Zoom takes {ZOOM_MS:g} ms of each; a health check at this rate {bare:.2g} ms",
        )
    return figures


async def warm_up(stack: Stack) -> None:
    """Start some lessons at once, so that what is loaded and opened on first use does not count."""
    async with connections(stack.api_url, WARM_UP) as open_connections:
        starts = (start_lesson(stack, one, f"warm-{number}") for number, one in enumerate(open_connections))
        await asyncio.gather(*starts)


async def health_checks(stack: Stack, count: int, per_second: float) -> list[float]:
    async with connections(stack.api_url, count) as open_connections:

        async def send(number: int) -> Answer:
            return await open_connections[number].ask("GET", "/healthz")

        answers = await at_rate(count, per_second, send)
    return [answer.ms for answer in answers]


async def paced(stack: Stack, count: int, per_second: float) -> list[float]:
    await warm_up(stack)
    async with connections(stack.api_url, count) as open_connections:

        async def send(number: int) -> Answer:
            return await start_lesson(stack, open_connections[number], number)

        answers = await at_rate(count, per_second, send)
    if problem := refused(answers):
        raise RuntimeError(f"a start was refused: {problem}")
    return [answer.ms for answer in answers]


def burst() -> list[Figure]:
    """A thousand starts in the same instant on a thousand hosts, and the old flow at its best.

    Raises:
        RuntimeError: a start was refused.
        PostgresMissing: the peer cannot be measured.
    """
    with system(accounts=BURST + WARM_UP) as stack:
        seconds, slowest = asyncio.run(_burst(stack))
        app = stack.zoom_app
        hosts = [account.email for account in stack.accounts[:OLD_FLOW_STARTS]]
        # The same Zoom, in the same run; the meetings of the burst do not matter to it.
        old = postgres.starts_per_second(stack.zoom_url, app, hosts, OLD_FLOW_STARTS)
    ours = BURST / seconds
    beside = f"old flow on PostgreSQL: {old:.1f}/s with {postgres.WORKERS} workers; Zoom takes {ZOOM_MS:g} ms"
    return [
        Figure("burst.last_s", seconds, "s", 5, "less", f"{BURST} starts at once; Zoom takes {ZOOM_MS:g} ms"),
        Figure("burst.per_s", ours, "1/s", None, "more", beside),
        Figure("burst.vs_old_flow", ours / old, "", 12, "more", beside),
        Figure("burst.slowest_ms", slowest, "ms", None, "less", "the same burst"),
    ]


async def _burst(stack: Stack) -> tuple[float, float]:
    await warm_up(stack)
    async with connections(stack.api_url, BURST) as open_connections:
        starts = [start_lesson(stack, connection, number) for number, connection in enumerate(open_connections)]
        began = time.perf_counter()
        answers = await asyncio.gather(*starts)
        seconds = time.perf_counter() - began
    if problem := refused(answers):
        raise RuntimeError(f"a start was refused: {problem}")
    return seconds, max(answer.ms for answer in answers)
