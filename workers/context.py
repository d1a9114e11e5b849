"""What a job needs to work: settings, the broker, Zoom, secrets, and a way to enqueue further jobs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import redis.asyncio

from broker import credentials
from broker.client import AsyncBroker, translated
from broker.jobs import JobSpec
from broker.models import Credential
from broker.redis import connect, connect_async
from broker.secrets import SecretBox
from broker.settings import Settings, load_settings
from broker.zoom import ZoomClient, open_zoom
from workers import queues


@dataclass(frozen=True)
class Context:
    """The means of one job; made by `open_context` on the event loop that runs it."""

    settings: Settings
    redis: redis.asyncio.Redis
    broker: AsyncBroker
    box: SecretBox
    zoom: ZoomClient

    async def credential(self, name: str) -> Credential:
        """Load a Zoom credential.

        Raises:
            UnknownCredential: it is not registered.
        """
        return await credentials.load(self.redis, self.box, name or self.settings.default_credential)

    async def enqueue(self, spec: JobSpec, *args: str | int | dict[str, Any], job_id: str | None = None) -> bool:
        """Put a job in its queue; see `workers.queues.enqueue`."""

        def blocking() -> bool:
            connection = connect(self.settings, decode_responses=False)
            try:
                with translated("enqueue"):
                    return queues.enqueue(connection, spec, *args, job_id=job_id)
            finally:
                connection.close()

        return await asyncio.to_thread(blocking)


@asynccontextmanager
async def open_context(settings: Settings | None = None) -> AsyncIterator[Context]:
    """Open everything that a job needs, and close it afterwards.

    Raises:
        ConfigurationError: the environment lacks a setting.
    """
    settings = settings or load_settings()
    box = SecretBox(settings.secret_keys)
    connection = connect_async(settings)
    try:
        async with open_zoom(settings, connection, box) as zoom:
            yield Context(settings, connection, AsyncBroker(connection, settings), box, zoom)
    finally:
        await connection.aclose()
