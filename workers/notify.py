"""Tell the web app what happens to its lessons, so that nothing is lost when a process dies.

The relay reads the pools' event streams in a consumer group and makes each event of interest a job, whose id is the
notification's. Only then does it acknowledge the event: killed in between, it reads the event again, and the job that
is there already stays one. The job sends, and RQ repeats it for about a day; what then remains is a dead letter.
"""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

import structlog
from redis.exceptions import ResponseError

from broker import outbound
from broker.client import translated
from broker.errors import ScriptError
from broker.jobs import NOTIFY
from broker.keys import Keys
from broker.models import Event, Lease, LeaseId
from broker.notifications import Notification, headers, notification
from broker.operations import read_event
from workers.context import Context, open_context

log = structlog.get_logger(__name__)

GROUP = "notify"
CONSUMER = "relay"
"""One name for all: what a killed relay had read is then pending for the next one. Should two run at a time, they make
the same jobs."""
PAGE = 100
BLOCK_S = 1.0
NEW_GROUP_LOOKS_BACK_S = 60
"""A pool that has just been made may have events already; an old pool's past is of no interest to anybody."""


async def relay() -> str:
    """Job: turn new events of all pools into notifications, and wait for more for as long as a period lasts."""
    async with open_context() as context:
        if not context.settings.notify_url:
            return "nobody to tell"
        end_s = time.monotonic() + context.settings.relay_interval_s
        told = await relay_once(context, pending=True, block_s=0)
        while (left_s := end_s - time.monotonic()) > 0:
            told += await relay_once(context, pending=False, block_s=min(BLOCK_S, left_s))
        return f"{told} notifications"


async def relay_once(context: Context, *, pending: bool, block_s: float) -> int:
    """Handle one page of each pool's events; returns how many notifications were enqueued.

    Args:
        context: the job's means.
        pending: read what an earlier relay read and never acknowledged, all of it, instead of what is new.
        block_s: how long to wait for something new.
    """
    pools = {Keys(name).events: name for name in await context.broker.pools()}
    if not pools:
        await asyncio.sleep(block_s)
        return 0
    told = 0
    positions: dict[Any, Any] = dict.fromkeys(pools, "0" if pending else ">")
    while True:
        answer = await _read(context, positions, block_s)
        more = False
        for stream, entries in answer.items() if isinstance(answer, dict) else answer or ():
            told += await _enqueue(context, pools[stream], entries)
            if entries:
                with translated("acknowledge events"):
                    await context.redis.xack(stream, GROUP, *(id for id, _ in entries))
            more = more or len(entries) == PAGE
        if not (pending and more):
            return told


async def _read(context: Context, positions: dict[Any, Any], block_s: float) -> Any:
    block_ms = max(1, round(block_s * 1000)) if block_s else None
    with translated("read events"):
        try:
            return await context.redis.xreadgroup(GROUP, CONSUMER, positions, count=PAGE, block=block_ms)
        except ResponseError as error:
            if not str(error).startswith("NOGROUP"):
                raise
        for stream in positions:
            await _make_group(context, stream)
        return await context.redis.xreadgroup(GROUP, CONSUMER, positions, count=PAGE, block=block_ms)


async def _make_group(context: Context, stream: str) -> None:
    seconds, _ = await context.redis.time()
    try:
        start = f"{(int(seconds) - NEW_GROUP_LOOKS_BACK_S) * 1000}-0"
        await context.redis.xgroup_create(stream, GROUP, id=start, mkstream=True)
    except ResponseError as error:
        if not str(error).startswith("BUSYGROUP"):
            raise


async def _enqueue(context: Context, pool: str, entries: Iterable[tuple[str, Mapping[str, str]]]) -> int:
    told = 0
    for id, fields in entries:
        if not fields:  # it was trimmed from the stream before anybody read it
            log.error("an event was lost before it was told; raise ZOOMPOOL_EVENTS_MAXLEN", pool=pool, entry=id)
            continue
        try:
            event = read_event(pool, id, fields)
            wanted = notification(event, await _lease(context, event))
        except (ScriptError, ValueError) as error:
            # Foreign data must not keep everything behind it from being told.
            log.error("an event cannot be read", pool=pool, entry=id, error=type(error).__name__)
            continue
        if wanted is not None:
            told += await context.enqueue(NOTIFY, dataclasses.asdict(wanted), job_id=wanted.id)
    return told


async def _lease(context: Context, event: Event) -> Lease | None:
    """The lease of an event that is told with its links, if it still runs."""
    if event.type not in ("lease.ready", "lease.live"):
        return None
    found = await context.broker.run(context.broker.pool(event.pool).find_lease(LeaseId.parse(event.lease)))
    return found.lease


async def notify(fields: dict[str, Any]) -> str:
    """Job: send one notification, given as the fields of a `Notification`. Returns a word for the log.

    Raises:
        NotDelivered, AddressRefused: the receiver did not take it; RQ repeats the job.
        ConfigurationError: the address or the secret is unusable; repeated all the same, for somebody may correct it.
    """
    message = Notification(**fields)
    async with open_context() as context:
        settings = context.settings
        if not settings.notify_url:
            return "nobody to tell"
        url = outbound.check_url(settings.notify_url, settings.notify_allowed_hosts)
        body = message.body()
        secrets = [s for s in (settings.notify_secret, settings.notify_secret_previous) if s.get_secret_value()]
        await outbound.post(
            url,
            body,
            headers(message, body, secrets, datetime.now(UTC)),
            timeout_s=settings.notify_timeout_s,
            allowed_hosts=settings.notify_allowed_hosts,
        )
        log.info("told the web app", type=message.type, id=message.id, lesson=message.data.get("lesson_id"))
        return "delivered"
