"""Two thousand teachers wait for a host at one API process, and it serves everybody else as if they were not there."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import httpx
import psutil
import pytest

from broker.cli.processes import allow_many_files
from broker.testing.environment import everyday_zoom, example_accounts
from broker.testing.school import School
from broker.testing.stack import Stack
from broker.testing.zoom_simulator import Latency
from tests.acceptance.lessons import links_of
from tests.waiting import wait_until_async

WAITERS = 2000
WAIT_S = 20
AT_A_TIME = 200
"""Callers who connect at once; all two thousand wait together."""
HOSTS = example_accounts(11, (1,))
SPARE = HOSTS[1:]
ANSWER_S = 5.0
"""Within which a request that waits for nothing has its answer, on a machine that is busy with these tests."""
REDIS_CONNECTIONS = 20
ALL_S = 60.0
ZOOM = everyday_zoom(HOSTS).model_copy(update={"latency": Latency(ms=20)})
SETTINGS = {
    "queue_max": WAITERS,
    "redis_max_connections": REDIS_CONNECTIONS,
    "starts_per_min": 0,
    "creations_per_s": 0,
}


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    """The running system, with one host."""
    allow_many_files()  # of this process, which plays all the callers
    with Stack(HOSTS[:1], settings=SETTINGS, zoom=ZOOM) as running:
        yield running


@pytest.fixture
async def school(stack: Stack) -> AsyncIterator[School]:
    async with stack.school() as people:
        yield people


class Caller:
    """A browser that starts a lesson: one connection and nothing more, so that two thousand cost next to nothing."""

    def __init__(self, number: int) -> None:
        self.lesson, self.teacher = f"lesson-{number:04d}", f"teacher-{number:04d}"
        self.reader: asyncio.StreamReader
        self.writer: asyncio.StreamWriter

    async def press(self, stack: Stack, token: str) -> None:
        """Connect and ask, without reading the answer."""
        url = urlsplit(stack.api_url)
        self.reader, self.writer = await asyncio.open_connection(url.hostname, url.port)
        head = (
            f"POST /api/schedule/lessons/{self.lesson}/start-new/ HTTP/1.1",
            f"Host: {url.netloc}",
            f"Authorization: Bearer {token}",
            f"Prefer: wait={WAIT_S}",
            "Content-Length: 0",
        )
        self.writer.write("\r\n".join((*head, "", "")).encode())
        await self.writer.drain()

    async def status(self) -> int:
        """The HTTP status of the answer."""
        return int((await self.reader.readline()).split()[1])

    def hang_up(self) -> None:
        """Close the tab."""
        self.writer.close()


@asynccontextmanager
async def calling(stack: Stack, school: School, count: int) -> AsyncIterator[list[Caller]]:
    """Callers who have asked; in the end, all of them hang up."""
    callers = [Caller(number) for number in range(count)]
    for begin in range(0, count, AT_A_TIME):
        batch = callers[begin : begin + AT_A_TIME]
        await asyncio.gather(*(caller.press(stack, school.token(caller.teacher)) for caller in batch))
    try:
        yield callers
    finally:
        for caller in callers:
            caller.hang_up()


def waiting(stack: Stack) -> int:
    """How many are in line."""
    return stack.broker.run(stack.broker.pool().status()).waiting


async def length_is(stack: Stack, length: int) -> None:
    async def so() -> bool:
        return waiting(stack) == length

    await wait_until_async(so, f"{length} are in line", ALL_S)


async def test_two_thousand_wait_in_one_process_and_nobody_else_does(stack: Stack, school: School) -> None:
    await links_of(school, "first", "first")
    async with calling(stack, school, WAITERS) as callers:
        await length_is(stack, WAITERS)

        # The process holds a connection for each of them, and none to Redis.
        api = psutil.Process(stack.processes["api"].pid)
        assert not api.children(), "one process"
        assert api.num_fds() > WAITERS
        names = Counter(str(one["name"] or one["cmd"]) for one in stack.broker.redis.client_list())
        assert names.total() < 2 * REDIS_CONNECTIONS + 4 * len(stack.processes), names

        # Everybody else is served at once.
        async with asyncio.timeout(ANSWER_S):
            async with httpx.AsyncClient(base_url=stack.api_url, trust_env=False) as machine:
                assert (await machine.get("/healthz")).status_code == httpx.codes.OK
        fresh = await school.start("fresh", "fresh", timeout_s=ANSWER_S)
        assert fresh.json()["code"] == "pool_exhausted", "who says nothing about waiting is not made to wait"
        full = await school.start("more", "more", headers={"Prefer": "wait=20"}, timeout_s=ANSWER_S)
        assert full.json()["code"] == "queue_full"

        # Who hangs up gives his place up: the first half, so that the second moves up.
        gone, there = callers[: WAITERS // 2], callers[WAITERS // 2 :]
        for caller in gone:
            caller.hang_up()
        await length_is(stack, len(there))

        # Hosts come, and as many are served; all others are told in time that they still wait.
        for account in SPARE:
            stack.broker.run(stack.broker.pool().add_account(account))
        async with asyncio.timeout(ALL_S):
            statuses = Counter(await asyncio.gather(*(caller.status() for caller in there)))
        assert statuses == {httpx.codes.OK: len(SPARE), httpx.codes.ACCEPTED: len(there) - len(SPARE)}
    stack.check()
    for failure in ("Too many open files", "Traceback"):
        assert failure not in (stack.logs / "api.log").read_text()
