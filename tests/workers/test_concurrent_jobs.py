"""What becomes of single jobs under the concurrent worker: results, failures, retries, time-outs, commands."""

from __future__ import annotations

import signal
import threading
from typing import Any

import pytest
from rq.command import send_stop_execution_command, send_stop_job_command
from rq.job import Dependency, JobStatus
from rq.results import Result
from rq.utils import as_text
from rq.worker import BaseWorker, WorkerStatus

from broker.settings import load_settings
from tests.waiting import wait_until
from tests.workers import jobs
from tests.workers.conftest import Site
from workers import flight
from workers.queues import JsonJob
from workers.schedule import PoolScheduler


def result(site: Site, job: Any) -> Result:
    """The newest result of a job."""
    found = JsonJob.fetch(job.id, connection=site.connection).latest_result()
    assert found is not None
    return found


def test_finished_job_leaves_what_rq_leaves(site: Site) -> None:
    job = site.enqueue(jobs.nothing, 1, "two", {"three": 3})
    worker = site.worker()
    worker.work(burst=True, logging_level="CRITICAL")
    assert site.registries() == {"finished": [job.id]}
    assert result(site, job).type is Result.Type.SUCCESSFUL
    assert result(site, job).return_value == [1, "two", {"three": 3}]
    assert result(site, job).worker_name == worker.name
    stored = JsonJob.fetch(job.id, connection=site.connection)
    assert stored.get_status() is JobStatus.FINISHED
    assert stored.started_at is not None
    assert stored.ended_at is not None
    assert stored.started_at <= stored.ended_at
    assert 0 < site.connection.ttl(job.key) <= 600
    assert site.connection.ttl(Result.get_key(job.id)) > 0
    assert not site.connection.keys("rq:execution*")
    counts = site.connection.hgetall(worker.key)
    assert counts[b"successful_job_count"] == b"1"
    assert float(counts[b"total_working_time"]) > 0


@pytest.mark.parametrize("stock", [False, True], ids=["concurrent", "stock"])
def test_keys_after_a_job_are_the_same_as_with_rqs_own_worker(site: Site, stock: bool) -> None:
    from rq import SimpleWorker
    from rq.serializers import JSONSerializer

    good, bad = site.enqueue(jobs.nothing), site.enqueue(jobs.fail)
    if stock:
        own = SimpleWorker([site.queue], connection=site.connection, serializer=JSONSerializer, job_class=JsonJob)
        own.work(burst=True, logging_level="CRITICAL")
        name = own.name
    else:
        worker = site.worker()
        worker.work(burst=True, logging_level="CRITICAL")
        name = worker.name
    ours = {good.id: "GOOD", bad.id: "BAD", name: "WORKER"}
    keys = set()
    for key in site.connection.keys("rq:[^c]*"):  # not the locks of maintenance, which comes and goes
        text = as_text(key)
        for id, word in ours.items():
            text = text.replace(id, word)
        keys.add(text)
    assert keys == {
        "rq:queues",
        "rq:job:GOOD",
        "rq:job:BAD",
        "rq:results:GOOD",
        "rq:results:BAD",
        "rq:finished:create",
        "rq:failed:create",
        "rq:worker:WORKER",
    }


def test_job_whose_result_is_not_wanted_is_gone(site: Site) -> None:
    job = site.enqueue(jobs.nothing, result_ttl=0)
    site.run_all()
    assert not site.connection.exists(job.key)
    assert site.registries() == {}


def test_job_that_raises_is_failed_with_its_traceback(site: Site) -> None:
    job = site.enqueue(jobs.fail)
    site.run_all()
    assert site.registries() == {"failed": [job.id]}
    assert result(site, job).type is Result.Type.FAILED
    assert "ValueError: as asked" in (result(site, job).exc_string or "")


@pytest.mark.parametrize(
    ("function", "says"), [(jobs.leave, "tried to exit the process (3)"), (jobs.blocking, "not a coroutine function")]
)
def test_job_that_would_harm_the_others_is_failed(site: Site, function: Any, says: str) -> None:
    job, other = site.enqueue(function), site.enqueue(jobs.nothing)
    site.run_all()
    assert says in (result(site, job).exc_string or "")
    assert site.registries() == {"failed": [job.id], "finished": [other.id]}


def test_job_that_cannot_be_found_is_failed(site: Site) -> None:
    job = site.queue.enqueue_call("tests.workers.jobs.no_such_function", description="none")
    site.run_all()
    assert site.registries() == {"failed": [job.id]}


def test_job_that_was_deleted_while_it_waited_is_left_out(site: Site) -> None:
    gone, kept = site.enqueue(jobs.nothing), site.enqueue(jobs.nothing)
    site.connection.delete(gone.key)
    site.run_all()
    assert site.registries() == {"finished": [kept.id]}


def test_unreadable_job_does_not_keep_others_from_running(site: Site) -> None:
    broken, kept = site.enqueue(jobs.nothing), site.enqueue(jobs.nothing)
    site.connection.hset(broken.key, "status", "no such status")
    site.run_all()
    assert site.registries() == {"finished": [kept.id]}


def test_retry_without_a_pause_runs_again_at_once(site: Site) -> None:
    job = site.enqueue(jobs.fail_until, 3, retries=(0, 0))

    def over() -> bool:
        # A burst may end between a failure and the entry of its retry.
        site.run_all()
        return "finished" in site.registries()

    wait_until(over, "the last retry is done")
    assert site.starts() == [job.id] * 3
    assert site.registries() == {"finished": [job.id]}
    assert result(site, job).return_value == "done"


def test_retry_with_a_pause_is_brought_back_by_the_scheduler(site: Site) -> None:
    job = site.enqueue(jobs.fail_until, 2, retries=(1,))
    site.run_all()
    assert site.registries() == {"scheduled": [job.id]}
    scheduler = PoolScheduler(site.connection, load_settings())
    wait_until(lambda: scheduler.enqueue_jobs() is not None and site.queue.job_ids, "the retry is due")
    assert site.registries()["queued"] == [job.id]
    site.run_all()
    assert site.registries()["finished"] == [job.id]


def test_scheduler_that_follows_a_killed_one_brings_back_retries_at_once(site: Site) -> None:
    job = site.enqueue(jobs.fail_until, 2, retries=(1,))
    site.run_all()
    PoolScheduler(site.connection, load_settings()).enqueue_jobs()
    follower = PoolScheduler(site.connection, load_settings())
    wait_until(lambda: follower.enqueue_jobs() is not None and job.id in site.queue.job_ids, "the retry is due")


def test_scheduler_that_was_told_before_it_listened_stops(site: Site) -> None:
    told = threading.Event()
    told.set()
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        with pytest.raises(SystemExit):
            PoolScheduler(site.connection, load_settings(), told).run()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def test_job_without_retries_left_is_failed(site: Site) -> None:
    job = site.enqueue(jobs.fail, retries=(0, 0))
    site.run_all()
    assert site.registries() == {"failed": [job.id]}


def test_job_that_takes_too_long_is_cancelled_and_failed(site: Site) -> None:
    job, other = site.enqueue(jobs.sleep, 60, timeout=1), site.enqueue(jobs.nothing)
    site.run_all()
    assert "JobTimeoutException: Task exceeded maximum timeout value (1 seconds)" in (
        result(site, job).exc_string or ""
    )
    assert site.registries() == {"failed": [job.id], "finished": [other.id]}


def test_job_that_takes_too_long_is_retried(site: Site) -> None:
    job = site.enqueue(jobs.sleep, 60, timeout=1, retries=(600,))
    site.run_all()
    assert site.registries() == {"scheduled": [job.id]}


def test_job_that_finishes_when_it_is_cancelled_counts_as_done(site: Site) -> None:
    job = site.enqueue(jobs.ignore_cancellation, timeout=1)
    site.run_all()
    assert result(site, job).return_value == "done all the same"


def test_job_that_ignores_its_cancellation_does_not_hold_its_place(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flight, "CANCEL_S", 0.2)
    job = site.enqueue(jobs.stubborn, timeout=1)
    site.at_work(limit=1)
    site.wait_status(job, JobStatus.FAILED)
    other = site.enqueue(jobs.nothing)
    site.wait_status(other, JobStatus.FINISHED)


def test_stopped_job_is_not_retried_and_the_others_go_on(site: Site) -> None:
    stopped, other = (site.enqueue(jobs.wait, retries=(0, 0)) for _ in range(2))
    site.at_work()
    site.wait_started(2)
    send_stop_job_command(site.connection, stopped.id)
    site.wait_status(stopped, JobStatus.STOPPED)
    assert result(site, stopped).type is Result.Type.FAILED
    assert site.status(other) is JobStatus.STARTED
    site.open_gate()
    site.wait_status(other, JobStatus.FINISHED)
    assert site.registries() == {"failed": [stopped.id], "finished": [other.id]}
    assert len(site.starts()) == 2


def test_one_execution_can_be_stopped(site: Site) -> None:
    job = site.enqueue(jobs.wait)
    worker = site.at_work()
    site.wait_started(1)
    (execution,) = job.get_executions()
    send_stop_execution_command(site.connection, job.id, execution.id)
    site.wait_status(job, JobStatus.STOPPED)
    assert worker.executions == {}


def test_jobs_that_depend_on_others_follow_them(site: Site) -> None:
    first = site.enqueue(jobs.nothing)
    second = site.enqueue(jobs.nothing, depends_on=first)
    broken = site.enqueue(jobs.fail)
    despite = site.enqueue(jobs.nothing, depends_on=Dependency([broken], allow_failure=True))
    assert set(site.registries()["deferred"]) == {second.id, despite.id}
    site.run_all()
    assert set(site.registries()["finished"]) == {first.id, second.id, despite.id}
    assert site.registries()["failed"] == [broken.id]


def test_each_of_many_jobs_knows_which_one_it_is(site: Site) -> None:
    ours = [site.enqueue(jobs.my_id) for _ in range(60)]
    site.run_all(limit=30)
    assert [result(site, job).return_value for job in ours] == [job.id for job in ours]


def test_while_jobs_run_rq_sees_them_all(site: Site) -> None:
    running = [site.enqueue(jobs.wait) for _ in range(3)]
    worker = site.at_work()
    site.wait_started(3)
    ids = {job.id for job in running}
    assert set(site.registries()["started"]) == ids
    (seen,) = BaseWorker.all(connection=site.connection)
    assert seen.name == worker.name
    assert seen.get_state() == WorkerStatus.BUSY
    assert {execution.job_id for execution in seen.get_current_executions()} == ids
    assert {JsonJob.fetch(id, connection=site.connection).worker_name for id in ids} == {worker.name}
    site.open_gate()
    wait_until(lambda: set(site.registries().get("finished", [])) == ids, "all are finished")
    wait_until(lambda: BaseWorker.all(connection=site.connection)[0].get_state() == WorkerStatus.IDLE, "idle again")
