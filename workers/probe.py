"""Bring quarantined accounts back when Zoom says that they can host again.

What is asked depends on what took the account out: its user must be active and licensed, and if it was the credential,
Zoom must give a token with all scopes. No meeting of an earlier lesson may run on it. An account that fails the probe
is asked less and less often; one that came back and failed again soon goes on where it was, so that a host whose
refusals the probe cannot foresee does not flap. One whose credential was saved anew is asked about at once. Accounts
that the reconciler took out because of a meeting that nobody leased are its own to bring back, and those of an operator
are the operator's. Daily limits end by themselves at 00:00 UTC.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

import structlog

from broker.client import translated
from broker.errors import SecretUnreadable, UnknownCredential, ZoomPoolError
from broker.jobs import PROBE
from broker.models import FOREIGN_MEETING, Account, AccountState
from broker.operations import Pool
from broker.registry import credentials
from broker.settings import Settings
from broker.zoom import ZoomError
from broker.zoom.errors import CREDENTIAL_CODES, Kind
from broker.zoom.scopes import missing
from workers.context import Context, open_context
from workers.end_meeting import remove
from workers.guard import guarded
from workers.host_facts import strays_on
from workers.own_host import owner_of
from workers.quarantine import every_account

log = structlog.get_logger(__name__)

RUN_S = PROBE.timeout_s * 0.6
"""No further account is asked about after this; the rest has its turn in the next run."""
FORGOTTEN_AFTER = 4
"""So many of the longest pauses without a probe, and an account's next quarantine begins with short ones again."""


@dataclass(frozen=True)
class Probes:
    """How an account's probes went: how many in a row, and when the last one was."""

    count: int = 0
    last_ms: int = 0

    @classmethod
    def parse(cls, text: str | None) -> Probes:
        """Read what `str` wrote; None is an account that was never probed."""
        count, _, last_ms = (text or "0:0").partition(":")
        return cls(int(count), int(last_ms))

    def __str__(self) -> str:
        return f"{self.count}:{self.last_ms}"

    def next_ms(self, settings: Settings) -> int:
        """When the next one is due: after 5, 10, 20, 40, then 60 minutes each, with the default settings."""
        if not self.count:
            return 0
        # Doubled no further than any cap can lie: the count grows without end.
        pause_s = min(settings.probe_interval_s << min(self.count - 1, 16), settings.probe_longest_s)
        # A little early, so that a run that starts a moment too soon does not cost a whole period.
        return self.last_ms + round(pause_s * 900)

    def remembered(self, settings: Settings, now_ms: int) -> Probes:
        """The same, or a new beginning if the last one is long ago."""
        forgotten = now_ms - self.last_ms > FORGOTTEN_AFTER * settings.probe_longest_s * 1000
        return Probes() if forgotten else self


async def probe() -> str:
    """Job: probe the quarantined accounts of all pools whose time has come. Returns what was done, for the log."""
    async with open_context() as opened:
        context = opened.in_background()
        until_s = asyncio.get_running_loop().time() + RUN_S
        asked = back = 0
        due = [(pool, account) async for pool, account in every_account(context, probed)]
        for pool in {pool.name: pool for pool, _ in due}.values():
            async with guarded(context.redis, pool.keys.guard("probe")) as free:
                if not free:
                    continue
                accounts = [account for its, account in due if its.name == pool.name]
                for account, before in await _due(context, pool, accounts):
                    if asyncio.get_running_loop().time() >= until_s:
                        break
                    asked += 1
                    back += await _probe(context, pool, account, before)
        return f"{asked} asked, {back} returned"


def probed(account: Account) -> bool:
    """Whether it is for the probe to bring this account back."""
    return account.state is AccountState.QUARANTINED and not account.reason.startswith(FOREIGN_MEETING)


async def came_back(context: Context, pool: Pool, account: Account) -> bool:
    """Put an account back into rotation; false if it is not quarantined any more, or by now for another reason, or if
    the meeting of an earlier lesson runs on it.

    Raises:
        ZoomError: Zoom did not say what is left on it.
        BrokerUnavailable: Redis did not answer.
    """
    if running := await left_on(context, pool, account):
        log.info("account stays out of rotation", pool=pool.name, account=account.id, running=running)
        return False
    now = await context.broker.run(pool.account(account.id))
    if now is None or not probed(now) or now.reason != account.reason:
        return False
    await context.broker.run(pool.unpark_account(account.id))
    log.info("account back in rotation", pool=pool.name, account=account.id, was=account.reason)
    return True


async def _due(context: Context, pool: Pool, accounts: list[Account]) -> list[tuple[Account, Probes]]:
    """Those whose time has come, longest unprobed first. What is long past is forgotten."""
    now_ms = (await context.broker.run(pool.status())).now_ms
    with translated("probes"):
        stored: Any = await context.redis.hgetall(pool.keys.probes)
        known = {id: Probes.parse(text).remembered(context.settings, now_ms) for id, text in stored.items()}
        past = [id for id, probes in known.items() if not probes.count]
        if past:
            await context.redis.hdel(pool.keys.probes, *past)
    due = []
    for account in accounts:
        probes = known.get(account.id, Probes())
        if probes.next_ms(context.settings) <= now_ms or await _credential_changed(context, account, probes):
            due.append((account, probes))
    return sorted(due, key=lambda one: one[1].last_ms)


async def _credential_changed(context: Context, account: Account, probes: Probes) -> bool:
    """Whether what took the account out may have been mended since its last probe."""
    if not by_credential(account):
        return False
    name = account.credential or context.settings.default_credential
    return await credentials.saved_ms(context.redis, name) > probes.last_ms


def by_credential(account: Account) -> bool:
    """Whether the fault of its credential took the account out."""
    return account.reason.partition(":")[0] in CREDENTIAL_CODES


async def _probe(context: Context, pool: Pool, account: Account, before: Probes) -> bool:
    """Ask Zoom about one account; whether it returned."""
    bound = log.bind(pool=pool.name, account=account.id, was=account.reason)
    now_ms = (await context.broker.run(pool.status())).now_ms
    # Noted first: an account on which we are killed must not keep the others from their turn for ever.
    with translated("probes"):
        await context.redis.hset(pool.keys.probes, account.id, str(Probes(before.count + 1, now_ms)))
    try:
        trouble = await trouble_with(context, account)
        if not trouble:
            return await came_back(context, pool, account)
    except ZoomPoolError as error:
        # Zoom or Redis has a bad moment, which says nothing about the account: this probe does not count.
        with translated("probes"):
            await context.redis.hset(pool.keys.probes, account.id, str(Probes(before.count, now_ms)))
        bound.warning("probe without an answer", code=error.code)
        return False
    bound.info("account stays out of rotation", trouble=trouble)
    return False


async def left_on(context: Context, pool: Pool, account: Account) -> list[int]:
    """The meetings that run on an account and that nobody leased. Idle ones of ours are deleted.

    While Zoom refused the host, leases on it were given up without Zoom's word, so that their lessons could start
    elsewhere. Their meetings are still there, and whoever has a link to one could start it beside the next lesson.

    Raises:
        ZoomError: Zoom did not answer as it should.
        BrokerUnavailable: Redis did not answer.
    """
    running = []
    for stray in await strays_on(context, pool, account):
        if stray.running:
            running.append(stray.meeting.id)
        else:
            await remove(context, await context.credential(account.credential), stray.meeting.id)
    return running


async def trouble_with(context: Context, account: Account) -> str:
    """Why an account cannot host now; empty if it can.

    Raises:
        ZoomError: Zoom gave no answer that says so or so.
        BrokerUnavailable: Redis did not answer.
    """
    try:
        credential = await context.credential(account.credential)
        if by_credential(account):
            granted = await context.zoom.scopes(credential)
            if granted and (lacking := missing(granted)):
                return f"the OAuth app lacks the scopes {', '.join(lacking)}"
        if account.host:
            user = await context.zoom.get_user(credential, account.host)
        else:
            user = owner_of(await context.zoom.list_users(credential), credential.name)
    except (UnknownCredential, SecretUnreadable) as error:
        return str(error)
    except ZoomError as error:
        if error.kind is Kind.TRANSIENT:
            raise
        return str(error)
    return "" if user.can_host else f"user is {user.status or 'unknown'}, type {user.type}"
