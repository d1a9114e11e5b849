"""A lesson with a lease in the school's pool and one on the teacher's own account: the later one stands back."""

from __future__ import annotations

import asyncio

import pytest

from broker.models import Credential, Lease, Phase, ReleaseReason
from broker.operations import Pool
from broker.registry import credentials, personal, teachers
from broker.testing.zoom_simulator import FaultAction, FaultRule, When
from tests.integration.conftest import CLIENT_SECRET, School
from tests.waiting import wait_until_async
from workers.create_meeting import create_meeting

OWN = "teacher-anna"
LESSON = "algebra"


@pytest.fixture
async def own(school: School) -> Pool:
    """Anna's own Zoom account, which is the second host of the simulated Zoom here."""
    app = school.zoom.settings.apps[0]
    await credentials.save(
        school.broker.redis, school.box, Credential(OWN, app.account_id, app.client_id, app.client_secret)
    )
    assert app.client_secret.get_secret_value() == CLIENT_SECRET
    host = school.zoom.settings.hosts[1].email
    return await personal.open_pool(school.broker, teachers.Teacher("anna", zoom_user_id=host))


async def claim(school: School, pool: Pool) -> Lease:
    lease = (await school.broker.run(pool.claim(LESSON, "anna"))).lease
    assert lease is not None
    return lease


async def when_free(lease: Lease) -> str:
    """Run the job as soon as the attempt of one that died has run out; its answer."""

    async def run() -> str:
        answer = await create_meeting(lease.pool, str(lease.id))
        return "" if answer == "busy" else answer

    return await wait_until_async(run, "nobody else has the right to try")


async def both(school: School, own: Pool, *, own_first: bool) -> tuple[Lease, Lease]:
    """The lesson's two leases, first come first, as two starts leave them that looked before either had claimed."""
    await personal.note(school.broker.redis, LESSON, OWN, ttl_s=60)
    pools = (own, school.pool) if own_first else (school.pool, own)
    return await claim(school, pools[0]), await claim(school, pools[1])


@pytest.mark.parametrize("own_first", [True, False])
@pytest.mark.parametrize("later_runs_first", [True, False])
async def test_first_lease_has_the_meeting_in_whatever_order_the_jobs_run(
    school: School, own: Pool, own_first: bool, later_runs_first: bool
) -> None:
    first, later = await both(school, own, own_first=own_first)
    order = (later, first) if later_runs_first else (first, later)
    answers = {lease.pool: await create_meeting(lease.pool, str(lease.id)) for lease in order}
    assert answers == {first.pool: "ready", later.pool: "elsewhere"}
    assert len(school.meetings()) == 1
    outcome = (await school.broker.run(school.broker.pool(later.pool).find_lesson(LESSON))).outcome
    assert outcome is not None
    assert (outcome.reason, outcome.detail) == (ReleaseReason.ELSEWHERE, first.pool)


async def test_jobs_at_the_same_time_and_twice_make_one_meeting(school: School, own: Pool) -> None:
    leases = await both(school, own, own_first=False)
    await asyncio.gather(*(create_meeting(lease.pool, str(lease.id)) for lease in leases * 2))
    assert len(school.meetings()) == 1


async def test_job_that_died_before_it_looked_stands_back_when_it_runs_again(school: School, own: Pool) -> None:
    _, later = await both(school, own, own_first=True)
    begun = school.pool.begin_creating(later.id, "the one that died")
    await school.broker.run(begun)
    assert await when_free(later) == "elsewhere"
    assert school.meetings() == []


async def test_meeting_of_a_job_that_died_after_it_looked_is_kept(school: School, own: Pool) -> None:
    """It was alone when it looked, as far as anybody can know."""
    _, later = await both(school, own, own_first=True)
    school.zoom.faults.add(
        FaultRule(action=FaultAction.HANG, when=When.AFTER, times=1, method="POST", path="/v2/users/*/meetings")
    )
    await school.broker.redis.delete("zp:personal:algebra")  # so that it finds nothing when it looks
    job = asyncio.create_task(create_meeting(later.pool, str(later.id)))

    async def made() -> bool:
        return bool(school.meetings())

    await wait_until_async(made, "Zoom has made it")
    job.cancel()
    await asyncio.wait({job})
    await personal.note(school.broker.redis, LESSON, OWN, ttl_s=60)
    assert await when_free(later) == "ready"
    found = await school.look(later.id)
    assert found is not None
    assert (found.phase, [found.meeting_id]) == (Phase.READY, school.meetings())


async def test_zoom_that_cannot_be_asked_leaves_the_slot_taken(school: School, own: Pool) -> None:
    _, later = await both(school, own, own_first=True)
    await school.broker.run(school.pool.begin_creating(later.id, "the one that died"))
    school.zoom.faults.add(
        FaultRule(action=FaultAction.RESET, when=When.BEFORE, times=100, method="GET", path="/v2/users/*/meetings")
    )
    assert await when_free(later) == "unknown"
    assert await school.look(later.id) is not None


async def test_lesson_that_runs_in_one_pool_alone_is_not_concerned(school: School, own: Pool) -> None:
    await personal.note(school.broker.redis, LESSON, OWN, ttl_s=60)
    lease = await claim(school, school.pool)
    assert await create_meeting("default", str(lease.id)) == "ready"
    assert own.name == OWN
