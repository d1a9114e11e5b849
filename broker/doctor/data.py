"""Does what is in Redis agree with itself, and is all of it ours?"""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Callable, Iterator
from typing import Any

from broker import invariants, keys
from broker.client import Broker, translated
from broker.doctor.finding import Finding, Level, failure
from broker.errors import ZoomPoolError
from broker.keys import ROOT, Keys

SHOWN = 10
"""Of one kind in one pool; more would hide the others."""
SCAN_COUNT = 1000
TYPES = {
    "STRING": "string",
    "Integer": "string",
    "HASH": "hash",
    "SET": "set",
    "ZSET": "zset",
    "LIST": "list",
    "STREAM": "stream",
}
"""What the first word of a key's docstring is to Redis."""
_POOL_KEY = re.compile(rf"{ROOT}:\{{(?P<pool>[^{{}}]+)\}}:{Keys.ACCOUNTS}")
_ANY = "any-name"


def check_data(broker: Broker) -> Iterator[Finding]:
    """The invariants of every pool, then every key under our root: known, of the right type, in a registered pool.

    Raises:
        BrokerUnavailable: Redis did not answer.
    """
    pools = broker.pools()
    for name in pools:
        yield from _check_pool(broker, name)
    yield from _check_keys(broker, frozenset(pools))


def _check_pool(broker: Broker, name: str) -> Iterator[Finding]:
    check = "data.invariants"
    try:
        found = invariants.violations(broker, broker.pool(name))
    except ZoomPoolError as error:
        yield failure(check, error)
        return
    except (ValueError, KeyError, IndexError, TypeError) as error:
        says = f"the data of pool {name} cannot be read: {type(error).__name__}: {error}"
        yield Finding(check, Level.FAILED, says, "find the half-written key with redis-cli; restore or delete it")
        return
    for text in found[:SHOWN]:
        yield Finding(check, Level.FAILED, f"pool {name}: {text}", "stop whoever writes there besides the broker")
    if len(found) > SHOWN:
        yield Finding(check, Level.FAILED, f"pool {name}: {len(found) - SHOWN} more violations")
    if not found:
        yield Finding(check, Level.OK, f"pool {name}: every slot, lease and index agrees")


def _check_keys(broker: Broker, pools: frozenset[str]) -> Iterator[Finding]:
    foreign, mistyped, unregistered, count = [], [], [], 0
    for key, type in _types(broker):
        count += 1
        expected = {kind for pattern, kind in known_keys() if pattern.fullmatch(key)}
        if not expected:
            foreign.append(key)
        elif type not in expected and "" not in expected:
            mistyped.append(f"{key} is a {type}, not a {' or '.join(sorted(expected))}")
        pool = _POOL_KEY.fullmatch(key)
        if pool and pool["pool"] not in pools:
            unregistered.append(pool["pool"])
    check = "data.keys"
    for text in mistyped[:SHOWN]:
        yield Finding(check, Level.FAILED, text, "it was overwritten from outside: rename it away, or restore it")
    for name in unregistered:
        says = f"pool {name} has accounts, but is not in {keys.POOLS}, so that no periodic job looks at it"
        yield Finding(check, Level.FAILED, says, f"redis-cli SADD {keys.POOLS} {name}")
    if foreign:
        some = ", ".join(sorted(foreign)[:SHOWN]) + (
            f" and {len(foreign) - SHOWN} more" if len(foreign) > SHOWN else ""
        )
        says = f"{len(foreign)} of {count} keys under {ROOT}: are not ours: {some}"
        yield Finding(check, Level.WARNING, says, "rename or delete them, or give the broker a Redis of its own")
    if not (mistyped or unregistered or foreign):
        yield Finding(check, Level.OK, f"all {count} keys under {ROOT}: are known and of their type")


def _types(broker: Broker) -> Iterator[tuple[str, str]]:
    """Every key under our root with its type."""
    cursor = -1
    while cursor:
        with translated("scan"), broker.redis.pipeline(transaction=False) as ask:
            page: Any = broker.redis.scan(max(cursor, 0), match=f"{ROOT}:*", count=SCAN_COUNT)
            cursor, names = page
            for name in names:
                ask.type(name)
            types: list[Any] = ask.execute()
        # One that expired meanwhile has no type any more.
        yield from ((name, type) for name, type in zip(names, types, strict=True) if type != "none")


@functools.cache
def known_keys() -> tuple[tuple[re.Pattern[str], str], ...]:
    """The keys of `broker.keys` as patterns, each with its type as Redis names it; empty where it is not told."""
    pool = Keys(_ANY)
    found = [
        (getattr(pool, name), inspect.getdoc(kind)) for name, kind in vars(Keys).items() if isinstance(kind, property)
    ]
    found += [
        (_called(getattr(pool, name)), inspect.getdoc(kind))
        for name, kind in vars(Keys).items()
        if inspect.isfunction(kind) and not name.startswith("_")
    ]
    found += [
        (_called(function), inspect.getdoc(function))
        for name, function in vars(keys).items()
        if inspect.isfunction(function) and function.__module__ == keys.__name__ and not name.startswith("_")
    ]
    found += [(value, "") for value in vars(keys).values() if isinstance(value, str) and value.startswith(f"{ROOT}:")]
    return tuple(
        (_pattern(key), TYPES.get((doc or "").split(",")[0].split(" ")[0].rstrip(":"), "")) for key, doc in found
    )


def _called(function: Callable[..., str]) -> str:
    """The key that a function spells, with a stand-in for every argument."""
    return function(*(_ANY for _ in inspect.signature(function).parameters))


def _pattern(key: str) -> re.Pattern[str]:
    return re.compile(re.escape(key).replace(re.escape(_ANY), r"[^{}]+"))
