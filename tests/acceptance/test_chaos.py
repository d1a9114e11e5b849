"""`zoompool chaos` as somebody runs it: short, but with everything that a quarter of a minute of the plan holds."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

CHAOS = [sys.executable, "-m", "broker", "chaos"]
SECONDS = 16
LONGEST_S = 300.0
"""For people's patience, the time to settle, and a machine that has other things to do."""


@pytest.fixture
def folder() -> Iterator[Path]:
    """Where a run has its state; a short path, because a unix socket's may have no more than a hundred characters."""
    made = Path(tempfile.mkdtemp(prefix="zp-"))
    yield made
    shutil.rmtree(made, ignore_errors=True)


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*CHAOS, *arguments],
        env={**os.environ, "TMPDIR": str(folder)},
        capture_output=True,
        text=True,
        timeout=LONGEST_S,
    )


def test_nothing_is_lost_or_double_booked_and_nothing_is_left(folder: Path) -> None:
    ran = run(folder, "--seed", "3", "--seconds", str(SECONDS), "--json")
    assert ran.returncode == 0, ran.stdout + ran.stderr
    (line,) = ran.stdout.splitlines()
    result: dict[str, Any] = json.loads(line)
    wrong = (
        *("double_booked", "shared_slots", "leaked_slots", "orphan_meetings", "invariant_violations"),
        *("internal_errors", "problems"),
    )
    assert {name: result[name] for name in wrong} == dict.fromkeys(wrong, 0)
    assert (result["seed"], result["seconds"], result["unseen"]) == (3, SECONDS, [])
    assert result["started"] > 0
    fates = (result["started"], sum(result["refused"].values()), result["unanswered"], result["hung_up"])
    assert sum(fates) == result["asked"], "every lesson came to an end that is told"
    assert sum(result["kills"].values()) >= SECONDS / 3
    assert sum(result["faults"].values()) >= SECONDS / 3
    assert list(folder.iterdir()) == []


def test_plan_is_printed_without_starting_anything(folder: Path) -> None:
    ran = run(folder, "--plan", "--seed", "3", "--seconds", "60")
    assert ran.returncode == 0, ran.stderr
    lines = ran.stdout.splitlines()
    assert sum("kill-" in line for line in lines) >= 20
    assert run(folder, "--plan", "--seed", "3", "--seconds", "60").stdout == ran.stdout
    assert list(folder.iterdir()) == []
