"""How often the steps of a lesson ask Redis and wait for the answer: whoever adds a question changes a number here.

A round trip is what counts at ten o'clock: each start asks these questions one after the other, and a thousand starts
ask each of them a thousand times. Commands that travel together count once; how many commands a script runs inside
Redis is pinned in `tests/lua/test_commands.py`. Each step is taken when everything is warm: connections open, scripts
loaded, Zoom's token known, and another caller of the same pool waiting, so that the process listens already.

| step | in the API | in the job |
|---|---|---|
| a lesson is started on the pool, waited for and answered with its links | `START` | `CREATE` |
| the same on the teacher's own Zoom account | `OWN_START` | `CREATE` |
| the same lesson is started again, and has its meeting | `START_AGAIN` | – |
| a start is turned away because no host is free | `REFUSED` | – |
| Zoom says that the meeting began | `WEBHOOK` | `BEGAN` |
| Zoom says that somebody came in | `WEBHOOK` | `JOINED` |
| Zoom says that the meeting is over | `WEBHOOK` | `OVER` |
| the teacher ends a lesson, waits and is answered | `END` | `END_JOB` |
| a lease is released | – | `RELEASE` |

What RQ itself asks for each job is beside this, and shared by many: see `tests/workers`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
import redis.asyncio.connection
import redis.connection
from fastapi import FastAPI
from pydantic import SecretStr

from broker.models import Credential, Lease, ReleaseReason
from broker.registry import credentials, teachers
from tests.api.acting import bearer, jobs_in, lease_of
from tests.api.conftest import JWT_KEY, WEBHOOK_SECRET, client, serving
from tests.api.test_webhook import body, send
from tests.integration.conftest import School
from tests.waiting import wait_until_async
from workers.context import open_context, share_context
from workers.create_meeting import create_meeting
from workers.end_meeting import end_meeting
from workers.webhook_events import handle_event

START = 5
OWN_START = 11
START_AGAIN = 3
REFUSED = 3
END = 4
WEBHOOK = 1
CREATE = 5
BEGAN = 3
JOINED = 3
OVER = 5
END_JOB = 5
RELEASE = 1

PATIENT = {"Prefer": "wait=30"}
LESSON = "/api/schedule/lessons/{}/"
OWN = "teacher-anna"
HANDSHAKE = {"HELLO", "AUTH", "SELECT", "CLIENT", "PING"}
"""What a new or rested connection begins with; that is no part of a step."""

Trips = list[str]
"""Round trips, each as the names of its commands."""
_trips: ContextVar[Trips | None] = ContextVar("trips", default=None)


@contextmanager
def counted() -> Iterator[Trips]:
    """The round trips of what is begun inside: by this task, and by tasks and threads that it starts."""
    trips: Trips = []
    token = _trips.set(trips)
    try:
        yield trips
    finally:
        _trips.reset(token)


def note(packed: Any) -> None:
    """Note what a connection sends at once."""
    trips = _trips.get()
    if trips is None:
        return
    raw = b"".join(packed) if isinstance(packed, list) else bytes(packed)
    names = list(commands(raw))
    if not HANDSHAKE.issuperset(names):
        trips.append("+".join(names))


def commands(raw: bytes) -> Iterator[str]:
    """The names of the commands in what the protocol calls arrays of bulk strings."""
    position = 0
    while position < len(raw):
        line_end = raw.index(b"\r\n", position)
        count, position = int(raw[position + 1 : line_end]), line_end + 2
        for part in range(count):
            line_end = raw.index(b"\r\n", position)
            size, begin = int(raw[position + 1 : line_end]), line_end + 2
            if part == 0:
                yield raw[begin : begin + size].decode()
            position = begin + size + 2


@pytest.fixture(autouse=True)
def observed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have every connection of this process say what it sends."""
    awaiting, blocking = redis.asyncio.connection.AbstractConnection, redis.connection.AbstractConnection
    send_async, send_blocking = awaiting.send_packed_command, blocking.send_packed_command

    def observed_async(self: Any, command: Any, *args: Any, **options: Any) -> Coroutine[Any, Any, None]:
        note(command := command if isinstance(command, bytes | str) else list(command))
        return send_async(self, command, *args, **options)

    def observed_blocking(self: Any, command: Any, *args: Any, **options: Any) -> None:
        note(command := command if isinstance(command, bytes | str) else list(command))
        send_blocking(self, command, *args, **options)  # type: ignore[no-untyped-call]

    monkeypatch.setattr(awaiting, "send_packed_command", observed_async)
    monkeypatch.setattr(blocking, "send_packed_command", observed_blocking)


@dataclass(frozen=True)
class Site:
    """The API and the jobs, warm."""

    school: School
    app: FastAPI
    http: httpx.AsyncClient

    async def start(self, lesson: str, way: str = "start-new/") -> tuple[Trips, Trips, httpx.Response]:
        """Start a lesson and make its meeting; what that cost the API and the job, and the answer."""
        with counted() as api:
            starting = self._press(lesson, "anna", way)
        queued = await wait_until_async(lambda: self._job(lesson, starting), f"{lesson} has a job")
        with counted() as job:
            assert await create_meeting(*queued) == "ready"
        return api, job, await starting

    @asynccontextmanager
    async def waiting_on(self, lesson: str, teacher: str, way: str = "start-new/") -> AsyncIterator[None]:
        """Inside, a lesson waits whose meeting is not made: so the process listens to its pool all the time."""
        waiting = self._press(lesson, teacher, way)
        await wait_until_async(lambda: self._job(lesson, waiting), f"{lesson} has a job")
        yield
        waiting.cancel()
        await asyncio.wait({waiting})

    def _press(self, lesson: str, teacher: str, way: str) -> asyncio.Task[httpx.Response]:
        path = LESSON.format(lesson) + way
        return asyncio.create_task(self.http.post(path, headers=bearer(teacher) | PATIENT, timeout=30))

    async def _job(self, lesson: str, starting: asyncio.Task[httpx.Response]) -> list[str]:
        """The arguments of the lesson's creation, as soon as it is in the queue."""
        assert not starting.done(), starting.result().text
        for pool in ("default", OWN):
            operations = self.school.broker.pool(pool)
            lease = (await self.school.broker.run(operations.find_lesson(lesson))).lease
            if lease is not None and any(args == [pool, str(lease.id)] for _, args in jobs_in(self.app, "create")):
                return [pool, str(lease.id)]
        return []

    async def webhook(self, event: str, lease: Lease, **more: Any) -> tuple[Trips, Trips, str]:
        """Let Zoom say something of a lease's meeting, and do the job; what that cost, and what the job says."""
        raw = body(event, id=str(lease.meeting_id), uuid=lease.meeting_uuid, **more)
        with counted() as api:
            assert (await send(self.http, raw)).status_code == 200
        (_, (fields,)) = jobs_in(self.app, "webhooks")[-1]
        with counted() as job:
            answer = await handle_event(fields)
        return api, job, answer

    async def ready(self, lesson: str) -> Lease:
        """A lesson with its meeting."""
        await self.start(lesson)
        lease = await lease_of(self.app, lesson)
        assert lease is not None
        return lease


@pytest.fixture
async def site(school: School) -> AsyncIterator[Site]:
    settings = school.settings.model_copy(
        update={
            "jwt_key": SecretStr(JWT_KEY),
            "webhook_secret": SecretStr(WEBHOOK_SECRET),
            "max_leases_per_owner": 5,
            "wait_default_s": 20,
        }
    )
    async with AsyncExitStack() as opened:
        app = await opened.enter_async_context(serving(settings))
        http = await opened.enter_async_context(client(app))
        await opened.enter_async_context(share_context(school.settings))
        site = Site(school, app, http)
        await opened.enter_async_context(site.waiting_on("waiting", "boris"))
        warm = await site.ready("warm")
        for event in ("meeting.started", "meeting.participant_joined", "meeting.ended"):
            await site.webhook(event, warm)
        yield site


async def test_start(site: Site) -> None:
    api, job, answer = await site.start("algebra")
    assert answer.status_code == 200
    assert len(api) == START, api
    assert len(job) == CREATE, job


async def test_start_again(site: Site) -> None:
    await site.start("algebra")
    with counted() as api:
        answer = await site.http.post(LESSON.format("algebra") + "start-new/", headers=bearer("anna"))
    assert answer.status_code == 200
    assert len(api) == START_AGAIN, api


async def test_start_on_the_own_account(site: Site) -> None:
    school = site.school
    app = school.zoom.settings.apps[0]
    await credentials.save(
        school.broker.redis, school.box, Credential(OWN, app.account_id, app.client_id, app.client_secret)
    )
    host = school.zoom.settings.hosts[1].email
    await teachers.save(school.broker.redis, teachers.Teacher("anna", zoom_user_id=host, capacity=3))
    await site.start("warm-too", "start/")
    async with site.waiting_on("waiting-too", "anna", "start/"):
        api, job, answer = await site.start("algebra", "start/")
    assert answer.status_code == 200
    assert len(api) == OWN_START, api
    assert len(job) == CREATE, job


async def test_start_that_is_turned_away(site: Site) -> None:
    for lesson in ("algebra", "botany"):
        await site.start(lesson)
    with counted() as api:
        answer = await site.http.post(LESSON.format("chemistry") + "start-new/", headers=bearer("anna"))
    assert answer.json()["code"] == "pool_exhausted"
    assert len(api) == REFUSED, api


async def test_webhooks(site: Site) -> None:
    lease = await site.ready("algebra")
    costs = {}
    for event, more in (
        ("meeting.started", {}),
        ("meeting.participant_joined", {"participant": {"user_id": "1", "participant_uuid": "p"}}),
        ("meeting.ended", {}),
    ):
        api, job, answer = await site.webhook(event, lease, **more)
        assert answer in ("done", "released"), (event, answer)
        assert len(api) == WEBHOOK, api
        costs[event.removeprefix("meeting.")] = job
    assert {event: len(job) for event, job in costs.items()} == {
        "started": BEGAN,
        "participant_joined": JOINED,
        "ended": OVER,
    }, costs


async def test_end_of_a_lesson(site: Site) -> None:
    lease = await site.ready("algebra")
    with counted() as api:
        ending = asyncio.create_task(
            site.http.post(LESSON.format("algebra") + "end/", headers=bearer("anna") | PATIENT)
        )

    async def queued() -> bool:
        return ("end_meeting", ["default", str(lease.id), "ended_by_owner", "algebra"]) in jobs_in(site.app, "create")

    await wait_until_async(queued, "it has a job")
    with counted() as job:
        assert await end_meeting("default", str(lease.id), ReleaseReason.ENDED_BY_OWNER, lease.lesson) == "released"
    assert (await ending).json()["status"] == "ended"
    assert len(api) == END, api
    assert len(job) == END_JOB, job


async def test_release(site: Site) -> None:
    lease = await site.ready("algebra")
    async with open_context() as context:
        with counted() as trips:
            await context.broker.run(context.broker.pool().release([lease.id], ReleaseReason.ENDED))
    assert len(trips) == RELEASE, trips
