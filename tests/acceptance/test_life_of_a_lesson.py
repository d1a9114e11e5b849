"""The main path, through every part."""

from __future__ import annotations

from broker.models import Phase, ReleaseReason
from broker.testing.school import School
from broker.testing.stack import Stack
from tests.acceptance.lessons import free_slots, lease_of, links_of, outcome_of
from tests.waiting import wait_until, wait_until_async


async def test_lesson_starts_runs_and_gives_its_host_back(stack: Stack, school: School) -> None:
    answer = await school.start("life", "anna")
    assert answer.status_code == 200, answer.text
    links = answer.json()
    meeting = int(links["zoom_meeting_id"])
    lease = lease_of(stack, "life")
    assert lease is not None
    assert (lease.phase, lease.meeting_id, lease.owner) == (Phase.READY, meeting, "anna")
    assert links["account_email"] == lease.email
    assert free_slots(stack) == stack.slots - 1

    teacher = await school.join(meeting, "anna", start_url=links["zoom_start_url"])
    pupil = await school.join(meeting, "boris")
    await wait_until_async(lambda: _has_phase(stack, "life", Phase.LIVE), "Zoom's webhook makes the lease live")
    await school.leave(meeting, teacher)
    await school.leave(meeting, pupil)

    outcome = wait_until(lambda: outcome_of(stack, "life"), "Zoom's webhook ends the lease")
    assert outcome is not None
    assert outcome.reason is ReleaseReason.ENDED
    assert free_slots(stack) == stack.slots


async def _has_phase(stack: Stack, lesson: str, phase: Phase) -> bool:
    lease = lease_of(stack, lesson)
    return lease is not None and lease.phase is phase


async def test_teacher_with_start_url_is_the_host(stack: Stack, school: School) -> None:
    links = await links_of(school, "host", "anna")
    meeting = int(links["zoom_meeting_id"])
    await school.join(meeting, "anna", start_url=links["zoom_start_url"])
    (found,) = [each for each in await school.meetings() if each["id"] == meeting]
    assert [each["role"] for each in found["participants"]] == ["host"]
    await school.end_in_zoom(meeting)


async def test_second_start_of_a_lesson_returns_the_same_meeting(stack: Stack, school: School) -> None:
    first = await links_of(school, "twice", "anna")
    second = await links_of(school, "twice", "anna")
    assert second["zoom_meeting_id"] == first["zoom_meeting_id"]
    assert len(await school.meetings()) == 1
    assert free_slots(stack) == stack.slots - 1
    assert (await school.end("twice", "anna")).is_success


async def test_other_teacher_does_not_get_the_meeting(stack: Stack, school: School) -> None:
    links = await links_of(school, "mine", "anna")
    answer = await school.start("mine", "boris")
    assert answer.status_code == 403
    assert str(links["zoom_meeting_id"]) not in answer.text
    assert (await school.end("mine", "anna")).is_success


async def test_end_in_the_web_app_ends_and_deletes_the_meeting(stack: Stack, school: School) -> None:
    links = await links_of(school, "ended", "anna")
    meeting = int(links["zoom_meeting_id"])
    await school.join(meeting, "anna", start_url=links["zoom_start_url"])
    assert (await school.end("ended", "anna")).is_success
    await wait_until_async(lambda: _is_gone(school, meeting), "the meeting is deleted at Zoom")
    outcome = wait_until(lambda: outcome_of(stack, "ended"), "the lease is over")
    assert outcome is not None


async def _is_gone(school: School, meeting: int) -> bool:
    return meeting not in [each["id"] for each in await school.meetings()]


async def test_all_hosts_busy_is_said_with_when_to_come_again(stack: Stack, school: School) -> None:
    meetings = [
        int((await links_of(school, f"full-{n}", f"teacher-{n}"))["zoom_meeting_id"]) for n in range(stack.slots)
    ]
    answer = await school.start("one-too-many", "late")
    assert answer.status_code == 503
    assert answer.json()["code"] == "pool_exhausted"
    assert int(answer.headers["Retry-After"]) > 0
    assert len(set(meetings)) == stack.slots
    for n in range(stack.slots):
        assert (await school.end(f"full-{n}", f"teacher-{n}")).is_success


async def test_lost_webhooks_are_made_up_for_by_asking_zoom(stack: Stack, school: School) -> None:
    await school.webhooks(loss=1)
    links = await links_of(school, "unheard", "anna")
    meeting = int(links["zoom_meeting_id"])
    await school.join(meeting, "anna", start_url=links["zoom_start_url"])
    await wait_until_async(lambda: _has_phase(stack, "unheard", Phase.LIVE), "reconcile finds that the meeting runs")
    await school.end_in_zoom(meeting)
    outcome = wait_until(lambda: outcome_of(stack, "unheard"), "reconcile finds that the meeting is over", 25)
    assert outcome is not None
    assert outcome.reason is ReleaseReason.RECONCILED
