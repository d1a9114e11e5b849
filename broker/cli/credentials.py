"""`zoompool credentials`: the OAuth apps by which Zoom is reached. Secrets go in, never out, and never through argv,
where every user of the machine could read them."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable
from dataclasses import asdict, replace
from typing import Annotated, TypeVar

import redis.asyncio
import typer
from pydantic import SecretStr

from broker.cli.session import JsonOption, counted, print_json, print_table, settings_with_logging
from broker.client import AsyncBroker
from broker.errors import ConfigurationError, CredentialInUse
from broker.models import NO_SECRET, Credential
from broker.redis import connect_async
from broker.registry import credentials
from broker.secrets import SecretBox
from broker.settings import Settings

T = TypeVar("T")
SECRET_VARIABLE = "ZOOMPOOL_CLIENT_SECRET"  # noqa: S105 - the name of a variable

app = typer.Typer(help="The OAuth apps by which Zoom is reached.", no_args_is_help=True)

NameArgument = Annotated[str, typer.Argument(help="What the credential is called here.")]


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

    async def work(connection: redis.asyncio.Redis) -> None:
        # The webhook secret, which the web app may have entered, is not what is replaced here.
        ((_, kept),) = await credentials.webhook_secret(connection, box, name) or ((name, NO_SECRET),)
        await credentials.save(connection, box, replace(credential, webhook_secret=kept))

    _with_redis(settings, work)
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
    settings = settings_with_logging()

    async def work(connection: redis.asyncio.Redis) -> None:
        used_by = () if force else await credentials.users(AsyncBroker(connection, settings), name)
        if used_by:
            raise CredentialInUse(name, used_by)
        await credentials.delete(connection, name)

    _with_redis(settings, work)
    typer.echo(f"credential {name}: removed")


@app.command()
def rotate() -> None:
    """Encrypt the secrets of all credentials with the first of ZOOMPOOL_SECRET_KEYS.

    Put a new key in front of the old one everywhere, restart, run this, then take the old key away. Start links of
    lessons that run at that time, encrypted with the old key, are fetched from Zoom again.
    """
    settings = settings_with_logging()
    box = SecretBox(settings.secret_keys)

    async def work(connection: redis.asyncio.Redis) -> int:
        return sum([await credentials.reseal(connection, box, name) for name in await credentials.names(connection)])

    done = _with_redis(settings, work)
    typer.echo(f"{counted(done, 'credential')} encrypted with the first key")
