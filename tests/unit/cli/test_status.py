"""`zoompool status` and `zoompool pools`: how the pools are, for people and for machines."""

from __future__ import annotations

import json

from broker.client import Broker
from broker.operations import Pool
from tests.unit.cli.running import Run, claim, make_ready, ok


def test_status_shows_the_dashboard(zoompool: Run, broker: Broker, pool: Pool) -> None:
    claim(broker, pool, "lesson-1")
    text = ok(zoompool("status"))
    assert text.startswith("Pool default")
    assert "lesson-1" in text


def test_status_as_json_has_counts_leases_and_accounts(zoompool: Run, broker: Broker, pool: Pool) -> None:
    make_ready(broker, pool, claim(broker, pool, "lesson-1"), 89012345678)
    text = ok(zoompool("status", "--json"))
    found = json.loads(text)
    assert found["status"]["slots"] == 3
    assert found["status"]["phases"] == {"ready": 1}
    (lease,) = found["leases"]
    assert (lease["lesson"], lease["phase"], lease["meeting_id"]) == ("lesson-1", "ready", 89012345678)
    assert [account["id"] for account in found["accounts"]] == ["host-1", "host-2"]
    for secret in ("JOINURL", "PASSCODE", "SEALED"):
        assert secret not in text


def test_json_of_a_lease_has_exactly_the_documented_fields(zoompool: Run, broker: Broker, pool: Pool) -> None:
    claim(broker, pool, "lesson-1")
    (lease,) = json.loads(ok(zoompool("leases", "list", "--json")))
    assert sorted(lease) == sorted(
        [
            "id",
            "pool",
            "slot",
            "account",
            "email",
            "lesson",
            "owner",
            "phase",
            "was",
            "granted_ms",
            "since_ms",
            "deadline_ms",
            "hold_until_ms",
            "now_ms",
            "credential",
            "topic",
            "duration_min",
            "meeting_id",
            "meeting_uuid",
        ]
    )


def test_status_of_an_unknown_pool_is_a_sentence(zoompool: Run) -> None:
    assert "Pool nowhere is not known here" in ok(zoompool("status", "--pool", "nowhere"))


def test_status_seconds_without_watch_is_wrong_usage(zoompool: Run) -> None:
    assert zoompool("status", "3").exit_code == 2


def test_pools_are_listed_with_their_counts(zoompool: Run, pool: Pool) -> None:
    ok(zoompool("accounts", "add", "host-9", "--email", "nine@school.example", "--pool", "evening"))
    found = json.loads(ok(zoompool("pools", "list", "--json")))
    assert [(entry["pool"], entry["accounts"], entry["free"]) for entry in found] == [
        ("default", 2, 3),
        ("evening", 1, 1),
    ]
    assert "evening" in ok(zoompool("pools", "list"))
