"""A worker dies without a word while it makes a meeting: in the end there is one meeting, and its teacher gets it."""

from __future__ import annotations

from typing import Any

import pytest

from broker.models import Phase
from broker.testing.school import School
from broker.testing.stack import Stack
from tests.acceptance.lessons import ASYNC, lease_of, links_of, meetings_of
from tests.waiting import wait_until_async

CREATE = {"method": "POST", "path": "/v2/users/*/meetings", "times": 1}


async def _created(school: School) -> int:
    return int((await school.verdict())["meetings_created"])


async def _one_meeting_in_the_end(stack: Stack, school: School, lesson: str, before: int) -> int:
    """The teacher's repeated start gets the meeting; no other was ever made; the lease is the first one."""
    links = await links_of(school, lesson, "anna")
    meeting = int(links["zoom_meeting_id"])
    assert await _created(school) == before + 1
    lease = lease_of(stack, lesson)
    assert lease is not None
    assert lease.meeting_id == meeting
    assert await meetings_of(school, lease) == [meeting]
    assert stack.broker.run(stack.broker.pool().status()).lessons == 1
    assert (await school.end(lesson, "anna")).is_success
    return meeting


async def test_killed_before_it_took_the_job(stack: Stack, school: School) -> None:
    before = await _created(school)
    stack.kill("create")
    answer = await school.start("queued", "anna", headers=ASYNC)
    assert answer.status_code == 202, answer.text
    lease = lease_of(stack, "queued")
    assert lease is not None
    assert lease.phase is Phase.CLAIMED
    stack.start("create")
    await _one_meeting_in_the_end(stack, school, "queued", before)


async def test_killed_in_the_call_before_zoom_did_anything(stack: Stack, school: School) -> None:
    before = await _created(school)
    fault = await school.add_fault(action="hang", when="before", **CREATE)
    assert (await school.start("before", "anna", headers=ASYNC)).status_code == 202
    await wait_until_async(lambda: school.fault_applied(fault), "the call is under way")
    stack.restart("create")
    assert await _created(school) == before
    await _one_meeting_in_the_end(stack, school, "before", before)


@pytest.mark.parametrize(
    "answer", [{"action": "hang"}, {"action": "delay", "delay_ms": 1500}], ids=["never comes", "comes too late"]
)
async def test_killed_after_zoom_made_the_meeting(stack: Stack, school: School, answer: dict[str, Any]) -> None:
    lesson = f"after-{answer['action']}"
    before = await _created(school)
    await school.add_fault(when="after", **answer, **CREATE)
    assert (await school.start(lesson, "anna", headers=ASYNC)).status_code == 202
    lease = lease_of(stack, lesson)
    assert lease is not None
    (made,) = await wait_until_async(lambda: meetings_of(school, lease), "the meeting exists at Zoom")
    stack.restart("create")
    unknown = lease_of(stack, lesson)
    assert unknown is not None
    assert (unknown.phase, unknown.meeting_id) == (Phase.CREATING, None)
    assert await _one_meeting_in_the_end(stack, school, lesson, before) == made


async def test_answer_that_never_comes_does_not_make_a_second_meeting(stack: Stack, school: School) -> None:
    before = await _created(school)
    await school.add_fault(action="hang", when="after", **CREATE)
    await _one_meeting_in_the_end(stack, school, "unanswered", before)
