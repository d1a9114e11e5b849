"""`zoompool notifications`: what the web app is told, what it did not take, and the secret that signs it."""

from __future__ import annotations

import base64
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from broker.cli.session import JsonOption, clock, counted, print_json, print_table, settings_with_logging
from broker.errors import ZoomPoolError
from broker.redis import connect

if TYPE_CHECKING:
    from redis import Redis

    from broker.settings import Settings

SECRET_BYTES = 32

app = typer.Typer(help="What the web app is told.", no_args_is_help=True)


class UnknownLetter(ZoomPoolError):
    """No dead letter has this id."""

    code = "unknown_letter"

    def __init__(self, id: str) -> None:
        super().__init__(f"no dead letter {id!r}; see 'zoompool notifications dead'")


@contextmanager
def _queues() -> Iterator[tuple[Settings, Redis]]:
    settings = settings_with_logging()
    connection = connect(settings, decode_responses=False)
    try:
        yield settings, connection
    finally:
        connection.close()


@app.command()
def dead(json: JsonOption = False) -> None:
    """List what the web app did not take for a day."""
    from workers.dead_letters import dead_letters

    with _queues() as (settings, connection):
        letters = list(dead_letters(connection))
    if json:
        print_json(
            [
                {
                    "id": letter.message.id,
                    "type": letter.message.type,
                    "lesson_id": letter.message.data.get("lesson_id"),
                    "at_ms": letter.message.at_ms,
                    "failed_at": letter.failed_at.isoformat(),
                    "error": letter.error,
                }
                for letter in letters
            ]
        )
        return
    print_table(
        ("ID", "TYPE", "LESSON", "HAPPENED", "LAST ERROR"),
        (
            (
                letter.message.id,
                letter.message.type,
                letter.message.data.get("lesson_id", "-"),
                clock(letter.message.at_ms, settings),
                letter.error,
            )
            for letter in letters
        ),
        "no dead letters",
    )


@app.command()
def redeliver(
    id: Annotated[str, typer.Argument(help="Of a dead letter; without it, all of them.")] = "",
    all: Annotated[bool, typer.Option("--all", help="Send every dead letter again.")] = False,
) -> None:
    """Send dead letters again, with all their retries."""
    from workers import dead_letters

    if bool(id) == all:
        raise typer.BadParameter("give the id of one dead letter, or --all")
    with _queues() as (_, connection):
        chosen = [letter for letter in dead_letters.dead_letters(connection) if all or letter.message.id == id]
        if not chosen and not all:
            raise UnknownLetter(id)
        for letter in chosen:
            dead_letters.redeliver(connection, letter)
    typer.echo(f"{counted(len(chosen), 'notification')} will be sent again")


@app.command()
def secret() -> None:
    """Make a secret for ZOOMPOOL_NOTIFY_SECRET; the web app needs the same to check signatures."""
    typer.echo("whsec_" + base64.b64encode(secrets.token_bytes(SECRET_BYTES)).decode())
