"""What a job needs to work: settings, the broker, Zoom, secrets, and a way to enqueue further jobs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import Any

import redis.asyncio
from redis import Redis

from broker.client import AsyncBroker, translated
from broker.jobs import JobSpec
from broker.models import Credential
from broker.redis import connect, connect_async
from broker.registry import credentials
from broker.secrets import SecretBox
from broker.settings import Settings, load_settings
from broker.zoom import ZoomClient, open_zoom
from workers import queues


@dataclass(frozen=True)
class Context:
    """The means of a job, or of all jobs that run on one event loop.

    Attributes:
        settings: of this process.
        redis: decodes responses.
        broker: the pools.
        box: encrypts what must not be readable in Redis.
        zoom: one connection pool to Zoom, and its access tokens.
        queues: for enqueuing; it blocks, and is used on threads.
    """

    settings: Settings
    redis: redis.asyncio.Redis
    broker: AsyncBroker
    box: SecretBox
    zoom: ZoomClient
    queues: Redis

    def in_background(self) -> Context:
        """The same for work that nobody waits for: it leaves a share of what Zoom allows to lessons."""
        return replace(self, zoom=self.zoom.in_background())

    async def credential(self, name: str) -> Credential:
        """Load a Zoom credential.

        Raises:
            UnknownCredential: it is not registered.
        """
        return await credentials.load(self.redis, self.box, name or self.settings.default_credential)

    async def enqueue(self, spec: JobSpec, *args: str | int | dict[str, Any], job_id: str | None = None) -> bool:
        """Put a job in its queue; see `workers.queues.enqueue`."""

        def blocking() -> bool:
            with translated("enqueue"):
                return queues.enqueue(self.queues, spec, *args, job_id=job_id)

        return await asyncio.to_thread(blocking)


_shared: ContextVar[Context | None] = ContextVar("shared_context", default=None)


@asynccontextmanager
async def open_context(settings: Settings | None = None) -> AsyncIterator[Context]:
    """Everything that a job needs: the shared one, or else one that is opened here and closed afterwards.

    Args:
        settings: what to use instead of the environment and of what is shared.

    Raises:
        ConfigurationError: the environment lacks a setting.
    """
    shared = _shared.get()
    if shared is not None and settings is None:
        yield shared
        return
    settings = settings or load_settings()
    box = SecretBox(settings.secret_keys)
    connection = connect_async(settings)
    blocking = connect(settings, decode_responses=False)
    try:
        async with open_zoom(settings, connection, box) as zoom:
            yield Context(settings, connection, AsyncBroker(connection, settings), box, zoom, blocking)
    finally:
        blocking.close()
        await connection.aclose()


@asynccontextmanager
async def share_context(settings: Settings) -> AsyncIterator[Context]:
    """Open one context for all jobs whose tasks are created inside: one set of connections instead of one for each job.

    Raises:
        ConfigurationError: a setting is missing.
    """
    async with open_context(settings) as context:
        token = _shared.set(context)
        try:
            yield context
        finally:
            _shared.reset(token)
