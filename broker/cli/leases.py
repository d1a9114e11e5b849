"""`zoompool leases`: who holds what, and the two ways to end it."""

from __future__ import annotations

import getpass
import os
import socket
from typing import Annotated, Any

import typer

from broker.cli.session import JsonOption, PoolOption, Session, clock, print_json, print_table, session, span
from broker.errors import ZoomPoolError
from broker.models import LEASE_ID, Change, Found, Lease, LeaseId, Outcome, Phase, ReleaseReason

app = typer.Typer(help="Who holds which slot.", no_args_is_help=True)

LeaseArgument = Annotated[str, typer.Argument(help="A lease id, such as host-01#0@17 (quote it for the shell).")]


class UnknownLease(ZoomPoolError):
    """No such lease runs, and no outcome of it is known."""

    code = "unknown_lease"

    def __init__(self, pool: str, what: str) -> None:
        super().__init__(
            f"pool {pool!r} has no lease, lesson or meeting {what!r}: it never existed or is over for more than a day; "
            f"see 'zoompool leases list --pool {pool}'"
        )


class MeetingMayExist(ZoomPoolError):
    """A slot must not be given away while a meeting of its old lease may run on the host."""

    code = "meeting_may_exist"

    def __init__(self, lease: Lease) -> None:
        meeting = f"meeting {lease.meeting_id}" if lease.meeting_id else "a meeting"
        super().__init__(
            f"lease {lease.id} is {lease.phase}: {meeting} may exist at Zoom, and the next lesson on this host would "
            f"collide with it. End it through Zoom with 'zoompool leases end {str(lease.id)!r} --pool {lease.pool}', "
            "or, if you have made sure at Zoom that nothing runs, repeat with --force"
        )


def lease_fields(lease: Lease) -> dict[str, Any]:
    """A lease as JSON; links and passcode stay out, for whoever has them can enter the lesson."""
    return {
        "id": str(lease.id),
        "pool": lease.pool,
        "slot": lease.id.slot,
        "account": lease.account,
        "email": lease.email,
        "lesson": lease.lesson,
        "owner": lease.owner,
        "phase": lease.phase,
        "was": lease.was,
        "granted_ms": lease.granted_ms,
        "since_ms": lease.since_ms,
        "deadline_ms": lease.deadline_ms,
        "hold_until_ms": lease.hold_until_ms,
        "now_ms": lease.now_ms,
        "credential": lease.credential,
        "topic": lease.topic,
        "duration_min": lease.duration_min,
        "meeting_id": lease.meeting_id,
        "meeting_uuid": lease.meeting_uuid,
    }


def outcome_fields(outcome: Outcome) -> dict[str, Any]:
    """How a lease ended, as JSON."""
    return {
        "lease": str(outcome.lease),
        "pool": outcome.pool,
        "lesson": outcome.lesson,
        "owner": outcome.owner,
        "reason": outcome.reason,
        "detail": outcome.detail,
        "phase": outcome.phase,
        "granted_ms": outcome.granted_ms,
        "released_ms": outcome.released_ms,
        "meeting_id": outcome.meeting_id,
    }


@app.command("list")
def list_leases(
    suspect: Annotated[bool, typer.Option("--suspect", help="Only those that wait for Zoom's word.")] = False,
    pool: PoolOption = "",
    json: JsonOption = False,
) -> None:
    """List leases: suspect ones first, then those with the nearest deadline."""
    with session(pool) as here:
        found = list(here.pages(here.pool.leases, suspect=True))
        if not suspect:
            found += here.pages(here.pool.leases)
    if json:
        print_json([lease_fields(lease) for lease in found])
        return
    print_table(
        ("lease", "lesson", "owner", "phase", "since", "age", "left", "meeting"),
        (
            (
                lease.id,
                lease.lesson,
                lease.owner,
                f"{lease.phase}/{lease.was}" if lease.was else lease.phase,
                clock(lease.granted_ms, here.settings),
                span(lease.now_ms - lease.granted_ms),
                span(lease.deadline_ms - lease.now_ms) if lease.deadline_ms else "-",
                lease.meeting_id or "",
            )
            for lease in found
        ),
        f"Pool {here.pool.name} has no {'suspect ' if suspect else ''}leases.",
    )


@app.command()
def show(
    what: Annotated[str, typer.Argument(metavar="LEASE|LESSON|MEETING", help="A lease, lesson or Zoom meeting id.")],
    pool: PoolOption = "",
    json: JsonOption = False,
) -> None:
    """Show one lease, or how the last one of a lesson ended."""
    with session(pool) as here:
        found = _find(here, what)
    if found.lease is not None:
        fields = lease_fields(found.lease)
    elif found.outcome is not None:
        fields = outcome_fields(found.outcome)
    else:
        raise UnknownLease(here.pool.name, what)
    if json:
        print_json({"running": found.lease is not None, **fields})
        return
    print_table(
        ("field", "value"),
        (
            (name, clock(value, here.settings) if name.endswith("_ms") else value)
            for name, value in fields.items()
            if value not in (None, "")
        ),
        "",
    )
    if found.lease is None:
        typer.echo("This lease is over.")


def _find(here: Session, what: str) -> Found:
    if LEASE_ID.fullmatch(what):
        return here.run(here.pool.find_lease(LeaseId.parse(what)))
    found = here.run(here.pool.find_lesson(what))
    if found.lease is None and found.outcome is None and what.isascii() and what.isdigit():
        return here.run(here.pool.find_meeting(int(what)))
    return found


@app.command()
def end(lease: LeaseArgument, pool: PoolOption = "") -> None:
    """End a lease through Zoom: a worker ends and deletes its meeting, then frees the slot."""
    with session(pool) as here:
        found = _running(here, lease)
        from broker.client import translated
        from broker.jobs import END_MEETING
        from broker.redis import connect
        from workers.queues import enqueue

        connection = connect(here.settings, decode_responses=False)
        try:
            with translated("enqueue"):
                args = (here.pool.name, str(found.id), ReleaseReason.FORCED.value, found.lesson)
                enqueue(connection, END_MEETING, *args)
        finally:
            connection.close()
    typer.echo(f"lease {found.id}: its end is enqueued; see 'zoompool leases show {str(found.id)!r}'")


@app.command()
def release(
    lease: LeaseArgument,
    reason: Annotated[str, typer.Option("--reason", "-r", help="Why; kept with the lesson and in the events.")],
    force: Annotated[
        bool, typer.Option("--force", help="Free the slot now, although a meeting may exist at Zoom.")
    ] = False,
    by: Annotated[
        str, typer.Option("--by", help="Who does it; the name of this machine's user when absent.", show_default=False)
    ] = "",
    pool: PoolOption = "",
) -> None:
    """Free a slot now, without asking Zoom. Refused without --force while a meeting may exist.

    Who did it and why is kept with the lesson's outcome and in the event stream.
    """
    if not reason.strip():
        raise typer.BadParameter("say why: somebody will ask", param_hint="--reason")
    with session(pool) as here:
        found = _running(here, lease)
        if found.phase is not Phase.CLAIMED and not force:
            raise MeetingMayExist(found)
        # Without --force the phase is checked again where it cannot change: a worker may have begun meanwhile.
        (change,) = here.run(
            here.pool.release(
                [found.id],
                ReleaseReason.FORCED,
                detail=f"{by or _user()}: {reason}",
                only_phase=None if force else Phase.CLAIMED,
            )
        )
        if change is Change.REFUSED:
            raise MeetingMayExist(_running(here, lease))
        if change is Change.STALE:
            raise UnknownLease(here.pool.name, lease)
    typer.echo(f"lease {found.id}: released, slot {found.id.slot} is given back")
    if found.meeting_id:
        typer.echo(f"meeting {found.meeting_id} was not touched: see at Zoom that it does not run any more", err=True)


def _user() -> str:
    """Whoever is logged in, as far as the machine can tell."""
    try:
        return f"{getpass.getuser()}@{socket.gethostname()}"
    except (OSError, KeyError):  # a container may run under a number that has no name
        return f"user {os.getuid()}@{socket.gethostname()}"


def _running(here: Session, lease: str) -> Lease:
    found = here.run(here.pool.find_lease(LeaseId.parse(lease))).lease
    if found is None:
        raise UnknownLease(here.pool.name, lease)
    return found
