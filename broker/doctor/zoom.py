"""Does Zoom let every credential and every account do what they are for?"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence

import redis.asyncio

from broker.client import AsyncBroker
from broker.doctor.finding import Finding, Level, failure
from broker.errors import ZoomPoolError
from broker.models import Account, AccountState
from broker.registry import credentials
from broker.registry.account_lists import in_pool
from broker.secrets import SecretBox
from broker.settings import Settings
from broker.zoom import ZoomClient, ZoomError, open_zoom
from broker.zoom.errors import Kind
from broker.zoom.models import User
from broker.zoom.scopes import missing

AT_ONCE = 5


async def check_zoom(settings: Settings, aredis: redis.asyncio.Redis, box: SecretBox) -> list[Finding]:
    """All credentials, then all accounts of all pools.

    Args:
        settings: where Zoom is.
        aredis: a client that decodes responses.
        box: opens the credentials' secrets.

    Raises:
        BrokerUnavailable: Redis did not answer.
    """
    broker = AsyncBroker(aredis, settings)
    async with open_zoom(settings, aredis, box) as zoom:
        visit = _Visit(settings, aredis, box, zoom)
        findings = [finding async for finding in visit.credentials()]
        for name in await broker.pools():
            findings += await visit.pool(name, await in_pool(broker, name))
        return findings


class _Visit:
    """One round of questions to Zoom."""

    def __init__(self, settings: Settings, aredis: redis.asyncio.Redis, box: SecretBox, zoom: ZoomClient) -> None:
        self._settings = settings
        self._redis = aredis
        self._box = box
        self._zoom = zoom
        self._refused: set[str] = set()
        """Credentials by which nothing can be asked."""
        self._places = asyncio.Semaphore(AT_ONCE)

    async def credentials(self) -> AsyncIterator[Finding]:
        names = await credentials.names(self._redis)
        if not names:
            yield Finding("zoom.credential", Level.FAILED, "there is no credential", "zoompool credentials add --help")
        for name in names:
            yield await self._credential(name)

    async def _credential(self, name: str) -> Finding:
        check = "zoom.credential"
        try:
            granted = await self._zoom.scopes(await credentials.load(self._redis, self._box, name))
        except ZoomPoolError as error:
            self._refused.add(name)
            return failure(check, error)
        if not granted:
            do = "see at the Zoom marketplace that the app has the scopes that the guide names"
            return Finding(check, Level.WARNING, f"credential {name}: Zoom gives a token, but tells no scopes", do)
        lacking = missing(granted)
        if lacking:
            says = f"credential {name}: the OAuth app lacks scopes: {', '.join(lacking)}"
            return Finding(check, Level.FAILED, says, "add them to the app at the Zoom marketplace")
        return Finding(check, Level.OK, f"credential {name}: Zoom gives a token with all scopes")

    async def pool(self, name: str, accounts: Sequence[Account]) -> list[Finding]:
        """Every account that something is wrong with, and one line for all the others."""
        if not accounts:
            do = f"zoompool accounts add --pool {name} --help"
            return [Finding("zoom.account", Level.WARNING, f"pool {name} has no accounts", do)]
        answers = await asyncio.gather(*(self._account(name, account) for account in accounts))
        wrong = [finding for findings in answers for finding in findings]
        fine = sum(not findings for findings in answers)
        says = f"pool {name}: {fine} of {len(accounts)} accounts are active at Zoom and of the right plan"
        return [Finding("zoom.account", Level.OK, says), *wrong] if fine else wrong

    async def _account(self, pool: str, account: Account) -> list[Finding]:
        check, who = "zoom.account", f"account {account.id} of pool {pool}"
        credential = account.credential or self._settings.default_credential
        if credential in self._refused:
            says = f"{who} could not be checked: credential {credential} does not work"
            return [Finding(check, Level.WARNING, says, "put the credential right first")]
        try:
            async with self._places:
                user = await self._zoom.get_user(
                    await credentials.load(self._redis, self._box, credential), account.host
                )
        except ZoomPoolError as error:
            passing = isinstance(error, ZoomError) and error.kind is Kind.TRANSIENT
            level = Level.WARNING if passing else Level.FAILED
            return [Finding(check, level, f"{who}: {error}", f"zoompool explain {error.code}")]
        return [*self._judge(pool, account, user, who)]

    def _judge(self, pool: str, account: Account, user: User, who: str) -> Iterator[Finding]:
        check = "zoom.account"
        most = user.most_meetings(self._settings.licensed_capacity)
        in_rotation = account.state is AccountState.ACTIVE
        if most == 0:
            level = Level.FAILED if in_rotation else Level.WARNING
            says = f"{who} cannot host: user is {user.status or 'unknown'}, type {user.type}"
            yield Finding(check, level, says, "activate and license the user at Zoom, or zoompool accounts remove")
        elif account.capacity > most:
            says = f"{who} has capacity {account.capacity}, but its licence allows {most} at a time"
            yield Finding(check, Level.FAILED, says, f"zoompool accounts resize {account.id} {most} --pool {pool}")
        elif account.state is AccountState.QUARANTINED:
            says = f"{who} is quarantined: {account.reason}"
            yield Finding(check, Level.WARNING, says, f"zoompool accounts activate {account.id} --pool {pool}")
