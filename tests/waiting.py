"""Wait for a condition, never for a while."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")

LOOK_S = 0.01
PATIENCE_S = 15.0


def wait_until(look: Callable[[], T], what: str, timeout_s: float = PATIENCE_S) -> T:
    """Look again and again until the answer is true, and return it; fail the test after `timeout_s`."""
    deadline_s = time.monotonic() + timeout_s
    while not (answer := look()):
        if time.monotonic() >= deadline_s:
            raise AssertionError(f"not within {timeout_s:g} s: {what} (last answer: {answer!r})")
        time.sleep(LOOK_S)
    return answer


async def wait_until_async(look: Callable[[], Awaitable[T]], what: str, timeout_s: float = PATIENCE_S) -> T:
    """Like `wait_until`, for a coroutine function."""
    deadline_s = time.monotonic() + timeout_s
    while not (answer := await look()):
        if time.monotonic() >= deadline_s:
            raise AssertionError(f"not within {timeout_s:g} s: {what} (last answer: {answer!r})")
        await asyncio.sleep(LOOK_S)
    return answer
