"""The API dies without a word: what it had claimed is neither lost nor leaked."""

from __future__ import annotations

import asyncio

from broker.models import Granted, ReleaseReason
from broker.operations import Pool
from broker.testing.rush import Plan, Rush, Stage
from broker.testing.school import School
from broker.testing.stack import Stack
from tests.acceptance.lessons import free_slots, lease_of, links_of, outcome_of
from tests.waiting import wait_until, wait_until_async

CLAIM_TTL_S = 1.0


async def test_claim_without_a_job_is_noticed_and_made_ready(stack: Stack, school: School) -> None:
    # What an API leaves behind that is killed between the claim and the enqueueing.
    claimed = stack.broker.run(stack.broker.pool().claim("orphaned", "anna"))
    assert claimed.outcome is Granted.GRANTED
    assert claimed.lease is not None

    lease = await wait_until_async(lambda: _ready(stack, "orphaned"), "the reaper has its job enqueued again")
    assert lease == str(claimed.lease.id)
    links = await links_of(school, "orphaned", "anna")
    assert len(await school.meetings()) == 1
    await school.join(int(links["zoom_meeting_id"]), "anna", start_url=links["zoom_start_url"])
    await school.end_in_zoom(int(links["zoom_meeting_id"]))


async def _ready(stack: Stack, lesson: str) -> str:
    lease = lease_of(stack, lesson)
    return str(lease.id) if lease is not None and lease.meeting_id else ""


async def test_claim_that_no_worker_takes_up_is_free_after_its_deadline(stack: Stack, school: School) -> None:
    stack.kill("create")
    hurried = Pool(stack.settings.default_pool, stack.settings.model_copy(update={"claim_ttl_s": CLAIM_TTL_S}))
    assert stack.broker.run(hurried.claim("lapsed", "anna")).outcome is Granted.GRANTED
    assert free_slots(stack) == stack.slots - 1
    wait_until(lambda: free_slots(stack) == stack.slots, "the slot comes back")
    outcome = outcome_of(stack, "lapsed")
    assert outcome is not None
    assert outcome.reason is ReleaseReason.LAPSED
    late_ms = outcome.released_ms - outcome.granted_ms - CLAIM_TTL_S * 1000
    assert 0 <= late_ms <= 1000 * (2 * stack.settings.reap_interval_s + 2 * stack.settings.scheduler_interval_s)


async def test_killed_in_mid_rush_every_lesson_starts_all_the_same(stack: Stack, school: School) -> None:
    rush = Rush(school, Plan(lessons=12, seed=1, lesson_s=(0.5, 1.5)))
    running = asyncio.create_task(rush.run())
    await wait_until_async(lambda: _under_way(rush), "lessons are being started")
    stack.kill("api")
    stack.start("api")
    tally = await running
    assert tally.clean, tally
    assert tally.mishaps, "nobody noticed that the API was gone: it was not killed in mid-rush"


async def _under_way(rush: Rush) -> bool:
    stages = rush.stages()
    return stages[Stage.STARTING] >= 2 and stages[Stage.RUNNING] >= 1
