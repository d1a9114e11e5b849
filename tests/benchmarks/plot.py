"""Latency against load, as a picture: `make bench PLOT=1`."""

from __future__ import annotations

import asyncio
from pathlib import Path

from tests.benchmarks import starts
from tests.benchmarks.report import percentile
from tests.benchmarks.system import ZOOM_MS, system

PICTURE = Path(".bench/latency.png")
RATES = (1, 10, 25, 50, 75, 100, 125, 150, 175, 200)
SECONDS = 8


def draw() -> Path:
    """Measure starts at growing rates and draw them; returns where the picture is."""
    # Imported here: only who wants the picture needs it.
    from matplotlib import pyplot

    halves, hundredths = [], []
    for rate in RATES:
        count = max(20, rate * SECONDS)
        with system(accounts=count + starts.WARM_UP) as stack:
            took = asyncio.run(starts.paced(stack, count, rate))
        halves.append(percentile(took, 50) - ZOOM_MS)
        hundredths.append(percentile(took, 99) - ZOOM_MS)
    figure, axes = pyplot.subplots(figsize=(8, 5))
    axes.plot(RATES, halves, marker="o", label="p50")
    axes.plot(RATES, hundredths, marker="o", label="p99")
    # The last rates may be more than one process serves, and then they grow by the second.
    axes.set(xlabel="starts per second", ylabel=f"beside Zoom's own {ZOOM_MS:g} ms, ms", yscale="log")
    axes.grid(visible=True, which="both", alpha=0.3)
    axes.set_title("One API process, one worker process")
    axes.legend()
    PICTURE.parent.mkdir(exist_ok=True)
    figure.savefig(PICTURE, dpi=120, bbox_inches="tight")
    pyplot.close(figure)
    return PICTURE
