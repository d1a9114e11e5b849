"""What routes ask for by type: the service's means, who calls, and the parts of a request that several routes read.

A route that takes `BrokerDep`, `User` and `LessonId` needs to know nothing of the application's state, of tokens or of
which ids are legal.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Path, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from api.auth import Caller, Role
from api.errors import Problem
from api.jobs import Jobs
from api.lessons import Lessons
from api.metrics import Metrics
from api.services import Services
from broker.client import AsyncBroker
from broker.events import EventHub
from broker.models import ACCOUNT, NAME
from broker.secrets import SecretBox
from broker.settings import Settings

# The means of the service


async def services(request: Request) -> Services:
    """All of them."""
    found: Services = request.app.state.services
    return found


ServicesDep = Annotated[Services, Depends(services)]


async def _settings(all: ServicesDep) -> Settings:
    return all.settings


async def _broker(all: ServicesDep) -> AsyncBroker:
    return all.broker


async def _box(all: ServicesDep) -> SecretBox:
    return all.box


async def _jobs(all: ServicesDep) -> Jobs:
    return all.jobs


async def _hub(all: ServicesDep) -> EventHub:
    return all.hub


async def _lessons(all: ServicesDep) -> Lessons:
    return all.lessons


async def _metrics(all: ServicesDep) -> Metrics:
    return all.metrics


SettingsDep = Annotated[Settings, Depends(_settings)]
BrokerDep = Annotated[AsyncBroker, Depends(_broker)]
BoxDep = Annotated[SecretBox, Depends(_box)]
JobsDep = Annotated[Jobs, Depends(_jobs)]
HubDep = Annotated[EventHub, Depends(_hub)]
LessonsDep = Annotated[Lessons, Depends(_lessons)]
MetricsDep = Annotated[Metrics, Depends(_metrics)]

# Who calls

_bearer = HTTPBearer(
    auto_error=False,
    bearerFormat="JWT",
    description="A token as the web app mints it; see the claims in api/README.md.",
)


async def caller(all: ServicesDep, given: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]) -> Caller:
    """Who sent the request.

    Raises:
        Problem: 401, without a token that we believe; 503, when it cannot be checked.
    """
    return await all.authenticator.caller(given.credentials if given else "")


User = Annotated[Caller, Depends(caller)]
"""Anybody with a token."""


def _only(*roles: Role) -> object:
    async def check(who: User) -> Caller:
        if who.role not in roles:
            raise Problem("role_required", roles=[role.value for role in roles])
        return who

    return Depends(check)


Ops = Annotated[Caller, _only(Role.OPS)]
"""An operator; anybody else gets 403 `role_required`."""
Service = Annotated[Caller, _only(Role.OPS, Role.SERVICE)]
"""The web app itself, or an operator."""

# Parts of requests

PATTERN = f"^{NAME.pattern}$"
"""What an id may look like that becomes part of a Redis key."""

LessonId = Annotated[str, Path(pattern=PATTERN, description="The lesson's id in the web app.", examples=["4711"])]
PoolName = Annotated[str, Path(pattern=PATTERN, description="The pool's name.", examples=["default"])]
TeacherId = Annotated[str, Path(pattern=PATTERN, description="The teacher's id in the web app.", examples=["17"])]
AccountId = Annotated[
    str, Path(pattern=f"^{ACCOUNT.pattern}$", description="The account's id in the pool.", examples=["host-01"])
]
CredentialName = Annotated[str, Path(pattern=PATTERN, description="The credential's name.", examples=["default"])]
