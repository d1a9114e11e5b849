"""The registry of lessons: whose they are, when, for which group; and lists of them, page by page.

A lesson's record is the truth; the indexes follow it. Whoever changes a record indexes it until it stops changing under
his hands, so of several writers the last one leaves indexes that agree. A writer who dies in between may leave a lesson
in an index too many, which readers pass over, or in one too few, which repeating the call puts right.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import redis.asyncio

from broker import keys
from broker.client import run, translated
from broker.errors import InvalidName, UnknownLesson
from broker.models import check_name
from broker.operations import Operation

DAY_MS = 24 * 3600 * 1000
ROUNDS = 20
"""So often a record may change while it is being indexed; then something writes it in a loop."""
SCAN = 200
"""Index entries that are read at once."""


@dataclass(frozen=True)
class Lesson:
    """A lesson as the web app registered it. Times in milliseconds since the epoch."""

    id: str
    teacher: str
    title: str = ""
    group: str = ""
    starts_ms: int | None = None
    duration_min: int = 0
    """Planned; 0 if that is not known."""
    created_ms: int = 0
    """When it was first registered."""

    @property
    def position_ms(self) -> int:
        """Its place in lists: its start, or when it was registered."""
        return self.created_ms if self.starts_ms is None else self.starts_ms

    @property
    def indexes(self) -> frozenset[str]:
        """The keys of the indexes that it belongs in."""
        of_group = {keys.lessons_of_group(self.group)} if self.group else set()
        return frozenset({keys.LESSONS, keys.lessons_of_teacher(self.teacher)} | of_group)


@dataclass(frozen=True)
class Cursor:
    """Where a page ended: after the lesson `id` at `position_ms`."""

    position_ms: int
    id: str

    def __str__(self) -> str:
        return f"{self.position_ms}.{self.id}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read what `str` made.

        Raises:
            InvalidName: it is something else.
        """
        position, _, id = text.partition(".")
        sign, digits = (-1, position[1:]) if position.startswith("-") else (1, position)
        if not (digits.isascii() and digits.isdigit() and len(digits) < 16):
            raise InvalidName("cursor", text, "take the one that the page before gave")
        return cls(sign * int(digits), check_name("lesson", id))


@dataclass(frozen=True)
class Query:
    """Which lessons are wanted; what is left out excludes nothing."""

    teacher: str = ""
    group: str = ""
    from_ms: int | None = None
    until_ms: int | None = None
    """The first moment that is not wanted any more."""

    @property
    def index(self) -> str:
        """The index with the fewest lessons in vain."""
        if self.teacher:
            return keys.lessons_of_teacher(self.teacher)
        return keys.lessons_of_group(self.group) if self.group else keys.LESSONS

    def fits(self, lesson: Lesson) -> bool:
        """Whether a lesson is wanted, whatever the index says."""
        return (
            self.teacher in ("", lesson.teacher)
            and self.group in ("", lesson.group)
            and (self.from_ms is None or lesson.position_ms >= self.from_ms)
            and (self.until_ms is None or lesson.position_ms < self.until_ms)
        )


async def save(redis: redis.asyncio.Redis, lesson: Lesson, *, keep_days: int) -> Lesson:
    """Register a lesson, or change it; returns it as it is registered now.

    Args:
        redis: decodes responses.
        lesson: `created_ms` of one that exists stays.
        keep_days: how long after its end it is forgotten.

    Raises:
        InvalidName: an id cannot be part of a key.
        UnknownLesson: somebody deleted it at the same moment.
        BrokerUnavailable: Redis did not answer; repeating is safe.
    """
    key, stale = keys.lesson(lesson.id), set(lesson.indexes)
    before = await find(redis, lesson.id)
    stale |= before.indexes if before else set()
    with translated("save lesson"):
        seconds, microseconds = await redis.time()
        now_ms = seconds * 1000 + microseconds // 1000
        starts_ms = now_ms if lesson.starts_ms is None else lesson.starts_ms
        forgotten_ms = max(now_ms, starts_ms + lesson.duration_min * 60_000) + keep_days * DAY_MS
        await redis.hsetnx(key, "created_ms", str(now_ms))
        await redis.hset(
            key,
            mapping={
                "teacher": lesson.teacher,
                "title": lesson.title,
                "group": lesson.group,
                "starts_ms": "" if lesson.starts_ms is None else str(lesson.starts_ms),
                "duration_min": str(lesson.duration_min),
            },
        )
        await redis.pexpireat(key, forgotten_ms)
    saved = await _index(redis, lesson.id, stale)
    if saved is None:
        raise UnknownLesson(lesson.id)
    with translated("forget old lessons"):
        for index in sorted(saved.indexes):
            await redis.zremrangebyscore(index, "-inf", now_ms - (keep_days + 1) * DAY_MS)
    return saved


def read(id: str) -> Operation[Lesson | None]:
    """A registered lesson.

    Raises:
        InvalidName: the id cannot be part of a key.
    """
    return Operation("find lesson", ("HGETALL", keys.lesson(id)), lambda fields: _lesson(id, fields))


async def find(redis: redis.asyncio.Redis, id: str) -> Lesson | None:
    """The same, on a connection.

    Raises:
        InvalidName: the id cannot be part of a key.
        BrokerUnavailable: Redis did not answer.
    """
    return await run(redis, read(id))


async def delete(redis: redis.asyncio.Redis, id: str) -> None:
    """Forget a lesson. A lease that it has runs on.

    Raises:
        UnknownLesson: it is not registered.
        BrokerUnavailable: Redis did not answer; repeating is safe.
    """
    lesson = await find(redis, id)
    if lesson is None:
        raise UnknownLesson(id)
    with translated("delete lesson"):
        # The record goes last: it alone says which indexes the lesson is in.
        for index in sorted(lesson.indexes):
            await redis.zrem(index, id)
        await redis.delete(keys.lesson(id))


async def page(
    redis: redis.asyncio.Redis, query: Query, after: Cursor | None = None, count: int = SCAN
) -> tuple[list[Lesson], Cursor | None]:
    """At least one and about `count` lessons by their start, and where the next page begins; None: that was all.

    Raises:
        InvalidName: an id of the query cannot be part of a key.
        BrokerUnavailable: Redis did not answer.
    """
    found: list[Lesson] = []
    while len(found) < count:
        ids, after = await _scan(redis, query, after, min(count, SCAN))
        with translated("list lessons"):
            async with redis.pipeline(transaction=False) as ask:
                for id in ids:
                    ask.hgetall(keys.lesson(id))
                records: Any = await ask.execute()
        lessons = (_lesson(id, fields) for id, fields in zip(ids, records, strict=True))
        found += [lesson for lesson in lessons if lesson is not None and query.fits(lesson)]
        if after is None:
            break
    return found, after


async def _scan(
    redis: redis.asyncio.Redis, query: Query, after: Cursor | None, count: int
) -> tuple[list[str], Cursor | None]:
    """The next ids of an index, and where they end; None at the end of the index."""
    lowest: float | str = "-inf" if query.from_ms is None else query.from_ms
    if after is not None:
        lowest = after.position_ms if query.from_ms is None else max(after.position_ms, query.from_ms)
    highest = "+inf" if query.until_ms is None else f"({query.until_ms}"
    offset = 0
    while True:
        with translated("list lessons"):
            rows: Any = await redis.zrangebyscore(
                query.index, lowest, highest, start=offset, num=count, withscores=True
            )
        # Of many lessons at the same time some were on the page before.
        seen = None if after is None else (after.position_ms, after.id)
        new = [(id, int(score)) for id, score in rows if seen is None or (int(score), id) > seen]
        if len(rows) < count:
            return [id for id, _ in new], None
        if new:
            id, score = new[-1]
            return [id for id, _ in new], Cursor(score, id)
        offset += len(rows)


async def _index(redis: redis.asyncio.Redis, id: str, stale: set[str]) -> Lesson | None:
    """Put a lesson in its indexes and take it out of those in `stale` that it is not in any more.

    The record is read again afterwards: if it is another by then, its writer may have indexed it before us.
    """
    for _ in range(ROUNDS):
        lesson = await find(redis, id)
        wanted = lesson.indexes if lesson else frozenset()
        with translated("index lesson"):
            for index in sorted(wanted):
                assert lesson is not None
                await redis.zadd(index, {id: lesson.position_ms})
            for index in sorted(stale - wanted):
                await redis.zrem(index, id)
        if await find(redis, id) == lesson:
            return lesson
        stale = stale | wanted
    return lesson


def _lesson(id: str, fields: Mapping[str, str]) -> Lesson | None:
    """A record as a lesson; one without a teacher is being made or was half forgotten, and counts as none."""
    if not fields.get("teacher"):
        return None
    return Lesson(
        id=id,
        teacher=fields["teacher"],
        title=fields.get("title", ""),
        group=fields.get("group", ""),
        starts_ms=int(fields["starts_ms"]) if fields.get("starts_ms") else None,
        duration_min=int(fields.get("duration_min") or 0),
        created_ms=int(fields.get("created_ms") or 0),
    )
