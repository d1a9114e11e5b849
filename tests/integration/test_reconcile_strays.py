"""Meetings at Zoom that no lease wants, and hosts that are not what we think they are."""

from __future__ import annotations

from typing import Any

import pytest

from broker.models import FOREIGN_MEETING, Account, AccountState, LeaseId, Phase, ReleaseReason
from broker.operations import Pool
from broker.testing.zoom_simulator import Meeting, Role, UserStatus, UserType
from broker.testing.zoom_simulator.directory import HostPatch
from broker.testing.zoom_simulator.requests import CreateBody
from broker.zoom import marker
from tests.integration.conftest import School
from tests.integration.test_reconcile import expire
from tests.integration.test_webhook_events import phase, ready
from workers.reconcile import reconcile


@pytest.fixture(autouse=True)
def always_whole(school: School, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every look is a look at the whole host."""
    monkeypatch.setenv("ZOOMPOOL_RECONCILE_ROTATION_S", "0.001")


def meet(school: School, agenda: str = "", *, host: int = 0, running: bool = True) -> Meeting:
    """A meeting that the broker did not make."""
    world = school.zoom.world
    body = CreateBody(topic="Staff", type=2, agenda=agenda, duration=30)
    made = world.create_meeting(
        school.zoom.settings.apps[0].account_id, school.zoom.settings.hosts[host].email, lambda: body
    )
    if running:
        world.join(made.id, "Somebody", Role.HOST)
    return made


async def account(school: School, id: str = "host01", pool: Pool | None = None) -> Account:
    found = await school.broker.run((pool or school.pool).account(id))
    assert found is not None
    return found


async def test_host_with_a_meeting_that_nobody_leased_is_out_until_that_is_over(school: School) -> None:
    foreign = meet(school)
    await reconcile()
    parked = await account(school)
    assert (parked.state, parked.reason.split(":")[0]) == (AccountState.QUARANTINED, FOREIGN_MEETING)
    assert str(foreign.id) in parked.reason
    await reconcile()
    assert (await account(school)).state is AccountState.QUARANTINED
    school.zoom.world.end_by_host(foreign.id)
    await reconcile()
    assert (await account(school)).state is AccountState.ACTIVE
    assert school.meetings() == [foreign.id], "it is not ours to delete"


async def test_host_that_an_operator_took_out_stays_out(school: School) -> None:
    await school.broker.run(school.pool.park_account("host01", AccountState.DISABLED, "broken microphone"))
    foreign = meet(school)
    await reconcile()
    school.zoom.world.end_by_host(foreign.id)
    await reconcile()
    assert (await account(school)).reason == "broken microphone"


async def test_meeting_that_only_stands_in_a_calendar_disturbs_nobody(school: School) -> None:
    planned = meet(school, running=False)
    assert await reconcile() == "nothing to do"
    assert (await account(school)).state is AccountState.ACTIVE
    assert school.meetings() == [planned.id]


async def test_second_meeting_beside_a_lesson_takes_the_host_out(school: School) -> None:
    lease = await ready(school)
    assert lease.meeting_id is not None
    school.zoom.world.join(lease.meeting_id, "Anna", Role.HOST)
    meet(school, host=int(lease.account.removeprefix("host")) - 1)
    await reconcile()
    assert (await account(school, lease.account)).state is AccountState.QUARANTINED
    assert await phase(school, lease) is Phase.LIVE or school.zoom.world.meetings[lease.meeting_id].ends


@pytest.mark.parametrize("running", [True, False], ids=["running", "idle"])
async def test_meeting_whose_lease_is_over_is_deleted_at_the_second_sight(school: School, *, running: bool) -> None:
    lease = await ready(school)
    assert lease.meeting_id is not None
    if running:
        school.zoom.world.join(lease.meeting_id, "Anna", Role.HOST)
    await school.broker.run(school.pool.release([lease.id], ReleaseReason.ENDED))
    await reconcile()
    assert school.meetings() == [lease.meeting_id]
    await reconcile()
    assert school.meetings() == []
    assert (await account(school)).state is AccountState.ACTIVE
    assert await school.broker.redis.exists(school.pool.keys.stray(lease.meeting_id)) == 0


async def test_left_over_meeting_is_looked_at_again_at_once_and_not_in_the_next_rotation(
    school: School, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZOOMPOOL_RECONCILE_ROTATION_S", "3600")
    lease = await ready(school)
    await school.broker.run(school.pool.release([lease.id], ReleaseReason.ENDED))
    assert await reconcile() == "watch: 1"
    assert await reconcile() == "delete: 1"
    assert await reconcile() == await reconcile() == "nothing to do"
    assert school.meetings() == []


async def test_second_meeting_of_one_lease_is_deleted(school: School) -> None:
    lease = await ready(school)
    number = int(lease.account.removeprefix("host")) - 1
    twin = meet(school, marker(lease.id, "default"), host=number, running=False)
    await reconcile()
    await reconcile()
    assert twin.id not in school.meetings()
    assert school.meetings() == [lease.meeting_id]


@pytest.mark.parametrize(
    "agenda",
    [marker(LeaseId("host01", 0, 10**6), "default"), marker(LeaseId("host01", 0, 1), "another-school")],
    ids=["a fence not given out yet", "a pool not of this installation"],
)
async def test_meeting_that_is_ours_by_its_look_only_is_not_deleted(school: School, agenda: str) -> None:
    made = meet(school, agenda)
    for _ in range(3):
        await reconcile()
    assert school.meetings() == [made.id]
    assert (await account(school)).state is AccountState.QUARANTINED


async def test_lease_of_another_pool_on_the_same_host_is_no_stray(school: School) -> None:
    other = school.broker.pool("other")
    await school.broker.run(other.register())
    await school.broker.run(other.add_account(await account(school)))
    lease = await ready(school)
    assert lease.meeting_id is not None
    school.zoom.world.join(lease.meeting_id, "Anna", Role.HOST)
    await reconcile()
    await reconcile()
    assert (await account(school, pool=other)).state is AccountState.ACTIVE
    assert await phase(school, lease) is Phase.LIVE


def change(school: School, host: int, **changes: Any) -> None:
    world = school.zoom.world
    found = world.hosts.look_up(school.zoom.settings.hosts[host].email)
    assert found is not None
    world.hosts.patch(found, HostPatch(**changes))


async def test_capacity_falls_and_rises_with_the_licence(school: School) -> None:
    change(school, 1, type=UserType.BASIC)
    await reconcile()
    assert (await account(school, "host02")).capacity == 1
    assert (await school.broker.run(school.pool.status())).free == 2
    change(school, 1, type=UserType.LICENSED)
    await reconcile()
    assert (await account(school, "host02")).capacity == 2


async def test_host_that_lost_its_licence_is_out_and_its_suspect_lease_is_given_up(school: School) -> None:
    lease = await ready(school)
    await expire(school, lease)
    host = int(lease.account.removeprefix("host")) - 1
    change(school, host, status=UserStatus.INACTIVE)
    await reconcile()
    parked = await account(school, lease.account)
    assert (parked.state, parked.reason.split(":")[0]) == (AccountState.QUARANTINED, "zoom_host_not_allowed")
    assert await phase(school, lease) is None
    again = await school.claim("algebra")
    assert again.account != lease.account
    # When the host may again, what was left there is deleted.
    change(school, host, status=UserStatus.ACTIVE)
    await reconcile()
    await reconcile()
    assert school.meetings() == []


async def test_lesson_on_a_host_without_a_licence_runs_on_until_its_deadline(school: School) -> None:
    lease = await ready(school)
    change(school, int(lease.account.removeprefix("host")) - 1, type=UserType.UNASSIGNED)
    await reconcile()
    assert await phase(school, lease) is Phase.READY
