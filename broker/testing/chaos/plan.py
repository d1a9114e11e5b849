"""What goes wrong, and when: drawn from a seed, and the same again for the same seed."""

from __future__ import annotations

import random
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

MINUTE_S = 60.0
QUIET_S = 1.0
"""Nothing goes wrong before: the first lessons begin."""
KILL_EVERY_S = 2.4
"""25 kills a minute."""
REDIS_EVERY = 4
"""Every fourth of them is Redis."""

BEFORE_FREEZE_S = 3.0
"""A process that was killed right before its freeze would still be starting, and nothing would stand still."""


class Kind(StrEnum):
    """One way in which something goes wrong."""

    KILL_API = "kill-api"
    KILL_CREATE = "kill-create"
    KILL_WEBHOOKS = "kill-webhooks"
    KILL_PERIODIC = "kill-periodic"
    KILL_SCHEDULER = "kill-scheduler"
    KILL_REDIS = "kill-redis"
    """SIGKILL; it comes back with its append-only file."""

    FREEZE_API = "freeze-api"
    """SIGSTOP for longer than a claim and an attempt may live, then SIGCONT: it goes on with what it believed."""
    FREEZE_CREATE = "freeze-create"
    FREEZE_WEBHOOKS = "freeze-webhooks"
    FREEZE_PERIODIC = "freeze-periodic"

    CUT_REDIS = "cut-redis"
    """Connections break and new ones are refused, while Redis itself is well."""
    STALL_REDIS = "stall-redis"
    """Connections stay, and nothing comes through."""
    CUT_ZOOM = "cut-zoom"
    STALL_ZOOM = "stall-zoom"

    ZOOM_DOWN = "zoom-down"
    """503 for every call."""
    ZOOM_SLOW = "zoom-slow"
    TIMEOUT_BEFORE = "timeout-before"
    """A creation is never answered, and had no effect."""
    TIMEOUT_AFTER = "timeout-after"
    """A creation is never answered, and there is a meeting."""
    RESET_BEFORE = "reset-before"
    RESET_AFTER = "reset-after"
    RATE_LIMITED = "rate-limited"
    """429 of the limit per second."""
    DAILY_LIMIT = "daily-limit"
    """429 of one host's limit a day: that of whichever host makes the next meeting."""
    LICENCE_REVOKED = "licence-revoked"
    USER_DEACTIVATED = "user-deactivated"
    TOKENS_REVOKED = "tokens-revoked"
    TOKEN_ENDPOINT_DOWN = "token-endpoint-down"  # noqa: S105 - no token
    END_WITHOUT_EFFECT = "end-without-effect"
    """"End" is answered with 204, and the meeting runs on."""
    LISTED_LATE = "listed-late"
    """A new meeting is in no list for a second."""

    WEBHOOKS_LOST = "webhooks-lost"
    WEBHOOKS_LATE = "webhooks-late"
    WEBHOOKS_TWICE = "webhooks-twice"
    WEBHOOKS_REORDERED = "webhooks-reordered"

    @property
    def is_kill(self) -> bool:
        """Whether a process of the system ends by it."""
        return self.startswith("kill-")

    @property
    def is_freeze(self) -> bool:
        """Whether a process of the system stands still by it."""
        return self.startswith("freeze-")

    @property
    def concerns_host(self) -> bool:
        """Whether it strikes one host of Zoom."""
        return self in (Kind.LICENCE_REVOKED, Kind.USER_DEACTIVATED)

    @property
    def part(self) -> str:
        """Of which part it kills or freezes a process; empty for all other kinds."""
        return self.partition("-")[2] if self.is_kill or self.is_freeze else ""


PROCESSES: dict[str, tuple[str, ...]] = {
    "api": ("api",),
    # Two of each: while one stands still, the other takes over what it has in hand.
    **{part: (f"{part}-1", f"{part}-2") for part in ("create", "webhooks", "periodic")},
    "scheduler": ("scheduler",),
    "redis": ("redis",),
}
"""The processes of each part, as a run starts them."""

KILLS = tuple(kind for kind in Kind if kind.is_kill)
OTHERS = tuple(kind for kind in Kind if not kind.is_kill)

FREEZE_S = (5.0, 7.0)
LASTS_S: dict[Kind, tuple[float, float]] = {
    **dict.fromkeys((kind for kind in Kind if kind.is_freeze), FREEZE_S),
    **dict.fromkeys(KILLS, (0.1, 1.0)),
    Kind.KILL_REDIS: (0.1, 0.8),
    Kind.CUT_REDIS: (0.5, 1.5),
    Kind.STALL_REDIS: (0.5, 2.5),
    Kind.CUT_ZOOM: (0.5, 2.0),
    Kind.STALL_ZOOM: (2.0, 4.0),
    Kind.TOKENS_REVOKED: (0.0, 0.0),
    Kind.LICENCE_REVOKED: (4.0, 10.0),
    Kind.USER_DEACTIVATED: (4.0, 10.0),
    Kind.DAILY_LIMIT: (3.0, 6.0),
}
USUAL_S = (2.0, 5.0)


@dataclass(frozen=True)
class Fault:
    """One thing that goes wrong.

    Attributes:
        at_s: when, after the beginning of the run.
        kind: what.
        target: the process or the host's e-mail; empty for kinds that strike everybody.
        lasts_s: how long until it is put right; a killed process is started again after that.
    """

    at_s: float
    kind: Kind
    target: str
    lasts_s: float

    @property
    def ends_s(self) -> float:
        """When it is put right, after the beginning of the run."""
        return self.at_s + self.lasts_s


def draw(seed: int, seconds: float, hosts: Sequence[str]) -> tuple[Fault, ...]:
    """Everything that goes wrong in a run, in order of time.

    Every full minute has every kind at least once and at least 20 kills. What would last beyond the end is cut short.

    Args:
        seed: the same gives the same.
        seconds: how long the run is.
        hosts: e-mails of Zoom's users, for what strikes a single one.

    Raises:
        ValueError: there are no hosts.
    """
    if not hosts:
        raise ValueError("a plan of faults needs at least one host")
    chance = random.Random(f"{seed}/faults")
    # Whole minutes are drawn, and the last one is cut: a longer run begins as a shorter one of the same seed does.
    drawn: list[Fault] = []
    minute_s = 0.0
    while minute_s < seconds:
        others = list(_others(chance, minute_s, hosts))
        drawn += others
        drawn += _kills(chance, minute_s, [fault for fault in others if fault.kind.is_freeze])
        minute_s += MINUTE_S
    kept = [fault for fault in drawn if fault.at_s < seconds]
    return tuple(
        sorted(
            (
                Fault(fault.at_s, fault.kind, fault.target, round(min(fault.lasts_s, seconds - fault.at_s), 3))
                for fault in kept
            ),
            key=lambda fault: (fault.at_s, fault.kind),
        )
    )


def _others(chance: random.Random, minute_s: float, hosts: Sequence[str]) -> Iterator[Fault]:
    """Every kind but kills, once, spread over a minute."""
    deck = list(OTHERS)
    chance.shuffle(deck)
    # A freeze is over when the minute is: neither the end of a run nor a kill of the next minute cuts it short.
    step_s = (MINUTE_S - QUIET_S - FREEZE_S[1]) / len(deck)
    for number, kind in enumerate(deck):
        at_s = minute_s + QUIET_S + (number + chance.random()) * step_s
        target = chance.choice(hosts) if kind.concerns_host else chance.choice(PROCESSES.get(kind.part, ("",)))
        yield Fault(round(at_s, 3), kind, target, round(chance.uniform(*LASTS_S.get(kind, USUAL_S)), 3))


def _kills(chance: random.Random, minute_s: float, freezes: Sequence[Fault]) -> Iterator[Fault]:
    """A kill every few seconds, of every part in turn, but of no process that is frozen: that would be no freeze."""
    parts = [kind for kind in KILLS if kind is not Kind.KILL_REDIS]
    due: list[Kind] = []
    for number in range(int((MINUTE_S - QUIET_S) / KILL_EVERY_S)):
        at_s = minute_s + QUIET_S + (number + chance.random()) * KILL_EVERY_S
        frozen = {fault.target for fault in freezes if fault.at_s - BEFORE_FREEZE_S <= at_s <= fault.ends_s}
        if number % REDIS_EVERY == 0:
            kind = Kind.KILL_REDIS
        else:
            if not any(_killable(each, frozen) for each in due):
                due += chance.sample(parts, len(parts))
            kind = next(each for each in due if _killable(each, frozen))
            due.remove(kind)
        target = chance.choice(_killable(kind, frozen))
        yield Fault(round(at_s, 3), kind, target, round(chance.uniform(*LASTS_S[kind]), 3))


def _killable(kind: Kind, frozen: Collection[str]) -> list[str]:
    return [name for name in PROCESSES[kind.part] if name not in frozen]
