"""The school's Zoom apps. Secrets go in and never come out."""

from __future__ import annotations

from fastapi import APIRouter, Response

from api.deps import CredentialName, Service, ServicesDep
from api.errors import Problem
from api.openapi import problems
from api.registry_schemas import CredentialIn, CredentialList, CredentialView
from broker.errors import CredentialInUse, InvalidName, UnknownCredential
from broker.models import NO_SECRET, Credential
from broker.registry import credentials
from broker.registry.teachers import PERSONAL, is_personal

router = APIRouter(prefix="/api/credentials", tags=["credentials"])


@router.get("/", summary="The school's credentials", responses=problems("role_required"))
async def list_credentials(all: ServicesDep, who: Service) -> CredentialList:
    """Credentials by their names, without secrets."""
    found = await credentials.identities(all.broker.redis)
    return CredentialList(credentials=[CredentialView.of(each) for each in found if not is_personal(each.name)])


@router.get("/{credential}/", summary="A credential", responses=problems("role_required", "unknown_credential"))
async def get_credential(all: ServicesDep, who: Service, credential: CredentialName) -> CredentialView:
    """A credential without its secrets."""
    found = await credentials.identity(all.broker.redis, credential)
    if found is None:
        raise UnknownCredential(credential)
    return CredentialView.of(found)


@router.put(
    "/{credential}/",
    summary="Save a credential",
    responses=problems("role_required", "secret_missing"),
)
async def put_credential(
    all: ServicesDep, who: Service, credential: CredentialName, body: CredentialIn
) -> CredentialView:
    """Save a credential, or change it: a secret that is left out stays as it is."""
    redis = all.broker.redis
    school_only(credential)
    given = body.model_fields_set
    try:
        before = await credentials.load(redis, all.box, credential)
    except UnknownCredential:
        before = None
    secret = body.client_secret or (before.client_secret if before else None)
    if secret is None:
        raise Problem("secret_missing")
    kept = before.webhook_secret if before else NO_SECRET
    webhook_secret = (body.webhook_secret or NO_SECRET) if "webhook_secret" in given else kept
    saved = Credential(credential, body.account_id, body.client_id, secret, webhook_secret)
    await credentials.save(redis, all.box, saved)
    return CredentialView(
        name=credential,
        account_id=body.account_id,
        client_id=body.client_id,
        has_webhook_secret=bool(webhook_secret.get_secret_value()),
    )


@router.delete(
    "/{credential}/",
    summary="Remove a credential",
    status_code=204,
    responses=problems("role_required", "unknown_credential", "credential_in_use"),
)
async def delete_credential(all: ServicesDep, who: Service, credential: CredentialName) -> Response:
    """Remove a credential. Refused while accounts use it: they could not reach Zoom any more."""
    school_only(credential)
    used_by = await credentials.users(all.broker, credential)
    if used_by:
        raise CredentialInUse(credential, used_by)
    await credentials.delete(all.broker.redis, credential)
    return Response(status_code=204)


def school_only(name: str) -> None:
    """Keep the names of teachers' own pools and credentials out of other people's hands.

    Raises:
        InvalidName: it is one of those.
    """
    if is_personal(name):
        raise InvalidName("name", name, f"names that begin with {PERSONAL!r} belong to teachers: PUT /api/teachers/ID/")
