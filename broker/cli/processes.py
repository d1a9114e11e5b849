"""The processes of a deployment: API, workers, scheduler."""

from __future__ import annotations

import os
import resource
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer

from broker.cli.session import settings_with_logging
from broker.jobs import QueueName

GRACE_S = 5
"""Beyond the longest wait of a caller, before a stopping server cuts connections."""
BACKLOG = 4096
"""Connections that may wait to be taken; the system's own bound (net.core.somaxconn) holds, too."""
MOST_FILES = 65_536
COUNTS = "PROMETHEUS_MULTIPROC_DIR"
"""prometheus-client reads this one when it is imported, so it is set before the processes start."""


def serve(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0 for any free one.")] = 8000,
    workers: Annotated[int, typer.Option(min=1, help="How many processes.")] = 1,
) -> None:
    """Run the HTTP API until it is told to stop; requests under way are finished first."""
    import uvicorn

    settings = settings_with_logging()
    allow_many_files()
    with counts_of(workers):
        uvicorn.run(
            "api.app:create_app",
            factory=True,
            host=host,
            port=port,
            workers=workers,
            # The service writes its own lines, with route templates in them instead of ids.
            access_log=False,
            log_config=None,
            server_header=False,
            backlog=BACKLOG,
            timeout_graceful_shutdown=int(settings.wait_max_s) + GRACE_S,
        )


def allow_many_files() -> None:
    """Let this process have as many open files as it may: each waiting caller is one.

    Systems start processes with 1,024, which is fewer than the teachers who press start at ten o'clock.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, MOST_FILES)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


@contextmanager
def counts_of(workers: int) -> Iterator[None]:
    """Let several processes share what they count for /metrics, in a folder that lives as long as they do."""
    if workers == 1 or os.environ.get(COUNTS):
        yield
        return
    with tempfile.TemporaryDirectory(prefix="zoompool-metrics-") as folder:
        os.environ[COUNTS] = folder
        try:
            yield
        finally:
            del os.environ[COUNTS]


def worker(
    queue: Annotated[QueueName, typer.Argument(help="The one queue to work on.")],
    stock: Annotated[bool, typer.Option("--stock", help="Use RQ's own worker: one job at a time.")] = False,
) -> None:
    """Run a worker on one queue, many jobs at a time, until it is told to stop; jobs under way are finished first."""
    from workers.run import run_worker

    run_worker(queue, settings_with_logging(), stock=stock)


def scheduler() -> None:
    """Enqueue the periodic jobs (reap, reconcile) and due retries until told to stop. Of several, one is active."""
    from workers.schedule import run_scheduler

    run_scheduler(settings_with_logging())
