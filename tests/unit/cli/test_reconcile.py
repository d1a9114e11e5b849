"""`zoompool reconcile`: what Zoom says, what follows, and why; on a simulated Zoom."""

from __future__ import annotations

import functools
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from typer.testing import Result

from broker.client import Broker
from broker.models import Lease, Phase
from broker.operations import Pool
from broker.testing.zoom_simulator import FaultAction, FaultRule, ZoomSimulator
from tests import factories
from tests.unit.cli.running import ok

Command = Callable[..., Awaitable[Result]]


@pytest.fixture
def reconcile(beside_zoom: Command) -> Command:
    return functools.partial(beside_zoom, "reconcile")


def report(result: Result) -> dict[str, Any]:
    (found,) = json.loads(result.stdout)
    assert isinstance(found, dict)
    return found


@pytest.fixture
def suspect(broker: Broker, pool: Pool) -> Lease:
    return factories.lease_in(Phase.SUSPECT, broker, pool)


async def test_dry_run_shows_what_it_would_do_and_why_and_does_nothing(
    reconcile: Command, suspect: Lease, broker: Broker, pool: Pool
) -> None:
    result = await reconcile("--dry-run")
    text = ok(result)
    for word in (str(suspect.id), "algebra", "not running", "finish", "its time passed", "nothing was changed"):
        assert word in text
    assert broker.run(pool.find_lease(suspect.id)).lease is not None


async def test_what_the_dry_run_says_is_then_done(
    reconcile: Command, suspect: Lease, broker: Broker, pool: Pool
) -> None:
    dry = report(await reconcile("--dry-run", "--json"))
    wet = report(await reconcile("--json"))
    assert dry == wet
    assert wet["decisions"] == [
        {
            "account": suspect.account,
            "lease": str(suspect.id),
            "lesson": "algebra",
            "phase": "suspect",
            "meeting_id": suspect.meeting_id,
            "zoom": "not running",
            "decision": "finish",
            "capacity": None,
            "why": "its time passed, and it does not run",
        }
    ]
    assert broker.run(pool.find_lease(suspect.id)).lease is None
    assert report(await reconcile("--json"))["asked"] == 0
    assert report(await reconcile("--json", "--all"))["asked"] == 2


async def test_host_that_zoom_says_nothing_about_is_named_and_makes_the_exit_code(
    reconcile: Command, suspect: Lease, zoom: ZoomSimulator
) -> None:
    zoom.faults.add(FaultRule(action=FaultAction.RESPOND, status=503, path="/v2/users/one*"))
    result = await reconcile("--json")
    assert result.exit_code == 1
    (failure,) = report(result)["failures"]
    assert (failure["account"], failure["code"]) == ("host-1", "zoom_unavailable")
    assert "host-1" in (await reconcile("--dry-run")).stderr


async def test_second_run_at_the_same_time_leaves_the_pool_to_the_first(
    reconcile: Command, suspect: Lease, broker: Broker, pool: Pool
) -> None:
    broker.redis.set(pool.keys.guard("reconcile"), "somebody else", px=60_000)
    result = await reconcile()
    assert result.exit_code == 1
    assert "another run is at work" in result.stderr
    assert broker.run(pool.find_lease(suspect.id)).lease is not None
    ok(await reconcile("--dry-run"))


async def test_only_the_named_pool_is_looked_at(reconcile: Command, suspect: Lease) -> None:
    assert report(await reconcile("--json", "--dry-run", "--pool", "other"))["asked"] == 0


async def test_no_link_into_a_lesson_is_shown(reconcile: Command, suspect: Lease) -> None:
    assert suspect.join_url
    for result in (await reconcile("--dry-run"), await reconcile("--dry-run", "--json")):
        assert "zoom.example" not in result.output
