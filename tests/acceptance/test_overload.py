"""More lessons than hosts, for a while: everybody is served in turn, or told in time that he is not.

What keeps anybody from waiting for ever is that a priority is a head start and nothing more (`Priority`): a lesson
within its scheduled time stands as if it had been asked for two minutes earlier, so it overtakes those who asked within
these two minutes, and whoever has waited for longer is overtaken by nobody. Here that is shown over HTTP, with a place
in line that is made two minutes older; `tests/lua/test_queue.py` lets the time pass.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest

from broker.models import Event, Priority
from broker.testing.environment import everyday_zoom, example_accounts
from broker.testing.school import School, mint_token
from broker.testing.stack import Stack
from broker.testing.zoom_simulator import Latency
from tests.acceptance.lessons import links_of
from tests.waiting import wait_until_async

ACCOUNTS = example_accounts(5, (1,))
LESSON_S = 1.0
"""How long a lesson keeps its host once it has its links: so five hosts serve fewer than five lessons in a second."""
OFFERED_PER_S = 20
OFFER_S = 6.0
WAIT_S = 8
LATE_S = 8.0
"""By how much an answer may be later than its caller's deadline, on a machine that has other things to do."""
TICKET_TTL_S = 3.0
ZOOM = everyday_zoom(ACCOUNTS).model_copy(update={"latency": Latency(ms=20)})
SETTINGS = {"ticket_ttl_s": TICKET_TTL_S, "starts_per_min": 0, "creations_per_s": 0, "reserve_lessons": False}


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    """The running system, with five hosts."""
    with Stack(ACCOUNTS, settings=SETTINGS, zoom=ZOOM) as running:
        yield running


@pytest.fixture
async def school(stack: Stack) -> AsyncIterator[School]:
    async with stack.school() as people:
        yield people


@dataclass
class Asked:
    """One start and what came of it. Times on the monotonic clock."""

    lesson: str
    scheduled: bool
    asked_s: float = field(default_factory=time.monotonic)
    answered_s: float = 0.0
    status: int = 0
    code: str = ""

    @property
    def teacher(self) -> str:
        return f"teacher-of-{self.lesson}"

    @property
    def served(self) -> bool:
        return self.status == httpx.codes.OK


async def press(school: School, asked: Asked, *, wait_s: float = WAIT_S) -> Asked:
    """Start a lesson, hold it for a while once it has its host, and end it; who is told to come back gives up."""
    answer = await school.start(
        asked.lesson, asked.teacher, headers={"Prefer": f"wait={wait_s:g}"}, timeout_s=wait_s + 30
    )
    asked.answered_s, asked.status = time.monotonic(), answer.status_code
    asked.code = answer.json().get("code", "")
    if asked.served:
        await asyncio.sleep(LESSON_S)
    # Also of a lesson that got its host in the very moment when its time to wait was over.
    await school.end(asked.lesson, asked.teacher)
    return asked


async def register(stack: Stack, lesson: str) -> None:
    """Enter a lesson that began this minute, as the web app does."""
    token = mint_token(stack.settings.jwt_key, "web-app", "service")
    starts = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() - 60))
    body = {"teacher": f"teacher-of-{lesson}", "title": lesson, "starts_at": starts, "duration": 60}
    async with httpx.AsyncClient(base_url=stack.api_url, trust_env=False, timeout=30) as web_app:
        answer = await web_app.put(
            f"/api/schedule/lessons/{lesson}/", json=body, headers={"Authorization": f"Bearer {token}"}
        )
    answer.raise_for_status()


async def in_line(stack: Stack) -> list[str]:
    """Who waits, first in line first."""
    found: Any = stack.broker.redis.zrange(stack.broker.pool().keys.waiting, 0, -1)
    return list(found)


def events(stack: Stack) -> list[Event]:
    """What happened in the pool so far."""
    newest_first = stack.broker.run(stack.broker.pool().events(count=10_000))
    return list(reversed(newest_first))


@asynccontextmanager
async def full(stack: Stack, school: School) -> AsyncIterator[list[Asked]]:
    """Inside, every host has a lesson; those that are still there in the end are ended."""
    holders = [Asked(f"holder-{number}", scheduled=False) for number in range(stack.slots)]
    for holder in holders:
        await links_of(school, holder.lesson, holder.teacher)
    yield holders
    for holder in holders:
        await school.end(holder.lesson, holder.teacher)


async def stands(stack: Stack, *lessons: str) -> None:
    """Wait until these, and nobody else, are in line."""

    async def so() -> bool:
        return await in_line(stack) == list(lessons)

    await wait_until_async(so, f"{lessons} are in line")


async def test_under_overload_everybody_is_served_in_turn_or_told_in_time(stack: Stack, school: School) -> None:
    every_s, scheduled_each = 1 / OFFERED_PER_S, 7
    asked = [Asked(f"lesson-{n:03d}", n % scheduled_each == 0) for n in range(int(OFFERED_PER_S * OFFER_S))]
    await asyncio.gather(*(register(stack, one.lesson) for one in asked if one.scheduled))
    pressed = []
    for one in asked:
        one.asked_s = time.monotonic()
        pressed.append(asyncio.create_task(press(school, one)))
        await asyncio.sleep(every_s)
    await asyncio.gather(*pressed)

    told = {(one.status, one.code) for one in asked}
    assert told == {(200, ""), (202, "")}, "more came than could be served, and nobody was turned away"
    late = [one for one in asked if one.answered_s > one.asked_s + WAIT_S + LATE_S]
    assert late == []
    assert all(one.served for one in asked if one.scheduled), "fewer than there is room for, so all of them"
    assert sum(one.served for one in asked if not one.scheduled) >= stack.slots, "and those behind them as well"

    # In turn: whoever came later has no host before one who came earlier. As many as there are hosts may be next at the
    # same time, and then each takes his own when he comes to it.
    arrived: defaultdict[bool, list[str]] = defaultdict(list)
    served: defaultdict[bool, list[str]] = defaultdict(list)
    scheduled = {one.lesson: one.scheduled for one in asked}
    for event in events(stack):
        if event.lesson not in scheduled:
            continue
        kind = scheduled[event.lesson]
        if event.type in ("ticket.queued", "lease.claimed") and event.lesson not in arrived[kind]:
            arrived[kind].append(event.lesson)
        if event.type == "lease.claimed":
            served[kind].append(event.lesson)
    for kind, order in served.items():
        places = [arrived[kind].index(lesson) for lesson in order]
        overtaken = [max(places[: n + 1]) - place for n, place in enumerate(places)]
        assert max(overtaken) < 2 * stack.slots, (kind, order)
    await wait_until_async(lambda: idle(stack), "all hosts are free again, and nobody is in line", 30)


async def idle(stack: Stack) -> bool:
    status = stack.broker.run(stack.broker.pool().status())
    stack.broker.run(stack.broker.pool().reap())  # forgets those who were told "queued" and did not come back
    return status.free == stack.slots and status.waiting == 0


async def test_who_has_waited_longer_than_the_head_start_is_served_before_scheduled_lessons(
    stack: Stack, school: School
) -> None:
    async with full(stack, school) as holders:
        patient = Asked("patient", scheduled=False)
        waiting = [asyncio.create_task(press(school, patient, wait_s=30))]
        await stands(stack, "patient")
        for number in range(2):
            await register(stack, f"scheduled-{number}")
        waiting += [asyncio.create_task(press(school, Asked("scheduled-0", scheduled=True), wait_s=30))]
        await stands(stack, "scheduled-0", "patient")
        # What it is after two minutes in line.
        waited_us = (Priority.SCHEDULED + 1000) * 1000
        stack.broker.redis.hincrby(stack.broker.pool().keys.ticket("patient"), "tick", -waited_us)
        waiting += [asyncio.create_task(press(school, Asked("scheduled-1", scheduled=True), wait_s=30))]
        await stands(stack, "patient", "scheduled-0", "scheduled-1")
        await school.end(holders[0].lesson, holders[0].teacher)
        done = [(await each).lesson for each in asyncio.as_completed(waiting)]
        assert done[0] == "patient"
        assert patient.served


CALLER = """
import http.client, sys
connection = http.client.HTTPConnection(sys.argv[1])
connection.request("POST", sys.argv[2], headers={"Authorization": "Bearer " + sys.stdin.read(), "Prefer": "wait=30"})
connection.getresponse()
"""


async def test_killed_caller_gives_his_place_up(stack: Stack, school: School) -> None:
    async with full(stack, school) as holders:
        address, path = stack.api_url.removeprefix("http://"), "/api/schedule/lessons/killed/start-new/"
        pipe = asyncio.subprocess.PIPE
        caller = await asyncio.create_subprocess_exec(sys.executable, "-c", CALLER, address, path, stdin=pipe)
        assert caller.stdin is not None
        caller.stdin.write(school.token("teacher-of-killed").encode())
        caller.stdin.close()
        await stands(stack, "killed")
        alive = Asked("alive", scheduled=False)
        waiting = asyncio.create_task(press(school, alive, wait_s=30))
        await stands(stack, "killed", "alive")
        caller.kill()
        await caller.wait()
        await stands(stack, "alive")
        await school.end(holders[0].lesson, holders[0].teacher)
        assert (await waiting).served


async def test_waiters_of_a_killed_api_delay_nobody_by_more_than_a_heartbeat(stack: Stack, school: School) -> None:
    async with full(stack, school) as holders:
        dead = [f"dead-{number}" for number in range(2 * stack.slots)]
        lost = [asyncio.create_task(press(school, Asked(lesson, scheduled=False), wait_s=30)) for lesson in dead]

        async def all_wait() -> bool:
            return sorted(await in_line(stack)) == sorted(dead)

        await wait_until_async(all_wait, "they are in line")
        stack.kill("api")
        for task in lost:
            with pytest.raises(httpx.TransportError):
                await task
        lapsed_ms = now_ms(stack) + TICKET_TTL_S * 1000
        stack.start("api")
        alive = Asked("late-comer", scheduled=False)
        waiting = asyncio.create_task(press(school, alive, wait_s=30))
        await wait_until_async(lambda: is_in_line(stack, "late-comer"), "he is in line")
        await school.end(holders[0].lesson, holders[0].teacher)
        freed_ms = now_ms(stack)
        assert (await waiting).served
        happened = {(event.type, event.lesson): int(event.id.split("-")[0]) for event in events(stack)}
        assert happened["lease.claimed", "late-comer"] <= max(lapsed_ms, freed_ms) + LATE_S * 1000
        assert all(("ticket.lapsed", lesson) in happened for lesson in dead), "nobody could say that they are gone"


def now_ms(stack: Stack) -> int:
    """Redis's clock, which events go by."""
    return stack.broker.run(stack.broker.pool().status()).now_ms


async def is_in_line(stack: Stack, lesson: str) -> bool:
    return lesson in await in_line(stack)
