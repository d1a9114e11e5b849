"""`zoompool credentials`: the OAuth apps by which Zoom is reached. Secrets go in, never out, and never through argv,
where every user of the machine could read them."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from typing import Annotated, TypeVar

import redis.asyncio
import typer
from pydantic import SecretStr

from broker import credentials
from broker.cli.session import JsonOption, print_json, print_table, session, settings_with_logging
from broker.errors import ConfigurationError, ZoomPoolError
from broker.models import Credential
from broker.redis import connect_async
from broker.secrets import SecretBox
from broker.settings import Settings

T = TypeVar("T")
SECRET_VARIABLE = "ZOOMPOOL_CLIENT_SECRET"  # noqa: S105 - the name of a variable

app = typer.Typer(help="The OAuth apps by which Zoom is reached.", no_args_is_help=True)

NameArgument = Annotated[str, typer.Argument(help="What the credential is called here.")]


class CredentialInUse(ZoomPoolError):
    """Accounts would be left without a way to Zoom."""

    code = "credential_in_use"

    def __init__(self, name: str, users: list[str]) -> None:
        some = ", ".join(users[:5]) + (f" and {len(users) - 5} more" if len(users) > 5 else "")
        super().__init__(
            f"credential {name!r} is used by {some}; give them another with 'zoompool accounts add', "
            "or repeat with --force"
        )


def _with_redis(settings: Settings, work: Callable[[redis.asyncio.Redis], Awaitable[T]]) -> T:
    async def run() -> T:
        connection = connect_async(settings)
        try:
            return await work(connection)
        finally:
            await connection.aclose()

    return asyncio.run(run())


@app.command()
def add(
    name: NameArgument,
    account_id: Annotated[str, typer.Option(help="Account ID of the Server-to-Server OAuth app.", prompt=True)],
    client_id: Annotated[str, typer.Option(help="Client ID of the app.", prompt=True)],
    stdin: Annotated[bool, typer.Option("--stdin", help="Read the client secret from standard input.")] = False,
) -> None:
    """Add a credential, or replace it. The client secret comes from ZOOMPOOL_CLIENT_SECRET, --stdin or a prompt."""
    settings = settings_with_logging()
    box = SecretBox(settings.secret_keys)
    credential = Credential(name, account_id, client_id, _secret(from_stdin=stdin))
    _with_redis(settings, lambda connection: credentials.save(connection, box, credential))
    typer.echo(f"credential {name}: saved, its secret encrypted")


def _secret(*, from_stdin: bool) -> SecretStr:
    if from_stdin:
        secret = sys.stdin.readline().strip()
    elif SECRET_VARIABLE in os.environ:
        secret = os.environ[SECRET_VARIABLE].strip()
    elif sys.stdin.isatty():
        secret = typer.prompt("Client secret", hide_input=True).strip()
    else:
        secret = ""
    if not secret:
        raise ConfigurationError(
            f"there is no client secret; set {SECRET_VARIABLE}, or pipe it in with --stdin, or type it at the prompt"
        )
    return SecretStr(secret)


@app.command("list")
def list_credentials(json: JsonOption = False) -> None:
    """List the credentials, without their secrets."""
    found = _with_redis(settings_with_logging(), credentials.identities)
    if json:
        print_json([asdict(identity) for identity in found])
        return
    print_table(
        ("credential", "account id", "client id"),
        ((c.name, c.account_id, c.client_id) for c in found),
        "There are no credentials. Add one: zoompool credentials add --help",
    )


@app.command()
def remove(
    name: NameArgument,
    force: Annotated[bool, typer.Option("--force", help="Even while accounts use it.")] = False,
) -> None:
    """Remove a credential. Refused without --force while accounts use it."""
    with session() as here:
        users = []
        for pool in [] if force else here.broker.pools():
            accounts = here.pages(here.broker.pool(pool).accounts)
            users += [f"{pool}/{account.id}" for account in accounts if account.credential == name]
        if users:
            raise CredentialInUse(name, users)
        _with_redis(here.settings, lambda connection: credentials.delete(connection, name))
    typer.echo(f"credential {name}: removed")
