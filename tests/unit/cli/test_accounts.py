"""`zoompool accounts`: hosts come, rest, return and leave."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from broker.client import Broker
from broker.models import AccountState, ReleaseReason
from broker.operations import Pool
from tests.unit.cli.running import Run, claim, ok, refused


def test_accounts_are_listed(zoompool: Run, pool: Pool) -> None:
    found = json.loads(ok(zoompool("accounts", "list", "--json")))
    assert found[1] == {
        "id": "host-2",
        "email": "two@school.example",
        "zoom_user_id": "",
        "credential": "default",
        "capacity": 2,
        "state": "active",
        "reason": "",
        "until_ms": 0,
    }
    assert "two@school.example" in ok(zoompool("accounts", "list"))


def test_all_accounts_are_listed_when_they_fill_several_pages(zoompool: Run, broker: Broker, pool: Pool) -> None:
    (template, *_) = broker.run(pool.accounts())
    for number in range(250):
        broker.run(pool.add_account(replace(template, id=f"more-{number:03}", email=f"{number}@school.example")))
    assert len(json.loads(ok(zoompool("accounts", "list", "--json")))) == 252


def test_an_account_is_drained_and_activated(zoompool: Run, broker: Broker, pool: Pool) -> None:
    assert "draining" in ok(zoompool("accounts", "drain", "host-1", "--reason", "summer"))
    account = broker.run(pool.accounts())[0]
    assert (account.state, account.reason) == (AccountState.DRAINING, "summer")
    ok(zoompool("accounts", "disable", "host-1"))
    assert broker.run(pool.accounts())[0].state is AccountState.DISABLED
    ok(zoompool("accounts", "activate", "host-1"))
    assert broker.run(pool.accounts())[0].state is AccountState.ACTIVE


def test_an_account_is_resized(zoompool: Run, broker: Broker, pool: Pool) -> None:
    ok(zoompool("accounts", "resize", "host-1", "4"))
    assert broker.run(pool.status()).free == 6


def test_an_occupied_account_leaves_when_its_lease_ends(zoompool: Run, broker: Broker, pool: Pool) -> None:
    lease = claim(broker, pool, "lesson-1")
    text = ok(zoompool("accounts", "remove", lease.account))
    assert "leaves when its last lease ends; 1 lease on it" in text
    broker.run(pool.release([lease.id], ReleaseReason.ENDED))
    assert lease.account not in [account.id for account in broker.run(pool.accounts())]


@pytest.mark.parametrize("action", ["drain", "disable", "activate", "remove"])
def test_an_unknown_account_is_an_error(action: str, zoompool: Run, pool: Pool) -> None:
    assert "'nobody'" in refused(zoompool("accounts", action, "nobody"), "unknown_account")


def test_an_account_needs_a_registered_credential(zoompool: Run) -> None:
    result = zoompool("accounts", "add", "host-1", "--email", "one@school.example")
    assert "zoompool credentials add default" in refused(result, "unknown_credential")


def test_the_host_me_is_refused(zoompool: Run, pool: Pool) -> None:
    refused(zoompool("accounts", "add", "me", "--email", "one@school.example"), "invalid_name")
    refused(zoompool("accounts", "add", "host-3", "--zoom-user-id", "me"), "invalid_name")


def test_a_zoom_user_is_added_once(zoompool: Run, broker: Broker, pool: Pool) -> None:
    told = refused(zoompool("accounts", "add", "ONE@school.example"), "host_taken")
    assert "that of 'ONE@school.example' is account 'host-1' already" in told
    assert "zoompool accounts remove host-1 --pool default" in told
    assert [account.id for account in broker.run(pool.accounts())] == ["host-1", "host-2"]
    ok(zoompool("accounts", "remove", "host-1"))
    ok(zoompool("accounts", "add", "ONE@school.example"))


def test_an_account_needs_an_address_at_zoom(zoompool: Run, broker: Broker, pool: Pool) -> None:
    assert zoompool("accounts", "add", "host-3").exit_code == 2
    ok(zoompool("accounts", "add", "three@school.example"))
    assert broker.run(pool.accounts())[-1].host == "three@school.example"


@pytest.mark.parametrize("capacity", ["0", "11"])
def test_a_capacity_out_of_bounds_is_wrong_usage(capacity: str, zoompool: Run, pool: Pool) -> None:
    assert zoompool("accounts", "resize", "host-1", capacity).exit_code == 2
