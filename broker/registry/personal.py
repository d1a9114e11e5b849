"""A teacher's own Zoom account as a pool of one: the same leases, webhooks, reaping and reconciliation as any pool.

Pool and credential are named `teacher-{id}`. The pool is made when the teacher starts a lesson on it, and leaves the
list of pools when it has not been used for a while, so that the periodic jobs look at pools in use alone. Its fence and
outcomes stay, so that leases of later days are still told from earlier ones.

A pool that has accounts must be in the list, or nobody would look after its leases. Whoever opens a pool gives it its
account first and then enters it in the list, and a claim needs the account. Whoever closes it notes that he does so,
takes the account away (which a lease prevents), takes the pool off the list, and puts it back if it has an account
again. Killed on the way, he leaves the note, and the next one goes through the same steps.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import redis.asyncio

from broker import keys
from broker.client import AsyncBroker, run, translated
from broker.errors import HostTaken
from broker.models import Account, AccountState, Change, Lease
from broker.operations import Operation, Pool
from broker.registry.teachers import Teacher, is_personal, pool_of

HOST = "host"
"""The one account of a personal pool."""
BY_ITSELF = (AccountState.QUARANTINED, AccountState.LIMITED)
"""Trouble with Zoom took the account out, not a person: who presses "start" again wants Zoom to be asked again."""


async def open_pool(broker: AsyncBroker, teacher: Teacher) -> Pool:
    """Make a teacher's pool ready for a claim, with what is registered now. Repeating it does no harm.

    A claim that finds no account all the same (`Granted.UNKNOWN_POOL`) came while the pool was being closed; open it
    again.

    Raises:
        HostTaken: somebody added the teacher's Zoom user to this pool by hand, as another account.
        BrokerUnavailable: Redis did not answer; repeating is safe.
    """
    pool = broker.pool(pool_of(teacher.id))
    now = await broker.run(pool.account(HOST))
    # Zoom takes an e-mail wherever it takes a user's id, so teachers may have given that.
    email = teacher.zoom_user_id if "@" in teacher.zoom_user_id else ""
    wanted = Account(HOST, email, teacher.zoom_user_id, pool.name, teacher.capacity)
    if now is not None and now.state is AccountState.ACTIVE and not teacher.zoom_user_id:
        # Whose account it is was found out by a worker before.
        wanted = replace(wanted, email=now.email, zoom_user_id=now.zoom_user_id)
    if (
        now is None
        or now.state is AccountState.REMOVING
        or wanted != replace(now, state=wanted.state, reason=wanted.reason, until_ms=wanted.until_ms)
    ):
        made = await broker.run(pool.add_account(wanted))
        if made.change is Change.CONFLICT:
            raise HostTaken(pool.name, {HOST: made.taken_by})
    if now is not None and now.state in BY_ITSELF:
        await broker.run(pool.unpark_account(HOST))
    await broker.run(pool.register())
    return pool


async def note(redis: redis.asyncio.Redis, lesson: str, pool: str, *, ttl_s: float) -> None:
    """Note that a lesson is about to be started in a personal pool, so that it is looked for there.

    Raises:
        BrokerUnavailable: Redis did not answer; repeating is safe.
    """
    with translated("note lesson"):
        await redis.set(keys.personal_lesson(lesson), pool, ex=round(ttl_s))


def read_note(lesson: str) -> Operation[str]:
    """The personal pool in which a lesson was started last; empty if in none."""
    return Operation("find lesson", ("GET", keys.personal_lesson(lesson)), lambda pool: pool or "")


async def noted(redis: redis.asyncio.Redis, lesson: str) -> str:
    """The same, on a connection.

    Raises:
        BrokerUnavailable: Redis did not answer.
    """
    return await run(redis, read_note(lesson))


async def older_lease(broker: AsyncBroker, lease: Lease) -> Lease | None:
    """The lease that a lesson got before this one in the other of its two pools, the school's and the teacher's own.

    Two starts at the same moment can each look for the lesson, find nothing, and claim a host in a pool of their own.
    Fences come from one clock, Redis's, so the later of the two leases always sees the earlier one, and no other rule
    is needed to tell which of them stands back.

    Raises:
        BrokerUnavailable: Redis did not answer.
    """
    default = broker.settings.default_pool
    other = default if is_personal(lease.pool) else await noted(broker.redis, lease.lesson)
    if not other or other == lease.pool:
        return None
    found = (await broker.run(broker.pool(other).find_lesson(lease.lesson))).lease
    return found if found is not None and (found.id.fence, other) < (lease.id.fence, lease.pool) else None


async def close_idle(broker: AsyncBroker, idle_s: float) -> tuple[str, ...]:
    """Close the personal pools that nobody has used for `idle_s`, and finish what somebody began; returns their names.

    Raises:
        BrokerUnavailable: Redis did not answer; repeating is safe.
    """
    with translated("pools that are being closed"):
        noted: Any = await broker.redis.smembers(keys.RETIRING)
    begun = set(noted)
    closed = []
    for name in sorted({name for name in await broker.pools() if is_personal(name)} | begun):
        pool = broker.pool(name)
        idle = await _idle(broker, pool, idle_s)
        if (idle or name in begun) and await _close(broker, pool, idle=idle):
            closed.append(name)
    return tuple(closed)


async def _close(broker: AsyncBroker, pool: Pool, *, idle: bool) -> bool:
    redis = broker.redis
    with translated("close pool"):
        await redis.sadd(keys.RETIRING, pool.name)
        if idle:
            # With a lease that was granted this moment, the account stays until that ends.
            await broker.run(pool.remove_account(HOST))
            await redis.srem(keys.POOLS, pool.name)
        used = await broker.run(pool.account(HOST)) is not None
        if used:
            await broker.run(pool.register())
        await redis.srem(keys.RETIRING, pool.name)
    return idle and not used


async def _idle(broker: AsyncBroker, pool: Pool, idle_s: float) -> bool:
    status = await broker.run(pool.status())
    if status.leased or status.suspect or status.waiting or status.reservations:
        return False
    # Whoever reads the events, such as the relay of notifications, must have had time to do so.
    newest = await broker.run(pool.events(count=1))
    return not newest or status.now_ms - int(newest[0].id.partition("-")[0]) >= idle_s * 1000
