"""Run one worker process on one queue until it is told to stop."""

from __future__ import annotations

import signal
import threading
from types import FrameType

import structlog
from rq import Queue, SimpleWorker
from rq.serializers import JSONSerializer

from broker import logs
from broker.jobs import QueueName
from broker.redis import connect
from broker.settings import Settings
from workers.queues import JsonJob, JsonQueue, open_queue

log = structlog.get_logger(__name__)

MAINTENANCE_INTERVAL_S = 30
WORKER_TTL_S = 45
"""With this and the interval above, the job of a killed worker comes back after 75 s instead of RQ's 811 s. The reaper
is faster still; see `broker.operations.Pool.reap`."""
RQ_LOG_LEVEL = "WARNING"
"""On INFO it tells three lines a job; our jobs say themselves what they did."""
PAUSE_S = 1.0
"""Before a worker that lost Redis starts anew."""


class PoolWorker(SimpleWorker):
    """RQ's worker without a fork per job: our jobs wait for the network, they do not compute or leak."""

    job_class = JsonJob
    queue_class: type[Queue] = JsonQueue
    told_to_stop = False
    """RQ's own flag stays unset when the signal finds it idle."""

    def request_stop(self, signum: int, frame: FrameType | None) -> None:
        """Finish the job at hand, then stop."""
        self.told_to_stop = True
        super().request_stop(signum, frame)  # type: ignore[no-untyped-call]


def run_worker(queue: QueueName, settings: Settings) -> None:
    """Work on `queue` until SIGTERM or SIGINT; the job at hand is finished first.

    RQ ends its loop when it loses Redis for longer than a moment; then a new worker takes over in this process.
    """
    logs.configure(settings)
    stop = threading.Event()

    def note_stop(signum: int, frame: FrameType | None) -> None:
        stop.set()

    while not stop.is_set():
        # RQ puts its own handlers in their place while it works.
        signal.signal(signal.SIGTERM, note_stop)
        signal.signal(signal.SIGINT, note_stop)
        try:
            if work(queue, settings):
                return
        except Exception as error:
            log.warning("worker failed, starting anew", queue=queue, error=type(error).__name__)
        stop.wait(PAUSE_S)


def work(queue: QueueName, settings: Settings) -> bool:
    """Run one RQ worker to its end. Returns whether it ended because it was asked to."""
    connection = connect(settings, decode_responses=False)
    try:
        worker = PoolWorker(
            [open_queue(queue, connection)],
            connection=connection,
            serializer=JSONSerializer,
            maintenance_interval=MAINTENANCE_INTERVAL_S,
            worker_ttl=WORKER_TTL_S,
            log_job_description=False,
        )
        worker.work(logging_level=RQ_LOG_LEVEL)
        return worker.told_to_stop
    finally:
        connection.close()
