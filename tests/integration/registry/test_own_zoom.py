"""A lesson on the teacher's own Zoom account, through the jobs and a simulated Zoom."""

from __future__ import annotations

import dataclasses

import pytest
from pydantic import SecretStr

from broker import keys
from broker.models import Account, AccountState, Credential, Lease, Phase, ReleaseReason
from broker.registry import credentials, personal
from broker.registry.teachers import Teacher
from broker.testing.zoom_simulator import AppSpec, HostSpec
from broker.zoom import open_zoom
from broker.zoom.models import User, UserType
from broker.zoom.webhooks import WebhookEvent
from tests.integration.conftest import School
from workers.create_meeting import create_meeting
from workers.guard import guarded
from workers.own_host import owner_of
from workers.reap import reap
from workers.reconcile import reconcile
from workers.webhook_events import handle_event

POOL = "teacher-anna"
EMAIL = "anna@home.example"
ANNA = Teacher("anna")


async def give_account(school: School, *emails: str, secret: str = "annas-secret") -> None:
    """A Zoom account of Anna's own, with these users, and her app registered."""
    app = AppSpec(account_id="annas", client_id="annas-app", client_secret=SecretStr("annas-secret"))
    school.zoom.tokens.apps[app.client_id] = app
    for email in emails:
        school.zoom.world.hosts.add(HostSpec(email=email, account_id="annas"))
    await credentials.save(
        school.broker.redis, school.box, Credential(POOL, "annas", app.client_id, SecretStr(secret), SecretStr("hook"))
    )


async def claim(school: School, teacher: Teacher = ANNA, lesson: str = "algebra") -> Lease:
    pool = await personal.open_pool(school.broker, teacher)
    lease = (await school.broker.run(pool.claim(lesson, teacher.id))).lease
    assert lease is not None
    return lease


async def look(school: School, lease: Lease) -> Lease | None:
    return (await school.broker.run(school.broker.pool(POOL).find_lease(lease.id))).lease


async def test_meeting_is_made_on_the_account_of_its_owner(school: School) -> None:
    await give_account(school, EMAIL)
    lease = await claim(school)
    assert await create_meeting(POOL, str(lease.id)) == "ready"
    now = await look(school, lease)
    assert now is not None
    assert (now.phase, now.email) == (Phase.READY, EMAIL)
    (meeting,) = school.zoom.world.meetings.values()
    assert meeting.host.email == EMAIL
    account = await school.broker.run(school.broker.pool(POOL).account(personal.HOST))
    assert account is not None
    assert account.zoom_user_id == meeting.host.id


async def test_registered_user_hosts_where_several_could(school: School) -> None:
    await give_account(school, "school@home.example", EMAIL)
    lease = await claim(school, Teacher("anna", zoom_user_id=EMAIL))
    assert await create_meeting(POOL, str(lease.id)) == "ready"
    (meeting,) = school.zoom.world.meetings.values()
    assert meeting.host.email == EMAIL


async def test_owner_who_was_added_by_hand_hosts_as_that_account_alone(school: School) -> None:
    await give_account(school, EMAIL)
    lease = await claim(school)
    pool = school.broker.pool(POOL)
    await school.broker.run(pool.add_account(Account("by-hand", EMAIL, "", POOL, 1)))
    await create_meeting(POOL, str(lease.id))
    moved = (await school.broker.run(pool.find_lesson(lease.lesson))).lease
    assert moved is not None
    assert (moved.account, moved.phase) == ("by-hand", Phase.READY)
    refused = await school.broker.run(pool.account(personal.HOST))
    assert refused is not None
    assert (refused.state, refused.host) == (AccountState.QUARANTINED, "")


@pytest.mark.parametrize(
    ("emails", "secret", "code"),
    [
        ((EMAIL,), "wrong", "zoom_credential_rejected"),
        ((), "annas-secret", "zoom_host_unknown"),
        ((EMAIL, "school@home.example"), "annas-secret", "zoom_host_unknown"),
    ],
)
async def test_what_zoom_refuses_is_the_outcome_and_may_be_tried_again(
    school: School, emails: tuple[str, ...], secret: str, code: str
) -> None:
    await give_account(school, *emails, secret=secret)
    for _ in range(2):
        lease = await claim(school)
        assert await create_meeting(POOL, str(lease.id)) == "failed"
        outcome = (await school.broker.run(school.broker.pool(POOL).find_lesson("algebra"))).outcome
        assert outcome is not None
        assert (outcome.reason, outcome.detail) == (ReleaseReason.FAILED, code)
    assert school.meetings() == []
    # The school's own hosts are not concerned.
    assert (await school.claim("geometry")).pool == "default"


async def tell(event: str, lease: Lease, credential: str) -> str:
    webhook = WebhookEvent(
        event=event, event_ts=1, meeting_id=lease.meeting_id, uuid=lease.meeting_uuid, credential=credential
    )
    return await handle_event(dataclasses.asdict(webhook))


async def test_webhooks_move_the_lease_and_the_pool_is_closed_afterwards(
    school: School, monkeypatch: pytest.MonkeyPatch
) -> None:
    await give_account(school, EMAIL)
    claimed = await claim(school)
    await create_meeting(POOL, str(claimed.id))
    lease = await look(school, claimed)
    assert lease is not None
    assert await tell("meeting.started", lease, POOL) == "done"
    assert await tell("meeting.ended", lease, POOL) == "done"
    assert await look(school, claimed) is None
    monkeypatch.setenv("ZOOMPOOL_PERSONAL_IDLE_S", "0")
    await reap()
    assert await school.broker.pools() == ("default",)


async def test_only_one_process_closes_pools_at_a_time(school: School, monkeypatch: pytest.MonkeyPatch) -> None:
    await personal.open_pool(school.broker, ANNA)
    monkeypatch.setenv("ZOOMPOOL_PERSONAL_IDLE_S", "0")
    async with guarded(school.broker.redis, keys.CLOSING_GUARD) as free:
        assert free
        await reap()
        assert POOL in await school.broker.pools()
    await reap()
    assert POOL not in await school.broker.pools()


async def test_whoever_has_a_secret_of_his_own_cannot_end_other_peoples_lessons(school: School) -> None:
    await give_account(school, EMAIL)
    theirs = await school.claim("geometry", "boris")
    await create_meeting("default", str(theirs.id))
    running = await school.look(theirs.id)
    assert running is not None
    for event in ("meeting.started", "meeting.ended", "meeting.deleted"):
        assert await tell(event, running, POOL) == "no lease"
    gone = WebhookEvent(event="user.deactivated", event_ts=1, email=running.email, credential=POOL)
    assert await handle_event(dataclasses.asdict(gone)) == "parked 0"
    now = await school.look(theirs.id)
    assert now is not None
    assert dataclasses.replace(now, now_ms=0) == dataclasses.replace(running, now_ms=0)


async def test_without_webhooks_the_reconciler_alone_frees_the_account(school: School) -> None:
    await give_account(school, EMAIL)
    lease = await claim(school)
    await create_meeting(POOL, str(lease.id))
    await school.broker.redis.zadd(school.broker.pool(POOL).keys.leased, {lease.id.slot: 1})
    await reap()
    suspect = await look(school, lease)
    assert suspect is not None
    assert suspect.phase is Phase.SUSPECT
    await reconcile()
    assert await look(school, lease) is None
    assert school.meetings() == []


async def test_a_start_that_died_before_the_host_was_known_is_settled(school: School) -> None:
    await give_account(school, EMAIL)
    lease = await claim(school)
    pool = school.broker.pool(POOL)
    await school.broker.run(pool.begin_creating(lease.id, "killed"))
    await school.broker.redis.zadd(pool.keys.leased, {lease.id.slot: 1})
    await reap()
    await reconcile()
    assert await look(school, lease) is None


def user(id: str, role: str = "2", type: UserType = UserType.LICENSED) -> User:
    return User(id=id, email=f"{id}@home.example", type=type, status="active", role_id=role)


def test_owner_of_the_account_is_meant_where_several_can_host() -> None:
    assert owner_of([user("a"), user("b", role="0"), user("c")], POOL).id == "b"


def test_only_one_who_can_host_is_meant_where_the_owner_cannot() -> None:
    assert owner_of([user("a"), user("b", role="0", type=UserType.UNASSIGNED)], POOL).id == "a"


async def test_users_are_listed_over_all_pages(school: School) -> None:
    await give_account(school, *(f"user{number}@home.example" for number in range(301)))
    async with open_zoom(school.settings, school.broker.redis, school.box) as zoom:
        users = await zoom.list_users(await credentials.load(school.broker.redis, school.box, POOL))
    assert len({found.email for found in users}) == 301
