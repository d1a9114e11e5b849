"""`zoompool doctor`: names what is wrong and what to do about it, and nothing that is not."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest
import redis as redis_py
import redis.asyncio
from rq import Worker
from rq.registry import FailedJobRegistry
from rq.serializers import JSONSerializer
from typer.testing import Result

from broker import keys
from broker.client import AsyncBroker, Broker
from broker.jobs import REAP, QueueName
from broker.models import AccountState
from broker.operations import Pool
from broker.registry import teachers
from broker.registry.personal import open_pool
from broker.registry.teachers import Teacher
from broker.settings import Settings
from broker.testing.zoom_simulator import FaultAction, FaultRule, UserStatus, UserType, ZoomSimulator
from broker.testing.zoom_simulator.directory import HostPatch
from broker.testing.zoom_simulator.settings import Scope
from tests import factories
from tests.unit.cli.running import SECRET, Run, ok
from workers.queues import JsonJob, JsonQueue, open_queue
from workers.schedule import PoolScheduler, job_id

Command = Callable[..., Awaitable[Result]]
WEBHOOKS = {"ZOOMPOOL_WEBHOOK_SECRET": "a-made-up-webhook-secret"}


@pytest.fixture
def raw(redis_url: str) -> Iterator[redis_py.Redis]:
    """A client as RQ wants it."""
    with redis_py.Redis.from_url(redis_url, socket_timeout=10) as client:
        yield client


@pytest.fixture
def at_work(raw: redis_py.Redis, redis_url: str) -> dict[str, Worker]:
    """A worker on every queue that is needed, and a scheduler that was there a moment ago."""
    PoolScheduler(raw, Settings(redis_url=redis_url)).register_all()
    workers = {}
    for name in (QueueName.CREATE, QueueName.WEBHOOKS, QueueName.PERIODIC):
        workers[name.value] = Worker(
            [open_queue(name, raw)],
            connection=raw,
            job_class=JsonJob,
            queue_class=JsonQueue,
            serializer=JSONSerializer,
        )
        workers[name.value].register_birth()
    return workers


def findings(result: Result) -> list[dict[str, str]]:
    found = json.loads(result.stdout)
    assert isinstance(found, list)
    return found


def wrong(result: Result) -> dict[str, str]:
    """What is not well, by check; the report's exit code says the same."""
    found = {each["check"]: each["says"] for each in findings(result) if each["level"] != "ok"}
    assert all(each["do"] for each in findings(result) if each["level"] == "failed" and "more" not in each["says"])
    assert result.exit_code == int(any(each["level"] == "failed" for each in findings(result)))
    return found


@pytest.fixture
def doctor(beside_zoom: Command) -> Callable[..., Awaitable[dict[str, str]]]:
    """What the doctor finds wrong, in a deployment that has all settings."""

    async def run(*arguments: str, env: dict[str, str | None] | None = None) -> dict[str, str]:
        return wrong(await beside_zoom("doctor", "--json", *arguments, env={**WEBHOOKS, **(env or {})}))

    return run


Doctor = Callable[..., Awaitable[dict[str, str]]]


@pytest.mark.usefixtures("at_work")
async def test_healthy_deployment_has_nothing_to_do(beside_zoom: Command) -> None:
    result = await beside_zoom("doctor", env=WEBHOOKS)
    text = ok(result)
    assert "✗" not in text
    assert "! " not in text
    assert "0 failed, 0 warnings" in text
    for check in ("redis.persistence", "redis.scripts", "zoom.credential", "zoom.account", "data.invariants"):
        assert check in text
    assert "2 of 2 accounts" in text
    assert SECRET not in result.output


async def test_without_workers_and_scheduler_each_is_named_with_its_command(beside_zoom: Command) -> None:
    result = await beside_zoom("doctor", env=WEBHOOKS)
    assert result.exit_code == 1
    for command in ("zoompool worker create", "zoompool worker webhooks", "zoompool worker periodic"):
        assert f"start '{command}'" in result.stdout
    assert "workers.reap.reap is not in the schedule" in result.stdout
    assert "start 'zoompool scheduler'" in result.stdout


async def test_silent_worker_counts_as_dead_and_busy_one_does_not(
    doctor: Doctor, at_work: dict[str, Worker], raw: redis_py.Redis
) -> None:
    long_ago = "2020-01-01T00:00:00.000000Z"
    raw.hset(at_work["create"].key, "last_heartbeat", long_ago)
    raw.hset(at_work["webhooks"].key, mapping={"last_heartbeat": long_ago, "state": "busy"})
    assert await doctor() == {"workers.alive": "nobody works on queue create; 0 jobs wait"}


@pytest.mark.usefixtures("at_work")
async def test_job_that_waits_too_long_and_jobs_that_failed_are_named(doctor: Doctor, raw: redis_py.Redis) -> None:
    queue = open_queue(QueueName.CREATE, raw)
    job = queue.enqueue_call("workers.reap.reap")
    raw.hset(job.key, "enqueued_at", "2020-01-01T00:00:00.000000Z")
    lost = queue.enqueue_call("workers.reap.reap")
    FailedJobRegistry(queue=queue).add(lost, ttl=3600)
    found = await doctor()
    assert found.keys() == {"workers.backlog", "workers.failed"}
    assert "first job of queue create has waited" in found["workers.backlog"]
    assert found["workers.failed"].startswith("1 jobs of queue create failed")


@pytest.mark.usefixtures("at_work")
async def test_scheduler_that_stopped_is_noticed_by_jobs_that_are_overdue(doctor: Doctor, raw: redis_py.Redis) -> None:
    raw.zadd(PoolScheduler.scheduled_jobs_key, {job_id(REAP): 1})
    assert "workers.reap.reap is overdue" in (await doctor())["scheduler.jobs"]


@pytest.mark.usefixtures("at_work")
async def test_missing_settings_are_named(doctor: Doctor) -> None:
    found = await doctor(env={"ZOOMPOOL_WEBHOOK_SECRET": None, "ZOOMPOOL_JWT_KEY": None, "ZOOMPOOL_SECRET_KEYS": None})
    assert found.keys() == {"settings.webhook_secret", "settings.jwt", "settings.secret_keys", "zoom"}


def test_redis_that_does_not_answer_is_the_one_finding(zoompool: Run) -> None:
    result = zoompool("doctor", "--json", env={**WEBHOOKS, "REDIS_URL": "redis://127.0.0.1:1/0"})
    assert wrong(result).keys() == {"redis.reachable"}
    assert findings(result)[-1]["do"] == "start Redis, or correct REDIS_URL"


@pytest.mark.usefixtures("at_work")
async def test_redis_that_may_lose_leases_is_named(doctor: Doctor, redis: redis_py.Redis) -> None:
    redis.config_set("maxmemory-policy", "allkeys-lru")
    redis.config_set("appendonly", "no")
    try:
        assert (await doctor("--no-zoom")).keys() == {"redis.eviction", "redis.persistence"}
    finally:
        redis.config_set("appendonly", "yes")
        redis.config_set("maxmemory-policy", "noeviction")


@pytest.mark.usefixtures("at_work")
async def test_rejected_credential_is_named_once_and_its_accounts_are_not_blamed(
    doctor: Doctor, beside_zoom: Command
) -> None:
    ok(await beside_zoom("credentials", "add", "default", "--account-id", "a", "--client-id", "nobody"))
    found = await doctor()
    assert found.keys() == {"zoom.credential", "zoom.account"}
    assert "could not be checked: credential default does not work" in found["zoom.account"]


@pytest.mark.usefixtures("at_work")
async def test_missing_scopes_are_listed(doctor: Doctor, zoom: ZoomSimulator) -> None:
    app = zoom.settings.apps[0]
    app.scopes = tuple(scope for scope in Scope if scope not in (Scope.STATUS, Scope.DELETE))
    assert await doctor() == {
        "zoom.credential": "credential default: the OAuth app lacks scopes: "
        "meeting:update:status:admin, meeting:delete:meeting:admin"
    }
    app.scopes = tuple(Scope)
    assert await doctor() == {}, "scopes that were added are seen at once, although a token was cached"


def change(zoom: ZoomSimulator, email: str, **changes: Any) -> None:
    host = zoom.world.hosts.look_up(email)
    assert host is not None
    zoom.world.hosts.patch(host, HostPatch(**changes))


@pytest.mark.usefixtures("at_work")
@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"status": UserStatus.INACTIVE}, "cannot host: user is inactive, type 2"),
        ({"type": UserType.UNASSIGNED}, "cannot host: user is active, type 4"),
        ({"type": UserType.BASIC}, "has capacity 2, but its licence allows 1 at a time"),
    ],
)
async def test_account_that_is_not_what_the_pool_thinks_is_named(
    doctor: Doctor, zoom: ZoomSimulator, changes: dict[str, Any], says: str
) -> None:
    change(zoom, "two@school.example", **changes)
    assert await doctor() == {"zoom.account": f"account host-2 of pool default {says}"}


@pytest.mark.usefixtures("at_work")
async def test_account_that_zoom_does_not_know_is_named(doctor: Doctor, broker: Broker, pool: Pool) -> None:
    broker.run(pool.add_account(factories.account("host-3")))
    assert "account host-3 of pool default: Zoom knows no such user" in (await doctor())["zoom.account"]


@pytest.mark.usefixtures("at_work")
async def test_zoom_that_is_down_is_a_warning_about_each_account(doctor: Doctor, zoom: ZoomSimulator) -> None:
    zoom.faults.add(FaultRule(action=FaultAction.RESPOND, status=503, path="/v2/users/*"))
    found = await doctor()
    assert "account host-2 of pool default: Zoom could not handle the call" in found["zoom.account"]


@pytest.mark.usefixtures("at_work")
async def test_quarantine_is_named(doctor: Doctor, broker: Broker, pool: Pool) -> None:
    broker.run(pool.park_account("host-1", AccountState.QUARANTINED, "zoom_host_inactive: not active"))
    assert await doctor() == {
        "zoom.account": "account host-1 of pool default is quarantined: zoom_host_inactive: not active"
    }


@pytest.mark.usefixtures("at_work")
async def test_zoom_user_in_two_pools_is_named_once(doctor: Doctor, broker: Broker, pool: Pool) -> None:
    broker.run(pool.add_account(factories.account("host-1", email="one@school.example", zoom_user_id="U1")))
    other = broker.pool("other")
    broker.run(other.register())
    for id, email, user in (("host-9", "ONE@school.example", "U1"), ("host-8", "eight@school.example", "")):
        broker.run(other.add_account(factories.account(id, email=email, zoom_user_id=user)))
    assert await doctor("--no-zoom") == {
        "data.hosts": "Zoom user U1 = one@school.example is in several pools: default/host-1, other/host-9"
    }
    broker.run(other.remove_account("host-9"))
    assert await doctor("--no-zoom") == {}


@pytest.mark.usefixtures("at_work")
async def test_teachers_own_zoom_user_in_the_schools_pool_is_named(
    doctor: Doctor, aredis: redis.asyncio.Redis, broker: Broker, pool: Pool
) -> None:
    """Whether the teacher's pool is open or not: it is opened by the next start."""
    anna = Teacher("anna", zoom_user_id="Two@school.example")
    await teachers.save(aredis, anna)
    await teachers.save(aredis, Teacher("boris", zoom_user_id="boris@home.example"))
    says = "Zoom user two@school.example is in several pools: default/host-2, teacher-anna/host"
    assert await doctor("--no-zoom") == {"data.hosts": says}
    await open_pool(AsyncBroker(aredis, broker.settings), anna)
    assert await doctor("--no-zoom") == {"data.hosts": says}
    await teachers.save(aredis, Teacher("anna", zoom_user_id="anna@home.example"))
    await open_pool(AsyncBroker(aredis, broker.settings), Teacher("anna", zoom_user_id="anna@home.example"))
    assert await doctor("--no-zoom") == {}


@pytest.mark.usefixtures("at_work")
async def test_data_that_contradicts_itself_is_named(doctor: Doctor, redis: redis_py.Redis, pool: Pool) -> None:
    redis.zrem(pool.keys.free, "host-1#0")
    assert "zp:{default}:free holds 0 slots of host-1" in (await doctor("--no-zoom"))["data.invariants"]


@pytest.mark.usefixtures("at_work")
@pytest.mark.parametrize(
    ("key", "value", "check", "says"),
    [
        ("zp:{default}:waterfall", "x", "data.keys", "zp:{default}:waterfall"),
        ("zp:{default}:lessons", "x", "data.keys", "zp:{default}:lessons is a string, not a hash"),
        ("zp:{default}:fence", "many", "data.invariants", "zp:{default}:fence cannot be read"),
    ],
)
async def test_foreign_and_broken_keys_are_named(
    doctor: Doctor, redis: redis_py.Redis, key: str, value: str, check: str, says: str
) -> None:
    redis.delete(key)
    redis.set(key, value)
    assert says in (await doctor("--no-zoom"))[check]


@pytest.mark.usefixtures("at_work")
async def test_half_written_account_is_named(doctor: Doctor, redis: redis_py.Redis, pool: Pool) -> None:
    redis.hdel(pool.keys.account("host-1"), "capacity")
    assert "zp:{default}:account:host-1" in (await doctor("--no-zoom"))["data.invariants"]


@pytest.mark.usefixtures("at_work")
async def test_pool_that_is_not_registered_is_named(doctor: Doctor, redis: redis_py.Redis) -> None:
    redis.srem(keys.POOLS, "default")
    assert "pool default has accounts, but is not in zp:pools" in (await doctor("--no-zoom"))["data.keys"]
