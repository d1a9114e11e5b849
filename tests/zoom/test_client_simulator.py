"""The client against the simulated Zoom, over real connections."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import redis.asyncio
from pydantic import SecretStr

from broker.models import Credential
from broker.testing.zoom_simulator import (
    AppSpec,
    FaultAction,
    FaultRule,
    HostSpec,
    Refusal,
    Role,
    SimulatorSettings,
    TokenPolicy,
    UserStatus,
    UserType,
    WebhookConfig,
    When,
    ZoomSimulator,
)
from broker.zoom.client import ZoomClient, open_zoom
from broker.zoom.errors import Kind
from broker.zoom.webhooks import parse, verify
from tests.zoom.scripted_zoom import BOX, MARK, REQUEST, failed, settings

APP = AppSpec(client_secret=SecretStr("app-secret"))
CREDENTIAL = Credential("main", APP.account_id, APP.client_id, APP.client_secret)
ANNA = "anna@school.example"
HOSTS = (
    HostSpec(email=ANNA),
    HostSpec(email="asleep@school.example", status=UserStatus.INACTIVE),
    HostSpec(email="bare@school.example", type=UserType.UNASSIGNED),
)


@asynccontextmanager
async def connected(base: str, aredis: redis.asyncio.Redis, timeout_s: float = 5) -> AsyncIterator[ZoomClient]:
    config = settings(api_base=f"{base}/v2", zoom_timeout_s=timeout_s).model_copy(update={"zoom_oauth_base": base})
    async with open_zoom(config, aredis, BOX) as client:
        yield client


@asynccontextmanager
async def running(
    aredis: redis.asyncio.Redis, *, timeout_s: float = 5, **given: Any
) -> AsyncIterator[tuple[ZoomSimulator, ZoomClient]]:
    simulator = ZoomSimulator(SimulatorSettings(**{"hosts": HOSTS, "apps": (APP,)} | given))
    async with simulator.serving() as base, connected(base, aredis, timeout_s) as client:
        yield simulator, client


@pytest.mark.parametrize("end_idle", list(Refusal))
async def test_a_meeting_lives_its_whole_life(aredis: redis.asyncio.Redis, end_idle: Refusal) -> None:
    async with running(aredis, end_idle=end_idle) as (simulator, client):
        made = await client.create_meeting(CREDENTIAL, ANNA, REQUEST)
        assert "zak=" in made.start_url.get_secret_value()
        assert not made.started
        assert [m.id for m in await client.find_by_marker(CREDENTIAL, ANNA, MARK)] == [made.id]
        assert await client.live_meetings(CREDENTIAL, ANNA) == []
        await client.end_meeting(CREDENTIAL, made.id)

        simulator.world.join(made.id, "Anna", Role.HOST)
        assert (await client.get_meeting(CREDENTIAL, made.id)).started
        assert [m.id for m in await client.live_meetings(CREDENTIAL, ANNA)] == [made.id]
        assert [m.id for m in await client.find_by_marker(CREDENTIAL, ANNA, MARK)] == [made.id]

        await client.end_meeting(CREDENTIAL, made.id)
        assert await client.live_meetings(CREDENTIAL, ANNA) == []
        await client.delete_meeting(CREDENTIAL, made.id)
        await client.delete_meeting(CREDENTIAL, made.id)
        assert (await failed(client.get_meeting(CREDENTIAL, made.id))).code == "zoom_meeting_missing"


@pytest.mark.parametrize(
    ("host", "kind"),
    [
        ("asleep@school.example", Kind.HOST),
        ("bare@school.example", Kind.HOST),
        ("nobody@school.example", Kind.HOST),
    ],
)
async def test_a_host_that_cannot_host_is_the_hosts_fault(aredis: redis.asyncio.Redis, host: str, kind: Kind) -> None:
    async with running(aredis) as (_, client):
        assert (await failed(client.create_meeting(CREDENTIAL, host, REQUEST))).kind is kind


async def test_a_user_says_whether_it_can_host(aredis: redis.asyncio.Redis) -> None:
    async with running(aredis) as (_, client):
        able = [(await client.get_user(CREDENTIAL, host.email)).can_host for host in HOSTS]
        assert able == [True, False, False]


async def test_a_creation_whose_answer_got_lost_is_found_by_its_marker(aredis: redis.asyncio.Redis) -> None:
    async with running(aredis, timeout_s=1) as (simulator, client):
        for action in (FaultAction.HANG, FaultAction.RESET):
            simulator.faults.add(
                FaultRule(action=action, when=When.AFTER, method="POST", path="/v2/users/*/meetings", times=1)
            )
            request = REQUEST.model_copy(update={"marker": f"[{action}]"})
            error = await failed(client.create_meeting(CREDENTIAL, ANNA, request))
            assert error.outcome_unknown
            [found] = await client.find_by_marker(CREDENTIAL, ANNA, f"[{action}]")
            assert (await client.get_meeting(CREDENTIAL, found.id)).start_url.get_secret_value()


async def test_an_end_that_zoom_only_pretends_is_asked_for_again(aredis: redis.asyncio.Redis) -> None:
    async with running(aredis) as (simulator, client):
        made = await client.create_meeting(CREDENTIAL, ANNA, REQUEST)
        simulator.world.join(made.id, "Anna", Role.HOST)
        pretends = FaultRule(
            action=FaultAction.RESPOND, status=204, method="PUT", path="/v2/meetings/*/status", times=1
        )
        simulator.faults.add(pretends)
        await client.end_meeting(CREDENTIAL, made.id)
        assert not (await client.get_meeting(CREDENTIAL, made.id)).started


@pytest.mark.parametrize("policy", list(TokenPolicy))
async def test_two_processes_share_one_token_and_survive_its_revocation(
    aredis: redis.asyncio.Redis, policy: TokenPolicy
) -> None:
    simulator = ZoomSimulator(SimulatorSettings(hosts=HOSTS, apps=(APP,), token_policy=policy))
    async with simulator.serving() as base, connected(base, aredis) as first, connected(base, aredis) as second:
        made = await first.create_meeting(CREDENTIAL, ANNA, REQUEST)
        assert simulator.tokens.revoke() == 1
        await asyncio.gather(*(one.get_meeting(CREDENTIAL, made.id) for one in (first, second) for _ in range(20)))
    assert simulator.tokens.issued == 2


async def test_a_wrong_secret_is_the_credentials_fault(aredis: redis.asyncio.Redis) -> None:
    wrong = Credential("main", APP.account_id, APP.client_id, SecretStr("another"))
    async with running(aredis) as (_, client):
        error = await failed(client.get_user(wrong, ANNA))
        assert (error.code, error.kind) == ("zoom_credential_rejected", Kind.CREDENTIAL)


async def test_a_missing_scope_is_named(aredis: redis.asyncio.Redis) -> None:
    poor = APP.model_copy(update={"scopes": ("user:read:user:admin",)})
    async with running(aredis, apps=(poor,)) as (_, client):
        error = await failed(client.create_meeting(CREDENTIAL, ANNA, REQUEST))
        assert (error.code, error.scopes) == ("zoom_scope_missing", ("meeting:write:meeting:admin",))


async def test_the_hosts_daily_limit_is_the_hosts_fault(aredis: redis.asyncio.Redis) -> None:
    async with running(aredis, rate_limits={"host_daily": 1}) as (_, client):
        await client.create_meeting(CREDENTIAL, ANNA, REQUEST)
        error = await failed(client.create_meeting(CREDENTIAL, ANNA, REQUEST))
        assert (error.code, error.kind) == ("zoom_daily_limit", Kind.HOST)
        assert 0 < (error.retry_after_s or 0) <= 24 * 3600


async def test_webhooks_of_the_simulated_zoom_are_verified_and_read(aredis: redis.asyncio.Redis) -> None:
    arrived: asyncio.Queue[tuple[dict[str, str], bytes]] = asyncio.Queue()

    async def receive(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")[1:-2]
        headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
        arrived.put_nowait((headers, await reader.readexactly(int(headers["content-length"]))))
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        await writer.drain()
        writer.close()

    receiver = await asyncio.start_server(receive, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{receiver.sockets[0].getsockname()[1]}/hook"
    webhooks = WebhookConfig(url=url, secret=SecretStr("hook-secret"))
    async with running(aredis, webhooks=webhooks, time_scale=0.001) as (simulator, client):
        made = await client.create_meeting(CREDENTIAL, ANNA, REQUEST)
        simulator.world.join(made.id, "Anna", Role.HOST)
        await client.end_meeting(CREDENTIAL, made.id)
        seen = {}
        async with asyncio.timeout(10):
            while "meeting.ended" not in seen or "meeting.started" not in seen:
                headers, raw = await arrived.get()
                stamp, signature = headers["x-zm-request-timestamp"], headers["x-zm-signature"]
                verify(raw, stamp, signature, [SecretStr("hook-secret")], time.time(), 60)
                event = parse(raw)
                seen[event.event] = event
    receiver.close()
    ended, began = seen["meeting.ended"], seen["meeting.started"]
    assert (ended.meeting_id, ended.uuid) == (began.meeting_id, began.uuid) == (made.id, made.uuid)
    assert ended.end_time_ms is not None
    assert ended.event_ts >= began.event_ts > 0
