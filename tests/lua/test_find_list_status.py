"""find, list and status: what can be read, and that reading is bounded and changes nothing."""

from __future__ import annotations

from typing import Any

import pytest
import redis as redis_py

from broker.client import Broker
from broker.errors import ScriptError
from broker.models import AccountState, LeaseId, Phase, ReleaseReason
from broker.operations import Operation, Pool
from tests.factories import MEETING_ID, add, claimed, expire, lease_in, pass_time

PAGE = 500


def test_lesson_is_found_while_it_has_a_lease_and_then_its_outcome(broker: Broker, pool: Pool) -> None:
    add(broker, pool, "host-1")
    nothing = broker.run(pool.find_lesson("algebra"))
    assert (nothing.lease, nothing.outcome) == (None, None)
    lease = lease_in(Phase.READY, broker, pool)
    found = broker.run(pool.find_lesson("algebra"))
    assert (found.lease is not None, found.outcome) == (True, None)
    broker.run(pool.release([lease.id], ReleaseReason.ENDED))
    after = broker.run(pool.find_lesson("algebra"))
    assert after.lease is None
    assert after.outcome is not None


def test_lease_and_meeting_are_found_only_while_they_last(broker: Broker, pool: Pool) -> None:
    add(broker, pool, "host-1")
    lease = lease_in(Phase.READY, broker, pool)
    by_meeting = broker.run(pool.find_meeting(MEETING_ID)).lease
    by_id = broker.run(pool.find_lease(lease.id)).lease
    assert by_meeting is not None
    assert by_id is not None
    assert by_meeting.id == by_id.id == lease.id
    assert by_id.deadline_ms == lease.deadline_ms
    broker.run(pool.release([lease.id], ReleaseReason.ENDED))
    claimed(broker, pool, "biology")
    assert broker.run(pool.find_meeting(MEETING_ID)).lease is None
    assert broker.run(pool.find_lease(lease.id)).lease is None
    assert broker.run(pool.find_lease(LeaseId("nobody", 0, 1))).lease is None


def test_leases_are_listed_nearest_deadline_first_page_by_page(broker: Broker, pool: Pool) -> None:
    add(broker, pool, "host-1", capacity=10)
    wanted = []
    for number in range(7):
        wanted.append(claimed(broker, pool, f"lesson-{number}").id)
        pass_time(broker.redis, pool, 10)
    pages = [broker.run(pool.leases(offset=offset, count=3)) for offset in (0, 3, 6, 9)]
    assert [len(page) for page in pages] == [3, 3, 1, 0]
    listed = [lease for page in pages for lease in page]
    assert [lease.id for lease in listed] == wanted
    assert sorted(lease.deadline_ms for lease in listed) == [lease.deadline_ms for lease in listed]


def test_suspect_leases_are_a_list_of_their_own_oldest_first(broker: Broker, pool: Pool) -> None:
    add(broker, pool, "host-1", capacity=3)
    first = lease_in(Phase.SUSPECT, broker, pool, "a", meeting_id=1)
    pass_time(broker.redis, pool, 1000)
    second = lease_in(Phase.SUSPECT, broker, pool, "b", meeting_id=2)
    claimed(broker, pool, "c")
    listed = broker.run(pool.leases(suspect=True))
    assert [lease.id for lease in listed] == [first.id, second.id]
    assert {lease.deadline_ms for lease in listed} == {0}
    assert [lease.lesson for lease in broker.run(pool.leases())] == ["c"]


def test_accounts_are_listed_in_the_order_of_their_ids_page_by_page(broker: Broker, pool: Pool) -> None:
    ids = [f"host-{number:02d}" for number in range(12)]
    add(broker, pool, *reversed(ids))
    broker.run(pool.park_account("host-03", AccountState.DISABLED, "x"))
    pages = [broker.run(pool.accounts(offset=offset, count=5)) for offset in (0, 5, 10, 15)]
    assert [account.id for page in pages for account in page] == ids
    assert [len(page) for page in pages] == [5, 5, 2, 0]
    assert pages[0][3].state is AccountState.DISABLED


def test_page_is_bounded_whatever_is_asked_for(broker: Broker, pool: Pool) -> None:
    ids = [f"host-{number:03d}" for number in range(60)]
    add(broker, pool, *ids, capacity=10)
    for number in range(PAGE + 20):
        claimed(broker, pool, f"lesson-{number}")
    assert len(broker.run(pool.leases(count=10_000))) == PAGE
    assert len(broker.run(pool.leases(offset=PAGE, count=10_000))) == 20


@pytest.mark.parametrize("count", [0, -1, -5])
def test_page_of_nothing_is_empty(broker: Broker, pool: Pool, count: int) -> None:
    add(broker, pool, "host-1", "host-2")
    claimed(broker, pool, "a")
    claimed(broker, pool, "b")
    assert broker.run(pool.leases(count=count)) == ()
    assert broker.run(pool.accounts(count=count)) == ()


def test_page_does_not_begin_before_the_first(broker: Broker, pool: Pool) -> None:
    add(broker, pool, "host-1", "host-2")
    first = claimed(broker, pool, "a")
    pass_time(broker.redis, pool, 10)
    claimed(broker, pool, "b")
    assert [lease.id for lease in broker.run(pool.leases(offset=-1, count=1))] == [first.id]
    assert [account.id for account in broker.run(pool.accounts(offset=-1, count=1))] == ["host-1"]


@pytest.mark.parametrize("name", ["find", "list"])
def test_unknown_kind_is_an_error(broker: Broker, pool: Pool, name: str) -> None:
    operations: dict[str, Operation[Any]] = {"find": pool.find_lesson("x"), "list": pool.leases()}
    operation = operations[name]
    wrong = Operation(name, (1, pool.keys.base, "weather", 0, 1)[: len(operation.command)], str, operation.script)
    with pytest.raises(ScriptError, match="UNKNOWN_KIND weather"):
        broker.run(wrong)


def test_status_counts_everything(broker: Broker, pool: Pool) -> None:
    add(broker, pool, "host-1", capacity=6)
    add(broker, pool, "host-2", capacity=2)
    broker.run(pool.park_account("host-2", AccountState.DISABLED, "x"))
    lease_in(Phase.SUSPECT, broker, pool, "e", meeting_id=3)
    lease_in(Phase.LIVE, broker, pool, "a", meeting_id=1)
    lease_in(Phase.READY, broker, pool, "b", meeting_id=2)
    lease_in(Phase.CREATING, broker, pool, "c")
    soonest = lease_in(Phase.CLAIMED, broker, pool, "d")
    status = broker.run(pool.status())
    assert (status.accounts, status.slots, status.lessons, status.fence) == (2, 8, 5, soonest.id.fence)
    assert (status.free, status.leased, status.suspect, status.parked) == (1, 4, 1, 2)
    assert status.phases == {"live": 1, "ready": 1, "creating": 1, "claimed": 1}
    assert status.next_deadline_ms == soonest.deadline_ms
    assert status.events == len(broker.run(pool.events(count=1000)))


def test_status_of_a_pool_that_is_not_there_is_all_zeros(broker: Broker) -> None:
    status = broker.run(broker.pool("nowhere").status())
    assert (status.accounts, status.slots, status.lessons, status.fence, status.events) == (0, 0, 0, 0, 0)
    assert (status.phases, status.next_deadline_ms) == ({}, 0)
    assert broker.redis.dbsize() == 0


def test_reading_changes_nothing_even_of_what_is_overdue(broker: Broker, pool: Pool, redis_url: str) -> None:
    add(broker, pool, "host-1", capacity=2)
    lease = lease_in(Phase.CREATING, broker, pool)
    expire(broker, pool, lease.id.slot)

    def everything() -> dict[str, object]:
        with redis_py.Redis.from_url(redis_url, socket_timeout=10) as raw:
            return {str(key): raw.dump(key) for key in raw.scan_iter("*")}

    before = everything()
    operations: list[Operation[Any]] = [
        pool.find_lesson("algebra"),
        pool.find_lease(lease.id),
        pool.leases(),
        pool.accounts(),
        pool.status(),
        pool.events(),
        pool.dashboard(),
    ]
    for operation in operations:
        broker.run(operation)
    assert everything() == before
