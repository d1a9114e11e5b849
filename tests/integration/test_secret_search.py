"""The search for secrets finds one in every kind of place, or it would prove nothing."""

from __future__ import annotations

import base64
import zlib
from collections.abc import Callable

import pytest
from redis import Redis
from rq import Queue

from tests.secret_search import Search

SECRET = "made/up+secret=with&signs"


@pytest.fixture
def raw(redis_url: str) -> Redis:
    return Redis.from_url(redis_url, socket_timeout=10)


@pytest.mark.parametrize(
    "plant",
    [
        lambda redis: redis.set("place", SECRET),
        lambda redis: redis.set(f"place {SECRET}", 1),
        lambda redis: redis.hset("place", "field", SECRET),
        lambda redis: redis.hset("place", SECRET, 1),
        lambda redis: redis.lpush("place", f"before {SECRET} after"),
        lambda redis: redis.sadd("place", SECRET),
        lambda redis: redis.zadd("place", {SECRET: 1}),
        lambda redis: redis.xadd("place", {"field": SECRET}),
        lambda redis: redis.set("place", zlib.compress(SECRET.encode())),
        lambda redis: redis.set("place", base64.b64encode(zlib.compress(SECRET.encode()))),
        lambda redis: Queue(connection=redis).enqueue("workers.reap.reap", SECRET),
    ],
)
def test_planted_secret_is_found_in_redis(raw: Redis, plant: Callable[[Redis], object]) -> None:
    search = Search({"planted": SECRET})
    search.look_into_redis(raw)
    assert not search.found
    plant(raw)
    search.look_into_redis(raw)
    assert {name for _, name in search.found} == {"planted"}


@pytest.mark.parametrize("before", ["", "a", "ab", "abc", "client-id:"])
def test_secret_is_found_in_every_form(before: str) -> None:
    for form in (
        before + SECRET,
        "made%2Fup%2Bsecret%3Dwith%26signs",
        base64.b64encode((before + SECRET + "!").encode()).decode(),
        base64.urlsafe_b64encode((before + SECRET).encode()).decode(),
        f"Authorization: Basic {base64.b64encode((before + SECRET).encode()).decode()}\n",
    ):
        search = Search({"planted": SECRET})
        search.look("log", f"line\n{form} more\n")
        assert search.found == {("log", "planted")}, form


def test_nothing_is_found_where_nothing_is() -> None:
    search = Search({"planted": SECRET})
    search.look("log", SECRET[:-1] + "\n" + base64.b64encode(SECRET.upper().encode()).decode())
    assert not search.found
    assert search.looked > 0
