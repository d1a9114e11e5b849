"""A verdict that could not be bad would be worth nothing."""

from __future__ import annotations

from broker.cli.demo import last_line
from broker.models import Event
from broker.testing.rush import Tally, percentile
from broker.testing.school import School
from broker.testing.stack import Stack
from broker.testing.verdict import Verdict, judge, misgranted
from tests.acceptance.lessons import links_of

TALLY = Tally(
    lessons=2,
    started=1,
    queued=0,
    refused_at_first=1,
    mishaps=0,
    several_meetings=0,
    start_ms_p50=5,
    start_ms_p99=9,
    queue_ms_p99=0,
    seconds=1.5,
    problems=("lesson-1: not over",),
)


async def test_lesson_that_runs_counts_as_taken_and_left_behind(stack: Stack, school: School) -> None:
    await links_of(school, "left", "anna")
    verdict = await judge(stack.broker, school, slots=stack.slots)
    assert (verdict.leaked_slots, verdict.orphan_meetings, verdict.double_booked) == (1, 1, 0)
    assert not verdict.clean
    assert (await school.end("left", "anna")).is_success


async def test_keys_that_contradict_each_other_are_seen(stack: Stack, school: School) -> None:
    lost = f"{stack.accounts[0].id}#0"
    keys = stack.broker.pool().keys
    rank = stack.broker.redis.zscore(keys.free, lost)
    assert rank is not None
    stack.broker.redis.zrem(keys.free, lost)
    verdict = await judge(stack.broker, school, slots=stack.slots)
    stack.broker.redis.zadd(keys.free, {lost: float(str(rank))})
    assert verdict.leaked_slots == 1
    assert any(lost in violation for violation in verdict.invariant_violations)


def test_last_line_has_counts_only() -> None:
    line = last_line(TALLY, Verdict(1, 2, 3, ("a slot in two sets",)))
    wanted = {"double_booked": 1, "leaked_slots": 2, "orphan_meetings": 3, "invariant_violations": 1, "failed": 1}
    assert {name: line[name] for name in wanted} == wanted
    assert all(isinstance(value, int | float) for value in line.values())


def test_percentiles_are_values_that_occurred() -> None:
    times = [float(n) for n in range(1, 51)]
    assert (percentile(times, 50), percentile(times, 99), percentile(times, 100)) == (25, 50, 50)
    assert percentile([7.0], 99) == 7
    assert percentile([], 50) == 0


def event(type: str, lease: str, **fields: str) -> Event:
    return Event("default", "1-1", type, "algebra", lease, fields)


def test_slot_of_two_lessons_at_a_time_is_seen() -> None:
    first, second = event("lease.claimed", "host#0@1"), event("lease.claimed", "host#0@2")
    (sentence,) = misgranted([first, second])
    assert sentence == "slot host#0 was given to host#0@2 while host#0@1 had it"
    assert not list(misgranted([first, event("lease.released", "host#0@1"), second]))
    late = event("lease.released", "host#0@0")
    assert list(misgranted([first, late, second])), "the end of an earlier lease frees nothing"


def test_lesson_that_moves_leaves_its_slot_behind() -> None:
    moved = [event("lease.claimed", "host#0@1"), event("lease.moved", "other#0@2", **{"from": "host#0@1"})]
    assert not list(misgranted([*moved, event("lease.claimed", "host#0@3")]))
    assert list(misgranted([*moved, event("lease.claimed", "other#0@3")]))


def test_fence_that_does_not_grow_is_seen() -> None:
    assert list(misgranted([event("lease.claimed", "host#0@2"), event("lease.claimed", "host#1@2")]))
