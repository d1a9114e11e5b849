"""Half-written and foreign data: the scripts refuse the pool, name the key and change nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import redis as redis_py

from broker.client import Broker
from broker.errors import PoolDamaged
from broker.invariants import violations
from broker.models import AccountState, Granted, Lease, Phase, ReleaseReason
from broker.operations import Operation, Pool
from tests.factories import account, add, expire, lease_in, meeting, now_ms, try_claim

BASE = "zp:{default}:"


@pytest.fixture
def pool(broker: Broker) -> Pool:
    """A pool that is not checked afterwards: the tests leave it damaged."""
    return broker.pool("default")


@pytest.fixture
def lease(broker: Broker, pool: Pool) -> Lease:
    """A live lease beside a free slot; somebody waits for neither."""
    add(broker, pool, "a", "b")
    return lease_in(Phase.LIVE, broker, pool)


def occupy(broker: Broker, pool: Pool) -> None:
    """Take the other slot, too: a claim looks at leases that have expired only when no slot is free."""
    assert try_claim(broker, pool, "other", "carl").outcome is Granted.GRANTED


def everything(redis: redis_py.Redis) -> dict[str, object]:
    return {key: redis.dump(key) for key in redis.scan_iter("*")}


def refused(broker: Broker, operation: Operation[Any], key: str) -> None:
    """The operation raises, names the key, and leaves every key as it was."""
    before = everything(broker.redis)
    with pytest.raises(PoolDamaged) as raised:
        broker.run(operation)
    assert raised.value.key == key, raised.value
    assert raised.value.code == "pool_damaged"
    assert key in str(raised.value)
    assert everything(broker.redis) == before


WRITERS: dict[str, Callable[[Pool, Lease], Operation[Any]]] = {
    "claim": lambda pool, lease: pool.claim("new", "boris"),
    "claim with a wait": lambda pool, lease: pool.claim("new", "boris", wait_s=60),
    "release": lambda pool, lease: pool.release([lease.id], ReleaseReason.ENDED),
    "ready": lambda pool, lease: pool.went_live(lease.id, meeting_uuid="second=="),
    "renew": lambda pool, lease: pool.renew(lease.id),
    "reap": lambda pool, lease: pool.reap(),
    "park": lambda pool, lease: pool.park_account("a", AccountState.DISABLED, "x"),
    "add": lambda pool, lease: pool.resize_account("b", 3),
    "reserve": lambda pool, lease: pool.reserve("new", 4_000_000_000_000, 4_000_003_600_000),
    "unreserve": lambda pool, lease: pool.unreserve("new"),
    "cancel": lambda pool, lease: pool.cancel("new", "boris"),
}
SLOTS = {"claim", "claim with a wait", "release", "park", "add", "reserve", "unreserve", "cancel"}
TOUCHES = {
    "free": SLOTS,
    "leased": {*WRITERS},
    "owners": SLOTS,
    "events": SLOTS | {"ready"},
    "fence": {*WRITERS},
    "lessons": {"claim", "claim with a wait", "release", "reserve"},
    "meetings": {"release"},
    "hosts": {"park", "add"},
}


@pytest.mark.parametrize(
    ("name", "script"), [(name, script) for name, scripts in TOUCHES.items() for script in sorted(scripts)]
)
def test_key_of_a_wrong_type_is_named_by_every_script_that_would_write_it(
    broker: Broker, pool: Pool, lease: Lease, name: str, script: str
) -> None:
    broker.redis.delete(BASE + name)
    broker.redis.rpush(BASE + name, "foreign")
    refused(broker, WRITERS[script](pool, lease), BASE + name)
    assert any(BASE + name in text for text in violations(broker, pool))


@pytest.mark.parametrize("field", ["lease", "lesson", "owner", "phase", "granted_ms", "since_ms", "hold_until_ms"])
@pytest.mark.parametrize("script", ["reap", "claim", "release"])
def test_half_written_lease_is_left_alone(broker: Broker, pool: Pool, lease: Lease, field: str, script: str) -> None:
    key = pool.keys.slot(lease.id.slot)
    if script == "release" and field == "lease":
        broker.redis.hset(key, "lease", f"other#0@{lease.id.fence}")
        assert broker.run(pool.release([lease.id], ReleaseReason.ENDED)) == ("stale",)
        return
    occupy(broker, pool)
    broker.redis.hdel(key, field)
    expire(broker, pool, lease.id.slot)
    refused(broker, WRITERS[script](pool, lease), key)
    assert any(key in text and "cannot be read" in text for text in violations(broker, pool))


def test_occupied_slot_without_a_lease_is_left_alone(broker: Broker, pool: Pool, lease: Lease) -> None:
    occupy(broker, pool)
    broker.redis.delete(pool.keys.slot(lease.id.slot))
    expire(broker, pool, lease.id.slot)
    refused(broker, pool.reap(), pool.keys.slot(lease.id.slot))
    refused(broker, pool.claim("new", "boris"), pool.keys.slot(lease.id.slot))
    refused(broker, pool.leases(), pool.keys.slot(lease.id.slot))


@pytest.mark.parametrize("text", ["nonsense", "b#0@1", "a#0"])
def test_lease_that_is_none_is_left_alone(broker: Broker, pool: Pool, lease: Lease, text: str) -> None:
    broker.redis.hset(pool.keys.slot(lease.id.slot), "lease", text)
    expire(broker, pool, lease.id.slot)
    refused(broker, pool.reap(), pool.keys.slot(lease.id.slot))


def test_index_that_names_a_lease_that_is_over_is_not_followed(broker: Broker, pool: Pool, lease: Lease) -> None:
    broker.redis.hset(pool.keys.lessons, "algebra", f"a#0@{lease.id.fence - 1}")
    refused(broker, pool.claim("algebra", "anna"), pool.keys.lessons)
    refused(broker, pool.release([lease.id], ReleaseReason.ENDED), pool.keys.lessons)
    broker.redis.hset(pool.keys.lessons, "algebra", "nonsense")
    refused(broker, pool.claim("algebra", "anna"), pool.keys.lessons)


def test_free_slot_with_a_lease_on_it_is_not_granted(broker: Broker, pool: Pool, lease: Lease) -> None:
    broker.redis.hset(pool.keys.slot("b#0"), mapping={"lesson": "foreign"})
    refused(broker, pool.claim("new", "boris"), pool.keys.slot("b#0"))


def test_free_slot_of_no_account_is_not_granted(broker: Broker, pool: Pool, lease: Lease) -> None:
    broker.redis.zadd(pool.keys.free, {"ghost#0": 1})
    refused(broker, pool.claim("new", "boris"), pool.keys.account("ghost"))


def test_account_that_cannot_be_read_is_left_alone(broker: Broker, pool: Pool, lease: Lease) -> None:
    broker.redis.hset(pool.keys.account("a"), "capacity", "two")
    refused(broker, pool.release([lease.id], ReleaseReason.ENDED), pool.keys.account("a"))
    refused(broker, pool.park_account("a", AccountState.DISABLED, "x"), pool.keys.account("a"))


def test_one_damaged_lease_of_many_ends_none_of_them(broker: Broker, pool: Pool, lease: Lease) -> None:
    other = lease_in(Phase.LIVE, broker, pool, "biology", "boris", meeting_id=7)
    broker.redis.hdel(pool.keys.slot(other.id.slot), "owner")
    refused(broker, pool.release([lease.id, other.id], ReleaseReason.ENDED), pool.keys.slot(other.id.slot))


@pytest.mark.parametrize("field", ["owner", "tick", "head_start_ms", "asked_ms", "until_ms"])
def test_half_written_ticket_is_left_alone(broker: Broker, pool: Pool, field: str) -> None:
    add(broker, pool, "a")
    try_claim(broker, pool)
    broker.run(pool.claim("biology", "boris", wait_s=60))
    key = pool.keys.ticket("biology")
    broker.redis.hdel(key, field)
    refused(broker, pool.claim("biology", "boris", wait_s=60), key)
    refused(broker, pool.cancel("biology", "boris"), key)
    refused(broker, pool.find_lesson("biology"), key)
    broker.redis.zadd(pool.keys.patience, {"biology": 1})
    refused(broker, pool.reap(), key)
    assert any(key in text for text in violations(broker, pool))


@pytest.mark.parametrize("field", ["start_ms", "end_ms", "from_ms", "lapse_ms"])
def test_half_written_reservation_is_left_alone(broker: Broker, pool: Pool, field: str) -> None:
    add(broker, pool, "a")
    start_ms = now_ms(broker.redis)
    broker.run(pool.reserve("algebra", start_ms, start_ms + 3_600_000))
    key = pool.keys.reservation("algebra")
    broker.redis.hdel(key, field)
    refused(broker, pool.claim("algebra", "anna"), key)
    refused(broker, pool.unreserve("algebra"), key)
    refused(broker, pool.reserve("algebra", start_ms, start_ms + 1_800_000), key)
    broker.redis.zadd(pool.keys.reservations, {"algebra": 1})
    refused(broker, pool.reap(), key)
    assert any(key in text for text in violations(broker, pool))


def test_count_that_is_no_number_is_named(broker: Broker, pool: Pool) -> None:
    add(broker, pool, "a")
    start_ms = now_ms(broker.redis)
    broker.run(pool.reserve("algebra", start_ms, start_ms + 3_600_000))
    for quarter in list(broker.redis.hkeys(pool.keys.booked)):
        broker.redis.hset(pool.keys.booked, quarter, "many")
    refused(broker, pool.reserve("biology", start_ms, start_ms + 3_600_000), pool.keys.booked)
    assert any(pool.keys.booked in text for text in violations(broker, pool))


@pytest.mark.parametrize("script", ["release", "reap", "claim", "move"])
def test_leaving_account_stays_while_the_index_of_hosts_is_damaged(broker: Broker, pool: Pool, script: str) -> None:
    add(broker, pool, "a")
    lease = lease_in(Phase.CREATING if script == "move" else Phase.CLAIMED, broker, pool)
    add(broker, pool, "b")
    broker.run(pool.remove_account("a"))
    if script in ("reap", "claim"):
        occupy(broker, pool)
        expire(broker, pool, lease.id.slot)
    broker.redis.delete(pool.keys.hosts)
    broker.redis.rpush(pool.keys.hosts, "foreign")
    move = pool.move(lease, "attempt-1", AccountState.QUARANTINED, "trouble")
    refused(broker, move if script == "move" else WRITERS[script](pool, lease), pool.keys.hosts)


def test_index_of_hosts_that_names_no_account_is_not_believed(broker: Broker, pool: Pool) -> None:
    broker.redis.hset(pool.keys.hosts, "a@school.example", "ghost")
    refused(broker, pool.add_account(account("a")), pool.keys.hosts)
    assert violations(broker, pool) == [
        f"{pool.keys.hosts} says that Zoom user 'a@school.example' is account ghost, which is another or none"
    ]


def test_index_of_hosts_without_an_account_is_found(broker: Broker, pool: Pool) -> None:
    add(broker, pool, "a")
    broker.redis.delete(pool.keys.hosts)
    assert violations(broker, pool) == [
        f"{pool.keys.hosts} does not have Zoom user 'a@school.example', who is account a"
    ]
    add(broker, pool, "a")
    assert violations(broker, pool) == [], "adding it again puts it right"


def test_zoom_user_with_two_accounts_is_found(broker: Broker, pool: Pool) -> None:
    add(broker, pool, "a", "b")
    broker.redis.hset(pool.keys.account("b"), mapping={"email": "A@school.example"})
    broker.redis.hdel(pool.keys.hosts, "b@school.example")
    assert violations(broker, pool) == ["Zoom user 'a@school.example' is 2 accounts: a, b"]


def test_fence_that_is_no_number_is_named(broker: Broker, pool: Pool, lease: Lease) -> None:
    broker.redis.set(pool.keys.fence, "many")
    for script in WRITERS.values():
        refused(broker, script(pool, lease), pool.keys.fence)


def test_meeting_cannot_be_recorded_in_a_damaged_index(broker: Broker, pool: Pool) -> None:
    add(broker, pool, "a")
    lease = lease_in(Phase.CREATING, broker, pool)
    broker.redis.set(pool.keys.meetings, "x")
    refused(broker, pool.made_ready(lease.id, **meeting()), pool.keys.meetings)


def test_plain_command_on_a_key_of_a_wrong_type_is_the_same_error(broker: Broker, pool: Pool) -> None:
    broker.redis.set(pool.keys.account("a"), "x")
    with pytest.raises(PoolDamaged):
        broker.run(pool.account("a"))
