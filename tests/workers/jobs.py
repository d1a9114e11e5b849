"""Jobs for the tests of the worker: they only wait, return and fail."""

from __future__ import annotations

import asyncio
import os
import sys
from typing import Any

from redis import asyncio as redis_asyncio
from rq import get_current_job
from rq.job import Job

STARTED = "test:started"
"""A list: the id of each job that was started, each time."""
GATE = "test:gate"
"""While it exists, `wait` ends."""


async def nothing(*values: Any) -> Any:
    """Return at once."""
    return list(values)


async def sleep(pause_s: float) -> None:
    """What a call to Zoom looks like to the event loop."""
    await asyncio.sleep(pause_s)


async def fail() -> None:
    """Raise."""
    raise ValueError("as asked")


async def leave() -> None:
    """Try to end the process."""
    sys.exit(3)


async def fail_until(tries: int) -> str:
    """Raise on each run before the last."""
    if await _note() < tries:
        raise ValueError("not yet")
    return "done"


async def wait() -> str:
    """Note the start, and wait for the gate to open."""
    await _note()
    async with redis_asyncio.Redis.from_url(os.environ["REDIS_URL"]) as client:
        while not await client.exists(GATE):  # noqa: ASYNC110 - the gate is in Redis
            await asyncio.sleep(0.01)
    return "the gate is open"


async def ignore_cancellation() -> str:
    """Go on for a while after being cancelled."""
    await _note()
    try:
        await asyncio.sleep(30)
    except asyncio.CancelledError:
        return "done all the same"
    return "never cancelled"


async def stubborn() -> None:
    """Go on for much longer than anybody wants, whatever happens."""
    loop = asyncio.get_running_loop()
    end_s = loop.time() + 3
    while (left_s := end_s - loop.time()) > 0:
        try:
            await asyncio.sleep(left_s)
        except asyncio.CancelledError:
            continue


async def my_id() -> str:
    """Return the id of the job that runs this."""
    await asyncio.sleep(0.01)
    job = get_current_job()
    assert isinstance(job, Job)
    return job.id


def blocking() -> str:
    """A plain function, which only RQ's own workers run."""
    return "ran"


async def _note() -> int:
    job = get_current_job()
    assert job is not None
    async with redis_asyncio.Redis.from_url(os.environ["REDIS_URL"]) as client:
        await client.rpush(STARTED, job.id)
        return sum([name == job.id.encode() for name in await client.lrange(STARTED, 0, -1)])
