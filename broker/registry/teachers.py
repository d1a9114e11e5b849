"""The registry of teachers: until when they may start lessons, and how their own Zoom account is reached.

The secrets of a teacher's own Zoom app are not here: the app is a credential like any other, named by `pool_of`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import redis.asyncio

from broker import keys
from broker.client import run, translated
from broker.errors import InvalidName, UnknownTeacher
from broker.models import MAX_CAPACITY, MAX_POOL_NAME, check_name
from broker.operations import Operation

PERSONAL = "teacher-"
"""Begins the names of the pool and of the credential of a teacher's own Zoom account."""


LONGEST_TEACHER_ID = MAX_POOL_NAME - len(PERSONAL)


def pool_of(teacher: str) -> str:
    """The name of the pool, and of the credential, of a teacher's own Zoom account.

    Raises:
        InvalidName: the id is too long or cannot be part of a key.
    """
    return check_name("pool", PERSONAL + check_name("teacher", teacher))


def is_personal(name: str) -> bool:
    """Whether a pool or credential of this name belongs to one teacher."""
    return name.startswith(PERSONAL)


@dataclass(frozen=True)
class Teacher:
    """What is registered of a teacher."""

    id: str
    subscription_until_ms: int | None = None
    """The first moment without a subscription; None: the registry does not know of any."""
    zoom_user_id: str = ""
    """User id or e-mail at Zoom, for the teacher's own account; empty: whoever owns that Zoom account."""
    capacity: int = 1
    """How many meetings that user may run at a time."""


async def save(redis: redis.asyncio.Redis, teacher: Teacher) -> None:
    """Register a teacher, or replace what is registered.

    Raises:
        InvalidName: the id cannot be part of a key or is too long, or the Zoom user is `me`.
        ValueError: the capacity is not between 1 and 10.
        BrokerUnavailable: Redis did not answer; repeating is safe.
    """
    pool_of(teacher.id)
    if teacher.zoom_user_id == "me":
        raise InvalidName("zoom_user_id", "me", "Zoom does not take 'me' from Server-to-Server apps; give the real one")
    if not 1 <= teacher.capacity <= MAX_CAPACITY:
        raise ValueError(f"capacity of teacher {teacher.id!r} is {teacher.capacity}; it must be 1 to {MAX_CAPACITY}")
    with translated("save teacher"):
        await redis.zadd(keys.TEACHERS, {teacher.id: 0})
        await redis.hset(
            keys.teacher(teacher.id),
            mapping={
                "subscription_until_ms": ""
                if teacher.subscription_until_ms is None
                else str(teacher.subscription_until_ms),
                "zoom_user_id": teacher.zoom_user_id,
                "capacity": str(teacher.capacity),
            },
        )


def read(id: str) -> Operation[Teacher | None]:
    """A registered teacher.

    Raises:
        InvalidName: the id cannot be part of a key.
    """
    return Operation(
        "find teacher", ("HGETALL", keys.teacher(id)), lambda fields: _teacher(id, fields) if fields else None
    )


async def find(redis: redis.asyncio.Redis, id: str) -> Teacher | None:
    """The same, on a connection.

    Raises:
        InvalidName: the id cannot be part of a key.
        BrokerUnavailable: Redis did not answer.
    """
    return await run(redis, read(id))


async def load(redis: redis.asyncio.Redis, id: str) -> Teacher:
    """A registered teacher.

    Raises:
        UnknownTeacher: there is none.
        BrokerUnavailable: Redis did not answer.
    """
    found = await find(redis, id)
    if found is None:
        raise UnknownTeacher(id)
    return found


async def delete(redis: redis.asyncio.Redis, id: str) -> None:
    """Forget a teacher. The credential of the teacher's own Zoom app has to be deleted before.

    Raises:
        UnknownTeacher: there is none.
        BrokerUnavailable: Redis did not answer; repeating is safe.
    """
    with translated("delete teacher"):
        await redis.delete(keys.teacher(id))
        # The id goes last: a repeated call still finds it and finishes the work.
        if not await redis.zrem(keys.TEACHERS, id):
            raise UnknownTeacher(id)


async def page(redis: redis.asyncio.Redis, after: str = "", count: int = 200) -> list[Teacher]:
    """Teachers in the order of their ids, those after the id `after`.

    Raises:
        BrokerUnavailable: Redis did not answer.
    """
    found: list[Teacher] = []
    while len(found) < count:
        wanted = count - len(found)
        with translated("list teachers"):
            ids: Any = await redis.zrangebylex(keys.TEACHERS, f"({after}" if after else "-", "+", 0, wanted)
            async with redis.pipeline(transaction=False) as ask:
                for id in ids:
                    ask.hgetall(keys.teacher(id))
                records: Any = await ask.execute()
        # Without a record: it is being made, or being deleted.
        found += [_teacher(id, fields) for id, fields in zip(ids, records, strict=True) if fields]
        if len(ids) < wanted:
            break
        after = ids[-1]
    return found


def _teacher(id: str, fields: Mapping[str, str]) -> Teacher:
    until = fields.get("subscription_until_ms")
    return Teacher(
        id=id,
        subscription_until_ms=int(until) if until else None,
        zoom_user_id=fields.get("zoom_user_id", ""),
        capacity=int(fields.get("capacity") or 1),
    )
