"""Is this Redis fit to hold leases? Judged by what its INFO says, without I/O, for readiness checks and doctors."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

OLDEST = (6, 2)
"""The first version with ZMSCORE, which the scripts use."""
POLICY = "noeviction"


def unfit(info: Mapping[str, Any]) -> dict[str, str]:
    """What is wrong with a server, in words with the way out, by the name of the check; empty words where nothing is.

    Args:
        info: redis-py's answer to INFO, at least the sections server, memory and replication.
    """
    return {"version": _version(info), "eviction": _eviction(info), "primary": _primary(info)}


def _version(info: Mapping[str, Any]) -> str:
    # Valkey names the version of Redis that it stands for here, too.
    version = str(info.get("redis_version", ""))
    numbers = re.match(r"(\d+)\.(\d+)", version)
    if numbers and (int(numbers[1]), int(numbers[2])) >= OLDEST:
        return ""
    return f"the server says that it is version {version or '?'}; use Redis {OLDEST[0]}.{OLDEST[1]} or later, or Valkey"


def _eviction(info: Mapping[str, Any]) -> str:
    policy = info.get("maxmemory_policy", POLICY)
    if policy == POLICY:
        return ""
    return f"maxmemory-policy is {policy}, so leases may vanish; set it to {POLICY}"


def _primary(info: Mapping[str, Any]) -> str:
    if info.get("role", "master") == "master":
        return ""
    return "the server is a replica and takes no writes; point REDIS_URL at the primary"
