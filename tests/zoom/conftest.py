"""A client that speaks with a scripted Zoom."""

from __future__ import annotations

import httpx
import pytest
import redis.asyncio

from broker.zoom import client as client_module
from broker.zoom import transport
from broker.zoom.auth import TokenSource
from broker.zoom.client import ZoomClient
from broker.zoom.limits import Budgets
from tests.zoom.scripted_zoom import BOX, Zoom, settings


@pytest.fixture
def zoom() -> Zoom:
    return Zoom()


@pytest.fixture
def client(zoom: Zoom, aredis: redis.asyncio.Redis) -> ZoomClient:
    http = httpx.AsyncClient(transport=httpx.MockTransport(zoom))
    config = settings()
    return ZoomClient(http, TokenSource(aredis, BOX, http, "http://zoom.test"), Budgets(aredis, config), config)


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Further tries and looks follow each other quickly; how many there are stays as it is."""
    monkeypatch.setattr(transport, "FIRST_PAUSE_S", 0.01)
    monkeypatch.setattr(client_module, "LOOKS_AFTER_S", (0.0, 0.01, 0.02))
