"""Who may do what to which lesson: the one place where a start is allowed or refused before anything is claimed."""

from __future__ import annotations

from api.auth import Caller
from api.errors import Problem
from api.lessons import Lessons, Start
from api.schemas import StartBody
from api.services import Services
from broker.models import Found, check_name


async def admit(services: Services, who: Caller, lesson: str, body: StartBody, pool: str = "") -> Start:
    """The start that this caller may have.

    Raises:
        Problem: they may not, and why. Nothing has been claimed.
    """
    return Start(lesson, owner_of(who, body.owner), topic=body.title, duration_min=body.duration, pool=pool)


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


async def visible(lessons: Lessons, who: Caller, lesson: str) -> Found:
    """A lesson that the caller may look at and end.

    Raises:
        Problem: 404 if nothing is known of it, 403 if it is another teacher's.
    """
    found = await lessons.find(lesson)
    known = found.lease or found.outcome
    if known is None:
        raise Problem("lesson_unknown")
    if known.owner != who.user and not who.sees_all:
        raise Problem("lesson_of_another_teacher")
    return found
