"""A ten o'clock rush: more teachers than hosts press "start lesson" within a second, and lessons take their course.

Teachers and pupils do here what people do: press start (some twice), wait in line when all hosts are busy, join, leave
in any order, come again, press "end" in Zoom or in the web app, or just go away. Nothing here looks into Redis:
teachers know the HTTP interface, people in meetings know Zoom.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import httpx
import structlog

from broker.errors import ZoomPoolError
from broker.testing.school import School

log = structlog.get_logger(__name__)

AT_ONCE = {"Prefer": "respond-async"}
PATIENTLY = {"Prefer": "wait=10"}
ANSWER_S = 40.0
"""Longer than any wait that the API agrees to."""


class Stage(StrEnum):
    """How far a lesson is, as its teacher sees it."""

    BEFORE = "before ten"
    STARTING = "starting"
    QUEUED = "in line"
    REFUSED = "all busy, tries again"
    RUNNING = "running"
    OVER = "over"
    FAILED = "failed"


class Ending(StrEnum):
    """How a lesson ends."""

    EVERYBODY_LEAVES = "everybody leaves, in any order"
    ENDED_IN_ZOOM = "the teacher ends the meeting in Zoom"
    ENDED_IN_WEB_APP = "the teacher ends the lesson in the web app"


class RushFailed(ZoomPoolError):
    """A lesson went wrong in a way that trying again does not help."""

    code = "rush_failed"


@dataclass(frozen=True)
class Plan:
    """What happens in a rush.

    Attributes:
        lessons: how many; each has its own teacher.
        seed: of everything that is left to chance.
        spread_s: all teachers press start within this time.
        lesson_s: shortest and longest time in a meeting.
        longest_retry_s: the API's Retry-After speaks of lessons that last an hour. These last seconds, so a teacher
            who is told "all busy" comes back after that long at most.
        deadline_s: the whole rush is given up after that.
    """

    lessons: int = 50
    seed: int = 10
    spread_s: float = 1.0
    lesson_s: tuple[float, float] = (1.0, 3.0)
    longest_retry_s: float = 0.8
    deadline_s: float = 90.0


@dataclass
class Lesson:
    """One lesson and what became of it."""

    number: int
    id: str
    teacher: str
    stage: Stage = Stage.BEFORE
    refusals: int = 0
    """How often the answer was "all busy"."""
    mishaps: int = 0
    """How often a request got no usable answer (a lost connection, a 5xx)."""
    queued: bool = False
    """Whether it had to wait in line for a host."""
    start_ms: float | None = None
    """From the press that got a host, or a place in line, to the links; earlier ones that were refused do not count."""
    meeting_id: int = 0
    start_url: str = field(default="", repr=False)
    meetings: set[int] = field(default_factory=set)
    """Every meeting that the API ever named for this lesson; more than one is a fault."""
    problem: str = ""


@dataclass(frozen=True)
class Tally:
    """What the teachers say after the rush.

    Attributes:
        lessons: how many there were.
        started: how many got their links.
        queued: how many of them had to wait in line for a host.
        refused_at_first: how many were told that all are busy, and came back.
        mishaps: requests without a usable answer.
        several_meetings: lessons for which more than one meeting was named.
        start_ms_p50, start_ms_p99: from the press to the links, of those that found a free host.
        queue_ms_p99: the same of those that waited in line.
        seconds: the whole rush.
        problems: of lessons that went wrong, in sentences.
    """

    lessons: int
    started: int
    queued: int
    refused_at_first: int
    mishaps: int
    several_meetings: int
    start_ms_p50: int
    start_ms_p99: int
    queue_ms_p99: int
    seconds: float
    problems: tuple[str, ...]

    @property
    def clean(self) -> bool:
        """Whether every lesson took its course, with one meeting."""
        return self.started == self.lessons and not self.several_meetings and not self.problems


class Rush:
    """One rush against a running system.

    Args:
        school: who presses, joins and leaves.
        plan: how many, how long.
    """

    def __init__(self, school: School, plan: Plan) -> None:
        self.plan = plan
        self.lessons = [Lesson(n, f"lesson-{plan.seed}-{n}", f"teacher-{n}") for n in range(1, plan.lessons + 1)]
        self._school = school
        self._began = 0.0

    def stages(self) -> Counter[Stage]:
        """How many lessons are at each stage, now."""
        return Counter(lesson.stage for lesson in self.lessons)

    async def run(self) -> Tally:
        """Let it happen; returns when every lesson is over or has failed, or the deadline has passed."""
        self._began = time.monotonic()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.plan.deadline_s), asyncio.TaskGroup() as tasks:
                for lesson in self.lessons:
                    tasks.create_task(self._teach(lesson))
        return self._tally()

    async def _teach(self, lesson: Lesson) -> None:
        # A source of chance for each lesson: the order in which tasks happen to run changes nothing.
        chance = random.Random(f"{self.plan.seed}/{lesson.number}")
        await asyncio.sleep(chance.uniform(0, self.plan.spread_s))
        try:
            await self._start(lesson, chance)
            lesson.stage = Stage.RUNNING
            await self._attend(lesson, chance)
            lesson.stage = Stage.OVER
        except (ZoomPoolError, httpx.HTTPError) as error:
            lesson.stage = Stage.FAILED
            lesson.problem = f"{type(error).__name__}: {error}"
            log.warning("lesson failed", lesson=lesson.id, problem=lesson.problem)

    async def _start(self, lesson: Lesson, chance: random.Random) -> None:
        """Press start until there is a meeting."""
        while True:
            lesson.stage = Stage.STARTING
            pressed = time.monotonic()
            presses = 2 if chance.random() < 0.2 else 1  # a double click must not make a second meeting
            answers = await asyncio.gather(*(self._press(lesson) for _ in range(presses)))
            if any(answer is None for answer in answers):
                lesson.mishaps += 1
                await asyncio.sleep(chance.uniform(0.5, 1) * self.plan.longest_retry_s)
                continue
            known = [answer for answer in answers if answer is not None]
            for links in (answer.json() for answer in known if answer.status_code == 200):
                lesson.meetings.add(int(links["zoom_meeting_id"]))
                lesson.meeting_id, lesson.start_url = int(links["zoom_meeting_id"]), links["zoom_start_url"]
            if lesson.meeting_id:
                lesson.start_ms = (time.monotonic() - pressed) * 1000
                return
            lesson.refusals += 1
            lesson.stage = Stage.REFUSED
            asked_s = float(known[0].headers.get("Retry-After", "1"))
            await asyncio.sleep(min(asked_s, self.plan.longest_retry_s) * chance.uniform(0.5, 1))

    async def _press(self, lesson: Lesson) -> httpx.Response | None:
        """Press start once and wait for the links; None when it is worth another try.

        Raises:
            RushFailed: the answer is one that another try will not change.
        """
        # The first answer comes at once and says whether there is a line; then the API does the waiting.
        prefer = AT_ONCE
        while True:
            try:
                answer = await self._school.start(lesson.id, lesson.teacher, headers=prefer, timeout_s=ANSWER_S)
            except httpx.TransportError:
                return None
            if answer.status_code == 202:
                queued = answer.json()["status"] == "queued"
                lesson.queued |= queued
                lesson.stage = Stage.QUEUED if queued else Stage.STARTING
                prefer = PATIENTLY
                continue
            code = _code(answer)
            if answer.status_code == 200 or code == "pool_exhausted":
                return answer
            if answer.status_code >= 500:
                log.warning("start failed, trying again", lesson=lesson.id, status=answer.status_code, code=code)
                return None
            raise RushFailed(f"{lesson.id}: start answered {answer.status_code} {code or answer.text[:200]}")

    async def _attend(self, lesson: Lesson, chance: random.Random) -> None:
        """The lesson itself: the teacher comes first, pupils come and go, and somehow it ends."""
        school, meeting = self._school, lesson.meeting_id
        ending = chance.choice([*Ending, Ending.EVERYBODY_LEAVES])
        teacher = await school.join(meeting, lesson.teacher, start_url=lesson.start_url)
        ends_at = time.monotonic() + chance.uniform(*self.plan.lesson_s)
        present = [teacher]
        for n in range(chance.randint(1, 3)):
            await asyncio.sleep(chance.uniform(0, 0.2))
            present.append(await school.join(meeting, f"pupil {n + 1} of {lesson.number}"))
        if chance.random() < 0.3:
            # A pupil's connection breaks, and comes back as a new participant.
            gone = present.pop()
            await school.leave(meeting, gone)
            await asyncio.sleep(chance.uniform(0, 0.3))
            present.append(await school.join(meeting, f"pupil of {lesson.number}, back again"))
        if chance.random() < 0.2:
            # The teacher reloads the page of the lesson: the same meeting.
            await self._look_again(lesson)
        await asyncio.sleep(max(ends_at - time.monotonic(), 0))
        await self._finish(lesson, chance, ending, present)

    async def _finish(self, lesson: Lesson, chance: random.Random, ending: Ending, present: list[str]) -> None:
        """The time is up."""
        school, meeting = self._school, lesson.meeting_id
        match ending:
            case Ending.ENDED_IN_ZOOM:
                await school.end_in_zoom(meeting)
            case Ending.ENDED_IN_WEB_APP:
                await self._end_in_web_app(lesson)
            case Ending.EVERYBODY_LEAVES:
                chance.shuffle(present)
                for participant in present:
                    await school.leave(meeting, participant)
                    await asyncio.sleep(chance.uniform(0, 0.1))

    async def _look_again(self, lesson: Lesson) -> None:
        answer = await self._press(lesson)
        if answer is not None and answer.status_code == 200:
            lesson.meetings.add(int(answer.json()["zoom_meeting_id"]))

    async def _end_in_web_app(self, lesson: Lesson) -> None:
        while True:
            with contextlib.suppress(httpx.TransportError):
                answer = await self._school.end(lesson.id, lesson.teacher, timeout_s=ANSWER_S)
                # 404 and 409: it ended by itself while the request was on its way or was sent again.
                if answer.is_success or answer.status_code in (404, 409):
                    return
                if answer.status_code < 500:
                    raise RushFailed(f"{lesson.id}: end answered {answer.status_code} {_code(answer)}")
            lesson.mishaps += 1
            await asyncio.sleep(self.plan.longest_retry_s)

    def _tally(self) -> Tally:
        started = [lesson for lesson in self.lessons if lesson.start_ms is not None]
        times, in_line = (
            sorted(lesson.start_ms or 0.0 for lesson in started if lesson.queued is queued) for queued in (False, True)
        )
        for lesson in self.lessons:
            if lesson.stage not in (Stage.OVER, Stage.FAILED):
                lesson.problem = f"not over after {self.plan.deadline_s:.0f} s: {lesson.stage}"
        return Tally(
            lessons=len(self.lessons),
            started=len(started),
            queued=len(in_line),
            refused_at_first=sum(lesson.refusals > 0 for lesson in self.lessons),
            mishaps=sum(lesson.mishaps for lesson in self.lessons),
            several_meetings=sum(len(lesson.meetings) > 1 for lesson in self.lessons),
            start_ms_p50=round(percentile(times, 50)),
            start_ms_p99=round(percentile(times, 99)),
            queue_ms_p99=round(percentile(in_line, 99)),
            seconds=round(time.monotonic() - self._began, 1),
            problems=tuple(f"{lesson.id}: {lesson.problem}" for lesson in self.lessons if lesson.problem),
        )


def percentile(ordered: list[float], percent: float) -> float:
    """The nearest-rank percentile of an ordered list; 0 of an empty one."""
    if not ordered:
        return 0.0
    rank = -(-len(ordered) * percent // 100)
    return ordered[max(int(rank), 1) - 1]


def _code(answer: httpx.Response) -> str:
    """The stable code of a problem; empty when the body has none."""
    try:
        body: Any = answer.json()
    except ValueError:
        return ""
    return str(body.get("code", "")) if isinstance(body, dict) else ""
