"""Who may do what to which lesson: the one place where a start is allowed or refused before anything is claimed."""

from __future__ import annotations

from typing import Any

from api import reservations, subscriptions
from api.auth import Caller, Role
from api.errors import Problem
from api.lessons import Lessons, Start
from api.schemas import StartBody
from api.services import Services
from broker.client import AsyncBroker
from broker.models import Found, Priority, check_name
from broker.operations import Operation
from broker.registry import credentials, teachers
from broker.registry import lessons as registry
from broker.registry import personal as personal_pools


async def admit(services: Services, who: Caller, lesson: str, body: StartBody, *, personal: bool = False) -> Start:
    """The start that this caller may have. What is registered of the lesson counts before what the body says.

    Args:
        services: the service's means.
        who: asks for it.
        lesson: which.
        body: the request's.
        personal: on the teacher's own Zoom account. A lesson that has a host already, wherever, stays there.

    Raises:
        Problem: they may not, and why. Nothing has been claimed.
    """
    expected = body.owner if who.sees_all else who.user
    registered, noted, known = await _known(services.broker, lesson, expected)
    teacher = registered.teacher if registered else ""
    owner = owner_of(who, body.owner or teacher)
    if teacher not in ("", owner):
        raise Problem("lesson_of_another_teacher")
    if owner != expected:
        known = await teachers.find(services.broker.redis, owner)
    subscriptions.demand(services.settings, who, owner, known)
    pool = noted if noted and await holds(services.lessons, lesson, noted) else ""
    if personal and not pool and not await holds(services.lessons, lesson):
        pool = await own_pool(services, owner, lesson)
    priority = Priority.OPS if who.role is Role.OPS else reservations.priority(services, registered)
    return Start(
        lesson,
        owner,
        topic=(registered.title if registered else "") or body.title,
        duration_min=(registered.duration_min if registered else 0) or body.duration,
        pool=pool,
        priority=priority,
    )


async def _known(
    broker: AsyncBroker, lesson: str, teacher: str
) -> tuple[registry.Lesson | None, str, teachers.Teacher | None]:
    """What is registered of a lesson, the personal pool in which it was started last, and what is registered of a
    teacher, unless that is nobody. All in one round trip, because every start asks."""
    questions: list[Operation[Any]] = [registry.read(lesson), personal_pools.read_note(lesson)]
    if teacher:
        questions.append(teachers.read(teacher))
    registered, noted, *known = await broker.run_all(questions)
    return registered, noted, known[0] if known else None


async def holds(lessons: Lessons, lesson: str, pool: str = "") -> bool:
    """Whether the lesson has a host in a pool."""
    return (await lessons.find(lesson, pool)).lease is not None


async def own_pool(services: Services, teacher: str, lesson: str) -> str:
    """The pool of a teacher's own Zoom account, ready for a claim of this lesson.

    Raises:
        Problem: 400, no such account is registered.
    """
    redis, settings = services.broker.redis, services.settings
    if await credentials.identity(redis, teachers.pool_of(teacher)) is None:
        raise Problem("zoom_credentials_missing")
    known = await teachers.find(redis, teacher) or teachers.Teacher(teacher)
    pool = await personal_pools.open_pool(services.broker, known)
    await personal_pools.note(redis, lesson, pool.name, ttl_s=settings.max_hold_s + settings.outcome_ttl_s)
    return pool.name


def owner_of(who: Caller, owner: str) -> str:
    """For whom a lesson is started: teachers start their own, others have to say whose.

    Raises:
        Problem: 422 without an owner.
        InvalidName: the owner's id cannot be used.
    """
    if not who.sees_all:
        return who.user
    if not owner:
        raise Problem("owner_missing")
    return check_name("owner", owner)


async def visible(lessons: Lessons, who: Caller, lesson: str) -> tuple[Found, registry.Lesson | None]:
    """A lesson that the caller may look at and end: how it goes, and what is registered of it.

    Raises:
        Problem: 404 if nothing is known of it, 403 if it is another teacher's.
    """
    registered = await registry.find(lessons.broker.redis, lesson)
    found = await wherever(lessons, lesson)
    known = found.lease or found.ticket or found.outcome
    if known is None and registered is None:
        raise Problem("lesson_unknown")
    # Two, when it was given to another teacher since it was started.
    theirs = {known.owner if known else "", registered.teacher if registered else ""}
    if who.user not in theirs and not who.sees_all:
        raise Problem("lesson_of_another_teacher")
    return found, registered


async def wherever(lessons: Lessons, lesson: str) -> Found:
    """What is known of a lesson, in the default pool or in a teacher's own: what goes on, or else what was last."""
    found = await lessons.find(lesson)
    if found.lease is not None or not (pool := await personal_pools.noted(lessons.broker.redis, lesson)):
        return found
    own = await lessons.find(lesson, pool)
    if own.lease is not None or own.ticket is not None or (found.ticket is None and _ended_ms(own) >= _ended_ms(found)):
        return own
    return found


def _ended_ms(found: Found) -> int:
    return found.outcome.released_ms if found.outcome else 0
