"""`make bench`: measure everything beside its limit or peer, print it, and write `.bench/latest.json`.

make bench                       everything, about six minutes
make bench ARGS="burst memory"   some of it
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Callable

from rich.console import Console

from tests.benchmarks import footprint, handover, report, scripts, starts, webhooks
from tests.benchmarks.report import Figure

BENCHMARKS: dict[str, Callable[[], list[Figure]]] = {
    "scripts": scripts.scripts,
    "handover": handover.handover,
    "overhead": starts.overhead,
    "burst": starts.burst,
    "webhooks": webhooks.acknowledgement,
    "memory": footprint.memory,
    "idle": footprint.idle,
}


def commit() -> str:
    """The commit that is measured, with a plus if the tree has changes."""
    run = subprocess.run(["git", "describe", "--always", "--dirty=+"], capture_output=True, text=True, check=False)
    return run.stdout.strip() or "unknown"


def main() -> int:
    """Run the benchmarks that were asked for; returns 1 if a limit was not kept."""
    parser = argparse.ArgumentParser(prog="make bench", description="Measure the system on this machine.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(BENCHMARKS))
    chosen = parser.parse_args().names or list(BENCHMARKS)
    if unknown := set(chosen) - set(BENCHMARKS):
        parser.error(f"there is no {', '.join(sorted(unknown))}; there are {', '.join(BENCHMARKS)}")
    figures: list[Figure] = []
    for name in chosen:
        began = time.monotonic()
        found = BENCHMARKS[name]()
        report.show(f"\n{name} ({time.monotonic() - began:.0f} s)", found)
        figures += found
    report.write(figures, commit())
    if os.environ.get("PLOT"):
        from tests.benchmarks import plot

        Console().print(str(plot.draw()))
    return 0 if all(figure.kept is not False for figure in figures) else 1


if __name__ == "__main__":
    sys.exit(main())
