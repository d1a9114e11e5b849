"""The client on real connections that hang, drip, break or are refused."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import httpx
import pytest
import redis.asyncio

from broker.settings import Settings
from broker.zoom import client as client_module
from broker.zoom.auth import TokenSource
from broker.zoom.client import ZoomClient, open_zoom
from broker.zoom.connections import ssl_context
from broker.zoom.errors import Kind, ZoomError
from broker.zoom.limits import Budgets
from tests.zoom.scripted_zoom import (
    BOX,
    CREDENTIAL,
    LIMITED,
    MARK,
    MEETING,
    MEETING_ID,
    REQUEST,
    STATUS,
    UNAVAILABLE,
    Zoom,
    failed,
    settings,
    started,
)


class Server:
    """A TCP server that does one thing to every API connection, after it has read the request's head."""

    def __init__(self, then: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]) -> None:
        self._then = then
        self.requests: list[str] = []

    async def __aenter__(self) -> Server:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.base = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            if "/oauth/token" in head:
                body = b'{"access_token":"token-1","expires_in":3600}'
                writer.write(
                    b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
                )
                await writer.drain()
            else:
                self.requests.append(head.splitlines()[0])
                await self._then(reader, writer)
        except (ConnectionError, asyncio.CancelledError):
            pass
        finally:
            writer.close()

    async def create(self, aredis: redis.asyncio.Redis, timeout_s: float = 0.6, api_base: str = "") -> ZoomError:
        config = Settings(
            zoom_oauth_base=self.base,
            zoom_api_base=(api_base or self.base) + "/v2",
            zoom_timeout_s=timeout_s,
        )
        async with open_zoom(config, aredis, BOX) as client:
            return await failed(client.create_meeting(CREDENTIAL, "anna@school.test", REQUEST))


async def hang(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
    await reader.read()
    await reader.read()


async def drip(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A body that always moves, so that no read ever times out, and never ends."""
    writer.write(b"HTTP/1.1 201 Created\r\nContent-Length: 100000\r\n\r\n")
    while True:
        writer.write(b" ")
        await writer.drain()
        await asyncio.sleep(0.02)


async def reset(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.transport.abort()


async def close(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.close()


@pytest.mark.parametrize(
    ("then", "code"),
    [(hang, "zoom_timeout"), (drip, "zoom_timeout"), (reset, "zoom_unavailable"), (close, "zoom_unavailable")],
)
async def test_after_sending_the_outcome_is_unknown(
    aredis: redis.asyncio.Redis,
    then: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
    code: str,
) -> None:
    async with Server(then) as server:
        clock = asyncio.get_running_loop().time
        before = clock()
        error = await server.create(aredis)
        assert (error.code, error.kind, error.outcome_unknown) == (code, Kind.TRANSIENT, True)
        assert len(server.requests) == 1
        assert clock() - before < 3


async def test_a_refused_connection_had_no_effect(aredis: redis.asyncio.Redis) -> None:
    async with Server(hang) as gone:
        nobody = gone.base
    async with Server(hang) as server:
        error = await server.create(aredis, api_base=nobody)
    assert (error.code, error.kind, error.outcome_unknown) == ("zoom_unavailable", Kind.TRANSIENT, False)


async def test_time_spent_on_the_token_counts_and_leaves_no_doubt(aredis: redis.asyncio.Redis) -> None:
    """Nothing was sent to the API, so nothing can have happened."""
    zoom = Zoom()

    async def slow_token(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/oauth/token":
            await asyncio.Event().wait()
        return await zoom(request)

    http = httpx.AsyncClient(transport=httpx.MockTransport(slow_token))
    tokens = TokenSource(aredis, BOX, http, "http://zoom.test", request_timeout_s=20)
    config = settings(zoom_timeout_s=0.2)
    client = ZoomClient(http, tokens, Budgets(aredis, config), config)
    error = await failed(client.create_meeting(CREDENTIAL, "anna@school.test", REQUEST))
    await tokens.aclose()
    assert (error.code, error.outcome_unknown, zoom.calls) == ("zoom_timeout", False, [])


@pytest.mark.parametrize(("later", "code"), [(UNAVAILABLE, "zoom_unavailable"), (started(), "zoom_timeout")])
async def test_time_that_runs_out_in_a_pause_is_blamed_on_the_last_try(
    aredis: redis.asyncio.Redis, monkeypatch: pytest.MonkeyPatch, later: httpx.Response, code: str
) -> None:
    monkeypatch.setattr(client_module, "LOOKS_AFTER_S", (0.0, 30.0))
    zoom = Zoom()
    zoom.on("PUT", STATUS, LIMITED)
    zoom.on("GET", MEETING, UNAVAILABLE, later)
    http = httpx.AsyncClient(transport=httpx.MockTransport(zoom))
    tokens = TokenSource(aredis, BOX, http, "http://zoom.test")
    config = settings(zoom_timeout_s=0.5)
    client = ZoomClient(http, tokens, Budgets(aredis, config), config)
    error = await failed(client.end_meeting(CREDENTIAL, MEETING_ID))
    assert error.code == code


async def test_time_runs_out_over_all_tries_together(aredis: redis.asyncio.Redis) -> None:
    async with Server(hang) as server:
        config = Settings(zoom_oauth_base=server.base, zoom_api_base=server.base, zoom_timeout_s=0.3)
        async with open_zoom(config, aredis, BOX) as client:
            error = await failed(client.find_by_marker(CREDENTIAL, "anna@school.test", MARK))
        assert (error.code, error.outcome_unknown, len(server.requests)) == ("zoom_timeout", False, 1)


def test_certificates_are_read_once() -> None:
    assert ssl_context() is ssl_context()
