"""One supervised process: started with a log file, watched, killed, paused and stopped, and never left behind."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from broker.errors import ZoomPoolError

STOP_S = 10.0
"""How long a process may take to stop in good order before it is killed."""
LOOK_S = 0.02
TAIL_LINES = 15
PR_SET_PDEATHSIG = 1  # from linux/prctl.h

# Loaded here because the code between fork and exec must not load anything.
_LIBC = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


class ProcessFailed(ZoomPoolError):
    """A supervised process ended by itself or did not get ready in time; the message has the end of its log."""

    code = "process_failed"


class Process:
    """A process that can be started again and again under one name.

    Args:
        name: for messages and the log's name.
        command: the program and its arguments.
        environment: all of its environment variables; secrets go here, never into `command`, which `ps` shows.
        log: standard output and error are appended to it.
        ready: asked again and again after the start until it says yes; it must not block for long.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        environment: Mapping[str, str],
        log: Path,
        ready: Callable[[], bool] = lambda: True,
    ) -> None:
        self.name = name
        self.log = log
        self._command = list(command)
        self._environment = dict(environment)
        self._ready = ready
        self._running: subprocess.Popen[bytes] | None = None
        self._wanted = False

    @property
    def pid(self) -> int:
        """The process id of the newest run.

        Raises:
            ProcessFailed: it was never started.
        """
        if self._running is None:
            raise ProcessFailed(f"{self.name} was never started")
        return self._running.pid

    @property
    def alive(self) -> bool:
        """Whether it runs (a paused process does)."""
        return self._running is not None and self._running.poll() is None

    def start(self) -> None:
        """Start it and return at once.

        Must be called on a thread that lives as long as the process shall: see `_die_with_parent`.
        """
        if self.alive:
            return
        self._wanted = True
        parent = os.getpid()
        with self.log.open("ab") as log:
            self._running = subprocess.Popen(
                self._command,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                # A session of its own: Ctrl-C in a terminal goes to every process of the foreground group at once, and
                # then Redis would be gone before the workers have put their last results there.
                start_new_session=True,
                preexec_fn=lambda: _die_with_parent(parent),
            )

    def wait_ready(self, deadline_s: float, look: Callable[[], None] = lambda: None) -> None:
        """Wait until it is ready.

        Args:
            deadline_s: at most until then, on the monotonic clock.
            look: called again and again; may raise to give up.

        Raises:
            ProcessFailed: it ended, or the time is up.
        """
        while True:
            look()
            self.check()
            if self._ready():
                return
            if time.monotonic() >= deadline_s:
                raise ProcessFailed(f"{self.name} did not get ready in time; the end of {self.log}:\n{self.tail()}")
            time.sleep(LOOK_S)

    def check(self) -> None:
        """Raise if it should run and does not.

        Raises:
            ProcessFailed: it ended by itself.
        """
        if self._wanted and not self.alive:
            code = self._running.returncode if self._running else None
            raise ProcessFailed(f"{self.name} ended by itself (exit {code}); the end of {self.log}:\n{self.tail()}")

    def ask_to_stop(self) -> None:
        """Send SIGTERM, without waiting."""
        self._wanted = False
        if self.alive:
            self._signal(signal.SIGCONT)  # a paused process would sleep through the other one
            self._signal(signal.SIGTERM)

    def stop(self, timeout_s: float = STOP_S) -> None:
        """Stop it in good order; kill it if that takes longer than `timeout_s`."""
        self.ask_to_stop()
        if self._running is not None:
            try:
                self._running.wait(timeout_s)
            except subprocess.TimeoutExpired:
                self.kill()

    def kill(self) -> None:
        """End it with SIGKILL, as a power cut or the kernel's out-of-memory killer would, and wait until it is gone."""
        self._wanted = False
        if self._running is not None:
            self._signal(signal.SIGKILL)
            self._running.wait(STOP_S)

    def pause(self) -> None:
        """Freeze it with SIGSTOP: it lives, holds its connections, and does nothing."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let a frozen process go on."""
        self._signal(signal.SIGCONT)

    def tail(self, lines: int = TAIL_LINES) -> str:
        """The last lines of its log."""
        try:
            return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])
        except FileNotFoundError:
            return ""

    def _signal(self, number: int) -> None:
        if self._running is not None and self._running.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                self._running.send_signal(number)


def _die_with_parent(parent: int) -> None:
    """In the child, before it becomes the program: ask Linux to kill it when the thread that started it ends.

    A parent that is itself killed with SIGKILL has no chance to stop anything; without this, its Redis, workers and API
    would run on for ever. Elsewhere than on Linux only an orderly end of the parent stops them.
    """
    if _LIBC is not None:
        _LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it died between fork and prctl
            os._exit(1)
