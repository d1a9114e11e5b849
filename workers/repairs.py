"""Carries out what was decided about a host. Every change of a lease is a compare-and-set, so one that moved on since
is left alone; and each repair may run twice."""

from __future__ import annotations

import structlog

from broker.client import translated
from broker.models import AccountState, Change, Lease, Phase, ReleaseReason
from broker.operations import Pool
from broker.zoom import marker
from workers.context import Context
from workers.decisions import Decision, HostFacts, Verb
from workers.end_meeting import finish, remove
from workers.own_host import with_host

log = structlog.get_logger(__name__)

STRAY_LIFE_S = 3600


async def carry_out(context: Context, pool: Pool, facts: HostFacts, decision: Decision) -> None:
    """Do what was decided.

    Raises:
        ZoomError: Zoom did not confirm; nothing was freed.
        BrokerUnavailable: Redis did not answer.
    """
    if decision.lease is not None:
        await _settle(context, pool, decision, decision.lease)
    elif decision.meeting is not None:
        await _clear(context, pool, facts, decision, decision.meeting.id)
    else:
        await _rotate(context, pool, facts, decision)


async def _settle(context: Context, pool: Pool, decision: Decision, lease: Lease) -> None:
    run = context.broker.run
    match decision.verb:
        case Verb.GO_LIVE | Verb.EXTEND:
            assert decision.meeting is not None
            if decision.verb is Verb.EXTEND:
                more_ms = round(context.settings.overrun_extension_s * 1000)
                # Recorded first: going live is cut at the longest hold.
                await run(pool.record(lease.id, hold_until_ms=lease.now_ms + more_ms))
            await run(pool.went_live(lease.id, meeting_uuid=decision.meeting.uuid or lease.meeting_uuid))
        case Verb.RENEW:
            await run(pool.renew(lease.id))
        case Verb.LOOK_AGAIN:
            await run(pool.record(lease.id, looks=lease.looks + 1, look_ms=lease.now_ms))
        case Verb.WARN:
            log.warning("a lesson outlasts the longest hold", lease=str(lease.id), lesson=lease.lesson)
        case Verb.FINISH:
            await finish(context, lease, ReleaseReason.RECONCILED, only_phase=lease.phase)
        case Verb.SEARCH:
            await _search_and_finish(context, pool, lease)
        case Verb.ABANDON:
            await _abandon(context, pool, decision, lease)


async def _search_and_finish(context: Context, pool: Pool, lease: Lease) -> None:
    """Delete whatever meetings bear the marker of a lease that never learned of one, then free its slot."""
    credential = await context.credential(lease.credential)
    lease = await with_host(context, pool, lease, credential)
    host = lease.zoom_user_id or lease.email
    for meeting in await context.zoom.find_by_marker(credential, host, marker(lease.id, lease.pool)):
        await remove(context, credential, meeting.id)
    await _release(context, pool, lease, ReleaseReason.FAILED, "zoom_outcome_unknown")


async def _abandon(context: Context, pool: Pool, decision: Decision, lease: Lease) -> None:
    """Free a slot without Zoom's word: only while its account is out of rotation, so that nobody else can get it."""
    account = await context.broker.run(pool.account(lease.account))
    if account is not None and account.state is AccountState.ACTIVE:
        return
    await _release(context, pool, lease, ReleaseReason.RECONCILED, decision.zoom)


async def _release(context: Context, pool: Pool, lease: Lease, reason: ReleaseReason, detail: str) -> None:
    (change,) = await context.broker.run(pool.release([lease.id], reason, detail=detail, only_phase=Phase.SUSPECT))
    if change is Change.REFUSED:
        log.info("no longer suspect", lease=str(lease.id))


async def _clear(context: Context, pool: Pool, facts: HostFacts, decision: Decision, meeting_id: int) -> None:
    key = pool.keys.stray(meeting_id)
    match decision.verb:
        case Verb.WATCH:
            with translated("stray"):
                await context.redis.set(key, facts.now_ms, nx=True, ex=STRAY_LIFE_S)
        case Verb.DELETE:
            await remove(context, await context.credential(facts.account.credential), meeting_id)
            with translated("stray"):
                await context.redis.delete(key)


async def _rotate(context: Context, pool: Pool, facts: HostFacts, decision: Decision) -> None:
    """Take the account out of rotation, back in, or change its size; unless somebody else has just changed it."""
    run, before = context.broker.run, facts.account
    now = await run(pool.account(before.id))
    if now is None or (now.state, now.reason, now.capacity) != (before.state, before.reason, before.capacity):
        return
    match decision.verb:
        case Verb.PARK:
            await run(pool.park_account(now.id, AccountState.QUARANTINED, decision.why))
        case Verb.UNPARK:
            await run(pool.unpark_account(now.id))
        case Verb.RESIZE if decision.capacity < now.capacity:
            # Remembered first: killed in between, the account is lowered again by the next look.
            with translated("lowered"):
                await context.redis.hsetnx(pool.keys.lowered, now.id, str(now.capacity))
            await run(pool.resize_account(now.id, decision.capacity))
        case Verb.RESIZE:
            await run(pool.resize_account(now.id, decision.capacity))
            with translated("lowered"):
                await context.redis.hdel(pool.keys.lowered, now.id)
