"""Lessons that start all the time, held by people who do not wait for ever."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import Counter
from dataclasses import dataclass
from enum import StrEnum

import httpx
import structlog

from broker.errors import ZoomPoolError
from broker.testing.rush import Ending, Lesson, Plan, Rush, Stage
from broker.testing.school import School

log = structlog.get_logger(__name__)

PATIENCE_S = 25.0
"""After that a teacher gives up."""
WAIT_S = 10
END_S = 30.0
"""After that a teacher who pressed "end" in vain just goes."""
HANGS_UP = 0.08
"""How many teachers hang up in the middle of the start, and never come back."""


class Fate(StrEnum):
    """What became of a lesson, as its teacher sees it."""

    STARTED = "started"
    REFUSED = "refused"
    """The last answer before the teacher gave up named a reason, or said that it goes on."""
    UNANSWERED = "unanswered"
    """There was none: connections broke, or nothing came in time."""
    HUNG_UP = "hung up"
    BROKEN_OFF = "broken off"
    """It started, and its meeting vanished before anybody had ended it."""


@dataclass(frozen=True)
class Outcomes:
    """What the teachers say in the end.

    Attributes:
        asked: how many pressed start.
        started: how many got a meeting, those that were broken off included.
        refused: how many gave up, by the code of their last answer, or its status if it said that it goes on.
        unanswered: how many gave up without an answer.
        hung_up: how many did not want one.
        broken_off: how many lost their meeting.
        several_meetings: how many were told of more than one meeting: the first was gone when they came back.
        shared_slots: meetings that two lessons were told of.
        problems: what should not happen at all, in sentences.
    """

    asked: int
    started: int
    refused: dict[str, int]
    unanswered: int
    hung_up: int
    broken_off: int
    several_meetings: int
    shared_slots: int
    problems: tuple[str, ...]


class Lessons(Rush):
    """A steady stream of lessons.

    Args:
        school: who presses, joins and leaves.
        rate: how many start in a second.
        seconds: for how long.
        seed: of everything that is left to chance.
    """

    def __init__(self, school: School, *, rate: float, seconds: float, seed: int) -> None:
        # Those who lost a meeting may wait, and the last ones start when everything else is over.
        longest_s = seconds + PATIENCE_S + 2 * END_S
        plan = Plan(lessons=max(round(rate * seconds), 1), seed=seed, spread_s=seconds, deadline_s=longest_s)
        super().__init__(school, plan)
        self.fates: dict[str, Fate] = {}
        self._codes: dict[str, str] = {}

    def outcomes(self) -> Outcomes:
        """What became of all lessons so far."""
        fates = Counter(self.fates.values())
        refused = Counter(self._codes[id] for id, fate in self.fates.items() if fate is Fate.REFUSED)
        told = Counter(meeting for lesson in self.lessons for meeting in lesson.meetings)
        return Outcomes(
            asked=sum(lesson.stage is not Stage.BEFORE for lesson in self.lessons),
            started=fates[Fate.STARTED] + fates[Fate.BROKEN_OFF],
            refused=dict(sorted(refused.items())),
            unanswered=fates[Fate.UNANSWERED],
            hung_up=fates[Fate.HUNG_UP],
            broken_off=fates[Fate.BROKEN_OFF],
            several_meetings=sum(len(lesson.meetings) > 1 for lesson in self.lessons),
            shared_slots=sum(lessons > 1 for lessons in told.values()),
            problems=tuple(f"{lesson.id}: {lesson.problem}" for lesson in self.lessons if lesson.problem),
        )

    async def _teach(self, lesson: Lesson) -> None:
        chance = random.Random(f"{self.plan.seed}/{lesson.number}")
        await asyncio.sleep(chance.uniform(0, self.plan.spread_s))
        hangs_up = chance.random() < HANGS_UP
        patience_s = chance.uniform(0.05, 1.0) if hangs_up else PATIENCE_S
        try:
            async with asyncio.timeout(patience_s):
                await self._start(lesson, chance)
        except TimeoutError:
            if not lesson.meeting_id:
                code = self._codes.get(lesson.id)
                lesson.stage = Stage.FAILED
                self.fates[lesson.id] = Fate.HUNG_UP if hangs_up else Fate.REFUSED if code else Fate.UNANSWERED
                return
        except (ZoomPoolError, httpx.HTTPError) as error:
            self._fail(lesson, error)
            return
        if hangs_up:
            lesson.stage, self.fates[lesson.id] = Stage.FAILED, Fate.HUNG_UP
            return
        lesson.stage, self.fates[lesson.id] = Stage.RUNNING, Fate.STARTED
        try:
            await self._attend(lesson, chance)
        except (ZoomPoolError, httpx.HTTPError) as error:
            if isinstance(error, httpx.HTTPStatusError) and error.response.status_code == httpx.codes.NOT_FOUND:
                self._break_off(lesson, "it vanished before everybody was in")
            else:
                self._fail(lesson, error)
        lesson.stage = Stage.OVER

    async def _press(self, lesson: Lesson) -> httpx.Response | None:
        """Press start once. Whatever comes, the teacher tries again until the patience is at its end."""
        try:
            prefer = {"Prefer": f"wait={WAIT_S}"}
            answer = await self._school.start(lesson.id, lesson.teacher, headers=prefer, timeout_s=PATIENCE_S)
        except httpx.TransportError:
            self._codes.pop(lesson.id, None)
            return None
        if answer.status_code == httpx.codes.ACCEPTED:
            status = self._codes[lesson.id] = str(answer.json()["status"])
            if lesson.stage in (Stage.STARTING, Stage.QUEUED):  # and not one whose teacher looks at the page again
                lesson.stage = Stage.QUEUED if status == "queued" else Stage.STARTING
            return None
        if answer.status_code != httpx.codes.OK:
            self._codes[lesson.id] = _code(answer)
        return answer

    async def _finish(self, lesson: Lesson, chance: random.Random, ending: Ending, present: list[str]) -> None:
        """End it, if it still runs."""
        inside = [person for person in present if await self._school.is_inside(lesson.meeting_id, person)]
        if not inside:
            self._break_off(lesson, "everybody was thrown out")
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(END_S):
                await super()._finish(lesson, chance, ending, present)

    def _break_off(self, lesson: Lesson, why: str) -> None:
        self.fates[lesson.id] = Fate.BROKEN_OFF
        log.warning("lesson broken off", lesson=lesson.id, meeting_id=lesson.meeting_id, why=why)

    def _fail(self, lesson: Lesson, error: Exception) -> None:
        lesson.stage, lesson.problem = Stage.FAILED, f"{type(error).__name__}: {error}"
        log.warning("lesson failed", lesson=lesson.id, problem=lesson.problem)


def _code(answer: httpx.Response) -> str:
    """The stable code of a problem, or its status where there is none."""
    try:
        return str(answer.json()["code"])
    except (ValueError, KeyError, TypeError):
        return str(answer.status_code)
