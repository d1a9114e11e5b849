"""Ctrl-C and SIGTERM for commands that have a lot to put away before they end."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Coroutine
from types import FrameType, TracebackType
from typing import Any, Self, TypeVar

T = TypeVar("T")


class Interrupted(Exception):
    """Somebody asked for the end."""


class Interruption:
    """Notes Ctrl-C and SIGTERM while it is entered, instead of raising KeyboardInterrupt.

    That could come up at any line: between starting a process and knowing of it, or in a destructor, where Python drops
    it. Here the request waits until somebody looks.
    """

    def __init__(self) -> None:
        self._asked = False
        self._tell: Callable[[], object] = lambda: None
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        for number in (signal.SIGINT, signal.SIGTERM):
            self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._asked = True
        self._tell()

    def check(self) -> None:
        """Look.

        Raises:
            Interrupted: somebody asked for the end.
        """
        if self._asked:
            raise Interrupted

    async def until(self, work: Coroutine[Any, Any, T]) -> T:
        """Do `work`; cancel it as soon as somebody asks for the end.

        Raises:
            Interrupted: it was cancelled.
        """
        task = asyncio.ensure_future(work)
        loop = asyncio.get_running_loop()
        self._tell = lambda: loop.call_soon_threadsafe(task.cancel)
        if self._asked:
            task.cancel()
        try:
            return await task
        except asyncio.CancelledError:
            raise Interrupted from None
        finally:
            self._tell = lambda: None
