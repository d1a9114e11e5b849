"""The teacher's page in a real Chromium, against real processes and a simulated Zoom with one host."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Iterator

import pytest
from playwright.async_api import BrowserContext, Route, async_playwright

from broker.jobs import QueueName
from broker.testing.environment import example_accounts
from broker.testing.school import School
from broker.testing.stack import Stack
from broker.testing.verdict import settle
from broker.testing.zoom_simulator import HostSpec, Latency, SimulatorSettings

ACCOUNTS = example_accounts(1, (1,))
SETTINGS = {
    "reap_interval_s": 1,
    "reconcile_interval_s": 2,
    "reconcile_grace_s": 1,
    "default_language": "ru",
    "queue_max": 1,
}
ZOOM = SimulatorSettings(
    time_scale=0.02,
    latency=Latency(ms=40),
    hosts=tuple(HostSpec(email=account.email, capacity=account.capacity) for account in ACCOUNTS),
)


@pytest.fixture(scope="package")
def stack() -> Iterator[Stack]:
    """The running system."""
    workers = {QueueName.CREATE: 1, QueueName.WEBHOOKS: 1, QueueName.PERIODIC: 1}
    with Stack(ACCOUNTS, workers=workers, settings=SETTINGS, zoom=ZOOM) as running:
        yield running


@pytest.fixture
async def school(stack: Stack) -> AsyncIterator[School]:
    """The people of the school; when they have gone home, nothing is left."""
    async with stack.school() as people:
        yield people
        await people.clear_faults()
        stack.broker.run(stack.broker.pool().cancel("first-in-line", "clara"))
        for meeting in await people.meetings():
            await people.end_in_zoom(meeting["id"])
        for lease in stack.broker.run(stack.broker.pool().leases(count=10)):
            await people.end(lease.lesson, lease.owner)
        verdict = await settle(stack.broker, people, slots=stack.slots, timeout_s=30, look=stack.check)
        assert verdict.clean, verdict


@pytest.fixture
async def browser() -> AsyncIterator[BrowserContext]:
    """A fresh profile. Zoom's own pages are played, because a meeting needs no more than being opened."""
    async with async_playwright() as playwright:
        # The sandbox needs privileges that a container does not give, and only our own pages are opened.
        chromium = await playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        context = await chromium.new_context(locale="ru-RU")
        context.set_default_timeout(20_000)

        async def zoom(route: Route) -> None:
            await route.fulfill(content_type="text/html", body="<title>Zoom</title><h1>Zoom meeting</h1>")

        await context.route("https://zoom.example/**", zoom)
        yield context
        await context.close()
        await chromium.close()
