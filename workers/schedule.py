"""The periodic jobs: registered at start, and again whenever one got lost.

rq-scheduler keeps them in a sorted set and pushes those that are due. A crash between the push and the next entry loses
a periodic job for good, so every round registers what is missing. The same round brings back jobs whose retry is due,
which stock RQ leaves to a scheduler process of each worker.
"""

from __future__ import annotations

import signal
import threading
import time
from datetime import UTC, datetime
from types import FrameType
from typing import Any

import structlog
from redis import Redis
from redis.exceptions import RedisError
from rq.scheduler import RQScheduler
from rq.serializers import JSONSerializer
from rq_scheduler import Scheduler

from broker.jobs import PROBE, REAP, RECONCILE, RELAY, JobSpec, QueueName
from broker.logs import configure
from broker.redis import connect
from broker.settings import Settings
from workers.queues import JsonJob, JsonQueue

log = structlog.get_logger(__name__)

PAUSE_S = 1.0
LOCK_S = 5
"""How long a scheduler that is killed in the middle of a round keeps the others from theirs. A round that takes longer
may have a second one beside it, which at worst pushes a periodic job twice; they all bear that."""


def periodic(settings: Settings) -> tuple[tuple[JobSpec, int], ...]:
    """The periodic jobs and their periods in seconds."""
    always = (
        (REAP, settings.reap_interval_s),
        (RECONCILE, settings.reconcile_interval_s),
        (PROBE, settings.probe_interval_s),
    )
    return (*always, (RELAY, settings.relay_interval_s)) if settings.notify_url else always


def job_id(spec: JobSpec) -> str:
    """The fixed id of a periodic job."""
    return "periodic-" + spec.function.rsplit(".", 1)[-1]


class PoolScheduler(Scheduler):  # type: ignore[misc]  # rq-scheduler is untyped
    """rq-scheduler with JSON jobs, self-repair, and RQ's own retries.

    Args:
        connection: one that does not decode answers.
        settings: periods of the jobs and of the scheduler itself.
        told: set when the process is told to stop before the scheduler handles signals itself.
    """

    job_class = JsonJob
    queue_class = JsonQueue

    def __init__(self, connection: Redis, settings: Settings, told: threading.Event | None = None) -> None:
        super().__init__(
            QueueName.PERIODIC, interval=settings.scheduler_interval_s, connection=connection, job_class=JsonJob
        )
        self._settings = settings
        self._told = told or threading.Event()
        self._retries = RQScheduler(
            list(QueueName),
            connection,
            interval=settings.scheduler_interval_s,
            serializer=JSONSerializer,
            # One name for all: they take turns under rq-scheduler's lock, and need not wait for that of a dead one.
            name="zoompool",
        )

    def register_missing(self) -> list[str]:
        """Enter every periodic job that is not in the schedule; returns their ids."""
        missing = []
        for spec, period_s in periodic(self._settings):
            id = job_id(spec)
            if id not in self or not self.job_class.exists(id, connection=self.connection):
                self.schedule(
                    datetime.now(UTC).replace(tzinfo=None),
                    spec.function,
                    id=id,
                    interval=period_s,
                    queue_name=spec.queue,
                    timeout=spec.timeout_s,
                    description=spec.function,
                )
                missing.append(id)
        return missing

    def register_all(self) -> None:
        """Enter every periodic job anew, so that changed periods take effect."""
        for spec, _ in periodic(self._settings):
            self.cancel(job_id(spec))
        self.register_missing()

    def _install_signal_handlers(self) -> None:
        super()._install_signal_handlers()
        if self._told.is_set():
            self.register_death()
            raise SystemExit

    def acquire_lock(self) -> bool:
        """Take rq-scheduler's lock for one round; its own life is ten seconds more than the interval."""
        self._lock_acquired = bool(self.connection.set(self.scheduler_lock_key, time.time(), ex=LOCK_S, nx=True))
        return self._lock_acquired

    def enqueue_jobs(self) -> Any:
        """One round, under rq-scheduler's lock: repair, push what is due, bring back retries."""
        lost = self.register_missing()
        if lost:
            log.warning("periodic jobs were lost, registered again", jobs=lost)
        pushed = super().enqueue_jobs()
        self._retries.acquire_locks()
        self._retries.enqueue_scheduled_jobs()
        return pushed


def run_scheduler(settings: Settings) -> None:
    """Schedule until SIGTERM or SIGINT. Several schedulers may run; one at a time has the lock."""
    configure(settings)
    stop = threading.Event()

    def note_stop(signum: int, frame: FrameType | None) -> None:
        stop.set()

    while not stop.is_set():
        signal.signal(signal.SIGTERM, note_stop)
        signal.signal(signal.SIGINT, note_stop)
        connection = connect(settings, decode_responses=False)
        try:
            scheduler = PoolScheduler(connection, settings, stop)
            scheduler.register_all()
            scheduler.run()  # ends by SystemExit on a signal
        except (RedisError, OSError) as error:
            log.warning("scheduler lost Redis, starting anew", error=type(error).__name__)
        finally:
            connection.close()
        stop.wait(PAUSE_S)
