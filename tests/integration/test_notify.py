"""Events reach the web app, once each, whatever dies in between."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Iterator

import pytest
from redis import Redis
from rq import Queue
from rq.serializers import JSONSerializer

from broker import outbound
from broker.jobs import NOTIFY
from broker.models import ReleaseReason
from broker.notifications import Notification
from broker.redis import connect
from tests.integration.conftest import School
from tests.integration.test_webhook_events import ready
from tests.web_app import WebApp, listening_web_app
from workers import notify as notify_jobs
from workers.context import open_context
from workers.notify import GROUP, notify, relay_once

SECRET = "whsec_bWFkZS11cC1zZWNyZXQtZm9yLXRlc3Rz"


@pytest.fixture
def web_app(school: School, monkeypatch: pytest.MonkeyPatch) -> Iterator[WebApp]:
    """A web app that the jobs are told of."""
    with listening_web_app(SECRET) as app:
        monkeypatch.setenv("ZOOMPOOL_NOTIFY_URL", app.url)
        monkeypatch.setenv("ZOOMPOOL_NOTIFY_SECRET", SECRET)
        monkeypatch.setenv("ZOOMPOOL_NOTIFY_ALLOWED_HOSTS", "127.0.0.1")
        yield app


@pytest.fixture
def queues(school: School) -> Iterator[Redis]:
    connection = connect(school.settings, decode_responses=False)
    yield connection
    connection.close()


async def read(*, pending: bool = False) -> int:
    """One round of the relay."""
    async with open_context() as context:
        return await relay_once(context, pending=pending, block_s=0)


def waiting(connection: Redis) -> list[Notification]:
    """The notifications in the queue."""
    jobs = Queue(NOTIFY.queue, connection=connection, serializer=JSONSerializer).jobs
    return [Notification(**job.args[0]) for job in jobs]


async def deliver(connection: Redis) -> None:
    """Do what waits in the queue."""
    for message in waiting(connection):
        await notify(dataclasses.asdict(message))


async def test_lesson_is_told_from_ready_to_ended(school: School, web_app: WebApp, queues: Redis) -> None:
    lease = await ready(school)
    await school.broker.run(school.pool.release([lease.id], ReleaseReason.ENDED))
    assert await read() == 2
    await deliver(queues)
    assert web_app.types() == ["lesson.ready", "lesson.ended"]
    data = web_app.received[0]["data"]
    assert (data["lesson_id"], data["teacher_id"], data["zoom_meeting_id"]) == ("algebra", "anna", lease.meeting_id)
    assert "start_url" not in str(web_app.received)


async def test_running_lesson_is_told_with_its_join_link(school: School, web_app: WebApp, queues: Redis) -> None:
    lease = await ready(school)
    await read()
    await deliver(queues)
    assert web_app.received[0]["data"]["zoom_join_url"] == lease.join_url


async def test_event_that_was_read_and_not_acknowledged_is_read_again(
    school: School, web_app: WebApp, queues: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    await ready(school)

    async def die(*args: object) -> int:
        raise asyncio.CancelledError

    with monkeypatch.context() as killed:
        killed.setattr(notify_jobs, "_enqueue", die)
        with pytest.raises(asyncio.CancelledError):
            await read()
    assert await read() == 0  # nothing new
    assert await read(pending=True) == 1
    assert [message.type for message in waiting(queues)] == ["lesson.ready"]
    assert await read(pending=True) == 0


async def test_killed_between_enqueueing_and_acknowledging_the_event_is_still_one_job(
    school: School, web_app: WebApp, queues: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    await ready(school)
    async with open_context() as context:
        with monkeypatch.context() as killed:
            killed.setattr(type(context.redis), "xack", die_at_once)
            with pytest.raises(asyncio.CancelledError):
                await relay_once(context, pending=False, block_s=0)
    assert len(waiting(queues)) == 1
    assert await read(pending=True) == 0
    assert len(waiting(queues)) == 1


async def die_at_once(*args: object) -> None:
    raise asyncio.CancelledError


async def test_more_events_than_a_page_are_all_read_again(
    school: School, web_app: WebApp, queues: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notify_jobs, "PAGE", 3)
    await ready(school)
    await read()  # makes the group, and leaves entries unread
    await school.broker.redis.xgroup_setid(school.pool.keys.events, GROUP, "0")
    while await school.broker.redis.xreadgroup(GROUP, notify_jobs.CONSUMER, {school.pool.keys.events: ">"}, count=3):
        pass
    await read(pending=True)
    summary = await school.broker.redis.xpending(school.pool.keys.events, GROUP)
    assert summary["pending"] == 0
    assert [message.type for message in waiting(queues)] == ["lesson.ready"]


async def test_entry_that_cannot_be_read_does_not_hold_up_the_rest(
    school: School, web_app: WebApp, queues: Redis
) -> None:
    await read()  # makes the group
    await school.broker.redis.xadd(school.pool.keys.events, {"foreign": "data"})
    await ready(school)
    assert await read() == 1


async def test_nothing_is_told_twice_by_two_relays(school: School, web_app: WebApp, queues: Redis) -> None:
    await ready(school)
    await read()
    await school.broker.redis.xgroup_setid(school.pool.keys.events, GROUP, "0")
    await asyncio.gather(read(), read())
    assert len(waiting(queues)) == 1


def test_retries_go_on_for_about_a_day() -> None:
    assert 23 * 3600 < sum(NOTIFY.retry_after_s) < 25 * 3600


async def test_address_inside_our_network_is_never_asked(
    school: School, web_app: WebApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZOOMPOOL_NOTIFY_ALLOWED_HOSTS", "")
    monkeypatch.setenv("ZOOMPOOL_NOTIFY_URL", web_app.url.replace("http:", "https:"))
    with pytest.raises(outbound.AddressRefused):
        await notify(dataclasses.asdict(Notification("msg_0", "lesson.live", 1, {})))
    assert web_app.ids == []
