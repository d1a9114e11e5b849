"""Faults of the simulated Zoom over real HTTP: what the client sees, and whether the call had its effect."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from broker.testing.zoom_simulator import (
    AppSpec,
    Latency,
    LatencyKind,
    SimulatorSettings,
    ZoomSimulator,
    example_hosts,
)

HOST, OTHER = "host01@school.example", "host02@school.example"
CREATE = {"method": "POST", "path": "/v2/users/*/meetings"}


class Client:
    """A client that is logged in, and the simulator it talks to."""

    def __init__(self, simulator: ZoomSimulator, http: httpx.AsyncClient) -> None:
        self.simulator = simulator
        self.http = http

    async def log_in(self) -> None:
        form = {"grant_type": "account_credentials", "account_id": "demo-account"}
        answer = await self.http.post("/oauth/token", data=form, auth=("demo-client", "an-app-secret"))
        self.http.headers["authorization"] = f"Bearer {answer.json()['access_token']}"

    async def fault(self, **rule: Any) -> int:
        answer = await self.http.post("/sim/faults", json=rule)
        assert answer.status_code == 200, answer.text
        number: int = answer.json()["id"]
        return number

    async def create(self, host: str = HOST, timeout_s: float = 5) -> httpx.Response:
        return await self.http.post(f"/v2/users/{host}/meetings", json={"topic": "Algebra"}, timeout=timeout_s)

    @property
    def created(self) -> int:
        return self.simulator.judge.meetings_created


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(3):
        while not condition():  # noqa: ASYNC110 - conditions of another's making, with a deadline
            await asyncio.sleep(0.01)


@contextlib.asynccontextmanager
async def zoom(**changes: Any) -> AsyncIterator[Client]:
    app = AppSpec(client_secret=SecretStr("an-app-secret"))
    simulator = ZoomSimulator(SimulatorSettings(**({"hosts": example_hosts(2), "apps": (app,)} | changes)))
    async with simulator.serving() as base, httpx.AsyncClient(base_url=base, trust_env=False, timeout=5) as http:
        client = Client(simulator, http)
        await client.log_in()
        yield client


@pytest.mark.parametrize(("when", "effects"), [("before", 0), ("after", 1)])
async def test_other_answer_comes_without_or_after_the_effect(when: str, effects: int) -> None:
    async with zoom() as client:
        body = {"code": 200, "message": "Only available for paid account: demo-account."}
        await client.fault(**CREATE, action="respond", status=400, body=body, headers={"X-Odd": "1"}, when=when)
        answer = await client.create()
        assert (answer.status_code, answer.json(), answer.headers["x-odd"]) == (400, body, "1")
        assert client.created == effects


@pytest.mark.parametrize(("when", "effects"), [("before", 0), ("after", 1)])
async def test_hanging_call_is_held_until_the_client_gives_up(when: str, effects: int) -> None:
    async with zoom() as client:
        await client.fault(**CREATE, action="hang", when=when, times=1)
        with pytest.raises(httpx.ReadTimeout):
            await client.create(timeout_s=0.2)
        assert client.created == effects
        assert (await client.create()).status_code == 201


async def test_hanging_call_is_cut_off_in_the_end() -> None:
    async with zoom(hold_s=0.1) as client:
        await client.fault(action="hang", **CREATE)
        with pytest.raises((httpx.ReadError, httpx.RemoteProtocolError)):
            await client.create()


@pytest.mark.parametrize(("when", "effects"), [("before", 0), ("after", 1)])
async def test_connection_is_reset_without_an_answer(when: str, effects: int) -> None:
    async with zoom() as client:
        await client.fault(**CREATE, action="reset", when=when, times=1)
        with pytest.raises((httpx.ReadError, httpx.RemoteProtocolError)):
            await client.create()
        assert client.created == effects
        assert (await client.create()).status_code == 201


async def test_delayed_call_comes_late_and_has_its_effect_even_for_a_client_that_gave_up() -> None:
    async with zoom() as client:
        await client.fault(**CREATE, action="delay", delay_ms=300)
        with pytest.raises(httpx.ReadTimeout):
            await client.create(timeout_s=0.1)
        assert client.created == 0
        await until(lambda: client.created == 1)


async def test_204_that_ends_nothing() -> None:
    async with zoom() as client:
        number = (await client.create()).json()["id"]
        await client.http.post(f"/sim/meetings/{number}/join", json={"name": "teacher", "role": "host"})
        path = f"/v2/meetings/{number}"
        await client.fault(method="PUT", path="/v2/meetings/*/status", action="respond", status=204, times=1)
        assert (await client.http.put(f"{path}/status", json={"action": "end"})).status_code == 204
        assert (await client.http.get(path)).json()["status"] == "started"
        assert (await client.http.put(f"{path}/status", json={"action": "end"})).status_code == 204
        assert (await client.http.get(path)).json()["status"] == "waiting"


async def test_rule_hits_one_host_some_times_after_some_calls() -> None:
    async with zoom() as client:
        rule = await client.fault(host=HOST, action="respond", status=503, skip=1, times=2)
        statuses = [(await client.create()).status_code for _ in range(4)]
        assert statuses == [201, 503, 503, 201]
        assert (await client.create(OTHER)).status_code == 201
        listed = (await client.http.get("/sim/faults")).json()["faults"]
        assert [(each["id"], each["applied"]) for each in listed] == [(rule, 2)]


async def test_rule_of_a_host_hits_calls_about_its_meetings() -> None:
    async with zoom() as client:
        numbers = [(await client.create(host)).json()["id"] for host in (HOST, OTHER)]
        await client.fault(host=HOST, action="respond", status=502)
        answers = [(await client.http.get(f"/v2/meetings/{number}")).status_code for number in numbers]
        assert answers == [502, 200]


async def test_chance_of_a_rule_comes_from_the_seed() -> None:
    async def run(seed: int) -> list[int]:
        async with zoom(seed=seed) as client:
            await client.fault(path="/v2/users/*", action="respond", status=500, probability=0.5)
            return [(await client.http.get(f"/v2/users/{HOST}")).status_code for _ in range(40)]

    first, again, other = await run(1), await run(1), await run(2)
    assert first == again != other
    assert {200, 500} == set(first)


async def test_rules_can_be_taken_away() -> None:
    async with zoom() as client:
        rule = await client.fault(action="respond", status=500, path="/oauth/token")
        await client.fault(action="respond", status=500, path="/v2/users")
        assert (await client.http.delete(f"/sim/faults/{rule}")).json() == {"removed": 1}
        await client.log_in()
        assert (await client.http.delete("/sim/faults")).json() == {"removed": 1}
        assert (await client.http.get("/v2/users")).status_code == 200
        assert (await client.http.post("/sim/faults", json={"action": "explode"})).status_code == 422


async def test_latency_is_set_by_operation() -> None:
    uniform = Latency(kind=LatencyKind.UNIFORM, ms=150, spread=20)
    async with zoom(route_latency={"create_meeting": uniform}) as client:
        began = time.monotonic()
        await client.create()
        middle = time.monotonic()
        await client.http.get(f"/v2/users/{HOST}")
        assert middle - began >= 0.13
        assert time.monotonic() - middle < 0.13


async def test_held_calls_do_not_delay_the_end_of_the_server() -> None:
    simulator = ZoomSimulator(SimulatorSettings())
    async with httpx.AsyncClient(trust_env=False, timeout=30) as http:
        async with simulator.serving() as base:
            await http.post(f"{base}/sim/faults", json={"action": "hang"})
            held = asyncio.create_task(http.get(f"{base}/v2/users"))
            await until(lambda: simulator.api.calls["list_users"] == 1)
            began = time.monotonic()
        assert time.monotonic() - began < 2
        with pytest.raises(httpx.TransportError):
            await held


async def test_world_and_webhooks_survive_an_outage() -> None:
    async with zoom() as client:
        number = (await client.create()).json()["id"]
        again = client.simulator
    async with again.serving() as base, httpx.AsyncClient(base_url=base, trust_env=False) as http:
        assert [each["id"] for each in (await http.get("/sim/meetings")).json()["meetings"]] == [number]
        await http.put("/sim/webhooks", json={"url": f"{base}/nowhere"})
        await http.post(f"/sim/meetings/{number}/join", json={"name": "teacher", "role": "host"})
        assert again.webhooks.pending == 2
