"""Accounts from Zoom's list of users: a worker asks Zoom, and the caller waits for what its job returns.

Which job that is stands in Redis from the first request for it until somebody is told how it ended, so that the same
request, repeated after a 202 or sent by somebody else, is about the same job. An API that is killed in between leaves a
job that is not there yet, which the next request enqueues, or a result, which the next request gets.
"""

from __future__ import annotations

import contextlib
from http import HTTPStatus
from typing import Any
from uuid import uuid4

import redis.asyncio
from fastapi.responses import Response
from redis.exceptions import WatchError

from api.errors import Problem
from api.hang_up import HUNG_UP, HungUp, unless_hung_up
from api.jobs import Ended
from api.messages import PROBLEMS
from api.openapi import ZOOM, problems
from api.prefer import Wait
from api.registry_schemas import ImportedFromZoom, ImportFromZoomIn, ImportGoesOn
from api.services import Services
from api.starting import AGAIN_S, json_answer
from broker.client import translated
from broker.errors import HostTaken, UnknownCredential
from broker.jobs import IMPORT_ACCOUNTS
from broker.registry import credentials

JOINED_S = 600
"""How long a job can be joined: longer than all its runs last. Past that a second one does no harm."""
MOST_MISTAKES = 20


def import_responses() -> dict[int | str, dict[str, Any]]:
    """The `responses` of the route."""
    again = {"description": "Seconds.", "required": True, "schema": {"type": "integer"}}
    going_on = {
        "model": ImportGoesOn,
        "description": "It goes on: repeat the request to be told how it ended.",
        "headers": {"Retry-After": again},
    }
    refusals = problems(
        "role_required",
        "unknown_credential",
        "import_refused",
        "host_taken",
        *ZOOM,
    )
    return {202: going_on, **refusals}


async def import_from_zoom(services: Services, pool: str, wanted: ImportFromZoomIn, wait: Wait) -> Response:
    """Import and answer: 200 with the accounts, or 202.

    Args:
        services: the service's means.
        pool: where the accounts go.
        wanted: the request's body.
        wait: how long the answer may take.

    Raises:
        Problem: why no accounts came of it; among others, with Zoom's reason as its code.
        UnknownCredential: there is no such credential.
        HostTaken: some of the users are two accounts of the pool.
        BrokerUnavailable: Redis did not answer; repeating is safe.
    """
    credential = wanted.credential or services.settings.default_credential
    if await credentials.identity(services.broker.redis, credential) is None:
        raise UnknownCredential(credential)
    try:
        ended = await unless_hung_up(wait.request, _end(services, pool, credential, wanted.dry_run, wait.seconds))
    except HungUp:
        return Response(status_code=HUNG_UP)
    if ended is None:
        going_on = ImportGoesOn(pool=pool, credential=credential, dry_run=wanted.dry_run)
        return json_answer(going_on, HTTPStatus.ACCEPTED, wait.headers | {"Retry-After": str(AGAIN_S)})
    return json_answer(_accounts(pool, ended), HTTPStatus.OK, wait.headers)


async def _end(services: Services, pool: str, credential: str, dry_run: bool, wait_s: float) -> Ended | None:
    """How the job of this import ended, which is enqueued unless it is there; None if it has not within `wait_s`."""
    redis = services.broker.redis
    key = services.broker.pool(pool).keys.guard(f"import:{credential}{':dry' if dry_run else ''}")
    job = await _joined(redis, key)
    await services.jobs.enqueue(IMPORT_ACCOUNTS, pool, credential, dry_run, job_id=job)
    ended = await services.jobs.ended(job, wait_s)
    if ended is not None:
        await _told(redis, key, job)
    return ended


async def _joined(redis: redis.asyncio.Redis, key: str) -> str:
    """The id of the job that this import has, or gets now."""
    new = f"import-{uuid4().hex}"
    with translated("join an import"):
        if await redis.set(key, new, nx=True, ex=JOINED_S):
            return new
        # Nothing is there only if it was told, or ran out, in between.
        return str(await redis.get(key) or new)


async def _told(redis: redis.asyncio.Redis, key: str, job: str) -> None:
    """Let the next request have a job of its own; one that has it already keeps it."""
    with translated("leave an import"):
        async with redis.pipeline() as ask:
            await ask.watch(key)
            if await ask.get(key) == job:
                ask.multi()
                ask.delete(key)
                with contextlib.suppress(WatchError):
                    await ask.execute()


def _accounts(pool: str, ended: Ended) -> ImportedFromZoom:
    """What the job found.

    Raises:
        Problem, HostTaken: why it added nothing.
    """
    if not ended.succeeded:
        raise Problem("internal_error")
    if "accounts" in ended.value:
        return ImportedFromZoom(accounts=ended.value["accounts"])
    code, mistakes, taken = ended.value["code"], ended.value["mistakes"], ended.value["taken"]
    if code not in PROBLEMS:
        raise Problem("internal_error")
    if taken:
        raise HostTaken(pool, taken)
    raise Problem(code, **({"mistakes": mistakes[:MOST_MISTAKES]} if mistakes else {}))
