"""Which accounts leave the rotation after a failure at Zoom, how, and for how long.

An account is taken out by its own fault (no licence, not active, its creations of the day are used up) or by that of
its credential, which concerns every account behind it, in every pool. What an operator said about an account is never
overruled. `probe.py` brings quarantined accounts back.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import structlog

from broker.models import Account, AccountState
from broker.operations import REAP_BATCH, Pool
from broker.zoom.errors import Kind, ZoomError
from workers.context import Context

log = structlog.get_logger(__name__)

DAILY = frozenset({"zoom_daily_limit", "zoom_account_daily_limit"})
"""What is used up until 00:00 UTC."""


@dataclass(frozen=True)
class Fault:
    """What a failure means for accounts.

    Attributes:
        state: what they become.
        reason: begins with the error's code; for people, and for the probe.
        until_ms: when they return by themselves; 0 for when a probe says so.
        whole_credential: every account behind the credential is concerned, not only the one that was used.
    """

    state: AccountState
    reason: str
    until_ms: int = 0
    whole_credential: bool = False

    @classmethod
    def of(cls, error: ZoomError, now_ms: int) -> Fault | None:
        """Read a failure; None if no account is to blame.

        Args:
            error: what Zoom answered.
            now_ms: Redis's clock.
        """
        reason = f"{error.code}: {error}"
        whole = error.kind is Kind.CREDENTIAL or error.code == "zoom_account_daily_limit"
        if error.code in DAILY:
            return cls(AccountState.LIMITED, reason, next_utc_midnight_ms(now_ms), whole)
        if error.kind in (Kind.HOST, Kind.CREDENTIAL):
            return cls(AccountState.QUARANTINED, reason, whole_credential=whole)
        return None


def next_utc_midnight_ms(now_ms: int) -> int:
    """When Zoom's daily limits start anew."""
    today = datetime.fromtimestamp(now_ms / 1000, UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    return round((today + timedelta(days=1)).timestamp() * 1000)


async def every_account(context: Context, concerned: Callable[[Account], bool]) -> AsyncIterator[tuple[Pool, Account]]:
    """The accounts of all pools that are `concerned`."""
    for name in await context.broker.pools():
        pool = context.broker.pool(name)
        offset = 0
        while page := await context.broker.run(pool.accounts(offset=offset, count=REAP_BATCH)):
            for account in page:
                if concerned(account):
                    yield pool, account
            offset += len(page)


async def park(context: Context, pool: Pool, account: str, fault: Fault) -> bool:
    """Take one account out of rotation; whether it was in. One that is out already stays as it is."""
    # Read right before: an operator may have disabled it, and a probe must not bring that one back.
    now = await context.broker.run(pool.account(account))
    if now is None or now.state is not AccountState.ACTIVE:
        return False
    await context.broker.run(pool.park_account(account, fault.state, fault.reason, until_ms=fault.until_ms))
    log.warning("account out of rotation", pool=pool.name, account=account, state=fault.state, reason=fault.reason)
    return True


async def park_credential(context: Context, credential: str, fault: Fault) -> int:
    """Take every account behind a credential out of rotation, in all pools; returns how many were in."""
    default = context.settings.default_credential
    parked = 0
    async for pool, account in every_account(context, lambda one: (one.credential or default) == credential):
        parked += await park(context, pool, account.id, fault)
    return parked
