"""A lesson's way to its meeting as server-sent events (WHATWG HTML, section 9.2).

Whoever reads the stream of a lesson that waits in line keeps its place. A reader who is cut off has `ticket_ttl_s` to
come back, which browsers do by themselves.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator

from pydantic import BaseModel

from api.errors import translate
from api.lessons import Lessons, Start
from api.messages import PROBLEMS
from api.schemas import LessonProgress, LessonStatus, StartedLesson

STREAM_S = 10 * 60
"""A stream ends after this, and the browser opens the next."""
TELL_S = 3.0
"""How often a place in line is told."""
COMMENT_S = 10.0
"""Silence after which a comment goes out: proxies cut connections that seem dead."""
MEDIA_TYPE = "text/event-stream"
SCHEMA = {
    "type": "object",
    "description": "Each event of the stream, as OpenAPI 3.1 describes streams.",
    "required": ["event", "data"],
    "properties": {
        "event": {"type": "string", "enum": ["progress", "ready", "failed"]},
        "data": {"type": "string", "contentMediaType": "application/json"},
    },
}


async def stream(lessons: Lessons, wanted: Start, language: str) -> AsyncIterator[str]:
    """The events: `progress` on the way, then one of `ready` and `failed`, and the end.

    Args:
        lessons: does it.
        wanted: the start that is followed; it takes the lesson's place in line again, or finds its meeting.
        language: of the sentence in `failed`.
    """
    told: object = None
    try:
        async with (
            contextlib.aclosing(lessons.steps(wanted, STREAM_S, TELL_S)) as steps,
            contextlib.aclosing(with_pauses(steps, COMMENT_S)) as paced,
        ):
            async for step in paced:
                if isinstance(step, StartedLesson):
                    yield event("ready", step)
                elif step is not None and told != (told := (step.status, step.position, step.estimate_s)):
                    yield event("progress", step)
                else:
                    yield ": nothing new\n\n"
    except Exception as error:
        problem = translate(error)
        yield event("failed", _Failure(code=problem.code, detail=PROBLEMS[problem.code][language]))


class _Failure(BaseModel):
    status: LessonStatus = LessonStatus.FAILED
    code: str
    detail: str


def event(name: str, data: BaseModel) -> str:
    """One event. JSON of pydantic has no line breaks, which would end it."""
    return f"event: {name}\ndata: {data.model_dump_json()}\n\n"


async def with_pauses(
    steps: AsyncIterator[StartedLesson | LessonProgress], pause_s: float
) -> AsyncGenerator[StartedLesson | LessonProgress | None, None]:
    """The same, with None whenever nothing came for `pause_s`."""
    coming: asyncio.Future[StartedLesson | LessonProgress] | None = None
    try:
        while True:
            coming = coming or asyncio.ensure_future(anext(steps))
            done, _ = await asyncio.wait({coming}, timeout=pause_s)
            if not done:
                yield None
                continue
            try:
                step = coming.result()
            except StopAsyncIteration:
                return
            coming = None
            yield step
    finally:
        if coming is not None and not coming.done():
            coming.cancel()
            await asyncio.wait({coming}, timeout=1)
