"""A command line that speaks with the private Redis."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

import pytest
import redis as redis_py
import structlog
from pydantic import SecretStr
from typer.testing import CliRunner, Result

from broker.cli import app
from broker.client import Broker
from broker.operations import Pool
from broker.settings import Settings
from broker.testing.zoom_simulator import AppSpec, HostSpec, SimulatorSettings, ZoomSimulator
from tests.unit.cli.running import JWT_KEY, KEY, SECRET, Run, ok


@pytest.fixture(autouse=True)
def restored_logging() -> Iterator[None]:
    """Commands set up logging for their process, which is the tests' own here."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


@pytest.fixture
def environment(redis_url: str) -> dict[str, str]:
    return {
        "REDIS_URL": redis_url,
        "ZOOMPOOL_ENVIRONMENT": "development",
        "ZOOMPOOL_SECRET_KEYS": KEY,
        "ZOOMPOOL_JWT_KEY": JWT_KEY,
        "ZOOMPOOL_CLIENT_SECRET": SECRET,
        "COLUMNS": "200",
    }


@pytest.fixture
def zoompool(environment: dict[str, str], redis: redis_py.Redis) -> Run:
    """Run a command in this process; `env` adds variables, None removes one."""

    def run(*arguments: str, input: str | None = None, env: dict[str, str | None] | None = None) -> Result:
        return CliRunner().invoke(app, list(arguments), input=input, env={**environment, **(env or {})})

    return run


@pytest.fixture
def broker(redis: redis_py.Redis, redis_url: str) -> Broker:
    return Broker(redis, Settings(redis_url=redis_url))


@pytest.fixture
def pool(broker: Broker, zoompool: Run) -> Pool:
    """A pool of two accounts, made through the command line."""
    ok(zoompool("credentials", "add", "default", "--account-id", "acc", "--client-id", "cli"))
    ok(zoompool("accounts", "add", "host-1", "--email", "one@school.example"))
    ok(zoompool("accounts", "add", "host-2", "--email", "two@school.example", "--capacity", "2"))
    return broker.pool("default")


@pytest.fixture
def zoom() -> ZoomSimulator:
    """A Zoom that knows the two hosts of the pool."""
    return ZoomSimulator(
        SimulatorSettings(
            hosts=(HostSpec(email="one@school.example"), HostSpec(email="two@school.example", capacity=2)),
            apps=(AppSpec(client_id="cli", client_secret=SecretStr(SECRET)),),
        )
    )


@pytest.fixture
async def beside_zoom(
    zoompool: Run, pool: Pool, zoom: ZoomSimulator
) -> AsyncIterator[Callable[..., Awaitable[Result]]]:
    """Run a command while the simulated Zoom is up, which lives in this thread's event loop."""
    async with zoom.serving() as base_url:
        addresses = {"ZOOMPOOL_ZOOM_OAUTH_BASE": base_url, "ZOOMPOOL_ZOOM_API_BASE": f"{base_url}/v2"}

        def run(*arguments: str, env: dict[str, str | None] | None = None) -> Awaitable[Result]:
            return asyncio.to_thread(zoompool, *arguments, env={**addresses, **(env or {})})

        account_id = zoom.settings.apps[0].account_id
        ok(await run("credentials", "add", "default", "--account-id", account_id, "--client-id", "cli"))
        yield run
