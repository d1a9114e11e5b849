"""What goes wrong in a chaos run, as drawn: the same for the same seed, all of it every minute, each long enough."""

from __future__ import annotations

from itertools import pairwise

import pytest

from broker.testing.chaos.plan import PROCESSES, Fault, Kind, draw
from broker.testing.chaos.run import SETTINGS, accounts, plan

HOSTS = [account.email for account in accounts()]
SEEDS = range(12)


def lasting(faults: tuple[Fault, ...], fault: Fault) -> list[Fault]:
    """The other faults that begin while this one lasts."""
    return [other for other in faults if other is not fault and fault.at_s <= other.at_s <= fault.ends_s]


def test_same_seed_draws_the_same_and_another_seed_another() -> None:
    assert draw(7, 60, HOSTS) == draw(7, 60, HOSTS)
    assert draw(7, 60, HOSTS) != draw(8, 60, HOSTS)


def test_longer_run_begins_as_the_shorter_one_does() -> None:
    longer = [fault for fault in draw(7, 180, HOSTS) if fault.ends_s < 100]
    assert longer == [fault for fault in draw(7, 100, HOSTS) if fault.ends_s < 100]


@pytest.mark.parametrize("seed", SEEDS)
def test_every_minute_has_every_kind_and_twenty_kills(seed: int) -> None:
    faults = draw(seed, 120, HOSTS)
    for begins_s in (0, 60):
        minute = [fault for fault in faults if begins_s <= fault.at_s < begins_s + 60]
        assert {fault.kind for fault in minute} == set(Kind)
        assert sum(fault.kind.is_kill for fault in minute) >= 20
        assert sum(fault.kind is Kind.KILL_REDIS for fault in minute) >= 6


@pytest.mark.parametrize("seed", SEEDS)
def test_freeze_outlives_a_claim_and_an_attempt_and_is_not_ended_by_a_kill(seed: int) -> None:
    faults = draw(seed, 120, HOSTS)
    freezes = [fault for fault in faults if fault.kind.is_freeze]
    assert freezes
    for freeze in freezes:
        assert freeze.lasts_s > max(SETTINGS["claim_ttl_s"], SETTINGS["attempt_ttl_s"])
        assert not [other for other in lasting(faults, freeze) if other.kind.is_kill and other.target == freeze.target]


@pytest.mark.parametrize("seed", SEEDS)
def test_targets_exist_and_all_is_in_order_and_put_right_when_the_run_ends(seed: int) -> None:
    faults = plan(seed, 75)
    processes = {name for names in PROCESSES.values() for name in names}
    for fault in faults:
        assert 0 < fault.at_s <= fault.ends_s <= 75.001
        if fault.kind.part:
            assert fault.target in PROCESSES[fault.kind.part]
        elif fault.kind.concerns_host:
            assert fault.target in HOSTS
        else:
            assert fault.target == ""
    assert all(earlier.at_s <= later.at_s for earlier, later in pairwise(faults))
    assert {fault.target for fault in plan(seed, 300) if fault.kind.is_kill} == processes


def test_without_hosts_there_is_no_plan() -> None:
    with pytest.raises(ValueError, match="at least one host"):
        draw(1, 60, [])
