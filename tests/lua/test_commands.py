"""What a step on the way of every lesson costs, in commands inside Redis: whoever adds one changes a number here.

The counts are of one round trip each. They do not depend on how large the pool is.
"""

from __future__ import annotations

from typing import Any

import pytest
import redis as redis_py

from broker.client import Broker
from broker.models import Phase, ReleaseReason
from broker.operations import Operation, Pool
from tests import factories
from tests.factories import add, lease_in, look, meeting

OURS = {"evalsha", "eval", "info", "config", "config|resetstat", "script|load"}


@pytest.fixture(params=[1, 400], ids=["one-host", "400-hosts"])
def pool(request: pytest.FixtureRequest, broker: Broker) -> Pool:
    pool = broker.pool(factories.POOL)
    add(broker, pool, *(f"host-{number:03d}" for number in range(request.param)))
    return pool


def cost(redis: redis_py.Redis, broker: Broker, operation: Operation[Any]) -> int:
    """The commands that a script called."""
    assert operation.script is not None
    redis.script_load(operation.script.text)
    redis.config_resetstat()
    broker.run(operation)
    calls = {name.removeprefix("cmdstat_"): stat["calls"] for name, stat in redis.info("commandstats").items()}
    assert calls["evalsha"] == 1, "one round trip"
    return sum(count for name, count in calls.items() if name not in OURS)


def test_claim(redis: redis_py.Redis, broker: Broker, pool: Pool) -> None:
    assert cost(redis, broker, pool.claim("algebra", "anna", wait_s=60)) == 16
    assert cost(redis, broker, pool.claim("algebra", "anna", wait_s=60)) == 7, "it has one"


def test_phases(redis: redis_py.Redis, broker: Broker, pool: Pool) -> None:
    lease = lease_in(Phase.CLAIMED, broker, pool)
    assert cost(redis, broker, pool.begin_creating(lease.id, "one")) == 8
    assert cost(redis, broker, pool.made_ready(lease.id, **meeting())) == 14
    assert cost(redis, broker, pool.went_live(lease.id, meeting_uuid="first==", at_ms=1)) == 9


def test_renew_on_every_sign_of_life(redis: redis_py.Redis, broker: Broker, pool: Pool) -> None:
    lease = lease_in(Phase.LIVE, broker, pool)
    assert cost(redis, broker, pool.renew(lease.id)) == 5


def test_release(redis: redis_py.Redis, broker: Broker, pool: Pool) -> None:
    lease_in(Phase.LIVE, broker, pool)
    lease = look(broker, pool)
    assert cost(redis, broker, pool.release([lease.id], ReleaseReason.ENDED)) == 22


def test_reaper_with_nothing_to_do(redis: redis_py.Redis, broker: Broker, pool: Pool) -> None:
    lease_in(Phase.LIVE, broker, pool)
    assert cost(redis, broker, pool.reap()) == 8
