"""The registry of lessons: records, their indexes, and pages of lists."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import replace
from typing import Any

import pytest
import redis.asyncio

from broker import keys
from broker.errors import BrokerUnavailable, InvalidName, UnknownLesson
from broker.registry import lessons
from broker.registry.lessons import Cursor, Lesson, Query

KEEP = 90
NOON_MS = 4_000_000_000_000


def lesson(id: str = "7", **changes: Any) -> Lesson:
    values: dict[str, Any] = {"teacher": "anna", "title": "Algebra", "group": "7b", "starts_ms": NOON_MS}
    return Lesson(id, **(values | changes))


async def save(aredis: redis.asyncio.Redis, *some: Lesson) -> None:
    for each in some:
        await lessons.save(aredis, each, keep_days=KEEP)


async def ids(aredis: redis.asyncio.Redis, **query: Any) -> list[str]:
    found, _ = await lessons.page(aredis, Query(**query))
    return [each.id for each in found]


async def test_what_is_saved_is_found_and_replaced(aredis: redis.asyncio.Redis) -> None:
    saved = await lessons.save(aredis, lesson(duration_min=45), keep_days=KEEP)
    assert await lessons.find(aredis, "7") == saved
    assert (saved.title, saved.duration_min, saved.starts_ms) == ("Algebra", 45, NOON_MS)
    again = await lessons.save(aredis, lesson(title="", starts_ms=None), keep_days=KEEP)
    assert (again.title, again.duration_min, again.starts_ms) == ("", 0, None)
    assert again.created_ms == saved.created_ms


async def test_lists_go_by_start_and_are_filtered(aredis: redis.asyncio.Redis) -> None:
    await save(
        aredis,
        lesson("late", starts_ms=NOON_MS + 2),
        lesson("early", group="8a"),
        lesson("other", teacher="boris", starts_ms=NOON_MS + 1),
    )
    assert await ids(aredis) == ["early", "other", "late"]
    assert await ids(aredis, teacher="anna") == ["early", "late"]
    assert await ids(aredis, group="7b") == ["other", "late"]
    assert await ids(aredis, teacher="anna", group="7b") == ["late"]
    assert await ids(aredis, from_ms=NOON_MS + 1, until_ms=NOON_MS + 2) == ["other"]


async def test_a_lesson_that_changes_hands_changes_lists(aredis: redis.asyncio.Redis) -> None:
    await save(aredis, lesson(), lesson(teacher="boris", group="", starts_ms=NOON_MS + 5))
    assert await ids(aredis, teacher="anna") == await ids(aredis, group="7b") == []
    assert await ids(aredis, teacher="boris", from_ms=NOON_MS + 5) == ["7"]
    assert not await aredis.exists(keys.lessons_of_teacher("anna"), keys.lessons_of_group("7b"))


@pytest.mark.parametrize("size", [1, 2, 3, 7, 200])
async def test_pages_hold_every_lesson_once_also_when_all_begin_at_the_same_time(
    aredis: redis.asyncio.Redis, size: int
) -> None:
    await save(aredis, *(lesson(f"l{number:02}", starts_ms=NOON_MS + number // 9) for number in range(20)))
    found, after = await lessons.page(aredis, Query(), None, size)
    pages = 1
    while after is not None:
        more, after = await lessons.page(aredis, Query(), Cursor.parse(str(after)), size)
        found += more
        pages += 1
    assert [each.id for each in found] == [f"l{number:02}" for number in range(20)]
    assert pages >= 20 // size


async def test_what_an_index_says_in_vain_is_passed_over(aredis: redis.asyncio.Redis) -> None:
    await save(aredis, lesson())
    # As somebody leaves it who is killed between a record and its indexes, or before the old ones are cleared.
    await aredis.zadd(keys.lessons_of_teacher("boris"), {"7": NOON_MS, "gone": NOON_MS})
    assert await ids(aredis, teacher="boris") == []


class Dying:
    """A connection that breaks at the nth command."""

    def __init__(self, connection: redis.asyncio.Redis, commands: int) -> None:
        self._connection = connection
        self._left = commands

    def __getattr__(self, name: str) -> Any:
        if name in ("hgetall", "hset", "hsetnx", "zadd", "zrem", "time", "pexpireat", "delete", "zremrangebyscore"):
            self._left -= 1
            if self._left < 0:
                raise redis.ConnectionError("killed")
        return getattr(self._connection, name)


@pytest.mark.parametrize("commands", range(16))
async def test_a_save_that_was_killed_anywhere_is_put_right_by_its_repetition(
    aredis: redis.asyncio.Redis, commands: int
) -> None:
    await save(aredis, lesson())
    dying: Any = Dying(aredis, commands)
    after = lesson(teacher="boris", group="", starts_ms=NOON_MS + 1)
    with contextlib.suppress(BrokerUnavailable):
        await lessons.save(dying, after, keep_days=KEEP)
    for found in (await ids(aredis, teacher="anna"), await ids(aredis, teacher="boris")):
        assert found in ([], ["7"])
    await save(aredis, after)
    assert (await ids(aredis), await ids(aredis, teacher="boris", from_ms=NOON_MS + 1)) == (["7"], ["7"])
    assert await ids(aredis, teacher="anna") == []


@pytest.mark.parametrize("commands", range(6))
async def test_a_deletion_that_was_killed_anywhere_is_finished_by_its_repetition(
    aredis: redis.asyncio.Redis, commands: int
) -> None:
    await save(aredis, lesson())
    dying: Any = Dying(aredis, commands)
    try:
        await lessons.delete(dying, "7")
    except BrokerUnavailable:
        await lessons.delete(aredis, "7")
    assert await aredis.keys("zp:lesson*") == []
    with pytest.raises(UnknownLesson):
        await lessons.delete(aredis, "7")


async def test_of_many_writers_at_once_the_last_leaves_indexes_that_agree(aredis: redis.asyncio.Redis) -> None:
    for _ in range(10):
        versions = [lesson(teacher=f"t{number}", starts_ms=NOON_MS + number) for number in range(8)]
        await asyncio.gather(*(lessons.save(aredis, each, keep_days=KEEP) for each in versions))
        now = await lessons.find(aredis, "7")
        assert now is not None
        for index in (keys.LESSONS, keys.lessons_of_teacher(now.teacher)):
            assert await aredis.zscore(index, "7") == now.starts_ms
        assert await ids(aredis) == ["7"]


async def test_past_lessons_are_forgotten(aredis: redis.asyncio.Redis) -> None:
    await save(aredis, lesson("old", starts_ms=1_000), lesson("new"))
    assert await ids(aredis) == ["new"]
    ttl_s = await aredis.ttl(keys.lesson("old"))
    assert 0 < ttl_s <= KEEP * 24 * 3600


@pytest.mark.parametrize("text", ["", "x", "1", "12.", "1.b c", "--1.a", "99999999999999999.a"])
def test_a_made_up_cursor_is_refused(text: str) -> None:
    with pytest.raises(InvalidName):
        Cursor.parse(text)


def test_a_cursor_before_1970_is_read_again() -> None:
    cursor = Cursor(-5, "a.b")
    assert Cursor.parse(str(cursor)) == cursor == replace(cursor)
