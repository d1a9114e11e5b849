"""How fast one API process takes Zoom's webhooks: verified, and put into their queue."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import time

from broker.testing.stack import WEBHOOK_PATH, Stack
from tests.benchmarks.http_load import Answer, Connection
from tests.benchmarks.report import Figure, percentile
from tests.benchmarks.system import at_rate, connections, refused, system

PER_SECOND = 500
SECONDS = 6
CONNECTIONS = 100
FLOOD = 3000


def acknowledgement() -> list[Figure]:
    """Latency at 500 a second, and the most that one process takes, beside its bare endpoint.

    Raises:
        RuntimeError: a webhook was refused.
    """
    with system(accounts=1) as stack:
        return asyncio.run(_measure(stack))


async def _measure(stack: Stack) -> list[Figure]:
    async with connections(stack.api_url, CONNECTIONS) as open_connections:
        free: asyncio.Queue[Connection] = asyncio.Queue()
        for connection in open_connections:
            free.put_nowait(connection)

        async def send(number: int) -> Answer:
            # From the moment it was due: waiting for a free connection counts.
            due = time.perf_counter()
            connection = await free.get()
            try:
                headers, body = _webhook(stack, number)
                answer = await connection.ask("POST", WEBHOOK_PATH, headers=headers, body=body)
            finally:
                free.put_nowait(connection)
            return Answer(answer.status, answer.headers, answer.body, (time.perf_counter() - due) * 1000)

        async def bare(number: int) -> Answer:
            connection = await free.get()
            try:
                return await connection.ask("GET", "/healthz")
            finally:
                free.put_nowait(connection)

        await at_rate(100, 200, send)
        paced = await at_rate(PER_SECOND * SECONDS, PER_SECOND, lambda number: send(1000 + number))
        most = await _flood(lambda number: send(1_000_000 + number))
        most_bare = await _flood(bare)
    if problem := refused(paced):
        raise RuntimeError(f"a webhook was refused: {problem}")
    beside = f"{PER_SECOND}/s for {SECONDS} s into one API process; no worker takes them meanwhile"
    times = [answer.ms for answer in paced]
    return [
        Figure("webhook_ack_ms.p50", percentile(times, 50), "ms", None, "less", beside),
        Figure("webhook_ack_ms.p99", percentile(times, 99), "ms", 50, "less", beside),
        Figure("webhooks_per_s", most, "1/s", PER_SECOND, "more", f"bare endpoint: {most_bare:,.0f}/s"),
    ]


async def _flood(send: object) -> float:
    assert callable(send)
    began = time.perf_counter()
    answers = await asyncio.gather(*(send(number) for number in range(FLOOD)))
    if problem := refused(answers):
        raise RuntimeError(f"a request was refused: {problem}")
    return FLOOD / (time.perf_counter() - began)


def _webhook(stack: Stack, number: int) -> tuple[dict[str, str], bytes]:
    body = json.dumps(
        {
            "event": "meeting.participant_joined",
            "event_ts": 1_700_000_000_000 + number,
            "payload": {
                "account_id": "made-up",
                "object": {"id": "98765432101", "uuid": "made-up==", "participant": {"user_id": str(number)}},
            },
        }
    ).encode()
    timestamp = str(int(time.time()))
    secret = stack.settings.webhook_secret.get_secret_value().encode()
    signature = hmac.new(secret, b"v0:" + timestamp.encode() + b":" + body, hashlib.sha256).hexdigest()
    headers = {
        "content-type": "application/json; charset=utf-8",
        "x-zm-request-timestamp": timestamp,
        "x-zm-signature": f"v0={signature}",
    }
    return headers, body
