"""The command line: the outermost layer, and the one part of `broker` that may import `api` and `workers`.

One file per group of commands. Each imports what it starts inside its commands, so that `zoompool status` does not pay
for a web server.
"""

from __future__ import annotations

from typing import Any

import typer
from typer.core import TyperGroup

from broker.cli import (
    accounts,
    credentials,
    explain,
    keys_and_tokens,
    leases,
    notifications,
    processes,
    registry,
    status,
)
from broker.cli.chaos import chaos
from broker.cli.demo import demo
from broker.cli.doctor import doctor
from broker.cli.reconcile import reconcile
from broker.cli.session import printable
from broker.cli.simulate import simulate_zoom
from broker.errors import ZoomPoolError


class OneLineErrors(TyperGroup):
    """Turns every error of ours into one clear line on stderr and exit code 1."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command that `ctx` names."""
        try:
            return super().invoke(ctx)
        except ZoomPoolError as error:
            # More than one line only where a log is quoted.
            first, *more = str(error).splitlines() or [""]
            typer.echo("\n".join([f"zoompool: {printable(first)} [{error.code}]", *map(printable, more)]), err=True)
            raise typer.Exit(1) from None
        except KeyboardInterrupt:
            raise typer.Exit(130) from None


app = typer.Typer(
    name="zoompool",
    cls=OneLineErrors,
    help="Share a pool of Zoom hosts among the lessons of a school. The error code in brackets: zoompool explain CODE.",
    no_args_is_help=True,
    add_completion=False,
    # Its tracebacks would quote local variables, secrets among them.
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("demo")(demo)
app.command("chaos")(chaos)
app.command("status")(status.status)
app.add_typer(accounts.app, name="accounts")
app.add_typer(leases.app, name="leases")
app.add_typer(credentials.app, name="credentials")
app.add_typer(status.pools_app, name="pools")
app.add_typer(registry.teachers_app, name="teachers")
app.add_typer(registry.lessons_app, name="lessons")
app.add_typer(notifications.app, name="notifications")
app.command("explain")(explain.explain)
app.command("reconcile")(reconcile)
app.command("doctor")(doctor)
app.command("serve")(processes.serve)
app.command("worker")(processes.worker)
app.command("scheduler")(processes.scheduler)
app.command("simulate-zoom")(simulate_zoom)
app.command("token")(keys_and_tokens.token)
app.command("secret-key")(keys_and_tokens.secret_key)
