"""A day of a school that begins with nothing registered, over HTTP alone; Redis is only looked at in the end."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Iterator

import httpx
import pytest
from pydantic import SecretStr

from broker.jobs import QueueName
from broker.testing.environment import HOST, example_accounts
from broker.testing.school import School
from broker.testing.stack import Stack
from broker.testing.verdict import settle
from broker.testing.zoom_simulator import HostSpec, Latency, SimulatorSettings
from tests.acceptance.day import LESSONS, POOL, Day
from tests.waiting import wait_until, wait_until_async
from tests.web_app import WebApp

ACCOUNTS = example_accounts(2, (1,))
ZOOM = SimulatorSettings(
    time_scale=0.02,
    latency=Latency(ms=20),
    hosts=tuple(HostSpec(email=account.email, capacity=account.capacity) for account in ACCOUNTS),
)
OWN = {"account_id": "annas-account", "client_id": "annas-client", "client_secret": secrets.token_urlsafe(24)}
OWN_EMAIL = "anna@home.example"
WITHIN_S = 30.0


@pytest.fixture(scope="module")
def together(web_app: WebApp) -> Iterator[Stack]:
    """The running system, which knows nothing of the school yet."""
    settings = {
        "reap_interval_s": 1,
        "reconcile_interval_s": 2,
        "reconcile_grace_s": 1,
        "auto_recording": "cloud",
        "notify_url": web_app.url,
        "notify_secret": SecretStr(web_app.secret),
        "notify_allowed_hosts": (HOST,),
        "relay_interval_s": 3,
    }
    workers = dict.fromkeys(QueueName, 1)
    with Stack(ACCOUNTS, workers=workers, settings=settings, zoom=ZOOM, registered=False) as stack:
        yield stack


@pytest.fixture
async def school(together: Stack) -> AsyncIterator[School]:
    async with together.school() as people:
        yield people


async def test_school_day(together: Stack, school: School, web_app: WebApp) -> None:
    day = Day(together, school)
    try:
        await register(together, day)
        await refusals(day)
        await lessons(school, day, web_app)
        await accounts_leave(school, day)
    finally:
        await day.close()
    verdict = await settle(together.broker, school, slots=1, timeout_s=WITHIN_S, look=together.check)
    assert verdict.clean, verdict
    assert len(web_app.ids) == len(set(web_app.ids))


async def register(stack: Stack, day: Day) -> None:
    """Everything that the school has."""
    await day.web("PUT", POOL)
    app = stack.zoom_app
    secret = app.client_secret.get_secret_value()
    shown = await day.web(
        "PUT",
        "/api/credentials/default/",
        json={"account_id": app.account_id, "client_id": app.client_id, "client_secret": secret},
    )
    assert secret not in str(shown)
    await day.web("PUT", f"{POOL}accounts/host01/", json={"email": ACCOUNTS[0].email})
    table = f"id,email,capacity\nhost02,{ACCOUNTS[1].email},1\n"
    imported = await day.web("POST", f"{POOL}accounts/import/", content=table, headers={"Content-Type": "text/csv"})
    assert imported == {"accounts": ["host02"]}

    async with httpx.AsyncClient(base_url=stack.zoom_url, trust_env=False) as zoom:
        (await zoom.post("/sim/apps", json=OWN)).raise_for_status()
        host = {"email": OWN_EMAIL, "account_id": OWN["account_id"]}
        (await zoom.post("/sim/hosts", json=host)).raise_for_status()
    own = {f"zoom_{name}": value for name, value in OWN.items()} | {"zoom_user_id": OWN_EMAIL}
    shown = await day.web("PUT", "/api/teachers/anna/", json=own | {"subscription_until": "2099-01-01T00:00:00Z"})
    assert OWN["client_secret"] not in str(shown)
    await day.web("PUT", "/api/teachers/late/", json={"subscription_until": "2020-01-01T00:00:00Z"})
    for lesson, teacher in (("algebra", "anna"), ("own", "anna"), ("latin", "late"), ("chess", "boris")):
        await day.web("PUT", f"{LESSONS}{lesson}/", json={"teacher": teacher, "title": lesson})
    assert await day.free() == 2


async def refusals(day: Day) -> None:
    """Whose subscription is over does not start; nobody starts, sees or ends another's lesson."""
    expired = await day.ask("POST", f"{LESSONS}latin/start-new/", "late")
    assert expired.status_code == 403
    assert {"detail": "Подписка истекла", "code": "subscription_expired"}.items() <= expired.json().items()
    for method, path in (("POST", "start-new/"), ("POST", "start/"), ("GET", ""), ("POST", "end/")):
        answer = await day.ask(method, f"{LESSONS}algebra/{path}", "boris")
        assert answer.status_code == 403, answer.text
        assert "start_url" not in answer.text
    assert await day.free() == 2


async def lessons(school: School, day: Day, web_app: WebApp) -> None:
    """Three kinds of start; all hosts busy; the ends of lessons; what the web app is told."""
    algebra = await day.links("algebra/start-new/", "anna")
    again = await day.links("algebra/start-new/", "anna")
    assert again["zoom_meeting_id"] == algebra["zoom_meeting_id"]
    quick = await day.links("quick-start/", "boris", json={"title": "Chess", "duration": 30})
    own = await day.links("own/start/", "anna")
    assert own["account_email"] == OWN_EMAIL
    assert quick["account_email"] != algebra["account_email"]

    busy = await day.ask("POST", f"{LESSONS}chess/start-new/", "boris")
    assert (busy.status_code, busy.json()["detail"]) == (503, "Все Zoom аккаунты заняты")
    assert int(busy.headers["Retry-After"]) > 0
    held = (await day.web("GET", f"{POOL}leases/"))["leases"]
    assert {lease["lesson_id"] for lease in held} == {"algebra", quick["lesson_id"]}
    assert all("start_url" not in str(lease) for lease in held)

    meeting = int(algebra["zoom_meeting_id"])
    await school.join(meeting, "anna", start_url=algebra["zoom_start_url"])

    async def is_live() -> bool:
        return str((await day.web("GET", f"{LESSONS}algebra/"))["status"]) == "live"

    await wait_until_async(is_live, "Zoom says that the lesson runs", WITHIN_S)
    await school.end_in_zoom(meeting)
    private = int(own["zoom_meeting_id"])
    await school.join(private, "anna", start_url=own["zoom_start_url"])
    await school.end_in_zoom(private)
    assert (await day.ask("POST", f"{LESSONS}{quick['lesson_id']}/end/", "boris")).is_success

    async def all_free() -> bool:
        return await day.free() == 2

    await wait_until_async(all_free, "every host is free", WITHIN_S)

    def told(lesson: str) -> set[str]:
        return {each["type"] for each in web_app.received if each["data"].get("lesson_id") == lesson}

    everything = {"lesson.ready", "lesson.live", "lesson.ended", "recording.completed"}
    wait_until(lambda: told("algebra") >= everything, "the web app is told of the lesson", WITHIN_S)
    wait_until(lambda: "lesson.ended" in told("own"), "the teacher's own host is told of too", WITHIN_S)
    wait_until(lambda: "pool.exhausted" in web_app.types(), "the web app is told that all were busy", WITHIN_S)
    assert "start_url" not in str(web_app.received)


async def accounts_leave(school: School, day: Day) -> None:
    """A busy account that is removed goes when its lesson is over."""
    await day.web("POST", f"{POOL}accounts/host01/drain/", json={"reason": "summer"})
    chess = await day.links("chess/start-new/", "boris")
    assert chess["account_email"] == ACCOUNTS[1].email
    await day.web("POST", f"{POOL}accounts/host01/activate/")
    assert (await day.web("DELETE", f"{POOL}accounts/host02/"))["leases"] == 1
    await school.join(int(chess["zoom_meeting_id"]), "boris", start_url=chess["zoom_start_url"])
    await school.end_in_zoom(int(chess["zoom_meeting_id"]))

    async def is_gone() -> bool:
        found = await day.ask("GET", f"{POOL}accounts/host02/", "web", "service")
        return found.status_code == httpx.codes.NOT_FOUND

    await wait_until_async(is_gone, "the account has left the pool", WITHIN_S)
    assert await day.free() == 1
