"""The HTTP service, put together. Nothing is opened before it starts."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from fastapi import FastAPI

from api import errors
from api.jobs import Jobs
from api.lessons import Lessons
from api.routes import health, lessons, webhook
from broker import logs
from broker.client import AsyncBroker
from broker.events import BLOCK_S, EventHub
from broker.redis import connect, connect_async
from broker.secrets import SecretBox
from broker.settings import Settings, load_settings

STOP_AGAIN_S = 0.1


def create_app(settings: Settings | None = None) -> FastAPI:
    """Make the application.

    Raises:
        ConfigurationError: a setting is missing or unsafe.
    """
    settings = settings or load_settings()
    box = SecretBox(settings.secret_keys)

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        logs.configure(settings)
        commands = connect_async(settings)
        listener = connect_async(settings, blocking_s=BLOCK_S)
        queues = connect(settings, decode_responses=False)
        hub = EventHub(listener, commands)
        listening = asyncio.create_task(hub.run(), name="event listener")
        state = app.state
        state.broker, state.hub, state.jobs = AsyncBroker(commands, settings), hub, Jobs(queues)
        state.lessons = Lessons(state.broker, hub, state.jobs, box)
        try:
            yield
        finally:
            while not listening.done():
                # Again if need be: a cancellation that meets redis-py in the middle of connecting gets lost there.
                listening.cancel()
                await asyncio.wait({listening}, timeout=STOP_AGAIN_S)
            await hub.aclose()
            await listener.aclose()
            await commands.aclose()
            queues.close()

    app = FastAPI(title="Zoom pool", version="0.1.0", lifespan=lifespan)
    app.state.settings = settings
    errors.install(app)
    for routes in (lessons, webhook, health):
        app.include_router(routes.router)
    return app
