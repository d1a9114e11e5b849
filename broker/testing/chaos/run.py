"""One chaos run: everything goes wrong for a while, then nothing does, and then the system has to be as good as new."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from http import HTTPStatus
from typing import Any
from urllib.parse import urlsplit

import structlog

from broker.errors import BrokerUnavailable
from broker.jobs import QueueName
from broker.models import Account
from broker.testing.chaos.hazards import Hazards
from broker.testing.chaos.lessons import Lessons, Outcomes
from broker.testing.chaos.plan import PROCESSES, Fault, Kind, draw
from broker.testing.chaos.proxy import Proxy, to_port, to_socket
from broker.testing.environment import example_accounts
from broker.testing.school import School
from broker.testing.stack import Stack
from broker.testing.verdict import Verdict, settle
from broker.testing.zoom_simulator import (
    HostSpec,
    Latency,
    LatencyKind,
    RateLimits,
    SimulatorSettings,
    TokenPolicy,
    WebhookConfig,
)

log = structlog.get_logger(__name__)

HOSTS = 10
CAPACITIES = (1, 2)
RATE = 2.0
SETTLE_S = 90.0
"""RQ brings back the jobs of a killed worker after a minute and a quarter, and nothing takes longer than that."""

STEADY_S = 5.0

SETTINGS: dict[str, Any] = {
    "redis_timeout_s": 1.5,
    "claim_ttl_s": 4,
    "zoom_timeout_s": 2,
    "attempt_ttl_s": 2.5,
    "create_ttl_s": 12,
    "start_grace_s": 8,
    "live_ttl_s": 6,
    "max_hold_s": 90,
    "ticket_ttl_s": 6,
    "reap_interval_s": 1,
    "reconcile_interval_s": 2,
    "reconcile_grace_s": 1,
    "reconcile_rotation_s": 8,
    "probe_interval_s": 2,
    "probe_longest_s": 4,
    "scheduler_interval_s": 1,
    "worker_drain_s": 2,
    "zoom_host_daily": 0,
}
"""Short, so that every deadline passes many times in a run; in proportion they are like the defaults."""


@dataclass(frozen=True)
class Result:
    """What came of a run.

    Attributes:
        seed, seconds: which run it was; the same seed has the same plan.
        lessons: what teachers say.
        internal_errors: answers of the API with status 500, which it never means to give.
        verdict: what was wrong when everything had settled.
        settled_s: how long that took after everybody had left.
        faults: how many faults of each kind took place, kills too.
        unseen: kinds that were planned and never took place.
        failed: processes that ended without being killed.
    """

    seed: int
    seconds: float
    lessons: Outcomes
    internal_errors: int
    verdict: Verdict
    settled_s: float
    faults: dict[Kind, int]
    unseen: tuple[Kind, ...]
    failed: tuple[str, ...]

    @property
    def clean(self) -> bool:
        """Whether the system came through: nobody double booked, nothing lost, and everything was tried."""
        wrong = (self.lessons.shared_slots, self.lessons.problems, self.internal_errors, self.unseen)
        return self.verdict.clean and not any(wrong)

    def last_line(self) -> dict[str, Any]:
        """The result for machines."""
        said = asdict(self.lessons)
        wrong = asdict(self.verdict)
        shared = said.pop("shared_slots")
        return {
            "seed": self.seed,
            "seconds": self.seconds,
            **said,
            "problems": len(self.lessons.problems),
            "internal_errors": self.internal_errors,
            **wrong,
            "invariant_violations": len(self.verdict.invariant_violations),
            "shared_slots": shared,
            "settled_s": round(self.settled_s, 1),
            "kills": {kind: self.faults[kind] for kind in sorted(self.faults) if kind.is_kill},
            "faults": {kind: self.faults[kind] for kind in sorted(self.faults) if not kind.is_kill},
            "unseen": self.unseen,
            "ended_by_themselves": len(self.failed),
        }


class Chaos:
    """A system in which everything goes wrong.

    Args:
        stack: the system, running.
        proxies: those through which its processes reach `redis` and `zoom`.
        seed: of what goes wrong, and of what people do.
        seconds: how long things go wrong.
        rate: how many lessons start in a second.

    Attributes:
        plan: what goes wrong.
        lessons: who uses it; None before they do.
        hazards: what has gone wrong so far; None before anything does.
    """

    def __init__(self, stack: Stack, proxies: dict[str, Proxy], *, seed: int, seconds: float, rate: float) -> None:
        self.plan = plan(seed, seconds)
        self.lessons: Lessons | None = None
        self.hazards: Hazards | None = None
        self._stack = stack
        self._proxies = proxies
        self._seed = seed
        self._seconds = seconds
        self._rate = rate

    async def run(self, school: School) -> Result:
        """Let it happen, wait until everything has settled, and judge.

        Args:
            school: of the same system.
        """
        lessons = self.lessons = Lessons(school, rate=self._rate, seconds=self._seconds, seed=self._seed)
        hazards = self.hazards = Hazards(self._stack, school, self._proxies)
        began_s = time.monotonic()
        people = asyncio.create_task(lessons.run())
        try:
            await hazards.carry_out(self.plan, began_s)
            await hazards.put_right()
            await people
        finally:
            people.cancel()
        await send_home(school)
        calm_s = time.monotonic()
        await self._settled(school, hazards)
        settled_s = time.monotonic() - calm_s
        # What is on its way still (a late webhook, a job's retry) must not spoil it again.
        await asyncio.sleep(STEADY_S)
        verdict = await self._settled(school, hazards)
        planned = {fault.kind for fault in self.plan}
        return Result(
            seed=self._seed,
            seconds=self._seconds,
            lessons=lessons.outcomes(),
            internal_errors=school.statuses[HTTPStatus.INTERNAL_SERVER_ERROR],
            verdict=verdict,
            settled_s=settled_s,
            faults=dict(hazards.seen),
            unseen=tuple(sorted(kind for kind in planned if not hazards.seen[kind])),
            failed=tuple(hazards.failed),
        )

    async def _settled(self, school: School, hazards: Hazards) -> Verdict:
        look = _unless_down(hazards.midnight)
        return await settle(self._stack.broker, school, slots=self._stack.slots, timeout_s=SETTLE_S, look=look)


def _unless_down(do: Callable[[], None]) -> Callable[[], None]:
    def look() -> None:
        try:
            do()
        except BrokerUnavailable:
            log.warning("redis does not answer")

    return look


async def send_home(school: School) -> None:
    """Everybody who is still in a meeting leaves it."""
    for meeting in await school.meetings():
        for person in (*meeting["participants"], *meeting["lobby"]):
            await school.leave(int(meeting["id"]), person["participant_id"])


def plan(seed: int, seconds: float) -> tuple[Fault, ...]:
    """What goes wrong in a run."""
    return draw(seed, seconds, [account.email for account in accounts()])


def accounts() -> tuple[Account, ...]:
    """The accounts of every run."""
    return example_accounts(HOSTS, CAPACITIES)


@contextmanager
def chaos(
    *, seed: int, seconds: float, rate: float = RATE, look: Callable[[], None] = lambda: None
) -> Iterator[tuple[Chaos, Stack]]:
    """A running system, ready for chaos; afterwards nothing of it is left.

    Args:
        seed: of what goes wrong, and of what people do.
        seconds: how long things go wrong.
        rate: how many lessons start in a second.
        look: called again and again while it starts; may raise to give up.
    """
    shared = accounts()
    proxies: dict[str, Proxy] = {}
    with ExitStack() as opened:

        def route(part: str, url: str) -> str:
            where = urlsplit(url)
            to = to_socket(where.path) if where.scheme == "unix" else to_port(where.port or 0)
            proxy = proxies[part] = opened.enter_context(Proxy(to))
            scheme = "redis" if part == "redis" else where.scheme
            return f"{scheme}://127.0.0.1:{proxy.port}"

        workers = {QueueName(part): len(names) for part, names in PROCESSES.items() if part in set(QueueName)}
        stack = Stack(shared, workers=workers, settings=SETTINGS, zoom=zoom(shared, seed), look=look, route=route)
        # Stopped before the proxies close, which were opened while it started.
        with stack:
            yield Chaos(stack, proxies, seed=seed, seconds=seconds, rate=rate), stack


def zoom(shared: Sequence[Account], seed: int) -> SimulatorSettings:
    """A Zoom whose own delays pass quickly, with the stricter reading of whatever its documentation leaves open."""
    return SimulatorSettings(
        seed=seed,
        time_scale=0.05,
        token_policy=TokenPolicy.SINGLE_VALID,
        latency=Latency(kind=LatencyKind.UNIFORM, ms=100, spread=50),
        hosts=tuple(HostSpec(email=account.email, capacity=account.capacity) for account in shared),
        rate_limits=RateLimits(host_daily=0),
        webhooks=WebhookConfig(retry_after_s=(20, 60, 120), reorder_window_s=60),
    )
