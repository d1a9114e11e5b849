"""What the reconciler decides, without Zoom and without Redis."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from broker.models import FOREIGN_MEETING, Account, AccountState, Lease, LeaseId, Phase
from broker.zoom import ZoomError
from broker.zoom.errors import Kind
from broker.zoom.models import Meeting, User
from tests import factories
from workers.decisions import LOOKS, Decision, HostFacts, Policy, Stray, Verb, decide

MEETING = 81234567890
NOW = 1_000_000
HOLD = 2_000_000
RUNNING = {MEETING: Meeting(id=MEETING, uuid="first==")}
IDLE: dict[int, Meeting] = {}
POLICY = Policy(grace_ms=30_000, look_gap_ms=45_000, overrun="end", licensed_capacity=2)
ACCOUNT = factories.account("host", 2)
REFUSAL = ZoomError("no licence", code="zoom_host_not_allowed", kind=Kind.HOST)
OLD_LOOK = NOW - POLICY.look_gap_ms


def a_lease(phase: Phase, **changes: Any) -> Lease:
    """A lease that has been in its phase for long."""
    values: dict[str, Any] = {
        "id": LeaseId("host", 0, 7),
        "pool": "default",
        "lesson": "lesson",
        "owner": "teacher",
        "phase": phase,
        "granted_ms": 0,
        "since_ms": 0,
        "deadline_ms": 5_000,
        "hold_until_ms": HOLD,
        "now_ms": NOW,
        "meeting_id": MEETING,
        "meeting_uuid": "first==",
    }
    return Lease(**(values | changes))


def decided(lease: Lease, running: dict[int, Meeting], policy: Policy = POLICY, **facts: Any) -> Decision:
    (decision,) = decide(HostFacts(ACCOUNT, lease.now_ms, (lease,), running, **facts), policy)
    return decision


@pytest.mark.parametrize(
    ("lease", "running", "verb"),
    [
        (a_lease(Phase.SUSPECT), RUNNING, Verb.GO_LIVE),
        (a_lease(Phase.SUSPECT, now_ms=HOLD), RUNNING, Verb.FINISH),
        (a_lease(Phase.SUSPECT), IDLE, Verb.FINISH),
        (a_lease(Phase.SUSPECT, since_ms=NOW), IDLE, Verb.FINISH),
        (a_lease(Phase.SUSPECT, meeting_id=None), IDLE, Verb.SEARCH),
        (a_lease(Phase.SUSPECT, meeting_id=None), RUNNING, Verb.SEARCH),
        (a_lease(Phase.LIVE), RUNNING, Verb.RENEW),
        (a_lease(Phase.LIVE, meeting_uuid="older=="), RUNNING, Verb.GO_LIVE),
        (a_lease(Phase.LIVE), IDLE, Verb.LOOK_AGAIN),
        (a_lease(Phase.LIVE, looks=LOOKS - 1, look_ms=OLD_LOOK), IDLE, Verb.FINISH),
        (a_lease(Phase.LIVE, looks=LOOKS - 1, look_ms=OLD_LOOK + 1), IDLE, Verb.NOTHING),
        (a_lease(Phase.LIVE, looks=LOOKS - 1, look_ms=OLD_LOOK), RUNNING, Verb.RENEW),
        (a_lease(Phase.LIVE, since_ms=NOW - 29_999), IDLE, Verb.NOTHING),
        (a_lease(Phase.READY), RUNNING, Verb.GO_LIVE),
        (a_lease(Phase.READY, since_ms=NOW - 29_999), RUNNING, Verb.NOTHING),
        (a_lease(Phase.READY), IDLE, Verb.NOTHING),
        (a_lease(Phase.CLAIMED, meeting_id=None), IDLE, Verb.NOTHING),
        (a_lease(Phase.CREATING, meeting_id=None), RUNNING, Verb.NOTHING),
    ],
)
def test_decision_about_a_lease_follows_what_zoom_says(lease: Lease, running: dict[int, Meeting], verb: Verb) -> None:
    decision = decided(lease, running)
    assert decision.verb is verb
    assert decision.why


@pytest.mark.parametrize(("overrun", "verb"), [("extend", Verb.EXTEND), ("warn", Verb.WARN), ("end", Verb.FINISH)])
def test_lesson_past_its_longest_hold_is_treated_by_the_policy(overrun: Any, verb: Verb) -> None:
    lease = a_lease(Phase.SUSPECT, now_ms=HOLD)
    policy = replace(POLICY, overrun=overrun)
    assert decided(lease, RUNNING, policy).verb is verb
    assert decided(lease, IDLE, policy).verb is Verb.FINISH


@pytest.mark.parametrize(
    ("phase", "verb"),
    [(Phase.SUSPECT, Verb.ABANDON), (Phase.LIVE, Verb.NOTHING), (Phase.READY, Verb.NOTHING)],
)
def test_without_zooms_word_only_suspect_leases_end(phase: Phase, verb: Verb) -> None:
    facts = HostFacts(ACCOUNT, NOW, (a_lease(phase),), refusal=REFUSAL)
    first, second = decide(facts, POLICY)
    assert (first.verb, first.why) == (Verb.PARK, "zoom_host_not_allowed: no licence"), "before its slot is freed"
    assert second.verb is verb


OURS = LeaseId("host", 1, 3)


@pytest.mark.parametrize(
    ("stray", "verb"),
    [
        (Stray(RUNNING[MEETING], True, OURS), Verb.WATCH),
        (Stray(RUNNING[MEETING], True, OURS, NOW - 29_999), Verb.NOTHING),
        (Stray(RUNNING[MEETING], True, OURS, NOW - 30_000), Verb.DELETE),
        (Stray(RUNNING[MEETING], False, OURS, NOW - 30_000), Verb.DELETE),
    ],
)
def test_meeting_whose_lease_is_over_is_deleted_after_a_grace(stray: Stray, verb: Verb) -> None:
    (decision,) = decide(HostFacts(ACCOUNT, NOW, strays=(stray,)), POLICY)
    assert decision.verb is verb
    assert str(OURS) in decision.why


STRANGERS = (Stray(RUNNING[MEETING], True),)
PARKED_BY_US = replace(ACCOUNT, state=AccountState.QUARANTINED, reason=f"{FOREIGN_MEETING}: a meeting")


@pytest.mark.parametrize(
    ("account", "strays", "verbs"),
    [
        (ACCOUNT, STRANGERS, [Verb.PARK]),
        (PARKED_BY_US, STRANGERS, []),
        (PARKED_BY_US, (), [Verb.UNPARK]),
        (replace(PARKED_BY_US, reason="zoom_host_inactive"), (), []),
        (replace(PARKED_BY_US, state=AccountState.DISABLED), (), []),
        (replace(ACCOUNT, state=AccountState.DRAINING), STRANGERS, []),
    ],
)
def test_host_with_a_meeting_that_nobody_leased_is_out_until_that_is_over(
    account: Account, strays: tuple[Stray, ...], verbs: list[Verb]
) -> None:
    decisions = decide(HostFacts(account, NOW, strays=strays), POLICY)
    assert [decision.verb for decision in decisions] == verbs
    if verbs == [Verb.PARK]:
        assert decisions[0].why.startswith(FOREIGN_MEETING)


def user(type: int, status: str = "active") -> User:
    return User(id="u", type=type, status=status)


@pytest.mark.parametrize(
    ("capacity", "who", "lowered_from", "expected"),
    [
        (2, user(2), 0, []),
        (2, user(1), 0, [(Verb.RESIZE, 1)]),
        (1, user(1), 2, []),
        (1, user(2), 2, [(Verb.RESIZE, 2)]),
        (1, user(2), 0, []),
        (1, user(2), 3, []),
        (2, user(4), 0, [(Verb.PARK, 0)]),
        (2, user(2, "inactive"), 0, [(Verb.PARK, 0)]),
    ],
)
def test_capacity_follows_the_licence_but_never_exceeds_what_an_operator_gave(
    capacity: int, who: User, lowered_from: int, expected: list[tuple[Verb, int]]
) -> None:
    facts = HostFacts(replace(ACCOUNT, capacity=capacity), NOW, user=who, lowered_from=lowered_from)
    assert [(decision.verb, decision.capacity) for decision in decide(facts, POLICY)] == expected
