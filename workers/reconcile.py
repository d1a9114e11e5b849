"""Ask Zoom about what only Zoom can settle, and repair what we missed, in both directions.

What is decided from which facts stands in `decisions.py`. Here is who is asked and when: hosts with suspect leases
first, then those that were asked longest ago; every host as a whole once in a rotation. Each host is noted when it was
asked, so a run that is killed or out of time is continued by the next one. One run at a time looks at a pool.
"""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import structlog

from broker.client import translated
from broker.errors import ZoomPoolError
from broker.jobs import RECONCILE
from broker.models import FOREIGN_MEETING, Account, AccountState, Lease
from broker.operations import REAP_BATCH, Pool
from workers.context import Context, open_context
from workers.decisions import Decision, HostFacts, Policy, Verb, decide
from workers.guard import guarded
from workers.host_facts import Question, gather
from workers.repairs import carry_out

log = structlog.get_logger(__name__)

HOSTS_AT_ONCE = 5
RUN_S = RECONCILE.timeout_s * 0.8
"""No further host is begun after this; what is under way has the rest of the job's time."""
FORGOTTEN_ROTATIONS = 20


@dataclass
class Report:
    """What one run found in one pool.

    Attributes:
        pool: its name.
        decisions: by host, in the order in which they were made; with a dry run, what would be done.
        failures: hosts that could not be settled, and why.
        asked: how many hosts Zoom was asked about.
        postponed: how many hosts are left to the next run, because the time was up.
        skipped: another run was at work, so nothing was looked at.
    """

    pool: str
    decisions: list[Decision] = field(default_factory=list)
    failures: dict[str, ZoomPoolError] = field(default_factory=dict)
    asked: int = 0
    postponed: int = 0
    skipped: bool = False

    def fields(self) -> dict[str, Any]:
        """As plain values, for JSON and tables."""
        return {
            "pool": self.pool,
            "skipped": self.skipped,
            "asked": self.asked,
            "postponed": self.postponed,
            "decisions": [decision.fields() for decision in self.decisions],
            "failures": [
                {"account": account, "code": error.code, "error": str(error)}
                for account, error in self.failures.items()
            ],
        }


async def reconcile() -> str:
    """Job: go through all pools. Returns what was done, for the log.

    Raises:
        ExceptionGroup: the data of some pools is broken; all others were settled.
    """
    async with open_context() as opened:
        context = opened.in_background()
        done: Counter[Verb] = Counter()
        broken: list[Exception] = []
        names = await context.broker.pools()
        until_s = asyncio.get_running_loop().time() + RUN_S
        for position, name in enumerate(names):
            # No pool may use up the time of those behind it.
            left_s = until_s - asyncio.get_running_loop().time()
            try:
                report = await reconcile_pool(
                    context, context.broker.pool(name), run_s=left_s / (len(names) - position)
                )
            except ZoomPoolError as error:
                log.warning("pool not reconciled", pool=name, code=error.code, error=str(error))
                continue
            except Exception as error:
                # Such as half-written data: the job fails for everybody to see, but only after the other pools' turn.
                error.add_note(f"in pool {name}")
                broken.append(error)
                continue
            done.update(decision.verb for decision in report.decisions)
        if broken:
            raise ExceptionGroup("pools not reconciled", broken)
        del done[Verb.NOTHING]
        return ", ".join(f"{verb}: {count}" for verb, count in done.items()) or "nothing to do"


async def reconcile_pool(
    context: Context, pool: Pool, *, everything: bool = False, dry_run: bool = False, run_s: float = RUN_S
) -> Report:
    """Settle one pool, host by host; a host that fails is left for the next run.

    Args:
        context: what a job works with.
        pool: which one.
        everything: look at every host as a whole, not only at those whose turn it is.
        dry_run: decide, but change nothing; needs no guard.
        run_s: begin no further host after this.

    Raises:
        GuardLost: the guard could not be extended.
        BrokerUnavailable: Redis did not answer.
    """
    if dry_run:
        return await _Run(context, pool, dry_run=True, run_s=run_s).go(everything=everything)
    async with guarded(context.redis, pool.keys.guard("reconcile")) as free:
        if not free:
            return Report(pool.name, skipped=True)
        return await _Run(context, pool, dry_run=False, run_s=run_s).go(everything=everything)


async def open_questions(context: Context, pool: Pool, *, everything: bool = False) -> list[Question]:
    """The hosts that Zoom has to be asked about now, most urgent first."""
    now_ms = (await context.broker.run(pool.status())).now_ms
    leases: defaultdict[str, list[Lease]] = defaultdict(list)
    urgent = set()
    async for lease, suspect in _open_leases(context, pool):
        leases[lease.account].append(lease)
        if suspect:
            urgent.add(lease.account)
    looked = await _times(context, pool.keys.looked)
    inspected = await _times(context, pool.keys.inspected)
    turn_ms = now_ms - context.settings.reconcile_rotation_s * 1000
    questions = []
    async for account in _accounts(context, pool):
        ours = account.state is AccountState.QUARANTINED and account.reason.startswith(FOREIGN_MEETING)
        whole = everything or inspected.get(account.id, 0.0) <= turn_ms
        if leases[account.id] or ours or whole:
            ids = tuple(lease.id for lease in leases[account.id])
            questions.append(Question(account, ids, account.id in urgent, whole, now_ms))
    return sorted(questions, key=lambda question: (not question.urgent, looked.get(question.account.id, 0.0)))


async def _times(context: Context, key: str) -> dict[str, float]:
    with translated("looked"):
        found: Any = await context.redis.zrange(key, 0, -1, withscores=True)
    return dict(found)


async def _open_leases(context: Context, pool: Pool) -> AsyncIterator[tuple[Lease, bool]]:
    """Every suspect lease, and every one with a meeting that is old enough for its own job to have spoken."""
    for suspect in (True, False):
        offset = 0
        while page := await context.broker.run(pool.leases(suspect=suspect, offset=offset, count=REAP_BATCH)):
            for lease in page:
                age_s = (lease.now_ms - lease.since_ms) / 1000
                if suspect or (lease.meeting_id and age_s >= context.settings.reconcile_grace_s):
                    yield lease, suspect
            offset += len(page)


async def _accounts(context: Context, pool: Pool) -> AsyncIterator[Account]:
    offset = 0
    while page := await context.broker.run(pool.accounts(offset=offset, count=REAP_BATCH)):
        for account in page:
            yield account
        offset += len(page)


class _Run:
    """One run through one pool."""

    def __init__(self, context: Context, pool: Pool, *, dry_run: bool, run_s: float) -> None:
        self._context = context
        self._pool = pool
        self._dry_run = dry_run
        self._policy = Policy.of(context.settings)
        self._until_s = asyncio.get_running_loop().time() + run_s
        self._places = asyncio.Semaphore(HOSTS_AT_ONCE)
        self._report = Report(pool.name)

    async def go(self, *, everything: bool) -> Report:
        questions = await open_questions(self._context, self._pool, everything=everything)
        async with asyncio.TaskGroup() as tasks:
            for question in questions:
                tasks.create_task(self._settle(question))
        if self._report.postponed:
            log.warning("hosts are left to the next run", pool=self._pool.name, hosts=self._report.postponed)
        return self._report

    async def _settle(self, question: Question) -> None:
        async with self._places:
            if asyncio.get_running_loop().time() >= self._until_s:
                self._report.postponed += 1
                return
            self._report.asked += 1
            try:
                await self._ask(question)
            except ZoomPoolError as error:
                self._failed(question.account.id, error)

    async def _ask(self, question: Question) -> None:
        try:
            facts = await gather(self._context, self._pool, question)
        except ZoomPoolError:
            await self._note(question, inspected=False)
            raise
        for decision in decide(facts, self._policy):
            self._report.decisions.append(decision)
            if not self._dry_run and decision.verb is not Verb.NOTHING:
                await self._carry_out(facts, decision)
        # Where a meeting of ours is left over, the next run looks again instead of the next rotation.
        done = not any(stray.lease for stray in facts.strays)
        await self._note(question, inspected=done and (facts.user is not None or facts.refusal is not None))

    async def _carry_out(self, facts: HostFacts, decision: Decision) -> None:
        try:
            await carry_out(self._context, self._pool, facts, decision)
        except ZoomPoolError as error:
            # Its other leases and meetings can be settled all the same.
            self._failed(facts.account.id, error)
            return
        log.info(
            "reconciled",
            pool=self._pool.name,
            account=decision.account.id,
            lease=str(decision.lease.id) if decision.lease else "",
            meeting_id=decision.meeting.id if decision.meeting else None,
            decision=decision.verb,
            why=decision.why,
        )

    def _failed(self, account: str, error: ZoomPoolError) -> None:
        self._report.failures[account] = error
        log.warning("host not settled", pool=self._pool.name, account=account, code=error.code, error=str(error))

    async def _note(self, question: Question, *, inspected: bool) -> None:
        """Put the host at the end of the line, also when it failed: it must not keep others from their turn."""
        if self._dry_run:
            return
        keys, now_ms = self._pool.keys, question.now_ms
        # Hosts of the pool are asked once in a rotation; what is much older belongs to accounts that left.
        forgotten_ms = now_ms - FORGOTTEN_ROTATIONS * round(self._context.settings.reconcile_rotation_s * 1000)
        with translated("looked"):
            for key in (keys.looked, keys.inspected) if inspected else (keys.looked,):
                await self._context.redis.zadd(key, {question.account.id: now_ms})
                await self._context.redis.zremrangebyscore(key, "-inf", forgotten_ms)
