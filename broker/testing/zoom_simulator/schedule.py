"""What happens later."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable


class Schedule:
    """Things to be done at their time, in the order of their times.

    Args:
        clock: seconds since the epoch.
        wake: is called when something was added.
    """

    def __init__(self, clock: Callable[[], float], wake: Callable[[], None]) -> None:
        self._clock = clock
        self._wake = wake
        self._entries: list[tuple[float, int, Callable[[float], None]]] = []
        self._order = itertools.count()

    @property
    def next_due_s(self) -> float | None:
        """When there is something to do next, in seconds since the epoch."""
        return self._entries[0][0] if self._entries else None

    def add(self, at_s: float, act: Callable[[float], None]) -> None:
        """Do something at a time, which it is told."""
        heapq.heappush(self._entries, (at_s, next(self._order), act))
        self._wake()

    def settle(self) -> None:
        """Do all that is due."""
        while self._entries and self._entries[0][0] <= self._clock():
            at_s, _, act = heapq.heappop(self._entries)
            act(at_s)
