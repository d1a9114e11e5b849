"""Is this Redis there, of the right version, and does it keep what it is given?"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Any

import redis

from broker import scripts
from broker.client import translated
from broker.doctor.finding import Finding, Level, failure
from broker.errors import ZoomPoolError
from broker.fitness import unfit

MOST_SKEW_S = 5.0
"""Signatures of webhooks and tokens are checked against this machine's clock, so the two should agree."""
NEARLY_FULL = 0.9


def check_redis(connection: redis.Redis) -> Iterator[Finding]:
    """Everything about the server; one failed finding alone if it cannot be reached.

    Args:
        connection: a client that decodes responses.
    """
    try:
        with translated("doctor"):
            info: Any = connection.info()
            before_s = time.time()
            clock: Any = connection.time()
            after_s = time.time()
    except ZoomPoolError as error:
        # A bare explanation of the code would not say where to look.
        yield Finding("redis.reachable", Level.FAILED, str(error), "start Redis, or correct REDIS_URL")
        return
    yield Finding("redis.reachable", Level.OK, f"Redis {info.get('redis_version', '?')} answers")
    for name, wrong in unfit(info).items():
        says, _, do = wrong.partition("; ")
        yield Finding(f"redis.{name}", Level.FAILED if wrong else Level.OK, says or _FIT.get(name, name), do)
    yield _persistence(info)
    yield _memory(info)
    yield _skew((before_s + after_s) / 2 - (clock[0] + clock[1] / 1e6))
    yield _scripts(connection)


_FIT = {
    "version": "its version has all commands that the scripts use",
    "eviction": "it never throws leases away to make room",
    "primary": "it is the primary and takes writes",
}


def _persistence(info: Mapping[str, Any]) -> Finding:
    check = "redis.persistence"
    if not info.get("aof_enabled"):
        do = "CONFIG SET appendonly yes, and the same in redis.conf"
        return Finding(check, Level.FAILED, "AOF is off: a crash forgets leases whose meetings run on", do)
    status = info.get("aof_last_write_status", "ok")
    if status != "ok":
        return Finding(check, Level.FAILED, f"the last write to the AOF says {status!r}", "see that its disk has room")
    return Finding(check, Level.OK, "AOF is on and was written")


def _memory(info: Mapping[str, Any]) -> Finding:
    used, most = int(info.get("used_memory", 0)), int(info.get("maxmemory", 0))
    if most and used > most * NEARLY_FULL:
        says = f"{used / most:.0%} of maxmemory is used; without room, Redis refuses writes"
        return Finding("redis.memory", Level.WARNING, says, "raise maxmemory")
    limit = f"of {most / 2**20:.0f} MiB" if most else "without a limit"
    return Finding("redis.memory", Level.OK, f"{used / 2**20:.0f} MiB used, {limit}")


def _skew(skew_s: float) -> Finding:
    if abs(skew_s) > MOST_SKEW_S:
        says = f"this machine's clock is {abs(skew_s):.0f} s {'ahead of' if skew_s > 0 else 'behind'} Redis's"
        return Finding("redis.clock", Level.FAILED, says, "set both by NTP; tokens and webhooks may be refused")
    return Finding("redis.clock", Level.OK, "its clock and this machine's agree")


def _scripts(connection: redis.Redis) -> Finding:
    try:
        all_scripts = scripts.load_all()
        with translated("script load"):
            for script in all_scripts:
                connection.script_load(script.text)
    except ZoomPoolError as error:
        return failure("redis.scripts", error)
    return Finding("redis.scripts", Level.OK, f"all {len(all_scripts)} scripts load")
