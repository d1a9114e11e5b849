"""`zoompool reconcile`: ask Zoom now, show what it says and what follows from that."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

import typer

from broker.cli.session import JsonOption, counted, print_json, print_table, settings_with_logging
from broker.models import check_name
from broker.settings import Settings


def reconcile(
    pool: Annotated[str, typer.Option("--pool", "-p", help="Only this pool; without it all of them.")] = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", "-n", help="Only say what would be done, and why.")] = False,
    everything: Annotated[
        bool, typer.Option("--all", "-a", help="Every host with all its meetings, not only those whose turn it is.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Settle with Zoom what only Zoom can settle, as the periodic job does. Exit code 1 if a host or pool was left."""
    settings = settings_with_logging()
    reports = asyncio.run(_reconcile(settings, pool, everything=everything, dry_run=dry_run))
    if json:
        print_json(reports)
    else:
        _show(reports, dry_run=dry_run)
    if any(report["skipped"] or report["failures"] or report["postponed"] for report in reports):
        raise typer.Exit(1)


async def _reconcile(settings: Settings, name: str, *, everything: bool, dry_run: bool) -> list[dict[str, Any]]:
    from workers.context import open_context
    from workers.reconcile import reconcile_pool

    async with open_context(settings) as context:
        names = (check_name("pool", name),) if name else await context.broker.pools()
        return [
            (await reconcile_pool(context, context.broker.pool(each), everything=everything, dry_run=dry_run)).fields()
            for each in names
        ]


def _show(reports: list[dict[str, Any]], *, dry_run: bool) -> None:
    columns = ("account", "lease", "lesson", "phase", "zoom", "decision", "why")
    print_table(
        ("pool", *columns),
        (
            (report["pool"], *("" if decision[name] is None else decision[name] for name in columns))
            for report in reports
            for decision in report["decisions"]
        ),
        "There is nothing to settle.",
    )
    for report in reports:
        pool = report["pool"]
        for failure in report["failures"]:
            typer.echo(f"pool {pool}, account {failure['account']}: {failure['error']} [{failure['code']}]", err=True)
        if report["skipped"]:
            typer.echo(f"pool {pool}: another run is at work on it; wait for it, or use --dry-run", err=True)
            continue
        left = f", {counted(report['postponed'], 'host')} left for lack of time" if report["postponed"] else ""
        done = "; nothing was changed" if dry_run else ""
        typer.echo(f"pool {pool}: {counted(report['asked'], 'host')} asked{left}{done}")
