"""Connections to Redis, with time-outs, sizes and retries said in one place.

Retries: one more try after a lost connection or a lost answer, for every command, on both clients. That is safe because
every script is right when it runs twice, and it hides a restarted server. More tries would only make a caller wait
longer than its own deadline. Connections for blocking reads never retry: who listens has to know that it was away.
"""

from __future__ import annotations

import redis
import redis.asyncio
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import ConstantBackoff
from redis.retry import Retry

from broker.settings import Settings

RETRIES = 1
RETRY_PAUSE_S = 0.05
TURN_S = 30.0
"""The longest wait for one of the process's own connections. It says nothing about Redis: two thousand requests that
arrive at once share fifty connections, and the last of them has to wait for its turn."""


def connect(settings: Settings, *, decode_responses: bool = True) -> redis.Redis:
    """Return a blocking client. Nothing is sent yet."""
    pool = redis.BlockingConnectionPool.from_url(
        settings.redis_url,
        max_connections=settings.redis_max_connections,
        timeout=settings.redis_timeout_s,
        socket_timeout=settings.redis_timeout_s,
        socket_connect_timeout=settings.redis_timeout_s,
        retry=Retry(ConstantBackoff(RETRY_PAUSE_S), RETRIES),
        health_check_interval=30,
        decode_responses=decode_responses,
    )
    return redis.Redis.from_pool(pool)


def connect_async(settings: Settings, *, blocking_s: float = 0) -> redis.asyncio.Redis:
    """Return an async client. Nothing is sent yet.

    Args:
        settings: URL, sizes and time-outs.
        blocking_s: the longest block that commands on this client ask for; the time-out of an answer is longer by that,
            and nothing is retried.
    """
    pool: redis.asyncio.BlockingConnectionPool = redis.asyncio.BlockingConnectionPool.from_url(
        settings.redis_url,
        max_connections=settings.redis_max_connections,
        timeout=TURN_S,
        socket_timeout=settings.redis_timeout_s + blocking_s,
        socket_connect_timeout=settings.redis_timeout_s,
        retry=AsyncRetry(ConstantBackoff(RETRY_PAUSE_S), 0 if blocking_s else RETRIES),
        health_check_interval=30,
        decode_responses=True,
    )
    return redis.asyncio.Redis.from_pool(pool)
