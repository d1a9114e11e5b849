"""The command line as real processes: exit codes, signals, start and stop."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from typing import Any

import pytest
import redis as redis_py

from broker.operations import Pool
from tests.unit.cli.running import ROOT, Run, ok, refused


def test_serve_gives_waiting_callers_time_to_finish(zoompool: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    given: dict[str, Any] = {}
    monkeypatch.setattr("uvicorn.run", lambda target, **options: given.update(options, target=target))
    ok(zoompool("serve", "--host", "0.0.0.0", "--port", "0", "--workers", "2", env={"ZOOMPOOL_WAIT_MAX_S": "40"}))
    assert (given["host"], given["port"], given["workers"]) == ("0.0.0.0", 0, 2)
    assert given["timeout_graceful_shutdown"] > 40
    assert given["access_log"] is False


def test_serve_refuses_unsafe_settings_before_it_listens(zoompool: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("uvicorn.run", lambda *args, **options: pytest.fail("it listens"))
    weak: dict[str, str | None] = {"ZOOMPOOL_ENVIRONMENT": "production", "ZOOMPOOL_JWT_KEY": "changeme"}
    assert "changeme" not in refused(zoompool("serve", env=weak), "configuration_error")


def process(environment: dict[str, str], *arguments: str, **options: Any) -> subprocess.Popen[str]:
    variables = {name: value for name, value in os.environ.items() if not name.startswith("ZOOMPOOL_")}
    return subprocess.Popen(
        [sys.executable, "-m", "broker", *arguments],
        cwd=ROOT,
        env={**variables, **environment},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        **options,
    )


def test_an_error_reaches_the_shell_as_exit_code_1_without_a_traceback(environment: dict[str, str]) -> None:
    out, err = process({**environment, "REDIS_URL": "redis://127.0.0.1:1"}, "status").communicate(timeout=20)
    assert out == ""
    assert err.count("\n") == 1
    assert "[broker_unavailable]" in err
    assert "Traceback" not in err


def test_wrong_usage_reaches_the_shell_as_exit_code_2(environment: dict[str, str]) -> None:
    started = process(environment, "worker", "no-such-queue")
    _, err = started.communicate(timeout=20)
    assert started.returncode == 2
    assert "periodic" in err


def test_watch_goes_on_until_ctrl_c(environment: dict[str, str], pool: Pool) -> None:
    started = process(environment, "status", "--watch", "0.1", "--json")
    assert started.stdout is not None
    turns = [json.loads(started.stdout.readline()) for _ in range(3)]
    assert turns[0]["status"]["now_ms"] < turns[2]["status"]["now_ms"]
    for _ in range(10):
        # Again if need be, as people do: Python drops an interrupt that meets it in a destructor.
        started.send_signal(signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            started.wait(3)
            break
    _, err = started.communicate(timeout=20)
    assert started.returncode == 130
    assert "Traceback" not in err


@pytest.mark.parametrize("arguments", [("scheduler",), ("worker", "periodic")])
def test_a_process_stops_in_good_order_on_sigterm(
    arguments: tuple[str, ...], environment: dict[str, str], redis: redis_py.Redis
) -> None:
    started = process(environment, *arguments)
    deadline = time.monotonic() + 20
    while not redis.keys("rq:*") and time.monotonic() < deadline:
        assert started.poll() is None, started.communicate()
        redis.blpop(["no-such-list"], timeout=0.05)
    assert redis.keys("rq:*"), "it never began to work"
    started.send_signal(signal.SIGTERM)
    _, err = started.communicate(timeout=20)
    assert started.returncode == 0, err
    assert "Traceback" not in err
