"""What a benchmark found, beside its limit and its peer; as a table for people and as JSON for machines."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from rich.console import Console
from rich.table import Table

WIDTH = 150
"""Columns: names are keys of the JSON file, and shall not be cut."""
LATEST = Path(".bench/latest.json")


@dataclass(frozen=True)
class Figure:
    """One number.

    Attributes:
        name: key in the JSON file; dots lead into objects, as in `burst.last_s`.
        value: what was measured, in `unit`.
        unit: such as ms, 1/s, bytes; empty for a ratio.
        limit: what it has to keep; None where nothing was promised.
        better: which side of the limit is good.
        beside: what it was measured against, in the same run.
    """

    name: str
    value: float
    unit: str = ""
    limit: float | None = None
    better: Literal["more", "less"] = "less"
    beside: str = ""

    @property
    def kept(self) -> bool | None:
        """Whether the limit is kept; None without one."""
        if self.limit is None:
            return None
        return self.value <= self.limit if self.better == "less" else self.value >= self.limit


def percentile(values: Sequence[float], percent: float) -> float:
    """The smallest value that at least `percent` of all do not exceed.

    Raises:
        ValueError: there are none.
    """
    if not values:
        raise ValueError("no values")
    ordered = sorted(values)
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)]


def spread(
    name: str, values: Sequence[float], *, limits: tuple[float | None, float | None], beside: str
) -> list[Figure]:
    """Median and 99th percentile of a latency in ms."""
    return [
        Figure(f"{name}.p{percent}", percentile(values, percent), "ms", limit, "less", beside)
        for percent, limit in zip((50, 99), limits, strict=True)
    ]


def write(figures: Iterable[Figure], commit: str, path: Path = LATEST) -> None:
    """Write the JSON file."""
    path.parent.mkdir(exist_ok=True)
    found: dict[str, Any] = {"commit": commit}
    for figure in figures:
        *groups, last = figure.name.split(".")
        place = found
        for group in groups:
            place = place.setdefault(group, {})
        place[last] = {**asdict(figure), "kept": figure.kept}
    path.write_text(json.dumps(found, indent=2) + "\n", "utf-8")


def show(title: str, figures: Iterable[Figure]) -> None:
    """Print a table."""
    table = Table("", "figure", "value", "limit", "measured beside", title=title, title_justify="left", box=None)
    marks = {True: "[green]✓[/]", False: "[red]✗[/]", None: ""}
    for figure in figures:
        sign = "≤" if figure.better == "less" else "≥"
        limit = "" if figure.limit is None else f"{sign} {figure.limit:g}"
        table.add_row(marks[figure.kept], figure.name, f"{figure.value:,.4g} {figure.unit}", limit, figure.beside)
    Console(width=WIDTH).print(table)
