"""One at a time across processes, for as long as the work takes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import redis.asyncio
from redis.asyncio.lock import Lock
from redis.exceptions import LockNotOwnedError, RedisError

from broker.client import translated
from broker.errors import ZoomPoolError

LIFE_S = 15.0
"""How long the guard of a killed holder keeps others out."""
SHARE = 0.8
"""Of the guard's life: so long the work may go on after the last extension. The rest is for clocks that differ."""


class GuardLost(ZoomPoolError):
    """The guard could not be extended in time, so the work was stopped before another process could begin it."""

    code = "guard_lost"


@asynccontextmanager
async def guarded(redis: redis.asyncio.Redis, key: str, *, life_s: float = LIFE_S) -> AsyncIterator[bool]:
    """Hold the guard `key` while the body runs, extending it again and again; yields whether it was free.

    The body is cancelled before the guard lapses when it cannot be extended, so it never runs unguarded. It must look
    at what is yielded: without the guard it has to leave.

    Raises:
        GuardLost: the body was cut short.
        BrokerUnavailable: Redis did not answer.
    """
    lock = redis.lock(key, timeout=life_s, blocking=False)
    loop = asyncio.get_running_loop()
    taken_s = loop.time()
    with translated("guard"):
        free = await lock.acquire()
    if not free:
        yield False
        return
    scope = asyncio.timeout_at(taken_s + life_s * SHARE)
    try:
        async with scope:
            keeper = asyncio.create_task(_keep(lock, scope, life_s))
            try:
                yield True
            finally:
                keeper.cancel()
                await asyncio.gather(keeper, return_exceptions=True)
    except TimeoutError:
        if not scope.expired():
            raise
        raise GuardLost(f"{key} could not be extended within {life_s:g} s; the work goes on in the next run") from None
    finally:
        # Lost or unreachable: then it lapses by itself.
        with suppress(LockNotOwnedError, RedisError, OSError):
            await lock.release()


async def _keep(lock: Lock, scope: asyncio.Timeout, life_s: float) -> None:
    loop = asyncio.get_running_loop()
    while True:
        await asyncio.sleep(life_s / 5)
        asked_s = loop.time()
        try:
            await lock.reacquire()
        except LockNotOwnedError:
            scope.reschedule(asked_s)
            return
        except (RedisError, OSError):
            continue  # until the scope runs out
        scope.reschedule(asked_s + life_s * SHARE)
