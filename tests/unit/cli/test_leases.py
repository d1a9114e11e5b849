"""`zoompool leases`: who holds what, and how an operator ends it without hurting a lesson."""

from __future__ import annotations

import json
import socket

import redis as redis_py

from broker.client import Broker
from broker.models import Phase, ReleaseReason
from broker.operations import Pool
from tests.unit.cli.running import Run, claim, make_ready, ok, refused


def test_leases_are_listed_suspects_first(zoompool: Run, broker: Broker, pool: Pool, redis: redis_py.Redis) -> None:
    claim(broker, pool, "lesson-1")
    second = claim(broker, pool, "lesson-2")
    broker.run(pool.begin_creating(second.id, "attempt"))
    redis.zadd(pool.keys.leased, {second.id.slot: 1})
    broker.run(pool.reap())
    assert [lease["lesson"] for lease in json.loads(ok(zoompool("leases", "list", "--json")))] == [
        "lesson-2",
        "lesson-1",
    ]
    assert [entry["lesson"] for entry in json.loads(ok(zoompool("leases", "list", "--suspect", "--json")))] == [
        "lesson-2"
    ]
    text = ok(zoompool("leases", "list", env={"ZOOMPOOL_TIMEZONE": "Europe/Moscow"}))
    for part in ("suspect/creating", "teacher-1", "since", "MSK", "age"):
        assert part in text


def test_a_lease_is_found_by_its_id_its_lesson_and_its_meeting(zoompool: Run, broker: Broker, pool: Pool) -> None:
    lease = claim(broker, pool, "lesson-1")
    make_ready(broker, pool, lease, 89012345678)
    for what in (str(lease.id), "lesson-1", "89012345678"):
        found = json.loads(ok(zoompool("leases", "show", what, "--json")))
        assert (found["running"], found["id"]) == (True, str(lease.id))
    text = ok(zoompool("leases", "show", "lesson-1"))
    assert "89012345678" in text
    assert "PASSCODE" not in text


def test_the_outcome_of_a_lesson_is_shown(zoompool: Run, broker: Broker, pool: Pool) -> None:
    lease = claim(broker, pool, "lesson-1")
    broker.run(pool.release([lease.id], ReleaseReason.FAILED, detail="zoom_timeout"))
    found = json.loads(ok(zoompool("leases", "show", "lesson-1", "--json")))
    assert (found["running"], found["reason"], found["detail"]) == (False, "failed", "zoom_timeout")
    assert "This lease is over." in ok(zoompool("leases", "show", "lesson-1"))


def test_what_was_never_leased_is_an_error(zoompool: Run, pool: Pool) -> None:
    for what in ("lesson-404", "89012345678", "host-1#0@99"):
        refused(zoompool("leases", "show", what), "unknown_lease")


def test_a_claim_that_never_reached_zoom_is_released_without_force(zoompool: Run, broker: Broker, pool: Pool) -> None:
    lease = claim(broker, pool, "lesson-1")
    ok(zoompool("leases", "release", str(lease.id), "--reason", "test"))
    assert broker.run(pool.status()).free == 3


def test_release_without_force_refuses_while_a_meeting_may_exist(zoompool: Run, broker: Broker, pool: Pool) -> None:
    lease = claim(broker, pool, "lesson-1")
    broker.run(pool.begin_creating(lease.id, "attempt"))
    said = refused(zoompool("leases", "release", str(lease.id), "--reason", "test"), "meeting_may_exist")
    assert f"zoompool leases end '{lease.id}'" in said
    found = broker.run(pool.find_lease(lease.id)).lease
    assert found is not None
    assert found.phase is Phase.CREATING


def test_a_forced_release_frees_now_and_is_recorded(zoompool: Run, broker: Broker, pool: Pool) -> None:
    lease = claim(broker, pool, "lesson-1")
    make_ready(broker, pool, lease, 89012345678)
    reason = "host's laptop stolen"
    result = zoompool("leases", "release", str(lease.id), "--force", "--reason", reason, "--by", "olga")
    ok(result)
    assert "meeting 89012345678 was not touched" in result.stderr
    assert broker.run(pool.status()).free == 3
    (event, *_) = broker.run(pool.events(count=1))
    assert event.type == "lease.released"
    assert (event.fields["reason"], event.fields["detail"]) == ("forced", "olga: host's laptop stolen")
    assert (event.lesson, event.fields["owner"], event.fields["phase"]) == ("lesson-1", "teacher-1", "ready")


def test_a_forced_release_names_the_user_of_the_machine_when_nobody_is_named(
    zoompool: Run, broker: Broker, pool: Pool
) -> None:
    lease = claim(broker, pool, "lesson-1")
    ok(zoompool("leases", "release", str(lease.id), "--reason", "test", env={"LOGNAME": "olga"}))
    outcome = broker.run(pool.find_lesson("lesson-1")).outcome
    assert outcome is not None
    assert outcome.detail == f"olga@{socket.gethostname()}: test"


def test_a_release_without_a_reason_is_refused(zoompool: Run, broker: Broker, pool: Pool) -> None:
    lease = claim(broker, pool, "lesson-1")
    assert zoompool("leases", "release", str(lease.id), "--force", "--reason", " ").exit_code == 2
    assert broker.run(pool.find_lease(lease.id)).lease is not None


def test_a_second_release_says_that_the_lease_is_over(zoompool: Run, broker: Broker, pool: Pool) -> None:
    lease = claim(broker, pool, "lesson-1")
    ok(zoompool("leases", "release", str(lease.id), "--reason", "test"))
    refused(zoompool("leases", "release", str(lease.id), "--force", "--reason", "test"), "unknown_lease")


def test_a_lease_is_ended_through_zoom_by_a_job(
    zoompool: Run, broker: Broker, pool: Pool, redis: redis_py.Redis
) -> None:
    lease = claim(broker, pool, "lesson-1")
    make_ready(broker, pool, lease, 89012345678)
    ok(zoompool("leases", "end", str(lease.id)))
    assert redis.llen("rq:queue:create") == 1
    assert broker.run(pool.find_lease(lease.id)).lease is not None


def test_something_that_is_no_lease_id_is_refused(zoompool: Run, pool: Pool) -> None:
    assert "account#0@17" in refused(zoompool("leases", "release", "lesson-1", "--reason", "x"), "invalid_name")
