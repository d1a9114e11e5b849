"""`Idempotency-Key` for new lessons (draft-ietf-httpapi-idempotency-key-header): one key, one lesson."""

from __future__ import annotations

import hashlib

import redis.asyncio
from pydantic import BaseModel

from api.errors import Problem
from broker import keys
from broker.client import translated


async def same_lesson(
    redis: redis.asyncio.Redis, user: str, key: str, body: BaseModel, lesson: str, ttl_s: float
) -> str:
    """The lesson that this user's key stands for: the one that an earlier request made with it, or else `lesson`.

    Raises:
        Problem: 422; the key came with another body before.
        BrokerUnavailable: Redis did not answer.
    """
    name = keys.idempotency(user, _digest(key))
    request = _digest(body.model_dump_json())
    with translated("idempotency key"):
        # The first of two at the same time wins; both read what it wrote.
        await redis.set(name, f"{lesson} {request}", nx=True, ex=round(ttl_s))
        stored = await redis.get(name)
    # Nothing is there only if the key ran out in between.
    first, _, asked = str(stored or f"{lesson} {request}").partition(" ")
    if asked != request:
        raise Problem("idempotency_key_reused")
    return first


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
