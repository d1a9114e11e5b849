"""The application in process, on the private Redis."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from pydantic import SecretStr

from api.app import create_app
from broker.secrets import new_key
from broker.settings import Settings

JWT_KEY = "made-up-key-of-more-than-thirty-two-bytes"
WEBHOOK_SECRET = "made-up-webhook-secret"
PREVIOUS_SECRET = "made-up-previous"


def api_settings(redis_url: str, **changes: Any) -> Settings:
    """Settings with every secret that the API asks for."""
    values: dict[str, Any] = {
        "redis_url": redis_url,
        "environment": "development",
        "secret_keys": (SecretStr(new_key()),),
        "jwt_key": SecretStr(JWT_KEY),
        "webhook_secret": SecretStr(WEBHOOK_SECRET),
        "webhook_secret_previous": SecretStr(PREVIOUS_SECRET),
    }
    return Settings(**(values | changes))


@contextlib.asynccontextmanager
async def serving(settings: Settings) -> AsyncIterator[FastAPI]:
    """The application, running."""
    application = create_app(settings)
    async with application.router.lifespan_context(application):
        yield application


def client(app: FastAPI) -> httpx.AsyncClient:
    """A client of an application that runs in this process."""
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url="http://api.test")


@pytest.fixture
async def app(redis_url: str) -> AsyncIterator[FastAPI]:
    async with serving(api_settings(redis_url)) as application:
        yield application


@pytest.fixture
async def http(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    async with client(app) as opened:
        yield opened
