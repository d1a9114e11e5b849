"""Both runners, blocking and async, behave alike: towards a Redis that works, and towards one in trouble."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import socketserver
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any, TypeVar

import pytest
import redis as redis_py

from broker.client import AsyncBroker, Broker
from broker.errors import BrokerMisconfigured, BrokerUnavailable, ScriptError, ZoomPoolError
from broker.models import Account, Change, Granted, ReleaseReason
from broker.operations import Operation
from broker.redis import connect, connect_async
from broker.settings import Settings
from broker.testing.environment import private_settings
from broker.testing.redis_server import RedisServer
from tests.waiting import wait_until

T = TypeVar("T")

PASSWORD = "made-up-password"
SHORT_S = 0.5


class Blocking:
    """`Broker` with the other one's face."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.connection = connect(settings)
        self._broker = Broker(self.connection, settings)
        self.pool = self._broker.pool

    async def run(self, operation: Operation[T]) -> T:
        return await asyncio.to_thread(self._broker.run, operation)

    async def take_connection(self) -> Callable[[], Awaitable[None]]:
        """Keep one connection from everybody else, until what is returned is called."""
        connection = self.connection.connection_pool.get_connection()

        async def give_back() -> None:
            self.connection.connection_pool.release(connection)

        return give_back

    async def aclose(self) -> None:
        self.connection.close()


class Async:
    """`AsyncBroker` and its connection."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.connection = connect_async(settings)
        self._broker = AsyncBroker(self.connection, settings)
        self.pool = self._broker.pool

    async def run(self, operation: Operation[T]) -> T:
        return await self._broker.run(operation)

    async def take_connection(self) -> Callable[[], Awaitable[None]]:
        """Keep one connection from everybody else, until what is returned is called."""
        connection = await self.connection.connection_pool.get_connection()

        async def give_back() -> None:
            await self.connection.connection_pool.release(connection)

        return give_back

    async def aclose(self) -> None:
        await self.connection.aclose()


KINDS = [Blocking, Async]


@pytest.fixture(params=KINDS, ids=["blocking", "async"])
def kind(request: pytest.FixtureRequest) -> Any:
    """Which runner."""
    return request.param


@contextlib.asynccontextmanager
async def made(kind: Any, url: str, **changes: Any) -> AsyncIterator[Any]:
    runner = kind(private_settings(url, "http://zoom.invalid", {"redis_timeout_s": 5, **changes}))
    try:
        yield runner
    finally:
        await runner.aclose()


@pytest.fixture
async def runner(kind: Any, redis_url: str) -> AsyncIterator[Any]:
    async with made(kind, redis_url) as runner:
        await runner.run(runner.pool().register())
        await runner.run(runner.pool().add_account(Account("host-1", "host-1@school.example", "", "default", 1)))
        yield runner


async def failure(runner: Any, operation: Operation[Any] | None = None) -> ZoomPoolError:
    """The error of an operation."""
    with pytest.raises(ZoomPoolError) as caught:
        await runner.run(operation or runner.pool().claim("algebra", "anna"))
    assert PASSWORD not in str(caught.value)
    return caught.value


async def test_whole_life_of_a_lease(runner: Any) -> None:
    pool = runner.pool()
    claim = await runner.run(pool.claim("algebra", "anna", topic="Algebra"))
    assert claim.outcome is Granted.GRANTED
    began = await runner.run(pool.begin_creating(claim.lease.id, "attempt"))
    assert began.change is Change.DONE
    assert (await runner.run(pool.claim("biology", "boris"))).outcome is Granted.BUSY
    assert (await runner.run(pool.find_lesson("algebra"))).lease.id == claim.lease.id
    assert await runner.run(pool.release([claim.lease.id], ReleaseReason.ENDED)) == (Change.DONE,)
    assert (await runner.run(pool.find_lesson("algebra"))).outcome.reason is ReleaseReason.ENDED
    assert (await runner.run(pool.status())).free == 1


async def test_flushed_scripts_go_unnoticed(runner: Any, redis: redis_py.Redis) -> None:
    for number in range(5):
        redis.script_flush()
        claim = await runner.run(runner.pool().claim(f"lesson-{number}", "anna"))
        assert claim.outcome is Granted.GRANTED
        await runner.run(runner.pool().release([claim.lease.id], ReleaseReason.ENDED))


async def test_error_of_a_script_is_named_with_the_script(runner: Any) -> None:
    found = runner.pool()._find("nothing", "algebra")
    error = await failure(runner, found)
    assert isinstance(error, ScriptError)
    assert "UNKNOWN_KIND" in str(error)
    assert "find" in str(error)


async def test_server_that_is_not_there(kind: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as gone:
        port = gone.getsockname()[1]
    async with made(kind, f"redis://:{PASSWORD}@127.0.0.1:{port}/0") as runner:
        assert isinstance(await failure(runner), BrokerUnavailable)


class Impostor(socketserver.ThreadingTCPServer):
    """A server that gives the same answer to everything: words, silence (None) or a closed connection (empty)."""

    daemon_threads = True

    def __init__(self, answer: bytes | None) -> None:
        self.connections = 0
        impostor = self

        class Answering(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                impostor.connections += 1
                while answer != b"" and self.request.recv(4096):
                    if answer:
                        self.request.sendall(answer)

        super().__init__(("127.0.0.1", 0), Answering)

    @property
    def url(self) -> str:
        return f"redis://:{PASSWORD}@127.0.0.1:{self.server_address[1]}/0"

    def __enter__(self) -> Impostor:
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self.shutdown()
        self.server_close()


async def test_server_that_never_answers_is_tried_twice_and_not_waited_for(kind: Any) -> None:
    with Impostor(None) as silent:
        async with made(kind, silent.url, redis_timeout_s=SHORT_S) as runner:
            assert isinstance(await failure(runner), BrokerUnavailable)
        assert silent.connections == 2


async def test_server_that_hangs_up_is_tried_twice(kind: Any) -> None:
    with Impostor(b"") as gruff:
        async with made(kind, gruff.url) as runner:
            assert isinstance(await failure(runner), BrokerUnavailable)
        assert gruff.connections == 2


async def test_server_that_still_loads_its_data_is_unavailable(kind: Any) -> None:
    with Impostor(b"-LOADING Redis is loading the dataset in memory\r\n") as starting:
        async with made(kind, starting.url) as runner:
            assert isinstance(await failure(runner), BrokerUnavailable)


async def test_all_connections_busy_is_waited_for_and_then_unavailable(
    kind: Any, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("broker.redis.TURN_S", SHORT_S)
    async with made(kind, redis_url, redis_max_connections=2, redis_timeout_s=SHORT_S) as runner:
        give_back = [await runner.take_connection() for _ in range(2)]
        assert isinstance(await failure(runner), BrokerUnavailable)
        await give_back.pop()()
        assert (await runner.run(runner.pool().status())).slots == 0
        await give_back.pop()()


async def test_connection_that_comes_free_is_taken_by_who_waits(kind: Any, redis_url: str) -> None:
    async with made(kind, redis_url, redis_max_connections=2, redis_timeout_s=15) as runner:
        give_back = [await runner.take_connection() for _ in range(2)]
        waiting = asyncio.create_task(runner.run(runner.pool().status()))
        done, _ = await asyncio.wait({waiting}, timeout=0.1)
        assert not done
        for give in give_back:
            await give()
        assert (await waiting).slots == 0


async def test_connection_that_was_cut_is_made_anew_unnoticed(runner: Any, redis: redis_py.Redis) -> None:
    await runner.run(runner.pool().status())
    mine: Any = redis.client_id()
    redis.client_kill_filter(_type="normal", skipme=True)
    assert mine == redis.client_id()
    assert (await runner.run(runner.pool().claim("algebra", "anna"))).outcome is Granted.GRANTED


@pytest.fixture
def own_server() -> Iterator[RedisServer]:
    """A server that a test may bring into trouble."""
    with RedisServer(fsync="no") as server:
        yield server


@pytest.fixture
async def own(kind: Any, own_server: RedisServer) -> AsyncIterator[Any]:
    async with made(kind, own_server.url) as runner:
        await runner.run(runner.pool().add_account(Account("host-1", "host-1@school.example", "", "default", 1)))
        yield runner


@contextlib.contextmanager
def operator(server: RedisServer) -> Iterator[redis_py.Redis]:
    with redis_py.Redis.from_url(server.url, socket_timeout=10) as connection:
        yield connection


async def test_server_without_memory_left_is_misconfigured(own: Any, own_server: RedisServer) -> None:
    with operator(own_server) as connection:
        connection.config_set("maxmemory", 1)
        connection.config_set("maxmemory-policy", "noeviction")
    # Not a claim: a script whose first write needs no memory may finish, so that no half of it is done.
    error = await failure(own, own.pool().register())
    assert isinstance(error, BrokerMisconfigured)
    assert "memory" in str(error)


async def test_server_that_cannot_save_is_misconfigured(own: Any, own_server: RedisServer) -> None:
    (own_server.folder / "dump.rdb").mkdir()  # where the snapshot should go
    with operator(own_server) as connection:
        connection.config_set("save", "3600 1000000")
        connection.bgsave()

        def failed() -> bool:
            persistence: Any = connection.info("persistence")
            return bool(persistence["rdb_last_bgsave_status"] == "err")

        await asyncio.to_thread(wait_until, failed, "the snapshot failed")
        for operation in (own.pool().claim("algebra", "anna"), own.pool().register()):
            error = await failure(own, operation)
            assert isinstance(error, BrokerMisconfigured)
            assert "save" in str(error)
        assert (await own.run(own.pool().status())).free == 1, "reading goes on"
        connection.config_set("save", "")
    assert (await own.run(own.pool().claim("algebra", "anna"))).outcome is Granted.GRANTED


async def test_replica_is_misconfigured(own: Any, own_server: RedisServer) -> None:
    with operator(own_server) as connection, socket.create_server(("127.0.0.1", 0)) as primary:
        connection.execute_command("REPLICAOF", "127.0.0.1", primary.getsockname()[1])
        assert isinstance(await failure(own), BrokerMisconfigured)
        connection.execute_command("REPLICAOF", "NO", "ONE")
    assert (await own.run(own.pool().claim("algebra", "anna"))).outcome is Granted.GRANTED


async def test_server_that_was_killed_is_unavailable_and_back_with_all_it_knew(
    own: Any, own_server: RedisServer
) -> None:
    claim = await own.run(own.pool().claim("algebra", "anna"))
    own_server.kill()
    assert isinstance(await failure(own), BrokerUnavailable)
    own_server.start()
    assert (await own.run(own.pool().claim("algebra", "anna"))).lease.id == claim.lease.id


async def test_wrong_password_is_said_and_not_shown(kind: Any, own_server: RedisServer) -> None:
    with operator(own_server) as connection:
        connection.config_set("requirepass", "another-made-up-password")
        url = f"unix://:{PASSWORD}@{own_server.socket}"
        async with made(kind, url) as runner:
            # redis-py's async client says no more than that it could not connect.
            assert isinstance(await failure(runner), BrokerUnavailable | BrokerMisconfigured)


async def test_frozen_server_costs_two_time_outs_at_most(kind: Any, own_server: RedisServer) -> None:
    async with made(kind, own_server.url, redis_timeout_s=SHORT_S) as runner:
        await runner.run(runner.pool().status())
        own_server.pause()
        try:
            assert isinstance(await failure(runner), BrokerUnavailable)
        finally:
            own_server.resume()
        assert (await runner.run(runner.pool().status())).slots == 0


async def test_connection_that_uvloop_found_closed_is_unavailable(kind: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """redis-py lets uvloop's error through when a connection breaks while it is being made."""

    def break_down(*args: Any, **options: Any) -> None:
        raise RuntimeError("unable to perform operation on <TCPTransport closed=True>; the handler is closed")

    async with made(kind, "redis://127.0.0.1:1/0") as runner:
        monkeypatch.setattr(type(runner.connection), "execute_command", break_down)
        assert isinstance(await failure(runner), BrokerUnavailable)
