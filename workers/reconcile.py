"""Ask Zoom about leases that only Zoom can settle, and repair what we missed.

`decide` says what to do with one lease, given what Zoom knows; it does no I/O. The rest gathers facts and acts:

| the lease is | Zoom says | then |
|---|---|---|
| suspect | its meeting runs, and its time is not up | it is live again: we missed the signs, the lesson goes on |
| suspect | anything else | end and delete what is there, then free the slot |
| live | its meeting runs | renew |
| live | not running, in two looks | delete the meeting, free the slot: we missed the end |
| ready | its meeting runs | live: we missed the start |
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Mapping
from enum import StrEnum

import structlog
from redis.exceptions import LockNotOwnedError

from broker.errors import ZoomPoolError
from broker.jobs import RECONCILE
from broker.models import Change, Lease, Phase, ReleaseReason
from broker.operations import REAP_BATCH, Pool
from broker.zoom import marker
from workers.context import Context, open_context
from workers.end_meeting import finish, remove

log = structlog.get_logger(__name__)

LOOKS = 2
"""How often in a row a live meeting must be missing from Zoom's list before we believe it."""
HOSTS_AT_ONCE = 5


class Decision(StrEnum):
    """What to do with a lease."""

    NOTHING = "nothing"
    GO_LIVE = "go live"
    RENEW = "renew"
    LOOK_AGAIN = "look again"
    FINISH = "finish"
    SEARCH = "search"
    """Nobody knows whether a meeting was made: search by marker, delete what is found, free the slot."""


def decide(lease: Lease, live: Mapping[int, str]) -> Decision:
    """What to do with `lease`, given the running meetings of its host (id → uuid)."""
    runs = lease.meeting_id in live
    time_is_up = lease.now_ms >= lease.hold_until_ms
    match lease.phase:
        case Phase.SUSPECT if runs and not time_is_up:
            return Decision.GO_LIVE
        case Phase.SUSPECT:
            return Decision.FINISH if lease.meeting_id else Decision.SEARCH
        case Phase.LIVE if runs:
            return Decision.RENEW
        case Phase.LIVE:
            return Decision.FINISH if lease.looks + 1 >= LOOKS else Decision.LOOK_AGAIN
        case Phase.READY if runs:
            return Decision.GO_LIVE
        case _:
            return Decision.NOTHING


async def reconcile() -> str:
    """Job: go through all pools. Returns what was done, for the log."""
    async with open_context() as context:
        done: defaultdict[Decision, int] = defaultdict(int)
        for name in await context.broker.pools():
            pool = context.broker.pool(name)
            guard = context.redis.lock(pool.keys.guard("reconcile"), timeout=RECONCILE.timeout_s, blocking=False)
            if not await guard.acquire():
                continue
            try:
                for decision, count in (await reconcile_pool(context, pool)).items():
                    done[decision] += count
            finally:
                try:
                    await guard.release()
                except LockNotOwnedError:
                    log.warning("reconciling took longer than its guard lives", pool=name)
        return ", ".join(f"{decision}: {count}" for decision, count in done.items()) or "nothing to do"


async def reconcile_pool(context: Context, pool: Pool) -> Mapping[Decision, int]:
    """Settle the leases of one pool, host by host; a host that fails is left for the next run."""
    hosts: defaultdict[str, list[Lease]] = defaultdict(list)
    async for lease in open_questions(context, pool):
        hosts[lease.account].append(lease)
    done: defaultdict[Decision, int] = defaultdict(int)
    places = asyncio.Semaphore(HOSTS_AT_ONCE)

    async def settle(account: str, leases: list[Lease]) -> None:
        async with places:
            try:
                for decision in await settle_host(context, leases):
                    done[decision] += 1
            except ZoomPoolError as error:
                log.warning("host not reconciled", pool=pool.name, account=account, code=error.code, error=str(error))

    async with asyncio.TaskGroup() as tasks:
        for account, leases in hosts.items():
            tasks.create_task(settle(account, leases))
    return done


async def open_questions(context: Context, pool: Pool) -> AsyncIterator[Lease]:
    """Every suspect lease, and every one with a meeting that is old enough for its own job to have spoken."""
    for suspect in (True, False):
        offset = 0
        while page := await context.broker.run(pool.leases(suspect=suspect, offset=offset, count=REAP_BATCH)):
            for lease in page:
                age_s = (lease.now_ms - lease.since_ms) / 1000
                if suspect or (lease.meeting_id and age_s >= context.settings.reconcile_grace_s):
                    yield lease
            offset += len(page)


async def settle_host(context: Context, leases: list[Lease]) -> list[Decision]:
    """Ask Zoom once about a host and settle its leases.

    Raises:
        ZoomError: Zoom did not answer as it should; nothing that depends on the answer was done.
    """
    first = leases[0]
    credential = await context.credential(first.credential)
    running = await context.zoom.live_meetings(credential, first.zoom_user_id or first.email)
    live = {meeting.id: meeting.uuid for meeting in running}
    decisions: list[Decision] = []
    for lease in leases:
        decision = decide(lease, live)
        await act(context, lease, decision, live)
        if decision is not Decision.NOTHING:
            log.info("reconciled", lease=str(lease.id), lesson=lease.lesson, phase=lease.phase, decision=decision)
            decisions.append(decision)
    return decisions


async def act(context: Context, lease: Lease, decision: Decision, live: Mapping[int, str]) -> None:
    """Carry out a decision. Every change is a compare-and-set, so a lease that moved on meanwhile is left alone."""
    pool, run = context.broker.pool(lease.pool), context.broker.run
    match decision:
        case Decision.GO_LIVE:
            assert lease.meeting_id is not None
            await run(pool.went_live(lease.id, meeting_uuid=live[lease.meeting_id]))
        case Decision.RENEW:
            await run(pool.renew(lease.id))
        case Decision.LOOK_AGAIN:
            await run(pool.record(lease.id, looks=lease.looks + 1))
        case Decision.FINISH:
            await finish(context, lease, ReleaseReason.RECONCILED, only_phase=lease.phase)
        case Decision.SEARCH:
            await search_and_finish(context, lease)
        case Decision.NOTHING:
            pass


async def search_and_finish(context: Context, lease: Lease) -> None:
    """Delete whatever meetings bear the marker of a lease that never learned of one, then free its slot."""
    credential = await context.credential(lease.credential)
    host = lease.zoom_user_id or lease.email
    for meeting in await context.zoom.find_by_marker(credential, host, marker(lease.id, lease.pool)):
        await remove(context, credential, meeting.id)
    pool = context.broker.pool(lease.pool)
    (change,) = await context.broker.run(
        pool.release([lease.id], ReleaseReason.FAILED, detail="zoom_outcome_unknown", only_phase=Phase.SUSPECT)
    )
    if change is Change.REFUSED:
        log.info("no longer suspect", lease=str(lease.id))
