"""`zoompool chaos`: break everything for a while, and see whether anything is lost."""

from __future__ import annotations

import asyncio
import contextlib
import json as json_format
import random
import shutil
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from broker.cli.interruption import Interrupted, Interruption

if TYPE_CHECKING:
    from broker.testing.chaos.run import Chaos, Result
    from broker.testing.stack import Stack

LINE_S = 2.0
INTERRUPTED = 130
EVENTS = 10_000


def chaos(
    seed: Annotated[int | None, typer.Option(help="The same seed has the same plan of faults.")] = None,
    seconds: Annotated[float, typer.Option(min=5, help="For how long things go wrong.")] = 60,
    rate: Annotated[float, typer.Option(min=0.1, max=20, help="How many lessons start in a second.")] = 2.0,
    json: Annotated[bool, typer.Option("--json", help="Print nothing but the last line.")] = False,
    plan: Annotated[bool, typer.Option("--plan", help="Print what would go wrong, and do nothing.")] = False,
    keep: Annotated[bool, typer.Option("--keep", help="Keep the logs even if all is well.")] = False,
) -> None:
    """Kill, freeze and cut off everything here while lessons go on, then count what is lost. The last line is JSON.

    Needs nothing and touches nothing but its own processes. Exit code 1: a host was double booked, something was left
    taken or behind, the data contradict themselves, or a planned fault never took place.
    """
    console = Console(quiet=json)
    chosen = random.randrange(10_000) if seed is None else seed  # noqa: S311 - not a secret
    if plan:
        _print_plan(chosen, seconds)
        return
    with Interruption() as interruption:
        try:
            clean = _run(chosen, seconds, rate, keep, console, interruption)
        except Interrupted:
            console.print("stopped; nothing is left behind")
            raise typer.Exit(INTERRUPTED) from None
    if not clean:
        raise typer.Exit(1)


def _print_plan(seed: int, seconds: float) -> None:
    from broker.testing.chaos.run import plan

    for fault in plan(seed, seconds):
        typer.echo(f"{fault.at_s:8.3f} s  {fault.kind:<20} {fault.target:<22} for {fault.lasts_s:g} s")


def _run(seed: int, seconds: float, rate: float, keep: bool, console: Console, interruption: Interruption) -> bool:
    """Start everything, let it happen, and stop everything. Returns whether all is well."""
    from broker import logs
    from broker.testing.chaos.run import chaos as running_chaos

    console.print(f"seed {seed}: starting Redis, Zoom, API, workers and scheduler …", highlight=False)
    # The log is closed when everything has stopped: until then somebody may still write to it.
    with (
        contextlib.ExitStack() as closed_last,
        running_chaos(seed=seed, seconds=seconds, rate=rate, look=interruption.check) as (run, stack),
    ):
        # What goes wrong, and what people make of it, stands in a log beside those of the processes.
        out = closed_last.enter_context((stack.logs / "chaos.log").open("w"))
        with contextlib.redirect_stderr(out):
            logs.configure(stack.settings)
        result, evidence = asyncio.run(interruption.until(_watch(run, stack, console)))
        clean = result.clean
        for line in (*result.verdict.invariant_violations, *result.lessons.problems):
            typer.echo(f"zoompool: {line}", err=True)
        if keep or not clean:
            kept = _keep(stack, evidence)
            typer.echo(f"zoompool: logs, plan and what Zoom saw are kept in {kept}", err=True)
    console.print("All is well." if clean else "Something is wrong; see the last line.")
    typer.echo(json_format.dumps(result.last_line()))
    return clean


async def _watch(run: Chaos, stack: Stack, console: Console) -> tuple[Result, dict[str, Any]]:
    """Let it happen, and say how it goes."""
    async with stack.school() as school:
        running = asyncio.create_task(run.run(school))
        began_s = time.monotonic()
        try:
            while not running.done():
                await asyncio.wait({running}, timeout=LINE_S)
                console.print(f"{time.monotonic() - began_s:6.1f} s  {_state(run)}", highlight=False, soft_wrap=True)
            result = await running
        finally:
            running.cancel()
        evidence = {
            "result": result.last_line(),
            "violations": result.verdict.invariant_violations,
            "failed": result.failed,
            "zoom": await school.verdict(),
            "events": [asdict(event) for event in stack.broker.run(stack.broker.pool().events(count=EVENTS))],
            "dashboard": stack.broker.run(stack.broker.pool().dashboard()),
            "plan": [[fault.at_s, fault.kind, fault.target, fault.lasts_s] for fault in run.plan],
        }
        return result, evidence


def _state(run: Chaos) -> str:
    if run.lessons is None or run.hazards is None:
        return "about to begin"
    stages = run.lessons.stages()
    lessons = "   ".join(f"{count} {stage.value}" for stage, count in sorted(stages.items()))
    return f"{run.hazards.seen.total()} of {len(run.plan)} faults over   {lessons}"


def _keep(stack: Stack, evidence: dict[str, Any]) -> Path:
    """Copy what tells how it came about; the system's own folder goes with it."""
    kept = Path(tempfile.mkdtemp(prefix="zoompool-chaos-"))
    shutil.copytree(stack.logs, kept / "logs")
    (kept / "evidence.json").write_text(json_format.dumps(evidence, indent=1), "utf-8")
    return kept
