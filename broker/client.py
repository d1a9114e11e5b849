"""The two runners that carry operations to Redis: `Broker` blocks, `AsyncBroker` awaits.

They are thin on purpose. What an operation sends and how its answer is read stands once in `broker.operations`; how a
failure of Redis becomes one of our errors stands once here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import redis
import redis.asyncio
from redis.exceptions import (
    AuthenticationError,
    ConnectionError,
    NoPermissionError,
    NoScriptError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
    TimeoutError,
)

from broker.errors import BrokerMisconfigured, BrokerUnavailable, PoolDamaged, ScriptError
from broker.operations import Operation, Pool, pools
from broker.settings import Settings

T = TypeVar("T")

_DAMAGED = re.compile(r"DAMAGED (?P<key>\S+) (?P<what>[^;]*);")
"""How `damaged` in `lua/include_lease.lua` says it; servers put words of their own before and behind."""
_REFUSED = re.compile(r"(?:^|-)(?P<code>READONLY|OOM|MISCONF) ")
"""A write that the server refused. Redis 6.2 puts words in front of it when the write was a script's."""
_REMEDIES = {
    "READONLY": "it is a replica; point REDIS_URL at the primary",
    "OOM": "it has no memory left; give it more",
    "MISCONF": "it cannot save them; free its disk, see its log",
}

CLOSED = "the handler is closed"
"""What uvloop says of a connection that is used after it was closed."""


class Broker:
    """Runs operations on a blocking connection.

    Args:
        connection: a client that decodes responses; see `broker.redis.connect`.
        settings: lease times, quota and caps.
    """

    def __init__(self, connection: redis.Redis, settings: Settings) -> None:
        self.redis = connection
        self.settings = settings

    def pool(self, name: str = "") -> Pool:
        """The operations on the pool `name`, or on the default pool."""
        return Pool(name or self.settings.default_pool, self.settings)

    def run(self, operation: Operation[T]) -> T:
        """Carry out one operation in one round trip.

        Raises:
            BrokerUnavailable: Redis did not answer; the effect is unknown, and repeating is safe.
            BrokerMisconfigured: Redis answers, but cannot be written to.
            PoolDamaged: the pool's data contradict themselves; nothing was changed.
            ScriptError: the script refused its input.
        """
        with translated(operation.name):
            try:
                answer = self.redis.execute_command(*command(operation))
            except NoScriptError:
                # After SCRIPT FLUSH or on a new server. EVAL sends the text once and leaves it loaded.
                answer = self.redis.execute_command(*command(operation, with_text=True))
        return operation.read(answer)

    def pools(self) -> tuple[str, ...]:
        """The names of all registered pools."""
        return self.run(pools())


class AsyncBroker:
    """Runs operations on an async connection; otherwise like `Broker`."""

    def __init__(self, connection: redis.asyncio.Redis, settings: Settings) -> None:
        self.redis = connection
        self.settings = settings

    def pool(self, name: str = "") -> Pool:
        """The operations on the pool `name`, or on the default pool."""
        return Pool(name or self.settings.default_pool, self.settings)

    async def run(self, operation: Operation[T]) -> T:
        """Carry out one operation in one round trip; raises like `Broker.run`."""
        return await run(self.redis, operation)

    async def run_all(self, operations: Sequence[Operation[T]]) -> list[T]:
        """Carry out operations that do not depend on each other, in one round trip; raises like `Broker.run`.

        After an error it is unknown which of them were carried out.
        """
        with translated("several at once"):
            async with self.redis.pipeline(transaction=False) as pipe:
                for operation in operations:
                    pipe.execute_command(*command(operation))
                answers = await pipe.execute(raise_on_error=False)
        return [await self._read(*pair) for pair in zip(operations, answers, strict=True)]

    async def _read(self, operation: Operation[T], answer: Any) -> T:
        if isinstance(answer, NoScriptError):
            return await self.run(operation)
        with translated(operation.name):
            if isinstance(answer, Exception):
                raise answer
        return operation.read(answer)

    async def pools(self) -> tuple[str, ...]:
        """The names of all registered pools."""
        return await self.run(pools())


async def run(connection: redis.asyncio.Redis, operation: Operation[T]) -> T:
    """Carry out one operation in one round trip; raises like `Broker.run`."""
    with translated(operation.name):
        try:
            answer = await connection.execute_command(*command(operation))
        except NoScriptError:
            answer = await connection.execute_command(*command(operation, with_text=True))
    return operation.read(answer)


def command(operation: Operation[Any], *, with_text: bool = False) -> tuple[Any, ...]:
    """The Redis command of an operation; for a script, by its hash or with its text."""
    if operation.script is None:
        return operation.command
    if with_text:
        return ("EVAL", operation.script.text, *operation.command)
    return ("EVALSHA", operation.script.sha, *operation.command)


@contextmanager
def translated(what: str) -> Iterator[None]:
    """Turn redis-py's errors into ours; the one boundary where that happens.

    Raises:
        BrokerUnavailable, BrokerMisconfigured, PoolDamaged, ScriptError: see `Broker.run`.
    """
    try:
        yield
    except NoScriptError:
        raise
    except (AuthenticationError, NoPermissionError) as error:
        raise BrokerMisconfigured(
            f"{what}: Redis refuses us ({type(error).__name__}); check user, password and rights in REDIS_URL"
        ) from error
    except ResponseError as error:
        if code := _refusal(error):
            raise BrokerMisconfigured(f"{what}: Redis refuses writes, {_REMEDIES[code]}") from error
        if damage := _DAMAGED.search(str(error)):
            raise PoolDamaged(what, damage["key"], damage["what"]) from error
        if str(error).startswith("WRONGTYPE"):
            raise PoolDamaged(what, "one of its keys", "is of a wrong type") from error
        raise ScriptError(what, str(error)) from error
    except (ConnectionError, TimeoutError, RedisError, OSError) as error:
        # The cause is not quoted in full: a connection error may carry the URL with its password.
        raise BrokerUnavailable(f"{what}: Redis did not answer ({type(error).__name__}); repeat the call") from error
    except RuntimeError as error:
        # uvloop's word for a connection that broke at this moment. redis-py does not know it and lets it through.
        if CLOSED not in str(error):
            raise
        raise BrokerUnavailable(f"{what}: Redis did not answer (connection lost); repeat the call") from error


def _refusal(error: ResponseError) -> str:
    """The code with which the server refused a write; empty if it is another error."""
    if isinstance(error, ReadOnlyError):
        return "READONLY"  # redis-py cuts off the codes that it has classes for
    if isinstance(error, OutOfMemoryError):
        return "OOM"
    refused = _REFUSED.search(str(error))
    return refused["code"] if refused else ""
