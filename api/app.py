"""The HTTP service, put together. Nothing is opened before it starts."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from importlib.metadata import version

from fastapi import FastAPI

from api import errors, openapi, requests
from api.routes import credentials, following, health, lessons, pages, pools, queue, registry, teachers, webhook
from api.services import make_services, running
from broker import logs
from broker.settings import Settings, load_settings

DESCRIPTION = """Starts lessons on a school's pool of Zoom hosts.

Errors are problem+json (RFC 9457): programs go by `code`, people read `detail`, in Russian or English by
`Accept-Language`."""


def create_app(settings: Settings | None = None) -> FastAPI:
    """Make the application.

    Raises:
        ConfigurationError: a setting is missing or unsafe.
    """
    settings = settings or load_settings()
    services = make_services(settings)

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        logs.configure(settings)
        async with running(services):
            yield

    app = FastAPI(
        title="Zoom pool",
        version=version("zoompool"),
        description=DESCRIPTION,
        lifespan=lifespan,
        generate_unique_id_function=lambda route: "_".join((*map(str, route.tags[:1]), route.name)),
    )
    app.state.services = services
    errors.install(app)
    openapi.install(app)
    requests.install(app, services)
    # Zoom's webhook first: routes are tried in order, and most requests are for that one.
    for routes in (webhook, lessons, registry, teachers, credentials, pools, health, pages, following, queue):
        app.include_router(routes.router)
    pages.mount_static(app)
    return app
