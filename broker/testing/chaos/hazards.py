"""Makes the faults of a plan happen, and puts everything right again."""

from __future__ import annotations

import asyncio
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from http import HTTPStatus
from typing import Any

import structlog

from broker.errors import BrokerUnavailable
from broker.models import AccountState
from broker.testing.chaos.plan import Fault, Kind
from broker.testing.chaos.proxy import Proxy, Trouble
from broker.testing.process import ProcessFailed
from broker.testing.school import School
from broker.testing.stack import Stack
from broker.testing.zoom_simulator.settings import UserStatus, UserType

log = structlog.get_logger(__name__)

EXTRA_S = 45.0
"""A rule that no call has met when its time is up stays for so long at most: whoever makes such calls may be down."""
LOOK_S = 0.2
SUPERVISE_S = 0.5
SLOW_MS = 1_200
LATE_MS = 6_000
LISTED_AFTER_S = 1.0

CREATE = {"method": "POST", "path": "/v2/users/*/meetings"}
TOO_MANY = "You have reached the maximum per-second rate limit for this API. Try again later."
DAY_IS_OVER = (
    "You have exceeded the daily rate limit (100) of Meeting Create/Update API requests permitted for this particular "
    "user. You may resume these requests at GMT 00:00:00."
)

RULES: dict[Kind, dict[str, Any]] = {
    Kind.ZOOM_DOWN: {"path": "/v2/*", "action": "respond", "status": HTTPStatus.SERVICE_UNAVAILABLE},
    Kind.ZOOM_SLOW: {"path": "/v2/*", "action": "delay", "delay_ms": SLOW_MS},
    Kind.TIMEOUT_BEFORE: {**CREATE, "action": "hang"},
    Kind.TIMEOUT_AFTER: {**CREATE, "action": "hang", "when": "after"},
    Kind.RESET_BEFORE: {**CREATE, "action": "reset"},
    Kind.RESET_AFTER: {**CREATE, "action": "reset", "when": "after"},
    Kind.RATE_LIMITED: {
        **CREATE,
        "action": "respond",
        "status": HTTPStatus.TOO_MANY_REQUESTS,
        "body": {"code": 429, "message": TOO_MANY},
    },
    Kind.DAILY_LIMIT: {
        **CREATE,
        "action": "respond",
        "status": HTTPStatus.TOO_MANY_REQUESTS,
        "body": {"code": 429, "message": DAY_IS_OVER},
        "times": 1,
    },
    Kind.TOKEN_ENDPOINT_DOWN: {"path": "/oauth/token", "action": "respond", "status": HTTPStatus.SERVICE_UNAVAILABLE},
    Kind.END_WITHOUT_EFFECT: {
        "method": "PUT",
        "path": "/v2/meetings/*/status",
        "action": "respond",
        "status": HTTPStatus.NO_CONTENT,
    },
}
"""Faults that are a rule of the simulator; see `broker.testing.zoom_simulator.faults`."""

WEBHOOKS: dict[Kind, tuple[dict[str, Any], dict[str, Any]]] = {
    Kind.WEBHOOKS_LOST: ({"loss": 1.0}, {"loss": 0.0}),
    Kind.WEBHOOKS_LATE: ({"delay": {"kind": "uniform", "ms": LATE_MS, "spread": LATE_MS}}, {"delay": {}}),
    Kind.WEBHOOKS_TWICE: ({"duplication": 1.0}, {"duplication": 0.0}),
    Kind.WEBHOOKS_REORDERED: ({"reorder": 0.7}, {"reorder": 0.0}),
}
"""What is done to webhooks, and what puts it right."""

HOSTS: dict[Kind, tuple[dict[str, Any], dict[str, Any]]] = {
    Kind.LICENCE_REVOKED: ({"type": int(UserType.UNASSIGNED)}, {"type": int(UserType.LICENSED)}),
    Kind.USER_DEACTIVATED: ({"status": UserStatus.INACTIVE.value}, {"status": UserStatus.ACTIVE.value}),
}

TROUBLES: dict[Kind, tuple[str, Trouble]] = {
    Kind.CUT_REDIS: ("redis", Trouble.CUT),
    Kind.STALL_REDIS: ("redis", Trouble.STALL),
    Kind.CUT_ZOOM: ("zoom", Trouble.CUT),
    Kind.STALL_ZOOM: ("zoom", Trouble.STALL),
}


class Hazards:
    """What goes wrong in one run.

    Args:
        stack: whose processes are killed.
        school: the way to the simulated Zoom.
        proxies: those in front of `redis` and `zoom`.

    Attributes:
        seen: how many faults of each kind took place. One that nothing met does not count.
        failed: processes that ended without being killed; they were started again.
    """

    def __init__(self, stack: Stack, school: School, proxies: dict[str, Proxy]) -> None:
        self.seen: Counter[Kind] = Counter()
        self.failed: list[str] = []
        self._stack = stack
        self._school = school
        self._proxies = proxies
        self._turns: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def carry_out(self, plan: Iterable[Fault], began_s: float) -> None:
        """Let everything go wrong at its time; returns when all of it is put right.

        Args:
            plan: what.
            began_s: when the run began, on the monotonic clock.
        """
        supervisor = asyncio.create_task(self._supervise())
        try:
            async with asyncio.TaskGroup() as tasks:
                for fault in plan:
                    tasks.create_task(self._carry_out(fault, began_s))
        finally:
            supervisor.cancel()
            await asyncio.gather(supervisor, return_exceptions=True)

    async def put_right(self) -> None:
        """Whatever happened: no rule is left, and every process runs."""
        await self._school.clear_faults()
        for name, process in self._stack.processes.items():
            async with self._turns[name]:
                process.resume()
                await self._start(name)

    def midnight(self) -> None:
        """Bring back the accounts whose creations of the day are used up, as 00:00 UTC would."""
        pool = self._stack.broker.pool()
        for account in self._stack.broker.run(pool.accounts()):
            if account.state is AccountState.LIMITED:
                self._stack.broker.run(pool.unpark_account(account.id))

    async def _carry_out(self, fault: Fault, began_s: float) -> None:
        await asyncio.sleep(max(began_s + fault.at_s - time.monotonic(), 0))
        log.info("goes wrong", kind=fault.kind, target=fault.target, lasts_s=fault.lasts_s)
        async with self._how(fault):
            await asyncio.sleep(fault.lasts_s)

    def _how(self, fault: Fault) -> AbstractAsyncContextManager[None]:
        kind = fault.kind
        if kind.is_kill:
            return self._killed(fault)
        if kind.is_freeze:
            return self._frozen(fault)
        if kind in TROUBLES:
            return self._troubled(fault)
        if kind in HOSTS:
            return self._host_changed(fault)
        if kind in WEBHOOKS:
            return self._webhooks_changed(fault)
        if kind is Kind.TOKENS_REVOKED:
            return self._tokens_revoked(fault)
        if kind is Kind.LISTED_LATE:
            return self._listed_late(fault)
        return self._ruled(fault)

    # Each begins a fault, counts it when its time is up, and puts it right.

    @asynccontextmanager
    async def _killed(self, fault: Fault) -> AsyncIterator[None]:
        process = self._stack.processes[fault.target]
        async with self._turns[fault.target]:
            self.seen[fault.kind] += process.alive
            process.kill()
            yield
            await self._start(fault.target)

    @asynccontextmanager
    async def _frozen(self, fault: Fault) -> AsyncIterator[None]:
        process = self._stack.processes[fault.target]
        async with self._turns[fault.target]:
            process.pause()
            yield
            self.seen[fault.kind] += process.alive
            process.resume()

    @asynccontextmanager
    async def _troubled(self, fault: Fault) -> AsyncIterator[None]:
        part, trouble = TROUBLES[fault.kind]
        self._proxies[part].begin(trouble)
        yield
        self.seen[fault.kind] += 1
        self._proxies[part].end(trouble)

    @asynccontextmanager
    async def _host_changed(self, fault: Fault) -> AsyncIterator[None]:
        wrong, right = HOSTS[fault.kind]
        async with self._turns[f"{fault.kind} {fault.target}"]:
            await self._school.change_host(fault.target, **wrong)
            yield
            self.seen[fault.kind] += 1
            await self._school.change_host(fault.target, **right)

    @asynccontextmanager
    async def _tokens_revoked(self, fault: Fault) -> AsyncIterator[None]:
        await self._school.revoke_tokens()
        self.seen[fault.kind] += 1
        yield

    @asynccontextmanager
    async def _listed_late(self, fault: Fault) -> AsyncIterator[None]:
        async with self._turns[fault.kind]:
            await self._school.switch(listed_after_s=LISTED_AFTER_S)
            yield
            self.seen[fault.kind] += 1
            await self._school.switch(listed_after_s=0)

    @asynccontextmanager
    async def _webhooks_changed(self, fault: Fault) -> AsyncIterator[None]:
        wrong, right = WEBHOOKS[fault.kind]
        async with self._turns[fault.kind]:
            before = (await self._school.webhooks(**wrong))["events"]

            async def met() -> bool:
                return bool((await self._school.webhooks())["events"] > before)

            yield
            self.seen[fault.kind] += await _soon(met)
            await self._school.webhooks(**right)

    @asynccontextmanager
    async def _ruled(self, fault: Fault) -> AsyncIterator[None]:
        if fault.kind is Kind.TOKEN_ENDPOINT_DOWN:
            await self._school.revoke_tokens()  # or nobody would ask for new ones
        rule = await self._school.add_fault(**RULES[fault.kind])

        async def met() -> bool:
            return await self._school.fault_applied(rule) > 0

        yield
        self.seen[fault.kind] += await _soon(met)
        await self._school.remove_fault(rule)
        if fault.kind is Kind.DAILY_LIMIT:
            try:
                self.midnight()
            except BrokerUnavailable:
                log.info("no midnight, as Redis is down")  # it comes at the end of the run at the latest

    # Processes

    async def _start(self, name: str) -> None:
        """Start a process if it does not run, and wait until it is ready.

        It is started on this thread, which lives on; see `Process.start`. The wait blocks, so it has another one.
        """
        self._stack.processes[name].start()
        try:
            await asyncio.to_thread(self._stack.wait_ready, name)
        except ProcessFailed as error:
            log.warning("process did not come back at once", process=name, error=str(error).partition("\n")[0])

    async def _supervise(self) -> None:
        """Start again what ended by itself, as systemd would."""
        while True:
            await asyncio.sleep(SUPERVISE_S)
            for name, process in self._stack.processes.items():
                if self._turns[name].locked():
                    continue
                try:
                    process.check()
                except ProcessFailed as error:
                    self.failed.append(str(error))
                    log.warning("process ended by itself", process=name)
                    process.start()


async def _soon(met: Callable[[], Awaitable[bool]]) -> bool:
    """Whether a fault was met, now or within a while."""
    for _ in range(round(EXTRA_S / LOOK_S)):
        if await met():
            return True
        await asyncio.sleep(LOOK_S)
    return False
