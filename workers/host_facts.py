"""Gathers what Zoom and Redis say about one host.

Zoom is asked first and Redis after it. A meeting is recorded in its lease before anybody gets its link, so a meeting
that Zoom lists as running and that no lease holds afterwards was leased by nobody, or its lease has ended since.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import structlog

from broker.client import translated
from broker.models import Account, Credential, Lease, LeaseId, Phase
from broker.operations import Pool
from broker.zoom import ZoomError
from broker.zoom.errors import Kind
from broker.zoom.models import Meeting, MeetingList, User, parse_marker
from workers.context import Context
from workers.decisions import LOOKS, HostFacts, Stray
from workers.own_host import hosted

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Question:
    """A host to ask Zoom about.

    Attributes:
        account: the host.
        leases: those on it that only Zoom can settle.
        urgent: somebody waits for the answer: a lease is suspect.
        whole: look at its user and at its meetings that do not run, too.
        now_ms: Redis's clock when the question came up.
    """

    account: Account
    leases: tuple[LeaseId, ...]
    urgent: bool
    whole: bool
    now_ms: int


async def gather(context: Context, pool: Pool, question: Question) -> HostFacts:
    """Ask Zoom about a host, then Redis.

    Raises:
        ZoomError: Zoom did not answer as it should; nothing is known about the host's running meetings.
        UnknownCredential: the account's credential is not registered.
        BrokerUnavailable: Redis did not answer.
    """
    account = question.account
    credential = await context.credential(account.credential)
    user: User | None = None
    listed: dict[int, Meeting] = {}
    refusal: ZoomError | None = None
    running: dict[int, Meeting] = {}
    try:
        account = await hosted(context, pool, account, credential)
        running = {meeting.id: meeting for meeting in await context.zoom.live_meetings(credential, account.host)}
        if question.whole:
            user, listed = await _whole(context, credential, account)
    except ZoomError as error:
        if error.kind is not Kind.HOST:
            raise
        refusal = error
    leases = await _leases(context, pool, question.leases)
    if refusal is None:
        running |= await _confirmed(context, credential, leases, running)
    now_ms = max((lease.now_ms for lease in leases), default=question.now_ms)
    return HostFacts(
        account=account,
        now_ms=now_ms,
        leases=leases,
        running=running,
        strays=await _strays(context, pool, leases, running, listed),
        user=user,
        refusal=refusal,
        lowered_from=await _lowered_from(context, pool, account) if question.whole else 0,
    )


async def _whole(context: Context, credential: Credential, account: Account) -> tuple[User | None, dict[int, Meeting]]:
    """The host's user and all its meetings. Only a look less if Zoom does not tell; what is urgent was asked before."""
    try:
        user = await context.zoom.get_user(credential, account.host)
        meetings = await context.zoom.meetings_of(credential, account.host, MeetingList.SCHEDULED)
    except ZoomError as error:
        if error.kind is Kind.HOST:
            raise
        log.warning("host not looked at as a whole", account=account.id, code=error.code, error=str(error))
        return None, {}
    return user, {meeting.id: meeting for meeting in meetings}


async def _leases(context: Context, pool: Pool, ids: Iterable[LeaseId]) -> tuple[Lease, ...]:
    """Those leases that are not over yet, as they are now."""
    found = [(await context.broker.run(pool.find_lease(id))).lease for id in ids]
    return tuple(lease for lease in found if lease is not None)


async def _confirmed(
    context: Context, credential: Credential, leases: Iterable[Lease], running: dict[int, Meeting]
) -> dict[int, Meeting]:
    """Meetings that the list lacks although they run: a lesson is only ended when both of Zoom's answers agree."""
    found: dict[int, Meeting] = {}
    for lease in leases:
        in_doubt = lease.phase is Phase.SUSPECT or (lease.phase is Phase.LIVE and lease.looks + 1 >= LOOKS)
        if lease.meeting_id is None or lease.meeting_id in running or not in_doubt:
            continue
        try:
            meeting = await context.zoom.get_meeting(credential, lease.meeting_id)
        except ZoomError as error:
            if error.code != "zoom_meeting_missing":
                raise
            continue
        if meeting.started:
            found[meeting.id] = meeting
    return found


async def strays_on(context: Context, pool: Pool, account: Account) -> tuple[Stray, ...]:
    """The meetings on a host that no lease holds: ours, and those of others that run.

    Raises:
        ZoomError: Zoom did not answer as it should.
        UnknownCredential: the account's credential is not registered.
        BrokerUnavailable: Redis did not answer.
    """
    credential = await context.credential(account.credential)
    listed = {each.id: each for each in await context.zoom.meetings_of(credential, account.host, MeetingList.SCHEDULED)}
    running = {each.id: each for each in await context.zoom.live_meetings(credential, account.host)}
    return await _strays(context, pool, (), running, listed)


async def _strays(
    context: Context, pool: Pool, leases: Iterable[Lease], running: dict[int, Meeting], listed: dict[int, Meeting]
) -> tuple[Stray, ...]:
    held = {lease.meeting_id for lease in leases}
    strays = []
    for meeting in (listed | running).values():
        if meeting.id not in held:
            stray = await _stray(context, pool, meeting, running=meeting.id in running)
            if stray is not None:
                strays.append(stray)
    return tuple(strays)


async def _stray(context: Context, pool: Pool, meeting: Meeting, *, running: bool) -> Stray | None:
    """What a meeting is that none of the host's known leases holds; None if it is none of our business.

    A marker names the lease that the meeting was made for. It is ours for sure when that lease's fence was given out
    here and the lease is over, or has another meeting. Otherwise (another installation's, or made after the backup that
    this Redis was restored from) it is treated like any stranger's, because deleting it might end a lesson.
    """
    marked = parse_marker(meeting.agenda)
    if marked is not None and marked[0] in await context.broker.pools():
        name, id = marked
        theirs = context.broker.pool(name)
        lease = (await context.broker.run(theirs.find_lease(id))).lease
        if lease is None:
            lease = (await context.broker.run(theirs.find_meeting(meeting.id))).lease
        if lease is not None and lease.meeting_id in (None, meeting.id):
            return None
        if id.fence <= (await context.broker.run(theirs.status())).fence:
            return Stray(meeting, running, id, await _seen_since(context, pool, meeting.id))
    if not running or await find_lease(context, meeting.id) is not None:
        return None
    return Stray(meeting, running)


async def find_lease(context: Context, meeting_id: int) -> Lease | None:
    """The lease that holds this meeting, in whichever pool."""
    for name in await context.broker.pools():
        found = await context.broker.run(context.broker.pool(name).find_meeting(meeting_id))
        if found.lease is not None:
            return found.lease
    return None


async def _seen_since(context: Context, pool: Pool, meeting_id: int) -> int:
    with translated("stray"):
        since = await context.redis.get(pool.keys.stray(meeting_id))
    return int(since or 0)


async def _lowered_from(context: Context, pool: Pool, account: Account) -> int:
    with translated("lowered"):
        capacity = await context.redis.hget(pool.keys.lowered, account.id)
    return int(capacity or 0)
