"""What the demo shows while it runs: live pictures in a terminal, plain lines anywhere else."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import defaultdict
from collections.abc import Coroutine, Generator, Iterable
from typing import Any, TypeVar

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from broker.errors import BrokerUnavailable
from broker.models import Event, Lease, Phase
from broker.testing.rush import Rush, Stage
from broker.testing.stack import Stack

RUSH_DRAW_S = 0.25
POOL_DRAW_S = 0.5
LINE_S = 2.0
PAGE = 200
ROWS = 10
COLOURS = {
    Phase.CLAIMED: "yellow",
    Phase.CREATING: "yellow",
    Phase.READY: "cyan",
    Phase.LIVE: "green",
    Phase.SUSPECT: "red",
}

T = TypeVar("T")
Pictures = Generator[None, None, None]
"""Draws once at each step; closing it leaves the last picture."""


async def show_rush(course: Coroutine[Any, Any, T], rush: Rush, stack: Stack, console: Console) -> T:
    """Await what becomes of a rush, and show it.

    Raises:
        ProcessFailed: a part of the system ended by itself.
    """
    running = asyncio.create_task(course)
    pictures = _rush_table(rush, stack, console) if console.is_terminal else _rush_lines(rush, console)
    with contextlib.closing(pictures):
        try:
            while not running.done():
                stack.check()
                next(pictures)
                await asyncio.wait({running}, timeout=RUSH_DRAW_S)
            next(pictures)
            return await running
        finally:
            running.cancel()


async def show_pool(stack: Stack, console: Console) -> None:
    """Show the pool until cancelled.

    Raises:
        ProcessFailed: a part of the system ended by itself.
    """
    pictures = _pool_picture(stack, console) if console.is_terminal else _event_lines(stack, console)
    with contextlib.closing(pictures):
        while True:
            stack.check()
            next(pictures)
            await asyncio.sleep(POOL_DRAW_S)


def _rush_lines(rush: Rush, console: Console) -> Pictures:
    began = due = time.monotonic()
    said = ""
    while True:
        text = _stages(rush)
        if text != said and time.monotonic() >= due:
            console.print(f"{time.monotonic() - began:5.1f} s  {text}", highlight=False, soft_wrap=True)
            due, said = time.monotonic() + LINE_S, text
        yield


def _rush_table(rush: Rush, stack: Stack, console: Console) -> Pictures:
    began = time.monotonic()
    with Live(console=console, auto_refresh=False) as live:
        while True:
            line = Text(f"{time.monotonic() - began:5.1f} s  {_stages(rush)}")
            live.update(Group(_hosts(stack), line), refresh=True)
            yield


def _pool_picture(stack: Stack, console: Console) -> Pictures:
    pool = stack.broker.pool()
    with Live(console=console, auto_refresh=False) as live:
        while True:
            try:
                picture = stack.broker.run(pool.dashboard(rows=ROWS))
            except BrokerUnavailable as error:
                picture = str(error)
            live.update(Text(picture), refresh=True)
            yield


def _event_lines(stack: Stack, console: Console) -> Pictures:
    last = ""
    while True:
        with contextlib.suppress(BrokerUnavailable):
            for event in _events_after(stack, last):
                last = event.id
                if event.lesson:
                    console.print(f"{event.type:<16} {event.lesson}  {event.lease}", highlight=False, soft_wrap=True)
        yield


def _events_after(stack: Stack, last: str) -> list[Event]:
    events = stack.broker.run(stack.broker.pool().events(count=PAGE))
    return [event for event in reversed(events) if not last or _order(event.id) > _order(last)]


def _order(id: str) -> tuple[int, ...]:
    """A stream entry's id as something to compare; as text, 10 would come before 9."""
    return tuple(int(part) for part in id.split("-"))


def _stages(rush: Rush) -> str:
    counts = rush.stages()
    if not counts.keys() - {Stage.OVER, Stage.FAILED}:
        return "all lessons are over; waiting until every slot is free and every meeting deleted"
    return "   ".join(f"{counts[stage]} {stage.value}" for stage in Stage if counts[stage])


def _hosts(stack: Stack) -> Table:
    held: defaultdict[str, dict[int, Lease]] = defaultdict(dict)
    for lease in _leases(stack):
        held[lease.account][lease.id.index] = lease
    most = max(account.capacity for account in stack.accounts)
    table = Table("host", *(f"slot {number + 1}" for number in range(most)), min_width=80)
    for account in stack.accounts:
        table.add_row(account.id, *(_cell(held[account.id].get(index)) for index in range(account.capacity)))
    return table


def _cell(lease: Lease | None) -> Text:
    if lease is None:
        return Text("free", style="dim")
    return Text(f"{lease.phase:<9} {lease.lesson}", style=COLOURS[lease.phase])


def _leases(stack: Stack) -> Iterable[Lease]:
    pool = stack.broker.pool()
    try:
        return (
            *stack.broker.run(pool.leases(count=PAGE)),
            *stack.broker.run(pool.leases(suspect=True, count=PAGE)),
        )
    except BrokerUnavailable:
        return ()  # the next picture will have them
