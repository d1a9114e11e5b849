"""A caller who hangs up: what was done for him alone is stopped. Servers only say so to those who ask."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from fastapi import Request

T = TypeVar("T")

HUNG_UP = 499
"""What log and metrics say of a request that was given up before it had an answer; nginx's word for it."""


class HungUp(Exception):
    """There is nobody any more to answer."""


async def unless_hung_up(request: Request | None, work: Coroutine[Any, Any, T]) -> T:
    """The result of `work`, which is cancelled when the caller of `request` hangs up.

    Args:
        request: its body must have been read; None for a caller who cannot hang up.
        work: what is done for the caller.

    Raises:
        HungUp: he did.
    """
    if request is None:
        return await work
    working = asyncio.ensure_future(work)
    listening = asyncio.create_task(_hang_up(request), name="hang-up")
    try:
        await asyncio.wait({working, listening}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise HungUp
        return working.result()
    finally:
        listening.cancel()
        working.cancel()


async def _hang_up(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
