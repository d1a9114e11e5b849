"""Teachers, as the web app registers them: until when they may start lessons, and their own Zoom accounts."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Query, Response
from pydantic import SecretStr

from api.deps import Service, ServicesDep, TeacherId
from api.errors import Problem
from api.openapi import problems
from api.registry_schemas import TeacherIn, TeacherPage, TeacherView
from api.services import Services
from broker.errors import CredentialInUse, UnknownCredential
from broker.models import NO_SECRET, Credential
from broker.registry import credentials, teachers

router = APIRouter(prefix="/api/teachers", tags=["teachers"])


@router.get("/", summary="Registered teachers", responses=problems("role_required"))
async def list_teachers(
    all: ServicesDep,
    who: Service,
    after: Annotated[str, Query(max_length=128, description="`next` of the page before.")] = "",
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
) -> TeacherPage:
    """Teachers by their ids."""
    found = await teachers.page(all.broker.redis, after, limit)
    views = [await _view(all, teacher) for teacher in found]
    return TeacherPage(teachers=views, next=found[-1].id if len(found) == limit else None)


@router.get("/{teacher}/", summary="A teacher", responses=problems("role_required", "unknown_teacher"))
async def get_teacher(all: ServicesDep, who: Service, teacher: TeacherId) -> TeacherView:
    """What is registered of a teacher; secrets are never shown."""
    return await _view(all, await teachers.load(all.broker.redis, teacher))


@router.put(
    "/{teacher}/",
    summary="Register a teacher, or change one",
    responses=problems("role_required", "secret_missing", "credential_in_use"),
)
async def put_teacher(all: ServicesDep, who: Service, teacher: TeacherId, body: TeacherIn) -> TeacherView:
    """Change what the body names: what is left out stays, null takes it away.

    A Zoom app is `zoom_account_id`, `zoom_client_id` and `zoom_client_secret` together; null as `zoom_account_id` takes
    all of it away.
    """
    redis, given = all.broker.redis, body.model_fields_set
    known = await teachers.find(redis, teacher) or teachers.Teacher(teacher)
    if "subscription_until" in given:
        known = replace(known, subscription_until_ms=_ms(body.subscription_until))
    if "zoom_user_id" in given:
        known = replace(known, zoom_user_id=body.zoom_user_id or "")
    if "zoom_capacity" in given:
        known = replace(known, capacity=body.zoom_capacity or 1)
    await _change_app(all, teacher, body)
    await teachers.save(redis, known)
    return await _view(all, known)


@router.delete(
    "/{teacher}/",
    summary="Forget a teacher",
    status_code=204,
    responses=problems("role_required", "unknown_teacher", "credential_in_use"),
)
async def delete_teacher(all: ServicesDep, who: Service, teacher: TeacherId) -> Response:
    """Forget a teacher and their Zoom app. Refused while a lesson runs on it: nobody could end it any more."""
    await _remove_app(all, teacher)
    await teachers.delete(all.broker.redis, teacher)
    return Response(status_code=204)


async def _change_app(all: Services, teacher: str, body: TeacherIn) -> None:
    """Save, change or remove the credential of a teacher's own Zoom app, if the body says something of it."""
    given = body.model_fields_set & {
        "zoom_account_id",
        "zoom_client_id",
        "zoom_client_secret",
        "zoom_webhook_secret",
    }
    if not given:
        return
    name = teachers.pool_of(teacher)
    if "zoom_account_id" in given and body.zoom_account_id is None:
        await _remove_app(all, teacher)
        return
    try:
        before = await credentials.load(all.broker.redis, all.box, name)
    except UnknownCredential:
        before = Credential(name, "", "", NO_SECRET)
    changed = Credential(
        name,
        body.zoom_account_id or before.account_id,
        body.zoom_client_id or before.client_id,
        body.zoom_client_secret or before.client_secret,
        (body.zoom_webhook_secret or NO_SECRET) if "zoom_webhook_secret" in given else before.webhook_secret,
    )
    if not (changed.account_id and changed.client_id and _text(changed.client_secret)):
        raise Problem("secret_missing")
    if changed != before:
        # Saving drops the access token, and lets an account that Zoom refused be tried again.
        await credentials.save(all.broker.redis, all.box, changed)


async def _remove_app(all: Services, teacher: str) -> None:
    name = teachers.pool_of(teacher)
    status = await all.broker.run(all.broker.pool(name).status())
    if status.leased or status.suspect:
        raise CredentialInUse(name, [f"{name}/host"])
    with contextlib.suppress(UnknownCredential):
        await credentials.delete(all.broker.redis, name)


async def _view(all: Services, teacher: teachers.Teacher) -> TeacherView:
    return TeacherView.of(teacher, await credentials.identity(all.broker.redis, teachers.pool_of(teacher.id)))


def _ms(moment: datetime | None) -> int | None:
    return None if moment is None else int(moment.timestamp() * 1000)


def _text(secret: SecretStr) -> str:
    return secret.get_secret_value()
