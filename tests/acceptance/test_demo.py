"""`zoompool demo` as somebody runs it: in a process of its own, which leaves nothing behind."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest

from tests.waiting import wait_until

MARK = "ACCEPTANCE_TEST_MARK"
DEMO = [sys.executable, "-m", "broker", "demo"]
START_S = 40.0
STOP_S = 25.0
LAST_LINE = "Ctrl-C stops everything"


@dataclass
class Place:
    """Where a demo runs: a folder for its state, and a mark in the environment that all its processes inherit."""

    folder: Path
    mark: str = field(default_factory=lambda: uuid.uuid4().hex)

    @property
    def environment(self) -> dict[str, str]:
        # What a shell may hold for a real deployment must not reach the demo.
        theirs = {"ZOOMPOOL_CLAIM_TTL_S": "nonsense", "REDIS_URL": "redis://127.0.0.1:1/0"}
        return {**os.environ, **theirs, MARK: self.mark, "TMPDIR": str(self.folder)}

    def processes(self) -> list[str]:
        """The command lines of all processes with the mark."""
        found = []
        for process in psutil.process_iter():
            try:
                if process.environ().get(MARK) == self.mark and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(" ".join(process.cmdline()))
            except psutil.Error:
                continue
        return found

    def assert_nothing_is_left(self) -> None:
        """No process runs, and no file is left."""
        wait_until(lambda: not self.processes(), "every process of the demo is gone")
        assert list(self.folder.iterdir()) == []


@pytest.fixture
def place() -> Iterator[Place]:
    """A short path, because a unix socket's may have no more than a hundred characters."""
    folder = Path(tempfile.mkdtemp(prefix="zp-"))
    yield Place(folder)
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def running(place: Place) -> Iterator[subprocess.Popen[str]]:
    """A demo that is about to start."""
    log = place.folder.with_suffix(".out")
    with log.open("w") as out:
        process = subprocess.Popen(DEMO, env=place.environment, stdout=out, stderr=subprocess.STDOUT, text=True)
    yield process
    process.kill()
    process.wait()
    log.unlink()


def _said(place: Place) -> str:
    return place.folder.with_suffix(".out").read_text()


def _wait_for_welcome(place: Place, process: subprocess.Popen[str]) -> str:
    wait_until(
        lambda: LAST_LINE in _said(place) or process.poll() is not None, "the demo says where everything is", START_S
    )
    assert process.poll() is None, _said(place)
    return _said(place)


def test_once_ends_with_zeros_and_leaves_nothing(place: Place) -> None:
    ran = subprocess.run(
        [*DEMO, "--once", "--lessons", "8", "--accounts", "3", "--seed", "5"],
        env=place.environment,
        capture_output=True,
        text=True,
        timeout=90,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    result = json.loads(ran.stdout.splitlines()[-1])
    assert (result["lessons"], result["started"]) == (8, 8)
    assert result["queued"] > 0, "eight lessons on four slots: somebody must have waited in line"
    wrong = ("double_booked", "leaked_slots", "orphan_meetings", "invariant_violations", "several_meetings", "failed")
    assert {name: result[name] for name in wrong} == dict.fromkeys(wrong, 0)
    assert result["start_ms_p50"] > 0
    place.assert_nothing_is_left()


def test_printed_lines_work_when_pasted_and_ctrl_c_leaves_nothing(place: Place, running: subprocess.Popen[str]) -> None:
    lines = [line for line in _wait_for_welcome(place, running).splitlines() if line.startswith("curl ")]
    start, join, end = lines
    first, second = _paste(start), _paste(start)
    assert first["zoom_meeting_id"] == second["zoom_meeting_id"]
    assert first["zoom_join_url"]
    assert _paste(join)["role"] == "host"
    assert _paste(end) == {"ended": True}
    assert len(place.processes()) > 5

    running.send_signal(signal.SIGINT)
    assert running.wait(STOP_S) == 0
    assert "Traceback" not in _said(place)
    place.assert_nothing_is_left()


def _paste(line: str) -> dict[str, object]:
    ran = subprocess.run(["bash", "-c", line], capture_output=True, text=True, timeout=30)
    assert ran.returncode == 0, ran.stderr
    answer: dict[str, object] = json.loads(ran.stdout)
    return answer


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_while_it_starts_leaves_nothing(
    place: Place, running: subprocess.Popen[str], number: signal.Signals
) -> None:
    wait_until(lambda: len(place.processes()) > 3 or running.poll() is not None, "some of its processes run", START_S)
    running.send_signal(number)
    assert running.wait(STOP_S) == 0
    assert "Traceback" not in _said(place)
    place.assert_nothing_is_left()


def test_killed_demo_takes_its_processes_with_it(place: Place, running: subprocess.Popen[str]) -> None:
    wait_until(lambda: len(place.processes()) > 3 or running.poll() is not None, "some of its processes run", START_S)
    running.kill()
    running.wait()
    wait_until(lambda: not place.processes(), "the kernel ends the processes of a killed demo")


def test_missing_redis_is_said_with_the_ways_out(place: Place) -> None:
    environment = {**place.environment, "ZOOMPOOL_TEST_REDIS": "/nowhere/redis-server"}
    ran = subprocess.run(DEMO, env=environment, capture_output=True, text=True, timeout=30)
    assert ran.returncode == 1
    assert "apt-get install redis-server" in ran.stderr
    assert "Traceback" not in ran.stderr
    place.assert_nothing_is_left()
