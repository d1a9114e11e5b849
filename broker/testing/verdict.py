"""The verdict on a run: nothing double booked, nothing left taken, nothing left behind, and the data agree.

Two judges who know nothing of one another: the simulated Zoom, which saw what really ran on each host, and Redis, whose
free slots are counted, whose keys are held against the invariants, and whose events say who was given which slot.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from broker.client import Broker
from broker.errors import BrokerUnavailable
from broker.invariants import violations
from broker.models import Event, LeaseId
from broker.testing.school import School

LOOK_S = 0.1


@dataclass(frozen=True)
class Verdict:
    """What was wrong at the end of a run.

    Attributes:
        double_booked: moments in which a host was made to run more meetings than it may.
        leaked_slots: slots of the accounts that are not free although every lesson is over.
        orphan_meetings: meetings that still exist at Zoom, so that somebody could start them.
        invariant_violations: what in Redis contradicts itself; a slot that two lessons had at a time, too.
    """

    double_booked: int
    leaked_slots: int
    orphan_meetings: int
    invariant_violations: tuple[str, ...]

    @property
    def clean(self) -> bool:
        """Whether nothing is wrong."""
        return not (self.double_booked or self.leaked_slots or self.orphan_meetings or self.invariant_violations)


async def judge(broker: Broker, school: School, *, slots: int, pool: str = "") -> Verdict:
    """Look once.

    Args:
        broker: the way to Redis.
        school: the way to the simulated Zoom.
        slots: how many slots the pool's accounts have together.
        pool: the default one, unless named.
    """
    operations = broker.pool(pool)
    zoom = await school.verdict()
    free = broker.run(operations.status()).free
    events = broker.run(operations.events(count=broker.settings.events_maxlen))
    return Verdict(
        double_booked=zoom["double_booked"],
        leaked_slots=slots - free,
        orphan_meetings=zoom["orphan_meetings"],
        invariant_violations=(
            *violations(broker, operations),
            *misgranted(reversed(events)),
        ),
    )


def misgranted(events: Iterable[Event]) -> Iterator[str]:
    """Every slot that was given to a lesson while another one had it, and every fence that did not grow, in sentences.

    Args:
        events: of a pool, oldest first. They may begin in the middle of things.
    """
    holders: dict[str, str] = {}
    newest = 0
    for event in events:
        match event.type:
            case "lease.claimed" | "lease.moved":
                id = LeaseId.parse(event.lease)
                if event.type == "lease.moved":
                    holders.pop(LeaseId.parse(event.fields["from"]).slot, None)
                if id.slot in holders:
                    yield f"slot {id.slot} was given to {event.lease} while {holders[id.slot]} had it"
                if id.fence <= newest:
                    yield f"lease {event.lease} was granted after fence {newest}"
                holders[id.slot], newest = event.lease, max(newest, id.fence)
            case "lease.released":
                slot = LeaseId.parse(event.lease).slot
                if holders.get(slot) == event.lease:
                    del holders[slot]


async def settle(
    broker: Broker,
    school: School,
    *,
    slots: int,
    timeout_s: float,
    look: Callable[[], None] = lambda: None,
) -> Verdict:
    """Wait until nothing is left taken or behind, and return the verdict; after `timeout_s` the verdict as it is then.

    Args:
        broker: the way to Redis.
        school: the way to the simulated Zoom.
        slots: how many slots the pool's accounts have together.
        timeout_s: for everything that is still on its way: webhooks, deletions, repairs.
        look: called at each look; may raise to give up.
    """
    deadline_s = time.monotonic() + timeout_s
    while True:
        look()
        try:
            verdict = await judge(broker, school, slots=slots)
        except BrokerUnavailable:
            if time.monotonic() >= deadline_s:
                raise
        else:
            if not (verdict.leaked_slots or verdict.orphan_meetings) or time.monotonic() >= deadline_s:
                return verdict
        await asyncio.sleep(LOOK_S)
