"""What the web app does not take is tried again, then kept, then sent again when somebody says so."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from redis import Redis
from rq.job import JobStatus
from rq.serializers import JSONSerializer
from typer.testing import CliRunner

from broker.cli import app as zoompool
from broker.jobs import NOTIFY
from broker.notifications import Notification
from broker.redis import connect
from broker.secrets import new_key
from broker.settings import load_settings
from tests.web_app import WebApp, listening_web_app
from workers.queues import JsonQueue, enqueue
from workers.run import StockWorker

SECRET = "whsec_bWFkZS11cC1zZWNyZXQtZm9yLXRlc3Rz"
MESSAGE = Notification("msg_0", "lesson.live", 1_700_000_000_000, {"lesson_id": "algebra"})


@pytest.fixture
def web_app(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[WebApp]:
    """A web app that the jobs are told of."""
    with listening_web_app(SECRET) as app:
        monkeypatch.setenv("REDIS_URL", redis_url)
        monkeypatch.setenv("ZOOMPOOL_ENVIRONMENT", "development")
        monkeypatch.setenv("ZOOMPOOL_SECRET_KEYS", new_key())
        monkeypatch.setenv("ZOOMPOOL_NOTIFY_URL", app.url)
        monkeypatch.setenv("ZOOMPOOL_NOTIFY_SECRET", SECRET)
        monkeypatch.setenv("ZOOMPOOL_NOTIFY_ALLOWED_HOSTS", "127.0.0.1")
        yield app


@pytest.fixture
def queues(web_app: WebApp) -> Iterator[Redis]:
    connection = connect(load_settings(), decode_responses=False)
    yield connection
    connection.close()


def work(connection: Redis) -> None:
    """Let a stock worker do all that waits."""
    queue = JsonQueue(NOTIFY.queue, connection=connection)
    StockWorker([queue], connection=connection, serializer=JSONSerializer).work(burst=True, logging_level="CRITICAL")


def run(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(zoompool, ["notifications", *arguments])
    return result.exit_code, result.output


def test_delivered_notification_is_done(web_app: WebApp, queues: Redis) -> None:
    enqueue(queues, NOTIFY, dataclasses.asdict(MESSAGE), job_id=MESSAGE.id)
    work(queues)
    job = JsonQueue(NOTIFY.queue, connection=queues).fetch_job(MESSAGE.id)
    assert job is not None
    assert job.get_status() is JobStatus.FINISHED
    assert web_app.types() == ["lesson.live"]


def test_web_app_that_is_down_is_told_later_under_the_same_id(web_app: WebApp, queues: Redis) -> None:
    web_app.answers = [503]
    enqueue(queues, NOTIFY, dataclasses.asdict(MESSAGE), job_id=MESSAGE.id)
    work(queues)
    assert web_app.received == []
    queue = JsonQueue(NOTIFY.queue, connection=queues)
    due = queue.scheduled_job_registry.get_scheduled_time(MESSAGE.id)
    assert due <= datetime.now(UTC) + timedelta(seconds=NOTIFY.retry_after_s[0])
    queue.scheduled_job_registry.remove(MESSAGE.id)
    queue.push_job_id(MESSAGE.id)  # as the scheduler does when it is due
    work(queues)
    assert web_app.types() == ["lesson.live"]
    assert web_app.ids == [MESSAGE.id] * 2


def test_refused_for_good_it_is_a_dead_letter_until_somebody_sends_it_again(web_app: WebApp, queues: Redis) -> None:
    web_app.answers = [500]
    enqueue(queues, dataclasses.replace(NOTIFY, retry_after_s=()), dataclasses.asdict(MESSAGE), job_id=MESSAGE.id)
    work(queues)
    code, listed = run("dead")
    assert code == 0
    assert MESSAGE.id in listed
    assert "answered 500" in listed
    assert run("redeliver", MESSAGE.id) == (0, "1 notification will be sent again\n")
    work(queues)
    assert web_app.types() == ["lesson.live"]
    assert web_app.ids == [MESSAGE.id] * 2
    assert run("dead") == (0, "no dead letters\n")
    code, output = run("redeliver", MESSAGE.id)
    assert (code, "unknown_letter" in output) == (1, True)


def test_all_dead_letters_are_sent_again_in_one_go(web_app: WebApp, queues: Redis) -> None:
    web_app.answers = [500, 500]
    for number in range(2):
        message = dataclasses.replace(MESSAGE, id=f"msg_{number}")
        enqueue(queues, dataclasses.replace(NOTIFY, retry_after_s=()), dataclasses.asdict(message), job_id=message.id)
    work(queues)
    assert run("redeliver", "--all") == (0, "2 notifications will be sent again\n")
    work(queues)
    assert len(web_app.received) == 2


def test_either_one_letter_or_all_must_be_named(web_app: WebApp) -> None:
    assert run("redeliver")[0] == 2
    assert run("redeliver", "msg_0", "--all")[0] == 2


def test_secret_fits_the_setting(web_app: WebApp, monkeypatch: pytest.MonkeyPatch) -> None:
    code, secret = run("secret")
    assert code == 0
    monkeypatch.setenv("ZOOMPOOL_NOTIFY_SECRET", secret.strip())
    assert load_settings().notify_secret.get_secret_value().startswith("whsec_")
