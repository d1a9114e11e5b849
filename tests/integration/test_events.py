"""Who waits for a lesson is woken by what happens to it, by one connection for all, and is never left asleep."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import pytest
import redis as redis_py

from broker import events
from broker.client import AsyncBroker
from broker.errors import BrokerUnavailable
from broker.events import EventHub
from broker.models import Account, Lease, ReleaseReason
from broker.redis import connect_async
from broker.settings import Settings
from broker.testing.environment import private_settings
from tests.waiting import wait_until_async

SOON_S = 15.0
"""Far longer than a wake-up takes, on a machine that is busy with other things."""


@dataclass(frozen=True)
class Listening:
    """A hub that listens, and the broker whose changes it hears."""

    hub: EventHub
    broker: AsyncBroker
    task: asyncio.Task[None]

    async def pool(self, name: str = "default") -> None:
        """A pool with three hosts."""
        pool = self.broker.pool(name)
        await self.broker.run(pool.register())
        for number in range(3):
            account = Account(f"host-{number}", f"host-{number}@school.example", "", "default", 1)
            await self.broker.run(pool.add_account(account))

    async def claim(self, lesson: str, pool: str = "default") -> Lease:
        """A granted lease."""
        claim = await self.broker.run(self.broker.pool(pool).claim(lesson, f"owner-of-{lesson}"))
        assert claim.lease is not None
        return claim.lease

    async def release(self, lease: Lease) -> None:
        """The lesson is over."""
        await self.broker.run(self.broker.pool(lease.pool).release([lease.id], ReleaseReason.ENDED))


@pytest.fixture
def settings(redis_url: str) -> Settings:
    return private_settings(redis_url, "http://zoom.invalid", {})


@pytest.fixture
async def listening(settings: Settings) -> AsyncIterator[Listening]:
    async with running(settings) as made:
        await made.pool()
        yield made


@contextlib.asynccontextmanager
async def running(settings: Settings) -> AsyncIterator[Listening]:
    commands, listener = connect_async(settings), connect_async(settings, blocking_s=events.BLOCK_S)
    hub = EventHub(listener, commands)
    task = asyncio.create_task(hub.run())
    try:
        yield Listening(hub, AsyncBroker(commands, settings), task)
    finally:
        await events.stop(task)
        await hub.aclose()
        await listener.aclose()
        await commands.aclose()


async def test_change_wakes_who_watches_the_lesson_and_nobody_else(listening: Listening) -> None:
    async with listening.hub.watch("default", "algebra") as algebra, listening.hub.watch("default", "biology") as other:
        await listening.claim("algebra")
        assert await algebra.news(SOON_S)
        lease = await listening.claim("chemistry")
        await listening.release(lease)
        await listening.claim("biology")
        assert await other.news(SOON_S)  # everything before it has been read by then
        assert not await algebra.news(0)


async def test_change_right_after_the_watch_began_is_not_missed(listening: Listening) -> None:
    for number in range(20):
        async with listening.hub.watch("default", f"lesson-{number}") as watch:
            lease = await listening.claim(f"lesson-{number}")
            assert await watch.news(SOON_S)
        await listening.release(lease)


async def test_silence_ends_with_the_time_out(listening: Listening) -> None:
    async with listening.hub.watch("default", "algebra") as watch:
        assert not await watch.news(0.05)
        assert not await watch.news(-1)


async def test_all_watches_of_a_lesson_are_woken(listening: Listening) -> None:
    async with contextlib.AsyncExitStack() as stack:
        watches = [await stack.enter_async_context(listening.hub.watch("default", "algebra")) for _ in range(5)]
        await listening.claim("algebra")
        assert all([await watch.news(SOON_S) for watch in watches])


async def test_pool_that_joins_while_the_listener_waits_for_another_is_heard(listening: Listening) -> None:
    await listening.pool("evening")
    async with listening.hub.watch("default", "algebra"), listening.hub.watch("evening", "dance") as dance:
        await listening.claim("dance", "evening")
        assert await dance.news(SOON_S)


async def test_pool_that_joins_while_a_read_is_on_its_way_to_the_server_is_heard(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "BLOCK_S", 4 * SOON_S)  # a read that was not interrupted would be noticed
    async with running(settings) as listening:
        await listening.pool()
        await listening.pool("evening")
        interrupted = Counted(listening.broker.redis.client_unblock)
        monkeypatch.setattr(listening.broker.redis, "client_unblock", interrupted)
        reads = Held(listening.hub._listener.xread)
        monkeypatch.setattr(listening.hub._listener, "xread", reads)
        async with contextlib.AsyncExitStack() as stack:
            await stack.enter_async_context(listening.hub.watch("default", "algebra"))
            await reads.begun.wait()
            joining = asyncio.create_task(stack.enter_async_context(listening.hub.watch("evening", "dance")))
            await wait_until_async(interrupted.twice, "the read cannot be interrupted yet")
            reads.may_go.set()
            dance = await joining
            await listening.claim("dance", "evening")
            assert await dance.news(SOON_S)


async def test_same_lesson_in_another_pool_is_another_lesson(listening: Listening) -> None:
    await listening.pool("evening")
    async with (
        listening.hub.watch("default", "algebra") as here,
        listening.hub.watch("evening", "algebra") as there,
    ):
        await listening.claim("algebra", "evening")
        assert await there.news(SOON_S)
        assert not await here.news(0)


async def test_pool_whose_stream_does_not_exist_yet_can_be_watched(listening: Listening) -> None:
    async with listening.hub.watch("new", "algebra") as watch:
        await listening.pool("new")
        await listening.claim("algebra", "new")
        assert await watch.news(SOON_S)


async def test_two_hundred_watches_are_one_connection_and_no_questions(
    listening: Listening, redis: redis_py.Redis
) -> None:
    async with contextlib.AsyncExitStack() as stack:
        watches = [
            await stack.enter_async_context(listening.hub.watch("default", f"lesson-{number}")) for number in range(200)
        ]
        before, connections = commands(redis), len(clients(redis))
        lease = await listening.claim("lesson-7")
        assert await watches[7].news(SOON_S)
        after = commands(redis)
        assert len(clients(redis)) == connections
        asked = {name for name in after if after[name] > before.get(name, 0)}
        assert not asked & {"xrevrange", "client|unblock"}
        assert after["xread"] - before["xread"] < 10
        await listening.release(lease)


async def test_lost_connection_wakes_everybody_when_it_is_made_anew(
    listening: Listening, redis: redis_py.Redis
) -> None:
    async with listening.hub.watch("default", "algebra") as one, listening.hub.watch("default", "biology") as other:
        for _ in range(3):
            id = await wait_until_async(lambda: blocked(redis), "the listener waits")
            redis.client_kill_filter(_id=str(id))
            # Something may have been missed meanwhile, so everybody looks again.
            assert await one.news(SOON_S)
            assert await other.news(SOON_S)
            assert listening.hub.connected


async def test_pool_that_joins_after_a_lost_connection_is_heard(
    settings: Settings, redis: redis_py.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "BLOCK_S", 4 * SOON_S)
    async with running(settings) as listening:
        await listening.pool()
        await listening.pool("evening")
        async with listening.hub.watch("default", "algebra") as algebra:
            id = await wait_until_async(lambda: blocked(redis), "the listener waits")
            redis.client_kill_filter(_id=str(id))
            assert await algebra.news(SOON_S)
            await wait_until_async(lambda: blocked(redis), "the listener waits again")
            async with listening.hub.watch("evening", "dance") as dance:
                await listening.claim("dance", "evening")
                assert await dance.news(SOON_S)


async def test_lost_connection_loses_no_change(listening: Listening, redis: redis_py.Redis) -> None:
    async with listening.hub.watch("default", "algebra") as watch:
        for _ in range(3):
            id = await wait_until_async(lambda: blocked(redis), "the listener waits")
            redis.client_kill_filter(_id=str(id))
            # The stream is the record, and the listener goes on from where it was.
            lease = await listening.claim("algebra")
            assert await watch.news(SOON_S)
            await listening.release(lease)
            assert await watch.news(SOON_S)


async def test_server_that_was_away_wakes_everybody_when_it_is_back(
    listening: Listening, redis: redis_py.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with listening.hub.watch("default", "algebra") as watch:
        with monkeypatch.context() as broken:

            async def fail(*args: Any, **options: Any) -> None:
                raise ConnectionError

            async def away() -> bool:
                return not listening.hub.connected

            broken.setattr(type(listening.hub._listener), "xread", fail)
            await wait_until_async(away, "the hub notices")
        assert await watch.news(SOON_S)
        assert listening.hub.connected


async def test_foreign_entry_in_a_stream_makes_nobody_deaf(listening: Listening, redis: redis_py.Redis) -> None:
    async with listening.hub.watch("default", "algebra") as watch:
        redis.xadd(listening.broker.pool().keys.events, {"foreign": "data"})
        await listening.claim("algebra")
        assert await watch.news(SOON_S)
    assert not listening.task.done()


async def test_freed_slot_wakes_who_is_next_in_line(listening: Listening) -> None:
    leases = [await listening.claim(f"early-{number}") for number in range(3)]
    async with listening.hub.watch("default", "late") as late, listening.hub.watch("default", "later") as later:
        for lesson in ("late", "later"):
            await listening.broker.run(listening.broker.pool().claim(lesson, f"owner-of-{lesson}", wait_s=60))
            watch = late if lesson == "late" else later
            assert await watch.news(SOON_S)  # that it is queued now
        await listening.release(leases[0])
        assert await late.news(SOON_S)
        assert not await later.news(0)


async def test_pool_is_listened_to_a_while_longer_than_somebody_waits(
    listening: Listening, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with listening.hub.watch("default", "algebra"):
        pass
    # Asked where its stream ends, Redis would not answer.
    monkeypatch.setattr(listening.hub, "_commands", None)
    async with listening.hub.watch("default", "algebra") as watch:
        await listening.claim("algebra")
        assert await watch.news(SOON_S)


async def test_nothing_is_listened_to_when_nobody_waits(
    listening: Listening, redis: redis_py.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "LINGER_S", 0.1)
    async with listening.hub.watch("default", "algebra"):
        await wait_until_async(lambda: blocked(redis), "the listener waits")

    async def idle() -> bool:
        return not await blocked(redis)

    await wait_until_async(idle, "the listener rests")
    # Nothing is remembered of who left; whoever comes next starts from now.
    await listening.claim("algebra")
    async with listening.hub.watch("default", "algebra") as watch:
        await wait_until_async(lambda: blocked(redis), "the listener waits again")
        assert not await watch.news(0)


async def test_listener_stops_when_it_is_told_to(listening: Listening, redis: redis_py.Redis) -> None:
    async with listening.hub.watch("default", "algebra"):
        await wait_until_async(lambda: blocked(redis), "the listener waits")
        await events.stop(listening.task)
        assert listening.task.cancelled()

    async def gone() -> bool:
        return not await blocked(redis)

    await listening.hub.aclose()
    await wait_until_async(gone, "its connection is closed")


async def test_watch_on_a_redis_that_is_gone_says_so(settings: Settings) -> None:
    nowhere = settings.model_copy(update={"redis_url": "unix:///tmp/zoompool-no-such-socket.sock"})
    async with running(nowhere) as made:
        with pytest.raises(BrokerUnavailable):
            async with made.hub.watch("default", "algebra"):
                pass
        assert not made.hub.connected


class Counted:
    """An async function that counts its calls."""

    def __init__(self, function: Callable[..., Awaitable[Any]]) -> None:
        self._function = function
        self._calls = 0

    async def __call__(self, *args: Any, **options: Any) -> Any:
        self._calls += 1
        return await self._function(*args, **options)

    async def twice(self) -> bool:
        """Whether it was called at least twice."""
        return self._calls >= 2


class Held:
    """An async function whose first call is held up until it may go."""

    def __init__(self, function: Callable[..., Awaitable[Any]]) -> None:
        self._function = function
        self.begun, self.may_go = asyncio.Event(), asyncio.Event()

    async def __call__(self, *args: Any, **options: Any) -> Any:
        self.begun.set()
        await self.may_go.wait()
        return await self._function(*args, **options)


async def blocked(redis: redis_py.Redis) -> int:
    """The id of the connection that listens; 0 if none does."""
    return next((int(one["id"]) for one in clients(redis) if one["cmd"] == "xread" and "b" in one["flags"]), 0)


def clients(redis: redis_py.Redis) -> list[dict[str, str]]:
    found: Any = redis.client_list()
    return list(found)


def commands(redis: redis_py.Redis) -> dict[str, int]:
    """How often each command ran."""
    stats: Any = redis.info("commandstats")
    return {name.removeprefix("cmdstat_"): int(stat["calls"]) for name, stat in stats.items()}
