"""No secret of a run stays anywhere in the clear, with every log at its most talkative and much going wrong."""

from __future__ import annotations

import secrets
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator

import httpx
import jwt
import pytest
from pydantic import SecretStr

from broker.jobs import QueueName
from broker.redis import connect
from broker.testing.environment import HOST, example_accounts, process_environment
from broker.testing.school import School
from broker.testing.stack import WEBHOOK_PATH, Stack
from broker.testing.zoom_simulator import HostSpec, Latency, SimulatorSettings
from tests.acceptance.day import LESSONS, POOL, Day
from tests.secret_search import Search
from tests.waiting import wait_until, wait_until_async
from tests.web_app import WebApp

ACCOUNTS = example_accounts(3, (1,))
ZOOM = SimulatorSettings(
    time_scale=0.02,
    latency=Latency(ms=20),
    hosts=tuple(HostSpec(email=account.email, capacity=account.capacity) for account in ACCOUNTS),
)
WITHIN_S = 30.0
LESSON = "algebra-of-class-7b"
CREATE = {"method": "POST", "path": "/v2/users/*/meetings", "times": 1}
MAY_HOLD_LINKS = ("start-new/", "quick-start/", "start/")
"""Whoever starts a lesson gets its start_url; so does its owner who looks at it."""
COMMANDS = (
    "doctor --json",
    "status --json",
    "accounts list --json",
    "credentials list --json",
    "leases list --json",
    f"leases show {LESSON} --json",
    "teachers list --json",
    "teachers show anna --json",
    "lessons list --json",
    "pools list --json",
    "reconcile --dry-run",
    "notifications dead --json",
)


@pytest.fixture(scope="module")
def together(web_app: WebApp) -> Iterator[Stack]:
    """The running system, which writes down all that it ever does."""
    settings = {
        "log_level": "DEBUG",
        "reap_interval_s": 1,
        "reconcile_interval_s": 2,
        "reconcile_grace_s": 1,
        "auto_recording": "cloud",
        "notify_url": web_app.url,
        "notify_secret": SecretStr(web_app.secret),
        "notify_allowed_hosts": (HOST,),
        "relay_interval_s": 1,
        "webhook_secret_previous": SecretStr(secrets.token_urlsafe(24)),
    }
    workers = dict.fromkeys(QueueName, 1)
    with Stack(ACCOUNTS, workers=workers, settings=settings, zoom=ZOOM) as stack:
        yield stack


@pytest.fixture
async def school(together: Stack) -> AsyncIterator[School]:
    async with together.school() as people:
        yield people


async def test_no_secret_stays_anywhere(together: Stack, school: School, web_app: WebApp) -> None:
    day = Day(together, school)
    known = settings_secrets(together)
    try:
        known |= await registration(together, day)
        await lessons(together, school, day, web_app)
        known |= await refused(together, day)
        shown = "\n".join(command(together, each) for each in COMMANDS)
        metrics = (await day.ask("GET", "/metrics", "web", "ops")).text
    finally:
        await day.close()
    known |= await handed_out(together)
    known |= {
        f"bearer token {number}": each.request.headers["Authorization"].split()[1]
        for number, each in enumerate(day.answers)
    }

    search = Search(known | {LESSON: LESSON})
    for log in sorted(together.logs.iterdir()):
        search.look(log.name, log.read_bytes())
    # Redis's own files too: they hold values that have been deleted since.
    for file in sorted(path for path in together.folder.rglob("*") if path.is_file() and path.suffix != ".log"):
        search.look(file.name, file.read_bytes())
    with connect(together.settings, decode_responses=False) as connection:
        search.look_into_redis(connection)
    for answer in day.answers:
        mine = answer.is_success and answer.request.url.path.endswith(MAY_HOLD_LINKS)
        if not mine:
            search.look(f"answer to {answer.request.method} {answer.request.url.path}", answer.content)
    search.look("what the web app was told", str(web_app.received))
    search.look("the command line", shown)
    search.look("metrics", metrics)
    assert {name for _, name in search.found} == {LESSON}, search.found
    # What is no secret is found, so the search went where the run left something.
    places = " ".join(place for place, _ in search.found)
    for each in ("webhooks-1.log", "notify-1.log", ".aof", "Redis key", "web app", "command line", "answer to"):
        assert each in places, each


def settings_secrets(stack: Stack) -> dict[str, str]:
    """Every secret that is a setting; those that are lists hold one each."""
    found = {"client secret of the pool": stack.zoom_app.client_secret.get_secret_value()}
    for name in type(stack.settings).model_fields:
        value = getattr(stack.settings, name)
        for each in value if isinstance(value, tuple) else (value,):
            if isinstance(each, SecretStr) and each.get_secret_value():
                found[name] = each.get_secret_value()
    assert found.keys() >= {"secret_keys", "jwt_key", "webhook_secret", "webhook_secret_previous", "notify_secret"}
    # Signed with what follows the prefix.
    return found | {"notify_secret": found["notify_secret"].removeprefix("whsec_")}


async def registration(stack: Stack, day: Day) -> dict[str, str]:
    """Teachers and credentials, good ones, wrong ones, and some that cannot even be read."""
    made = {name: secrets.token_urlsafe(24) for name in ("anna", "anna's webhooks", "boris", "misspelt", "cut off")}
    async with httpx.AsyncClient(base_url=stack.zoom_url, trust_env=False) as zoom:
        app = {"account_id": "annas-account", "client_id": "annas-client"}
        (await zoom.post("/sim/apps", json=app | {"client_secret": made["anna"]})).raise_for_status()
        host = {"email": "anna@home.example", "account_id": app["account_id"]}
        (await zoom.post("/sim/hosts", json=host)).raise_for_status()
    own = {f"zoom_{name}": value for name, value in app.items()}
    good = own | {"zoom_client_secret": made["anna"], "zoom_webhook_secret": made["anna's webhooks"]}
    await day.web("PUT", "/api/teachers/anna/", json=good)
    await day.web("PUT", "/api/teachers/boris/", json=own | {"zoom_client_secret": made["boris"]})
    misspelt = await day.ask(
        "PUT", "/api/teachers/carl/", "web", "service", json=own | {"zoom_client_secrt": made["misspelt"]}
    )
    assert misspelt.status_code == 422
    cut_off = '{"client_secret": "' + made["cut off"]
    broken = await day.ask("PUT", "/api/credentials/default/", "web", "service", content=cut_off)
    assert broken.status_code == 422
    return made


async def lessons(stack: Stack, school: School, day: Day, web_app: WebApp) -> None:
    """Lessons from start to end; the web app is away, Zoom fails, a worker is killed in the middle, Redis restarts."""
    web_app.answers += [500, 400]
    own = await day.links("own/start/", "anna")
    rejected = await day.ask("POST", f"{LESSONS}his/start/", "boris", headers={"Prefer": "wait=20"})
    assert rejected.status_code == 502, rejected.text
    await school.add_fault(action="respond", when="after", **CREATE)
    algebra = await day.links(f"{LESSON}/start-new/", "anna")
    fault = await school.add_fault(action="hang", when="after", **CREATE)
    await day.ask("POST", f"{LESSONS}latin/start-new/", "boris", headers={"Prefer": "respond-async"})
    await wait_until_async(lambda: school.fault_applied(fault), "the call is under way", WITHIN_S)
    stack.restart("create")
    latin = await day.links("latin/start-new/", "boris")
    seen = await day.ask("GET", f"{LESSONS}latin/", "anna")
    assert seen.status_code == 403
    for part in ("leases", "events", "accounts"):
        await day.web("GET", f"{POOL}{part}/")
    stack.restart("redis")
    for links, who in ((own, "anna"), (algebra, "anna"), (latin, "boris")):
        await school.join(int(links["zoom_meeting_id"]), who, start_url=links["zoom_start_url"])
        await school.end_in_zoom(int(links["zoom_meeting_id"]))
    wait_until(lambda: {"lesson.ended", "recording.completed"} <= set(web_app.types()), "the web app is told", WITHIN_S)


async def refused(stack: Stack, day: Day) -> dict[str, str]:
    """Tokens that nobody minted or that have expired, and a webhook with a wrong signature."""
    key = stack.settings.jwt_key.get_secret_value()
    expired = jwt.encode({"user_id": "anna", "role": "ops", "iat": 1, "exp": 2}, key, algorithm="HS256")
    for token in (secrets.token_urlsafe(30), expired):
        answer = await day.ask("GET", "/api/me/", "anna", headers={"Authorization": f"Bearer {token}"})
        assert answer.status_code == 401
    made = {name: secrets.token_urlsafe(24) for name in ("forged download token", "forged plain token")}
    body = {
        "event": "recording.completed",
        "event_ts": 1,
        "payload": {"plainToken": made["forged plain token"], "object": {}},
        "download_token": made["forged download token"],
    }
    for path in (WEBHOOK_PATH, f"{WEBHOOK_PATH}teacher-anna/"):
        headers = {"x-zm-signature": "v0=" + "0" * 64, "x-zm-request-timestamp": str(int(time.time()))}
        assert (await day.ask("POST", path, "zoom", json=body, headers=headers)).status_code == 401
    return made


def command(stack: Stack, arguments: str) -> str:
    """What a command prints, whether it finds something wrong or not."""
    done = subprocess.run(
        [sys.executable, "-m", "broker", *arguments.split()],
        env=process_environment(stack.settings),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode in (0, 1), (arguments, done.stderr)
    return done.stdout + done.stderr


async def handed_out(stack: Stack) -> dict[str, str]:
    """What Zoom gave out in this run."""
    async with httpx.AsyncClient(base_url=stack.zoom_url, trust_env=False) as zoom:
        given = (await zoom.get("/sim/secrets")).raise_for_status().json()
    assert all(given[kind] for kind in ("access_tokens", "zaks", "download_tokens"))
    return {f"{kind} {number}": text for kind, texts in given.items() for number, text in enumerate(texts)}
