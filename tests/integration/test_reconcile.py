"""Zoom's word settles what we missed."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

import pytest
import redis.asyncio

from broker.models import Lease, Phase, ReleaseReason
from broker.testing.zoom_simulator import FaultAction, FaultRule, Role, When
from tests import factories
from tests.integration.conftest import School
from tests.integration.test_webhook_events import phase, ready, tell
from tests.waiting import wait_until_async
from workers.context import open_context
from workers.create_meeting import create_meeting
from workers.decisions import Verb
from workers.reconcile import open_questions, reconcile, reconcile_pool


async def expire(school: School, lease: Lease) -> None:
    """Let the lease's deadline pass and the reaper see it."""
    await school.broker.redis.zadd(school.pool.keys.leased, {lease.id.slot: 1})
    await school.broker.run(school.pool.reap())
    assert await phase(school, lease) is Phase.SUSPECT


async def test_suspect_meeting_that_nobody_started_is_deleted_and_its_slot_freed(school: School) -> None:
    lease = await ready(school)
    await expire(school, lease)
    await reconcile()
    assert school.meetings() == []
    assert await phase(school, lease) is None
    status = await school.broker.run(school.pool.status())
    assert (status.free, status.suspect) == (3, 0)


async def test_suspect_meeting_that_runs_goes_on_as_live(school: School) -> None:
    lease = await ready(school)
    assert lease.meeting_id is not None
    school.zoom.world.join(lease.meeting_id, "Anna", Role.HOST)
    await expire(school, lease)
    await reconcile()
    assert await phase(school, lease) is Phase.LIVE
    assert school.meetings() == [lease.meeting_id]


async def test_meeting_past_its_longest_hold_is_ended(school: School) -> None:
    lease = await ready(school)
    assert lease.meeting_id is not None
    school.zoom.world.join(lease.meeting_id, "Anna", Role.HOST)
    await expire(school, lease)
    await school.broker.redis.hset(school.pool.keys.slot(lease.id.slot), "hold_until_ms", "1")
    await reconcile()
    assert school.meetings() == []
    assert await phase(school, lease) is None


async def test_unknown_creation_is_searched_for_deleted_and_freed(school: School) -> None:
    lease = await school.claim()
    path = "/v2/users/*/meetings"
    school.zoom.faults.add(FaultRule(action=FaultAction.HANG, when=When.AFTER, method="POST", path=path))
    dying = asyncio.create_task(create_meeting("default", str(lease.id)))
    await wait_until_async(lambda: asyncio.sleep(0, school.meetings()), "the meeting exists at Zoom")
    dying.cancel()
    await asyncio.gather(dying, return_exceptions=True)
    await expire(school, lease)
    await reconcile()
    assert school.meetings() == []
    found = await school.broker.run(school.pool.find_lesson("algebra"))
    assert found.lease is None
    assert found.outcome is not None
    assert (found.outcome.reason, found.outcome.detail) == (ReleaseReason.FAILED, "zoom_outcome_unknown")


async def test_missed_start_makes_the_lease_live(school: School) -> None:
    lease = await ready(school)
    assert lease.meeting_id is not None
    school.zoom.world.join(lease.meeting_id, "Anna", Role.HOST)
    await reconcile()
    assert await phase(school, lease) is Phase.LIVE


async def test_missed_end_is_believed_at_the_second_look(school: School) -> None:
    lease = await ready(school)
    await tell("meeting.started", lease, at_ms=1_000)
    await reconcile()
    assert await phase(school, lease) is Phase.LIVE
    await reconcile()
    assert await phase(school, lease) is None
    assert school.meetings() == []


async def test_running_meeting_is_renewed(school: School) -> None:
    lease = await ready(school)
    assert lease.meeting_id is not None
    school.zoom.world.join(lease.meeting_id, "Anna", Role.HOST)
    await tell("meeting.started", lease, at_ms=1_000)
    live = await school.look(lease.id)
    assert live is not None
    await school.broker.redis.zadd(school.pool.keys.leased, {lease.id.slot: live.now_ms + 30_000})
    await reconcile()
    renewed = await school.look(lease.id)
    assert renewed is not None
    assert renewed.deadline_ms > live.now_ms + 60_000


async def test_nothing_is_freed_while_zoom_does_not_answer(school: School) -> None:
    lease = await ready(school)
    await expire(school, lease)
    school.zoom.faults.add(FaultRule(action=FaultAction.RESPOND, status=503))
    await reconcile()
    assert await phase(school, lease) is Phase.SUSPECT


async def test_list_without_a_meeting_that_runs_ends_no_lesson(school: School) -> None:
    lease = await ready(school)
    assert lease.meeting_id is not None
    school.zoom.world.join(lease.meeting_id, "Anna", Role.HOST)
    await tell("meeting.started", lease, at_ms=1_000)
    school.zoom.faults.add(
        FaultRule(
            action=FaultAction.RESPOND, status=200, body={"meetings": []}, method="GET", path="/v2/users/*/meetings"
        )
    )
    await reconcile()
    await reconcile()
    assert await phase(school, lease) is Phase.LIVE
    assert school.zoom.world.meetings[lease.meeting_id].started


async def test_second_look_right_after_the_first_is_none(school: School, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZOOMPOOL_RECONCILE_LOOK_GAP_S", "60")
    lease = await ready(school)
    await tell("meeting.started", lease, at_ms=1_000)
    for _ in range(3):
        await reconcile()
    assert await phase(school, lease) is Phase.LIVE
    slot = school.pool.keys.slot(lease.id.slot)
    await school.broker.redis.hset(slot, "look_ms", "1")
    await reconcile()
    assert await phase(school, lease) is None


async def test_missed_end_and_new_start_are_both_noticed(school: School) -> None:
    lease = await ready(school)
    assert lease.meeting_id is not None
    world = school.zoom.world
    await tell("meeting.started", lease, at_ms=1_000)
    world.join(lease.meeting_id, "Anna", Role.HOST)
    world.end_by_host(lease.meeting_id)
    world.join(lease.meeting_id, "Anna", Role.HOST)
    await reconcile()
    found = await school.look(lease.id)
    assert found is not None
    assert found.meeting_uuid == world.meetings[lease.meeting_id].uuid != lease.meeting_uuid


@pytest.mark.parametrize(
    ("policy", "expected"), [("extend", Phase.LIVE), ("warn", Phase.SUSPECT), ("end", None)], ids=str
)
async def test_lesson_past_its_longest_hold_follows_the_policy(
    school: School, monkeypatch: pytest.MonkeyPatch, policy: str, expected: Phase | None
) -> None:
    monkeypatch.setenv("ZOOMPOOL_OVERRUN_POLICY", policy)
    lease = await ready(school)
    assert lease.meeting_id is not None
    school.zoom.world.join(lease.meeting_id, "Anna", Role.HOST)
    await expire(school, lease)
    await school.broker.redis.hset(school.pool.keys.slot(lease.id.slot), "hold_until_ms", "1")
    await reconcile()
    found = await school.look(lease.id)
    assert (found.phase if found else None) is expected
    if policy == "extend":
        assert found is not None
        assert found.now_ms < found.deadline_ms <= found.hold_until_ms
    assert school.meetings() == ([] if policy == "end" else [lease.meeting_id])


async def everything_in(school: School) -> dict[bytes | str, bytes | None]:
    """All of Redis, as it would be written to disk; but not how often Zoom was called, for asking counts, too."""
    async with redis.asyncio.Redis.from_url(school.settings.redis_url) as raw:
        keys: Any = await raw.keys()
        return {key: await raw.dump(key) for key in keys if not key.startswith(b"zp:zoom:")}


async def test_dry_run_decides_the_same_and_changes_nothing(school: School) -> None:
    lease = await ready(school)
    await expire(school, lease)
    before = await everything_in(school)
    async with open_context(school.settings) as context:
        dry = await reconcile_pool(context, school.pool, everything=True, dry_run=True)
        assert await everything_in(school) == before
        wet = await reconcile_pool(context, school.pool, everything=True)
    assert [(decision.verb, decision.why) for decision in dry.decisions] == [
        (Verb.FINISH, "its time passed, and it does not run")
    ]
    assert [(decision.verb, decision.why) for decision in wet.decisions] == [
        (decision.verb, decision.why) for decision in dry.decisions
    ]
    assert await phase(school, lease) is None


async def test_run_out_of_time_is_continued_where_it_stopped(school: School) -> None:
    async with open_context(school.settings) as context:
        assert [question.account.id for question in await open_questions(context, school.pool)] == ["host01", "host02"]
        stopped = await reconcile_pool(context, school.pool, run_s=0)
        assert (stopped.asked, stopped.postponed) == (0, 2)
        await school.broker.redis.zadd(school.pool.keys.looked, {"host01": 1})
        questions = await open_questions(context, school.pool)
        assert [question.account.id for question in questions] == ["host02", "host01"]
        done = await reconcile_pool(context, school.pool)
        assert (done.asked, done.postponed) == (2, 0)
        assert await open_questions(context, school.pool) == []


async def test_suspect_leases_come_first(school: School) -> None:
    lease = await ready(school)
    await expire(school, lease)
    await school.broker.redis.zadd(school.pool.keys.looked, {lease.account: 10**13})
    async with open_context(school.settings) as context:
        first, second = await open_questions(context, school.pool)
    assert (first.account.id, first.urgent, second.urgent) == (lease.account, True, False)


async def test_many_leases_and_hosts_are_read_page_by_page(school: School, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workers.reconcile.REAP_BATCH", 1)
    leases = [await ready(school, f"lesson-{number}", f"teacher-{number}") for number in range(3)]
    for lease in leases:
        await expire(school, lease)
    await reconcile()
    assert [await phase(school, lease) for lease in leases] == [None] * 3


@pytest.mark.parametrize("how", ["overwritten", "half-written"])
async def test_one_broken_pool_keeps_no_other_from_being_settled(school: School, how: str) -> None:
    lease = await ready(school)
    await expire(school, lease)
    broken = school.broker.pool("broken")
    await school.broker.run(broken.register())
    if how == "overwritten":
        await school.broker.redis.set(broken.keys.leased, "not a set")
    else:
        await school.broker.run(broken.add_account(factories.account()))
        await school.broker.redis.hdel(broken.keys.account("host-1"), "email")
    with suppress(ExceptionGroup):
        await reconcile()
    assert await phase(school, lease) is None


async def test_one_host_that_fails_keeps_no_other_from_being_settled(school: School) -> None:
    first, second = await ready(school, "algebra"), await ready(school, "history", "boris")
    assert first.account != second.account
    await expire(school, first)
    await expire(school, second)
    path = f"/v2/users/{first.email}/meetings"
    school.zoom.faults.add(FaultRule(action=FaultAction.RESPOND, status=503, path=path))
    async with open_context(school.settings) as context:
        report = await reconcile_pool(context, school.pool)
    assert list(report.failures) == [first.account]
    assert await phase(school, first) is Phase.SUSPECT
    assert await phase(school, second) is None


async def test_two_reconcilers_do_not_overlap(school: School) -> None:
    lease = await ready(school)
    await expire(school, lease)
    guard = school.broker.redis.lock(school.pool.keys.guard("reconcile"), timeout=30)
    await guard.acquire()
    assert await reconcile() == "nothing to do"
    assert await phase(school, lease) is Phase.SUSPECT
    await guard.release()
    await reconcile()
    assert await phase(school, lease) is None
