"""A broker on the private server, and a check that no test of a script leaves a contradiction behind."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import redis as redis_py

from broker.client import Broker
from broker.invariants import violations
from broker.operations import Pool
from tests import factories


@pytest.fixture
def broker(redis: redis_py.Redis, redis_url: str) -> Broker:
    return Broker(redis, factories.settings(redis_url))


@pytest.fixture
def pool(broker: Broker) -> Iterator[Pool]:
    """The default pool, which must be sound when the test is over."""
    pool = broker.pool(factories.POOL)
    yield pool
    assert violations(broker, pool) == []
