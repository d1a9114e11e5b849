"""A pool of hosts at a simulated Zoom, and jobs that find both through the environment, as in a deployment."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest
import redis.asyncio
from pydantic import SecretStr

from broker.client import AsyncBroker
from broker.models import Account, Credential, Lease, LeaseId
from broker.operations import Pool
from broker.registry import credentials
from broker.secrets import SecretBox, new_key
from broker.settings import Settings, load_settings
from broker.testing.zoom_simulator import AppSpec, SimulatorSettings, ZoomSimulator, example_hosts

CLIENT_SECRET = "made-up-client-secret"


@dataclass(frozen=True)
class School:
    """What a test of the jobs works with."""

    settings: Settings
    broker: AsyncBroker
    pool: Pool
    zoom: ZoomSimulator
    box: SecretBox

    async def claim(self, lesson: str = "algebra", owner: str = "anna") -> Lease:
        """A granted lease."""
        lease = (await self.broker.run(self.pool.claim(lesson, owner, topic="Algebra", duration_min=45))).lease
        assert lease is not None
        return lease

    async def look(self, lease: LeaseId) -> Lease | None:
        """The lease as it is now."""
        return (await self.broker.run(self.pool.find_lease(lease))).lease

    def meetings(self) -> list[int]:
        """The meetings that exist at Zoom."""
        return list(self.zoom.world.meetings)


@pytest.fixture
async def school(aredis: redis.asyncio.Redis, redis_url: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[School]:
    """Two hosts, one with room for two meetings."""
    simulator = ZoomSimulator(
        SimulatorSettings(
            hosts=example_hosts(2, (1, 2)),
            apps=(AppSpec(client_secret=SecretStr(CLIENT_SECRET)),),
            time_scale=0.001,
        )
    )
    async with simulator.serving() as base_url:
        environment = {
            "REDIS_URL": redis_url,
            "ZOOMPOOL_ENVIRONMENT": "development",
            "ZOOMPOOL_SECRET_KEYS": new_key(),
            "ZOOMPOOL_ZOOM_OAUTH_BASE": base_url,
            "ZOOMPOOL_ZOOM_API_BASE": f"{base_url}/v2",
            "ZOOMPOOL_ZOOM_TIMEOUT_S": "0.6",
            "ZOOMPOOL_ATTEMPT_TTL_S": "0.8",
            "ZOOMPOOL_CREATE_TTL_S": "5",
            "ZOOMPOOL_RECONCILE_GRACE_S": "0",
            "ZOOMPOOL_RECONCILE_LOOK_GAP_S": "0",
        }
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        settings = load_settings()
        broker = AsyncBroker(aredis, settings)
        box = SecretBox(settings.secret_keys)
        app = simulator.settings.apps[0]
        await credentials.save(
            aredis, box, Credential("default", app.account_id, app.client_id, SecretStr(CLIENT_SECRET))
        )
        pool = broker.pool()
        await broker.run(pool.register())
        for number, host in enumerate(simulator.settings.hosts, 1):
            account = Account(f"host{number:02d}", host.email, "", "default", host.capacity or 1)
            await broker.run(pool.add_account(account))
        yield School(settings, broker, pool, simulator, box)
