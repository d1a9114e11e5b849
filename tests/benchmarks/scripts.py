"""The scripts beside one that does nothing: same server, same client (redis-benchmark, 50 connections), same minute.

Beside the claim there is also the barest script that could stand in its place: it writes the same, and looks at nothing
first. No claim can be faster than that without writing less.

Claims are granted ones only, of a lesson and an owner each that were never seen before. Releases and renewals take
their lease from a list inside the script, because redis-benchmark cannot count: one command more, charged to them.
"""

from __future__ import annotations

import csv
import io
import itertools
import shutil
import subprocess
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import redis

from broker.client import Broker, command
from broker.invariants import violations
from broker.models import LeaseId, ReleaseReason
from broker.operations import Operation, Pool
from broker.redis import connect
from broker.scripts import load_all
from broker.testing.environment import private_settings
from broker.testing.redis_server import RedisServer
from tests.benchmarks.report import Figure, show

SIZES = (1_000, 100_000, 1_000_000)
CONNECTIONS = 50
REQUESTS = 40_000
"""Of one round, in a pool that has so many slots; a smaller one is emptied and filled again instead."""
SPARE = 2 * CONNECTIONS
"""redis-benchmark sends a few requests more than it was asked for."""
ROUNDS = 3
PAGE = 500
LASTING = {"max_leases_per_owner": 10, "claim_ttl_s": 3600, "live_ttl_s": 3600}
"""No lease runs out while others are measured."""
LIMITS = {"claim": 0.35, "release": 0.4, "renew": 0.5}
TODO = "zp:{default}:bench-leases"
ORDERS = {
    "claim": "O(log slots)",
    "renew": "O(log leases)",
    "release": "O(log slots)",
    "reap": "O(log slots + batch)",
    "status": "O(leases, 2,000 at most)",
    "dashboard": "O(rows)",
}
"""What grows how, in one call."""
BAREST = "bare claim"
NEXT = f"redis.call('LPOP', '{TODO}')"
NEXT_AGAIN = f"redis.call('LMOVE', '{TODO}', '{TODO}', 'LEFT', 'RIGHT')"
NOTHING = "return 1"
BARE = """
local base, lesson, owner = KEYS[1], ARGV[1], ARGV[2]
local t = redis.call('TIME')
local us = t[1] * 1000000 + t[2]
local fence, now = string.format('%d', us), string.format('%d', us / 1000)
local deadline, hold_until = string.format('%d', us / 1000 + ARGV[3]), string.format('%d', us / 1000 + ARGV[4])
local slot = redis.call('ZPOPMIN', base .. 'free')[1]
local account = string.match(slot, '^(.+)#')
local host = redis.call('HMGET', base .. 'account:' .. account, 'email', 'zoom_user_id', 'credential')
local lease = slot .. '@' .. fence
redis.call('HSET', base .. 'slot:' .. slot, 'lease', lease, 'lesson', lesson, 'owner', owner, 'phase', 'claimed',
  'granted_ms', now, 'since_ms', now, 'hold_until_ms', hold_until, 'topic', ARGV[6], 'duration_min', ARGV[7],
  'email', host[1], 'zoom_user_id', host[2], 'credential', host[3])
redis.call('ZADD', base .. 'leased', deadline, slot)
redis.call('HSET', base .. 'lessons', lesson, lease)
redis.call('HSET', base .. 'owners', owner, lease)
redis.call('SET', base .. 'fence', fence)
redis.call('XADD', base .. 'events', 'MAXLEN', '~', ARGV[14], '*', 'type', 'lease.claimed', 'lesson', lesson,
  'lease', lease, 'owner', owner)
return {'granted', us, us, lease, hold_until, host[1], host[2], host[3]}
"""
# What add_account writes, a thousand at a time: a million accounts one by one would take longer than all the rest.
ACCOUNTS = """
for number = tonumber(ARGV[1]), tonumber(ARGV[2]) do
  local id = string.format('host-%07d', number)
  redis.call('HSET', KEYS[1] .. 'account:' .. id, 'email', id .. '@school.example', 'zoom_user_id', 'user-' .. id,
    'credential', 'default', 'capacity', 1, 'slots', 1, 'state', 'active', 'reason', '', 'until_ms', 0)
  redis.call('SADD', KEYS[1] .. 'accounts', id)
  redis.call('HSET', KEYS[1] .. 'hosts', id .. '@school.example', id, 'user-' .. id, id)
  redis.call('ZADD', KEYS[1] .. 'free', 1700000000000 + number, id .. '#0')
end
"""


@dataclass
class Rate:
    """Requests and the seconds that they took, over several rounds."""

    requests: int = 0
    seconds: float = 0

    def add(self, requests: int, per_second: float) -> None:
        """One round more."""
        self.requests += requests
        self.seconds += requests / per_second

    @property
    def per_second(self) -> float:
        return self.requests / self.seconds


class Bench:
    """One server with one pool, and the client that measures it."""

    def __init__(self, connection: redis.Redis, broker: Broker, port: int) -> None:
        self.redis = connection
        self.pool: Pool = broker.pool()
        self._broker = broker
        self._port = port

    def rate(self, text: str, arguments: Sequence[Any], requests: int) -> float:
        """Calls per second of a script."""
        tool = shutil.which("redis-benchmark")
        if tool is None:
            raise RuntimeError("redis-benchmark is not on PATH; it comes with the package redis-tools")
        measuring = [tool, "-p", self._port, "-c", CONNECTIONS, "-n", requests, "-r", 2_000_000_000, "--csv"]
        measured = ["EVALSHA", self.redis.script_load(text), *arguments]
        done = subprocess.run(
            [str(word) for word in (*measuring, *measured)], capture_output=True, text=True, check=True
        )
        return float(next(iter(csv.DictReader(io.StringIO(done.stdout))))["rps"])

    def fill(self, slots: int) -> None:
        """An empty server with a pool of so many accounts of one slot each."""
        self.redis.flushall()
        for first in range(0, slots, 1000):
            self.redis.eval(ACCOUNTS, 1, self.pool.keys.base, first, min(first + 1000, slots) - 1)
        if slots <= SIZES[0]:
            assert violations(self._broker, self.pool) == []

    def claims(self, requests: int, text: str = "") -> float:
        """Granted claims per second, by our script or by another with the same arguments."""
        before = self.leased()
        operation = self.pool.claim("LESSON", "OWNER", topic="Algebra for beginners")
        random = {"LESSON": "lesson-__rand_int__", "OWNER": "teacher-__rand_int__"}
        arguments = [random.get(str(part), part) for part in operation.command]
        rate = self.rate(text or text_of(operation), arguments, requests)
        granted = self.leased() - before
        assert granted >= requests - 5, f"only {granted} of {requests} claims were granted: random lessons met"
        return rate

    def go_live(self) -> None:
        """Take every claim through all phases to a running meeting, as workers and webhooks do."""
        leases = [LeaseId.parse(str(lease)) for lease in self.redis.hvals(self.pool.keys.lessons)]
        meetings = itertools.count(80_000_000_000)
        self.redis.delete(TODO)
        for first in range(0, len(leases), PAGE):
            with self.redis.pipeline(transaction=False) as page:
                for lease in leases[first : first + PAGE]:
                    for step in self._life(lease, next(meetings)):
                        page.execute_command(*command(step))
                    page.rpush(TODO, str(lease))
                page.execute()

    def _life(self, lease: LeaseId, meeting: int) -> Iterator[Operation[Any]]:
        yield self.pool.begin_creating(lease, "attempt")
        yield self.pool.made_ready(
            lease,
            meeting_id=meeting,
            meeting_uuid="0123456789abcdefghij==",
            join_url=f"https://us05web.zoom.example/j/{meeting}?pwd=0123456789",
            passcode="0123456789",
            sealed_start_url="s" * 600,
            start_url_ms=1,
        )
        yield self.pool.went_live(lease, meeting_uuid="0123456789abcdefghij==", at_ms=1)

    def renewals(self, requests: int) -> float:
        """Renewals per second, of one lease after the other."""
        operation = self.pool.renew(LeaseId("any", 0, 1))
        return self.rate(picking(operation, NEXT_AGAIN, 1), operation.command, requests)

    def releases(self, requests: int) -> float:
        """Releases per second, one lease each."""
        before = self.leased()
        operation = self.pool.release([LeaseId("any", 0, 1)], ReleaseReason.ENDED)
        rate = self.rate(picking(operation, NEXT, len(operation.command) - 2), operation.command, requests)
        assert before - self.leased() >= requests
        return rate

    def leased(self) -> int:
        """Leases that run."""
        return int(self.redis.zcard(self.pool.keys.leased))

    def server_us(self, operation: Operation[Any], calls: int = 100) -> float:
        """Microseconds of a script inside Redis, on average."""
        self.redis.config_resetstat()
        for _ in range(calls):
            self._broker.run(operation)
        return self.script_us()

    def script_us(self) -> float:
        """Microseconds of the scripts inside Redis since its statistics were reset, on average."""
        return float(self.redis.info("commandstats")["cmdstat_evalsha"]["usec_per_call"])


def text_of(operation: Operation[Any]) -> str:
    """The script of an operation as it is sent."""
    assert operation.script is not None
    return operation.script.text


def picking(operation: Operation[Any], how: str, argument: int) -> str:
    """The script, taking its lease from the list of leases instead of its arguments."""
    start = "local base = KEYS[1]\n"
    text = text_of(operation)
    assert text.count(start) == 1
    return text.replace(start, f"{start}ARGV[{argument}] = {how}\n")


def scripts() -> list[Figure]:
    """Claim, release and renew against a no-op at three sizes; what each of the others costs inside Redis."""
    figures: list[Figure] = []
    rates: dict[tuple[str, int], float] = {}
    # Over TCP, as clients come.
    with RedisServer(fsync="no", tcp=True) as server:
        settings = private_settings(server.url, "http://zoom.invalid", LASTING)
        with connect(settings) as connection:
            connection.config_set("save", "")
            connection.config_set("appendonly", "no")
            bench = Bench(connection, Broker(connection, settings), server.port)
            for script in load_all():
                connection.script_load(script.text)
            for slots in SIZES:
                found, growth = measure(bench, slots)
                figures += growth
                idle = found.pop("no-op").per_second
                bare = found.pop(BAREST).per_second
                size = f"{slots}_slots"
                figures.append(Figure(f"noop_evalsha_per_s.{size}", idle, "1/s", beside="same server and client"))
                for name, rate in found.items():
                    rates[name, slots] = rate.per_second
                    beside = f"{rate.per_second:,.0f}/s of {idle:,.0f}/s"
                    ratio = rate.per_second / idle
                    figures.append(Figure(f"{name}_vs_noop_evalsha.{size}", ratio, "", LIMITS[name], "more", beside))
                beside = f"of {bare:,.0f}/s, which is {bare / idle:.2f} of the no-op"
                ratio = found["claim"].per_second / bare
                figures.append(Figure(f"claim_vs_bare_writes.{size}", ratio, "", None, "more", beside))
    ratio = rates["claim", SIZES[-1]] / rates["claim", SIZES[0]]
    beside = f"{SIZES[-1]:,} slots beside {SIZES[0]:,}"
    figures.append(Figure("claim_largest_vs_smallest_pool", ratio, "", 0.8, "more", beside))
    return figures


def measure(bench: Bench, slots: int) -> tuple[dict[str, Rate], list[Figure]]:
    """Each script and the no-op, turn by turn, so that a slow moment of the machine hits all of them."""
    small = slots < ROUNDS * (REQUESTS + SPARE)
    requests = min(REQUESTS, slots - SPARE)
    rounds = ROUNDS * max(1, REQUESTS // requests // 4)
    rates = {name: Rate() for name in ("no-op", BAREST, *LIMITS)}
    us: defaultdict[str, list[float]] = defaultdict(list)

    def measured(name: str, how: Callable[[int], float]) -> None:
        bench.redis.config_resetstat()
        rates[name].add(requests, how(requests))
        us[name].append(bench.script_us())

    bench.fill(slots)
    for number in range(rounds):
        if small and number:
            bench.fill(slots)
        measured("no-op", lambda count: bench.rate(NOTHING, [1, bench.pool.keys.base], count))
        measured("claim", bench.claims)
        bench.go_live()
        measured("renew", bench.renewals)
        # Some of the leases are left, because redis-benchmark sends more requests than it was asked for.
        measured("release", lambda count: bench.releases(count - SPARE))
        if small:
            bench.fill(slots)
        measured(BAREST, lambda count: bench.claims(count, BARE))
        if not small:
            # So that the next round meets no more leases than this one did.
            bench.go_live()
            bench.releases(requests - SPARE)
    looks = {
        "reap": bench.server_us(bench.pool.reap()),
        "status": bench.server_us(bench.pool.status()),
        "dashboard": bench.server_us(bench.pool.dashboard()),
    }
    mean = {name: sum(us[name]) / len(us[name]) for name in LIMITS} | looks
    growth = [
        Figure(f"growth_us.{name}.{slots}_slots", mean[name], "us", beside=f"inside Redis; {order}")
        for name, order in ORDERS.items()
    ]
    return rates, growth


if __name__ == "__main__":
    show("scripts", scripts())
