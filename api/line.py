"""Those requests of this process that wait in line for a host.

A place in line lives only as long as it is asked for again (`ticket_ttl_s`), so that who died delays nobody. Each
request asking for itself would be a thousand questions every few seconds; here one task asks for all of them together.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

import structlog

from broker.client import AsyncBroker
from broker.errors import ZoomPoolError
from broker.events import Watch
from broker.models import ClaimResult, Ticket
from broker.operations import Operation, Pool

log = structlog.get_logger(__name__)

BEATS = 3
"""How often a place is asked for within its life: one answer may be late, and one lost."""
BATCH = 100
"""Places asked for in one round trip: the server is busy with them for a few milliseconds."""


class Place:
    """Where one request stands. `ticket` is as of the last heartbeat."""

    def __init__(self, ticket: Ticket, watch: Watch, keep: Operation[ClaimResult]) -> None:
        self.ticket = ticket
        self._watch = watch
        self.keep = keep

    def heard(self, claim: ClaimResult) -> None:
        """Take the answer of a heartbeat; anything but a place wakes the request, which then asks for itself."""
        if claim.ticket is None:
            self._watch.wake()
        else:
            self.ticket = claim.ticket


class Line:
    """All places of this process.

    Args:
        broker: the pools.
    """

    def __init__(self, broker: AsyncBroker) -> None:
        self._broker = broker
        self._places: defaultdict[tuple[str, str], set[Place]] = defaultdict(set)
        self._occupied = asyncio.Event()
        self._leaving: set[asyncio.Task[None]] = set()

    @contextmanager
    def stand(self, pool: Pool, ticket: Ticket, watch: Watch, keep: Operation[ClaimResult]) -> Iterator[Place]:
        """Stand in line inside this block.

        Args:
            pool: where.
            ticket: of the lesson.
            watch: the lesson's; woken when there is more than a new place.
            keep: the claim that keeps the place.
        """
        place, key = Place(ticket, watch, keep), (pool.name, ticket.lesson)
        self._places[key].add(place)
        self._occupied.set()
        try:
            yield place
        finally:
            self._places[key].discard(place)
            if not self._places[key]:
                del self._places[key]
            if not self._places:
                self._occupied.clear()

    def leave(self, pool: Pool, lesson: str, owner: str) -> None:
        """Give up a lesson's place, unless another request of this process stands there, too.

        Does not wait for it: if it fails, or if a claim of this lesson is still on its way, the place lapses.
        """
        if (pool.name, lesson) not in self._places:
            task = asyncio.create_task(self._leave(pool, lesson, owner), name="leave the line")
            self._leaving.add(task)
            task.add_done_callback(self._leaving.discard)

    async def _leave(self, pool: Pool, lesson: str, owner: str) -> None:
        try:
            await self._broker.run(pool.cancel(lesson, owner))
        except ZoomPoolError as error:
            log.warning("a place in line could not be given up", code=error.code, error=str(error))

    async def run(self) -> None:
        """Keep all places until cancelled."""
        while True:
            await self._occupied.wait()
            await asyncio.sleep(self._broker.settings.ticket_ttl_s / BEATS)
            try:
                await self._beat()
            except ZoomPoolError as error:
                log.warning("places in line could not be kept", code=error.code, error=str(error))

    async def _beat(self) -> None:
        keys = list(self._places)
        for start in range(0, len(keys), BATCH):
            standing = {key: set(self._places[key]) for key in keys[start : start + BATCH] if key in self._places}
            claims = await self._broker.run_all([next(iter(places)).keep for places in standing.values()])
            for places, claim in zip(standing.values(), claims, strict=True):
                for place in places:
                    place.heard(claim)
