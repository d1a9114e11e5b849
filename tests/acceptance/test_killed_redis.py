"""Redis is killed and comes back with what its append-only file holds."""

from __future__ import annotations

import asyncio

from broker.testing.rush import Plan, Rush, Stage
from broker.testing.school import School
from broker.testing.stack import Stack
from tests.acceptance.lessons import lease_of, links_of
from tests.waiting import wait_until_async


async def test_leases_survive_a_kill(stack: Stack, school: School) -> None:
    links = await links_of(school, "kept", "anna")
    before = lease_of(stack, "kept")
    stack.restart("redis")
    after = lease_of(stack, "kept")
    assert before is not None
    assert after is not None
    assert (after.id, after.meeting_id) == (before.id, before.meeting_id)
    assert (await links_of(school, "kept", "anna"))["zoom_meeting_id"] == links["zoom_meeting_id"]
    assert (await school.end("kept", "anna")).is_success


async def test_killed_in_mid_rush_nobody_is_double_booked(stack: Stack, school: School) -> None:
    rush = Rush(school, Plan(lessons=12, seed=2, lesson_s=(0.5, 1.5)))
    running = asyncio.create_task(rush.run())
    await wait_until_async(lambda: _under_way(rush), "lessons run and others are being started")
    stack.kill("redis")
    stack.start("redis")
    tally = await running
    assert tally.clean, tally
    # The fixture judges the rest: nobody double booked, nothing left taken or behind, no invariant broken.


async def _under_way(rush: Rush) -> bool:
    stages = rush.stages()
    return stages[Stage.STARTING] >= 2 and stages[Stage.RUNNING] >= 1
