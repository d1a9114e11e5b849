"""Answers that are none: held until the client gives up, or cut off.

ASGI has no way to close a connection without an answer, so our own server says where its connections are. Under
another server the answer breaks off after its head, which clients take for a lost connection as well.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import Callable

from starlette.background import BackgroundTask
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

ABORT_WAIT_S = 5.0


class Connections:
    """The way from a request to its connection.

    Attributes:
        find: gives the transport of a client's address; set by our own server.
        closing: set when the server stops, so that held calls are let go.
    """

    def __init__(self) -> None:
        self.find: Callable[[tuple[str, int] | None], asyncio.Transport | None] = lambda _: None
        self.closing = asyncio.Event()

    def reset(self, scope: Scope) -> bool:
        """Close a request's connection with a TCP reset, as a broken machine or balancer does."""
        client = scope.get("client")
        transport = self.find((client[0], client[1]) if client else None)
        if transport is None:
            return False
        raw = transport.get_extra_info("socket")
        with contextlib.suppress(OSError):
            # Without lingering, closing sends RST instead of FIN.
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        transport.abort()
        return True


class NoAnswer(Response):
    """The connection is held as long as `hold_s`, if the client keeps it that long, and then reset.

    Args:
        connections: of the server.
        hold_s: 0 for a reset at once.
    """

    def __init__(self, connections: Connections, hold_s: float = 0.0) -> None:
        super().__init__()
        self._connections = connections
        self._hold_s = hold_s
        self.background: BackgroundTask | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Give no answer; the request's body must have been read."""
        if self._hold_s > 0:
            gone = asyncio.ensure_future(_disconnected(receive))
            closing = asyncio.ensure_future(self._connections.closing.wait())
            try:
                await asyncio.wait({gone, closing}, timeout=self._hold_s, return_when=asyncio.FIRST_COMPLETED)
                if gone.done():
                    return
            finally:
                for task in (gone, closing):
                    task.cancel()
                await asyncio.gather(gone, closing, return_exceptions=True)
        if self._connections.reset(scope):
            # The server must have noticed before it is left, or it would try to answer by itself.
            async with asyncio.timeout(ABORT_WAIT_S):
                await _disconnected(receive)
            return
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"1000")]})


async def _disconnected(receive: Receive) -> None:
    while True:
        message: Message = await receive()
        if message["type"] == "http.disconnect":
            return
