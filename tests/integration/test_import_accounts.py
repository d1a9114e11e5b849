"""Accounts from Zoom's list of users: by the job alone, killed and repeated, and over HTTP with a worker process."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from typing import Any, TypeVar

import pytest
from pydantic import SecretStr

from broker.client import AsyncBroker
from broker.jobs import QueueName
from broker.models import Account, AccountState
from broker.operations import Operation
from broker.testing.process import Process
from broker.testing.zoom_simulator import FaultAction, FaultRule
from broker.testing.zoom_simulator.settings import UserType
from tests.api.acting import bearer
from tests.api.conftest import JWT_KEY, client, serving
from tests.integration.conftest import School
from workers.import_accounts import import_accounts

T = TypeVar("T")

ROOT = Path(__file__).parents[2]
POOL = "summer"
IMPORT = f"/api/pools/{POOL}/accounts/import-from-zoom/"
OPS = bearer("root", role="ops")
ADDED = (0, 0, 0, 1, 2)
"""How many accounts there are after each call to Redis, if it was killed in it: Zoom's budget; the pool as it is, for
the users' ids and for a check of the whole list; half of the accounts; the pool's name."""


def expected(school: School) -> list[dict[str, Any]]:
    """The rows of all users at Zoom, by id."""
    hosts = school.zoom.world.hosts
    users = [hosts.find(spec.account_id, spec.email) for spec in school.zoom.settings.hosts]
    rows = [
        {"id": user.email, "email": user.email, "zoom_user_id": user.id, "credential": "default", "capacity": 2}
        for user in users
    ]
    return sorted(rows, key=lambda row: str(row["id"]))


def by_id(answer: dict[str, Any]) -> list[dict[str, Any]]:
    return sorted(answer["accounts"], key=lambda row: str(row["id"]))


async def accounts(school: School) -> list[Account]:
    """Those of the pool that is imported to."""
    found = await school.broker.run(school.broker.pool(POOL).accounts())
    return list(found)


async def test_users_become_accounts_of_a_registered_pool(school: School) -> None:
    answer = await import_accounts(POOL, "default", False)
    assert by_id(answer) == expected(school)
    assert [Account(**row) for row in expected(school)] == await accounts(school)
    assert POOL in await school.broker.pools()


async def test_dry_run_says_the_same_and_changes_nothing(school: School) -> None:
    assert by_id(await import_accounts(POOL, "default", True)) == expected(school)
    assert await accounts(school) == []
    assert POOL not in await school.broker.pools()


async def test_repeated_import_changes_capacities_and_leaves_who_is_out_of_rotation_there(school: School) -> None:
    await import_accounts(POOL, "default", False)
    pool = school.broker.pool(POOL)
    first, second = await accounts(school)
    await school.broker.run(pool.park_account(first.id, AccountState.DISABLED, "repairs"))
    spec = school.zoom.settings.hosts[0]
    school.zoom.world.hosts.find(spec.account_id, second.email).type = UserType.BASIC
    await asyncio.gather(*(import_accounts(POOL, "default", False) for _ in range(3)))
    now = await accounts(school)
    assert [(account.state, account.capacity) for account in now] == [
        (AccountState.DISABLED, 2),
        (AccountState.ACTIVE, 1),
    ]


async def test_users_who_are_in_the_pool_under_other_names_keep_them(school: School) -> None:
    pool = school.broker.pool(POOL)
    first, second = expected(school)
    for known in (
        Account("first", str(first["email"]).upper(), "", "default", 1),
        Account("second", "before@marriage.example", str(second["zoom_user_id"]), "default", 1),
    ):
        await school.broker.run(pool.add_account(known))
    renamed = [first | {"id": "first"}, second | {"id": "second"}]
    for _ in range(2):
        assert by_id(await import_accounts(POOL, "default", False)) == renamed
        assert [Account(**row) for row in renamed] == await accounts(school)


@pytest.mark.parametrize("dry_run", [False, True])
async def test_user_who_is_two_accounts_is_named_and_nothing_is_imported(school: School, dry_run: bool) -> None:
    pool = school.broker.pool(POOL)
    first, _ = expected(school)
    await school.broker.run(pool.add_account(Account("one", str(first["email"]), "", "default", 1)))
    await school.broker.run(pool.add_account(Account("two", "", str(first["zoom_user_id"]), "default", 1)))
    before = await accounts(school)
    refused = await import_accounts(POOL, "default", dry_run)
    assert refused == {"code": "host_taken", "mistakes": [], "taken": {"two": "one"}}
    assert await accounts(school) == before
    await school.broker.run(pool.remove_account("one"))
    assert by_id(await import_accounts(POOL, "default", dry_run))[-1]["id"] == "two"


@pytest.mark.parametrize("killed_after", range(1, len(ADDED) + 1))
async def test_killed_import_is_completed_by_the_next_run(
    school: School, monkeypatch: pytest.MonkeyPatch, killed_after: int
) -> None:
    left = killed_after
    run, run_all = AsyncBroker.run, AsyncBroker.run_all

    def count() -> None:
        nonlocal left
        left -= 1
        if not left:
            raise asyncio.CancelledError

    async def counted_run(broker: AsyncBroker, operation: Operation[T]) -> T:
        answer = await run(broker, operation)
        count()
        return answer

    async def counted_run_all(broker: AsyncBroker, operations: list[Operation[T]]) -> list[T]:
        # Half of them: it was killed in the middle.
        answer = await run_all(broker, operations[:1] if left == 1 else operations)
        count()
        return answer

    with monkeypatch.context() as patched:
        patched.setattr(AsyncBroker, "run", counted_run)
        patched.setattr(AsyncBroker, "run_all", counted_run_all)
        with pytest.raises(asyncio.CancelledError):
            await import_accounts(POOL, "default", False)
    assert len(await accounts(school)) == ADDED[killed_after - 1]
    assert by_id(await import_accounts(POOL, "default", False)) == expected(school)
    assert [Account(**row) for row in expected(school)] == await accounts(school)
    assert POOL in await school.broker.pools()


SCOPES = {"code": 4711, "message": "Invalid access token, does not contain scopes:[user:read:list_users:admin]."}
LISTING: dict[str, Any] = {"method": "GET", "path": "/v2/users"}
TROUBLES = {
    "zoom_credential_rejected": FaultRule(
        action=FaultAction.RESPOND, path="/oauth/token", status=400, body={"error": "invalid_client"}
    ),
    "zoom_scope_missing": FaultRule(action=FaultAction.RESPOND, status=400, body=SCOPES, **LISTING),
    "zoom_rate_limited": FaultRule(action=FaultAction.RESPOND, status=429, body={"code": 429}, **LISTING),
    "zoom_unavailable": FaultRule(action=FaultAction.RESPOND, status=503, **LISTING),
    "zoom_answer_unreadable": FaultRule(action=FaultAction.RESPOND, status=200, body=[], **LISTING),
}


@pytest.mark.parametrize("code", TROUBLES)
async def test_refusal_of_zoom_is_an_answer_and_leaves_no_account(school: School, code: str) -> None:
    school.zoom.faults.add(TROUBLES[code])
    assert await import_accounts(POOL, "default", False) == {"code": code, "mistakes": [], "taken": {}}
    assert await accounts(school) == []


async def test_credential_that_is_gone_is_an_answer(school: School) -> None:
    assert await import_accounts(POOL, "nothing", False) == {
        "code": "unknown_credential",
        "mistakes": [],
        "taken": {},
    }


@pytest.mark.parametrize("stock", [False, True], ids=["ours", "stock"])
async def test_import_over_http_is_done_by_a_worker(school: School, tmp_path: Path, stock: bool) -> None:
    given = [sys.executable, "-m", "workers", QueueName.CREATE, *(["--stock"] if stock else [])]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    worker = Process("worker", given, environment=environment, log=tmp_path / "worker.log")
    settings = school.settings.model_copy(update={"jwt_key": SecretStr(JWT_KEY)})
    patient = OPS | {"Prefer": "wait=30"}
    async with serving(settings) as app, client(app) as http:
        early = await http.post(IMPORT, json={"dry_run": True}, headers=OPS | {"Prefer": "respond-async"})
        assert early.status_code == 202
        worker.start()
        try:
            shown = await http.post(IMPORT, json={"dry_run": True}, headers=patient, timeout=40)
            assert (shown.status_code, by_id(shown.json())) == (200, expected(school))
            assert await accounts(school) == []
            added = await http.post(IMPORT, headers=patient, timeout=40)
            assert added.json() == shown.json()
            assert [Account(**row) for row in expected(school)] == await accounts(school)
            school.zoom.faults.add(TROUBLES["zoom_scope_missing"])
            refused = await http.post(IMPORT, headers=patient, timeout=40)
            assert (refused.status_code, refused.json()["code"]) == (502, "zoom_scope_missing")
        finally:
            await asyncio.to_thread(worker.stop)
