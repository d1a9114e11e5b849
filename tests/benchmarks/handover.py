"""From a slot given back to its next holder: the broker's queue, and two public locks over the same slots.

A hundred callers share ten slots. Each takes a slot, holds it for a moment, gives it back, and comes again. The time
between giving back and the next grant of the same slot is what a waiting teacher loses to the hand-over.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Iterable

import redis.asyncio
import redis_lock
from redis.asyncio.lock import Lock

from broker.client import AsyncBroker
from broker.events import BLOCK_S, EventHub, stop
from broker.models import Account, Granted, LeaseId, ReleaseReason
from broker.redis import connect, connect_async
from broker.settings import Settings
from broker.testing.environment import private_settings
from broker.testing.redis_server import RedisServer
from tests.benchmarks.report import Figure, percentile

CALLERS = 100
SLOTS = 10
HOLD_S = 0.02
TURNS = 12
LOCK_TTL_S = 60


class Times:
    """When each slot was given back and taken again; safe between threads."""

    def __init__(self) -> None:
        self._given_back: dict[str, float] = {}
        self.gaps_ms: list[float] = []
        self._lock = threading.Lock()

    def taken(self, slot: str) -> None:
        """Somebody has the slot now."""
        now = time.perf_counter()
        with self._lock:
            before = self._given_back.pop(slot, None)
            if before is not None:
                self.gaps_ms.append((now - before) * 1000)

    def given_back(self, slot: str) -> None:
        """Its holder is about to give it back."""
        now = time.perf_counter()
        with self._lock:
            self._given_back[slot] = now


def handover() -> list[Figure]:
    """Ours beside the peers."""
    with RedisServer(fsync="no") as server:
        settings = private_settings(server.url, "http://zoom.invalid", {"max_leases_per_owner": 10, "claim_ttl_s": 60})
        # Each caller of the peers keeps a connection to itself, for as long as it waits.
        ample = settings.model_copy(update={"redis_max_connections": 2 * CALLERS, "redis_timeout_s": LOCK_TTL_S})
        ours = asyncio.run(_ours(settings))
        polling = asyncio.run(_redis_py(ample))
        blocking = _python_redis_lock(ample)
    peers = {"redis-py's Lock": polling, "python-redis-lock": blocking}
    figures = []
    for percent in (50, 99):
        value = percentile(ours.gaps_ms, percent)
        beside = {name: percentile(times.gaps_ms, percent) for name, times in peers.items()}
        text = ", ".join(f"{name} {ms:.3g} ms" for name, ms in beside.items())
        limit = min(beside.values()) if percent == 99 else None
        note = f"{CALLERS} callers on {SLOTS} slots; {text}"
        figures.append(Figure(f"handover_ms.p{percent}", value, "ms", limit, "less", note))
    return figures


async def _all(turn: Callable[[int, int], Awaitable[None]]) -> None:
    async def caller(number: int) -> None:
        for count in range(TURNS):
            await turn(number, count)

    await asyncio.gather(*(caller(number) for number in range(CALLERS)))


async def _ours(settings: Settings) -> Times:
    commands = connect_async(settings)
    hub = EventHub(connect_async(settings, blocking_s=BLOCK_S), commands)
    broker = AsyncBroker(commands, settings)
    pool = broker.pool()
    await broker.run(pool.register())
    for number in range(SLOTS):
        await broker.run(pool.add_account(Account(f"host-{number}", f"host-{number}@school.example", "", "default", 1)))
    listening = asyncio.create_task(hub.run())
    times = Times()

    async def turn(number: int, count: int) -> None:
        lesson = f"lesson-{number}-{count}"
        async with hub.watch(pool.name, lesson) as watch:
            while True:
                claim = await broker.run(pool.claim(lesson, f"teacher-{number}", wait_s=60))
                if claim.lease is not None:
                    break
                assert claim.outcome is Granted.QUEUED, claim.outcome
                await watch.news(5)
        times.taken(claim.lease.id.slot)
        await asyncio.sleep(HOLD_S)
        await give_back(claim.lease.id)

    async def give_back(lease: LeaseId) -> None:
        times.given_back(lease.slot)
        await broker.run(pool.release([lease], ReleaseReason.ENDED))

    try:
        await _all(turn)
    finally:
        await stop(listening)
        await hub.aclose()
        await commands.aclose()
    return times


async def _redis_py(settings: Settings) -> Times:
    connection: redis.asyncio.Redis = connect_async(settings)
    times = Times()

    async def turn(number: int, count: int) -> None:
        slot = f"polling-{number % SLOTS}"
        lock = Lock(connection, slot, timeout=LOCK_TTL_S, blocking_timeout=60)
        assert await lock.acquire()
        times.taken(slot)
        await asyncio.sleep(HOLD_S)
        times.given_back(slot)
        await lock.release()

    try:
        await _all(turn)
    finally:
        await connection.aclose()
    return times


def _python_redis_lock(settings: Settings) -> Times:
    times = Times()
    with connect(settings, decode_responses=False) as connection:

        def caller(number: int) -> None:
            slot = f"blocking-{number % SLOTS}"
            for _ in range(TURNS):
                lock = redis_lock.Lock(connection, slot, expire=LOCK_TTL_S)
                assert lock.acquire()
                times.taken(slot)
                time.sleep(HOLD_S)
                times.given_back(slot)
                lock.release()

        _join(threading.Thread(target=caller, args=(number,)) for number in range(CALLERS))
    return times


def _join(threads: Iterable[threading.Thread]) -> None:
    running = list(threads)
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
