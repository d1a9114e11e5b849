"""Who hosts on a teacher's own Zoom account, where nobody said so: whoever owns that account.

Zoom's `me` is no answer, because a Server-to-Server app acts for no user.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from broker.models import Account, AccountState, Change, Credential, Lease
from broker.operations import Pool
from broker.zoom import ZoomError
from broker.zoom.errors import Kind
from broker.zoom.models import User
from workers.context import Context

OWNER_ROLE = "0"
"""Zoom's `role_id` of an account's owner, in the list of users."""


async def hosted(context: Context, pool: Pool, account: Account, credential: Credential) -> Account:
    """The account with a host: its own, or else the owner of the Zoom account, who is entered in it.

    Raises:
        ZoomError: Zoom lists nobody who is surely meant, or he is another account of the pool.
    """
    if account.host:
        return account
    host = owner_of(await context.zoom.list_users(credential), credential.name)
    account = replace(account, zoom_user_id=host.id, email=host.email)
    if account.state is not AccountState.REMOVING:
        made = await context.broker.run(pool.add_account(account))
        if made.change is Change.CONFLICT:
            raise ZoomError(
                f"whoever owns the Zoom account of credential {credential.name!r} is account {made.taken_by!r} of pool "
                f"{pool.name!r} already",
                code="zoom_host_unknown",
                kind=Kind.HOST,
            )
    return account


async def with_host(context: Context, pool: Pool, lease: Lease, credential: Credential) -> Lease:
    """The same for a lease.

    Raises:
        ZoomError: Zoom lists nobody who is surely meant, or he is another account of the pool.
    """
    if lease.zoom_user_id or lease.email:
        return lease
    account = await context.broker.run(pool.account(lease.account))
    if account is None:
        return lease  # which is over: an account stays as long as its leases
    account = await hosted(context, pool, account, credential)
    await context.broker.run(pool.record(lease.id, zoom_user_id=account.zoom_user_id, email=account.email))
    return replace(lease, zoom_user_id=account.zoom_user_id, email=account.email)


def owner_of(users: Sequence[User], credential: str) -> User:
    """The one who is surely meant: the owner, if he can host, or the only one who can.

    Raises:
        ZoomError: there is none.
    """
    able = [user for user in users if user.can_host]
    owners = [user for user in able if user.role_id == OWNER_ROLE]
    for candidates in (owners, able):
        if len(candidates) == 1:
            return candidates[0]
    raise ZoomError(
        f"the Zoom account of credential {credential!r} has {len(able)} users who can host, and it is not said which "
        "one is meant: register the teacher's zoom_user_id",
        code="zoom_host_unknown",
        kind=Kind.HOST,
    )
