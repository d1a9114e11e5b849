"""A small TCP proxy that can break and hold up the connections that go through it."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections import Counter
from collections.abc import Awaitable, Callable
from enum import StrEnum
from types import TracebackType
from typing import Self

HOST = "127.0.0.1"
CHUNK = 64 * 1024
BACKLOG = 512
STOP_S = 5.0

Connect = Callable[[], Awaitable[tuple[asyncio.StreamReader, asyncio.StreamWriter]]]


class Trouble(StrEnum):
    """What a proxy does to connections."""

    CUT = "cut"
    """Those that exist are reset, and new ones are, too."""
    STALL = "stall"
    """They stay, and nothing comes through. What was sent meanwhile arrives in the end, even if its sender has given
    up: that is how a network behaves, and how a command is carried out that nobody waits for any more."""


class Proxy:
    """Listens on a free port of the loopback interface. Use it as a context manager.

    It runs on a thread of its own: whoever starts the system does so without an event loop.

    Args:
        connect: opens a connection to where it leads; see `to_port` and `to_socket`.

    Attributes:
        port: where it listens.
    """

    def __init__(self, connect: Connect) -> None:
        self._connect = connect
        self._listener = socket.create_server((HOST, 0), backlog=BACKLOG)
        self.port = int(self._listener.getsockname()[1])
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name=f"proxy-{self.port}", daemon=True)
        self._troubles: Counter[Trouble] = Counter()
        self._open = asyncio.Event()
        self._links: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None

    def __enter__(self) -> Self:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._serve(), self._loop).result(STOP_S)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result(STOP_S)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(STOP_S)
        self._loop.close()

    def begin(self, trouble: Trouble) -> None:
        """From now on there is trouble. Each `begin` needs an `end`."""
        self._loop.call_soon_threadsafe(self._change, trouble, 1)

    def end(self, trouble: Trouble) -> None:
        """No more of it, if nobody else wants it."""
        self._loop.call_soon_threadsafe(self._change, trouble, -1)

    # On the proxy's own thread

    def _change(self, trouble: Trouble, by: int) -> None:
        self._troubles[trouble] += by
        if self._troubles[Trouble.CUT]:
            for link in list(self._links):
                link.transport.abort()
        if self._troubles[Trouble.STALL]:
            self._open.clear()
        else:
            self._open.set()

    async def _serve(self) -> None:
        self._open.set()
        self._server = await asyncio.start_server(self._accept, sock=self._listener)

    async def _close(self) -> None:
        assert self._server is not None
        self._server.close()
        self._open.set()
        for link in list(self._links):
            link.transport.abort()
        # They end by that, and are not cancelled: asyncio would log each cancelled one as an error.
        if tasks := asyncio.all_tasks() - {asyncio.current_task()}:
            await asyncio.wait(tasks, timeout=STOP_S / 2)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._troubles[Trouble.CUT]:
            writer.transport.abort()
            return
        links = [writer]
        self._links.add(writer)
        try:
            their_reader, their_writer = await self._connect()
            links.append(their_writer)
            self._links.add(their_writer)
            await asyncio.gather(self._pump(reader, their_writer), self._pump(their_reader, writer))
        except OSError:
            pass  # the other side is down or gone, and so is this connection
        finally:
            for link in links:
                link.transport.abort()
                self._links.discard(link)

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while chunk := await reader.read(CHUNK):
            await self._open.wait()
            writer.write(chunk)
            await writer.drain()
        with contextlib.suppress(OSError, RuntimeError):
            writer.write_eof()


def to_port(port: int) -> Connect:
    """Leads to a port of this machine."""
    return lambda: asyncio.open_connection(HOST, port)


def to_socket(path: str) -> Connect:
    """Leads to a unix socket."""
    return lambda: asyncio.open_unix_connection(path)
