"""The life of a concurrent worker: how many jobs at a time, pausing, stopping, and what is left when it dies."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import threading
from collections.abc import AsyncIterator
from typing import Any

import pytest
from redis.exceptions import ConnectionError as RedisGone
from rq.command import send_shutdown_command
from rq.job import JobStatus
from rq.registry import StartedJobRegistry
from rq.suspension import resume, suspend
from rq.worker import BaseWorker, WorkerStatus

from tests.waiting import wait_until
from tests.workers import jobs
from tests.workers.conftest import Site
from workers import bookkeeping, concurrent
from workers.concurrent import ConcurrentWorker
from workers.queues import JsonJob, JsonQueue


def alive(site: Site) -> list[BaseWorker]:
    """Who is registered as a worker."""
    return BaseWorker.all(connection=site.connection)


def test_takes_no_more_jobs_than_it_may_run(site: Site) -> None:
    ours = [site.enqueue(jobs.wait) for _ in range(7)]
    site.at_work(limit=3)
    site.wait_started(3)
    assert site.queue.job_ids == [job.id for job in ours[3:]]
    assert site.registries().get("popped") is None
    site.open_gate()
    wait_until(lambda: len(site.registries().get("finished", [])) == 7, "all are finished")
    assert sorted(site.starts()) == sorted(job.id for job in ours)


def test_many_jobs_that_wait_run_at_the_same_time(site: Site) -> None:
    for _ in range(150):
        site.enqueue(jobs.wait)
    site.at_work(limit=150)
    site.wait_started(150)
    site.open_gate()
    wait_until(lambda: len(site.registries().get("finished", [])) == 150, "all are finished")
    assert set(site.registries()) == {"finished"}


def test_a_job_needs_less_than_half_of_the_commands_of_rqs_own_worker(site: Site) -> None:
    def commands() -> int:
        info: Any = site.connection.info("stats")
        return int(info["total_commands_processed"])

    for _ in range(100):
        site.enqueue(jobs.nothing)
    before = commands()
    site.run_all()
    assert (commands() - before) / 100 < 28


def test_suspended_worker_takes_nothing_until_it_may_go_on(site: Site) -> None:
    suspend(site.connection)
    job = site.enqueue(jobs.nothing)
    site.at_work()
    wait_until(lambda: alive(site) and alive(site)[0].get_state() == WorkerStatus.SUSPENDED, "it is suspended")
    assert site.queue.job_ids == [job.id]
    resume(site.connection)
    site.wait_status(job, JobStatus.FINISHED)
    wait_until(lambda: alive(site)[0].get_state() != WorkerStatus.SUSPENDED, "it goes on")


def test_shutdown_command_lets_the_jobs_in_flight_end_and_takes_no_more(site: Site) -> None:
    running = site.enqueue(jobs.wait)
    worker = site.at_work()
    site.wait_started(1)
    send_shutdown_command(site.connection, worker.name)
    wait_until(lambda: site.connection.hexists(worker.key, "shutdown_requested_date"), "it is told")
    late = site.enqueue(jobs.nothing)
    site.open_gate()
    wait_until(lambda: not alive(site), "it has gone")
    assert site.registries() == {"finished": [running.id], "queued": [late.id]}


def test_told_before_it_began_it_stops_at_once(site: Site) -> None:
    told = threading.Event()
    told.set()
    job = site.enqueue(jobs.nothing)
    worker = site.worker(told=told)
    assert worker.work(logging_level="CRITICAL")
    assert site.registries() == {"queued": [job.id]}
    assert not alive(site)


def test_told_to_stop_a_process_finishes_its_jobs(site: Site) -> None:
    job = site.enqueue(jobs.wait)
    process = site.process()
    site.wait_started(1)
    process.ask_to_stop()
    (worker,) = alive(site)
    wait_until(lambda: site.connection.hexists(worker.key, "shutdown_requested_date"), "it is told")
    assert process.alive
    site.open_gate()
    wait_until(lambda: not process.alive, "it has ended")
    assert site.registries() == {"finished": [job.id]}
    assert not alive(site)


@pytest.mark.parametrize("retries", [(600,), None], ids=["with a retry", "without"])
def test_what_does_not_end_in_time_is_retried(site: Site, retries: tuple[int, ...] | None) -> None:
    job = site.enqueue(jobs.wait, retries=retries)
    process = site.process(worker_drain_s=0.2)
    site.wait_started(1)
    process.ask_to_stop()
    wait_until(lambda: not process.alive, "it has ended")
    assert site.registries() == {"scheduled" if retries else "failed": [job.id]}


def test_told_twice_it_ends_now(site: Site) -> None:
    job = site.enqueue(jobs.wait, retries=(600,))
    process = site.process(worker_drain_s=600)
    site.wait_started(1)
    process.ask_to_stop()
    (worker,) = alive(site)
    wait_until(lambda: site.connection.hexists(worker.key, "shutdown_requested_date"), "it is told")
    process.ask_to_stop()
    wait_until(lambda: not process.alive, "it has ended")
    assert site.registries() == {"scheduled": [job.id]}
    assert not alive(site)


def test_process_that_is_told_while_it_gets_ready_stops(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """With RQ's own worker, too: it puts its signal handlers in place only after it has registered itself."""
    from broker.jobs import QueueName
    from broker.settings import load_settings
    from workers import run

    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    bootstrap = BaseWorker.bootstrap

    def interrupted(worker: BaseWorker, *args: Any, **options: Any) -> None:
        bootstrap(worker, *args, **options)
        signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(BaseWorker, "bootstrap", interrupted)
    monkeypatch.setattr("broker.logs.configure", lambda settings: None)
    job = site.enqueue(jobs.nothing)
    try:
        for stock in (True, False):
            run.run_worker(QueueName.CREATE, load_settings(), stock=stock)
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    assert site.registries() == {"queued": [job.id]}
    assert not alive(site)


def test_jobs_of_a_killed_worker_come_back_once(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    ours = {site.enqueue(jobs.wait, retries=(0,)).id for _ in range(20)}
    process = site.process()
    site.wait_started(20)
    process.kill()
    assert set(site.registries()["started"]) == ours
    entries: Any = site.connection.zrange(site.queue.started_job_registry.key, 0, -1, withscores=True)
    assert all(score - seconds_now(site) <= bookkeeping.JOB_TTL_S for _, score in entries)
    # As if that time had passed.
    site.connection.zadd(site.queue.started_job_registry.key, {member: 1 for member, _ in entries})
    site.open_gate()
    for _ in range(2):
        site.at_work()
    wait_until(lambda: set(site.registries().get("finished", [])) == ours, "all are finished")
    assert sorted(site.starts()) == sorted([*ours, *ours])
    assert set(site.registries()) == {"finished"}


def seconds_now(site: Site) -> float:
    """The time at Redis."""
    seconds, microseconds = site.connection.time()
    return float(seconds) + float(microseconds) / 1e6


def test_job_that_was_popped_by_a_killed_worker_comes_back(site: Site) -> None:
    job = site.enqueue(jobs.nothing, retries=(0,))
    queue = site.queue
    site.connection.lmove(queue.key, queue.intermediate_queue_key)
    queue.intermediate_queue.cleanup(site.worker(), queue)  # a first look
    first_seen = queue.intermediate_queue.get_first_seen_key(job.id)
    site.connection.set(first_seen, float(site.connection.get(first_seen) or 0) - 61)
    site.at_work()  # its maintenance is the second look
    site.wait_status(job, JobStatus.FINISHED)
    assert site.registries() == {"finished": [job.id]}


def test_maintenance_that_was_killed_does_not_end_maintenance_for_long(site: Site) -> None:
    assert site.queue.acquire_maintenance_lock()
    assert not site.queue.acquire_maintenance_lock()
    assert 0 < site.connection.ttl(site.queue.registry_cleaning_key) <= 60


def test_heartbeats_keep_running_jobs_from_coming_back(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(concurrent, "BEAT_S", 0.05)
    monkeypatch.setattr(bookkeeping, "JOB_TTL_S", 2)
    job = site.enqueue(jobs.wait, retries=(0,))
    worker = site.at_work(maintenance_interval=0)
    site.wait_started(1)
    registry = StartedJobRegistry(queue=site.queue)
    entries: Any = site.connection.zrange(registry.key, 0, -1)
    (entry,) = entries
    first = site.connection.zscore(registry.key, entry)
    wait_until(lambda: (site.connection.zscore(registry.key, entry) or 0) > (first or 0) + 2, "it is kept")
    (execution,) = worker.get_current_executions(refresh=True)
    assert execution.job_id == job.id
    assert site.starts() == [job.id]
    site.open_gate()
    site.wait_status(job, JobStatus.FINISHED)


def test_worker_whose_record_lapsed_registers_itself_again(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(concurrent, "BEAT_S", 0.05)
    worker = site.at_work()
    wait_until(lambda: alive(site), "it is there")
    site.connection.delete(worker.key)
    site.connection.srem("rq:workers", worker.key)
    wait_until(lambda: [seen.name for seen in alive(site)] == [worker.name], "it is there again")
    assert alive(site)[0].queue_names() == ["create"]
    assert site.connection.ttl(worker.key) > 0


def test_job_that_is_deleted_while_it_runs_leaves_nothing(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(concurrent, "BEAT_S", 0.05)
    job = site.enqueue(jobs.wait)
    worker = site.at_work()
    site.wait_started(1)
    site.connection.delete(job.key)
    beats = worker.last_heartbeat
    wait_until(lambda: worker.last_heartbeat != beats, "a heartbeat")
    wait_until(lambda: not site.connection.exists(job.key), "no heartbeat brings it back")


class Failing:
    """A method that fails a few times with a lost connection, before or after it did its work."""

    def __init__(self, method: Any, *, times: int, after: bool) -> None:
        self.method, self.left, self.after = method, times, after

    def __call__(self, *args: Any) -> Any:
        if self.left and self.after:
            self.left -= 1
            self.method(*args)
            raise RedisGone("made up")
        if self.left:
            self.left -= 1
            raise RedisGone("made up")
        return self.method(*args)


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("step", ["_pop", "_start", "_settle_together", "_settle_alone", "beat"])
def test_lost_connection_loses_no_job(site: Site, monkeypatch: pytest.MonkeyPatch, step: str, after: bool) -> None:
    monkeypatch.setattr(concurrent, "REDIS_PAUSE_S", 0.05)
    ours = {site.enqueue(jobs.nothing).id for _ in range(5)}
    failed = site.enqueue(jobs.fail).id
    worker = site.worker()
    monkeypatch.setattr(worker, step, failing := Failing(getattr(worker, step), times=2, after=after))
    worker.work(burst=True, logging_level="CRITICAL")
    assert failing.left < 2
    found = site.registries()
    assert set(found["finished"]) == ours
    assert found["failed"] == [failed]
    assert not found.get("queued")
    assert not found.get("popped")


def test_jobs_share_what_the_worker_opened_for_them(site: Site) -> None:
    events: list[str] = []

    @contextlib.asynccontextmanager
    async def around() -> AsyncIterator[None]:
        events.append("opened")
        yield
        events.append("closed")

    job = site.enqueue(jobs.nothing)
    site.run_all(around=around)
    assert events == ["opened", "closed"]
    assert site.registries() == {"finished": [job.id]}


def test_worker_is_on_one_queue(site: Site) -> None:
    two = [site.queue, JsonQueue("other", connection=site.connection)]
    with pytest.raises(ValueError, match="too many values"):
        _ = ConcurrentWorker(two, connection=site.connection).queue


async def test_event_loop_goes_on_while_redis_does_not_answer(site: Site) -> None:
    job = site.enqueue(jobs.nothing)
    worker = site.worker()
    gate, turns = threading.Event(), 0
    take = worker.take

    def slow(most: int, block_s: int | None) -> Any:
        gate.wait(10)
        return take(most, block_s)

    worker.take = slow  # type: ignore[method-assign]
    serving = asyncio.create_task(worker._serve(burst=True))
    for turns in range(20):  # noqa: B007 - counted below
        await asyncio.sleep(0.001)
    assert turns == 19
    assert not serving.done()
    gate.set()
    await serving
    assert JsonJob.fetch(job.id, connection=site.connection).get_status() is JobStatus.FINISHED
