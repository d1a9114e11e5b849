"""The whole system on one machine, as real processes: Redis, a simulated Zoom, the API, workers and the scheduler.

The demo runs on it, and the acceptance tests. Each part is its own `python -m broker …`, told what to do by environment
variables alone, as in a deployment, and has a name by which it can be killed, paused and started again.
"""

from __future__ import annotations

import asyncio
import http.client
import secrets
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from http import HTTPStatus
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

from pydantic import SecretStr

from broker.client import Broker
from broker.jobs import QueueName
from broker.models import Account, Credential
from broker.redis import connect, connect_async
from broker.registry import credentials
from broker.secrets import SecretBox
from broker.settings import Settings
from broker.testing.environment import (
    HOST,
    everyday_zoom,
    free_ports,
    private_settings,
    process_environment,
    simulator_environment,
)
from broker.testing.process import STOP_S, Process
from broker.testing.redis_server import RedisServer
from broker.testing.school import School
from broker.testing.zoom_simulator import SimulatorSettings
from broker.testing.zoom_simulator.settings import DEMO_ACCOUNT, DEMO_CLIENT

READY_S = 30.0
ASK_S = 1.0
WEBHOOK_PATH = "/schedule/api/zoom/webhook/"
WORKERS: Mapping[QueueName, int] = {QueueName.CREATE: 1, QueueName.WEBHOOKS: 1, QueueName.PERIODIC: 1}


class Stack:
    """The running system. Use it as a context manager: whatever happens inside, nothing is left behind.

    Must be entered on a thread that lives on, best the main one; see `broker.testing.process`.

    Args:
        accounts: the hosts to share.
        workers: how many processes for each queue.
        settings: changes to `broker.testing.environment.FAST`, by the names of `Settings`.
        zoom: the simulated Zoom; by default `everyday_zoom` with these accounts as hosts.
        look: called again and again while parts start; may raise to give up.
        route: by which URL our processes reach `redis` and `zoom`, given its name and its own URL. A proxy can stand
            there; whoever judges the system reaches both directly.
        registered: enter the pool, its accounts and the credential of its Zoom; else somebody has to do that.
        fsync: how soon Redis has a write on disk; `always` loses nothing that was answered when it is killed.

    Attributes:
        settings: what every process of the system was told.
        broker: the way into its Redis, directly.
        api_url, zoom_url: where they listen.
        folder, logs: state, and a log file for each process, while it runs.
    """

    def __init__(
        self,
        accounts: Sequence[Account],
        *,
        workers: Mapping[QueueName, int] = WORKERS,
        settings: Mapping[str, Any] | None = None,
        zoom: SimulatorSettings | None = None,
        look: Callable[[], None] = lambda: None,
        route: Callable[[str, str], str] = lambda part, url: url,
        registered: bool = True,
        fsync: Literal["always", "everysec"] = "always",
    ) -> None:
        self.accounts = tuple(accounts)
        self._registered = registered
        self._fsync: Literal["always", "everysec"] = fsync
        self.processes: dict[str, Process] = {}
        self.folder = self.logs = Path()
        self.api_url = self.zoom_url = ""
        self.settings: Settings
        self.broker: Broker
        self._workers = dict(workers)
        self._changes = dict(settings or {})
        self._look = look
        self._route = route
        self._zoom = zoom or everyday_zoom(self.accounts)
        self._state: tempfile.TemporaryDirectory[str] | None = None
        self._client_secret = SecretStr(secrets.token_urlsafe(24))

    # Life

    def __enter__(self) -> Self:
        self._state = tempfile.TemporaryDirectory(prefix="zoompool-", ignore_cleanup_errors=True)
        self.folder = Path(self._state.name)
        self.logs = self.folder / "logs"
        self.logs.mkdir()
        try:
            self._start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Stop everything in order and remove the state folder. May be called again."""
        with uninterrupted():
            # Who asks stops before who answers, so that nobody logs a failure that is only the end.
            for kinds in (("api", "scheduler"), tuple(QueueName), ("zoom",), ("redis",)):
                group = [process for name, process in self.processes.items() if name.split("-")[0] in kinds]
                for process in group:
                    process.ask_to_stop()
                deadline_s = time.monotonic() + STOP_S
                for process in group:
                    process.stop(max(deadline_s - time.monotonic(), 0))
            if self.processes:
                self.broker.redis.close()
            if self._state is not None:
                self._state.cleanup()

    def _start(self) -> None:
        self.processes = {process.name: process for process in self._compose()}
        # Redis first, because everybody asks it at once; the rest together, because each spends a second on imports.
        self.start("redis")
        if self._registered:
            self._register()
        for process in self.processes.values():
            process.start()
        self.wait_ready()

    # Parts

    def names(self, part: str = "") -> list[str]:
        """The names of all processes, or of those of one part: `create` stands for create-1, create-2, …

        Raises:
            ValueError: there is no such part.
        """
        found = [name for name in self.processes if not part or part in (name, name.rpartition("-")[0])]
        if not found:
            raise ValueError(f"no process is called {part!r}; there are {', '.join(self.processes)}")
        return found

    def start(self, part: str = "") -> None:
        """Start a process or a part that does not run, and wait until it is ready.

        Raises:
            ProcessFailed: it ended by itself or did not get ready in time.
        """
        for name in self.names(part):
            self.processes[name].start()
        self.wait_ready(part)

    def wait_ready(self, part: str = "") -> None:
        """Wait until a process or a part, or everything, is ready.

        Raises:
            ProcessFailed: it ended by itself or did not get ready in time.
        """
        deadline_s = time.monotonic() + READY_S
        for name in self.names(part):
            self.processes[name].wait_ready(deadline_s, self._look)

    def kill(self, part: str) -> None:
        """End a process or a part with SIGKILL."""
        for name in self.names(part):
            self.processes[name].kill()

    def stop_part(self, part: str) -> None:
        """Stop a process or a part in good order."""
        for name in self.names(part):
            self.processes[name].ask_to_stop()
        for name in self.names(part):
            self.processes[name].stop()

    def restart(self, part: str) -> None:
        """Kill a process or a part, and start it again."""
        self.kill(part)
        self.start(part)

    def pause(self, part: str) -> None:
        """Freeze a process or a part with SIGSTOP."""
        for name in self.names(part):
            self.processes[name].pause()

    def resume(self, part: str) -> None:
        """Let a frozen process or part go on."""
        for name in self.names(part):
            self.processes[name].resume()

    def check(self) -> None:
        """Raise if a process that should run does not.

        Raises:
            ProcessFailed: with the end of its log.
        """
        for process in self.processes.values():
            process.check()

    # The ways in

    @property
    def slots(self) -> int:
        """How many meetings all accounts together can host at a time."""
        return sum(account.capacity for account in self.accounts)

    @property
    def zoom_app(self) -> Credential:
        """The app by which this system reaches its Zoom."""
        return Credential(self.settings.default_credential, DEMO_ACCOUNT, DEMO_CLIENT, self._client_secret)

    def school(self) -> School:
        """The people who use the system."""
        return School(self.api_url, self.zoom_url, self.settings.jwt_key)

    # Making it

    def _compose(self) -> Iterator[Process]:
        server = RedisServer(self.folder, fsync=self._fsync)
        yield server.process
        api_port, zoom_port = free_ports(2)
        self.api_url, self.zoom_url = f"http://{HOST}:{api_port}", f"http://{HOST}:{zoom_port}"
        direct = private_settings(server.url, self.zoom_url, self._changes)
        self.broker = Broker(connect(direct), direct)
        zoom_url = self._route("zoom", self.zoom_url)
        self.settings = direct.model_copy(
            update={
                "redis_url": self._route("redis", server.url),
                "zoom_oauth_base": zoom_url,
                "zoom_api_base": f"{zoom_url}/v2",
            }
        )
        told = process_environment(self.settings)

        zoom = simulator_environment(
            self._zoom,
            self.folder / "zoom.json",
            client_secret=self._client_secret,
            webhook_secret=self.settings.webhook_secret,
            webhook_url=self.api_url + WEBHOOK_PATH,
        )
        yield self._python("zoom", zoom, f"simulate-zoom --port {zoom_port}", answers(zoom_port, "/sim/calls"))
        yield self._python("api", told, f"serve --host {HOST} --port {api_port}", answers(api_port, "/readyz"))
        for queue, count in self._workers.items():
            for number in range(1, count + 1):
                yield self._python(f"{queue}-{number}", told, f"worker {queue}", self._listens)
        yield self._python("scheduler", told, "scheduler", self._listens)

    def _python(self, name: str, environment: Mapping[str, str], arguments: str, ready: Callable[[], bool]) -> Process:
        command = [sys.executable, "-m", "broker", *arguments.split()]
        return Process(name, command, environment=environment, log=self.logs / f"{name}.log", ready=ready)

    @staticmethod
    def _listens() -> bool:
        """Workers and the scheduler need not be waited for: what is there before they look is found when they do."""
        return True

    def _register(self) -> None:
        """Enter the simulated Zoom's app and the accounts, as an operator does."""
        pool = self.broker.pool()
        self.broker.run(pool.register())
        for account in self.accounts:
            self.broker.run(pool.add_account(account))
        asyncio.run(self._save_credential())

    async def _save_credential(self) -> None:
        connection = connect_async(self.settings)
        try:
            await credentials.save(connection, SecretBox(self.settings.secret_keys), self.zoom_app)
        finally:
            await connection.aclose()


def answers(port: int, path: str, *, statuses: Collection[int] = (HTTPStatus.OK,)) -> Callable[[], bool]:
    """A look whether a server of this machine answers as one that is ready does."""

    def look() -> bool:
        connection = http.client.HTTPConnection(HOST, port, timeout=ASK_S)
        try:
            connection.request("GET", path)
            return connection.getresponse().status in statuses
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    return look


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Leave Ctrl-C and SIGTERM without effect for a while: cleaning up is bounded in time, and half of it is none."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
