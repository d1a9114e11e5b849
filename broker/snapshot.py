"""Copies a pool as it is at one moment, for whoever checks it.

Nothing is taken for granted here: a key may be of a wrong type, a record may have no fields, an index may name what
does not exist. What cannot be read is noted and left empty.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import redis
from redis.exceptions import ResponseError

from broker.client import translated
from broker.keys import Keys
from broker.operations import Pool

READS = 5
"""How often the snapshot is taken again because it names keys that appeared while it was being read."""

_SETS = ("free", "leased", "suspect", "parked", "waiting", "patience", "due", "reservations")
_HASHES = ("lessons", "meetings", "owners", "booked", "hosts")

Records = Mapping[str, Mapping[str, str]]


@dataclass(frozen=True)
class Snapshot:
    """A pool at one moment. A missing key is an empty record in `slots`, `links`, `account`, `tickets`, `reservation`.

    Attributes:
        unreadable: key → the server's complaint, of keys that are of a wrong type.
    """

    keys: Keys
    now_ms: int
    fence: int
    free: Mapping[str, float]
    leased: Mapping[str, float]
    suspect: Mapping[str, float]
    parked: Mapping[str, float]
    waiting: Mapping[str, float]
    patience: Mapping[str, float]
    due: Mapping[str, float]
    reservations: Mapping[str, float]
    lessons: Mapping[str, str]
    meetings: Mapping[str, str]
    owners: Mapping[str, str]
    booked: Mapping[str, str]
    hosts: Mapping[str, str]
    accounts: frozenset[str]
    slots: Records
    links: Records
    account: Records
    tickets: Records
    reservation: Records
    unreadable: Mapping[str, str]

    @property
    def occupied(self) -> dict[str, float]:
        """Slots with a lease, running or suspect."""
        return {**self.leased, **self.suspect}

    def places(self, slot: str) -> list[str]:
        """The sets that hold `slot`; one, if all is well."""
        sets = {"free": self.free, "leased": self.leased, "suspect": self.suspect, "parked": self.parked}
        return [name for name, members in sets.items() if slot in members]

    def owned(self) -> Iterator[tuple[str, str]]:
        """Owner and name of every lease and of every lesson that waits, as the index of owners has them."""
        for owner, names in self.owners.items():
            yield from ((owner, name) for name in names.split())


def read_snapshot(connection: redis.Redis, pool: Pool) -> Snapshot:
    """Copy a pool as it is at one moment, while others go on working on it.

    Names are collected first, by SCAN, so that records which no index mentions are found, too; then all is read in one
    transaction. Records that appeared in between are asked for again, a few times; in a pool that never pauses the last
    ones may stay unread, and are then not judged.

    Args:
        connection: a client that decodes responses.
        pool: which one.

    Raises:
        BrokerUnavailable: Redis did not answer.
    """
    keys = pool.keys
    with translated("snapshot"):
        names = {
            "slots": _names(connection, keys.slot("")),
            "links": _names(connection, keys.links("")),
            "account": _names(connection, keys.account("")),
            "tickets": _names(connection, keys.ticket("")),
            "reservation": _names(connection, keys.reservation("")),
        }
        for _ in range(READS):
            snapshot = _read(connection, keys, names)
            known = sum(map(len, names.values()))
            leases = {*snapshot.lessons.values(), *snapshot.meetings.values()}
            leases |= {name for _, name in snapshot.owned() if "#" in name}
            names["slots"] |= names["links"] | snapshot.occupied.keys() | {lease.rpartition("@")[0] for lease in leases}
            names["account"] |= snapshot.accounts
            names["tickets"] |= snapshot.waiting.keys() | snapshot.patience.keys()
            names["reservation"] |= snapshot.due.keys() | snapshot.reservations.keys()
            if sum(map(len, names.values())) == known:
                break
    return snapshot


def _names(connection: redis.Redis, prefix: str) -> set[str]:
    found: Iterator[Any] = connection.scan_iter(match=f"{prefix}*", count=1000)
    return {str(key).removeprefix(prefix) for key in found}


def _read(connection: redis.Redis, keys: Keys, names: Mapping[str, set[str]]) -> Snapshot:
    sets = {name: getattr(keys, name) for name in _SETS}
    hashes = {name: getattr(keys, name) for name in _HASHES}
    key_of = {
        "slots": keys.slot,
        "links": keys.links,
        "account": keys.account,
        "tickets": keys.ticket,
        "reservation": keys.reservation,
    }
    records = [(kind, name, key_of[kind](name)) for kind, found in names.items() for name in sorted(found)]
    asked = [keys.events, keys.fence, *sets.values(), *hashes.values(), keys.accounts, *(key for _, _, key in records)]
    with connection.pipeline(transaction=True) as ask:
        ask.xlen(keys.events)
        ask.get(keys.fence)
        for key in sets.values():
            ask.zrange(key, 0, -1, withscores=True)
        for key in hashes.values():
            ask.hgetall(key)
        ask.smembers(keys.accounts)
        for _, _, key in records:
            ask.hgetall(key)
        ask.time()
        answers: list[Any] = ask.execute(raise_on_error=False)
    seconds, microseconds = answers.pop()
    unreadable = {key: str(answer) for key, answer in zip(asked, answers, strict=True) if _failed(answer)}
    _, fence, *rest = (() if _failed(answer) else answer for answer in answers)
    if not str(fence or 0).isdecimal():
        unreadable[keys.fence] = f"holds {fence!r}, not a number"
        fence = 0
    contents: Iterator[Any] = iter(rest)
    read_sets = {name: dict(next(contents)) for name in sets}
    read_hashes = {name: dict(next(contents)) for name in hashes}
    accounts = frozenset(next(contents))
    read_records: dict[str, dict[str, dict[str, str]]] = {kind: {} for kind in names}
    for kind, name, _ in records:
        read_records[kind][name] = dict(next(contents))
    return Snapshot(
        keys=keys,
        now_ms=max(seconds * 1000 + microseconds // 1000, int(fence or 0) // 1000),
        fence=int(fence or 0),
        accounts=accounts,
        unreadable=unreadable,
        **read_sets,
        **read_hashes,
        **read_records,  # type: ignore[arg-type]  # names of fields, of different types
    )


def _failed(answer: object) -> bool:
    return isinstance(answer, ResponseError)
