"""All scripts in any order against the model, with every invariant checked after every step.

Time passes at once, by making everything stored older. It passes in multiples of 100 s, while every time-out is 50 s
off such a multiple, so what is due in the model is due in Redis, however slow the machine is. Before each operation
10 ms pass, which gives each operation a moment of its own: who is granted which slot is then fully determined.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection
from typing import cast
from unittest.mock import patch

import pytest
import redis as redis_py
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from broker import operations
from broker.client import Broker
from broker.invariants import check
from broker.models import (
    AccountChange,
    AccountState,
    Change,
    ClaimResult,
    Found,
    Granted,
    Lease,
    LeaseId,
    Phase,
    Priority,
    ReleaseReason,
    Reservation,
)
from broker.operations import QUARTER_MS, Operation
from broker.snapshot import read_snapshot
from tests import factories
from tests.lua.model import STALL_MS, HeldLease, PoolModel

STEP_MS = 10
LEAP_MS = 100_000
DRIFT_MS = 40_000
SETTINGS = factories.settings(
    claim_ttl_s=350,
    attempt_ttl_s=250,
    create_ttl_s=650,
    start_grace_s=1050,
    live_ttl_s=850,
    max_hold_s=3050,
    ticket_ttl_s=250,
    queue_max=5,
    reserve_lead_s=450,
)
EXPIRE_BATCH = 2
MOST_MOVES = 1
HOSTS = ("a", "b", "c", "d")
LESSONS = tuple(f"lesson-{number}" for number in range(9))
OWNERS = ("anna", "boris", "clara")
UUIDS = ("u1", "u2", "u3")

lessons = st.sampled_from(LESSONS)
hosts = st.sampled_from(HOSTS)
# Mostly an account is the Zoom user of its own name; sometimes that of another one.
users = st.sampled_from(("", "", "", *HOSTS, "B"))
uuids = st.sampled_from(UUIDS)
capacities = st.sampled_from((1, 1, 1, 1, 2, 2, 3, 10))
choices = st.integers(0, 1000)
waits = st.sampled_from((0, 150, 750, 750))
head_starts = st.sampled_from((0, 150, 3650))


class Pools(RuleBasedStateMachine):
    """A pool in Redis and its model, side by side."""

    def __init__(self, connection: redis_py.Redis) -> None:
        super().__init__()
        connection.flushall()
        self.redis = connection
        self.broker = Broker(connection, SETTINGS)
        self.pool = self.broker.pool(factories.POOL)
        self.model = PoolModel(SETTINGS, batch=EXPIRE_BATCH, most_moves=MOST_MOVES)
        self.granted: list[str] = []
        self.last: Callable[[], None] | None = None

    def do(self, step: Callable[[], None]) -> None:
        """Carry out an operation on both sides, at a moment of its own, and remember it for a repetition."""
        self.pass_ms(STEP_MS)
        step()
        self.last = step

    def pass_ms(self, passed_ms: int) -> None:
        factories.pass_time(self.redis, self.pool, passed_ms)
        self.model.now += passed_ms

    def pick(self, choice: int) -> str:
        """A lease that there is or was; the running ones more often, because they have more to show."""
        number, often = divmod(choice, 4)
        leases = sorted(self.model.leases) if often and self.model.leases else self.granted
        return leases[number % len(leases)]

    def choice_of(self, lease: str) -> int:
        """What picks this running lease."""
        return 4 * sorted(self.model.leases).index(lease) + 1

    def lesson_in(self, some: Collection[str], choice: int) -> str:
        """One of these lessons; sometimes, or if there are none, any lesson."""
        number, often = divmod(choice, 4)
        known = sorted(some) if often and some else LESSONS
        return known[number % len(known)]

    def meeting_of(self, lease: str, choice: int) -> int:
        """The lease's own meeting, or sometimes one more."""
        return LeaseId.parse(lease).fence * 10 + (choice % 10 == 0)

    @initialize(capacities=st.lists(capacities, min_size=1, max_size=3))
    def begin(self, capacities: list[int]) -> None:
        for id, capacity in zip(HOSTS, capacities, strict=False):
            self.add(id, capacity, id)

    # Leases

    @rule(
        lesson=lessons, owner=st.sampled_from(OWNERS), quota=st.sampled_from((2, 4, 100)), wait=waits, ahead=head_starts
    )
    def claim(self, lesson: str, owner: str, quota: int, wait: int, ahead: int) -> None:
        def step() -> None:
            # Not the priorities' own head starts: in sums of leaps these could tie.
            priority = cast(Priority, ahead * 1000)
            result = self.broker.run(self.pool.claim(lesson, owner, max_leases=quota, wait_s=wait, priority=priority))
            fence = 0
            if result.outcome is Granted.GRANTED and result.lease:
                fence = result.lease.id.fence
                assert fence > self.model.fence
                self.granted.append(str(result.lease.id))
            assert self.told(result) == self.model.claim(lesson, owner, quota, fence, wait * 1000, ahead * 1000)

        self.do(step)

    @rule(lesson=lessons, quota=st.sampled_from((1, 2, 100)), wait=waits, ahead=head_starts)
    def claim_for_its_teacher(self, lesson: str, quota: int, wait: int, ahead: int) -> None:
        """Always by the same owner, so that lessons are found again and owners come to their quota."""
        self.claim(lesson, teacher(lesson), quota, wait, ahead)

    def told(self, result: ClaimResult) -> tuple[object, str]:
        if result.ticket:
            return result.outcome, f"{result.ticket.position} of {result.ticket.length}"
        if result.outcome is Granted.QUEUE_FULL:
            return result.outcome, str(result.waiting)
        return result.outcome, str(result.lease.id) if result.lease else ""

    @rule(choice=choices, stranger=st.none() | st.none() | st.sampled_from(OWNERS))
    def cancel(self, choice: int, stranger: str | None) -> None:
        lesson = self.lesson_in(self.model.queue, choice)
        owner = stranger or (self.model.queue[lesson].owner if lesson in self.model.queue else teacher(lesson))

        def step() -> None:
            assert self.broker.run(self.pool.cancel(lesson, owner)).change == self.model.cancel(lesson, owner)

        self.do(step)

    @rule(lesson=lessons, start=st.integers(-12, 24), lasts=st.integers(1, 36))
    def reserve(self, lesson: str, start: int, lasts: int) -> None:
        def step() -> None:
            starts_in = start * LEAP_MS
            ends_in = starts_in + lasts * LEAP_MS - LEAP_MS // 2
            now_ms = factories.now_ms(self.redis)
            told = self.broker.run(self.pool.reserve(lesson, now_ms + starts_in, now_ms + ends_in))
            answer, booking = self.model.reserve(lesson, self.model.now + starts_in, self.model.now + ends_in)
            if told.result is Reservation.OVERBOOKED:
                # The pool counts by quarters of an hour and by its own clock, so it may see a little more overlap.
                assert answer is Reservation.DONE
                most = self.model.fullest(booking, lesson, 2 * QUARTER_MS)
                assert most >= told.reserved >= told.capacity == self.model.capacity(booking.begin)
                assert told.from_ms < told.until_ms
            else:
                assert told.result is answer
            if told.result is Reservation.DONE:
                assert self.model.fullest(booking, lesson, 0) < max(1, self.model.capacity(booking.begin))
                self.model.bookings[lesson] = booking

        self.do(step)

    @rule(choice=choices)
    def unreserve(self, choice: int) -> None:
        lesson = self.lesson_in(self.model.bookings, choice)

        def step() -> None:
            assert self.broker.run(self.pool.unreserve(lesson)).change == self.model.unreserve(lesson)

        self.do(step)

    @precondition(lambda self: self.granted)
    @rule(choice=choices, attempt=st.sampled_from(("one", "two")))
    def begin_creating(self, choice: int, attempt: str) -> None:
        lease = self.pick(choice)

        def step() -> None:
            result = self.broker.run(self.pool.begin_creating(LeaseId.parse(lease), attempt))
            assert result.change == self.model.begin_creating(lease, attempt)

        self.do(step)

    @precondition(lambda self: self.granted)
    @rule(
        choice=choices,
        attempt=st.sampled_from(("one", "two")),
        state=st.sampled_from((AccountState.QUARANTINED, AccountState.LIMITED)),
        leaps=st.integers(0, 12),
    )
    def move(self, choice: int, attempt: str, state: AccountState, leaps: int) -> None:
        id = self.pick(choice)
        known = self.found(id).lease
        if known is not None:
            self.do(lambda: self.moved(known, attempt, state, leaps))

    def moved(self, lease: Lease, attempt: str, state: AccountState, leaps: int) -> None:
        after_ms = leaps * LEAP_MS + LEAP_MS // 2 if leaps else 0
        until_ms = factories.now_ms(self.redis) + after_ms if leaps else 0
        result = self.broker.run(self.pool.move(lease, attempt, state, "trouble", until_ms=until_ms))
        new = str(result.lease.id) if result.lease else ""
        if result.lease and new not in self.granted:
            assert result.lease.id.fence > self.model.fence
            self.granted.append(new)
        until = self.model.now + after_ms if leaps else 0
        fence = result.lease.id.fence if result.lease else 0
        assert (result.outcome, new) == self.model.move(str(lease.id), lease.lesson, attempt, state, until, fence)

    @precondition(lambda self: self.granted)
    @rule(choice=choices, attempt=st.sampled_from(("one", "two")), leaps=st.sampled_from((0, 0, 6, 7)))
    def host_refuses(self, choice: int, attempt: str, leaps: int) -> None:
        """What moves are for; perhaps too late, but before anybody noticed."""
        self.begin_creating(choice, attempt)
        self.pass_ms(leaps * LEAP_MS)
        self.move(choice, attempt, AccountState.QUARANTINED, 3)

    @precondition(lambda self: self.granted)
    @rule(choice=choices, other=choices, uuid=uuids)
    def made_ready(self, choice: int, other: int, uuid: str) -> None:
        lease = self.pick(choice)
        meeting = self.meeting_of(lease, other)

        def step() -> None:
            facts = factories.meeting(meeting, meeting_uuid=uuid)
            result = self.broker.run(self.pool.made_ready(LeaseId.parse(lease), **facts))
            assert result.change == self.model.made_ready(lease, meeting, uuid)

        self.do(step)

    @precondition(lambda self: self.granted)
    @rule(choice=choices, other=choices, uuid=uuids, at=st.integers(0, 3), knows_meeting=st.booleans())
    def went_live(self, choice: int, other: int, uuid: str, at: int, knows_meeting: bool) -> None:
        lease = self.pick(choice)
        meeting = self.meeting_of(lease, other) if knows_meeting else None

        def step() -> None:
            operation = self.pool.went_live(LeaseId.parse(lease), meeting_uuid=uuid, at_ms=at, meeting_id=meeting)
            assert self.broker.run(operation).change == self.model.went_live(lease, uuid, at, meeting)

        self.do(step)

    @precondition(lambda self: self.granted)
    @rule(choice=choices, looks=st.integers(0, 3))
    def record(self, choice: int, looks: int) -> None:
        lease = self.pick(choice)

        def step() -> None:
            result = self.broker.run(self.pool.record(LeaseId.parse(lease), looks=looks))
            assert result.change == self.model.record(lease, looks)

        self.do(step)

    @precondition(lambda self: self.granted)
    @rule(choice=choices)
    def renew(self, choice: int) -> None:
        lease = self.pick(choice)

        def step() -> None:
            assert self.broker.run(self.pool.renew(LeaseId.parse(lease))).change == self.model.renew(lease)

        self.do(step)

    @precondition(lambda self: self.granted)
    @rule(
        picked=st.lists(choices, min_size=1, max_size=4),
        reason=st.sampled_from(ReleaseReason),
        phase=st.none() | st.sampled_from(Phase),
        uuid=st.just("") | uuids,
    )
    def release(self, picked: list[int], reason: ReleaseReason, phase: Phase | None, uuid: str) -> None:
        leases = [self.pick(choice) for choice in picked]

        def step() -> None:
            operation = self.pool.release(
                [LeaseId.parse(lease) for lease in leases], reason, only_phase=phase, only_uuid=uuid
            )
            assert self.broker.run(operation) == self.model.release(leases, reason, phase, uuid)

        self.do(step)

    @rule(lesson=lessons, uuid=uuids, begins=st.booleans())
    def lesson_takes_its_course(self, lesson: str, uuid: str, begins: bool) -> None:
        """What mostly happens; left to chance few leases would get far."""
        self.claim(lesson, teacher(lesson), 100, 0, 0)
        lease = next((lease.id for lease in self.model.leases.values() if lease.lesson == lesson), None)
        if lease:
            self.begin_creating(self.choice_of(lease), "one")
            self.made_ready(self.choice_of(lease), 1, uuid)
            if begins:
                self.went_live(self.choice_of(lease), 1, uuid, 1, True)

    @rule(rush=st.lists(lessons, min_size=4, unique=True))
    def workers_are_down_in_a_rush(self, rush: list[str]) -> None:
        """More claims lapse together than one claim clears away."""
        for lesson in rush:
            self.claim(lesson, teacher(lesson), 100, 0, 0)
        self.pass_ms(4 * LEAP_MS)
        self.claim(rush[-1], teacher(rush[-1]), 100, 0, 0)

    @precondition(lambda self: self.granted)
    @rule(choice=choices, leaps=st.sampled_from((1, 8, 9)))
    def sign_of_life_comes_late(self, choice: int, leaps: int) -> None:
        """Perhaps too late, but before anybody noticed."""
        self.begin_creating(choice, "one")
        self.went_live(choice, 1, "u1", 3, True)
        self.pass_ms(leaps * LEAP_MS)
        self.renew(choice)

    @rule(picked=st.lists(lessons, min_size=3, unique=True), passes=st.booleans(), batch=st.sampled_from((1, 2, 200)))
    def lessons_queue_up(self, picked: list[str], passes: bool, batch: int) -> None:
        """More than there are slots for, mostly; and perhaps they lose patience."""
        for lesson in picked:
            self.claim(lesson, teacher(lesson), 100, 750, 0)
        if passes:
            self.pass_ms(3 * LEAP_MS)
            self.reap(batch)

    @rule()
    def all_deadlines_pass(self) -> None:
        self.pass_ms(31 * LEAP_MS)
        self.reap(200)

    @rule(batch=st.sampled_from((1, 2, 200)))
    def reap(self, batch: int) -> None:
        def step() -> None:
            reaped = self.broker.run(self.pool.reap(batch))
            told = {
                "lapsed": [str(lease) for lease in reaped.lapsed],
                "suspected": [str(lease) for lease in reaped.suspected],
                "stalled": {str(lease) for lease in reaped.stalled},
                "unparked": list(reaped.unparked),
                "more": reaped.more,
            }
            expected = self.model.reap(batch)
            assert told == expected

        self.do(step)

    # Accounts

    @rule(id=hosts, capacity=capacities, user=users)
    def add(self, id: str, capacity: int, user: str) -> None:
        def step() -> None:
            account = factories.account(id, capacity, email=f"{user or id}@school.example")
            wanted, taken_by = self.model.add_account(id, capacity, frozenset(account.names))
            result = self.broker.run(self.pool.add_account(account))
            leases = 0 if taken_by else len(self.model.hosts[id].leases)
            assert (result.change, result.taken_by, result.leases) == (wanted, taken_by, leases)

        self.do(step)

    @rule(id=hosts, capacity=capacities)
    def resize(self, id: str, capacity: int) -> None:
        def step() -> None:
            self.changed(id, self.pool.resize_account(id, capacity), self.model.resize_account(id, capacity))

        self.do(step)

    @rule(
        id=hosts,
        state=st.sampled_from([s for s in AccountState if s not in (AccountState.ACTIVE, AccountState.REMOVING)]),
        leaps=st.integers(0, 12),
    )
    def park(self, id: str, state: AccountState, leaps: int) -> None:
        def step() -> None:
            after_ms = leaps * LEAP_MS + LEAP_MS // 2 if leaps else 0
            until_ms = factories.now_ms(self.redis) + after_ms if leaps else 0
            until = self.model.now + after_ms if leaps else 0
            operation = self.pool.park_account(id, state, "trouble", until_ms=until_ms)
            self.changed(id, operation, self.model.set_state(id, state, until))

        self.do(step)

    @rule(id=hosts)
    def unpark(self, id: str) -> None:
        def step() -> None:
            self.changed(id, self.pool.unpark_account(id), self.model.set_state(id, AccountState.ACTIVE))

        self.do(step)

    @rule(id=hosts)
    def remove(self, id: str) -> None:
        def step() -> None:
            self.changed(id, self.pool.remove_account(id), self.model.set_state(id, AccountState.REMOVING))

        self.do(step)

    def changed(self, id: str, operation: Operation[AccountChange], wanted: Change) -> None:
        result = self.broker.run(operation)
        host = self.model.hosts.get(id)
        assert (result.change, result.leases) == (wanted, len(host.leases) if host else 0)

    # Whatever else may happen

    @rule(leaps=st.integers(1, 12))
    def time_passes(self, leaps: int) -> None:
        self.pass_ms(leaps * LEAP_MS)

    @rule()
    def scripts_are_forgotten(self) -> None:
        self.redis.script_flush()

    @precondition(lambda self: self.last is not None)
    @rule()
    def the_last_operation_comes_again(self) -> None:
        """As when its answer got lost."""
        assert self.last is not None
        self.do(self.last)

    @invariant()
    def the_data_agree_with_themselves_and_with_the_model(self) -> None:
        snapshot = read_snapshot(self.redis, self.pool)
        assert check(snapshot) == []
        model = self.model
        assert snapshot.fence >= model.fence
        assert snapshot.hosts == {name: id for id, host in model.hosts.items() for name in host.names}
        assert set(snapshot.free) == model.slots(free=True)
        assert set(snapshot.parked) == model.slots(free=False)
        assert sorted(snapshot.waiting, key=lambda lesson: snapshot.waiting[lesson]) == model.line()
        used = {lesson: "used_ms" in fields for lesson, fields in snapshot.reservation.items() if fields}
        assert used == {lesson: booking.used for lesson, booking in model.bookings.items()}
        now_ms = snapshot.now_ms - model.now
        held = {slot: fields for slot, fields in snapshot.slots.items() if fields}
        assert set(held) == {lease.slot for lease in model.leases.values()}
        for lease in model.leases.values():
            assert_same(lease, held[lease.slot])
            if lease.phase is not Phase.SUSPECT:
                assert abs(snapshot.leased[lease.slot] - now_ms - lease.deadline) < DRIFT_MS

    @rule()
    def pool_is_looked_at(self) -> None:
        model, running = self.model, self.model.running()
        status = self.broker.run(self.pool.status())
        counts = (status.accounts, status.free, status.leased, status.suspect, status.parked, status.lessons)
        suspect = [lease for lease in model.leases.values() if lease.phase is Phase.SUSPECT]
        empty = [len(model.slots(free=free)) for free in (True, False)]
        assert counts == (len(model.hosts), empty[0], len(running), len(suspect), empty[1], len(model.leases))
        assert status.phases == Counter(lease.phase for lease in running)
        assert (status.waiting, status.reservations) == (len(model.queue), len(model.bookings))
        listed = self.broker.run(self.pool.leases())
        assert [str(lease.id) for lease in listed] == [lease.id for lease in running]
        listed = self.broker.run(self.pool.leases(suspect=True))
        assert {str(lease.id) for lease in listed} == {lease.id for lease in suspect}
        accounts = self.broker.run(self.pool.accounts())
        hosts = sorted(model.hosts.items())
        assert [(a.id, a.capacity, a.state) for a in accounts] == [
            (id, host.capacity, host.state) for id, host in hosts
        ]

    @precondition(lambda self: self.granted)
    @rule(choice=choices)
    def lease_and_meeting_are_looked_up(self, choice: int) -> None:
        id = self.pick(choice)
        held = self.model.leases.get(id)
        assert (self.found(id).lease is not None) == (held is not None)
        if held and held.meeting:
            found = self.broker.run(self.pool.find_meeting(held.meeting)).lease
            assert found is not None
            assert str(found.id) == id

    def found(self, lease: str) -> Found:
        return self.broker.run(self.pool.find_lease(LeaseId.parse(lease)))

    @rule(lesson=lessons)
    def lesson_is_looked_up(self, lesson: str) -> None:
        found = self.broker.run(self.pool.find_lesson(lesson))
        lease = next((lease for lease in self.model.leases.values() if lease.lesson == lesson), None)
        assert (str(found.lease.id) if found.lease else None) == (lease.id if lease else None)
        ticket = self.model.queue.get(lesson)
        position = self.model.line().index(lesson) + 1 if ticket and ticket.patience > self.model.now else None
        assert (found.ticket.position if found.ticket else None) == position
        ended = (str(found.outcome.lease), str(found.outcome.reason)) if found.outcome else None
        assert ended == (None if lease else self.model.outcomes.get(lesson))


def teacher(lesson: str) -> str:
    """The owner who mostly asks for a lesson."""
    return OWNERS[LESSONS.index(lesson) % len(OWNERS)]


def assert_same(lease: HeldLease, fields: dict[str, str] | object) -> None:
    """The record in Redis says what the model says."""
    assert isinstance(fields, dict)
    told = {name: fields.get(name) or "" for name in ("lease", "lesson", "owner", "phase", "was", "attempt")}
    wanted = {"lease": lease.id, "lesson": lease.lesson, "owner": lease.owner, "attempt": lease.attempt}
    wanted |= {"phase": lease.phase, "was": lease.was or ""}
    assert told == wanted
    assert (fields.get("meeting_id"), fields.get("meeting_uuid") or "") == (
        str(lease.meeting) if lease.meeting else None,
        lease.uuid,
    )
    assert (int(fields.get("looks") or 0), int(fields.get("instance_ms") or 0)) == (lease.looks, lease.instance)


@pytest.mark.timeout(300)
def test_scripts_do_what_the_model_does_in_any_order(redis: redis_py.Redis) -> None:
    constants = {"CLAIM_STALL_S": STALL_MS / 1000, "EXPIRE_BATCH": EXPIRE_BATCH, "MOST_MOVES": MOST_MOVES}
    with patch.dict(vars(operations), constants):
        run_state_machine_as_test(
            lambda: Pools(redis),  # type: ignore[arg-type]  # any factory of a machine will do
            settings=settings(
                max_examples=100,
                stateful_step_count=40,
                deadline=None,
                print_blob=True,
                database=None,
                suppress_health_check=list(HealthCheck),
            ),
        )
