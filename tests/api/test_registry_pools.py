"""Credentials and pools over HTTP: accounts come, rest, return and leave; leases are seen and forced; events told."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from broker.client import AsyncBroker
from broker.models import Account, Phase, ReleaseReason
from tests.api.acting import AT_ONCE, START_URL, bearer, lease_of, make_ready, services_of
from tests.api.test_registry import OPS, WEB

POOL = "/api/pools/default/"
ACCOUNTS = f"{POOL}accounts/"
CREDENTIAL = "/api/credentials/default/"
SECRETS = {"client_secret": "schools-client-secret", "webhook_secret": "schools-webhook-secret"}


@pytest.fixture
async def school(http: httpx.AsyncClient) -> httpx.AsyncClient:
    """A credential and two hosts, entered over HTTP."""
    sent = {"account_id": "acc", "client_id": "cli", **SECRETS}
    assert (await http.put(CREDENTIAL, json=sent, headers=WEB)).status_code == 200
    for name, capacity in (("host-1", 1), ("host-2", 2)):
        body = {"email": f"{name}@school.example", "capacity": capacity}
        assert (await http.put(f"{ACCOUNTS}{name}/", json=body, headers=WEB)).status_code == 200
    return http


async def start(http: httpx.AsyncClient, lesson: str) -> None:
    answer = await http.post(f"/api/schedule/lessons/{lesson}/start-new/", headers=bearer() | AT_ONCE)
    assert answer.status_code == 202, answer.text


async def refused(answer: httpx.Response, status: int, code: str) -> None:
    assert (answer.status_code, answer.json()["code"]) == (status, code)


async def counts(http: httpx.AsyncClient) -> dict[str, Any]:
    found: dict[str, Any] = (await http.get(POOL, headers=WEB)).json()
    return found


async def test_pool_and_accounts_are_shown(school: httpx.AsyncClient) -> None:
    assert (await school.get("/api/pools/", headers=OPS)).json()["pools"] == [await counts(school)]
    assert {"accounts": 2, "slots": 3, "free": 3}.items() <= (await counts(school)).items()
    listed = (await school.get(ACCOUNTS, headers=WEB)).json()["accounts"]
    assert listed[1] == {
        "id": "host-2",
        "email": "host-2@school.example",
        "zoom_user_id": "",
        "credential": "default",
        "capacity": 2,
        "state": "active",
        "reason": "",
        "until": None,
    }
    assert (await school.get(f"{ACCOUNTS}host-2/", headers=WEB)).json() == listed[1]
    await refused(await school.get("/api/pools/nowhere/", headers=WEB), 404, "unknown_pool")
    assert (await school.put("/api/pools/nowhere/", headers=WEB)).json()["accounts"] == 0


async def test_account_is_drained_activated_resized_and_disabled(school: httpx.AsyncClient) -> None:
    async def change(action: str, **body: Any) -> dict[str, Any]:
        answer = await school.post(f"{ACCOUNTS}host-2/{action}/", json=body, headers=WEB)
        assert answer.status_code == 200, answer.text
        account: dict[str, Any] = answer.json()["account"]
        return account

    drained = await change("drain", reason="summer")
    assert (drained["state"], drained["reason"]) == ("draining", "summer")
    assert (await counts(school))["parked"] == 2
    assert (await change("activate"))["state"] == "active"
    assert (await change("resize", capacity=5))["capacity"] == 5
    assert (await change("disable"))["reason"] == "disabled by web"


async def test_busy_account_that_is_removed_drains_first(app: FastAPI, school: httpx.AsyncClient) -> None:
    await start(school, "7")
    lease = await lease_of(app, "7")
    assert lease is not None
    account = f"{ACCOUNTS}{lease.account}/"
    removed = (await school.delete(account, headers=WEB)).json()
    assert (removed["account"]["state"], removed["leases"]) == ("removing", 1)
    broker = services_of(app).broker
    await broker.run(broker.pool().release([lease.id], ReleaseReason.ENDED))
    await refused(await school.get(account, headers=WEB), 404, "unknown_account")
    other = "host-1" if lease.account == "host-2" else "host-2"
    assert (await school.delete(f"{ACCOUNTS}{other}/", headers=WEB)).json() == {"account": None, "leases": 0}


@pytest.mark.parametrize("action", ["drain", "disable", "activate"])
async def test_unknown_account_is_404(school: httpx.AsyncClient, action: str) -> None:
    await refused(await school.post(f"{ACCOUNTS}nobody/{action}/", headers=WEB), 404, "unknown_account")


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"email": "x@school.example", "credential": "nothing"}, 404, "unknown_credential"),
        ({}, 422, "invalid_name"),
        ({"zoom_user_id": "me"}, 422, "invalid_name"),
        ({"email": "x@school.example", "capacity": 11}, 422, "invalid_request"),
    ],
)
async def test_account_that_could_not_work_is_refused(
    school: httpx.AsyncClient, body: dict[str, Any], status: int, code: str
) -> None:
    await refused(await school.put(f"{ACCOUNTS}host-3/", json=body, headers=WEB), status, code)


async def test_table_of_accounts_is_imported_as_a_whole_or_not_at_all(school: httpx.AsyncClient) -> None:
    headers = WEB | {"content-type": "text/csv"}
    wrong = "email;capacity\na@school.example;2\nb@school.example;many\n;1\n"
    answer = await school.post(f"{ACCOUNTS}import/", content=wrong, headers=headers)
    await refused(answer, 422, "import_refused")
    assert [mistake.partition(":")[0] for mistake in answer.json()["mistakes"]] == ["line 3", "line 4"]
    await refused(
        await school.post(f"{ACCOUNTS}import/", content=b"email\n\xff", headers=headers), 422, "import_refused"
    )
    unknown = "email,credential\na@school.example,nothing\n"
    await refused(await school.post(f"{ACCOUNTS}import/", content=unknown, headers=headers), 404, "unknown_credential")
    assert (await counts(school))["accounts"] == 2
    right = "id,email,capacity\nhost-1,new@school.example,3\n,a@school.example,\n"
    answer = await school.post(f"{ACCOUNTS}import/", content=right, headers=headers)
    assert answer.json() == {"accounts": ["host-1", "a@school.example"]}
    assert (await school.get(f"{ACCOUNTS}host-1/", headers=WEB)).json()["email"] == "new@school.example"


async def taken(answer: httpx.Response, accounts: dict[str, str]) -> None:
    await refused(answer, 409, "host_taken")
    assert answer.json()["taken"] == accounts


@pytest.mark.parametrize(
    "body", [{"email": "Host-1@school.example"}, {"email": "x@school.example", "zoom_user_id": "host-1@school.example"}]
)
async def test_zoom_user_of_another_account_is_refused_with_its_id(
    school: httpx.AsyncClient, body: dict[str, Any]
) -> None:
    await taken(await school.put(f"{ACCOUNTS}new/", json=body, headers=WEB), {"new": "host-1"})
    await taken(await school.put(f"{ACCOUNTS}host-2/", json=body, headers=WEB), {"host-2": "host-1"})
    assert (await school.get(f"{ACCOUNTS}host-2/", headers=WEB)).json()["email"] == "host-2@school.example"
    assert (await school.put(f"{ACCOUNTS}host-1/", json=body, headers=WEB)).status_code == 200, "it is this one's"
    assert (await counts(school))["accounts"] == 2


async def test_zoom_user_of_a_removed_account_can_be_added(school: httpx.AsyncClient) -> None:
    await school.delete(f"{ACCOUNTS}host-1/", headers=WEB)
    body = {"email": "host-1@school.example"}
    assert (await school.put(f"{ACCOUNTS}new/", json=body, headers=WEB)).status_code == 200


async def test_table_with_zoom_users_of_other_accounts_adds_nothing(school: httpx.AsyncClient) -> None:
    headers = WEB | {"content-type": "text/csv"}
    table = "id,email\nnew,new@school.example\none,host-1@school.example\nhost-1,HOST-2@school.example\n"
    answer = await school.post(f"{ACCOUNTS}import/", content=table, headers=headers)
    await taken(answer, {"one": "host-1", "host-1": "host-2"})
    assert (await counts(school))["accounts"] == 2
    assert (await school.get(f"{ACCOUNTS}host-1/", headers=WEB)).json()["email"] == "host-1@school.example"
    table = "id,email\none,a@school.example\ntwo,A@school.example\n"
    answer = await school.post(f"{ACCOUNTS}import/", content=table, headers=headers)
    await refused(answer, 422, "import_refused")
    assert answer.json()["mistakes"] == ["line 3: Zoom user 'a@school.example' is account 'one' of this table already"]


async def test_zoom_user_whom_somebody_adds_during_an_import_is_refused_all_the_same(
    app: FastAPI, school: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    broker = services_of(app).broker
    first = broker.pool().add_account(Account("quick", "a@school.example", "", "default", 1))
    run_all = AsyncBroker.run_all

    async def after_somebody(self: AsyncBroker, operations: Any) -> Any:
        await broker.run(first)
        return await run_all(self, operations)

    with monkeypatch.context() as patched:
        patched.setattr(AsyncBroker, "run_all", after_somebody)
        answer = await school.post(
            f"{ACCOUNTS}import/",
            content="id,email\nslow,a@school.example\n",
            headers=WEB | {"content-type": "text/csv"},
        )
    await taken(answer, {"slow": "quick"})
    assert (await counts(school))["accounts"] == 3


async def test_leases_are_shown_without_what_lets_people_in(app: FastAPI, school: httpx.AsyncClient) -> None:
    await start(school, "7")
    await make_ready(app, "7")
    answer = await school.get(f"{POOL}leases/", headers=WEB)
    (lease,) = answer.json()["leases"]
    assert (lease["lesson_id"], lease["owner"], lease["phase"]) == ("7", "anna", "ready")
    for secret in (START_URL, "pwd=", "123456", "zoom.example"):
        assert secret not in answer.text
    assert (await school.get(f"{POOL}leases/?suspect=true", headers=WEB)).json() == {"leases": []}


async def test_operator_forces_a_slot_free_and_it_is_recorded(app: FastAPI, school: httpx.AsyncClient) -> None:
    await start(school, "7")
    id = str(await make_ready(app, "7"))
    release = f"{POOL}leases/{id.replace('#', '%23')}/release/"
    why = {"reason": "Zoom says that nothing runs"}
    await refused(await school.post(release, json=why | {"force": True}, headers=WEB), 403, "role_required")
    await refused(await school.post(release, json={"reason": " "}, headers=OPS), 422, "invalid_request")
    await refused(await school.post(release, json=why, headers=OPS), 409, "meeting_may_exist")
    assert (await school.post(release, json=why | {"force": True}, headers=OPS)).json() == {"lease": id}
    await refused(await school.post(release, json=why | {"force": True}, headers=OPS), 404, "unknown_lease")
    events = (await school.get(f"{POOL}events/?limit=1", headers=WEB)).json()
    (event,) = events["events"]
    assert (event["type"], event["fields"]["detail"]) == ("lease.released", "root: Zoom says that nothing runs")
    older = (await school.get(f"{POOL}events/?limit=1&before={events['next']}", headers=WEB)).json()["events"]
    assert older[0]["id"] != event["id"]


async def test_claim_without_a_meeting_is_released_without_force(app: FastAPI, school: httpx.AsyncClient) -> None:
    await start(school, "7")
    lease = await lease_of(app, "7")
    assert lease is not None
    assert lease.phase is Phase.CLAIMED
    release = f"{POOL}leases/{str(lease.id).replace('#', '%23')}/release/"
    assert (await school.post(release, json={"reason": "stuck"}, headers=OPS)).status_code == 200


async def test_credential_is_shown_without_secrets_and_keeps_those_that_are_left_out(
    app: FastAPI, school: httpx.AsyncClient
) -> None:
    changed = await school.put(CREDENTIAL, json={"account_id": "acc", "client_id": "new"}, headers=WEB)
    shown = {"name": "default", "account_id": "acc", "client_id": "new", "has_webhook_secret": True}
    assert changed.json() == shown
    listed = await school.get("/api/credentials/", headers=OPS)
    assert listed.json() == {"credentials": [shown]}
    removed = {"account_id": "acc", "client_id": "new", "webhook_secret": None}
    assert (await school.put(CREDENTIAL, json=removed, headers=WEB)).json()["has_webhook_secret"] is False
    stored = str(await services_of(app).broker.redis.hgetall("zp:credential:default"))
    assert not any(secret in stored + listed.text + changed.text for secret in SECRETS.values())


async def test_new_credential_needs_its_secret(http: httpx.AsyncClient) -> None:
    answer = await http.put(CREDENTIAL, json={"account_id": "acc", "client_id": "cli"}, headers=WEB)
    await refused(answer, 422, "secret_missing")
    await refused(await http.get(CREDENTIAL, headers=WEB), 404, "unknown_credential")
    me = {"account_id": "me", "client_id": "cli", "client_secret": "s"}
    await refused(await http.put(CREDENTIAL, json=me, headers=WEB), 422, "invalid_name")


async def test_credential_in_use_is_not_removed(school: httpx.AsyncClient) -> None:
    await refused(await school.delete(CREDENTIAL, headers=WEB), 409, "credential_in_use")
    for account in ("host-1", "host-2"):
        await school.delete(f"{ACCOUNTS}{account}/", headers=WEB)
    assert (await school.delete(CREDENTIAL, headers=WEB)).status_code == 204
    await refused(await school.delete(CREDENTIAL, headers=WEB), 404, "unknown_credential")


async def test_names_of_teachers_own_pools_are_kept_from_others(school: httpx.AsyncClient) -> None:
    account = {"email": "x@school.example"}
    for answer in (
        await school.put("/api/pools/teacher-anna/", headers=WEB),
        await school.put("/api/pools/teacher-anna/accounts/x/", json=account, headers=WEB),
        await school.put("/api/credentials/teacher-anna/", json={"account_id": "a", "client_id": "c"}, headers=WEB),
    ):
        await refused(answer, 422, "invalid_name")


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/api/pools/"),
        ("GET", POOL),
        ("PUT", POOL),
        ("GET", ACCOUNTS),
        ("PUT", f"{ACCOUNTS}host/"),
        ("DELETE", f"{ACCOUNTS}host/"),
        ("POST", f"{ACCOUNTS}host/drain/"),
        ("POST", f"{ACCOUNTS}import/"),
        ("POST", f"{ACCOUNTS}import-from-zoom/"),
        ("GET", f"{POOL}leases/"),
        ("GET", f"{POOL}events/"),
        ("GET", "/api/credentials/"),
        ("DELETE", CREDENTIAL),
    ],
)
async def test_teachers_administer_nothing(http: httpx.AsyncClient, method: str, path: str) -> None:
    await refused(await http.request(method, path, json={}, headers=bearer()), 403, "role_required")
