"""What the commands share: the way to Redis, the options that several of them have, and the form of their output."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any, TypeVar
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from broker import logs
from broker.client import Broker
from broker.errors import ConfigurationError
from broker.operations import Operation, Pool
from broker.redis import connect
from broker.settings import Settings, load_settings

T = TypeVar("T")
PAGE = 200
WIDE = 200

PoolOption = Annotated[
    str, typer.Option("--pool", "-p", help="The pool; without it the one that ZOOMPOOL_DEFAULT_POOL names.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]


@dataclass(frozen=True)
class Session:
    """One command's way to one pool."""

    settings: Settings
    broker: Broker
    pool: Pool

    def run(self, operation: Operation[T]) -> T:
        """Carry out an operation; raises like `Broker.run`."""
        return self.broker.run(operation)

    def pages(self, page: Callable[..., Operation[tuple[T, ...]]], **options: Any) -> Iterator[T]:
        """All items of a paged operation. What changes meanwhile may be missed, but nothing is locked for long."""
        offset = 0
        while items := self.run(page(offset=offset, count=PAGE, **options)):
            yield from items
            offset += PAGE


def settings_with_logging() -> Settings:
    """Load the settings and set up logging by them.

    Raises:
        ConfigurationError: a setting is missing, malformed or unsafe.
    """
    settings = load_settings()
    logs.configure(settings)
    try:
        # Makes a connection object and opens nothing: redis-py reads some parts of the URL only here.
        connect(settings).connection_pool.make_connection()
    except (ValueError, TypeError):
        # The URL may hold a password, so neither it nor the error, which may quote it, is shown.
        raise ConfigurationError("REDIS_URL is not a Redis URL; it looks like redis://localhost:6379/0") from None
    return settings


@contextmanager
def session(pool: str = "") -> Iterator[Session]:
    """Open the way to a pool (by default the default pool), and close it afterwards.

    Raises:
        ConfigurationError: a setting is missing, malformed or unsafe.
    """
    settings = settings_with_logging()
    connection = connect(settings)
    try:
        broker = Broker(connection, settings)
        yield Session(settings, broker, broker.pool(pool))
    finally:
        connection.close()


def zone(settings: Settings) -> ZoneInfo:
    """The time zone of the people who read.

    Raises:
        ConfigurationError: the setting names none.
    """
    try:
        return ZoneInfo(settings.timezone)
    except (ZoneInfoNotFoundError, ValueError):
        raise ConfigurationError(
            f"ZOOMPOOL_TIMEZONE {settings.timezone!r} is not known; use a name like Europe/Moscow"
        ) from None


def clock(ms: int, settings: Settings) -> str:
    """A moment for people; a dash for none."""
    if not ms:
        return "-"
    return datetime.fromtimestamp(ms / 1000, UTC).astimezone(zone(settings)).strftime("%Y-%m-%d %H:%M:%S %Z")


def span(ms: int) -> str:
    """A length of time for people, in its two largest units."""
    seconds = abs(ms) // 1000
    minutes, hours, days = seconds // 60, seconds // 3600, seconds // 86400
    if days:
        text = f"{days}d{hours % 24:02}h"
    elif hours:
        text = f"{hours}h{minutes % 60:02}m"
    elif minutes:
        text = f"{minutes}m{seconds % 60:02}s"
    else:
        text = f"{seconds}s"
    return f"-{text}" if ms < 0 and seconds else text


def counted(count: int, noun: str) -> str:
    """`1 lease`, `2 leases`."""
    return f"{count} {noun}{'' if count == 1 else 's'}"


def print_json(value: Any) -> None:
    """Print one JSON document on one line."""
    typer.echo(json.dumps(value, ensure_ascii=False))


def print_table(columns: Iterable[str], rows: Iterable[Iterable[object]], empty: str) -> None:
    """Print rows in aligned columns, or the sentence `empty` when there are none."""
    table = Table(*columns, box=SIMPLE_HEAD, pad_edge=False)
    for row in rows:
        table.add_row(*(Text(printable(str(cell))) for cell in row))
    if not table.row_count:
        typer.echo(empty)
        return
    console = Console()
    if not console.is_terminal:
        # In a pipe nobody sees the edge of the screen, and cut ids would be worthless.
        console = Console(width=WIDE)
    console.print(table)


def printable(text: str) -> str:
    """`text` without characters that could steer a terminal."""
    return "".join(char if char.isprintable() else "?" for char in text)
