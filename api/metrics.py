"""What this process counts while it serves; `api.pool_metrics` adds what is read from Redis when somebody scrapes.

No label holds an id: lessons, teachers and meetings by the thousand would make thousands of time series, and ids of
people have no place there.

Each process counts for itself, and a scrape reaches any one of several (`zoompool serve --workers`). They share their
counts when PROMETHEUS_MULTIPROC_DIR names a folder, which `serve` sees to.
"""

from __future__ import annotations

import os

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

from api.messages import PROBLEMS

FOLDER = "PROMETHEUS_MULTIPROC_DIR"
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
ANSWERS = frozenset({"ready", "accepted", "queued", "hung_up"})
SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2, 4, 8, 15, 30)
"""Buckets: a webhook takes milliseconds, a start about as long as Zoom, and none longer than the longest wait."""


class Metrics:
    """The counters and gauges of one process."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._requests = Histogram(
            "zoompool_http_request_seconds",
            "Requests by route template, method and status",
            ["route", "method", "status"],
            buckets=SECONDS,
            registry=self._registry,
        )
        self._starts = Counter(
            "zoompool_starts",
            "Starts of lessons by outcome: ready, accepted or queued (202), hung_up, or a code",
            ["outcome"],
            registry=self._registry,
        )
        self._webhooks = Counter(
            "zoompool_webhooks", "Webhooks by what became of them", ["result"], registry=self._registry
        )
        self.waiters = Gauge(
            "zoompool_waiters",
            "Requests that wait for news of a lesson now",
            multiprocess_mode="livesum",
            registry=self._registry,
        )

    def request(self, route: str, method: str, status: int, seconds: float) -> None:
        """Count a request. `route` is the template, empty where nothing matched."""
        known = method if method in METHODS else "other"
        self._requests.labels(route or "unmatched", known, str(status)).observe(seconds)

    def start(self, outcome: str) -> None:
        """Count a start: `ready`, `accepted`, `queued`, `hung_up`, or the code of the problem."""
        self._starts.labels(outcome if outcome in {*ANSWERS, *PROBLEMS} else "start_failed").inc()

    def webhook(self, result: str) -> None:
        """Count a webhook: enqueued, duplicate, ignored, validation, or the code of the problem."""
        self._webhooks.labels(result).inc()

    def text(self) -> bytes:
        """In Prometheus's format: this process's counts, or those of all that share a folder."""
        if not os.environ.get(FOLDER):
            return generate_latest(self._registry)
        shared = CollectorRegistry()
        MultiProcessCollector(shared)  # type: ignore[no-untyped-call]
        return generate_latest(shared)

    def close(self) -> None:
        """Let a process that ends take its gauges with it; what it counted stays."""
        if os.environ.get(FOLDER):
            mark_process_dead(os.getpid())  # type: ignore[no-untyped-call]
