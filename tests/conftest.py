"""Every test that needs Redis gets a real, private, empty one that this run started itself.

`REDIS_URL` is never read here: nobody's server is emptied because it happened to be in the environment.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator, Iterator

import pytest
import redis as redis_py
from redis import asyncio as redis_asyncio

from broker.testing.redis_server import RedisServer


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    """The run's own server. Tests that kill or stop one start another of their own."""
    with RedisServer(fsync="no") as server:
        with redis_py.Redis.from_url(server.url, socket_timeout=10) as client:
            assert client.dbsize() == 0, "a server that was just started in a new folder cannot have keys: not ours"
        yield server


@pytest.fixture
def redis_url(redis_server: RedisServer) -> Iterator[str]:
    """The server's URL, its database empty before and after."""
    with redis_py.Redis.from_url(redis_server.url, socket_timeout=10) as client:
        assert client.config_get("dir")["dir"] == str(redis_server.folder), "this is not the server that we started"
        client.flushall()
        yield redis_server.url
        client.flushall()


@pytest.fixture
def redis(redis_url: str) -> Iterator[redis_py.Redis]:
    """A blocking client."""
    with redis_py.Redis.from_url(redis_url, decode_responses=True, socket_timeout=10) as client:
        yield client


@pytest.fixture
async def aredis(redis_url: str) -> AsyncIterator[redis_asyncio.Redis]:
    """An async client."""
    async with redis_asyncio.Redis.from_url(redis_url, decode_responses=True, socket_timeout=10) as client:
        yield client


SYSTEMS = frozenset({"stack", "together"})
"""Fixtures that are a whole running system."""

# A machine without a browser can run everything else; CI says that it has one, so that nothing is left out there.
collect_ignore = [] if shutil.which("chromium") or os.environ.get("ZOOMPOOL_TEST_BROWSER") else ["browser"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep the tests of one running system together, or every process of a parallel run would start one."""
    for item in items:
        if SYSTEMS.intersection(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.xdist_group(item.path.parent.name))


def pytest_report_header() -> str:
    """Say which browser the tests use."""
    return f"browser: {shutil.which('chromium') or 'none on PATH (chromium): the tests of the pages are left out'}"
