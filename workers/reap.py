"""Act on passed deadlines. Nothing here knows Zoom: a lease that may have a meeting only becomes suspect."""

from __future__ import annotations

import structlog

from broker import keys
from broker.jobs import CREATE_MEETING, once_per
from broker.operations import Pool
from broker.registry.personal import close_idle
from workers.context import Context, open_context
from workers.guard import guarded

log = structlog.get_logger(__name__)

MOST_ROUNDS = 50
"""Of one pool in one run; the next run goes on."""
STALLED_PERIOD_S = 5
"""A stalled lease's job is enqueued at most once in this time, whoever notices."""
GUARD_S = 5.0
"""A reaper that is killed keeps the others from reaping for no longer; one that takes longer extends it."""


async def reap() -> str:
    """Job: go through all pools. Returns how much was done, for the log."""
    async with open_context() as context:
        done = 0
        for name in await context.broker.pools():
            pool = context.broker.pool(name)
            async with guarded(context.redis, pool.keys.guard("reap"), life_s=GUARD_S) as free:
                if free:
                    done += await reap_pool(context, pool)
        await close_personal_pools(context)
        return f"{done} changes"


async def close_personal_pools(context: Context) -> None:
    """Close the personal pools that nobody uses; one process at a time, because each clears the notes of all."""
    async with guarded(context.redis, keys.CLOSING_GUARD, life_s=GUARD_S) as free:
        if free:
            for name in await close_idle(context.broker, context.settings.personal_idle_s):
                log.info("closed a personal pool", pool=name)


async def reap_pool(context: Context, pool: Pool) -> int:
    """Act on the passed deadlines of one pool; returns how many leases and accounts changed."""
    done = 0
    for _ in range(MOST_ROUNDS):
        reaped = await context.broker.run(pool.reap())
        for lease in reaped.stalled:
            job_id = once_per(CREATE_MEETING, (pool.name, str(lease)), STALLED_PERIOD_S)
            if await context.enqueue(CREATE_MEETING, pool.name, str(lease), job_id=job_id):
                log.warning("the job of a lease was lost, enqueued again", pool=pool.name, lease=str(lease))
        if reaped.lapsed or reaped.suspected or reaped.unparked:
            log.info(
                "reaped",
                pool=pool.name,
                lapsed=len(reaped.lapsed),
                suspected=[str(lease) for lease in reaped.suspected],
                unparked=reaped.unparked,
            )
        done += len(reaped.lapsed) + len(reaped.suspected) + len(reaped.unparked)
        if not reaped.more:
            break
    return done
