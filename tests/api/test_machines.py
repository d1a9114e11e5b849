"""Liveness, readiness, metrics; request ids and what stands in the log."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import re
import subprocess
import sys
from collections.abc import Iterator

import httpx
import pytest
import redis as redis_py
import structlog
from fastapi import FastAPI

from broker.fitness import unfit
from broker.models import ReleaseReason
from broker.testing.redis_server import RedisServer
from tests.api.acting import AT_ONCE, add_account, bearer, claimed, make_ready, services_of
from tests.api.conftest import JWT_KEY, WEBHOOK_SECRET, api_settings, client, serving
from tests.api.test_webhook import URL, body, send
from tests.waiting import wait_until_async

START = "/api/schedule/lessons/lesson-of-the-log/start-new/"


@pytest.fixture(autouse=True)
def restored_logging() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


async def checks(http: httpx.AsyncClient) -> dict[str, str]:
    """What is wrong, by the name of the check."""
    answer = (await http.get("/readyz")).json()
    assert answer["ready"] is all(check["ok"] for check in answer["checks"].values())
    return {name: check["reason"] for name, check in answer["checks"].items() if not check["ok"]}


async def test_ready_with_a_fit_redis_scripts_and_events(http: httpx.AsyncClient, redis: redis_py.Redis) -> None:
    redis.script_flush()

    async def ready() -> bool:
        return (await http.get("/readyz")).status_code == 200

    await wait_until_async(ready, "ready")
    assert (await http.get("/readyz")).json()["checks"].keys() == {
        "redis",
        "version",
        "eviction",
        "primary",
        "scripts",
        "events",
    }
    assert (await http.get("/healthz")).json() == {"status": "alive"}


async def test_not_ready_with_an_evicting_redis(http: httpx.AsyncClient, redis: redis_py.Redis) -> None:
    redis.config_set("maxmemory-policy", "allkeys-lru")
    try:
        assert "allkeys-lru" in (await checks(http))["eviction"]
        assert (await http.get("/readyz")).status_code == 503
    finally:
        redis.config_set("maxmemory-policy", "noeviction")


async def test_not_ready_but_alive_without_redis() -> None:
    with RedisServer(fsync="no") as server:
        async with serving(api_settings(server.url, redis_timeout_s=1)) as app, client(app) as http:
            server.kill()
            assert "ConnectionError" in (await checks(http))["redis"]
            assert (await http.get("/readyz")).status_code == 503
            assert (await http.get("/healthz")).status_code == 200
            scraped = (await http.get("/metrics")).text
            assert "zoompool_redis_up 0.0" in scraped
            assert "zoompool_http_request_seconds_count" in scraped


async def test_not_ready_while_nobody_hears_of_events(app: FastAPI, http: httpx.AsyncClient) -> None:
    async def ready() -> bool:
        return not await checks(http)

    await wait_until_async(ready, "ready")
    services_of(app).hub.connected = False
    assert (await checks(http)).keys() == {"events"}


@pytest.mark.parametrize(
    ("info", "wrong"),
    [
        ({"redis_version": "6.2.14", "maxmemory_policy": "noeviction", "role": "master"}, set()),
        ({"redis_version": "10.0.0"}, set()),
        ({"redis_version": "6.0.16"}, {"version"}),
        ({"redis_version": "rubbish"}, {"version"}),
        ({}, {"version"}),
        ({"redis_version": "7.2.4", "maxmemory_policy": "volatile-ttl"}, {"eviction"}),
        ({"redis_version": "7.2.4", "role": "slave"}, {"primary"}),
    ],
)
def test_fitness_is_judged_by_what_the_server_says(info: dict[str, str], wrong: set[str]) -> None:
    assert {name for name, reason in unfit(info).items() if reason} == wrong


def value(text: str, name: str, **labels: str) -> float:
    """One sample of a scrape; 0 if it is not there."""
    for line in text.splitlines():
        if re.match(rf"{name}[ {{]", line) and all(f'{key}="{label}"' in line for key, label in labels.items()):
            return float(line.rsplit(" ", 1)[1])
    return 0.0


@pytest.fixture
async def scraped(app: FastAPI, http: httpx.AsyncClient) -> str:
    """The metrics after some starts, webhooks and errors."""
    await add_account(app, capacity=2)
    await http.post(START, headers=bearer() | AT_ONCE)
    lease = await make_ready(app, "lesson-of-the-log")
    await http.post(START, headers=bearer() | AT_ONCE)
    await http.post("/api/schedule/lessons/other/start-new/", headers=bearer() | AT_ONCE)
    await http.post("/api/schedule/lessons/third/start-new/", headers=bearer("boris"))
    await http.post("/api/schedule/lessons/third/start-new/", headers=bearer("boris") | AT_ONCE)
    await services_of(app).broker.redis.zadd(services_of(app).broker.pool().keys.leased, {lease.slot: 1})
    await services_of(app).broker.run(services_of(app).broker.pool().reap())
    for raw in (body(), body(), body("phone.x")):
        await send(http, raw)
    await http.post(URL, content=body())
    await http.get("/nowhere/at-all")
    await http.request("BREW", "/api/me/")
    return (await http.get("/metrics")).text


async def test_metrics_count_requests_starts_webhooks_slots_and_jobs(scraped: str) -> None:
    route = "/api/schedule/lessons/{lesson}/start-new/"
    requests = "zoompool_http_request_seconds_count"
    assert value(scraped, requests, route=route, method="POST", status="202") == 3
    assert value(scraped, requests, route=route, method="POST", status="200") == 1
    assert value(scraped, requests, route="unmatched", method="GET", status="404") == 1
    assert value(scraped, requests, method="other", status="405") == 1
    assert value(scraped, "zoompool_starts_total", outcome="accepted") == 2
    assert value(scraped, "zoompool_starts_total", outcome="queued") == 1
    assert value(scraped, "zoompool_starts_total", outcome="ready") == 1
    assert value(scraped, "zoompool_starts_total", outcome="pool_exhausted") == 1
    for result, count in {"enqueued": 1, "duplicate": 1, "ignored": 1, "bad_signature": 1}.items():
        assert value(scraped, "zoompool_webhooks_total", result=result) == count
    assert value(scraped, "zoompool_slots", pool="default", state="suspect") == 1
    assert value(scraped, "zoompool_slots", pool="default", state="leased") == 1
    assert value(scraped, "zoompool_leases", pool="default", phase="claimed") == 1
    assert "zoompool_oldest_suspect_seconds" in scraped
    assert value(scraped, "zoompool_jobs", queue="create", state="waiting") == 2
    assert value(scraped, "zoompool_jobs", queue="webhooks", state="waiting") == 1
    assert value(scraped, "zoompool_redis_up") == 1
    assert "zoompool_waiters 0.0" in scraped


async def test_metrics_hold_no_ids_and_no_secrets(scraped: str) -> None:
    for told in ("lesson-of-the-log", "anna", "boris", "98765432101", "at-all", "BREW", JWT_KEY, WEBHOOK_SECRET):
        assert told not in scraped


async def test_pools_of_single_teachers_are_counted_together(app: FastAPI, http: httpx.AsyncClient) -> None:
    broker = services_of(app).broker
    for teacher in ("teacher-17", "teacher-18"):
        await broker.run(broker.pool(teacher).register())
        await broker.redis.sadd(broker.pool(teacher).keys.accounts, "x")
        await broker.redis.zadd(broker.pool(teacher).keys.free, {"x#0": 1})
    text = (await http.get("/metrics")).text
    assert value(text, "zoompool_slots", pool="personal", state="free") == 2
    assert "teacher-1" not in text


def test_processes_of_one_service_share_their_counts(tmp_path: object) -> None:
    code = "from api.metrics import Metrics; m = Metrics(); m.start('ready'); print(m.text().decode()); m.close()"
    environment = os.environ | {"PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}
    texts = [
        subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True).stdout
        for _ in range(2)
    ]
    assert [value(text, "zoompool_starts_total", outcome="ready") for text in texts] == [1, 2]


def lines(written: str) -> list[dict[str, object]]:
    """The log, which is JSON in production."""
    return [json.loads(line) for line in written.splitlines() if line.startswith("{")]


async def test_each_request_is_one_line_with_its_id_and_without_ids_of_people(
    redis_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = api_settings(redis_url, environment="production")
    async with serving(settings) as app, client(app) as http:
        await add_account(app)
        answer = await http.post(
            f"{START}?token=query-secret", headers=bearer() | AT_ONCE | {"X-Request-ID": "web-1.a_b"}
        )
        assert answer.headers["x-request-id"] == "web-1.a_b"
        await http.get("/healthz")
        written = capsys.readouterr().err
    (line,) = [line for line in lines(written) if line["event"] == "request"]
    assert line["request_id"] == "web-1.a_b"
    assert (line["method"], line["status"]) == ("POST", 202)
    assert line["route"] == "/api/schedule/lessons/{lesson}/start-new/"
    assert isinstance(line["ms"], float)
    for told in ("query-secret", "lesson-of-the-log", bearer()["Authorization"].split(".")[0]):
        assert told not in written


@pytest.mark.parametrize("given", ["", "a b", "x" * 65, "ключ", "a\tb"])
async def test_request_id_that_is_not_sane_is_replaced(http: httpx.AsyncClient, given: str) -> None:
    answer = await http.get("/healthz", headers={b"X-Request-ID": given.encode()})
    assert re.fullmatch(r"[0-9a-f]{32}", answer.headers["x-request-id"])


async def test_unforeseen_error_is_500_with_the_request_id_and_logged_without_secrets(
    redis_url: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def breaks(*args: object) -> None:
        raise RuntimeError("zak=very-secret; Bearer abcdefghijklmnop")

    async with serving(api_settings(redis_url, environment="production")) as app, client(app) as http:
        monkeypatch.setattr("api.lessons.Lessons.active", breaks)
        answer = await http.get("/api/me/", headers=bearer() | {"X-Request-ID": "seen-in-the-log"})
        scraped = (await http.get("/metrics")).text
        written = capsys.readouterr().err
    assert answer.status_code == 500
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["x-request-id"] == answer.json()["request_id"] == "seen-in-the-log"
    assert answer.json()["code"] == "internal_error"
    assert "secret" not in answer.text
    (line,) = [line for line in lines(written) if line["event"] == "unhandled"]
    assert line["request_id"] == "seen-in-the-log"
    assert "RuntimeError" in str(line["exception"])
    assert "very-secret" not in written
    assert "abcdefghijklmnop" not in written
    assert value(scraped, "zoompool_http_request_seconds_count", route="/api/me/", status="500") == 1


async def test_waiting_callers_are_counted_while_they_wait(app: FastAPI, http: httpx.AsyncClient) -> None:
    await add_account(app)
    starting = asyncio.create_task(http.post(START, headers=bearer()))
    lease = await claimed(app, "lesson-of-the-log")

    async def one() -> bool:
        return "zoompool_waiters 1.0" in (await http.get("/metrics")).text

    await wait_until_async(one, "one waits")
    pool = services_of(app).broker.pool()
    await services_of(app).broker.run(pool.release([lease.id], ReleaseReason.FAILED, detail="zoom_timeout"))
    await starting
    assert "zoompool_waiters 0.0" in (await http.get("/metrics")).text
