"""One running system for all acceptance tests: real processes, a real Redis, and a simulated Zoom in a hurry.

Each test leaves it as it was: every part running, every slot free, no meeting left, no invariant broken.
"""

from __future__ import annotations

import base64
import secrets
from collections.abc import AsyncIterator, Iterator

import pytest

from broker.jobs import QueueName
from broker.testing.environment import example_accounts
from broker.testing.school import School
from broker.testing.stack import Stack
from broker.testing.verdict import settle
from broker.testing.zoom_simulator import HostSpec, Latency, SimulatorSettings, WebhookConfig
from tests.web_app import WebApp, listening_web_app

ACCOUNTS = example_accounts(4, (1, 2))
SETTLE_S = 30.0

# Recovery takes as long as these times let it, and tests wait for it.
SETTINGS = {
    "zoom_timeout_s": 2,
    "attempt_ttl_s": 2.5,
    "create_ttl_s": 15,
    "reap_interval_s": 1,
    "reconcile_interval_s": 2,
    "reconcile_grace_s": 1,
}
ZOOM = SimulatorSettings(
    time_scale=0.02,
    latency=Latency(ms=40),
    hosts=tuple(HostSpec(email=account.email, capacity=account.capacity) for account in ACCOUNTS),
    webhooks=WebhookConfig(duplication=0.2, reorder=0.2, reorder_window_s=20, retry_after_s=(25, 50, 100, 200, 400)),
)


@pytest.fixture(scope="session")
def stack() -> Iterator[Stack]:
    """The running system. Whoever kills a part starts it again."""
    workers = {QueueName.CREATE: 2, QueueName.WEBHOOKS: 1, QueueName.PERIODIC: 1}
    with Stack(ACCOUNTS, workers=workers, settings=SETTINGS, zoom=ZOOM) as running:
        yield running


@pytest.fixture
async def school(stack: Stack) -> AsyncIterator[School]:
    """The people of the school. When they have gone home, everything must be as if they had never come."""
    async with stack.school() as people:
        yield people
        stack.start()
        await people.clear_faults()
        await people.webhooks(loss=0)
        verdict = await settle(stack.broker, people, slots=stack.slots, timeout_s=SETTLE_S, look=stack.check)
        assert verdict.clean, f"{verdict} {await people.verdict()} {stack.broker.run(stack.broker.pool().dashboard())}"


@pytest.fixture(scope="module")
def web_app() -> Iterator[WebApp]:
    """The school's web app, for a system that tells it of lessons."""
    with listening_web_app("whsec_" + base64.b64encode(secrets.token_bytes(24)).decode()) as app:
        yield app
