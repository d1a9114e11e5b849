"""The proxy of a chaos run: lets everything through, breaks connections, and holds them up without losing a byte."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress

import pytest

from broker.testing.chaos.proxy import HOST, Proxy, Trouble, to_port

ANSWER_S = 10.0
SILENT_S = 0.3


class Client:
    """One connection through the proxy to a server that sends back what it gets."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def says(self, line: bytes) -> bytes:
        """Send a line, and return what comes; nothing if the connection is broken."""
        with suppress(OSError):
            self.writer.write(line + b"\n")
            return (await asyncio.wait_for(self.reader.readline(), ANSWER_S)).rstrip()
        return b""


@pytest.fixture
async def proxy() -> AsyncIterator[Proxy]:
    """In front of an echo server."""

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while line := await reader.readline():
                writer.write(line)
        writer.close()

    server = await asyncio.start_server(echo, HOST, 0)
    with Proxy(to_port(server.sockets[0].getsockname()[1])) as running:
        yield running
    server.close()


async def connected(proxy: Proxy) -> Client:
    return Client(*await asyncio.open_connection(HOST, proxy.port))


async def test_lets_everything_through(proxy: Proxy) -> None:
    one, other = await connected(proxy), await connected(proxy)
    assert (await one.says(b"a"), await other.says(b"b"), await one.says(b"c")) == (b"a", b"b", b"c")


async def test_cut_breaks_what_is_connected_and_what_connects_until_it_is_over(proxy: Proxy) -> None:
    before = await connected(proxy)
    assert await before.says(b"a") == b"a"
    proxy.begin(Trouble.CUT)
    assert await before.says(b"b") == b""
    assert await (await connected(proxy)).says(b"c") == b""
    proxy.end(Trouble.CUT)
    assert await (await connected(proxy)).says(b"d") == b"d"
    assert await before.says(b"e") == b""


async def test_stall_holds_up_what_arrives_in_the_end(proxy: Proxy) -> None:
    client = await connected(proxy)
    assert await client.says(b"a") == b"a"
    proxy.begin(Trouble.STALL)
    answer = asyncio.create_task(client.says(b"b"))
    assert await asyncio.wait({answer}, timeout=SILENT_S) == (set(), {answer})
    proxy.end(Trouble.STALL)
    assert await answer == b"b"


async def test_two_stalls_that_overlap_end_with_the_second(proxy: Proxy) -> None:
    client = await connected(proxy)
    proxy.begin(Trouble.STALL)
    proxy.begin(Trouble.STALL)
    answer = asyncio.create_task(client.says(b"a"))
    proxy.end(Trouble.STALL)
    assert await asyncio.wait({answer}, timeout=SILENT_S) == (set(), {answer})
    proxy.end(Trouble.STALL)
    assert await answer == b"a"


async def test_server_that_is_gone_is_a_broken_connection() -> None:
    server = await asyncio.start_server(lambda reader, writer: None, HOST, 0)
    port = server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()
    with Proxy(to_port(port)) as proxy:
        assert await (await connected(proxy)).says(b"a") == b""
