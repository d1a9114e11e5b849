"""`zoompool credentials`: secrets go in by the right ways and never come out."""

from __future__ import annotations

import json

import redis as redis_py
from cryptography.fernet import Fernet

from broker import keys
from broker.operations import Pool
from tests.unit.cli.running import KEY, SECRET, Run, ok, refused


def test_a_client_secret_comes_from_standard_input(zoompool: Run, redis: redis_py.Redis) -> None:
    arguments = ("credentials", "add", "school", "--account-id", "acc", "--client-id", "cli")
    ok(zoompool(*arguments, "--stdin", input="from-a-pipe\n"))
    sealed = redis.hget(keys.credential("school"), "client_secret")
    assert Fernet(KEY).decrypt(str(sealed)) == b"from-a-pipe"


def test_without_a_secret_nothing_is_saved(zoompool: Run, redis: redis_py.Redis) -> None:
    result = zoompool(
        "credentials", "add", "x", "--account-id", "a", "--client-id", "c", env={"ZOOMPOOL_CLIENT_SECRET": None}
    )
    assert "ZOOMPOOL_CLIENT_SECRET" in refused(result, "configuration_error")
    assert not redis.exists(keys.credential("x"))


def test_a_secret_is_not_taken_from_the_command_line(zoompool: Run) -> None:
    result = zoompool("credentials", "add", "x", "--account-id", "a", "--client-id", "c", "--client-secret", "s")
    assert result.exit_code == 2


def test_credentials_are_listed_without_secrets(zoompool: Run, pool: Pool) -> None:
    text = ok(zoompool("credentials", "list", "--json"))
    assert json.loads(text) == [
        {"name": "default", "account_id": "acc", "client_id": "cli", "has_webhook_secret": False}
    ]
    assert SECRET not in text + ok(zoompool("credentials", "list"))


def test_a_credential_in_use_is_not_removed_without_force(zoompool: Run, pool: Pool, redis: redis_py.Redis) -> None:
    assert "default/host-1" in refused(zoompool("credentials", "remove", "default"), "credential_in_use")
    ok(zoompool("credentials", "remove", "default", "--force"))
    assert not redis.exists(keys.credential("default"))
    refused(zoompool("credentials", "remove", "default"), "credential_in_use")


def test_an_unknown_credential_cannot_be_removed(zoompool: Run) -> None:
    refused(zoompool("credentials", "remove", "nobody"), "unknown_credential")
