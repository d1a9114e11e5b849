"""`zoompool teachers`, `zoompool lessons`, `zoompool accounts import` and `zoompool credentials rotate`."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import redis.asyncio
from pydantic import SecretStr
from typer.testing import Result

from broker.client import Broker
from broker.models import Account, Change, Credential
from broker.operations import Pool
from broker.registry import credentials, lessons, teachers
from broker.registry.lessons import Lesson
from broker.registry.teachers import Teacher
from broker.secrets import SecretBox, new_key
from broker.testing.zoom_simulator import ZoomSimulator
from tests.unit.cli.running import KEY, Run, ok, refused


async def test_teachers_are_listed_and_shown_without_secrets(zoompool: Run, aredis: redis.asyncio.Redis) -> None:
    await teachers.save(aredis, Teacher("17", subscription_until_ms=4_000_000_000_000))
    await teachers.save(aredis, Teacher("18"))
    box = SecretBox([SecretStr(KEY)])
    own = Credential("teacher-17", "acc", "cli", SecretStr("hush-hush"), SecretStr("whisper"))
    await credentials.save(aredis, box, own)
    listed = json.loads(ok(await asyncio.to_thread(zoompool, "teachers", "list", "--json")))
    assert [teacher["id"] for teacher in listed] == ["17", "18"]
    assert "2096-10-02" in ok(await asyncio.to_thread(zoompool, "teachers", "list"))
    shown = ok(await asyncio.to_thread(zoompool, "teachers", "show", "17"))
    shown += ok(await asyncio.to_thread(zoompool, "teachers", "show", "17", "--json"))
    assert "cli" in shown
    assert "hush" not in shown + ok(await asyncio.to_thread(zoompool, "credentials", "list"))
    assert "whisper" not in shown
    refused(await asyncio.to_thread(zoompool, "teachers", "show", "nobody"), "unknown_teacher")


async def test_lessons_are_listed_and_shown(zoompool: Run, aredis: redis.asyncio.Redis) -> None:
    for id, teacher in (("1", "17"), ("2", "18")):
        await lessons.save(aredis, Lesson(id, teacher, "Algebra", "7b", 4_000_000_000_000), keep_days=90)
    assert len(json.loads(ok(await asyncio.to_thread(zoompool, "lessons", "list", "--json")))) == 2
    (only,) = json.loads(ok(await asyncio.to_thread(zoompool, "lessons", "list", "--teacher", "18", "--json")))
    assert only["id"] == "2"
    assert "Algebra" in ok(await asyncio.to_thread(zoompool, "lessons", "list", "--group", "7b"))
    assert "2096-10-02" in ok(await asyncio.to_thread(zoompool, "lessons", "show", "1"))
    refused(await asyncio.to_thread(zoompool, "lessons", "show", "nobody"), "lesson_unknown")


def test_nothing_registered_is_said(zoompool: Run) -> None:
    assert "no teachers" in ok(zoompool("teachers", "list"))
    assert "no such lessons" in ok(zoompool("lessons", "list"))


def test_accounts_are_imported_from_a_table(zoompool: Run, broker: Broker, pool: Pool, tmp_path: Path) -> None:
    table = tmp_path / "hosts.csv"
    table.write_text("id,email,capacity\nhost-2,new@school.example,3\nhost-3,three@school.example,\n")
    assert "2 accounts would be" in ok(zoompool("accounts", "import", str(table), "--dry-run"))
    assert len(broker.run(pool.accounts())) == 2
    assert "2 accounts are" in ok(zoompool("accounts", "import", str(table)))
    assert [(a.id, a.email, a.capacity) for a in broker.run(pool.accounts())][1:] == [
        ("host-2", "new@school.example", 3),
        ("host-3", "three@school.example", 1),
    ]


def test_a_table_with_mistakes_imports_nothing(zoompool: Run, broker: Broker, pool: Pool, tmp_path: Path) -> None:
    table = tmp_path / "hosts.csv"
    table.write_text("email,capacity\nthree@school.example,1\nfour@school.example,many\n")
    assert "line 3" in refused(zoompool("accounts", "import", str(table)), "import_refused")
    table.write_text("email,credential\nthree@school.example,nothing\n")
    refused(zoompool("accounts", "import", str(table)), "unknown_credential")
    refused(zoompool("accounts", "import", str(tmp_path / "missing.csv")), "import_refused")
    assert zoompool("accounts", "import").exit_code == zoompool("accounts", "import", "x", "--from-zoom").exit_code == 2
    assert len(broker.run(pool.accounts())) == 2


async def test_accounts_are_imported_from_zoom_with_the_capacity_of_their_licence(
    beside_zoom: Callable[..., Awaitable[Result]], broker: Broker, pool: Pool
) -> None:
    assert "2 accounts are" in ok(await beside_zoom("accounts", "import", "--from-zoom"))
    imported = broker.run(pool.accounts())
    assert [(account.id, account.email, account.capacity) for account in imported] == [
        ("host-1", "one@school.example", 2),
        ("host-2", "two@school.example", 2),
    ], "who is in the pool already keeps the id"
    assert all(account.zoom_user_id for account in imported)


async def test_zooms_users_who_are_two_accounts_are_refused_and_nobody_is_imported(
    beside_zoom: Callable[..., Awaitable[Result]], broker: Broker, pool: Pool, zoom: ZoomSimulator
) -> None:
    user = zoom.world.hosts.look_up("two@school.example")
    assert user is not None
    twice = Account("host-3", "", user.id, "default", 1)
    assert broker.run(pool.add_account(twice)).change is Change.DONE, "nobody knows yet that it is host-2"
    before = broker.run(pool.accounts())
    for dry_run in ([], ["--dry-run"]):
        result = await beside_zoom("accounts", "import", "--from-zoom", *dry_run)
        assert (result.exit_code, result.stdout) == (1, "")
        assert "that of 'host-3' is account 'host-2' already" in result.stderr
        assert result.stderr.endswith("[host_taken]\n")
    assert broker.run(pool.accounts()) == before


def test_table_with_a_zoom_user_of_another_account_imports_nothing(
    zoompool: Run, broker: Broker, pool: Pool, tmp_path: Path
) -> None:
    table = tmp_path / "hosts.csv"
    table.write_text("id,email\nhost-3,three@school.example\nnew,One@school.example\n")
    for dry_run in ([], ["--dry-run"]):
        told = refused(zoompool("accounts", "import", str(table), *dry_run), "host_taken")
        assert "that of 'new' is account 'host-1' already" in told
        assert "zoompool accounts remove host-1 --pool default" in told
    assert [account.id for account in broker.run(pool.accounts())] == ["host-1", "host-2"]
    table.write_text("id,email\nhost-3,three@school.example\nnew,THREE@school.example\n")
    assert "line 3: Zoom user 'three@school.example'" in refused(
        zoompool("accounts", "import", str(table)), "import_refused"
    )


async def test_rotation_makes_the_old_key_dispensable(zoompool: Run, pool: Pool, aredis: redis.asyncio.Redis) -> None:
    new = new_key()
    told = ok(await asyncio.to_thread(zoompool, "credentials", "rotate", env={"ZOOMPOOL_SECRET_KEYS": f"{new},{KEY}"}))
    assert "1 credential encrypted" in told
    assert (await credentials.load(aredis, SecretBox([SecretStr(new)]), "default")).client_id == "cli"
    refused(await asyncio.to_thread(zoompool, "credentials", "rotate"), "secret_unreadable")


async def test_a_new_client_secret_leaves_the_webhook_secret_alone(
    zoompool: Run, pool: Pool, aredis: redis.asyncio.Redis
) -> None:
    box = SecretBox([SecretStr(KEY)])
    known = await credentials.load(aredis, box, "default")
    await credentials.save(aredis, box, replace(known, webhook_secret=SecretStr("whisper")))
    add = ("credentials", "add", "default", "--account-id", "acc", "--client-id", "new")
    ok(await asyncio.to_thread(zoompool, *add))
    saved = await credentials.load(aredis, box, "default")
    assert (saved.client_id, saved.webhook_secret.get_secret_value()) == ("new", "whisper")
