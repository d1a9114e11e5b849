"""`zoompool explain`: what an error code, a phase or a reason means, and what to do about it."""

from __future__ import annotations

from dataclasses import asdict
from difflib import get_close_matches
from typing import Annotated

import typer

from broker.cli.explanations import EXPLANATIONS
from broker.cli.session import JsonOption, print_json, print_table
from broker.errors import ZoomPoolError


class UnknownCode(ZoomPoolError):
    """There is nothing to explain under this name."""

    code = "unknown_code"

    def __init__(self, code: str) -> None:
        near = get_close_matches(code, EXPLANATIONS, n=3)
        hint = f"did you mean {' or '.join(near)}?" if near else "'zoompool explain' lists all of them"
        super().__init__(f"{code!r} is neither an error code nor a phase, state or reason; {hint}")


def explain(
    code: Annotated[str, typer.Argument(help="An error code, phase, state or reason; all of them when absent.")] = "",
    json: JsonOption = False,
) -> None:
    """Say what a code means and what to do about it."""
    if not code:
        if json:
            print_json({name: asdict(entry) for name, entry in EXPLANATIONS.items()})
        else:
            print_table(("code", "what it is", "meaning"), ((n, e.kind, e.means) for n, e in EXPLANATIONS.items()), "")
        return
    name = code.strip().lower().replace("-", "_")
    entry = EXPLANATIONS.get(name)
    if entry is None:
        raise UnknownCode(code)
    if json:
        print_json({"code": name, **asdict(entry)})
        return
    typer.echo(f"{name} - {entry.kind}\n\n{entry.means}\n\nWhat to do: {entry.do}")
