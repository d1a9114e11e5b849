"""Webhooks of the simulated Zoom, taken by a receiver on a real socket that knows the signature by itself."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
import itertools
import json
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from broker.testing.zoom_simulator import HostSpec, Role, SimulatorSettings, WebhookConfig, ZoomSimulator
from broker.testing.zoom_simulator.requests import CreateBody

HOST = "host@school.example"
SECRET = "a-webhook-secret"


@dataclass(frozen=True)
class Received:
    """One webhook as it came."""

    at_s: float
    headers: dict[str, str]
    raw: bytes

    @property
    def body(self) -> dict[str, Any]:
        parsed: dict[str, Any] = json.loads(self.raw)
        return parsed

    @property
    def event(self) -> str:
        name: str = self.body["event"]
        return name

    @property
    def genuine(self) -> bool:
        message = b"v0:" + self.headers["x-zm-request-timestamp"].encode() + b":" + self.raw
        expected = "v0=" + hmac.new(SECRET.encode(), message, hashlib.sha256).hexdigest()
        return hmac.compare_digest(expected, self.headers["x-zm-signature"])


Answer = tuple[int, bytes] | None
"""Status and body; None: the connection is closed without an answer."""


@dataclass
class Receiver:
    """A web server of the plainest kind."""

    answer: Callable[[Received], Answer] = lambda _: (200, b"")
    received: list[Received] = field(default_factory=list)
    url: str = ""

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:])}
            raw = await reader.readexactly(int(headers["content-length"]))
            webhook = Received(time.monotonic(), headers, raw)
            self.received.append(webhook)
            answer = self.answer(webhook)
            if answer is not None:
                status, body = answer
                writer.write(f"HTTP/1.1 {status} X\r\nConnection: close\r\n".encode())
                writer.write(f"Location: /elsewhere\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
                await writer.drain()
        writer.close()

    def events(self) -> list[str]:
        return [webhook.event for webhook in self.received]


@contextlib.asynccontextmanager
async def receiving(receiver: Receiver) -> AsyncIterator[Receiver]:
    server = await asyncio.start_server(receiver.handle, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        receiver.url = f"http://127.0.0.1:{port}/webhook/"
        yield receiver


def make(receiver: Receiver, *, time_scale: float = 0.0001, seed: int = 1, **webhooks: Any) -> ZoomSimulator:
    config = WebhookConfig(url=receiver.url, secret=SecretStr(SECRET), **webhooks)
    hosts = (HostSpec(email=HOST),)
    return ZoomSimulator(SimulatorSettings(hosts=hosts, webhooks=config, time_scale=time_scale, seed=seed))


def create(simulator: ZoomSimulator, **body: Any) -> int:
    return simulator.world.create_meeting("demo-account", HOST, lambda: CreateBody.model_validate(body)).id


async def until(condition: Callable[[], bool], timeout_s: float = 5) -> None:
    async with asyncio.timeout(timeout_s):
        while not condition():  # noqa: ASYNC110 - conditions of another's making, with a deadline
            await asyncio.sleep(0.005)


async def settled(simulator: ZoomSimulator) -> None:
    await until(lambda: simulator.webhooks.pending == 0)


async def test_life_of_a_meeting_is_told_with_good_signatures() -> None:
    async with receiving(Receiver()) as receiver:
        simulator = make(receiver)
        async with simulator.serving() as base, httpx.AsyncClient(base_url=base, trust_env=False) as http:
            number = create(simulator, topic="Алгебра")
            joined = await http.post(f"/sim/meetings/{number}/join", json={"name": "teacher", "role": "host"})
            uuid = joined.json()["meeting"]["uuid"]
            await http.post(f"/sim/meetings/{number}/leave", json={"participant_id": joined.json()["participant_id"]})
            # Nobody asks any more: the end comes by itself.
            await until(lambda: "meeting.ended" in receiver.events())
            await until(lambda: len(receiver.received) == 5)
            await settled(simulator)
            state = (await http.get("/sim/webhooks")).json()
    assert sorted(receiver.events()) == [
        "meeting.created",
        "meeting.ended",
        "meeting.participant_joined",
        "meeting.participant_left",
        "meeting.started",
    ]
    assert all(webhook.genuine for webhook in receiver.received)
    assert {webhook.headers["content-type"] for webhook in receiver.received} == {"application/json; charset=utf-8"}
    ended = next(webhook.body for webhook in receiver.received if webhook.event == "meeting.ended")
    assert (ended["payload"]["object"]["id"], ended["payload"]["object"]["uuid"]) == (str(number), uuid)
    assert ended["payload"]["object"]["topic"] == "Алгебра"
    assert ended["payload"]["account_id"] == "demo-account"
    assert abs(ended["event_ts"] / 1000 - time.time()) < 60
    assert (state["events"], state["sent"], state["acked"], state["failed"], state["pending"]) == (5, 5, 5, 0, 0)
    assert state["secret_set"] is True
    assert SECRET not in json.dumps(state)


async def test_untaken_webhook_is_repeated_after_5_20_and_60_minutes_then_dropped() -> None:
    async with receiving(Receiver(answer=lambda _: (503, b""))) as receiver:
        simulator = make(receiver)
        create(simulator)
        await settled(simulator)
        await simulator.webhooks.aclose()
    times = [webhook.at_s for webhook in receiver.received]
    gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert len(gaps) == 3
    for gap, expected in zip(gaps, (0.03, 0.12, 0.36), strict=True):
        assert expected - 0.01 <= gap < expected + 0.5
    assert len({webhook.raw for webhook in receiver.received}) == 1
    assert (simulator.webhooks.counts["failed"], simulator.webhooks.counts["acked"]) == (1, 0)


async def test_broken_connection_and_time_out_are_repeated_until_it_is_taken() -> None:
    answers: list[Answer] = [None, (500, b""), (204, b"")]
    async with receiving(Receiver(answer=lambda _: answers.pop(0))) as receiver:
        simulator = make(receiver)
        create(simulator)
        await settled(simulator)
        await simulator.webhooks.aclose()
    assert (simulator.webhooks.counts["sent"], simulator.webhooks.counts["acked"]) == (3, 1)


async def test_receiver_that_is_too_slow_gets_it_again() -> None:
    never = asyncio.Event()
    tries = 0

    async def slow_then_quick(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal tries
        tries += 1
        await reader.readuntil(b"\r\n\r\n")
        if tries == 1:
            await asyncio.wait_for(never.wait(), 5)
        writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(slow_then_quick, "127.0.0.1", 0)
    async with server:
        receiver = Receiver(url=f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/")
        simulator = make(receiver, timeout_s=0.1)
        create(simulator)
        await settled(simulator)
        await simulator.webhooks.aclose()
        never.set()
    assert (tries, simulator.webhooks.counts["acked"]) == (2, 1)


@pytest.mark.parametrize("status", [302, 400, 401, 404, 429])
async def test_redirects_and_client_errors_are_final(status: int) -> None:
    async with receiving(Receiver(answer=lambda _: (status, b""))) as receiver:
        simulator = make(receiver)
        create(simulator)
        await settled(simulator)
        await simulator.webhooks.aclose()
    assert len(receiver.received) == 1
    assert simulator.webhooks.counts["failed"] == 1


@pytest.mark.parametrize("fresh", [True, False])
async def test_whether_a_retry_has_a_new_timestamp_is_a_switch(fresh: bool) -> None:
    now = [1_700_000_000.0]

    def refuse_and_wait(webhook: Received) -> Answer:
        now[0] += 300
        return (500, b"")

    async with receiving(Receiver(answer=refuse_and_wait)) as receiver:
        config = WebhookConfig(url=receiver.url, secret=SecretStr(SECRET), fresh_timestamp_on_retry=fresh)
        hosts = (HostSpec(email=HOST),)
        settings = SimulatorSettings(hosts=hosts, webhooks=config, time_scale=0.00001)
        simulator = ZoomSimulator(settings, clock=lambda: now[0])
        create(simulator)
        await settled(simulator)
        await simulator.webhooks.aclose()
    assert len({webhook.headers["x-zm-request-timestamp"] for webhook in receiver.received}) == (4 if fresh else 1)
    assert all(webhook.genuine for webhook in receiver.received)


async def test_loss_and_duplication_come_from_the_seed() -> None:
    async def run(seed: int) -> tuple[list[int], int, int]:
        async with receiving(Receiver()) as receiver:
            simulator = make(receiver, seed=seed, loss=0.3, duplication=0.3)
            for _ in range(40):
                create(simulator)
            await settled(simulator)
            await simulator.webhooks.aclose()
            ids = sorted(webhook.body["payload"]["object"]["id"] for webhook in receiver.received)
            return ids, simulator.webhooks.counts["lost"], simulator.webhooks.counts["duplicated"]

    ids, lost, duplicated = await run(7)
    assert lost > 0
    assert duplicated > 0
    assert len(ids) == 40 - lost + duplicated
    assert len(set(ids)) == 40 - lost
    assert await run(7) == (ids, lost, duplicated)
    assert (await run(8))[1:] != (lost, duplicated)


async def test_reordering_lets_later_events_overtake() -> None:
    async with receiving(Receiver()) as receiver:
        simulator = make(receiver, time_scale=0.001, reorder=0.5, reorder_window_s=100)
        numbers = [create(simulator) for _ in range(20)]
        await settled(simulator)
        await simulator.webhooks.aclose()
    came = [webhook.body["payload"]["object"]["id"] for webhook in receiver.received]
    assert sorted(came) == sorted(numbers)
    assert came != numbers


async def test_named_events_can_be_dropped_while_running() -> None:
    async with receiving(Receiver()) as receiver:
        simulator = make(receiver)
        async with simulator.serving() as base, httpx.AsyncClient(base_url=base, trust_env=False) as http:
            answer = await http.put("/sim/webhooks", json={"drop": ["meeting.ended"]})
            assert answer.json()["config"]["url"] == receiver.url, "what is left out stays"
            number = create(simulator)
            simulator.world.join(number, "teacher", Role.HOST)
            await http.post(f"/sim/meetings/{number}/end")
            await until(lambda: "meeting.participant_left" in receiver.events())
            await settled(simulator)
    assert "meeting.ended" not in receiver.events()
    assert simulator.webhooks.counts["lost"] == 1


async def test_changes_of_a_user_are_told() -> None:
    async with receiving(Receiver()) as receiver:
        simulator = make(receiver)
        async with simulator.serving() as base, httpx.AsyncClient(base_url=base, trust_env=False) as http:
            await http.patch(f"/sim/hosts/{HOST}", json={"status": "inactive"})
            await http.patch(f"/sim/hosts/{HOST}", json={"type": 1})
            await http.delete(f"/sim/hosts/{HOST}")
            await until(lambda: len(receiver.received) == 3)
    assert sorted(receiver.events()) == ["user.deactivated", "user.deleted", "user.updated"]
    assert {webhook.body["payload"]["object"]["email"] for webhook in receiver.received} == {HOST}


async def test_receiver_proves_that_it_knows_the_secret() -> None:
    def prove(webhook: Received) -> Answer:
        plain = webhook.body["payload"]["plainToken"]
        encrypted = hmac.new(SECRET.encode(), plain.encode(), hashlib.sha256).hexdigest()
        return (200, json.dumps({"plainToken": plain, "encryptedToken": encrypted}).encode())

    async with receiving(Receiver(answer=prove)) as receiver:
        simulator = make(receiver)
        async with simulator.serving() as base, httpx.AsyncClient(base_url=base, trust_env=False) as http:
            answer = (await http.post("/sim/webhooks/validate")).json()
            assert answer == {"valid": True, "status": 200, "enabled": True}
    assert receiver.events() == ["endpoint.url_validation"]
    assert receiver.received[0].genuine


async def test_six_failed_validations_in_a_row_turn_webhooks_off() -> None:
    async with receiving(Receiver(answer=lambda _: (200, b'{"plainToken":"?"}'))) as receiver:
        simulator = make(receiver)
        states = [(await simulator.webhooks.validate())["enabled"] for _ in range(6)]
        assert states == [True] * 5 + [False]
        create(simulator)
        assert simulator.webhooks.pending == 0
        await simulator.webhooks.aclose()


async def test_stopping_sends_what_is_due_and_gives_up_retries() -> None:
    async with receiving(Receiver(answer=lambda _: (503, b""))) as receiver:
        simulator = make(receiver, time_scale=1.0)
        create(simulator)
        began = time.monotonic()
        await simulator.webhooks.aclose()
        assert time.monotonic() - began < 2
    assert receiver.events() == ["meeting.created"]
    assert (simulator.webhooks.pending, simulator.webhooks.counts["failed"]) == (0, 1)
