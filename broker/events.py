"""Waiting for changes: one listening connection per process serves every waiter and every pool.

The pool's event stream is the record; a wake-up only says "look again". So a wake-up may be spurious, and one that is
lost (the connection broke) is made up for by waking everybody on the next connection.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import AsyncIterator, Collection
from typing import Any

import redis.asyncio
import structlog
from redis.exceptions import RedisError

from broker.client import translated
from broker.errors import ScriptError
from broker.keys import Keys
from broker.operations import read_event

log = structlog.get_logger(__name__)

BLOCK_S = 1.0
"""The longest wait of one read: short, so that a connection that died without a word is noticed soon after."""
INTERRUPT_AGAIN_S = 0.001
"""First pause between two tries to interrupt a read; one that is still on its way to the server cannot be."""
PAUSE_S = 0.2
"""Between two tries to connect again."""
STOP_AGAIN_S = 0.1
PAGE = 500
LINGER_S = 10.0
"""So long a pool is listened to when nobody waits any more: whoever comes next need not ask where its stream ends."""


async def stop(*tasks: asyncio.Task[None]) -> None:
    """Cancel tasks that listen to Redis, and wait for their ends.

    Again and again if need be: a cancellation that meets redis-py in the middle of its work may get lost there.
    """
    left = set(tasks)
    while left:
        for task in left:
            task.cancel()
        _, left = await asyncio.wait(left, timeout=STOP_AGAIN_S)


class Watch:
    """Somebody who waits for news of one lesson.

    Args:
        unheard: types of events that are no news for him.
    """

    def __init__(self, unheard: Collection[str] = ()) -> None:
        self.unheard = unheard
        self._news = asyncio.Event()

    def wake(self) -> None:
        """Say that there may be news."""
        self._news.set()

    async def news(self, timeout_s: float) -> bool:
        """Wait until there may be news; False when `timeout_s` passed without any."""
        try:
            async with asyncio.timeout(max(timeout_s, 0)):
                await self._news.wait()
        except TimeoutError:
            return False
        self._news.clear()
        return True


class EventHub:
    """Listens to the event streams of all pools that somebody waits for.

    Args:
        listener: a client for the listening connection alone, made with `connect_async(settings, blocking_s=BLOCK_S)`.
        commands: the client for everything else.
    """

    def __init__(self, listener: redis.asyncio.Redis, commands: redis.asyncio.Redis) -> None:
        self._listener = listener.client()  # one connection of its own
        self._commands = commands
        self._positions: dict[str, str] = {}
        self._watches: defaultdict[tuple[str, str], set[Watch]] = defaultdict(set)
        self._watched: defaultdict[str, int] = defaultdict(int)
        self._left: dict[str, float] = {}  # when the last one stopped waiting for a pool
        self._reading: frozenset[str] = frozenset()  # the pools that the read under way names
        self._changed = asyncio.Event()
        self._client_id = 0
        self.connected = False

    @contextlib.asynccontextmanager
    async def watch(self, pool: str, lesson: str, *, unheard: Collection[str] = ()) -> AsyncIterator[Watch]:
        """Watch a lesson from now on: whatever happens to it after this returns wakes the watch.

        Args:
            pool: where the lesson is.
            lesson: its id.
            unheard: types of events that are no news for the caller.

        Raises:
            BrokerUnavailable: Redis did not answer.
        """
        watch = Watch(unheard)
        self._watched[pool] += 1
        self._left.pop(pool, None)
        self._watches[pool, lesson].add(watch)
        try:
            if pool not in self._positions:
                await self._join(pool)
            yield watch
        finally:
            self._watches[pool, lesson].discard(watch)
            if not self._watches[pool, lesson]:
                del self._watches[pool, lesson]
            self._watched[pool] -= 1
            if not self._watched[pool]:
                del self._watched[pool]
                self._left[pool] = asyncio.get_running_loop().time()

    async def _join(self, pool: str) -> None:
        with translated("events"):
            newest: Any = await self._commands.xrevrange(Keys(pool).events, count=1)
            self._positions.setdefault(pool, newest[0][0] if newest else "0-0")
            self._changed.set()
            pause_s = INTERRUPT_AGAIN_S
            while self._reading and pool not in self._reading:
                # The listener is in the middle of a read that does not name this pool: make that read return.
                await self._commands.client_unblock(self._client_id)
                await asyncio.sleep(pause_s)
                pause_s *= 2

    async def run(self) -> None:
        """Listen until cancelled; errors are logged and survived."""
        while True:
            try:
                self._client_id = int(await self._listener.client_id())
                self.connected = True
                self._wake_all()
                while True:
                    await self._read()
            except (RedisError, OSError, RuntimeError) as error:  # the last is uvloop's for a lost connection
                if self.connected:
                    log.warning("event listener lost its connection", error=type(error).__name__)
                self.connected = False
                await asyncio.sleep(PAUSE_S)

    def _forget_quiet(self) -> None:
        now = asyncio.get_running_loop().time()
        for pool in [pool for pool, left in self._left.items() if left + LINGER_S <= now]:
            del self._left[pool]
            self._positions.pop(pool, None)

    async def _read(self) -> None:
        self._forget_quiet()
        if not self._positions:
            self._changed.clear()
            await self._changed.wait()
            return
        streams: dict[Any, Any] = {Keys(pool).events: position for pool, position in self._positions.items()}
        pools = {Keys(pool).events: pool for pool in self._positions}
        self._reading = frozenset(self._positions)
        try:
            answer: Any = await self._listener.xread(streams, count=PAGE, block=int(BLOCK_S * 1000))
        finally:
            self._reading = frozenset()
        for stream, entries in answer.items() if isinstance(answer, dict) else answer or ():
            pool = pools[stream]
            for id, fields in entries:
                try:
                    event = read_event(pool, id, fields)
                except ScriptError as error:
                    # Foreign data in one pool must not make the waiters of all of them deaf.
                    log.error("an event cannot be read", pool=pool, entry=id, error=str(error))
                    continue
                # A slot came free, perhaps: those who are next in line are named, and nobody else is woken.
                for lesson in event.fields.get("wake", "").split():
                    for watch in self._watches.get((pool, lesson), ()):
                        watch.wake()
                for watch in self._watches.get((pool, event.lesson), ()):
                    if event.type not in watch.unheard:
                        watch.wake()
            if pool in self._positions:
                self._positions[pool] = entries[-1][0]

    def _wake_all(self) -> None:
        for watches in self._watches.values():
            for watch in watches:
                watch.wake()

    async def aclose(self) -> None:
        """Close the listening connection."""
        await self._listener.aclose()
