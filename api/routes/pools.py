"""Pools for operators and the web app: accounts, leases, events."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Query, Request, Response

from api.deps import AccountId, BrokerDep, Ops, PoolName, Service, ServicesDep
from api.errors import Problem
from api.importing import import_from_zoom, import_responses
from api.openapi import problems
from api.prefer import WaitDep
from api.registry_schemas import (
    AccountChanged,
    AccountIn,
    AccountPage,
    AccountView,
    EventPage,
    EventView,
    Imported,
    ImportedFromZoom,
    ImportFromZoomIn,
    LeasePage,
    LeaseView,
    PoolList,
    PoolView,
    ReasonIn,
    Released,
    ReleaseIn,
    ResizeIn,
)
from api.routes.credentials import school_only
from api.routes.webhook import read_body
from broker.client import AsyncBroker
from broker.errors import HostTaken, ImportRefused, InvalidName, UnknownAccount, UnknownCredential
from broker.models import LEASE_ID, Account, AccountChange, AccountState, Change, LeaseId, Phase, ReleaseReason
from broker.operations import Operation
from broker.registry import account_lists, credentials

router = APIRouter(prefix="/api/pools", tags=["pools"])

Offset = Annotated[int, Query(ge=0, le=1_000_000)]
Limit = Annotated[int, Query(ge=1, le=200)]
Lease = Annotated[
    str,
    Path(pattern=f"^{LEASE_ID.pattern}$", description="A lease id; its `#` is written `%23`.", examples=["host#0@17"]),
]
EventId = Annotated[str, Query(pattern=r"^\d{1,16}(-\d{1,16})?$", description="`next` of the page before.")]

_CHANGED = problems("role_required", "unknown_account")


@router.get("/", summary="All pools", responses=problems("role_required"))
async def list_pools(broker: BrokerDep, who: Service) -> PoolList:
    """All pools in use with their counts, those of teachers' own Zoom accounts included."""
    found = [await broker.run(broker.pool(name).status()) for name in await broker.pools()]
    return PoolList(pools=[PoolView.of(status) for status in found])


@router.get("/{pool}/", summary="A pool", responses=problems("role_required", "unknown_pool"))
async def get_pool(broker: BrokerDep, who: Service, pool: PoolName) -> PoolView:
    """A pool's counts."""
    if pool not in await broker.pools():
        raise Problem("unknown_pool")
    return PoolView.of(await broker.run(broker.pool(pool).status()))


@router.put("/{pool}/", summary="Register a pool", responses=problems("role_required"))
async def put_pool(broker: BrokerDep, who: Service, pool: PoolName) -> PoolView:
    """Register a pool; one that is there stays as it is. Adding an account does this, too."""
    school_only(pool)
    await broker.run(broker.pool(pool).register())
    return PoolView.of(await broker.run(broker.pool(pool).status()))


@router.get("/{pool}/accounts/", summary="A pool's accounts", responses=problems("role_required"))
async def list_accounts(
    broker: BrokerDep, who: Service, pool: PoolName, offset: Offset = 0, limit: Limit = 200
) -> AccountPage:
    """Accounts by their ids."""
    found = await broker.run(broker.pool(pool).accounts(offset=offset, count=limit))
    return AccountPage(accounts=[AccountView.of(account) for account in found])


@router.post(
    "/{pool}/accounts/import/",
    summary="Add many accounts",
    responses=problems("role_required", "unknown_credential", "import_refused", "host_taken"),
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {
                "text/csv": {
                    "schema": {"type": "string"},
                    "example": "id,email,capacity\nhost-01,host-01@school.example,2\n",
                }
            },
        }
    },
)
async def import_accounts(all: ServicesDep, who: Service, pool: PoolName, request: Request) -> Imported:
    """Add the accounts of a table, or change those that are there: all of them, or none if something in it is wrong.

    A Zoom user can be one account of a pool only, so that nobody shares a host: neither two lines of the table nor one
    and another account of the pool may have the same.

    The first line names the columns: `id`, `email`, `zoom_user_id`, `credential`, `capacity`, of which `email` or
    `zoom_user_id` has to be there. Fields are separated by commas, semicolons or tabs; the text is UTF-8.
    """
    school_only(pool)
    raw = await read_body(request, all.settings.request_max_bytes)
    try:
        accounts = account_lists.from_csv(raw.decode("utf-8"), all.settings.default_credential)
    except UnicodeDecodeError:
        raise Problem("import_refused", mistakes=["the table is not UTF-8"]) from None
    except ImportRefused as error:
        raise Problem(error.code, mistakes=list(error.mistakes[:20])) from None
    await account_lists.take(all.broker, pool, accounts)
    return Imported(accounts=[account.id for account in accounts])


@router.post(
    "/{pool}/accounts/import-from-zoom/",
    summary="Add the hosts that Zoom lists",
    response_model=ImportedFromZoom,
    responses=import_responses(),
)
async def import_accounts_from_zoom(
    all: ServicesDep, who: Service, pool: PoolName, wait: WaitDep, body: ImportFromZoomIn | None = None
) -> Response:
    """Add all users that Zoom lets host, or change those that are there; `dry_run` only shows them.

    A user whose id or else e-mail an account of the pool has is that account, whatever it is called.

    A worker asks Zoom. If that takes longer than the wait, the answer is 202 and the import goes on: the same request
    again waits for the same import, and is told how it ended up to a minute after it did. Once that was told, the next
    request asks Zoom anew.
    """
    school_only(pool)
    return await import_from_zoom(all, pool, body or ImportFromZoomIn(), wait)


@router.get("/{pool}/accounts/{account}/", summary="An account", responses=_CHANGED)
async def get_account(broker: BrokerDep, who: Service, pool: PoolName, account: AccountId) -> AccountView:
    """A Zoom host of a pool."""
    found = await broker.run(broker.pool(pool).account(account))
    if found is None:
        raise UnknownAccount(pool, account)
    return AccountView.of(found)


@router.put(
    "/{pool}/accounts/{account}/",
    summary="Add an account, or change one",
    responses=problems("role_required", "unknown_credential", "host_taken"),
)
async def put_account(
    all: ServicesDep, who: Service, pool: PoolName, account: AccountId, body: AccountIn
) -> AccountChanged:
    """Add a Zoom host to a pool, or change it. One that is out of rotation stays so.

    A Zoom user can be one account of a pool only; `taken` in the answer says which one has it.
    """
    school_only(pool)
    credential = body.credential or all.settings.default_credential
    email = body.email or (account if "@" in account and not body.zoom_user_id else "")
    for value in (email, body.zoom_user_id):
        if value == "me":
            raise InvalidName("Zoom user", value, "Zoom does not take it from Server-to-Server apps; give the real one")
    if not email and not body.zoom_user_id:
        raise InvalidName("account", account, "give its email or zoom_user_id, so that Zoom knows whom we mean")
    if await credentials.identity(all.broker.redis, credential) is None:
        raise UnknownCredential(credential)
    added = Account(account, email, body.zoom_user_id, credential, body.capacity)
    changed = await _change(all.broker, pool, account, all.broker.pool(pool).add_account(added))
    await all.broker.run(all.broker.pool(pool).register())
    return changed


@router.delete("/{pool}/accounts/{account}/", summary="Remove an account", responses=_CHANGED)
async def remove_account(broker: BrokerDep, who: Service, pool: PoolName, account: AccountId) -> AccountChanged:
    """Remove an account: at once if it is idle, else when its last lesson ends; until then it gets no new ones."""
    return await _change(broker, pool, account, broker.pool(pool).remove_account(account))


@router.post("/{pool}/accounts/{account}/resize/", summary="Change an account's capacity", responses=_CHANGED)
async def resize_account(
    broker: BrokerDep, who: Service, pool: PoolName, account: AccountId, body: ResizeIn
) -> AccountChanged:
    """Change how many meetings an account hosts at a time. Lessons that run stay; a slot too many leaves when free."""
    return await _change(broker, pool, account, broker.pool(pool).resize_account(account, body.capacity))


@router.post("/{pool}/accounts/{account}/drain/", summary="Give an account no new lessons", responses=_CHANGED)
async def drain_account(
    broker: BrokerDep, who: Service, pool: PoolName, account: AccountId, body: ReasonIn | None = None
) -> AccountChanged:
    """Let the lessons of an account finish and give it no new ones, until it is activated."""
    return await _park(broker, who.user, pool, account, AccountState.DRAINING, body)


@router.post("/{pool}/accounts/{account}/disable/", summary="Take an account out of rotation", responses=_CHANGED)
async def disable_account(
    broker: BrokerDep, who: Service, pool: PoolName, account: AccountId, body: ReasonIn | None = None
) -> AccountChanged:
    """Take an account out of rotation because something is wrong with it, until it is activated."""
    return await _park(broker, who.user, pool, account, AccountState.DISABLED, body)


@router.post("/{pool}/accounts/{account}/activate/", summary="Bring an account back", responses=_CHANGED)
async def activate_account(broker: BrokerDep, who: Service, pool: PoolName, account: AccountId) -> AccountChanged:
    """Bring an account back into rotation, whatever took it out."""
    return await _change(broker, pool, account, broker.pool(pool).unpark_account(account))


@router.get("/{pool}/leases/", summary="Who holds what", responses=problems("role_required"))
async def list_leases(
    broker: BrokerDep,
    who: Service,
    pool: PoolName,
    suspect: Annotated[bool, Query(description="Those that wait for Zoom's word instead of those that run.")] = False,
    offset: Offset = 0,
    limit: Limit = 200,
) -> LeasePage:
    """Leases with the nearest deadline first, or suspect ones, oldest first."""
    found = await broker.run(broker.pool(pool).leases(suspect=suspect, offset=offset, count=limit))
    return LeasePage(leases=[LeaseView.of(lease) for lease in found])


@router.post(
    "/{pool}/leases/{lease}/release/",
    summary="Free a slot now",
    responses=problems("role_required", "unknown_lease", "meeting_may_exist"),
)
async def release_lease(broker: BrokerDep, who: Ops, pool: PoolName, lease: Lease, body: ReleaseIn) -> Released:
    """Take a slot from its lesson without asking Zoom. Refused without `force` while a meeting may exist there.

    Who did it and why is kept with the lesson's outcome and in the events. To end a lesson properly, `end` it.
    """
    (change,) = await broker.run(
        broker.pool(pool).release(
            [LeaseId.parse(lease)],
            ReleaseReason.FORCED,
            detail=f"{who.user}: {body.reason}",
            only_phase=None if body.force else Phase.CLAIMED,
        )
    )
    if change is Change.STALE:
        raise Problem("unknown_lease")
    if change is Change.REFUSED:
        raise Problem("meeting_may_exist")
    return Released(lease=lease)


@router.get("/{pool}/events/", summary="What happened", responses=problems("role_required"))
async def list_events(
    broker: BrokerDep, who: Service, pool: PoolName, before: EventId | None = None, limit: Limit = 100
) -> EventPage:
    """A pool's changes of state, newest first: about the last ten thousand are kept."""
    found = await broker.run(broker.pool(pool).events(count=limit, before=f"({before}" if before else "+"))
    return EventPage(
        events=[EventView.of(event) for event in found], next=found[-1].id if len(found) == limit else None
    )


async def _park(
    broker: AsyncBroker, by: str, pool: str, account: str, state: AccountState, body: ReasonIn | None
) -> AccountChanged:
    reason = (body.reason if body else "").strip() or f"{state} by {by}"
    return await _change(broker, pool, account, broker.pool(pool).park_account(account, state, reason))


async def _change(broker: AsyncBroker, pool: str, account: str, operation: Operation[AccountChange]) -> AccountChanged:
    changed = await broker.run(operation)
    if changed.change is Change.STALE:
        raise UnknownAccount(pool, account)
    if changed.change is Change.CONFLICT:
        raise HostTaken(pool, {account: changed.taken_by})
    now = await broker.run(broker.pool(pool).account(account))
    return AccountChanged(account=AccountView.of(now) if now else None, leases=changed.leases)
