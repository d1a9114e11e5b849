"""`zoompool token` and `zoompool secret-key`."""

from __future__ import annotations

import jwt
from cryptography.fernet import Fernet

from tests.unit.cli.running import JWT_KEY, Run, ok, refused


def test_a_token_has_the_claims_that_were_asked_for(zoompool: Run) -> None:
    text = ok(zoompool("token", "--user", "42", "--role", "ops", "--ttl", "60", env={"ZOOMPOOL_JWT_AUDIENCE": "zp"}))
    claims = jwt.decode(text.strip(), JWT_KEY, algorithms=["HS256"], audience="zp")
    assert (claims["user_id"], claims["role"]) == ("42", "ops")
    assert claims["exp"] - claims["iat"] == 60


def test_without_a_key_there_is_no_token(zoompool: Run) -> None:
    refused(zoompool("token", "--user", "42", env={"ZOOMPOOL_JWT_KEY": None}), "configuration_error")
    refused(zoompool("token", "--user", "42", env={"ZOOMPOOL_JWT_ALGORITHM": "RS256"}), "configuration_error")


def test_secret_keys_are_fresh_and_usable(zoompool: Run) -> None:
    first, second = (ok(zoompool("secret-key")).strip() for _ in range(2))
    assert first != second
    assert Fernet(first).decrypt(Fernet(first).encrypt(b"x")) == b"x"
