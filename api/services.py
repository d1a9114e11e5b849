"""What the service works with: opened once when it starts, closed when it stops."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass

import redis.asyncio

from api.auth import Authenticator
from api.jobs import Jobs
from api.lessons import Lessons
from api.line import Line
from api.metrics import Metrics
from broker.client import AsyncBroker
from broker.events import BLOCK_S, EventHub, stop
from broker.redis import connect, connect_async
from broker.secrets import SecretBox
from broker.settings import Settings


@dataclass(frozen=True)
class Services:
    """The means of every request; `api.deps` hands them to routes one by one."""

    settings: Settings
    broker: AsyncBroker
    box: SecretBox
    jobs: Jobs
    hub: EventHub
    lessons: Lessons
    authenticator: Authenticator
    metrics: Metrics
    listener: redis.asyncio.Redis
    """The hub's; here only to be closed."""


def make_services(settings: Settings) -> Services:
    """Put everything together; no connection is opened before the first use.

    Raises:
        ConfigurationError: a setting is missing or unsafe.
    """
    box = SecretBox(settings.secret_keys)
    commands = connect_async(settings)
    broker = AsyncBroker(commands, settings)
    listener = connect_async(settings, blocking_s=BLOCK_S)
    hub = EventHub(listener, commands)
    jobs = Jobs(commands, connect(settings, decode_responses=False))
    metrics = Metrics()
    return Services(
        settings=settings,
        broker=broker,
        box=box,
        jobs=jobs,
        hub=hub,
        lessons=Lessons(broker, hub, jobs, box, metrics, Line(broker)),
        authenticator=Authenticator(settings),
        metrics=metrics,
        listener=listener,
    )


@contextlib.asynccontextmanager
async def running(services: Services) -> AsyncIterator[None]:
    """Listen to the pools' events as long as the service runs, and close every connection in the end."""
    listener = asyncio.create_task(services.hub.run(), name="event listener")
    line = asyncio.create_task(services.lessons.line.run(), name="places in line")
    try:
        yield
    finally:
        await stop(listener, line)
        await services.hub.aclose()
        await services.listener.aclose()
        await services.authenticator.aclose()
        await services.jobs.aclose()
        await services.broker.redis.aclose()
        services.metrics.close()
