"""`zoompool accounts`: the Zoom hosts of a pool."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from broker.cli.session import JsonOption, PoolOption, Session, clock, counted, print_json, print_table, session
from broker.client import AsyncBroker
from broker.errors import HostTaken, ImportRefused, InvalidName, UnknownAccount, UnknownCredential
from broker.models import MAX_CAPACITY, Account, AccountChange, AccountState, Change
from broker.operations import Operation
from broker.redis import connect_async
from broker.registry import account_lists, credentials
from broker.secrets import SecretBox
from broker.settings import Settings
from broker.zoom import open_zoom

app = typer.Typer(help="The Zoom hosts of a pool.", no_args_is_help=True)

AccountArgument = Annotated[str, typer.Argument(help="The account's id in the pool.")]
ReasonOption = Annotated[str, typer.Option("--reason", "-r", help="Why, for whoever looks at the pool.")]


def account_fields(account: Account) -> dict[str, Any]:
    """An account as JSON."""
    return asdict(account)


@app.command("list")
def list_accounts(pool: PoolOption = "", json: JsonOption = False) -> None:
    """List the accounts of a pool."""
    with session(pool) as here:
        found = list(here.pages(here.pool.accounts))
    if json:
        print_json([account_fields(account) for account in found])
        return
    columns = ("id", "email", "zoom_user_id", "credential", "capacity", "state")
    print_table(
        (*columns, "until", "reason"),
        (
            (*(fields[name] for name in columns), clock(fields["until_ms"], here.settings), fields["reason"])
            for fields in map(account_fields, found)
        ),
        f"Pool {here.pool.name} has no accounts. Add one: zoompool accounts add --help",
    )


@app.command()
def add(
    account: AccountArgument,
    email: Annotated[str, typer.Option(help="The host's e-mail at Zoom; the account's id when that is one.")] = "",
    zoom_user_id: Annotated[str, typer.Option(help="The host's user id at Zoom; outlives a changed e-mail.")] = "",
    credential: Annotated[
        str, typer.Option(help="The credential it is reached with; ZOOMPOOL_DEFAULT_CREDENTIAL when absent.")
    ] = "",
    capacity: Annotated[
        int, typer.Option(min=1, max=MAX_CAPACITY, help="Meetings at a time: 1 on Basic and Pro, 2 on Business and up.")
    ] = 1,
    pool: PoolOption = "",
) -> None:
    """Add an account to a pool, or change the e-mail, Zoom user, credential and capacity of one that is there."""
    email = email or (account if "@" in account else "")
    if not email and not zoom_user_id:
        raise typer.BadParameter("give --email or --zoom-user-id, so that Zoom knows whom we mean")
    for kind, value in (("e-mail", email), ("Zoom user id", zoom_user_id)):
        if value == "me":
            raise InvalidName(kind, value, "Zoom does not take 'me' from Server-to-Server apps; give the real one")
    with session(pool) as here:
        credential = credential or here.settings.default_credential
        if credential not in asyncio.run(_credentials(here.settings)):
            raise UnknownCredential(credential)
        made = here.run(here.pool.add_account(Account(account, email, zoom_user_id, credential, capacity)))
        if made.change is Change.CONFLICT:
            raise HostTaken(here.pool.name, {account: made.taken_by})
        here.run(here.pool.register())
        _report(here, account, made, f"in the pool with {counted(capacity, 'slot')}")


@app.command("import")
def import_accounts(
    file: Annotated[
        Path | None, typer.Argument(help="A table (CSV) whose first line names columns: id, email, capacity, ...")
    ] = None,
    from_zoom: Annotated[
        bool, typer.Option("--from-zoom", help="All users that Zoom lets host, as Zoom lists them.")
    ] = False,
    credential: Annotated[
        str, typer.Option(help="The credential they are reached with; ZOOMPOOL_DEFAULT_CREDENTIAL when absent.")
    ] = "",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would be imported, and change nothing.")
    ] = False,
    pool: PoolOption = "",
) -> None:
    """Add many accounts, or change those that are there: all of the list, or none if something in it is wrong.

    With --from-zoom an account's capacity follows from its licence and ZOOMPOOL_LICENSED_CAPACITY.
    """
    if (file is None) == (not from_zoom):
        raise typer.BadParameter("give either a file or --from-zoom")
    with session(pool) as here:
        if file is None:
            accounts = asyncio.run(_import_from_zoom(here, credential, dry_run))
        else:
            accounts = account_lists.from_csv(_text_of(file), credential or here.settings.default_credential)
            asyncio.run(_take(here, accounts, dry_run))
    print_table(
        account_lists.COLUMNS,
        (account_lists.row(account).values() for account in accounts),
        "Zoom lists nobody who can host.",
    )
    typer.echo(f"{counted(len(accounts), 'account')} {'would be' if dry_run else 'are'} in pool {here.pool.name}")


def _text_of(file: Path) -> str:
    try:
        return file.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ImportRefused([f"{file} cannot be read: {getattr(error, 'strerror', '') or 'it is not UTF-8'}"]) from None


async def _import_from_zoom(here: Session, credential: str, dry_run: bool) -> tuple[Account, ...]:
    box = SecretBox(here.settings.secret_keys)
    connection = connect_async(here.settings)
    try:
        async with open_zoom(here.settings, connection, box) as zoom:
            broker = AsyncBroker(connection, here.settings)
            return await account_lists.import_from_zoom(broker, box, zoom, here.pool.name, credential, dry_run=dry_run)
    finally:
        await connection.aclose()


async def _take(here: Session, accounts: Sequence[Account], dry_run: bool) -> None:
    connection = connect_async(here.settings)
    try:
        await account_lists.take(AsyncBroker(connection, here.settings), here.pool.name, accounts, dry_run=dry_run)
    finally:
        await connection.aclose()


async def _credentials(settings: Settings) -> tuple[str, ...]:
    connection = connect_async(settings)
    try:
        return await credentials.names(connection)
    finally:
        await connection.aclose()


@app.command()
def resize(
    account: AccountArgument,
    capacity: Annotated[int, typer.Argument(min=1, max=MAX_CAPACITY, help="Meetings at a time.")],
    pool: PoolOption = "",
) -> None:
    """Change how many meetings an account hosts at a time. Running lessons stay; a slot too many leaves when free."""
    with session(pool) as here:
        _change(here, account, here.pool.resize_account(account, capacity), f"has {counted(capacity, 'slot')}")


@app.command()
def drain(account: AccountArgument, reason: ReasonOption = "", pool: PoolOption = "") -> None:
    """Let the lessons of an account finish and give it no new ones, until `activate`."""
    _park(account, AccountState.DRAINING, reason, pool)


@app.command()
def disable(account: AccountArgument, reason: ReasonOption = "", pool: PoolOption = "") -> None:
    """Take an account out of rotation because something is wrong with it, until `activate`."""
    _park(account, AccountState.DISABLED, reason, pool)


@app.command()
def activate(account: AccountArgument, pool: PoolOption = "") -> None:
    """Bring an account back into rotation, whatever took it out."""
    with session(pool) as here:
        _change(here, account, here.pool.unpark_account(account), "active")


@app.command()
def remove(account: AccountArgument, pool: PoolOption = "") -> None:
    """Remove an account from the pool: at once if it is idle, else when its last lease ends."""
    with session(pool) as here:
        _change(here, account, here.pool.remove_account(account), "removed", busy="leaves when its last lease ends")


def _park(account: str, state: AccountState, reason: str, pool: str) -> None:
    with session(pool) as here:
        _change(here, account, here.pool.park_account(account, state, reason or f"{state} by an operator"), state)


def _change(here: Session, account: str, operation: Operation[AccountChange], now: str, *, busy: str = "") -> None:
    made = here.run(operation)
    if made.change is Change.STALE:
        raise UnknownAccount(here.pool.name, account)
    _report(here, account, made, busy if busy and made.leases else now)


def _report(here: Session, account: str, made: AccountChange, now: str) -> None:
    typer.echo(f"account {account} of pool {here.pool.name}: {now}; {counted(made.leases, 'lease')} on it")
