"""Many accounts at once: from a table that somebody wrote, or from Zoom's own list of users."""

from __future__ import annotations

import contextlib
import csv
import io
from collections.abc import Collection, Iterable, Sequence
from typing import Any

from broker.client import AsyncBroker
from broker.errors import HostTaken, ImportRefused, InvalidName, UnknownCredential
from broker.models import MAX_CAPACITY, Account, Change, check_account, host_names
from broker.registry import credentials
from broker.secrets import SecretBox
from broker.zoom import ZoomClient
from broker.zoom.models import User

COLUMNS = ("id", "email", "zoom_user_id", "credential", "capacity")
BATCH = 100
"""Most accounts that are added in one round trip."""


async def import_from_zoom(
    broker: AsyncBroker, box: SecretBox, zoom: ZoomClient, pool: str, credential: str, *, dry_run: bool
) -> tuple[Account, ...]:
    """Take all users that Zoom lets host into a pool; return them as accounts.

    Args:
        broker: the pools.
        box: opens the credential.
        zoom: lists the users.
        pool: where they go; the default pool if empty.
        credential: by which they are listed and will be reached; the default one if empty.
        dry_run: change nothing.

    Raises:
        UnknownCredential, SecretUnreadable: there is no such credential, or it cannot be read.
        ZoomError: Zoom gave no whole list.
        ImportRefused: one of the users cannot be an account.
        HostTaken: as for `take`.
        BrokerUnavailable: Redis did not answer; repeating is safe.
    """
    name = credential or broker.settings.default_credential
    users = await zoom.list_users(await credentials.load(broker.redis, box, name))
    known = await in_pool(broker, pool)
    accounts = from_zoom(users, name, licensed_capacity=broker.settings.licensed_capacity, known=known)
    await take(broker, pool, accounts, dry_run=dry_run)
    return accounts


async def take(broker: AsyncBroker, pool: str, accounts: Sequence[Account], *, dry_run: bool = False) -> None:
    """Add accounts to a pool, or change those that are there, and register the pool.

    Who is killed on the way leaves some of them; a repetition adds the rest. Zoom users are compared with the pool as
    it was before, so one that goes from an account to another needs two lists.

    Args:
        broker: the pools.
        pool: where they go; the default pool if empty.
        accounts: a whole list, with each Zoom user once.
        dry_run: only see whether they could be taken.

    Raises:
        UnknownCredential: one of them would be reached with none that is registered; none was added.
        HostTaken: the Zoom users of some are other accounts in the pool; none was added, unless somebody added those
            others at the same moment.
        BrokerUnavailable: Redis did not answer; repeating is safe.
    """
    known = await credentials.names(broker.redis)
    for name in sorted({account.credential for account in accounts} - {*known}):
        raise UnknownCredential(name)
    operations = broker.pool(pool)
    holders = {name: account.id for account in await in_pool(broker, pool) for name in account.names}
    held = ((account.id, holders.get(name, account.id)) for account in accounts for name in account.names)
    if taken := {id: holder for id, holder in held if holder != id}:
        raise HostTaken(operations.name, taken)
    if dry_run:
        return
    for first in range(0, len(accounts), BATCH):
        batch = accounts[first : first + BATCH]
        made = await broker.run_all([operations.add_account(account) for account in batch])
        answers = zip(batch, made, strict=True)
        if taken := {account.id: answer.taken_by for account, answer in answers if answer.change is Change.CONFLICT}:
            raise HostTaken(operations.name, taken)
    await broker.run(operations.register())


async def in_pool(broker: AsyncBroker, pool: str) -> list[Account]:
    """All accounts of a pool, the default pool if that is empty.

    Raises:
        BrokerUnavailable: Redis did not answer.
    """
    found: list[Account] = []
    while page := await broker.run(broker.pool(pool).accounts(offset=len(found))):
        found += page
    return found


def row(account: Account) -> dict[str, Any]:
    """What a list tells of an account, by column; JSON can hold it."""
    return {name: getattr(account, name) for name in COLUMNS}


def from_csv(text: str, credential: str, capacity: int = 1) -> tuple[Account, ...]:
    """Read accounts from a table with commas, semicolons or tabs whose first line names the columns.

    Args:
        text: columns `id`, `email`, `zoom_user_id`, `credential` and `capacity` in any order; `email` or `zoom_user_id`
            has to be there. An account without an id is called by its e-mail.
        credential: of lines that name none.
        capacity: of lines that tell none.

    Raises:
        ImportRefused: with every mistake in the table; take none of it.
    """
    text = text.removeprefix("\ufeff")
    header = text.partition("\n")[0]
    # The csv module's own guess goes by letters, too, and takes one for the separator of a table with one column.
    separator = max(",;\t", key=header.count)
    mistakes: list[str] = []
    accounts: dict[str, Account] = {}
    holders: dict[str, str] = {}
    try:
        reader = csv.DictReader(io.StringIO(text), delimiter=separator, strict=True)
        names = [(name or "").strip().lower() for name in reader.fieldnames or ()]
        reader.fieldnames = names
        if unknown := [name for name in names if name not in COLUMNS]:
            mistakes.append(f"line 1: unknown columns {', '.join(map(repr, unknown[:5]))}; known: {', '.join(COLUMNS)}")
        elif not {"email", "zoom_user_id"} & set(names):
            mistakes.append("line 1: there is neither a column email nor zoom_user_id")
        for row in () if mistakes else reader:
            try:
                account = _account(row, credential, capacity)
                if account.id in accounts:
                    raise ValueError(f"account {account.id!r} was there before")
                for name in account.names:
                    if name in holders:
                        raise ValueError(f"Zoom user {name!r} is account {holders[name]!r} of this table already")
                accounts[account.id] = account
                holders |= dict.fromkeys(account.names, account.id)
            except (InvalidName, ValueError) as error:
                mistakes.append(f"line {reader.line_num}: {error}")
    except csv.Error as error:
        mistakes.append(f"the table cannot be read: {error}")
    if not accounts and not mistakes:
        mistakes.append("the table has no accounts")
    if mistakes:
        raise ImportRefused(mistakes)
    return tuple(accounts.values())


def _account(row: dict[str, str | None], credential: str, capacity: int) -> Account:
    if None in row or None in row.values():
        raise ValueError("the line has more or fewer fields than the first one")
    given = {name: (value or "").strip() for name, value in row.items()}
    email, user = given.get("email", ""), given.get("zoom_user_id", "")
    if not email and not user:
        raise ValueError("neither email nor zoom_user_id is given")
    if "me" in (email, user):
        raise ValueError("Zoom does not take 'me' from Server-to-Server apps; give the real user")
    meetings = given.get("capacity") or str(capacity)
    if not (meetings.isascii() and meetings.isdigit() and 1 <= int(meetings[:4]) <= MAX_CAPACITY):
        raise ValueError(f"capacity {meetings!r} is not a number from 1 to {MAX_CAPACITY}")
    return Account(
        check_account(given.get("id") or email or user),
        email,
        user,
        given.get("credential") or credential,
        int(meetings),
    )


def from_zoom(
    users: Iterable[User], credential: str, *, licensed_capacity: int, known: Iterable[Account] = ()
) -> tuple[Account, ...]:
    """The users that can host as accounts, each with the capacity that its licence allows.

    Args:
        users: Zoom's list.
        credential: by which they were listed.
        licensed_capacity: meetings at a time of a Licensed user on this Zoom account's plan.
        known: accounts of the pool; a user with the id or else the e-mail of one of them is that account.

    Raises:
        ImportRefused: a user cannot be named, or two of them are the same account of the pool.
    """
    given: set[str] = set()
    holders: dict[str, str] = {}
    for account in known:
        given.add(account.id)
        holders |= dict.fromkeys(account.names, account.id)
    mistakes: list[str] = []
    accounts: dict[str, Account] = {}
    for user in users:
        if not user.can_host:
            continue
        names = host_names(user.email, user.id)
        id = next((holders[name] for name in names if name in holders), "") or _new_id(user, given)
        if not id:
            mistakes.append(f"Zoom's user {user.id!r} cannot be named; add it by hand")
        elif id in accounts:
            other = accounts[id].zoom_user_id
            mistakes.append(f"Zoom's users {other!r} and {user.id!r} are both account {id!r}; correct its e-mail or id")
        else:
            accounts[id] = Account(id, user.email, user.id, credential, user.most_meetings(licensed_capacity))
            given.add(id)
    if mistakes:
        raise ImportRefused(mistakes)
    return tuple(accounts.values())


def _new_id(user: User, given: Collection[str]) -> str:
    """The e-mail if an account can be called so (one with a plus, for instance, cannot) and none is; empty if nothing
    will do."""
    for name in (user.email, user.id, f"zoom-{user.id}"):
        if name not in given:
            with contextlib.suppress(InvalidName):
                return check_account(name)
    return ""
