"""An RQ worker that runs hundreds of coroutine jobs at a time on one event loop.

Jobs that wait for Zoom need no process each. The loop only runs jobs; everything that blocks on Redis is done on two
threads, many jobs at a time (see `workers.bookkeeping`): one takes jobs, one keeps the books. A permit is taken before
the pop, so a job that cannot run here stays in the queue for others.

Jobs end as with RQ's own workers: time-outs and failures lead to the job's retries, `stop-job` to no retry. Told to
stop (SIGTERM, SIGINT, `shutdown`), the worker takes no new jobs and gives those in flight `drain_s` to end. What then
remains, or what runs when it is told a second time, is cancelled and retried as if it had failed. A third signal ends
the process.
"""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, nullcontext, suppress
from types import FrameType
from typing import Any, TypeVar

import structlog
from redis.exceptions import RedisError
from rq.command import parse_payload
from rq.utils import now

from workers import flight
from workers.bookkeeping import JOB_TTL_S, BatchWorker
from workers.flight import Flight, Interrupted, Outcome, Run

log = structlog.get_logger(__name__)

T = TypeVar("T")

BLOCK_S = 1
"""How long a pop waits for a job, and so at most until a stop or a suspension is noticed by an idle worker."""
BEAT_S = 10.0
"""Between heartbeats, of which RQ may miss two before it takes a job for abandoned."""
REDIS_PAUSE_S = 1.0
"""Before the next try when Redis fails."""


class ConcurrentWorker(BatchWorker):
    """See the module.

    Args:
        limit: most jobs at a time.
        drain_s: how long jobs in flight may go on when the worker is told to stop.
        around: entered on the event loop before the first job and left after the last; what it sets in context
            variables, jobs see.
        told: set from then on when the worker is told to stop; if it is set before, the worker stops at once.
    """

    def __init__(
        self,
        *args: Any,
        limit: int = 200,
        drain_s: float = 25.0,
        around: Callable[[], AbstractAsyncContextManager[Any]] = nullcontext,
        told: threading.Event | None = None,
        **options: Any,
    ) -> None:
        super().__init__(*args, **options)
        self._limit = limit
        self._drain_s = drain_s
        self._around = around
        self._told = told or threading.Event()
        self._now = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._flights: dict[str, Flight] = {}
        self._landings: set[asyncio.Task[None]] = set()
        self._wake = asyncio.Event()
        self._unsettled: list[Outcome] = []
        self._books = asyncio.Lock()
        self._taker = ThreadPoolExecutor(1, "rq-take")
        self._writer = ThreadPoolExecutor(1, "rq-books")

    @property
    def dequeue_timeout(self) -> int:
        """How long a pop blocks, in seconds; RQ makes the connection's time-out longer than that."""
        return BLOCK_S

    # Life

    def work(self, burst: bool = False, logging_level: str | None = None) -> bool:  # type: ignore[override]
        """Work until told to stop; with `burst`, until there is nothing left to do. Returns whether it was told."""
        if threading.current_thread() is threading.main_thread():
            self._install_signal_handlers()  # type: ignore[no-untyped-call]
        self.bootstrap(logging_level)
        try:
            asyncio.run(self._serve(burst))
        finally:
            self.teardown()  # type: ignore[no-untyped-call]
        return self._told.is_set()

    def request_stop(self, signum: int | None = None, frame: FrameType | None = None) -> None:
        """Drain; the second time, end now. May be called from a signal handler or from any thread."""
        if self._told.is_set():
            self._now = True
            if signum is not None:
                signal.signal(signum, signal.SIG_DFL)
        self._told.set()
        self._soon(self._wake.set)

    def handle_payload(self, message: Any) -> None:
        """A command from `rq.command`; called on the thread that listens."""
        match parse_payload(message):
            case {"command": "shutdown"}:
                self.request_stop()
            case {"command": "stop-execution", "job_id": job_id, "execution_id": execution_id}:
                self._soon(self._stop, job_id, execution_id)
            case {"command": "stop-job", "job_id": job_id}:
                self._soon(self._stop, job_id, "")
            case other:
                log.warning("command ignored", command=other)

    def _soon(self, call: Callable[..., Any], *args: Any) -> None:
        """Call on the event loop, if it runs."""
        if self._loop is not None:
            with suppress(RuntimeError):  # it has just ended
                self._loop.call_soon_threadsafe(call, *args)

    def _stop(self, job_id: str, execution_id: str) -> None:
        found = [
            running
            for running in self._flights.values()
            if running.run.job.id == job_id and execution_id in ("", running.run.execution.id)
        ]
        for running in found:
            running.cancel(Interrupted("stopped on request"), stopped=True)
        if not found:
            log.warning("asked to stop a job that does not run here", job=job_id)

    async def _serve(self, burst: bool) -> None:
        self._loop = asyncio.get_running_loop()
        try:
            async with self._around():
                await self._on(self._writer, self.show_state)
                pulse = asyncio.create_task(self._pulse())
                try:
                    await self._take_jobs(burst)
                finally:
                    await self._drain()
                    pulse.cancel()
                    await asyncio.gather(pulse, return_exceptions=True)
        finally:
            self._loop = None
            self._taker.shutdown(wait=False)
            self._writer.shutdown(wait=False)

    async def _drain(self) -> None:
        """Let the jobs in flight end, up to a limit; then cancel them."""
        assert self._loop is not None
        end_s = self._loop.time() + self._drain_s
        if self._flights:
            log.info("finishing the jobs in flight", jobs=len(self._flights), at_most_s=self._drain_s)
            self._shutdown_requested_date = now()
            with suppress(RedisError):
                await self._on(self._writer, self.set_shutdown_requested_date)
        while self._flights and not self._now and (left_s := end_s - self._loop.time()) > 0:
            await self._woken(left_s)
        for running in self._flights.values():
            running.cancel(Interrupted("the worker stopped before the job was done"))
        if self._flights:
            log.warning("jobs in flight are cancelled and will be retried", jobs=len(self._flights))
        if self._landings:
            await asyncio.wait(self._landings, timeout=flight.LONGEST_CANCELLATION_S + REDIS_PAUSE_S)

    async def _woken(self, timeout_s: float | None = None) -> None:
        """Wait until a job ends or the worker is told something."""
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._wake.wait()
        self._wake.clear()

    async def _on(self, thread: ThreadPoolExecutor, call: Callable[..., T], *args: Any) -> T:
        return await asyncio.get_running_loop().run_in_executor(thread, call, *args)

    # Jobs

    async def _take_jobs(self, burst: bool) -> None:
        while not self._told.is_set():
            room = self._limit - len(self._flights)
            if room <= 0:
                await self._woken()
                continue
            try:
                runs = await self._on(self._taker, self.take, room, None if burst else BLOCK_S)
            except RedisError as error:
                log.warning("cannot take jobs, trying again", error=type(error).__name__)
                await self._woken(REDIS_PAUSE_S)
                continue
            for run in runs:
                self._start_flight(run)
            if burst and not runs:
                if not self._flights:
                    return
                await self._woken()

    def _start_flight(self, run: Run) -> None:
        started = Flight(run)
        self._flights[run.execution.id] = started
        landing = asyncio.create_task(self._land(started), name=f"landing-{run.job.id}")
        self._landings.add(landing)
        landing.add_done_callback(self._landed)

    async def _land(self, running: Flight) -> None:
        """See a job to its end, and record that."""
        job = running.run.job
        timeout_s = job.timeout or self.queue.DEFAULT_TIMEOUT
        try:
            await self._settle(await running.land(None if timeout_s < 0 else timeout_s))
        finally:
            del self._flights[running.run.execution.id]
            self._wake.set()

    def _landed(self, landing: asyncio.Task[None]) -> None:
        self._landings.discard(landing)
        if not landing.cancelled() and (error := landing.exception()) is not None:
            # Without heartbeats RQ takes the job for abandoned, and retries it.
            log.error("the end of a job is not recorded", task=landing.get_name(), error=repr(error))

    async def _settle(self, outcome: Outcome) -> None:
        """Record the end of a job together with all others that have ended when it is its turn."""
        assert self._loop is not None
        self._unsettled.append(outcome)
        end_s = self._loop.time() + JOB_TTL_S
        while outcome in self._unsettled:
            async with self._books:
                # Whatever ended in the same turn of the loop comes along.
                await asyncio.sleep(0)
                batch = self._unsettled
                self._unsettled = []
                try:
                    if batch:
                        await self._on(self._writer, self.settle, batch)
                except RedisError as error:
                    if self._loop.time() > end_s:
                        raise
                    log.warning("cannot record jobs, trying again", jobs=len(batch), error=type(error).__name__)
                    await asyncio.sleep(REDIS_PAUSE_S)
                finally:
                    self._unsettled += batch

    async def _pulse(self) -> None:
        """Heartbeats, and RQ's maintenance: jobs of dead workers come back by it."""
        while True:
            try:
                async with self._books:
                    await self._on(self._writer, self.beat, [running.run for running in self._flights.values()])
                if self.should_run_maintenance_tasks:
                    await self._on(self._writer, self.run_maintenance_tasks)
            except Exception as error:
                log.warning("no heartbeat or maintenance, trying again", error=repr(error))
            await asyncio.sleep(BEAT_S)
