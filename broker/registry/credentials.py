"""The registry of Zoom credentials: Server-to-Server OAuth apps by name, their secrets encrypted.

A credential is shared by many accounts and pools, so its keys lie outside every pool's hash tag and each command below
touches one key. They are ordered so that a crash in between leaves something that repeating the call puts right.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import redis.asyncio
import structlog
from pydantic import SecretStr
from redis.exceptions import WatchError

from broker import keys
from broker.client import AsyncBroker, translated
from broker.errors import InvalidName, SecretUnreadable, UnknownCredential
from broker.models import Credential
from broker.operations import REAP_BATCH
from broker.secrets import SecretBox

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Identity:
    """What may be shown of a credential."""

    name: str
    account_id: str
    client_id: str
    has_webhook_secret: bool = False


async def save(redis: redis.asyncio.Redis, box: SecretBox, credential: Credential) -> None:
    """Add a credential, or replace the one of this name.

    The access token that Zoom gave to the old secret is dropped, so that the next call uses the new one.

    Raises:
        InvalidName: the name cannot be part of a key, or a field is empty or `me`, which Zoom does not take from
            Server-to-Server apps.
        BrokerUnavailable: Redis did not answer; repeating is safe.
    """
    key = keys.credential(credential.name)
    given = {"credential": credential.name, "account_id": credential.account_id, "client_id": credential.client_id}
    for kind, value in given.items():
        if value.strip().lower() in ("", "me"):
            raise InvalidName(kind, value, "it is empty or 'me', which Zoom refuses for Server-to-Server apps")
    if not credential.client_secret.get_secret_value():
        raise InvalidName("client_secret", "", "it is empty")
    webhook_secret = credential.webhook_secret.get_secret_value()
    index = _webhook_index(credential.account_id)
    with translated("save credential"):
        before: Any = await redis.hget(key, "account_id")
        if webhook_secret:
            await redis.sadd(index, credential.name)
        seconds, microseconds = await redis.time()
        await redis.hset(
            key,
            mapping={
                "account_id": credential.account_id,
                "client_id": credential.client_id,
                "client_secret": box.seal(credential.client_secret.get_secret_value()),
                "webhook_secret": box.seal(webhook_secret) if webhook_secret else "",
                "saved_ms": str(seconds * 1000 + microseconds // 1000),
            },
        )
        await redis.sadd(keys.CREDENTIALS, credential.name)
        await redis.delete(keys.token(credential.name))
        # A name that stays there in vain does no harm: what the credential itself says counts.
        if not webhook_secret:
            await redis.srem(index, credential.name)
        if before is not None and before != credential.account_id:
            await redis.srem(_webhook_index(before), credential.name)


async def load(redis: redis.asyncio.Redis, box: SecretBox, name: str) -> Credential:
    """Return the credential `name` with its secret readable.

    Raises:
        UnknownCredential: none of that name is registered.
        SecretUnreadable: its secret was encrypted with a key that is not configured.
        BrokerUnavailable: Redis did not answer.
    """
    with translated("load credential"):
        fields: Any = await redis.hgetall(keys.credential(name))
    if not fields:
        raise UnknownCredential(name)
    secret = box.open(fields["client_secret"], f"the client secret of credential {name!r}")
    return Credential(
        name,
        fields["account_id"],
        fields["client_id"],
        SecretStr(secret),
        _open_webhook_secret(box, name, fields.get("webhook_secret")),
    )


async def saved_ms(redis: redis.asyncio.Redis, name: str) -> int:
    """When this credential was last saved, on Redis's clock; 0 if there is none.

    Raises:
        BrokerUnavailable: Redis did not answer.
    """
    with translated("load credential"):
        saved: Any = await redis.hget(keys.credential(name), "saved_ms")
    return int(saved or 0)


async def names(redis: redis.asyncio.Redis) -> tuple[str, ...]:
    """Return the names of all credentials, in order.

    Raises:
        BrokerUnavailable: Redis did not answer.
    """
    with translated("list credentials"):
        found: Any = await redis.smembers(keys.CREDENTIALS)
    return tuple(sorted(found))


async def identity(redis: redis.asyncio.Redis, name: str) -> Identity | None:
    """Return what may be shown of a credential; None if there is none. Needs no key, opens no secret.

    Raises:
        BrokerUnavailable: Redis did not answer.
    """
    with translated("find credential"):
        fields: Any = await redis.hmget(keys.credential(name), ["account_id", "client_id", "webhook_secret"])
    return None if fields[0] is None else Identity(name, fields[0], fields[1], bool(fields[2]))


async def identities(redis: redis.asyncio.Redis) -> tuple[Identity, ...]:
    """Return what may be shown of all credentials, in order of their names.

    Raises:
        BrokerUnavailable: Redis did not answer.
    """
    found = [await identity(redis, name) for name in await names(redis)]
    # None: removed since its name was read.
    return tuple(each for each in found if each is not None)


async def webhook_secrets(
    redis: redis.asyncio.Redis, box: SecretBox, account_id: str
) -> tuple[tuple[str, SecretStr], ...]:
    """Return the credentials of a Zoom account that have a webhook secret, by name, each with its secret.

    Args:
        redis: decodes responses.
        box: opens the secrets.
        account_id: of the Zoom account, as somebody claims it.

    Raises:
        BrokerUnavailable: Redis did not answer.
    """
    found = []
    with translated("find webhook secrets"):
        candidates: Any = await redis.smembers(_webhook_index(account_id))
        for name in sorted(candidates):
            fields: Any = await redis.hmget(keys.credential(name), ["account_id", "webhook_secret"])
            if fields[0] != account_id or not fields[1]:
                continue
            try:
                found.append((name, _open_webhook_secret(box, name, fields[1])))
            except SecretUnreadable as error:
                log.error("a webhook secret cannot be read", credential=name, code=error.code)
    return tuple(found)


async def webhook_secret(redis: redis.asyncio.Redis, box: SecretBox, name: str) -> tuple[tuple[str, SecretStr], ...]:
    """The same of one credential: itself with its secret, or nothing if it is unknown or has none.

    Raises:
        BrokerUnavailable: Redis did not answer.
    """
    found = await identity(redis, name)
    candidates = await webhook_secrets(redis, box, found.account_id) if found else ()
    return tuple(each for each in candidates if each[0] == name)


async def users(broker: AsyncBroker, name: str) -> tuple[str, ...]:
    """Return the accounts that use a credential, as `pool/account`.

    Raises:
        BrokerUnavailable: Redis did not answer.
    """
    found: list[str] = []
    for pool in await broker.pools():
        offset = 0
        while page := await broker.run(broker.pool(pool).accounts(offset=offset, count=REAP_BATCH)):
            found += [f"{pool}/{account.id}" for account in page if account.credential == name]
            offset += len(page)
    return tuple(found)


async def reseal(redis: redis.asyncio.Redis, box: SecretBox, name: str) -> bool:
    """Encrypt a credential's secrets with the newest key; False if it was deleted meanwhile.

    The access token, which may be encrypted with an older key, is dropped; the next call to Zoom gets a new one.

    Raises:
        SecretUnreadable: its secrets were encrypted with a key that is not configured.
        BrokerUnavailable: Redis did not answer; repeating is safe.
    """
    key = keys.credential(name)
    fields = ["client_secret", "webhook_secret"]
    while True:
        with translated("reseal credential"):
            async with redis.pipeline(transaction=True) as ask:
                # A secret that somebody saves at the same moment must not be overwritten with the old one.
                await ask.watch(key)
                sealed: Any = await ask.hmget(key, fields)
                if sealed[0] is None:
                    return False
                what = f"a secret of credential {name!r}"
                opened = [box.open(secret, what) if secret else "" for secret in sealed]
                ask.multi()
                ask.hset(
                    key,
                    mapping={
                        field: box.seal(secret) if secret else "" for field, secret in zip(fields, opened, strict=True)
                    },
                )
                try:
                    await ask.execute()
                except WatchError:
                    continue
            await redis.delete(keys.token(name))
        return True


async def delete(redis: redis.asyncio.Redis, name: str) -> None:
    """Remove a credential and its access token. Accounts that use it fail from now on.

    Raises:
        UnknownCredential: none of that name is registered.
        BrokerUnavailable: Redis did not answer; repeating is safe.
    """
    found = await identity(redis, name)
    with translated("delete credential"):
        if found is not None:
            await redis.srem(_webhook_index(found.account_id), name)
        # The name goes last: a repeated call still finds it and finishes the work.
        await redis.delete(keys.token(name))
        await redis.delete(keys.credential(name))
        if not await redis.srem(keys.CREDENTIALS, name):
            raise UnknownCredential(name)


def _webhook_index(account_id: str) -> str:
    """A digest, because Zoom's account ids, and whatever somebody claims to be one, may hold anything."""
    return keys.webhook_secrets(hashlib.sha256(account_id.encode()).hexdigest()[:40])


def _open_webhook_secret(box: SecretBox, name: str, sealed: str | None) -> SecretStr:
    return SecretStr(box.open(sealed, f"the webhook secret of credential {name!r}") if sealed else "")
