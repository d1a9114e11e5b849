"""`zoompool status` and `zoompool pools`: how the pools are."""

from __future__ import annotations

import itertools
import sys
import threading
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from broker.cli.accounts import account_fields
from broker.cli.leases import lease_fields
from broker.cli.session import JsonOption, PoolOption, Session, print_json, print_table, session, zone
from broker.errors import BrokerUnavailable

EVERY_S = 2.0
CLEAR = "\x1b[H\x1b[2J"

pools_app = typer.Typer(help="The pools.", no_args_is_help=True)


def status(
    seconds: Annotated[
        float | None, typer.Argument(min=0.1, metavar="SECONDS", help="With --watch: how often; default 2.")
    ] = None,
    pool: PoolOption = "",
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Again and again, until Ctrl-C.")] = False,
    json: JsonOption = False,
    rows: Annotated[int, typer.Option(min=1, max=500, help="How many leases to show; JSON has all of them.")] = 50,
) -> None:
    """Show a pool: slots by state, leases, parked accounts, last events. The same picture as lua/dashboard.lua."""
    if seconds is not None and not watch:
        raise typer.BadParameter("SECONDS goes with --watch")
    with session(pool) as here:
        for turn in itertools.count():
            try:
                _show(here, rows, as_json=json, clear=watch and sys.stdout.isatty())
            except BrokerUnavailable as error:
                # Whoever watches wants to see the pool come back.
                if not watch or not turn:
                    raise
                typer.echo(f"zoompool: {error}", err=True)
            if not watch:
                return
            threading.Event().wait(seconds or EVERY_S)


def _show(here: Session, rows: int, *, as_json: bool, clear: bool) -> None:
    if as_json:
        print_json(status_fields(here))
        return
    offset = datetime.now(UTC).astimezone(zone(here.settings)).utcoffset()
    minutes = int(offset.total_seconds() // 60) if offset else 0
    text = here.run(here.pool.dashboard(rows=rows, utc_offset_min=minutes))
    typer.echo((CLEAR if clear else "") + text + ("\n" if not clear else ""))


def status_fields(here: Session) -> dict[str, Any]:
    """A pool as JSON: `status` with its counts, `leases` (suspects first) and `accounts`."""
    counts = here.run(here.pool.status())
    return {
        "status": {**asdict(counts), "slots": counts.slots},
        "leases": [
            *(lease_fields(lease) for lease in here.pages(here.pool.leases, suspect=True)),
            *(lease_fields(lease) for lease in here.pages(here.pool.leases)),
        ],
        "accounts": [account_fields(account) for account in here.pages(here.pool.accounts)],
    }


@pools_app.command("list")
def list_pools(json: JsonOption = False) -> None:
    """List the pools with their counts."""
    with session() as here:
        found = [here.run(here.broker.pool(name).status()) for name in here.broker.pools()]
    columns = ("pool", "accounts", "slots", "free", "leased", "suspect", "parked")
    if json:
        print_json([{name: getattr(counts, name) for name in columns} for counts in found])
        return
    print_table(
        columns,
        ([getattr(counts, name) for name in columns] for counts in found),
        "There is no pool yet. The first account makes it: zoompool accounts add --help",
    )
