"""Quarantined accounts return when Zoom says that they can host, and are asked about less and less often until then."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from broker.models import FOREIGN_MEETING, Account, AccountState, Credential
from broker.registry import credentials
from broker.testing.zoom_simulator import FaultAction, FaultRule
from broker.testing.zoom_simulator.entities import Host
from broker.testing.zoom_simulator.settings import UserStatus, UserType
from tests.factories import settings
from tests.integration.conftest import School
from workers.probe import Probes, probe

HOST = "host01"
GET_USER: dict[str, Any] = {"method": "GET", "path": "/v2/users/*"}
LICENCE = "zoom_host_not_allowed: no licence"
MINUTE_MS = 60_000


async def park(school: School, reason: str, state: AccountState = AccountState.QUARANTINED) -> None:
    await school.broker.run(school.pool.park_account(HOST, state, reason))


async def account(school: School) -> Account:
    found = await school.broker.run(school.pool.account(HOST))
    assert found is not None
    return found


async def probes(school: School) -> Probes:
    stored: Any = await school.broker.redis.hget(school.pool.keys.probes, HOST)
    return Probes.parse(stored)


async def pass_minutes(school: School, minutes: int) -> None:
    """Let the last probe lie further back."""
    now = await probes(school)
    earlier = replace(now, last_ms=now.last_ms - minutes * MINUTE_MS)
    await school.broker.redis.hset(school.pool.keys.probes, HOST, str(earlier))


def user(school: School) -> Host:
    """The account's user at Zoom."""
    spec = school.zoom.settings.hosts[0]
    return school.zoom.world.hosts.find(spec.account_id, spec.email)


async def test_account_returns_when_its_user_can_host(school: School) -> None:
    await park(school, LICENCE)
    assert await probe() == "1 asked, 1 returned"
    assert (await account(school)).state is AccountState.ACTIVE
    assert (await school.broker.run(school.pool.status())).free == 3


@pytest.mark.parametrize(
    "change", [{"status": UserStatus.INACTIVE}, {"type": UserType.UNASSIGNED}], ids=["inactive", "without licence"]
)
async def test_account_stays_out_while_its_user_cannot_host(school: School, change: dict[str, Any]) -> None:
    await park(school, LICENCE)
    before = {name: getattr(user(school), name) for name in change}
    for name, value in change.items():
        setattr(user(school), name, value)
    assert await probe() == "1 asked, 0 returned"
    assert (await account(school)).reason == LICENCE
    for name, value in before.items():
        setattr(user(school), name, value)
    assert await probe() == "0 asked, 0 returned", "not again so soon"
    await pass_minutes(school, 5)
    assert await probe() == "1 asked, 1 returned"


async def test_pauses_grow_to_an_hour_and_an_hour_it_stays(school: School) -> None:
    await park(school, LICENCE)
    user(school).status = UserStatus.INACTIVE
    for pause in (5, 10, 20, 40, 60, 60):
        assert await probe() == "1 asked, 0 returned"
        await pass_minutes(school, pause // 2)
        assert await probe() == "0 asked, 0 returned"
        await pass_minutes(school, pause - pause // 2)


async def test_account_that_comes_and_goes_does_not_begin_with_short_pauses_again(school: School) -> None:
    for _ in range(3):
        await park(school, LICENCE)
        assert await probe() == "1 asked, 1 returned"
        await pass_minutes(school, 40)
    assert (await probes(school)).count == 3
    await pass_minutes(school, 5 * 60)
    await park(school, LICENCE)
    assert await probe() == "1 asked, 1 returned"
    assert (await probes(school)).count == 1, "a quiet time makes up for it"


async def test_what_zoom_cannot_answer_does_not_count(school: School) -> None:
    await park(school, LICENCE)
    school.zoom.faults.add(FaultRule(action=FaultAction.RESPOND, status=503, times=3, **GET_USER))
    assert await probe() == "1 asked, 0 returned"
    assert (await probes(school)).count == 0
    assert await probe() == "1 asked, 1 returned"


@pytest.mark.parametrize(
    ("state", "reason"),
    [
        (AccountState.QUARANTINED, f"{FOREIGN_MEETING}: a meeting that nobody leased runs on this host"),
        (AccountState.DISABLED, "repairs"),
        (AccountState.DRAINING, "summer"),
        (AccountState.LIMITED, "zoom_daily_limit: used up"),
    ],
)
async def test_accounts_that_are_out_for_another_reason_are_left_alone(
    school: School, state: AccountState, reason: str
) -> None:
    await park(school, reason, state)
    assert await probe() == "0 asked, 0 returned"
    assert (await account(school)).state is state


async def test_rejected_credential_is_probed_by_fetching_a_token(school: School) -> None:
    app = school.zoom.settings.apps[0]
    right = Credential("default", app.account_id, app.client_id, app.client_secret)
    await credentials.save(school.broker.redis, school.box, replace(right, client_id="no-such-client"))
    await park(school, "zoom_credential_rejected: invalid_client")
    assert await probe() == "1 asked, 0 returned"
    assert await probe() == "0 asked, 0 returned"
    await credentials.save(school.broker.redis, school.box, right)
    assert await probe() == "1 asked, 1 returned", "it was mended, so there is no reason to wait"


async def test_credential_without_the_scopes_keeps_its_accounts_out_until_it_has_them(school: School) -> None:
    app = next(iter(school.zoom.settings.apps))
    await park(school, "zoom_scope_missing: the OAuth app lacks scopes")
    scopes = app.scopes
    app.scopes = tuple(scope for scope in scopes if "write" not in scope)
    assert await probe() == "1 asked, 0 returned"
    app.scopes = scopes
    await pass_minutes(school, 5)
    assert await probe() == "1 asked, 1 returned"


async def test_missing_credential_keeps_the_account_out(school: School) -> None:
    await credentials.delete(school.broker.redis, "default")
    await park(school, "unknown_credential: it is gone")
    assert await probe() == "1 asked, 0 returned"


def test_pauses_have_a_cap_however_often_an_account_was_probed() -> None:
    config = settings()
    assert Probes(10_000, 0).next_ms(config) == Probes(6, 0).next_ms(config) <= 3_600_000
