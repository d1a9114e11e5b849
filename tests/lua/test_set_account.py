"""set_account: hosts come, change, leave the rotation and go, while lessons run on them."""

from __future__ import annotations

from typing import Any

import pytest

from broker.client import Broker
from broker.errors import ScriptError
from broker.models import AccountState, Change, Granted, Lease, Moved, Phase, ReleaseReason
from broker.operations import Operation, Pool
from tests.factories import account, add, claimed, expire, lease_in, now_ms, try_claim


def free(broker: Broker, pool: Pool) -> set[str]:
    """The slots that can be had."""
    return {str(slot) for slot in broker.redis.zrange(pool.keys.free, 0, -1)}


def parked(broker: Broker, pool: Pool) -> set[str]:
    """The empty slots that cannot."""
    return {str(slot) for slot in broker.redis.zrange(pool.keys.parked, 0, -1)}


def slots(*indices: int) -> set[str]:
    return {f"host-1#{index}" for index in indices}


def fill(broker: Broker, pool: Pool, count: int) -> list[Lease]:
    return [claimed(broker, pool, f"lesson-{number}") for number in range(count)]


def end(broker: Broker, pool: Pool, lease: Lease) -> None:
    assert broker.run(pool.release([lease.id], ReleaseReason.ENDED)) == (Change.DONE,)


def hosts(broker: Broker, pool: Pool) -> dict[str, str]:
    """Which account is which Zoom user, as the index has it."""
    found: Any = broker.redis.hgetall(pool.keys.hosts)
    return dict(found)


def state(broker: Broker, pool: Pool) -> dict[str, object]:
    """Everything that may not change when an action is repeated: ranks carry the time and may."""
    (found,) = broker.run(pool.accounts())
    return {"account": found, "free": free(broker, pool), "parked": parked(broker, pool)}


def test_added_account_has_its_slots_at_once(broker: Broker, pool: Pool) -> None:
    broker.run(pool.add_account(account("host-1", 2, zoom_user_id="U1", credential="school")))
    assert broker.run(pool.accounts()) == (account("host-1", 2, zoom_user_id="U1", credential="school"),)
    assert free(broker, pool) == slots(0, 1)


def test_adding_again_changes_what_is_known_and_nothing_else(broker: Broker, pool: Pool) -> None:
    add(broker, pool, "host-1", capacity=2)
    (lease,) = fill(broker, pool, 1)
    result = broker.run(pool.add_account(account("host-1", 2, email="new@school.example")))
    assert (result.change, result.leases) == (Change.DONE, 1), "one lease is on it"
    assert broker.run(pool.accounts())[0].email == "new@school.example"
    found = broker.run(pool.find_lease(lease.id)).lease
    assert found is not None
    assert found.email == "host-1@school.example", "a running lease keeps the host that it was made on"


def test_adding_again_does_not_bring_a_parked_account_back(broker: Broker, pool: Pool) -> None:
    add(broker, pool, "host-1")
    until_ms = now_ms(broker.redis) + 60_000
    broker.run(pool.park_account("host-1", AccountState.LIMITED, "daily limit", until_ms=until_ms))
    add(broker, pool, "host-1")
    found = broker.run(pool.accounts())[0]
    assert (found.state, found.reason, found.until_ms) == (AccountState.LIMITED, "daily limit", until_ms)
    assert free(broker, pool) == set()


@pytest.mark.parametrize(
    "host",
    [
        {"email": "host-1@school.example"},
        {"email": "HOST-1@School.Example", "zoom_user_id": "U2"},
        {"email": "", "zoom_user_id": "host-1@school.example"},
        {"email": "two@school.example", "zoom_user_id": "U1"},
    ],
)
def test_zoom_user_cannot_be_a_second_account(broker: Broker, pool: Pool, host: dict[str, str]) -> None:
    broker.run(pool.add_account(account("host-1", zoom_user_id="U1")))
    add(broker, pool, "host-2")
    before = {str(key): broker.redis.dump(key) for key in broker.redis.keys("*")}
    for id in ("new", "host-2"):
        result = broker.run(pool.add_account(account(id, 2, **host)))
        assert (result.change, result.taken_by) == (Change.CONFLICT, "host-1")
    assert {str(key): broker.redis.dump(key) for key in broker.redis.keys("*")} == before


def test_ids_of_zoom_users_that_differ_in_their_letters_are_two(broker: Broker, pool: Pool) -> None:
    for id, user in (("host-1", "aB"), ("host-2", "Ab")):
        result = broker.run(pool.add_account(account(id, email="", zoom_user_id=user)))
        assert result.change is Change.DONE
    assert hosts(broker, pool) == {"aB": "host-1", "Ab": "host-2"}


def test_scripts_and_broker_make_the_same_letters_small(broker: Broker, pool: Pool) -> None:
    """The server's language must not matter, so only ASCII's are."""
    first = account("host-1", email="ÄNNA@School.example")
    broker.run(pool.add_account(first))
    assert hosts(broker, pool) == dict.fromkeys(first.names, "host-1") == {"Änna@school.example": "host-1"}


def test_accounts_whose_host_is_not_known_yet_do_not_clash(broker: Broker, pool: Pool) -> None:
    for id in ("host-1", "host-2"):
        assert broker.run(pool.add_account(account(id, email=""))).change is Change.DONE
    assert hosts(broker, pool) == {}


def test_zoom_user_that_an_account_gave_up_is_free_for_others(broker: Broker, pool: Pool) -> None:
    broker.run(pool.add_account(account("host-1", email="One@school.example", zoom_user_id="U1")))
    broker.run(pool.add_account(account("host-1", email="new@school.example", zoom_user_id="U1")))
    assert hosts(broker, pool) == {"new@school.example": "host-1", "U1": "host-1"}
    result = broker.run(pool.add_account(account("host-2", email="one@school.example", zoom_user_id="U2")))
    assert result.change is Change.DONE
    result = broker.run(pool.add_account(account("host-3", email="new@school.example")))
    assert (result.change, result.taken_by) == (Change.CONFLICT, "host-1")


def test_zoom_user_of_a_removed_account_is_free_for_others(broker: Broker, pool: Pool) -> None:
    broker.run(pool.add_account(account("host-1", zoom_user_id="U1")))
    broker.run(pool.remove_account("host-1"))
    assert hosts(broker, pool) == {}
    result = broker.run(pool.add_account(account("other", email="host-1@school.example", zoom_user_id="U1")))
    assert result.change is Change.DONE


@pytest.mark.parametrize("how", ["ended", "lapsed", "claimed again"])
def test_zoom_user_of_a_leaving_account_is_free_when_its_last_lease_is_over(
    broker: Broker, pool: Pool, how: str
) -> None:
    add(broker, pool, "host-1")
    (lease,) = fill(broker, pool, 1)
    broker.run(pool.remove_account("host-1"))
    other = pool.add_account(account("other", email="host-1@school.example"))
    result = broker.run(other)
    assert (result.change, result.taken_by) == (Change.CONFLICT, "host-1"), "its lesson still runs there"
    if how == "ended":
        end(broker, pool, lease)
    else:
        expire(broker, pool, lease.id.slot)
        again: Operation[Any] = pool.reap() if how == "lapsed" else pool.claim(lease.lesson, lease.owner)
        broker.run(again)
    assert hosts(broker, pool) == {}
    assert broker.run(other).change is Change.DONE


def test_zoom_user_of_a_leaving_account_is_free_when_its_last_lesson_moves(broker: Broker, pool: Pool) -> None:
    add(broker, pool, "host-1")
    lease = lease_in(Phase.CREATING, broker, pool)
    add(broker, pool, "host-2")
    broker.run(pool.remove_account("host-1"))
    moved = broker.run(pool.move(lease, "attempt-1", AccountState.QUARANTINED, "trouble"))
    assert moved.outcome is Moved.MOVED
    assert hosts(broker, pool) == {"host-2@school.example": "host-2"}


def test_what_the_index_says_of_another_account_survives_a_removal(broker: Broker, pool: Pool) -> None:
    """Two accounts of one Zoom user, as data of old may have them: the way out is to remove one."""
    add(broker, pool, "host-1", "host-2")
    broker.redis.hset(pool.keys.account("host-2"), "email", "host-1@school.example")
    broker.redis.hdel(pool.keys.hosts, "host-2@school.example")
    broker.run(pool.remove_account("host-2"))
    assert hosts(broker, pool) == {"host-1@school.example": "host-1"}


def test_larger_account_has_more_slots_at_once(broker: Broker, pool: Pool) -> None:
    add(broker, pool, "host-1", capacity=1)
    fill(broker, pool, 1)
    result = broker.run(pool.resize_account("host-1", 10))
    assert (result.change, result.leases) == (Change.DONE, 1)
    assert free(broker, pool) == slots(*range(1, 10))


def test_smaller_idle_account_loses_its_upper_slots(broker: Broker, pool: Pool) -> None:
    add(broker, pool, "host-1", capacity=10)
    broker.run(pool.resize_account("host-1", 2))
    assert free(broker, pool) == slots(0, 1)


def test_slot_above_a_lowered_capacity_leaves_when_its_lesson_is_over(broker: Broker, pool: Pool) -> None:
    add(broker, pool, "host-1", capacity=3)
    _, middle, upper = fill(broker, pool, 3)
    broker.run(pool.resize_account("host-1", 1))
    end(broker, pool, upper)
    assert broker.run(pool.status()).slots == 2
    end(broker, pool, middle)
    assert broker.run(pool.status()).slots == 1
    assert try_claim(broker, pool, "new").outcome is Granted.BUSY


def test_low_slot_is_not_granted_while_zoom_still_runs_more_than_the_lowered_capacity(
    broker: Broker, pool: Pool
) -> None:
    add(broker, pool, "host-1", capacity=3)
    low, middle, upper = fill(broker, pool, 3)
    broker.run(pool.resize_account("host-1", 2))
    end(broker, pool, low)
    assert (free(broker, pool), parked(broker, pool)) == (set(), slots(0))
    assert try_claim(broker, pool, "new").outcome is Granted.BUSY
    end(broker, pool, upper)
    assert (free(broker, pool), parked(broker, pool)) == (slots(0), set())
    end(broker, pool, middle)
    assert free(broker, pool) == slots(0, 1)


@pytest.mark.parametrize("capacity", range(1, 10))
def test_lowered_capacity_is_never_exceeded_by_a_new_grant(broker: Broker, pool: Pool, capacity: int) -> None:
    add(broker, pool, "host-1", capacity=10)
    leases = fill(broker, pool, 10)
    broker.run(pool.resize_account("host-1", capacity))
    running = 10
    for number, lease in enumerate(leases):
        end(broker, pool, lease)
        running -= 1
        granted = try_claim(broker, pool, f"new-{number}").outcome is Granted.GRANTED
        assert granted == (running < capacity)
        running += granted
    assert running == capacity


def test_capacity_raised_again_brings_everything_back(broker: Broker, pool: Pool) -> None:
    add(broker, pool, "host-1", capacity=3)
    low, _, _ = fill(broker, pool, 3)
    broker.run(pool.resize_account("host-1", 1))
    end(broker, pool, low)
    assert parked(broker, pool) == slots(0)
    broker.run(pool.resize_account("host-1", 4))
    assert (free(broker, pool), parked(broker, pool)) == (slots(0, 3), set())


def test_parked_account_keeps_its_lessons_and_gives_away_nothing(broker: Broker, pool: Pool) -> None:
    add(broker, pool, "host-1", capacity=2)
    (lease,) = fill(broker, pool, 1)
    result = broker.run(pool.park_account("host-1", AccountState.DRAINING, "repairs"))
    assert (result.change, result.leases) == (Change.DONE, 1)
    assert (free(broker, pool), parked(broker, pool)) == (set(), slots(1))
    assert broker.run(pool.begin_creating(lease.id, "x")).change is Change.DONE
    end(broker, pool, lease)
    assert parked(broker, pool) == slots(0, 1)
    assert try_claim(broker, pool, "new").outcome is Granted.BUSY
    broker.run(pool.unpark_account("host-1"))
    assert (free(broker, pool), parked(broker, pool)) == (slots(0, 1), set())
    (found,) = broker.run(pool.accounts())
    assert (found.state, found.reason) == (AccountState.ACTIVE, "")


@pytest.mark.parametrize(
    "state", [AccountState.DRAINING, AccountState.DISABLED, AccountState.QUARANTINED, AccountState.LIMITED]
)
def test_reason_of_parking_is_kept_for_people(broker: Broker, pool: Pool, state: AccountState) -> None:
    add(broker, pool, "host-1")
    broker.run(pool.park_account("host-1", state, "«ремонт»", until_ms=now_ms(broker.redis) + 10_000))
    (found,) = broker.run(pool.accounts())
    assert (found.state, found.reason) == (state, "«ремонт»")
    newest = broker.run(pool.events(count=1))[0]
    assert (newest.type, newest.fields) == (
        "account.parked",
        {"account": "host-1", "state": state, "reason": "«ремонт»"},
    )


def test_suspect_lease_of_a_parked_account_keeps_its_slot(broker: Broker, pool: Pool) -> None:
    add(broker, pool, "host-1")
    lease = lease_in(Phase.SUSPECT, broker, pool)
    broker.run(pool.park_account("host-1", AccountState.QUARANTINED, "x"))
    assert (free(broker, pool), parked(broker, pool)) == (set(), set())
    end(broker, pool, lease)
    assert parked(broker, pool) == slots(0)


def test_idle_account_is_removed_at_once_without_a_trace(broker: Broker, pool: Pool) -> None:
    add(broker, pool, "host-1", capacity=3)
    assert broker.run(pool.remove_account("host-1")).change is Change.DONE
    assert broker.run(pool.accounts()) == ()
    assert {str(key) for key in broker.redis.keys("*")} == {pool.keys.events}
    assert try_claim(broker, pool).outcome is Granted.UNKNOWN_POOL


def test_busy_account_is_removed_with_its_last_lease(broker: Broker, pool: Pool) -> None:
    add(broker, pool, "host-1", capacity=2)
    first, second = fill(broker, pool, 2)
    result = broker.run(pool.remove_account("host-1"))
    assert (result.change, result.leases) == (Change.DONE, 2)
    end(broker, pool, second)
    assert parked(broker, pool) == slots(1)
    end(broker, pool, first)
    assert broker.run(pool.accounts()) == ()
    assert broker.run(pool.status()).slots == 0


def test_account_that_is_leaving_goes_with_a_lapsed_claim_too(broker: Broker, pool: Pool) -> None:
    add(broker, pool, "host-1")
    (lease,) = fill(broker, pool, 1)
    broker.run(pool.remove_account("host-1"))
    expire(broker, pool, lease.id.slot)
    broker.run(pool.reap())
    assert broker.run(pool.accounts()) == ()


def test_account_that_is_leaving_can_be_kept_after_all(broker: Broker, pool: Pool) -> None:
    add(broker, pool, "host-1", capacity=2)
    fill(broker, pool, 1)
    broker.run(pool.remove_account("host-1"))
    add(broker, pool, "host-1", capacity=2)
    (found,) = broker.run(pool.accounts())
    assert (found.state, found.reason, found.until_ms) == (AccountState.ACTIVE, "", 0)
    assert free(broker, pool) == slots(1)


def test_trouble_with_a_leaving_account_does_not_make_it_stay(broker: Broker, pool: Pool) -> None:
    """A worker that meets a fault parks the host, whatever an operator decided a minute before."""
    add(broker, pool, "host-1")
    (lease,) = fill(broker, pool, 1)
    broker.run(pool.remove_account("host-1"))
    result = broker.run(pool.park_account("host-1", AccountState.LIMITED, "daily limit", until_ms=1))
    assert result.change is Change.DONE
    assert broker.run(pool.accounts())[0].state is AccountState.REMOVING
    end(broker, pool, lease)
    assert broker.run(pool.accounts()) == ()


@pytest.mark.parametrize("action", ["resize", "park", "unpark", "remove"])
def test_account_that_is_not_there_cannot_be_changed(broker: Broker, pool: Pool, action: str) -> None:
    operation = {
        "resize": pool.resize_account("host-1", 3),
        "park": pool.park_account("host-1", AccountState.DISABLED, "x"),
        "unpark": pool.unpark_account("host-1"),
        "remove": pool.remove_account("host-1"),
    }[action]
    assert broker.run(operation).change is Change.STALE
    assert broker.redis.dbsize() == 0


@pytest.mark.parametrize("action", ["add", "resize", "park", "unpark"])
def test_every_action_may_be_repeated(broker: Broker, pool: Pool, action: str) -> None:
    add(broker, pool, "host-1", capacity=3)
    fill(broker, pool, 2)
    operation = {
        "add": pool.add_account(account("host-1", 4)),
        "resize": pool.resize_account("host-1", 1),
        "park": pool.park_account("host-1", AccountState.LIMITED, "x", until_ms=now_ms(broker.redis) + 60_000),
        "unpark": pool.unpark_account("host-1"),
    }[action]
    assert broker.run(operation).change is Change.DONE
    once, events = state(broker, pool), broker.run(pool.status()).events
    assert broker.run(operation).change is Change.DONE
    assert state(broker, pool) == once
    if action != "add":
        assert broker.run(pool.status()).events == events, "what changes nothing is no news"


def test_removing_may_be_repeated(broker: Broker, pool: Pool) -> None:
    add(broker, pool, "host-1")
    (lease,) = fill(broker, pool, 1)
    for _ in range(2):
        assert broker.run(pool.remove_account("host-1")).change is Change.DONE
    end(broker, pool, lease)
    assert broker.run(pool.remove_account("host-1")).change is Change.STALE


def test_unknown_action_is_an_error(broker: Broker, pool: Pool) -> None:
    add(broker, pool, "host-1")
    script = pool.unpark_account("host-1").script
    wrong = Operation("set_account", (1, pool.keys.base, "paint", "host-1", *[""] * 7, 100), str, script)
    with pytest.raises(ScriptError, match="UNKNOWN_ACTION paint"):
        broker.run(wrong)
