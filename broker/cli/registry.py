"""`zoompool teachers` and `zoompool lessons`: what the web app registered. The web app changes it, over HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from typing import Annotated, Any, TypeVar

import redis.asyncio
import typer

from broker.cli.session import JsonOption, clock, print_json, print_table, settings_with_logging
from broker.errors import UnknownLesson
from broker.redis import connect_async
from broker.registry import credentials, lessons, teachers
from broker.settings import Settings

T = TypeVar("T")

teachers_app = typer.Typer(help="The teachers that the web app registered.", no_args_is_help=True)
lessons_app = typer.Typer(help="The lessons that the web app registered.", no_args_is_help=True)

LimitOption = Annotated[int, typer.Option("--limit", min=1, help="No more than so many.")]


def _with_redis(settings: Settings, work: Callable[[redis.asyncio.Redis], Awaitable[T]]) -> T:
    async def run() -> T:
        connection = connect_async(settings)
        try:
            return await work(connection)
        finally:
            await connection.aclose()

    return asyncio.run(run())


@teachers_app.command("list")
def list_teachers(
    after: Annotated[str, typer.Option(help="Begin behind this id.")] = "",
    limit: LimitOption = 200,
    json: JsonOption = False,
) -> None:
    """List teachers by their ids."""
    settings = settings_with_logging()
    found = _with_redis(settings, lambda connection: teachers.page(connection, after, limit))
    if json:
        print_json([asdict(teacher) for teacher in found])
        return
    print_table(
        ("teacher", "subscription until", "zoom user", "capacity"),
        ((t.id, clock(t.subscription_until_ms or 0, settings), t.zoom_user_id, t.capacity) for t in found),
        "There are no teachers. The web app registers them: PUT /api/teachers/ID/",
    )


@teachers_app.command("show")
def show_teacher(id: Annotated[str, typer.Argument(help="The teacher's id.")], json: JsonOption = False) -> None:
    """Show one teacher, and the Zoom app of the teacher's own account without its secrets."""
    settings = settings_with_logging()

    async def work(connection: redis.asyncio.Redis) -> dict[str, Any]:
        teacher = await teachers.load(connection, id)
        own = await credentials.identity(connection, teachers.pool_of(id))
        return {**asdict(teacher), "zoom_app": asdict(own) if own else None}

    found = _with_redis(settings, work)
    if json:
        print_json(found)
        return
    own = found.pop("zoom_app") or {}
    found["subscription_until_ms"] = clock(found["subscription_until_ms"] or 0, settings)
    print_table(("field", "value"), [*found.items(), *((f"zoom app: {name}", own[name]) for name in own)], "")


@lessons_app.command("list")
def list_lessons(
    teacher: Annotated[str, typer.Option(help="Only this teacher's.")] = "",
    group: Annotated[str, typer.Option(help="Only this group's.")] = "",
    limit: LimitOption = 200,
    json: JsonOption = False,
) -> None:
    """List registered lessons by their start. Who holds a host now: zoompool leases list."""
    settings = settings_with_logging()
    query = lessons.Query(teacher, group)
    found, _ = _with_redis(settings, lambda connection: lessons.page(connection, query, count=limit))
    if json:
        print_json([asdict(lesson) for lesson in found[:limit]])
        return
    print_table(
        ("lesson", "teacher", "starts", "min", "group", "title"),
        (
            (
                each.id,
                each.teacher,
                clock(each.starts_ms or 0, settings),
                each.duration_min or "-",
                each.group,
                each.title,
            )
            for each in found[:limit]
        ),
        "There are no such lessons. The web app registers them: PUT /api/schedule/lessons/ID/",
    )


@lessons_app.command("show")
def show_lesson(id: Annotated[str, typer.Argument(help="The lesson's id.")], json: JsonOption = False) -> None:
    """Show what is registered of a lesson. Its lease, if it has one: zoompool leases show ID."""
    settings = settings_with_logging()
    found = _with_redis(settings, lambda connection: lessons.find(connection, id))
    if found is None:
        raise UnknownLesson(id)
    if json:
        print_json(asdict(found))
        return
    fields = {
        **asdict(found),
        "starts_ms": clock(found.starts_ms or 0, settings),
        "created_ms": clock(found.created_ms, settings),
    }
    print_table(("field", "value"), fields.items(), "")
