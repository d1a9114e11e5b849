"""The dashboard as an operator gets it: the plain file, run by the real redis-cli."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
import redis as redis_py

from broker.client import Broker
from broker.models import Account, AccountState, Lease, ReleaseReason
from broker.operations import Pool
from broker.settings import Settings
from tests import redis_cli

WIDTH = 120
Dashboard = Callable[..., str]


@pytest.fixture
def broker(redis: redis_py.Redis, redis_url: str) -> Broker:
    return Broker(redis, Settings(redis_url=redis_url, max_leases_per_owner=1000))


@pytest.fixture
def pool(broker: Broker) -> Pool:
    return broker.pool("default")


@pytest.fixture
def dashboard(redis_url: str) -> Dashboard:
    def run(*arguments: str, key: str = "zp:{default}:") -> str:
        extra = [",", *arguments] if arguments else []
        return redis_cli.run(redis_url, "--raw", "--eval", "lua/dashboard.lua", key, *extra)

    return run


def add(broker: Broker, pool: Pool, *accounts: str, capacity: int = 1) -> None:
    for account in accounts:
        broker.run(pool.add_account(Account(account, f"{account}@school.example", "", "default", capacity)))


def claim(broker: Broker, pool: Pool, lesson: str, owner: str = "teacher-1") -> Lease:
    lease = broker.run(pool.claim(lesson, owner)).lease
    assert lease is not None
    return lease


def make_live(broker: Broker, pool: Pool, lease: Lease, meeting_id: int) -> None:
    broker.run(pool.begin_creating(lease.id, "attempt"))
    broker.run(
        pool.made_ready(
            lease.id,
            meeting_id=meeting_id,
            meeting_uuid="uuid==",
            join_url="https://zoom.example/j/JOINURL?pwd=PWD",
            passcode="PASSCODE",
            sealed_start_url="SEALEDSTARTURL",
            start_url_ms=1,
        )
    )
    broker.run(pool.went_live(lease.id, meeting_uuid="uuid=="))


def make_suspect(broker: Broker, pool: Pool, lease: Lease) -> None:
    broker.redis.zadd(pool.keys.leased, {lease.id.slot: 1})
    broker.run(pool.reap())


def row(text: str, word: str) -> str:
    """The first line that holds `word`."""
    return next(line for line in text.splitlines() if word in line)


def test_shows_each_lease_with_lesson_owner_phase_and_meeting(broker: Broker, pool: Pool, dashboard: Dashboard) -> None:
    add(broker, pool, "host-1", "host-2")
    make_live(broker, pool, claim(broker, pool, "algebra", "anna"), 89012345678)
    claim(broker, pool, "biology", "boris")
    text = dashboard("50", "0")
    live = row(text, "algebra").split()
    assert live[:4] == ["host-1#0", "algebra", "anna", "live"]
    assert re.fullmatch(r"\d+s", live[4])
    assert re.fullmatch(r"1[45]m\d\ds", live[5])
    assert live[6] == "89012345678"
    assert row(text, "biology").split()[:4] == ["host-2#0", "biology", "boris", "claimed"]


def test_works_without_arguments(broker: Broker, pool: Pool, dashboard: Dashboard) -> None:
    add(broker, pool, "host-1")
    text = dashboard()
    assert text.startswith("Pool default")
    assert "UTC" in text.splitlines()[0]
    assert ". 1 free" in text


def test_counts_slots_by_state(broker: Broker, pool: Pool, dashboard: Dashboard) -> None:
    add(broker, pool, "host-1", "host-2", "host-3", "host-4")
    broker.run(pool.park_account("host-4", AccountState.DISABLED, "broken"))
    make_suspect_one = claim(broker, pool, "lesson-1")
    broker.run(pool.begin_creating(make_suspect_one.id, "attempt"))
    make_suspect(broker, pool, make_suspect_one)
    claim(broker, pool, "lesson-2")
    line = dashboard().splitlines()[1]
    assert line == "[#!-.]  # 1 leased   ! 1 suspect   - 1 parked   . 1 free   of 4 slots, 4 accounts"


def test_bar_keeps_its_width_and_shows_the_smallest_share(broker: Broker, pool: Pool, dashboard: Dashboard) -> None:
    add(broker, pool, *(f"host-{n}" for n in range(30)), capacity=10)
    claim(broker, pool, "only-one")
    bar = dashboard().splitlines()[1].split("]")[0].removeprefix("[")
    assert len(bar) == 40
    assert bar == "#" + "." * 39


def test_suspects_come_first_and_are_marked(broker: Broker, pool: Pool, dashboard: Dashboard) -> None:
    add(broker, pool, "host-1", "host-2", "host-3")
    for number in (1, 2, 3):
        claim(broker, pool, f"lesson-{number}")
    last = claim(broker, pool, "lesson-3")
    make_live(broker, pool, last, 89012345678)
    make_suspect(broker, pool, last)
    text = dashboard()
    first = text.splitlines()[text.splitlines().index(row(text, "SLOT")) + 1]
    assert first.startswith("!  host-3#0")
    assert "suspect/live" in first


def test_suspects_leave_room_for_running_leases(broker: Broker, pool: Pool, dashboard: Dashboard) -> None:
    add(broker, pool, *(f"host-{n}" for n in range(8)))
    for number in range(8):
        lease = claim(broker, pool, f"lesson-{number}")
        if number < 6:
            broker.run(pool.begin_creating(lease.id, "attempt"))
            make_suspect(broker, pool, lease)
    text = dashboard("4", "0")
    assert len(re.findall(r"^!  host", text, re.MULTILINE)) == 2
    assert len(re.findall(r"^   host", text, re.MULTILINE)) == 2
    assert "… and 4 more suspect" in text


def test_marks_leases_whose_account_is_out_of_rotation(broker: Broker, pool: Pool, dashboard: Dashboard) -> None:
    add(broker, pool, "host-1")
    claim(broker, pool, "lesson-1")
    broker.run(pool.park_account("host-1", AccountState.DRAINING, "summer"))
    assert row(dashboard(), "lesson-1").startswith("-  host-1#0")


def test_parked_accounts_say_why_and_until_when(broker: Broker, pool: Pool, dashboard: Dashboard) -> None:
    add(broker, pool, "host-1", "host-2", capacity=2)
    now_ms = broker.run(pool.status()).now_ms
    broker.run(pool.park_account("host-1", AccountState.QUARANTINED, "zoom_host_not_allowed: нет лицензии"))
    broker.run(pool.park_account("host-2", AccountState.LIMITED, "daily limit", until_ms=now_ms + 3 * 86_400_000))
    text = dashboard()
    parked = text[text.index("PARKED") :]
    first = row(parked, "host-1 ")
    assert first.split()[:4] == ["-", "host-1", "2", "quarantined"]
    assert "an operator" in first
    assert first.endswith("zoom_host_not_allowed: нет лицензии")
    assert re.search(r"limited +\d\d-\d\d \d\d:\d\d +daily limit$", row(parked, "host-2 "))


def test_slot_below_a_lowered_capacity_is_explained(broker: Broker, pool: Pool, dashboard: Dashboard) -> None:
    add(broker, pool, "host-1", capacity=2)
    first = claim(broker, pool, "lesson-1")
    claim(broker, pool, "lesson-2")
    broker.run(pool.resize_account("host-1", 1))
    broker.run(pool.release([first.id], ReleaseReason.ENDED))
    text = dashboard()
    assert re.search(r"- +host-1 +1 +active +released +its account has as many leases", text[text.index("PARKED") :])


def test_shows_ten_events_newest_first_with_reasons(broker: Broker, pool: Pool, dashboard: Dashboard) -> None:
    add(broker, pool, "host-1")
    for number in range(8):
        lease = claim(broker, pool, f"lesson-{number}")
        broker.run(pool.release([lease.id], ReleaseReason.FORCED, detail="by hand"))
    lines = dashboard().split("LAST EVENTS\n")[1].splitlines()
    assert len(lines) == 10
    newest = r" +\d\d:\d\d:\d\d  lease\.released  lesson-7  host-1#0@\d{16}  forced, by hand, in claimed$"
    assert re.match(newest, lines[0])
    assert "lease.claimed" in lines[1]


def test_never_shows_links_or_passcodes(broker: Broker, pool: Pool, dashboard: Dashboard) -> None:
    add(broker, pool, "host-1", "host-2")
    make_live(broker, pool, claim(broker, pool, "lesson-1"), 89012345678)
    broker.run(pool.park_account("host-2", AccountState.DISABLED, "see https://zoom.example/s/1?zak=ZAK now"))
    text = dashboard()
    assert "see [link] now" in text
    for secret in ("JOINURL", "PWD", "PASSCODE", "SEALEDSTARTURL", "ZAK", "https:"):
        assert secret not in text


def test_never_reads_more_leases_or_parked_slots_than_rows(
    broker: Broker, pool: Pool, dashboard: Dashboard, redis: redis_py.Redis
) -> None:
    add(broker, pool, *(f"host-{n}" for n in range(20)))
    add(broker, pool, *(f"parked-{n}" for n in range(20)))
    for number in range(20):
        broker.run(pool.park_account(f"parked-{number}", AccountState.DISABLED, "broken"))
    for number in range(20):
        claim(broker, pool, f"lesson-{number}")

    def reads() -> int:
        stats: dict[str, dict[str, int]] = redis.info("commandstats")
        return sum(stats.get(f"cmdstat_{name}", {}).get("calls", 0) for name in ("hmget", "hget", "hgetall"))

    before = reads()
    text = dashboard("3", "0")
    assert reads() - before <= 3 * 3  # a lease, its account's state, a parked account
    assert "… and 17 more running, with later deadlines" in text
    assert "… and 17 more parked slots" in text
    assert len(re.findall(r"^   host", text, re.MULTILINE)) == 3


@pytest.mark.parametrize("rows", ["0", "-5", "1", "500", "100000"])
def test_any_number_of_rows_is_survived(rows: str, broker: Broker, pool: Pool, dashboard: Dashboard) -> None:
    add(broker, pool, "host-1", "host-2")
    claim(broker, pool, "lesson-1")
    assert "lesson-1" in dashboard(rows)


def test_lines_fit_the_screen_whatever_the_names(broker: Broker, pool: Pool, dashboard: Dashboard) -> None:
    long = "x" * 98
    add(broker, pool, f"{long}-1", f"{long}-2")
    make_live(broker, pool, claim(broker, pool, f"{long}-lesson", f"{long}-owner"), 2**62)
    broker.run(pool.park_account(f"{long}-2", AccountState.DISABLED, "долгая причина " * 30))
    text = dashboard()
    assert max(map(len, text.splitlines())) <= WIDTH
    line = row(text, " live ")
    assert re.search(r"x…x*-1#0 ", line), "the end of a name, which tells names apart, must survive"
    assert str(2**62) in line
    assert "долгая причина" in text


def test_cyrillic_does_not_shift_columns(broker: Broker, pool: Pool, dashboard: Dashboard) -> None:
    add(broker, pool, "host-1", "host-2")
    broker.run(pool.park_account("host-1", AccountState.DISABLED, "сломан"))
    broker.run(pool.park_account("host-2", AccountState.DISABLED, "broken"))
    text = dashboard()
    parked = text[text.index("PARKED") : text.index("LAST EVENTS")]
    assert row(parked, "host-1").index("сломан") == row(parked, "host-2").index("broken")


def test_a_reason_cannot_steer_the_terminal(
    broker: Broker, pool: Pool, dashboard: Dashboard, redis: redis_py.Redis
) -> None:
    add(broker, pool, "host-1")
    broker.run(pool.park_account("host-1", AccountState.DISABLED, "a\x1b[2Jb\r\nc\x9bd"))
    redis.hset(pool.keys.account("host-1"), "reason", b"bytes \xff\xed\xa0\x80 that are not UTF-8")
    text = dashboard()
    assert "bytes ???? that are not UTF-8" in text
    assert "a?[2Jb??c??d" in text
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]", text)


def test_time_is_the_readers(broker: Broker, pool: Pool, dashboard: Dashboard) -> None:
    add(broker, pool, "host-1")
    assert dashboard("50", "330").splitlines()[0].endswith(" UTC+05:30")
    assert dashboard("50", "-90").splitlines()[0].endswith(" UTC-01:30")


@pytest.mark.parametrize(
    ("ms", "shown"),
    [
        (1_709_164_800_000, "02-29 00:00"),  # 2024, a leap year
        (951_782_400_000, "02-29 00:00"),  # 2000, a leap year although divisible by 100
        (4_107_542_400_000, "03-01 00:00"),  # 2100, none: the day after 28 February
        (1_735_689_599_000, "12-31 23:59"),
        (1_735_689_600_000, "01-01 00:00"),
    ],
)
def test_dates_are_right(ms: int, shown: str, broker: Broker, pool: Pool, dashboard: Dashboard) -> None:
    add(broker, pool, "host-1")
    broker.run(pool.park_account("host-1", AccountState.LIMITED, "daily limit", until_ms=ms))
    text = dashboard()
    assert re.search(rf"limited +{shown} +daily limit", text[text.index("PARKED") :])


def test_lease_record_that_is_missing_is_shown_not_hidden(
    broker: Broker, pool: Pool, dashboard: Dashboard, redis: redis_py.Redis
) -> None:
    add(broker, pool, "host-1")
    lease = claim(broker, pool, "lesson-1")
    redis.delete(pool.keys.slot(lease.id.slot))
    assert row(dashboard(), "host-1#0").split()[1:4] == ["?", "?", "NO"]


def test_unknown_pool_is_a_clear_sentence(dashboard: Dashboard) -> None:
    text = dashboard(key="zp:{nowhere}:")
    assert text.startswith("Pool nowhere is not known here: it has no accounts.")
    assert len(text.splitlines()) == 1


def test_wrong_key_is_a_clear_sentence(dashboard: Dashboard) -> None:
    assert dashboard(key="default").startswith("Give the pool's prefix as the key, like 'zp:{default}:'.")


def test_argument_that_is_no_number_is_an_error(broker: Broker, pool: Pool, dashboard: Dashboard) -> None:
    add(broker, pool, "host-1")
    assert "NOT_A_NUMBER" in dashboard("many")


def test_is_the_same_through_the_broker(broker: Broker, pool: Pool, dashboard: Dashboard) -> None:
    add(broker, pool, "host-1")
    assert broker.run(pool.dashboard(rows=50)).splitlines()[1:] == dashboard().rstrip("\n").splitlines()[1:]
