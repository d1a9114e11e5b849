"""What the system costs when nothing happens, and what a slot and a lease cost in Redis."""

from __future__ import annotations

import time

import redis

from broker.client import Broker, command
from broker.models import Account, Granted
from broker.redis import connect
from broker.settings import Settings
from broker.testing.environment import private_settings
from broker.testing.redis_server import RedisServer
from tests.benchmarks.report import Figure
from tests.benchmarks.system import system, usage

SLOTS = 20_000
IDLE_S = 10
PAGE = 500


def memory() -> list[Figure]:
    """Bytes in Redis for one slot of an account with one, and for one lease."""
    with RedisServer(fsync="no") as server:
        settings: Settings = private_settings(server.url, "http://zoom.invalid", {"max_leases_per_owner": 10})
        with connect(settings) as connection:
            broker = Broker(connection, settings)
            # Scripts are loaded and the event stream is full from here on, so that only slots and leases grow.
            _fill(broker, "default", settings.events_maxlen * 2)
            broker.run(broker.pool().claim("warm", "warm"))
            connection.delete(*connection.scan_iter(match=broker.pool().keys.base + "[^e]*", count=10_000))
            empty = _used(connection)
            _fill(broker, "default", SLOTS)
            slots = _used(connection)
            pool = broker.pool()
            for first in range(0, SLOTS, PAGE):
                with connection.pipeline(transaction=False) as page:
                    for number in range(first, first + PAGE):
                        page.execute_command(*command(pool.claim(f"lesson-{number}", f"teacher-{number}")))
                    answers = page.execute()
                assert {answer[0] for answer in answers} == {Granted.GRANTED}, answers[0][0]
            leases = _used(connection)
    beside = f"{SLOTS:,} accounts of one slot"
    return [
        Figure("redis_bytes_per_slot", (slots - empty) / SLOTS, "bytes", None, "less", beside),
        Figure("redis_bytes_per_lease", (leases - slots) / SLOTS, "bytes", None, "less", "in addition to its slot"),
    ]


def _fill(broker: Broker, name: str, count: int) -> None:
    pool = broker.pool(name)
    broker.run(pool.add_account(Account("host-0", "host-0@school.example", "", "default", 1)))
    for first in range(1, count, PAGE):
        with broker.redis.pipeline(transaction=False) as page:
            for number in range(first, min(first + PAGE, count)):
                account = Account(f"host-{number}", f"host-{number}@school.example", "", "default", 1)
                page.execute_command(*command(pool.add_account(account)))
            page.execute()


def _used(connection: redis.Redis) -> int:
    connection.memory_purge()
    return int(connection.info("memory")["used_memory"])


def idle() -> list[Figure]:
    """Resident memory and CPU of each process when nothing happens."""
    with system(accounts=100, webhooks=True) as stack:
        time.sleep(3)
        before = {each.name: each for each in usage(stack)}
        time.sleep(IDLE_S)
        after = {each.name: each for each in usage(stack)}
    figures = []
    for name, now in after.items():
        share = (now.cpu_s - before[name].cpu_s) / IDLE_S * 100
        figures += [
            Figure(f"rss_bytes.{name}", now.rss_bytes, "bytes", None, "less", "idle, 100 accounts"),
            Figure(f"idle_cpu_percent.{name}", share, "%", None, "less", f"of one core, over {IDLE_S} s"),
        ]
    return figures
