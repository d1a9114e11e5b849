"""Run one worker process on one queue until it is told to stop."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any

import structlog
from redis import Redis
from rq import Queue, SimpleWorker
from rq.serializers import JSONSerializer

from broker import logs
from broker.errors import ConfigurationError
from broker.jobs import QueueName
from broker.redis import connect
from broker.settings import Settings
from workers.concurrent import ConcurrentWorker
from workers.context import share_context
from workers.queues import JsonJob, JsonQueue, open_queue

log = structlog.get_logger(__name__)

MAINTENANCE_INTERVAL_S = 30
WORKER_TTL_S = 45
"""With this and the interval above, the job of a killed stock worker comes back after 75 s instead of RQ's 811 s. The
reaper is faster still; see `broker.operations.Pool.reap`."""
RQ_LOG_LEVEL = "WARNING"
"""On INFO it tells three lines a job; our jobs say themselves what they did."""
PAUSE_S = 1.0
"""Before a worker that lost Redis starts anew."""


class StockWorker(SimpleWorker):
    """RQ's own worker without a fork per job: one job at a time, and otherwise as RQ has it.

    Args:
        told: set from then on when the worker is told to stop; if it is set before, the worker stops at once.
    """

    job_class = JsonJob
    queue_class: type[Queue] = JsonQueue

    def __init__(self, *args: Any, told: threading.Event | None = None, **options: Any) -> None:
        super().__init__(*args, **options)
        self._told = told or threading.Event()

    def request_stop(self, signum: int, frame: FrameType | None) -> None:
        """Finish the job at hand, then stop."""
        # RQ's own flag stays unset when the signal finds it idle.
        self._told.set()
        super().request_stop(signum, frame)  # type: ignore[no-untyped-call]

    def _install_signal_handlers(self) -> None:
        super()._install_signal_handlers()  # type: ignore[no-untyped-call]
        # A signal that came while the worker got ready went to whoever handled signals before.
        self._stop_requested = self._stop_requested or self._told.is_set()


def run_worker(queue: QueueName, settings: Settings, *, stock: bool = False) -> None:
    """Work on `queue` until SIGTERM or SIGINT.

    RQ ends its loop when it loses Redis for longer than a moment; then a new worker takes over in this process.

    Args:
        queue: the one queue.
        settings: Redis, Zoom, and how many jobs at a time.
        stock: with RQ's own worker, one job at a time.

    Raises:
        ConfigurationError: no job could run with these settings.
    """
    logs.configure(settings)
    told = threading.Event()

    def note_stop(signum: int, frame: FrameType | None) -> None:
        told.set()

    while not told.is_set():
        # The worker puts its own handlers in their place while it works.
        signal.signal(signal.SIGTERM, note_stop)
        signal.signal(signal.SIGINT, note_stop)
        try:
            work(queue, settings, told, stock=stock)
        except ConfigurationError:
            raise
        except Exception as error:
            log.warning("worker failed, starting anew", queue=queue, error=type(error).__name__)
        if not told.is_set():
            told.wait(PAUSE_S)


def work(queue: QueueName, settings: Settings, told: threading.Event, *, stock: bool) -> None:
    """Run one RQ worker to its end."""
    connection = connect(settings, decode_responses=False)
    try:
        worker = (stock_worker if stock else concurrent_worker)(queue, settings, connection, told)
        worker.work(logging_level=RQ_LOG_LEVEL)
    finally:
        connection.close()


def concurrent_worker(
    queue: QueueName, settings: Settings, connection: Redis, told: threading.Event
) -> ConcurrentWorker:
    """The worker that runs many jobs at a time, with one set of connections for all."""
    return ConcurrentWorker(
        limit=settings.worker_concurrency,
        drain_s=settings.worker_drain_s,
        around=lambda: share_context(settings),
        told=told,
        **_options(queue, connection),
    )


def stock_worker(queue: QueueName, settings: Settings, connection: Redis, told: threading.Event) -> StockWorker:
    """RQ's own worker; its jobs find their settings in the environment."""
    return StockWorker(told=told, **_options(queue, connection))


def _options(queue: QueueName, connection: Redis) -> dict[str, Any]:
    return {
        "queues": [open_queue(queue, connection)],
        "connection": connection,
        "serializer": JSONSerializer,
        "maintenance_interval": MAINTENANCE_INTERVAL_S,
        "worker_ttl": WORKER_TTL_S,
        "log_job_description": False,
    }
