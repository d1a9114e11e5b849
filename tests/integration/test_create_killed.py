"""The creation job, killed behind each of its steps, then run again: never two meetings, never one that is lost."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TypeVar

import pytest

from broker.client import AsyncBroker, Broker
from broker.invariants import violations
from broker.models import AccountState, Lease, Phase
from broker.operations import Operation
from broker.redis import connect
from broker.testing.zoom_simulator import FaultAction, FaultRule
from tests.integration.conftest import School
from tests.waiting import wait_until_async
from workers.create_meeting import create_meeting

T = TypeVar("T")

NOT_ALLOWED = {"code": 3161, "message": "Your user account is not allowed meeting hosting and scheduling capabilities."}
STEPS = 3
"""Calls to Redis for one host: intent and lease, budget, meeting. A host at fault costs one more, for the move."""


class Killer:
    """Lets a number of calls happen, and kills whoever ran the last one before it learns of the answer."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, after: int) -> None:
        self.left = after
        one, several = AsyncBroker.run, AsyncBroker.run_all

        async def run(broker: AsyncBroker, operation: Operation[T]) -> T:
            return self.told(await one(broker, operation))

        async def run_all(broker: AsyncBroker, operations: Sequence[Operation[T]]) -> list[T]:
            return self.told(await several(broker, operations))

        monkeypatch.setattr(AsyncBroker, "run", run)
        monkeypatch.setattr(AsyncBroker, "run_all", run_all)

    def told(self, answer: T) -> T:
        self.left -= 1
        if self.left == 0:
            raise asyncio.CancelledError
        return answer


async def run_killed(lease: Lease, monkeypatch: pytest.MonkeyPatch, after: int) -> Killer:
    with monkeypatch.context() as patched:
        killer = Killer(patched, after)
        await asyncio.gather(create_meeting("default", str(lease.id)), return_exceptions=True)
    return killer


async def run_to_the_end(school: School) -> str:
    """Run the job for the lesson's lease, as the reaper would, until it neither is busy nor moves on."""

    async def settled() -> str:
        lease = (await school.broker.run(school.pool.find_lesson("algebra"))).lease
        if lease is None or lease.phase is Phase.READY:
            return "ready" if lease else "gone"
        answer = await create_meeting("default", str(lease.id))
        return answer if answer in ("ready", "failed", "unknown") else ""

    return str(await wait_until_async(settled, "the job comes to an end", 20))


def wrong_in(school: School) -> list[str]:
    """What contradicts the invariants."""
    connection = connect(school.settings)
    try:
        return violations(Broker(connection, school.settings), school.pool)
    finally:
        connection.close()


@pytest.mark.parametrize("killed_after", range(1, STEPS + 1))
async def test_killed_job_leads_to_one_meeting(
    school: School, monkeypatch: pytest.MonkeyPatch, killed_after: int
) -> None:
    lease = await school.claim()
    assert (await run_killed(lease, monkeypatch, killed_after)).left <= 0, "it has fewer steps than this"
    assert await run_to_the_end(school) == "ready"
    ready = await school.look(lease.id)
    assert ready is not None
    assert [ready.meeting_id] == school.meetings()
    assert not wrong_in(school)


@pytest.mark.parametrize("killed_after", range(1, 2 * STEPS + 1))
async def test_killed_job_of_a_lesson_that_moves_leads_to_one_meeting_or_none_in_doubt(
    school: School, monkeypatch: pytest.MonkeyPatch, killed_after: int
) -> None:
    lease = await school.claim()
    school.zoom.faults.add(
        FaultRule(
            action=FaultAction.RESPOND,
            status=400,
            body=NOT_ALLOWED,
            host=lease.email,
            method="POST",
            path="/v2/users/*/meetings",
        )
    )
    assert (await run_killed(lease, monkeypatch, killed_after)).left <= 0, "it has fewer steps than this"
    answer = await run_to_the_end(school)
    now = (await school.broker.run(school.pool.find_lesson("algebra"))).lease
    assert now is not None
    if killed_after < STEPS:
        # Nobody knows whether the killed run had called Zoom, so the lease waits for the reconciler.
        assert (answer, now.id, now.phase, school.meetings()) == ("unknown", lease.id, Phase.CREATING, [])
    else:
        assert (answer, now.moved_from, [now.meeting_id]) == ("ready", lease.id, school.meetings())
    failed = await school.broker.run(school.pool.account(lease.account))
    assert failed is not None
    assert failed.state is AccountState.QUARANTINED
    assert not wrong_in(school)
