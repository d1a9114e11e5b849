"""One run of a job on the event loop: from its coroutine to the way it ended."""

from __future__ import annotations

import asyncio
import inspect
from dataclasses import dataclass
from typing import Any

import structlog
from rq.executions import Execution
from rq.job import Job, _current_job
from rq.timeouts import JobTimeoutException

log = structlog.get_logger(__name__)

CANCEL_S = 1.0
"""How long a cancelled job may clean up before it is cancelled again."""
CANCELLATIONS = 5
"""One is not enough: redis-py 8.1 on Python 3.11 loses every second that comes while it sends a command. A job that
goes on after all of them is recorded as ended all the same."""
LONGEST_CANCELLATION_S = CANCELLATIONS * CANCEL_S


@dataclass(frozen=True, eq=False)
class Run:
    """One execution of a job."""

    job: Job
    execution: Execution


@dataclass(frozen=True, eq=False)
class Outcome:
    """How a run ended.

    Attributes:
        value: what the job returned.
        error: what it raised, if it did.
        stopped: somebody asked for its end, so there is no retry.
    """

    run: Run
    value: Any = None
    error: BaseException | None = None
    stopped: bool = False


class Interrupted(Exception):
    """The worker had to stop before the job was done; the job's retry does the rest."""


class Flight:
    """A job that runs.

    Attributes:
        run: what RQ knows of it.
        task: the coroutine; cancelling it ends the job.
        stopped: it was cancelled by a `stop-job` command.
    """

    def __init__(self, run: Run) -> None:
        self.run = run
        self.task = asyncio.create_task(perform(run.job), name=f"job-{run.job.id}")
        self.stopped = False
        self._why: asyncio.Future[Exception] = asyncio.get_running_loop().create_future()

    def cancel(self, why: Exception, *, stopped: bool = False) -> None:
        """End the job; the first reason counts."""
        if not self._why.done():
            self._why.set_result(why)
            self.stopped = stopped

    async def land(self, timeout_s: float | None) -> Outcome:
        """See it to its end, by itself or by a cancellation, and say how it ended.

        Args:
            timeout_s: cancel it after that.
        """
        await asyncio.wait({self.task, self._why}, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        if not self.task.done():
            self.cancel(JobTimeoutException(f"Task exceeded maximum timeout value ({timeout_s} seconds)"))
        for _ in range(CANCELLATIONS):
            if not self.task.done():
                self.task.cancel()
                await asyncio.wait({self.task}, timeout=CANCEL_S)
        return self._outcome()

    def _outcome(self) -> Outcome:
        """A job that was done when it was cancelled counts as done."""
        if not self.task.done():
            log.error("a job ignores its cancellation", job=self.run.job.id, function=self.run.job.description)
        elif not self.task.cancelled() and self.task.exception() is None:
            return Outcome(self.run, value=self.task.result())
        error: BaseException | None
        if self._why.done():
            error = self._why.result()
        elif self.task.cancelled():
            error = asyncio.CancelledError("the job cancelled itself")
        else:
            error = self.task.exception()
        return Outcome(self.run, error=error, stopped=self.stopped)


async def perform(job: Job) -> Any:
    """Run a job's coroutine function on this event loop, with `rq.get_current_job` as in RQ's own workers.

    Raises:
        TypeError: the function is not a coroutine function and would hold up all other jobs.
    """
    _current_job.set(job)
    function = job.func
    if not inspect.iscoroutinefunction(function):
        raise TypeError(f"{job.func_name} is not a coroutine function; run it with 'zoompool worker --stock'")
    try:
        return await function(*job.args, **job.kwargs)
    except SystemExit as error:
        # It would end the worker with everybody's jobs.
        raise RuntimeError(f"{job.func_name} tried to exit the process ({error.code})") from None
