"""Pools of one: opened for a start, closed when idle; whatever dies in between, one with a lease is in the list."""

from __future__ import annotations

from typing import Any

import pytest
import redis.asyncio

from broker import keys
from broker.client import AsyncBroker
from broker.errors import BrokerUnavailable, HostTaken, InvalidName
from broker.models import Account, AccountState, Granted, Lease, ReleaseReason
from broker.operations import Pool
from broker.registry import personal, teachers
from broker.registry.teachers import Teacher
from tests import factories

ANNA = Teacher("anna", zoom_user_id="anna@home.example")
POOL = "teacher-anna"


@pytest.fixture
def broker(aredis: redis.asyncio.Redis) -> AsyncBroker:
    return AsyncBroker(aredis, factories.settings())


async def claim(broker: AsyncBroker, pool: Pool) -> Lease:
    result = await broker.run(pool.claim("algebra", "anna"))
    assert result.lease is not None, result
    return result.lease


async def test_an_opened_pool_grants_one_lesson_on_the_teachers_own_account(broker: AsyncBroker) -> None:
    pool = await personal.open_pool(broker, ANNA)
    lease = await claim(broker, pool)
    assert (lease.pool, lease.credential, lease.zoom_user_id) == (POOL, POOL, "anna@home.example")
    assert (await broker.run(pool.claim("geometry", "anna"))).outcome is Granted.BUSY
    assert await broker.pools() == (POOL,)


async def test_opening_again_takes_over_what_changed_and_leaves_lessons_alone(broker: AsyncBroker) -> None:
    lease = await claim(broker, await personal.open_pool(broker, ANNA))
    events = await broker.run(broker.pool(POOL).events())
    pool = await personal.open_pool(broker, ANNA)
    assert await broker.run(pool.events()) == events, "nothing changed, so nothing is told"
    await personal.open_pool(broker, Teacher("anna", zoom_user_id="new@home.example", capacity=2))
    account = await broker.run(pool.account(personal.HOST))
    assert account is not None
    assert (account.zoom_user_id, account.capacity) == ("new@home.example", 2)
    assert (await claim(broker, pool)).id == lease.id


async def test_a_teachers_zoom_user_who_was_added_by_hand_is_not_added_again(broker: AsyncBroker) -> None:
    await broker.run(broker.pool(POOL).add_account(Account("by-hand", "Anna@home.example", "", POOL, 1)))
    with pytest.raises(HostTaken) as refused:
        await personal.open_pool(broker, ANNA)
    assert refused.value.taken == {personal.HOST: "by-hand"}
    assert await broker.run(broker.pool(POOL).account(personal.HOST)) is None


async def test_a_host_that_a_worker_found_out_stays(broker: AsyncBroker) -> None:
    unknown = Teacher("anna")
    pool = await personal.open_pool(broker, unknown)
    account = await broker.run(pool.account(personal.HOST))
    assert account is not None
    found = type(account)(account.id, "anna@home.example", "zoom-id", account.credential, 1)
    await broker.run(pool.add_account(found))
    await personal.open_pool(broker, unknown)
    assert await broker.run(pool.account(personal.HOST)) == found
    # Refused by Zoom, it may belong to an earlier Zoom account of the teacher's: it is found out anew.
    await broker.run(pool.park_account(personal.HOST, AccountState.QUARANTINED, "zoom_host_unknown"))
    await personal.open_pool(broker, unknown)
    account = await broker.run(pool.account(personal.HOST))
    assert account is not None
    assert (account.host, account.state) == ("", AccountState.ACTIVE)


@pytest.mark.parametrize("state", [AccountState.QUARANTINED, AccountState.LIMITED])
async def test_pressing_start_again_asks_zoom_again(broker: AsyncBroker, state: AccountState) -> None:
    pool = await personal.open_pool(broker, ANNA)
    await broker.run(pool.park_account(personal.HOST, state, "zoom_credential_rejected"))
    await claim(broker, await personal.open_pool(broker, ANNA))


async def test_what_an_operator_disabled_stays_so(broker: AsyncBroker) -> None:
    pool = await personal.open_pool(broker, ANNA)
    await broker.run(pool.park_account(personal.HOST, AccountState.DISABLED, "abuse"))
    await personal.open_pool(broker, ANNA)
    assert (await broker.run(pool.claim("algebra", "anna"))).outcome is Granted.BUSY


async def test_an_idle_pool_is_closed_and_its_memory_stays(broker: AsyncBroker, aredis: redis.asyncio.Redis) -> None:
    pool = await personal.open_pool(broker, ANNA)
    lease = await claim(broker, pool)
    assert await personal.close_idle(broker, 0) == (), "it has a lease"
    await broker.run(pool.release([lease.id], ReleaseReason.ENDED))
    assert await personal.close_idle(broker, 3600) == (), "its events may still be read"
    assert await personal.close_idle(broker, 0) == (POOL,)
    assert await broker.pools() == ()
    assert not await aredis.exists(keys.RETIRING, pool.keys.accounts, pool.keys.free)
    assert (await broker.run(pool.find_lesson("algebra"))).outcome is not None
    later = await claim(broker, await personal.open_pool(broker, ANNA))
    assert later.id.fence > lease.id.fence


async def test_a_school_pool_is_never_closed(broker: AsyncBroker) -> None:
    await broker.run(broker.pool().register())
    assert await personal.close_idle(broker, 0) == ()
    assert await broker.pools() == ("default",)


class Dying:
    """A connection that breaks before the nth command of ours that changes something."""

    def __init__(self, connection: redis.asyncio.Redis, commands: int) -> None:
        self._connection = connection
        self._left = commands

    def __getattr__(self, name: str) -> Any:
        if name in ("sadd", "srem", "execute_command"):
            self._left -= 1
            if self._left < 0:
                raise redis.ConnectionError("killed")
        return getattr(self._connection, name)


@pytest.mark.parametrize("commands", range(13))
async def test_wherever_closing_is_killed_the_next_round_leaves_a_pool_listed_if_and_only_if_it_is_used(
    aredis: redis.asyncio.Redis, broker: AsyncBroker, commands: int
) -> None:
    for used_meanwhile in (False, True):
        await aredis.flushdb()
        pool = await personal.open_pool(broker, ANNA)
        dying: Any = Dying(aredis, commands)
        killed = False
        try:
            await personal.close_idle(AsyncBroker(dying, factories.settings()), 0)
        except (BrokerUnavailable, redis.ConnectionError):
            killed = True
        if used_meanwhile:
            await claim(broker, await personal.open_pool(broker, ANNA))
        await personal.close_idle(broker, 0)
        assert await broker.pools() == ((POOL,) if used_meanwhile else ())
        assert not await aredis.exists(keys.RETIRING)
        assert (await broker.run(pool.account(personal.HOST)) is not None) == used_meanwhile
    assert killed or commands > 6


async def test_a_start_between_the_steps_of_closing_keeps_the_pool_listed(
    aredis: redis.asyncio.Redis, broker: AsyncBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    await personal.open_pool(broker, ANNA)
    leave_list = aredis.srem

    async def start_first(name: str, *values: str) -> int:
        # After the account was taken away, and before the pool leaves the list.
        if name == keys.POOLS:
            await claim(broker, await personal.open_pool(broker, ANNA))
        return int(await leave_list(name, *values))

    monkeypatch.setattr(aredis, "srem", start_first)
    assert await personal.close_idle(broker, 0) == ()
    assert await broker.pools() == (POOL,)


async def test_a_teacher_needs_an_id_that_fits_into_a_pools_name(aredis: redis.asyncio.Redis) -> None:
    with pytest.raises(InvalidName):
        await teachers.save(aredis, Teacher("x" * 93))
    await teachers.save(aredis, Teacher("x" * 92))


async def test_teachers_are_listed_page_by_page_and_deleted(aredis: redis.asyncio.Redis) -> None:
    for number in range(5):
        await teachers.save(aredis, Teacher(f"t{number}", subscription_until_ms=number or None))
    first = await teachers.page(aredis, count=2)
    second = await teachers.page(aredis, first[-1].id, 10)
    assert [teacher.id for teacher in (*first, *second)] == ["t0", "t1", "t2", "t3", "t4"]
    assert first[0].subscription_until_ms is None
    await aredis.zadd(keys.TEACHERS, {"half": 0})
    await teachers.delete(aredis, "t1")
    assert [teacher.id for teacher in await teachers.page(aredis)] == ["t0", "t2", "t3", "t4"]
