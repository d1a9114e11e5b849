"""`zoompool doctor`: is everything there that lessons need, and what to do about what is not."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict
from typing import Annotated

import typer

from broker.cli.session import JsonOption, counted, print_json, print_table, settings_with_logging
from broker.client import AsyncBroker, Broker
from broker.doctor import Finding, Level, failure
from broker.doctor.data import check_data
from broker.doctor.hosts import check_hosts
from broker.doctor.redis_server import check_redis
from broker.doctor.settings import check_settings
from broker.doctor.zoom import check_zoom
from broker.errors import ZoomPoolError
from broker.redis import connect, connect_async
from broker.secrets import SecretBox
from broker.settings import Settings

MARKS = {Level.OK: "✓", Level.WARNING: "!", Level.FAILED: "✗"}


def doctor(
    zoom: Annotated[bool, typer.Option("--zoom/--no-zoom", help="Ask Zoom about every credential and account.")] = True,
    json: JsonOption = False,
) -> None:
    """Check Redis, data, queues, workers, scheduler, credentials and accounts. Exit code 1 if anything fails."""
    findings = list(_examine(settings_with_logging(), zoom=zoom))
    if json:
        print_json([asdict(finding) for finding in findings])
    else:
        _show(findings)
    if any(finding.level is Level.FAILED for finding in findings):
        raise typer.Exit(1)


def _examine(settings: Settings, *, zoom: bool) -> Iterator[Finding]:
    yield from check_settings(settings)
    connection = connect(settings)
    try:
        server = list(check_redis(connection))
        yield from server
        if server[0].level is Level.FAILED:
            return  # Everything else is in there.
        yield from _safely("data", lambda: check_data(Broker(connection, settings)))
        yield from _safely("data.hosts", lambda: asyncio.run(_hosts(settings)))
        yield from _safely("workers", lambda: _processes(settings))
        if zoom:
            yield from _safely("zoom", lambda: asyncio.run(_zoom(settings)))
    finally:
        connection.close()


def _safely(check: str, findings: Callable[[], Iterable[Finding]]) -> Iterator[Finding]:
    """A check that cannot be made is a finding, too, and keeps no other from being made."""
    try:
        yield from findings()
    except ZoomPoolError as error:
        yield failure(check, error)


def _processes(settings: Settings) -> list[Finding]:
    from workers.health import check_processes

    connection = connect(settings, decode_responses=False)
    try:
        return list(check_processes(settings, connection))
    finally:
        connection.close()


async def _hosts(settings: Settings) -> list[Finding]:
    connection = connect_async(settings)
    try:
        return await check_hosts(AsyncBroker(connection, settings))
    finally:
        await connection.aclose()


async def _zoom(settings: Settings) -> list[Finding]:
    connection = connect_async(settings)
    try:
        return await check_zoom(settings, connection, SecretBox(settings.secret_keys))
    finally:
        await connection.aclose()


def _show(findings: list[Finding]) -> None:
    print_table(
        ("", "check", "what is so", "what to do"),
        ((MARKS[finding.level], finding.check, finding.says, finding.do) for finding in findings),
        "",
    )
    failed = sum(finding.level is Level.FAILED for finding in findings)
    warnings = sum(finding.level is Level.WARNING for finding in findings)
    typer.echo(f"{counted(len(findings), 'finding')}: {failed} failed, {counted(warnings, 'warning')}")
