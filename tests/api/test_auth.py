"""Tokens: whose count, and what happens when they cannot be checked."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from fastapi import FastAPI
from jwt.algorithms import RSAAlgorithm
from pydantic import SecretStr

from api import signing_keys
from api.auth import Caller
from api.deps import Ops, Service
from api.signing_keys import KeysUnavailable, PublishedKeys
from broker.errors import ConfigurationError
from tests.api.acting import bearer
from tests.api.conftest import JWT_KEY, api_settings, client, serving

ME = "/api/me/"
MISSING = "Authentication credentials were not provided."


def rsa_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def public_pem(key: rsa.RSAPrivateKey) -> str:
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return key.public_key().public_bytes(serialization.Encoding.PEM, form).decode()


def signed(key: Any, kid: str = "", algorithm: str = "RS256") -> str:
    headers = {"kid": kid} if kid else None
    return jwt.encode({"user_id": 17, "exp": time.time() + 60}, key, algorithm, headers=headers)


def as_bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


async def test_without_a_token_the_answer_is_djangos(http: httpx.AsyncClient) -> None:
    for headers in ({}, {"Authorization": "Basic YTpi"}, {"Authorization": "Bearer"}, {"Authorization": ""}):
        answer = await http.get(ME, headers=headers)
        assert answer.status_code == 401
        assert (answer.json()["detail"], answer.json()["code"]) == (MISSING, "not_authenticated")
        assert answer.headers["www-authenticate"] == "Bearer"


async def test_tokens_that_do_not_count_are_refused(http: httpx.AsyncClient) -> None:
    now = time.time()
    claims = {"user_id": "anna", "exp": now + 60}
    tokens = [
        jwt.encode(claims, "another-key-of-more-than-thirty-two-bytes", "HS256"),
        jwt.encode(claims, "", "none"),
        jwt.encode(claims, JWT_KEY * 2, "HS512"),
        jwt.encode({"user_id": "anna"}, JWT_KEY, "HS256"),
        jwt.encode({"exp": now + 60}, JWT_KEY, "HS256"),
        "rubbish",
        "a.b.c",
        "ä",
    ]
    for token in tokens:
        answer = await http.get(ME, headers={b"Authorization": f"Bearer {token}".encode()})
        assert (answer.status_code, answer.json()["code"]) == (401, "token_invalid")
        assert token not in answer.text
    for wrong in (
        {"exp": now - 600},
        {"token_type": "refresh"},
        {"nbf": now + 600},
        {"iat": now + 600},
        {"user_id": True},
        {"user_id": None},
        {"user_id": 1.5},
        {"user_id": ["anna"]},
        {"user_id": ""},
        {"user_id": "an{na}"},
    ):
        user = wrong.pop("user_id", "anna")
        assert (await http.get(ME, headers=bearer(user, **wrong))).status_code == 401


async def test_simplejwt_token_counts_as_it_is(http: httpx.AsyncClient) -> None:
    now = int(time.time())
    claims = {"token_type": "access", "exp": now + 300, "iat": now, "jti": "0b9d5c1e3f5a4c2d", "user_id": 17}
    for user in (17, "17"):
        answer = await http.get(ME, headers=as_bearer(jwt.encode(claims | {"user_id": user}, JWT_KEY, "HS256")))
        assert (answer.status_code, answer.json()["user_id"], answer.json()["role"]) == (200, "17", "teacher")


async def test_clocks_may_differ_by_the_leeway(http: httpx.AsyncClient) -> None:
    now = time.time()
    assert (await http.get(ME, headers=bearer(exp=now - 10, iat=now + 10))).status_code == 200


@pytest.mark.parametrize(
    ("claims", "role"),
    [
        ({"role": "ops"}, "ops"),
        ({"roles": ["teacher", "service"]}, "service"),
        ({"role": "service", "roles": ["ops"]}, "ops"),
        ({"role": "root"}, "teacher"),
        ({"roles": "ops"}, "teacher"),
        ({"roles": {"ops": 1}}, "teacher"),
    ],
)
async def test_role_comes_from_the_token(http: httpx.AsyncClient, claims: dict[str, Any], role: str) -> None:
    assert (await http.get(ME, headers=bearer(**claims))).json()["role"] == role


async def test_routes_for_operators_and_the_web_app_are_closed_to_others(app: FastAPI, http: httpx.AsyncClient) -> None:
    async def answer(who: Caller) -> str:
        return who.user

    for path, guard in (("/for-ops", Ops), ("/for-the-web-app", Service)):
        answer.__annotations__["who"] = guard
        app.add_api_route(path, answer)
    for role, ops, service in (("teacher", 403, 403), ("service", 403, 200), ("ops", 200, 200)):
        assert (await http.get("/for-ops", headers=bearer(role=role))).status_code == ops
        assert (await http.get("/for-the-web-app", headers=bearer(role=role))).status_code == service
    refused = (await http.get("/for-ops", headers=bearer())).json()
    assert (refused["code"], refused["roles"]) == ("role_required", ["ops"])
    assert (await http.get("/for-ops")).status_code == 401


async def test_audience_and_issuer_are_held_against_the_token_where_set(redis_url: str) -> None:
    settings = api_settings(redis_url, jwt_audience="zoompool", jwt_issuer="school")
    async with serving(settings) as app, client(app) as http:
        assert (await http.get(ME, headers=bearer(aud="zoompool", iss="school"))).status_code == 200
        for claims in ({}, {"aud": "other", "iss": "school"}, {"aud": "zoompool", "iss": "other"}):
            assert (await http.get(ME, headers=bearer(**claims))).status_code == 401


async def test_without_a_key_nobody_gets_in(redis_url: str) -> None:
    async with serving(api_settings(redis_url, jwt_key=SecretStr(""))) as app, client(app) as http:
        assert (await http.get(ME, headers=bearer())).status_code == 401


async def test_public_key_in_pem_form(redis_url: str) -> None:
    key = rsa_key()
    settings = api_settings(redis_url, jwt_algorithm="RS256", jwt_key=SecretStr(public_pem(key)))
    async with serving(settings) as app, client(app) as http:
        assert (await http.get(ME, headers=as_bearer(signed(key)))).json()["user_id"] == "17"
        for token in (signed(rsa_key()), jwt.encode({"user_id": 17, "exp": time.time() + 60}, JWT_KEY, "HS256")):
            assert (await http.get(ME, headers=as_bearer(token))).status_code == 401


def test_what_is_no_public_key_keeps_the_service_from_starting(redis_url: str) -> None:
    settings = api_settings(redis_url, jwt_algorithm="RS256", jwt_key=SecretStr("rubbish-that-must-not-be-shown"))
    with pytest.raises(ConfigurationError, match="ZOOMPOOL_JWT_KEY") as caught:
        signing_keys.signing_keys(settings)
    assert "rubbish" not in str(caught.value)


class Publisher:
    """A web app that publishes its keys, and counts how often it is asked."""

    def __init__(self, **keys: rsa.RSAPrivateKey) -> None:
        self.keys = keys
        self.asked = 0
        self.down = False

    def answer(self, request: httpx.Request) -> httpx.Response:
        self.asked += 1
        if self.down:
            raise httpx.ConnectError("refused", request=request)
        shown = [RSAAlgorithm.to_jwk(key.public_key(), as_dict=True) for key in self.keys.values()]
        keys = [jwk | {"kid": kid, "alg": "RS256", "use": "sig"} for jwk, kid in zip(shown, self.keys, strict=True)]
        return httpx.Response(200, json={"keys": keys})


@pytest.fixture
async def publisher() -> Publisher:
    return Publisher(first=rsa_key())


@pytest.fixture
async def published(publisher: Publisher) -> AsyncIterator[PublishedKeys]:
    keys = PublishedKeys("https://school.example/jwks.json", httpx.MockTransport(publisher.answer))
    yield keys
    await keys.aclose()


def later(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    """Let time pass for the keys."""
    now = time.monotonic() + seconds
    monkeypatch.setattr("api.signing_keys.time.monotonic", lambda: now)


async def test_published_keys_are_fetched_once_for_many_tokens(publisher: Publisher, published: PublishedKeys) -> None:
    token = signed(publisher.keys["first"], "first")
    for _ in range(3):
        key = await published.key_of(token)
        assert jwt.decode(token, key, ["RS256"])["user_id"] == 17
    assert publisher.asked == 1


async def test_unknown_key_is_looked_for_and_then_refused_without_asking_each_time(
    publisher: Publisher, published: PublishedKeys, monkeypatch: pytest.MonkeyPatch
) -> None:
    forged = signed(rsa_key(), "forged")
    for _ in range(5):
        with pytest.raises(jwt.InvalidTokenError):
            await published.key_of(forged)
    assert publisher.asked == 1
    second = rsa_key()
    publisher.keys["second"] = second
    later(monkeypatch, signing_keys.AGAIN_S + 1)
    assert await published.key_of(signed(second, "second"))
    assert publisher.asked == 2


async def test_known_keys_serve_while_the_publisher_is_down(
    publisher: Publisher, published: PublishedKeys, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = signed(publisher.keys["first"], "first")
    await published.key_of(token)
    publisher.down = True
    later(monkeypatch, signing_keys.FRESH_S + 1)
    assert await published.key_of(token)
    with pytest.raises(KeysUnavailable):
        await published.key_of(signed(rsa_key(), "second"))


async def test_withdrawn_key_stops_working(
    publisher: Publisher, published: PublishedKeys, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = signed(publisher.keys["first"], "first")
    await published.key_of(token)
    publisher.keys = {"second": rsa_key()}
    later(monkeypatch, signing_keys.FRESH_S + 1)
    with pytest.raises(jwt.InvalidTokenError):
        await published.key_of(token)


@pytest.mark.parametrize("body", ["", "[]", '{"keys": []}', '{"keys": [{"kty": "x"}]}', '{"keys": 5}', "<html>"])
async def test_answer_that_is_no_key_set_is_an_outage(body: str) -> None:
    transport = httpx.MockTransport(lambda request: httpx.Response(200, text=body))
    keys = PublishedKeys("https://school.example/jwks.json", transport)
    with pytest.raises(KeysUnavailable):
        await keys.key_of(signed(rsa_key(), "first"))
    await keys.aclose()


async def test_unreachable_keys_are_503_and_no_verdict_on_the_token(redis_url: str) -> None:
    settings = api_settings(redis_url, jwt_algorithm="RS256", jwt_jwks_url="http://127.0.0.1:1/jwks.json")
    async with serving(settings) as app, client(app) as http:
        answer = await http.get(ME, headers=as_bearer(signed(rsa_key(), "first")))
        assert (answer.status_code, answer.json()["code"]) == (503, "keys_unavailable")
        assert int(answer.headers["retry-after"]) > 0
        assert (await http.get(ME)).status_code == 401
        assert (await http.get(ME, headers=as_bearer("rubbish"))).status_code == 401


async def test_published_keys_over_http(redis_url: str, publisher: Publisher, jwks_url: str) -> None:
    settings = api_settings(redis_url, jwt_algorithm="RS256", jwt_jwks_url=jwks_url)
    async with serving(settings) as app, client(app) as http:
        token = signed(publisher.keys["first"], "first")
        assert (await http.get(ME, headers=as_bearer(token))).json()["user_id"] == "17"


@pytest.fixture
async def jwks_url(publisher: Publisher) -> AsyncIterator[str]:
    """A server on this machine that publishes the keys."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        body = publisher.answer(httpx.Request("GET", "http://localhost/")).content
        head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        writer.write(head.encode() + b"Connection: close\r\n\r\n" + body)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/jwks.json"
