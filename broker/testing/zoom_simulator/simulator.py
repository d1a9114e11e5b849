"""A whole simulated Zoom: its parts put together, its background work, and a server to run it on."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterator

import uvicorn
from starlette.applications import Starlette

from broker.errors import ZoomPoolError
from broker.testing.zoom_simulator.app import ZoomApi
from broker.testing.zoom_simulator.connections import Connections
from broker.testing.zoom_simulator.control import Control
from broker.testing.zoom_simulator.entities import Event
from broker.testing.zoom_simulator.faults import Faults
from broker.testing.zoom_simulator.judge import Judge
from broker.testing.zoom_simulator.settings import SimulatorSettings, Switches
from broker.testing.zoom_simulator.tokens import Tokens
from broker.testing.zoom_simulator.webhooks import WebhookSender
from broker.testing.zoom_simulator.world import World

START_S = 10.0
STOP_S = 10.0
GRACE_S = 2
"""How long answers under way may take when the server stops."""
LOOK_S = 0.01
BACKLOG = 2048


class SimulatorFailed(ZoomPoolError):
    """The simulator's server could not start."""

    code = "simulator_failed"


class ZoomSimulator:
    """A fake Zoom. Make it, serve `app`, and read the `judge` at the end.

    Args:
        settings: hosts, apps, delays, switches.
        clock: seconds since the epoch; tests without a server may bring their own.
    """

    def __init__(self, settings: SimulatorSettings | None = None, *, clock: Callable[[], float] = time.time) -> None:
        self.settings = (settings or SimulatorSettings()).model_copy()  # switches change ours, not the caller's
        self.clock = clock
        self.judge = Judge()
        self.events: list[Callable[[Event], None]] = []
        """Whoever else wants to know what webhooks tell."""
        self._planned = asyncio.Event()
        seed = self.settings.seed
        self.webhooks = WebhookSender(
            self.settings.webhooks, seed=seed, time_scale=self.settings.time_scale, clock=clock
        )
        self.world = World(self.settings, self.judge, clock=clock, emit=self._emit, wake=self._planned.set)
        self.tokens = Tokens(
            self.settings.apps, ttl_s=self.settings.token_ttl_s, policy=self.settings.token_policy, clock=clock
        )
        self.faults = Faults(seed)
        self.connections = Connections()
        self.api = ZoomApi(self.settings, self.world, self.tokens, self.faults, self.connections, clock)
        control = Control(self)
        self.app = Starlette(routes=[*control.routes(), *self.api.routes()], lifespan=self._lifespan)

    @contextlib.asynccontextmanager
    async def serving(self, port: int = 0, host: str = "127.0.0.1") -> AsyncIterator[str]:
        """Serve in this loop; gives the base URL, below which are `/oauth/token`, `/v2` and `/sim`.

        Can be done again and again with the same world, which makes an outage.

        Args:
            port: 0 for any free one.
            host: address to listen on.

        Raises:
            SimulatorFailed: it did not start.
        """
        listening = listen(host, port)
        server = Server(self)
        task = asyncio.create_task(server.serve(sockets=[listening]), name="zoom simulator")
        try:
            async with asyncio.timeout(START_S):
                while not server.started:
                    if task.done():
                        task.result()
                        raise SimulatorFailed("the simulated Zoom ended while it was starting; see the log")
                    await asyncio.sleep(LOOK_S)
            yield base_url(listening)
        finally:
            server.should_exit = True
            try:
                async with asyncio.timeout(STOP_S):
                    await asyncio.wait({task})
            finally:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
                listening.close()

    def run(self, listening: socket.socket) -> None:
        """Serve in this process until it is told to stop by SIGINT or SIGTERM.

        Args:
            listening: of `listen`.
        """
        Server(self, signals=True).run(sockets=[listening])

    def switch(self, switches: Switches) -> None:
        """Change how this Zoom behaves from now on."""
        for name in switches.model_fields_set:
            if (value := getattr(switches, name)) is not None:
                setattr(self.settings, name, value)
        self.tokens.policy = self.settings.token_policy
        self.api.limiter.limits = self.settings.rate_limits

    def _emit(self, event: Event) -> None:
        for listener in self.events:
            listener(event)
        self.webhooks.enqueue(event)

    @contextlib.asynccontextmanager
    async def _lifespan(self, app: Starlette) -> AsyncIterator[None]:
        # The same world may be served again: an outage of Zoom does not make it forget its meetings.
        self.connections.closing.clear()
        self.webhooks.reopen()
        passing = asyncio.create_task(self._let_time_pass(), name="zoom simulator: time")
        try:
            yield
        finally:
            passing.cancel()
            await asyncio.gather(passing, return_exceptions=True)
            await self.webhooks.aclose()

    async def _let_time_pass(self) -> None:
        """Carry out what is on the world's schedule when it is due."""
        while True:
            self._planned.clear()
            self.world.settle()
            due_s = self.world.next_due_s
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(
                    self._planned.wait(), None if due_s is None else max(due_s - self.clock(), 0.001)
                )


class Server(uvicorn.Server):
    """A server that can cut connections, and lets held calls go when it stops.

    Args:
        simulator: whose app it serves.
        signals: whether it owns the process, and stops on SIGINT and SIGTERM.
    """

    def __init__(self, simulator: ZoomSimulator, *, signals: bool = False) -> None:
        config = uvicorn.Config(
            simulator.app,
            lifespan="on",
            log_config=None,
            access_log=False,
            server_header=False,
            ws="none",
            timeout_graceful_shutdown=GRACE_S,
        )
        super().__init__(config)
        self._signals = signals
        self._connections = simulator.connections
        self._connections.find = self._transport_of

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals alone inside somebody else's process."""
        if not self._signals:
            yield
            return
        with super().capture_signals():
            yield

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Let held calls go, then stop."""
        self._connections.closing.set()
        await super().shutdown(sockets)

    def _transport_of(self, client: tuple[str, int] | None) -> asyncio.Transport | None:
        for connection in self.server_state.connections:
            if client is not None and getattr(connection, "client", None) == client:
                transport: asyncio.Transport | None = getattr(connection, "transport", None)
                return transport
        return None


def listen(host: str, port: int) -> socket.socket:
    """Open the listening socket, so that its port is known before anything runs.

    Raises:
        SimulatorFailed: the address cannot be had.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio turns Nagle's algorithm off only where the protocol is named; with it, answers take 40 ms more.
    listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, port))
        listening.listen(BACKLOG)
    except OSError as error:
        listening.close()
        raise SimulatorFailed(
            f"the simulated Zoom cannot listen on {host}:{port} ({error.strerror}); choose another --port"
        ) from error
    return listening


def base_url(listening: socket.socket) -> str:
    """The address of a listening socket, as clients on this machine use it."""
    host, port = listening.getsockname()[:2]
    if host in ("0.0.0.0", "::"):  # noqa: S104 - read, not bound
        host = "127.0.0.1"
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
