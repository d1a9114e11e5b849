"""Many calls at a time share small pools, and proxies are used where the environment says so."""

from __future__ import annotations

import asyncio

import httpx
import pytest

from broker.testing.zoom_simulator import SimulatorSettings, ZoomSimulator
from broker.zoom.connections import ManyPools, proxy_for


async def test_requests_go_by_all_pools_in_turn_and_connections_are_used_again() -> None:
    simulator = ZoomSimulator(SimulatorSettings())
    async with simulator.serving() as url:
        transport = ManyPools(url, pools=4)
        async with httpx.AsyncClient(base_url=url, transport=transport, timeout=10) as http:
            for _ in range(3):
                answers = await asyncio.gather(*(http.get("/sim/calls") for _ in range(8)))
                assert {answer.status_code for answer in answers} == {200}
            open_connections = [len(pool._pool.connections) for pool in transport._pools]
    assert sum(open_connections) <= 8
    assert min(open_connections) >= 1


@pytest.mark.parametrize(
    ("environment", "url", "proxy"),
    [
        ({"https_proxy": "http://proxy.example:3128"}, "https://api.zoom.example/v2", "http://proxy.example:3128"),
        ({"https_proxy": "http://proxy.example:3128"}, "http://api.zoom.example/v2", None),
        ({"https_proxy": "http://p:1", "no_proxy": "zoom.example"}, "https://api.zoom.example/v2", None),
        ({}, "https://api.zoom.example/v2", None),
    ],
)
def test_environment_says_whether_there_is_a_proxy(
    environment: dict[str, str], url: str, proxy: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert proxy_for(url) == proxy
