"""spend: calls to Zoom get their moments, and no window ever holds more of them than Zoom allows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
import redis as redis_py
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from broker import keys, scripts
from broker.client import Broker
from broker.operations import Operation
from tests.factories import now_ms

DAY_MS = 24 * 3600 * 1000
WINDOW_MS = 1_100


@dataclass(frozen=True)
class Spent:
    """An answer of the script."""

    outcome: str
    now_ms: int
    wait_ms: int

    @property
    def at_ms(self) -> int:
        return self.now_ms + self.wait_ms


def spend(broker: Broker, category: str = "medium", account: str = "acc-1", **changes: Any) -> Spent:
    arguments: dict[str, Any] = {
        "per_s": 5,
        "places": changes.get("per_s", 5),
        "window_ms": WINDOW_MS,
        "per_day": 0,
        "host": "",
        "host_per_day": 100,
        "most_wait_ms": 60_000,
        "used_up": "",
    }
    script = scripts.load("spend")
    command = (1, keys.budget(account, category), *script.arguments(arguments | changes))
    return broker.run(Operation("spend", command, lambda answer: Spent(answer[0], *map(int, answer[1:])), script))


def day_of(broker: Broker) -> str:
    return f"{keys.budget('acc-1', 'medium')}:{now_ms(broker.redis) // DAY_MS}"


def test_calls_beyond_the_limit_get_moments_one_window_apart(broker: Broker) -> None:
    moments = [spend(broker).at_ms for _ in range(16)]
    assert moments == sorted(moments)
    for earlier, later in zip(moments, moments[5:], strict=False):
        assert later - earlier >= WINDOW_MS
    assert moments[15] - moments[0] < 4 * WINDOW_MS, "and no later than needed"


def test_calls_below_the_limit_do_not_wait(broker: Broker) -> None:
    assert [spend(broker).wait_ms for _ in range(5)] == [0] * 5


def test_no_limit_is_no_wait(broker: Broker) -> None:
    assert {spend(broker, per_s=0, places=0).wait_ms for _ in range(50)} == {0}


def test_categories_and_accounts_have_budgets_of_their_own(broker: Broker) -> None:
    for _ in range(5):
        spend(broker)
    assert spend(broker, "light").wait_ms == 0
    assert spend(broker, account="acc-2").wait_ms == 0
    assert spend(broker).wait_ms > 0


def test_who_cannot_wait_is_told_how_long_it_would_be_and_keeps_no_moment(broker: Broker) -> None:
    for _ in range(5):
        spend(broker)
    told = [spend(broker, most_wait_ms=0) for _ in range(20)]
    assert {answer.outcome for answer in told} == {"later"}
    assert all(0 < answer.wait_ms <= WINDOW_MS for answer in told)
    assert spend(broker).wait_ms <= WINDOW_MS


def test_background_leaves_places_free_for_others(broker: Broker) -> None:
    background = [spend(broker, places=2, most_wait_ms=0).outcome for _ in range(4)]
    assert background == ["granted", "granted", "later", "later"]
    assert [spend(broker, most_wait_ms=0).outcome for _ in range(4)] == ["granted", "granted", "granted", "later"]


@hypothesis_settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.booleans(), st.integers(0, 3_000)), max_size=60))
def test_no_window_ever_holds_too_many(broker: Broker, redis: redis_py.Redis, calls: list[tuple[bool, int]]) -> None:
    """In whatever order those in front and those in the background come, and however long they can wait."""
    redis.delete(keys.budget("acc-1", "medium"))
    moments = []
    for background, patience_ms in calls:
        answer = spend(broker, places=2 if background else 5, most_wait_ms=0 if background else patience_ms)
        if answer.outcome == "granted":
            moments.append(answer.at_ms)
    assert moments == sorted(moments)
    assert all(later - earlier >= WINDOW_MS for earlier, later in zip(moments, moments[5:], strict=False))


def test_clock_that_was_set_back_blocks_nobody(broker: Broker) -> None:
    budget = keys.budget("acc-1", "medium")
    future = now_ms(broker.redis) + 3_600_000
    ring: dict[Any, Any] = {"n": 5} | {str(n): future for n in range(5)}
    broker.redis.hset(budget, mapping=ring)
    assert spend(broker).wait_ms == 0


def test_changed_limit_is_obeyed_within_a_window(broker: Broker) -> None:
    for _ in range(20):
        spend(broker, per_s=20)
    moments = [spend(broker, per_s=3, places=3).at_ms for _ in range(9)]
    assert all(later - earlier >= WINDOW_MS for earlier, later in zip(moments[3:], moments[6:], strict=False))


def test_day_that_is_used_up_says_so_until_midnight_utc(broker: Broker) -> None:
    answers = [spend(broker, per_day=3) for _ in range(4)]
    assert [answer.outcome for answer in answers] == ["granted"] * 3 + ["day"]
    assert answers[3].at_ms % DAY_MS == 0
    assert 0 < answers[3].wait_ms <= DAY_MS
    assert broker.redis.hget(day_of(broker), "calls") == "3", "a refused call is not counted"
    assert 0 < broker.redis.pttl(day_of(broker)) <= DAY_MS + 3_600_000


def test_creations_are_counted_by_host_and_day(broker: Broker) -> None:
    answers = [spend(broker, host="anna@x", host_per_day=2, per_s=0, places=0).outcome for _ in range(3)]
    assert answers == ["granted", "granted", "host_day"]
    assert spend(broker, host="boris@x", host_per_day=2).outcome == "granted"
    assert spend(broker).outcome == "granted", "no creation"
    assert spend(broker, host="anna@x", host_per_day=0).outcome == "granted", "not counted"


def test_a_creation_that_must_wait_too_long_is_not_counted(broker: Broker) -> None:
    for _ in range(5):
        spend(broker)
    assert spend(broker, host="anna@x", most_wait_ms=0).outcome == "later"
    assert broker.redis.hget(day_of(broker), "host:anna@x") is None


@pytest.mark.parametrize(("used_up", "outcome"), [("host", "host_day"), ("day", "day")])
def test_zooms_word_on_the_day_counts_more_than_ours(broker: Broker, used_up: str, outcome: str) -> None:
    assert spend(broker, host="anna@x").outcome == "granted"
    assert spend(broker, host="anna@x", used_up=used_up).outcome == "noted"
    assert spend(broker, host="anna@x").outcome == outcome
    assert spend(broker, host="boris@x").outcome == ("granted" if used_up == "host" else "day")
