"""What /metrics reads from Redis when somebody scrapes: occupancy is counted when asked, never kept."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import structlog
from prometheus_client import CollectorRegistry, Metric, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from api.services import Services
from broker.errors import ZoomPoolError
from broker.models import PoolStatus
from broker.registry.teachers import is_personal

log = structlog.get_logger(__name__)

SCRAPE_S = 5.0
"""Redis gets this long; then the scrape goes without it, because the process's own counts matter most when it hangs."""
AT_ONCE = 20
STATES = ("free", "leased", "suspect", "parked")
JOB_STATES = ("waiting", "started", "scheduled", "failed")


class Measured(Collector):
    """What one scrape found. Plain samples: gauges of the library's would be kept, and shared between processes."""

    def __init__(self) -> None:
        self._families: list[GaugeMetricFamily] = []

    def add(self, name: str, text: str, labels: Sequence[str], samples: Mapping[tuple[str, ...], float]) -> None:
        """One family of gauges."""
        family = GaugeMetricFamily(name, text, labels=labels)
        for values, number in samples.items():
            family.add_metric(values, number)
        self._families.append(family)

    def collect(self) -> Iterable[Metric]:
        """For the registry."""
        return self._families

    def text(self) -> bytes:
        """In Prometheus's format."""
        registry = CollectorRegistry()
        registry.register(self)
        return generate_latest(registry)


async def measure(services: Services) -> bytes:
    """The gauges, in Prometheus's format. `zoompool_redis_up` is 0 when Redis did not answer; then the others miss."""
    measured = Measured()
    up = 1
    try:
        async with asyncio.timeout(SCRAPE_S):
            await _pools(services, measured)
            await _queues(services, measured)
    except (ZoomPoolError, TimeoutError) as error:
        log.warning("metrics without Redis", error=type(error).__name__)
        up = 0
    measured.add("zoompool_redis_up", "Whether Redis answered this scrape", (), {(): up})
    measured.add(
        "zoompool_event_listener_connected",
        "Whether the process that answers hears of events",
        (),
        {(): services.hub.connected},
    )
    return measured.text()


async def _pools(services: Services, measured: Measured) -> None:
    broker = services.broker
    gate = asyncio.Semaphore(AT_ONCE)

    async def one(name: str) -> tuple[PoolStatus, float]:
        pool = broker.pool(name)
        async with gate:
            status = await broker.run(pool.status())
            oldest = await broker.run(pool.leases(suspect=True, count=1)) if status.suspect else ()
        return status, max(((lease.now_ms - lease.since_ms) / 1000 for lease in oldest), default=0.0)

    slots: Counter[tuple[str, ...]] = Counter()
    leases: Counter[tuple[str, ...]] = Counter()
    suspect_s: dict[tuple[str, ...], float] = {}
    for status, age_s in await asyncio.gather(*map(one, await broker.pools())):
        # Their names hold ids, and nobody wants a series for every teacher.
        label = "personal" if is_personal(status.pool) else status.pool
        slots.update({(label, state): getattr(status, state) for state in STATES})
        leases.update({(label, phase): count for phase, count in status.phases.items()})
        suspect_s[label,] = max(suspect_s.get((label,), 0.0), age_s)
    measured.add("zoompool_slots", "Slots by state", ("pool", "state"), slots)
    measured.add("zoompool_leases", "Running leases by phase", ("pool", "phase"), leases)
    measured.add(
        "zoompool_oldest_suspect_seconds",
        "How long the oldest suspect slot waits for Zoom's word",
        ("pool",),
        suspect_s,
    )


async def _queues(services: Services, measured: Measured) -> None:
    counts = await services.jobs.counts()
    samples: dict[tuple[str, ...], float] = {
        (queue.value, state): getattr(count, state) for queue, count in counts.items() for state in JOB_STATES
    }
    measured.add("zoompool_jobs", "Jobs by queue and RQ's registry", ("queue", "state"), samples)
