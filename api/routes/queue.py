"""Routes for operators: who waits in a pool, and how much of it is free in the time to come."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import BaseModel, Field

from api.deps import BrokerDep, Ops, PoolName, Service
from api.lessons import at, seconds
from api.openapi import problems
from broker.client import translated
from broker.operations import WEEK_QUARTERS

router = APIRouter(prefix="/api/pools/{pool}", tags=["pools"])


class Waiting(BaseModel):
    """One lesson in line."""

    position: int
    lesson_id: str
    owner: str
    since: datetime
    estimate_s: int | None


class Queue(BaseModel):
    """Who waits in a pool, first in line first."""

    pool: str
    length: int
    tickets: list[Waiting]


class QuarterHour(BaseModel):
    """A quarter of an hour: the pool's slots, how many are reserved, and how many are not."""

    start: datetime
    capacity: int
    reserved: int
    free: int


class PoolForecast(BaseModel):
    """What is reserved and free; lessons without a reservation are not foreseen."""

    pool: str
    free_now: int
    quarters: list[QuarterHour] = Field(description="From the present quarter of an hour on.")


@router.get("/queue/", summary="Who waits", responses=problems("role_required"))
async def queue(
    broker: BrokerDep,
    who: Ops,
    pool: PoolName,
    count: Annotated[int, Query(ge=1, le=500, description="How many of the first.")] = 100,
) -> Queue:
    """The first in line of a pool."""
    operations = broker.pool(pool)
    with translated("queue"):
        lessons: Any = await broker.redis.zrange(operations.keys.waiting, 0, count - 1)
        length: int = await broker.redis.zcard(operations.keys.waiting)
    found = await broker.run_all([operations.find_lesson(lesson) for lesson in lessons])
    # Who was served in between waits no more.
    tickets = sorted((each.ticket for each in found if each.ticket is not None), key=lambda ticket: ticket.position)
    return Queue(
        pool=pool,
        length=length,
        tickets=[
            Waiting(
                position=ticket.position,
                lesson_id=ticket.lesson,
                owner=ticket.owner,
                since=at(ticket.asked_ms),
                estimate_s=seconds(ticket.estimate_ms),
            )
            for ticket in tickets
        ],
    )


@router.get("/forecast/", summary="Free capacity by quarters of an hour", responses=problems("role_required"))
async def forecast(
    broker: BrokerDep,
    who: Service,
    pool: PoolName,
    quarters: Annotated[int, Query(ge=1, le=WEEK_QUARTERS, description="How many; a week at most.")] = WEEK_QUARTERS,
) -> PoolForecast:
    """A pool's capacity and reservations, for a week."""
    found = await broker.run(broker.pool(pool).forecast(quarters))
    return PoolForecast(
        pool=pool,
        free_now=found.free_now,
        quarters=[
            QuarterHour(start=at(each.start_ms), capacity=each.capacity, reserved=each.reserved, free=each.free)
            for each in found.quarters
        ],
    )
