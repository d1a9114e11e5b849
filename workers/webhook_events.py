"""Act on what Zoom says. Any event may come twice, late, out of order or never; the end is the same in any order.

Events are matched by meeting id and instance uuid. An `ended` of an instance that is not the current one is old news.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import structlog

from broker.jobs import DELETE_MEETING
from broker.models import Account, AccountState, Change, Lease, Phase, ReleaseReason
from broker.operations import Pool
from broker.registry.teachers import is_personal
from broker.zoom import ZoomError
from broker.zoom.webhooks import WebhookEvent
from workers.context import Context, open_context
from workers.end_meeting import finish
from workers.host_facts import find_lease
from workers.probe import came_back
from workers.quarantine import Fault, every_account, park

log = structlog.get_logger(__name__)


async def handle_event(fields: dict[str, Any]) -> str:
    """Job: act on one verified webhook, given as the fields of a `WebhookEvent`. Returns a word for the log."""
    event = WebhookEvent(**fields)
    async with open_context() as context:
        if event.event in USER_EVENTS:
            return await USER_EVENTS[event.event](context, event)
        if event.event == "recording.completed":
            return await recorded(context, event)
        handler = MEETING_EVENTS.get(event.event)
        if handler is None or event.meeting_id is None:
            return "not for us"
        lease = await find_lease(context, event.meeting_id)
        if lease is None or not may_speak_of(context, event, lease.credential):
            return "no lease"
        answer = await handler(context, lease, event)
        log.info("webhook", type=event.event, lease=str(lease.id), lesson=lease.lesson, answer=answer)
        return answer


def may_speak_of(context: Context, event: WebhookEvent, credential: str) -> bool:
    """Whether the signer of an event may say something of hosts that are reached by this credential.

    Whoever has a webhook secret of his own could else end other people's lessons.
    """
    return event.credential in ("", credential or context.settings.default_credential)


async def recorded(context: Context, event: WebhookEvent) -> str:
    """A cloud recording is ready, long after its lease was over: enter it in the events, for the web app to be told."""
    if event.recording is None or event.meeting_id is None:
        return "not for us"
    if is_personal(event.credential):
        # It may have been closed meanwhile; in the list, its events are read.
        await context.broker.run(context.broker.pool(event.credential).register())
    for name in await context.broker.pools():
        if is_personal(event.credential) and name != event.credential:
            continue
        pool = context.broker.pool(name)
        past = await context.broker.run(pool.past_meeting(event.meeting_id))
        if past is not None:
            lesson, owner = past
            recording = json.dumps(event.recording)
            operation = pool.tell(event.event, lesson, owner=owner, meeting_id=event.meeting_id, recording=recording)
            await context.broker.run(operation)
            return "told"
    return "not ours"


async def started(context: Context, lease: Lease, event: WebhookEvent) -> str:
    """The meeting runs, as this instance."""
    pool = context.broker.pool(lease.pool)
    changed = await context.broker.run(
        pool.went_live(lease.id, meeting_uuid=event.uuid, at_ms=event.start_time_ms or event.event_ts)
    )
    return changed.change if changed.change is not Change.REFUSED else f"refused: {changed.detail}"


async def joined(context: Context, lease: Lease, event: WebhookEvent) -> str:
    """Somebody is in: a sign of life, and for a lease that waits for its start the start itself."""
    if lease.phase is not Phase.LIVE:
        return await started(context, lease, event)
    return await renewed(context, lease, event)


async def renewed(context: Context, lease: Lease, event: WebhookEvent) -> str:
    """A sign of life of the current instance."""
    if event.uuid != lease.meeting_uuid:
        return "old instance"
    return (await context.broker.run(context.broker.pool(lease.pool).renew(lease.id))).change


async def ended(context: Context, lease: Lease, event: WebhookEvent) -> str:
    """The instance is over; if it is the current one, so is the lesson."""
    if event.uuid != lease.meeting_uuid:
        if lease.instance_ms:
            return "old instance"
        # We never heard of a start, so we cannot tell which instance is current. Zoom can.
        meeting = await meeting_state(context, lease)
        if meeting == "started":
            return "another instance runs"
        return await finish(context, lease, ReleaseReason.ENDED)
    # Deleting comes second so that the slot need not wait for it, but is enqueued first so that no kill can lose it.
    assert lease.meeting_id is not None
    await context.enqueue(DELETE_MEETING, lease.credential, lease.meeting_id)
    pool = context.broker.pool(lease.pool)
    (change,) = await context.broker.run(pool.release([lease.id], ReleaseReason.ENDED, only_uuid=event.uuid))
    return change


async def deleted(context: Context, lease: Lease, event: WebhookEvent) -> str:
    """Somebody deleted the meeting at Zoom. If it never ran, nobody can start it any more."""
    if lease.phase is Phase.LIVE or await meeting_state(context, lease) != "missing":
        return "still there"
    pool = context.broker.pool(lease.pool)
    (change,) = await context.broker.run(
        pool.release([lease.id], ReleaseReason.FAILED, detail="zoom_meeting_missing", only_phase=lease.phase)
    )
    return change


async def meeting_state(context: Context, lease: Lease) -> str:
    """What Zoom says of the lease's meeting: waiting, started or missing."""
    assert lease.meeting_id is not None
    try:
        return (await context.zoom.get_meeting(await context.credential(lease.credential), lease.meeting_id)).status
    except ZoomError as error:
        if error.code == "zoom_meeting_missing":
            return "missing"
        raise


async def user_gone(context: Context, event: WebhookEvent) -> str:
    """A user was deactivated or deleted: its account leaves the rotation."""
    return await _park(context, event, f"zoom_host_inactive: Zoom sent {event.event}")


async def user_changed(context: Context, event: WebhookEvent) -> str:
    """A user was changed: its account leaves the rotation if it cannot host any more, and returns if it can again."""
    back = 0
    async for pool, account in accounts_of(context, event):
        user = await context.zoom.get_user(await context.credential(account.credential), account.host)
        if not user.can_host:
            code = "zoom_host_inactive" if user.status != "active" else "zoom_host_not_allowed"
            return await _park(context, event, f"{code}: user is {user.status or 'unknown'}, type {user.type}")
        back += await came_back(context, pool, account)
    return f"returned {back}" if back else "can host"


async def _park(context: Context, event: WebhookEvent, reason: str) -> str:
    fault = Fault(AccountState.QUARANTINED, reason)
    parked = 0
    async for pool, account in accounts_of(context, event):
        parked += await park(context, pool, account.id, fault)
    return f"parked {parked}"


def accounts_of(context: Context, event: WebhookEvent) -> AsyncIterator[tuple[Pool, Account]]:
    """Every account, in whichever pool, whose host the event speaks of."""

    def concerned(account: Account) -> bool:
        by_id = event.host_id and account.zoom_user_id == event.host_id
        by_email = event.email and account.email.lower() == event.email.lower()
        return bool(by_id or by_email) and may_speak_of(context, event, account.credential)

    return every_account(context, concerned)


MEETING_EVENTS: dict[str, Callable[[Context, Lease, WebhookEvent], Awaitable[str]]] = {
    "meeting.started": started,
    "meeting.ended": ended,
    "meeting.deleted": deleted,
    "meeting.participant_joined": joined,
    "meeting.participant_left": renewed,
}
USER_EVENTS: dict[str, Callable[[Context, WebhookEvent], Awaitable[str]]] = {
    "user.deactivated": user_gone,
    "user.deleted": user_gone,
    "user.activated": user_changed,
    "user.updated": user_changed,
}
