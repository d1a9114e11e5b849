"""The registry of Zoom credentials: Server-to-Server OAuth apps by name, their secrets encrypted.

A credential is shared by many accounts and pools, so its keys lie outside every pool's hash tag and each command below
touches one key. They are ordered so that a crash in between leaves something that repeating the call puts right.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import redis.asyncio
from pydantic import SecretStr

from broker import keys
from broker.client import translated
from broker.errors import InvalidName, UnknownCredential
from broker.models import Credential
from broker.secrets import SecretBox


@dataclass(frozen=True)
class Identity:
    """What may be shown of a credential."""

    name: str
    account_id: str
    client_id: str


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
    with translated("save credential"):
        seconds, microseconds = await redis.time()
        await redis.hset(
            key,
            mapping={
                "account_id": credential.account_id,
                "client_id": credential.client_id,
                "client_secret": box.seal(credential.client_secret.get_secret_value()),
                "saved_ms": str(seconds * 1000 + microseconds // 1000),
            },
        )
        await redis.sadd(keys.CREDENTIALS, credential.name)
        await redis.delete(keys.token(credential.name))


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
    return Credential(name, fields["account_id"], fields["client_id"], SecretStr(secret))


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


async def identities(redis: redis.asyncio.Redis) -> tuple[Identity, ...]:
    """Return what may be shown of all credentials, in order of their names. Needs no key, opens no secret.

    Raises:
        BrokerUnavailable: Redis did not answer.
    """
    found = []
    for name in await names(redis):
        with translated("list credentials"):
            fields: Any = await redis.hmget(keys.credential(name), ["account_id", "client_id"])
        if fields[0] is not None:  # None: removed since its name was read
            found.append(Identity(name, fields[0], fields[1]))
    return tuple(found)


async def delete(redis: redis.asyncio.Redis, name: str) -> None:
    """Remove a credential and its access token. Accounts that use it fail from now on.

    Raises:
        UnknownCredential: none of that name is registered.
        BrokerUnavailable: Redis did not answer; repeating is safe.
    """
    with translated("delete credential"):
        # The name goes last: a repeated call still finds it and finishes the work.
        await redis.delete(keys.token(name))
        await redis.delete(keys.credential(name))
        if not await redis.srem(keys.CREDENTIALS, name):
            raise UnknownCredential(name)
