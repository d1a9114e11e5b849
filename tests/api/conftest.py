"""The application in process, on the private Redis."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import pytest
from fastapi import FastAPI
from pydantic import SecretStr

from api.app import create_app
from broker.secrets import new_key
from broker.settings import Settings

JWT_KEY = "made-up-key-of-more-than-thirty-two-bytes"
WEBHOOK_SECRET = "made-up-webhook-secret"


@pytest.fixture
async def app(redis_url: str) -> AsyncIterator[FastAPI]:
    settings = Settings(
        redis_url=redis_url,
        environment="development",
        secret_keys=(SecretStr(new_key()),),
        jwt_key=SecretStr(JWT_KEY),
        webhook_secret=SecretStr(WEBHOOK_SECRET),
        webhook_secret_previous=SecretStr("made-up-previous"),
    )
    application = create_app(settings)
    async with application.router.lifespan_context(application):
        yield application


@pytest.fixture
async def http(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://api.test") as client:
        yield client
