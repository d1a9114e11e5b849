"""The simulated Zoom's calls: exact bodies and codes, tokens, limits. Without a socket, which other tests have."""

from __future__ import annotations

import base64
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from pydantic import SecretStr

from broker.testing.zoom_simulator import (
    AppSpec,
    HostSpec,
    Plan,
    RateLimits,
    Refusal,
    Role,
    SimulatorSettings,
    TokenPolicy,
    UserStatus,
    UserType,
    ZoomSimulator,
    example_hosts,
)
from broker.testing.zoom_simulator.settings import Scope

SECRET = "an-app-secret"
ANNA, TEAM, GUEST_ONLY = "anna@school.example", "team@school.example", "viewer@school.example"
HOSTS = (
    HostSpec(email=ANNA),
    HostSpec(email=TEAM, plan=Plan.EDUCATION),
    HostSpec(email=GUEST_ONLY, type=UserType.NONE),
    HostSpec(email="stranger@elsewhere.example", account_id="another-account"),
)


def settings(**changes: Any) -> SimulatorSettings:
    base: dict[str, Any] = {"hosts": HOSTS, "apps": (AppSpec(client_secret=SecretStr(SECRET)),), "time_scale": 0.001}
    return SimulatorSettings(**(base | changes))


class Zoom:
    """What a client of Zoom does."""

    def __init__(self, simulator: ZoomSimulator, http: httpx.AsyncClient) -> None:
        self.simulator = simulator
        self.http = http

    async def ask_token(self, **changes: Any) -> httpx.Response:
        form = {"grant_type": "account_credentials", "account_id": "demo-account"}
        return await self.http.post("/oauth/token", **({"data": form, "auth": ("demo-client", SECRET)} | changes))

    async def log_in(self) -> str:
        token: str = (await self.ask_token()).json()["access_token"]
        self.http.headers["authorization"] = f"Bearer {token}"
        return token

    async def create(self, host: str = ANNA, **body: Any) -> dict[str, Any]:
        response = await self.http.post(f"/v2/users/{host}/meetings", json={"topic": "Algebra", **body})
        assert response.status_code == 201, response.text
        created: dict[str, Any] = response.json()
        return created

    async def join(self, meeting_id: int, role: str = "host", **more: Any) -> dict[str, Any]:
        response = await self.http.post(f"/sim/meetings/{meeting_id}/join", json={"name": role, "role": role, **more})
        assert response.status_code == 200, response.text
        joined: dict[str, Any] = response.json()
        return joined


def over_asgi(simulator: ZoomSimulator) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(simulator.app), base_url="http://zoom.test")


@contextlib.asynccontextmanager
async def zoom(*, clock: Callable[[], float] = time.time, **changes: Any) -> AsyncIterator[Zoom]:
    simulator = ZoomSimulator(settings(**changes), clock=clock)
    async with over_asgi(simulator) as http:
        client = Zoom(simulator, http)
        await client.log_in()
        yield client


def refused(response: httpx.Response) -> tuple[int, Any]:
    return response.status_code, response.json()


# Tokens


async def test_token_answer_has_zooms_fields() -> None:
    async with zoom() as client:
        body = (await client.ask_token()).json()
    assert body.pop("access_token")
    assert body == {
        "token_type": "bearer",
        "expires_in": 3600,
        "scope": " ".join(sorted(Scope)),
        "api_url": "https://api.zoom.us",
    }


INVALID_CLIENT = {"reason": "Invalid client_id or client_secret", "error": "invalid_client"}
UNSUPPORTED = {"reason": "unsupported grant type", "error": "unsupported_grant_type"}
FORM = {"grant_type": "account_credentials", "account_id": "demo-account"}


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        ({"auth": ("demo-client", "wrong")}, INVALID_CLIENT),
        ({"auth": ("nobody", SECRET)}, INVALID_CLIENT),
        ({"auth": None}, INVALID_CLIENT),
        ({"data": FORM | {"account_id": "another-account"}}, INVALID_CLIENT),
        ({"data": FORM | {"grant_type": "client_credentials"}}, UNSUPPORTED),
        ({"data": None, "params": FORM}, UNSUPPORTED),
    ],
    ids=["wrong secret", "unknown client", "no authorisation", "wrong account", "wrong grant", "query string"],
)
async def test_token_request_is_refused_as_zoom_does(request_: dict[str, Any], expected: dict[str, str]) -> None:
    async with zoom() as client:
        del client.http.headers["authorization"]
        assert refused(await client.ask_token(**request_)) == (400, expected)


async def test_expired_token_is_told_from_one_that_never_was() -> None:
    now = [1_700_000_000.0]
    async with zoom(token_ttl_s=2, clock=lambda: now[0]) as client:

        async def ask(authorization: str) -> tuple[int, Any]:
            return refused(await client.http.get(f"/v2/users/{ANNA}", headers={"authorization": authorization}))

        good = client.http.headers["authorization"]
        assert (await ask(good))[0] == 200
        now[0] += 2
        assert await ask(good) == (401, {"code": 124, "message": "Access token is expired."})
        invalid = (401, {"code": 124, "message": "Invalid access token."})
        assert [await ask("Bearer nonsense"), await ask("")] == [invalid, invalid]


@pytest.mark.parametrize(("policy", "status"), [(TokenPolicy.MULTI, 200), (TokenPolicy.SINGLE_VALID, 401)])
async def test_a_new_token_ends_the_previous_one_only_where_one_is_valid(policy: TokenPolicy, status: int) -> None:
    async with zoom(token_policy=policy) as client:
        old = client.http.headers["authorization"]
        await client.log_in()
        assert (await client.http.get(f"/v2/users/{ANNA}")).status_code == 200
        assert (await client.http.get(f"/v2/users/{ANNA}", headers={"authorization": old})).status_code == status


async def test_missing_scope_is_a_400_that_names_it() -> None:
    app = AppSpec(client_secret=SecretStr(SECRET), scopes=(Scope.READ,))
    async with zoom(apps=(app,)) as client:
        answer = refused(await client.http.post(f"/v2/users/{ANNA}/meetings", json={}))
    message = "Invalid access token, does not contain scopes:[meeting:write:meeting:admin]."
    assert answer == (400, {"code": 4711, "message": message})


async def test_tokens_can_be_revoked_by_control() -> None:
    async with zoom() as client:
        assert (await client.http.delete("/sim/tokens")).json() == {"revoked": 1}
        assert (await client.http.get(f"/v2/users/{ANNA}")).status_code == 401


# Meetings


async def test_created_meeting_has_zooms_fields() -> None:
    async with zoom() as client:
        meeting = await client.create(agenda="marker", duration=45, settings={"use_pmi": False, "waiting_room": True})
        host = client.simulator.world.hosts.find("demo-account", ANNA)
    assert meeting["id"] > 2**32
    assert len(base64.b64decode(meeting["uuid"], validate=True)) == 16
    assert (meeting["host_id"], meeting["host_email"]) == (host.id, ANNA)
    assert (meeting["status"], meeting["type"], meeting["duration"]) == ("waiting", 2, 45)
    assert f"/s/{meeting['id']}?zak=" in meeting["start_url"]
    assert f"/j/{meeting['id']}?pwd=" in meeting["join_url"]
    assert 0 < len(meeting["password"]) <= 10
    assert meeting["settings"]["waiting_room"] is True
    assert meeting["settings"]["join_before_host"] is False
    for name in ("created_at", "start_time", "timezone", "h323_password", "pstn_password", "encrypted_password"):
        assert meeting[name]


async def test_past_start_means_now_and_local_time_is_read_in_its_zone() -> None:
    async with zoom() as client:
        past = await client.create(start_time="2001-01-01T00:00:00Z")
        assert past["start_time"] == past["created_at"]
        moscow = await client.create(start_time="2099-07-01T10:00:00", timezone="Europe/Moscow")
        assert moscow["start_time"] == "2099-07-01T07:00:00Z"


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"agenda": "x" * 2001}, "agenda"),
        ({"password": "x" * 11}, "password"),
        ({"type": 4}, "type"),
        ({"timezone": "Mars/Olympus"}, "timezone"),
        ({"settings": {"auto_recording": "tape"}}, "settings.auto_recording"),
    ],
)
async def test_bad_field_fails_validation_by_name(body: dict[str, Any], field: str) -> None:
    async with zoom() as client:
        response = await client.http.post(f"/v2/users/{ANNA}/meetings", json=body)
        status, answer = refused(response)
        assert (status, answer["code"], answer["message"]) == (400, 300, "Validation Failed.")
        assert field in {error["field"] for error in answer["errors"]}
        assert client.simulator.judge.meetings_created == 0


NOT_ALLOWED = {"code": 3161, "message": "Your user account is not allowed meeting hosting and scheduling capabilities."}


@pytest.mark.parametrize(
    ("user", "status", "body"),
    [
        ("nobody@school.example", 404, {"code": 1001, "message": "User does not exist: nobody@school.example."}),
        ("me", 404, {"code": 1001, "message": "User does not exist: me."}),
        ("stranger@elsewhere.example", 400, {"code": 1010, "message": "User not found on this account"}),
        (GUEST_ONLY, 400, NOT_ALLOWED),
    ],
)
async def test_user_who_cannot_host_is_refused(user: str, status: int, body: dict[str, Any]) -> None:
    async with zoom() as client:
        assert refused(await client.http.post(f"/v2/users/{user}/meetings", json={})) == (status, body)
        assert refused(await client.http.get(f"/v2/users/{user}/meetings")) == (status, body)


async def test_host_who_lost_the_right_is_refused_on_every_call_about_its_meeting() -> None:
    async with zoom() as client:
        path = f"/v2/meetings/{(await client.create())['id']}"
        await client.http.patch(f"/sim/hosts/{ANNA}", json={"status": "inactive"})
        answers = [
            await client.http.get(path),
            await client.http.put(f"{path}/status", json={"action": "end"}),
            await client.http.delete(path),
        ]
        assert [refused(answer) for answer in answers] == [(400, NOT_ALLOWED)] * 3
        assert (await client.http.get(f"/v2/users/{ANNA}")).json()["status"] == "inactive"


async def test_deleted_or_unknown_meeting_is_a_404_with_code_3001() -> None:
    async with zoom() as client:
        number = (await client.create())["id"]
        assert (await client.http.delete(f"/v2/meetings/{number}")).status_code == 204
        missing = (404, {"code": 3001, "message": f"Meeting does not exist: {number}."})
        assert refused(await client.http.get(f"/v2/meetings/{number}")) == missing
        assert refused(await client.http.delete(f"/v2/meetings/{number}")) == missing
        assert refused(await client.http.put(f"/v2/meetings/{number}/status", json={"action": "end"})) == missing
        assert (await client.http.get("/v2/meetings/99999999999999999999")).json()["code"] == 3001


async def test_meeting_of_another_account_does_not_exist_for_an_app() -> None:
    other = AppSpec(account_id="another-account", client_id="other", client_secret=SecretStr(SECRET))
    async with zoom(apps=(AppSpec(client_secret=SecretStr(SECRET)), other)) as client:
        number = (await client.create())["id"]
        form = FORM | {"account_id": "another-account"}
        token = (await client.ask_token(auth=("other", SECRET), data=form)).json()["access_token"]
        answer = await client.http.get(f"/v2/meetings/{number}", headers={"authorization": f"Bearer {token}"})
        assert answer.json()["code"] == 3001


async def test_every_look_at_a_meeting_gives_a_start_url_that_makes_host() -> None:
    async with zoom() as client:
        meeting = await client.create(settings={"join_before_host": True})
        fresh = (await client.http.get(f"/v2/meetings/{meeting['id']}")).json()["start_url"]
        assert (await client.join(meeting["id"], "guest", start_url=fresh))["role"] == "host"
        assert (await client.join(meeting["id"], "host", start_url=fresh[:-2] + "xx"))["role"] == "guest"


async def test_ending_an_idle_meeting_depends_on_the_switch() -> None:
    for switch, status in ((Refusal.REFUSE, 400), (Refusal.ACCEPT, 204)):
        async with zoom(end_idle=switch) as client:
            path = f"/v2/meetings/{(await client.create())['id']}/status"
            assert (await client.http.put(path, json={"action": "end"})).status_code == status
            assert (await client.http.put(path, json={"action": "dance"})).json()["code"] == 300


async def test_deleting_a_live_meeting_depends_on_the_switch() -> None:
    for switch, status, left in ((Refusal.REFUSE, 400, 1), (Refusal.ACCEPT, 204, 0)):
        async with zoom(delete_live=switch) as client:
            number = (await client.create())["id"]
            await client.join(number)
            assert (await client.http.delete(f"/v2/meetings/{number}")).status_code == status
            assert client.simulator.judge.verdict()["orphan_meetings"] == left


# Lists


async def test_lists_show_what_belongs_in_them() -> None:
    async with zoom() as client:
        instant = await client.create(type=1)
        waiting = await client.create(agenda="m" * 300)
        running = await client.create()
        await client.join(running["id"])

        async def ids(kind: str) -> set[int]:
            body = (await client.http.get(f"/v2/users/{ANNA}/meetings", params={"type": kind})).json()
            assert all("status" not in item and "start_url" not in item for item in body["meetings"])
            assert all(len(item["agenda"]) <= 250 for item in body["meetings"])
            return {item["id"] for item in body["meetings"]}

        assert await ids("live") == {running["id"]}
        assert await ids("scheduled") == await ids("upcoming") == {waiting["id"], running["id"]}
        await client.join(instant["id"])
        assert await ids("live") == {instant["id"]}


async def test_pages_of_a_list_cover_it_once() -> None:
    async with zoom() as client:
        created = {(await client.create())["id"] for _ in range(7)}
        seen: list[int] = []
        params: dict[str, str] = {"page_size": "3"}
        while True:
            body = (await client.http.get(f"/v2/users/{ANNA}/meetings", params=params)).json()
            assert (body["page_size"], body["total_records"]) == (3, 7)
            seen += [item["id"] for item in body["meetings"]]
            if not body["next_page_token"]:
                break
            params["next_page_token"] = body["next_page_token"]
        assert len(seen) == 7
        assert set(seen) == created
        for bad in ({"page_size": "301"}, {"next_page_token": "%%%"}, {"type": "all"}):
            assert (await client.http.get(f"/v2/users/{ANNA}/meetings", params=bad)).json()["code"] == 300


async def test_users_can_be_read_and_listed() -> None:
    async with zoom() as client:
        user = (await client.http.get(f"/v2/users/{TEAM}")).json()
        assert (user["email"], user["type"], user["status"]) == (TEAM, 2, "active")
        assert (await client.http.get(f"/v2/users/{user['id']}")).json() == user
        body = (await client.http.get("/v2/users", params={"page_size": "2"})).json()
        assert (len(body["users"]), body["total_records"]) == (2, 3)
        rest = await client.http.get("/v2/users", params={"next_page_token": body["next_page_token"]})
        emails = {each["email"] for each in body["users"] + rest.json()["users"]}
        assert emails == {ANNA, TEAM, GUEST_ONLY}
        assert (await client.http.get("/v2/users/ghost")).json()["code"] == 1001


async def test_past_meeting_exists_after_the_end_and_slashes_need_double_encoding() -> None:
    async with zoom() as client:
        number = (await client.create())["id"]
        awkward = ""
        for _ in range(3000):  # about one uuid in 64 begins with a slash or has two in a row
            uuid = _run_once(client.simulator, number)
            if uuid.startswith("/") or "//" in uuid:
                awkward = uuid
                break
        assert awkward
        once = quote(awkward, safe="")
        assert (await client.http.get(f"/v2/past_meetings/{once}")).json()["code"] == 3001
        past = (await client.http.get(f"/v2/past_meetings/{quote(once, safe='')}")).json()
        assert (past["id"], past["uuid"], past["participants_count"]) == (number, awkward, 1)
        running = (await client.join(number))["meeting"]["uuid"]
        path = f"/v2/past_meetings/{quote(quote(running, safe=''), safe='')}"
        assert (await client.http.get(path)).json()["code"] == 3001


def _run_once(simulator: ZoomSimulator, number: int) -> str:
    simulator.world.join(number, "host", Role.HOST)
    uuid = simulator.world.meetings[number].uuid
    assert simulator.world.end_by_host(number)
    return uuid


async def test_unknown_call_is_refused_in_zooms_form() -> None:
    async with zoom() as client:
        assert (await client.http.get("/v2/webinars/1")).json()["code"] == 2300


# Limits


NOON = 1_700_049_600.0
"""15 November 2023, 12:00 UTC."""


async def test_hundred_creations_a_day_then_429_until_midnight_utc() -> None:
    now = [NOON]
    async with zoom(token_ttl_s=10**6, clock=lambda: now[0]) as client:

        async def create(host: str) -> httpx.Response:
            return await client.http.post(f"/v2/users/{host}/meetings", json={})

        assert {(await create(ANNA)).status_code for _ in range(100)} == {201}
        answer = await create(ANNA)
        message = (
            "You have exceeded the daily rate limit (100) of Meeting Create/Update API requests permitted for this "
            "particular user. You may resume these requests at GMT 00:00:00."
        )
        assert refused(answer) == (429, {"code": 429, "message": message})
        assert "retry-after" not in answer.headers
        assert (await create(TEAM)).status_code == 201
        now[0] = NOON + 12 * 3600 - 1
        assert (await create(ANNA)).status_code == 429
        now[0] = NOON + 12 * 3600
        assert (await create(ANNA)).status_code == 201


async def test_per_second_and_daily_limits_are_pooled_by_account_and_category() -> None:
    now = [NOON]
    limits = RateLimits(enabled=True, headers=True, per_second={"medium": 2, "light": 3}, per_day={"medium": 5})
    async with zoom(rate_limits=limits, clock=lambda: now[0]) as client:
        http = client.http
        first = await http.post(f"/v2/users/{ANNA}/meetings", json={})
        assert (first.headers["x-ratelimit-category"], first.headers["x-ratelimit-remaining"]) == ("Medium", "1")
        await http.get(f"/v2/users/{TEAM}/meetings")
        limited = await http.get("/v2/users")
        assert limited.status_code == 429
        assert limited.json()["message"].startswith("You have reached the maximum per-second rate limit")
        assert limited.headers["retry-after"] == "1"
        assert (await http.get(f"/v2/users/{ANNA}")).status_code == 200
        for _ in range(3):
            now[0] += 1
            assert (await http.get("/v2/users")).status_code == 200
        now[0] += 1
        limited = await http.get("/v2/users")
        assert limited.json()["message"].startswith("You have reached the maximum daily rate limit")
        assert limited.headers["retry-after"] == "2023-11-16T00:00:00Z"


def test_example_hosts_are_the_same_every_time() -> None:
    hosts = example_hosts(3, (1, 2))
    assert [(host.email, host.capacity) for host in hosts] == [
        ("host01@school.example", 1),
        ("host02@school.example", 2),
        ("host03@school.example", 1),
    ]
    one, other = (ZoomSimulator(SimulatorSettings(hosts=hosts)) for _ in range(2))
    assert [host.id for host in one.world.hosts] == [host.id for host in other.world.hosts]


def test_capacity_follows_plan_and_licence() -> None:
    simulator = ZoomSimulator(
        settings(
            hosts=(
                HostSpec(email="a@x.example", type=UserType.BASIC, plan=Plan.BUSINESS),
                HostSpec(email="b@x.example", plan=Plan.PRO),
                HostSpec(email="c@x.example", plan=Plan.BUSINESS),
                HostSpec(email="d@x.example", plan=Plan.PRO, capacity=3),
                HostSpec(email="e@x.example", status=UserStatus.PENDING),
            )
        )
    )
    assert [host.capacity for host in simulator.world.hosts] == [1, 1, 2, 3, 1]
    assert [host.can_host for host in simulator.world.hosts] == [True, True, True, True, False]
