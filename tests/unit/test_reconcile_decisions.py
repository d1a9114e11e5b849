"""What the reconciler decides, without Zoom and without Redis."""

from __future__ import annotations

import pytest

from broker.models import Lease, LeaseId, Phase
from workers.reconcile import LOOKS, Decision, decide

MEETING = 81234567890


def a_lease(phase: Phase, *, meeting_id: int | None = MEETING, looks: int = 0, now_ms: int = 1_000) -> Lease:
    return Lease(
        id=LeaseId("host", 0, 7),
        pool="default",
        lesson="lesson",
        owner="teacher",
        phase=phase,
        granted_ms=0,
        since_ms=0,
        deadline_ms=5_000,
        hold_until_ms=10_000,
        now_ms=now_ms,
        meeting_id=meeting_id,
        looks=looks,
    )


RUNS = {MEETING: "uuid"}
IDLE: dict[int, str] = {}


@pytest.mark.parametrize(
    ("lease", "live", "decision"),
    [
        (a_lease(Phase.SUSPECT), RUNS, Decision.GO_LIVE),
        (a_lease(Phase.SUSPECT, now_ms=10_000), RUNS, Decision.FINISH),
        (a_lease(Phase.SUSPECT), IDLE, Decision.FINISH),
        (a_lease(Phase.SUSPECT), {MEETING + 1: "another"}, Decision.FINISH),
        (a_lease(Phase.SUSPECT, meeting_id=None), IDLE, Decision.SEARCH),
        (a_lease(Phase.SUSPECT, meeting_id=None), RUNS, Decision.SEARCH),
        (a_lease(Phase.LIVE), RUNS, Decision.RENEW),
        (a_lease(Phase.LIVE), IDLE, Decision.LOOK_AGAIN),
        (a_lease(Phase.LIVE, looks=LOOKS - 1), IDLE, Decision.FINISH),
        (a_lease(Phase.LIVE, looks=LOOKS - 1), RUNS, Decision.RENEW),
        (a_lease(Phase.READY), RUNS, Decision.GO_LIVE),
        (a_lease(Phase.READY), IDLE, Decision.NOTHING),
        (a_lease(Phase.CLAIMED, meeting_id=None), IDLE, Decision.NOTHING),
        (a_lease(Phase.CREATING, meeting_id=None), RUNS, Decision.NOTHING),
    ],
)
def test_decision_follows_what_zoom_says(lease: Lease, live: dict[int, str], decision: Decision) -> None:
    assert decide(lease, live) is decision
