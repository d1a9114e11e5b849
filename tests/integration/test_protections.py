"""Proof that the protections protect: each is turned off in its turn, and then the harm that it prevents is there.

Every scenario runs twice. With the protection it must end well; without it, badly: a scenario that ends well both times
would prove nothing.
"""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
from collections.abc import Callable
from typing import Any

import httpx
import pytest
import redis.asyncio

from broker import scripts
from broker.models import Lease, Phase, ReleaseReason
from broker.testing.zoom_simulator import (
    FaultAction,
    FaultRule,
    Latency,
    Refusal,
    Role,
    Switches,
    TokenPolicy,
    When,
    payloads,
)
from broker.testing.zoom_simulator.refusals import Refused
from broker.testing.zoom_simulator.settings import UserType
from broker.zoom.auth import TokenSource
from tests.integration.conftest import School
from tests.integration.test_create_meeting import CREATE
from tests.integration.test_reconcile import expire
from tests.integration.test_webhook_events import phase, ready, tell
from workers import probe as probing
from workers.context import open_context
from workers.create_meeting import Creation, create_meeting
from workers.reconcile import reconcile

HOUR_S = 3600

twice = pytest.mark.parametrize("protected", [True, False], ids=["with it", "without it"])

Rewrite = Callable[[str, str], None]


@pytest.fixture
def rewrite(monkeypatch: pytest.MonkeyPatch) -> Rewrite:
    """Replaces a piece of Lua, which must be there, in every script that has it."""

    def replace(old: str, new: str) -> None:
        before = scripts.load
        assert any(old in script.text for script in map(before, scripts.NAMES)), f"no script says {old!r} any more"

        def load(name: str) -> scripts.Script:
            script = before(name)
            text = script.text.replace(old, new)
            sha = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()
            return dataclasses.replace(script, text=text, sha=sha)

        monkeypatch.setattr(scripts, "load", load)

    return replace


async def claim_the_slot_of(school: School, lease: Lease, lesson: str) -> Lease | None:
    """A claim that can get no other slot than this lease's: all others are taken first."""
    for number in range((await school.broker.run(school.pool.status())).free):
        held = await school.claim(f"other-{number}", f"other-{number}")
        if held.id.slot == lease.id.slot:
            await school.broker.run(school.pool.release([held.id], ReleaseReason.FORCED))
    result = await school.broker.run(school.pool.claim(lesson, lesson))
    assert result.lease is None or result.lease.id.slot == lease.id.slot
    return result.lease


async def start(school: School, lease: Lease) -> None:
    """Its meeting is made, and its teacher comes in."""
    assert await create_meeting("default", str(lease.id)) == "ready"
    made = await school.look(lease.id)
    assert made is not None
    assert made.meeting_id is not None
    school.zoom.world.join(made.meeting_id, lease.owner, Role.HOST)


@twice
async def test_fence_keeps_a_late_release_from_ending_the_next_lesson(
    school: School, rewrite: Rewrite, protected: bool
) -> None:
    if not protected:
        rewrite("if id and l.lease ~= id then", "if not l.lease then")
    first = await school.claim("first", "anna")
    await school.broker.run(school.pool.release([first.id], ReleaseReason.ENDED))
    second = await claim_the_slot_of(school, first, "second")
    assert second is not None
    await school.broker.run(school.pool.release([first.id], ReleaseReason.ENDED))
    assert (await school.look(second.id) is not None) is protected


@twice
async def test_look_up_by_marker_keeps_an_unknown_creation_from_making_a_second_meeting(
    school: School, monkeypatch: pytest.MonkeyPatch, protected: bool
) -> None:
    if not protected:

        async def finds_nothing(*_: Any) -> list[Any]:
            return []

        monkeypatch.setattr(Creation, "_look", finds_nothing)
    school.zoom.faults.add(FaultRule(action=FaultAction.RESET, when=When.AFTER, times=1, **CREATE))
    lease = await school.claim()
    assert await create_meeting("default", str(lease.id)) == "ready"
    assert len(school.meetings()) == (1 if protected else 2)


@twice
async def test_suspect_phase_keeps_a_host_whose_meeting_may_run_from_the_next_lesson(
    school: School, rewrite: Rewrite, protected: bool
) -> None:
    if not protected:
        rewrite("if l.phase == 'claimed' then\n      end_lease(", "if true then\n      end_lease(")
    lease = await ready(school)
    assert lease.meeting_id is not None
    # She is in, and the webhook that should say so is lost.
    school.zoom.world.join(lease.meeting_id, "Anna", Role.HOST)
    await school.broker.redis.zadd(school.pool.keys.leased, {lease.id.slot: 1})
    await school.broker.run(school.pool.reap())
    # The account with room for two would hide the second meeting.
    school.zoom.world.meetings[lease.meeting_id].host.set_capacity = 1

    next_one = await claim_the_slot_of(school, lease, "next")
    if next_one is not None:
        await start(school, next_one)
    assert school.zoom.judge.verdict()["double_booked"] == (0 if protected else 1)
    assert (next_one is None) is protected


@twice
async def test_grace_keeps_a_lesson_from_being_ended_that_zoom_does_not_show_as_started_yet(
    school: School, monkeypatch: pytest.MonkeyPatch, protected: bool
) -> None:
    monkeypatch.setenv("ZOOMPOOL_RECONCILE_GRACE_S", "30" if protected else "0")
    school.zoom.switch(Switches(delete_live=Refusal.ACCEPT))
    lease = await ready(school)
    assert lease.meeting_id is not None
    meeting = school.zoom.world.meetings[lease.meeting_id]
    before = payloads.meeting(meeting, links="https://zoom.example", zak="")
    school.zoom.world.join(lease.meeting_id, "Anna", Role.HOST)
    await tell("meeting.started", lease, at_ms=1_000)
    # Its webhook was faster than its API.
    behind: dict[str, Any] = {"action": FaultAction.RESPOND, "status": 200, "method": "GET"}
    school.zoom.faults.add(FaultRule(path="/v2/users/*/meetings", body={"meetings": []}, **behind))
    school.zoom.faults.add(FaultRule(path=f"/v2/meetings/{lease.meeting_id}", body=before, **behind))
    for _ in range(3):
        await reconcile()
    assert meeting.started is protected
    assert (await phase(school, lease) is Phase.LIVE) is protected


@twice
async def test_single_flight_keeps_processes_from_invalidating_each_others_tokens(
    school: School, monkeypatch: pytest.MonkeyPatch, protected: bool
) -> None:
    if not protected:

        async def always(*_: Any) -> bool:
            return True

        monkeypatch.setattr(TokenSource, "_take_guard", always)
    school.zoom.switch(Switches(token_policy=TokenPolicy.SINGLE_VALID))

    async def as_a_process() -> str:
        async with open_context(school.settings) as context, httpx.AsyncClient() as http:
            source = TokenSource(context.redis, context.box, http, school.settings.zoom_oauth_base)
            return (await source.token(await context.credential("default"))).get_secret_value()

    tokens = await asyncio.gather(*(as_a_process() for _ in range(5)))
    assert (sum(taken(school, token) for token in tokens) == len(tokens)) is protected
    assert (school.zoom.tokens.issued == 1) is protected


def taken(school: School, token: str) -> bool:
    """Whether Zoom takes a token."""
    try:
        school.zoom.tokens.authenticate(f"Bearer {token}")
    except Refused:
        return False
    return True


@twice
async def test_largest_time_seen_keeps_a_clock_that_went_back_from_cutting_leases_short(
    school: School, rewrite: Rewrite, aredis: redis.asyncio.Redis, protected: bool
) -> None:
    # The server's clock cannot be moved, so the scripts see it ahead by a key's value.
    rewrite("local t = redis.call('TIME')", "local t = {redis.call('TIME')[1] + (redis.call('GET', 'ahead') or 0), 0}")
    if not protected:
        rewrite("math.floor(math.max(microseconds, fence) / 1000)", "math.floor(microseconds / 1000)")
    await aredis.set("ahead", HOUR_S)
    await school.claim("before", "anna")
    await aredis.set("ahead", 0)
    lease = await ready(school, "meanwhile", "boris")
    await aredis.set("ahead", HOUR_S)
    await school.broker.run(school.pool.reap())
    assert (await phase(school, lease) is Phase.READY) is protected


@twice
async def test_look_before_a_host_returns_keeps_it_from_running_the_lesson_before_and_the_next(
    school: School, monkeypatch: pytest.MonkeyPatch, protected: bool
) -> None:
    if not protected:

        async def nothing(*_: Any) -> list[int]:
            return []

        monkeypatch.setattr(probing, "left_on", nothing)
    lease = await ready(school)
    assert lease.meeting_id is not None
    meeting = school.zoom.world.meetings[lease.meeting_id]
    meeting.host.set_capacity = 1
    school.zoom.world.join(meeting.id, "Anna", Role.HOST)
    # Its host loses the licence in the middle of the lesson, whose time passes before Zoom can be asked again.
    meeting.host.type = UserType.NONE
    await expire(school, lease)
    await reconcile()
    assert await phase(school, lease) is None
    meeting.host.type = UserType.LICENSED
    await probing.probe()

    next_one = await claim_the_slot_of(school, lease, "next")
    if next_one is not None:
        await start(school, next_one)
    assert school.zoom.judge.verdict()["double_booked"] == (0 if protected else 1)
    school.zoom.world.end_by_host(meeting.id)
    await school.broker.redis.delete(school.pool.keys.probes)
    await probing.probe()
    assert (meeting.id not in school.meetings()) is protected


@twice
async def test_sole_right_to_try_keeps_two_runs_of_a_job_from_making_two_meetings(
    school: School, rewrite: Rewrite, protected: bool
) -> None:
    if not protected:
        rewrite("return {'busy', now", "local _ = {'busy', now")
    # Zoom does not list what an earlier attempt has just made, so that the marker cannot save the day.
    school.zoom.switch(Switches(route_latency={"create_meeting": Latency(ms=200)}, listed_after_s=HOUR_S))
    lease = await school.claim()
    await asyncio.gather(*(create_meeting("default", str(lease.id)) for _ in range(3)))
    assert (school.zoom.judge.meetings_created == 1) is protected
