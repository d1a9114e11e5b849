"""`zoompool demo`: everything on one machine, without any set-up."""

from __future__ import annotations

import asyncio
import json as json_format
import random
import shlex
import sys
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from broker.cli.interruption import Interrupted, Interruption

if TYPE_CHECKING:
    from broker.testing.rush import Tally
    from broker.testing.stack import Stack
    from broker.testing.verdict import Verdict

LESSON = "lesson-1"
TEACHER = "teacher-1"
CAPACITIES = (1, 2)
SETTLE_S = 30.0
PATIENCE_S, PATIENCE = 60.0, 4.0
"""A rush is given up after this time plus so many times what the lessons would take if no slot was ever empty."""
INTERRUPTED = 130


def demo(
    once: Annotated[bool, typer.Option("--once", help="Run a rush of lessons, print the verdict, and stop.")] = False,
    lessons: Annotated[int, typer.Option(min=1, max=500, help="With --once: how many lessons start at once.")] = 50,
    accounts: Annotated[
        int, typer.Option(min=1, max=100, help="How many Zoom accounts; every other one hosts 2.")
    ] = 12,
    seed: Annotated[int | None, typer.Option(help="With --once: repeats what people do.")] = None,
    json: Annotated[bool, typer.Option("--json", help="With --once: print nothing but the last line.")] = False,
) -> None:
    """Run everything here: a private Redis, a simulated Zoom, API, workers, scheduler. Ctrl-C stops and removes it all.

    The last line of --once is JSON; its exit code is 1 if a lesson did not start, a host was double booked, or anything
    was left taken or behind.
    """
    console = Console(quiet=json)
    with Interruption() as interruption:
        try:
            clean = _run(once, lessons, accounts, seed, console, interruption)
        except Interrupted:
            console.print("stopped; nothing is left behind")
            raise typer.Exit(INTERRUPTED if once else 0) from None
    if not clean:
        raise typer.Exit(1)


def _run(
    once: bool, lessons: int, accounts: int, seed: int | None, console: Console, interruption: Interruption
) -> bool:
    """Start everything, do what was asked for, and stop everything. Returns whether all is well."""
    from broker import logs
    from broker.testing.environment import example_accounts
    from broker.testing.process import ProcessFailed
    from broker.testing.stack import Stack

    console.print("starting Redis, Zoom, API, workers and scheduler …")
    try:
        with Stack(example_accounts(accounts, CAPACITIES), look=interruption.check) as stack:
            logs.configure(stack.settings.model_copy(update={"log_level": "WARNING"}))
            if not once:
                asyncio.run(interruption.until(_stay(stack, console)))
                return True
            chosen = random.randrange(10_000) if seed is None else seed  # noqa: S311 - not a secret
            return asyncio.run(interruption.until(_rush(stack, lessons, chosen, console)))
    except ProcessFailed as error:
        typer.echo(f"zoompool: {error}", err=True)  # it has the end of a log, so it does not fit on one line
        return False


async def _rush(stack: Stack, lessons: int, seed: int, console: Console) -> bool:
    """Let a rush happen and print the verdict. Returns whether all is well."""
    from broker.cli.demo_views import show_rush
    from broker.testing.rush import Plan, Rush
    from broker.testing.verdict import settle

    plan = Plan(lessons=lessons, seed=seed)
    plan = replace(plan, deadline_s=PATIENCE_S + PATIENCE * plan.lesson_s[1] * lessons / stack.slots)
    console.print(
        f"{lessons} lessons start within {plan.spread_s:g} s on {len(stack.accounts)} hosts with {stack.slots} slots, "
        f"and last {plan.lesson_s[0]:g} to {plan.lesson_s[1]:g} s. Whoever finds all of them busy waits in line. "
        f"Seed {seed}.",
        highlight=False,
        soft_wrap=True,
    )
    async with stack.school() as school:
        rush = Rush(school, plan)

        async def course() -> tuple[Tally, Verdict]:
            tally = await rush.run()
            return tally, await settle(stack.broker, school, slots=stack.slots, timeout_s=SETTLE_S)

        tally, verdict = await show_rush(course(), rush, stack, console)
    for line in (*tally.problems, *verdict.invariant_violations):
        typer.echo(f"zoompool: {line}", err=True)
    clean = verdict.clean and tally.clean
    console.print("All is well." if clean else "Something is wrong; see the last line.")
    typer.echo(json_format.dumps(last_line(tally, verdict)))
    return clean


def last_line(tally: Tally, verdict: Verdict) -> dict[str, int | float]:
    """The result for machines: what teachers saw, then what was wrong."""
    seen = asdict(tally)
    problems, seconds = seen.pop("problems"), seen.pop("seconds")
    wrong = asdict(verdict) | {"invariant_violations": len(verdict.invariant_violations)}
    return {**seen, "failed": len(problems), **wrong, "seconds": seconds}


async def _stay(stack: Stack, console: Console) -> None:
    """Say where everything is, and show what happens until cancelled."""
    from broker.cli.demo_views import show_pool

    # Not by the console: it would break lines that somebody wants to paste.
    typer.echo(welcome(stack))
    await show_pool(stack, console)


def welcome(stack: Stack) -> str:
    """Where everything is, and lines that work when pasted into a shell."""
    from broker.testing.school import mint_token

    token = mint_token(stack.settings.jwt_key, TEACHER)
    curl = "curl -sS -X POST"
    start = (
        f"{curl} {stack.api_url}/api/schedule/lessons/{LESSON}/start-new/ "
        f"-H {shlex.quote(f'Authorization: Bearer {token}')}"
    )
    # Starting again gives the same meeting, so that each line can stand alone.
    read_id = f"{shlex.quote(sys.executable)} -c 'import json, sys; print(json.load(sys.stdin)[\"zoom_meeting_id\"])'"
    meeting = f"{stack.zoom_url}/sim/meetings/$({start} | {read_id})"
    teacher = shlex.quote(json_format.dumps({"name": TEACHER, "role": "host"}))
    return f"""
API        {stack.api_url}/docs
Zoom       {stack.zoom_url}/sim/meetings   (simulated; verdict at /sim/judge)
Redis      redis-cli -s {stack.folder}/redis.sock
Logs       {stack.logs}
Token      {token}   ({TEACHER})

Start a lesson; the same again gives the same meeting:

{start}

Let the teacher come in, and the lease is live:

{curl} "{meeting}/join" -d {teacher}

End the meeting, and the host is free again:

{curl} "{meeting}/end"

Ctrl-C stops everything and leaves nothing behind.
"""
