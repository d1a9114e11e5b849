"""Rules by which calls go wrong, and how long calls take.

Some recipes, as JSON for `POST /sim/faults`:

- Zoom is down for the next three creations: `{"method": "POST", "path": "/v2/users/*/meetings", "action": "respond",
  "status": 503, "times": 3}`
- A creation has its effect, and the answer never comes: `{"method": "POST", "path": "/v2/users/*/meetings",
  "action": "hang", "when": "after", "times": 1}`
- "End" is answered with 204, and the meeting runs on: `{"method": "PUT", "path": "/v2/meetings/*/status",
  "action": "respond", "status": 204}`
"""

from __future__ import annotations

import math
import random
from enum import StrEnum
from fnmatch import fnmatchcase
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from broker.testing.zoom_simulator.settings import Latency, LatencyKind


class FaultAction(StrEnum):
    """What goes wrong."""

    RESPOND = "respond"
    """Another answer is given: `status`, `body`, `headers`."""
    DELAY = "delay"
    """`delay_ms` pass; everything else is as usual."""
    HANG = "hang"
    """No answer comes; the connection is held until the client gives up."""
    RESET = "reset"
    """The connection is closed without an answer."""


class When(StrEnum):
    """Whether it goes wrong before the call has its effect at Zoom (then it has none, except with a delay) or after."""

    BEFORE = "before"
    AFTER = "after"


class FaultRule(BaseModel):
    """One rule. The first one that matches a call and has its way by chance is applied."""

    model_config = ConfigDict(extra="forbid")

    action: FaultAction
    when: When = When.BEFORE
    method: str = "*"
    path: str = "*"
    """Shell pattern over the decoded path, such as `/v2/users/*/meetings` or `/oauth/token`."""
    host: str = ""
    """Only calls that concern this host: e-mail or user id. Empty: all."""
    times: int | None = Field(default=None, ge=1)
    """Applied so often, then it is spent; None: for ever."""
    skip: int = Field(default=0, ge=0)
    """So many matching calls pass first."""
    probability: float = Field(default=1.0, ge=0, le=1)
    status: int = Field(default=500, ge=200, le=599)
    body: Any = None
    headers: dict[str, str] = {}
    delay_ms: float = Field(default=0, ge=0)

    id: int = 0
    """Set when the rule is added."""
    applied: int = 0


class Faults:
    """The rules in force.

    Args:
        seed: of the rules' probabilities.
    """

    def __init__(self, seed: int) -> None:
        self.rules: dict[int, FaultRule] = {}
        self._chance = random.Random(f"{seed}/faults")
        self._next_id = 1
        self._skipped: dict[int, int] = {}

    def add(self, rule: FaultRule) -> FaultRule:
        """Put a rule behind those in force; return it with its id."""
        added = rule.model_copy(update={"id": self._next_id, "applied": 0})
        self._next_id += 1
        self.rules[added.id] = added
        return added

    def remove(self, rule_id: int | None = None) -> int:
        """Take away one rule, or all; return how many there were."""
        if rule_id is None:
            removed = len(self.rules)
            self.rules.clear()
            return removed
        return 1 if self.rules.pop(rule_id, None) else 0

    def match(self, method: str, path: str, hosts: frozenset[str]) -> FaultRule | None:
        """Return the rule that applies to a call, and count it.

        Args:
            method: of the call.
            path: decoded.
            hosts: e-mail and user id of the host that the call concerns, if there is one.
        """
        for rule in self.rules.values():
            if rule.times is not None and rule.applied >= rule.times:
                continue
            if rule.method not in ("*", method) or not fnmatchcase(path, rule.path):
                continue
            if rule.host and rule.host not in hosts:
                continue
            if (passed := self._skipped.get(rule.id, 0)) < rule.skip:
                self._skipped[rule.id] = passed + 1
                continue
            if rule.probability < 1 and self._chance.random() >= rule.probability:
                continue
            rule.applied += 1
            return rule
        return None


def draw_s(latency: Latency, chance: random.Random) -> float:
    """One latency, in seconds."""
    match latency.kind:
        case LatencyKind.FIXED:
            ms = latency.ms
        case LatencyKind.UNIFORM:
            ms = chance.uniform(latency.ms - latency.spread, latency.ms + latency.spread)
        case LatencyKind.LOGNORMAL:
            ms = chance.lognormvariate(math.log(latency.ms), latency.spread) if latency.ms > 0 else 0.0
    return max(ms, 0.0) / 1000
