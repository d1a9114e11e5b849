"""Processes under supervision: ready or not, stopped or killed, and never left behind."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import psutil
import pytest

from broker.testing.process import Process, ProcessFailed
from tests.waiting import wait_until

READY_S = 15.0


def _process(tmp_path: Path, code: str, said: str = "") -> Process:
    """A Python process that runs `code`, ready when its log has `said`."""
    log = tmp_path / "child.log"

    def ready() -> bool:
        return log.exists() and said in log.read_text()

    environment = {"PATH": os.environ["PATH"], "PYTHONUNBUFFERED": "1"}
    return Process("child", [sys.executable, "-c", code], environment=environment, log=log, ready=ready)


def _start(process: Process) -> None:
    process.start()
    process.wait_ready(time.monotonic() + READY_S)


def test_process_that_ends_by_itself_is_reported_with_its_last_words(tmp_path: Path) -> None:
    process = _process(tmp_path, "raise SystemExit('no such port')", said="never")
    process.start()
    with pytest.raises(ProcessFailed, match=r"exit 1(.|\n)*no such port"):
        process.wait_ready(time.monotonic() + READY_S)


def test_process_that_does_not_get_ready_is_reported_with_its_log(tmp_path: Path) -> None:
    process = _process(tmp_path, "import time; print('still thinking'); time.sleep(60)", said="ready")
    process.start()
    wait_until(lambda: "thinking" in process.tail(), "it runs")
    with pytest.raises(ProcessFailed, match=r"did not get ready(.|\n)*still thinking"):
        process.wait_ready(time.monotonic())
    process.kill()


def test_process_that_ignores_the_request_to_stop_is_killed(tmp_path: Path) -> None:
    stubborn = "import signal, time; signal.signal(15, signal.SIG_IGN); print('ready'); time.sleep(60)"
    process = _process(tmp_path, stubborn, said="ready")
    _start(process)
    process.stop(timeout_s=0.2)
    assert not process.alive
    process.check()  # it was meant to end, so that is no failure


def test_paused_process_lives_and_can_be_stopped(tmp_path: Path) -> None:
    process = _process(tmp_path, "import time; print('ready'); time.sleep(60)", said="ready")
    _start(process)
    process.pause()
    wait_until(lambda: psutil.Process(process.pid).status() == psutil.STATUS_STOPPED, "it is frozen")
    assert process.alive
    process.stop()
    assert not process.alive


def test_killed_process_can_be_started_again_under_its_name(tmp_path: Path) -> None:
    process = _process(tmp_path, "import time; print('ready'); time.sleep(60)", said="ready")
    _start(process)
    first = process.pid
    process.kill()
    _start(process)
    assert process.pid != first
    assert process.alive
    process.kill()


def test_environment_is_what_was_given_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZOOMPOOL_JWT_KEY", "of the shell")
    process = _process(tmp_path, "import os; print(sorted(os.environ)); input()", said="]")
    process.start()
    wait_until(lambda: "]" in process.tail(), "it says what it was given")
    assert "ZOOMPOOL_JWT_KEY" not in process.tail()
    process.kill()
