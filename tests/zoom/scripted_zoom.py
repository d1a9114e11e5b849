"""A Zoom that answers each call with what a test wrote down for it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from broker.models import Credential, LeaseId
from broker.secrets import SecretBox, new_key
from broker.settings import Settings
from broker.zoom.errors import ZoomError
from broker.zoom.models import CreateMeeting, marker

CREDENTIAL = Credential("main", "acc-1", "client-1", SecretStr("client-secret-1"))
BOX = SecretBox([SecretStr(new_key())])
LEASE = LeaseId("anna", 0, 17)
MARK = marker(LEASE, "default")
REQUEST = CreateMeeting(topic="Алгебра", marker=MARK, duration_min=60)

MEETING_ID = 85746065432
MEETING = f"/v2/meetings/{MEETING_ID}"
STATUS = f"{MEETING}/status"
MEETINGS = "/v2/users/anna@school.test/meetings"

EXPIRED = httpx.Response(401, json={"code": 124, "message": "Access token is expired."})
EXPIRED_AS_400 = httpx.Response(400, json={"code": 124, "message": "Invalid access token."})
MISSING = httpx.Response(404, json={"code": 3001, "message": f"Meeting does not exist: {MEETING_ID}."})
UNAVAILABLE = httpx.Response(503)
LIMITED = httpx.Response(
    429, json={"code": 429, "message": "You have reached the maximum per-second rate limit for this API."}
)
NOT_ALLOWED = httpx.Response(400, json={"code": 3161, "message": "Your user account is not allowed meeting hosting."})
DONE = httpx.Response(204)

Answer = httpx.Response | Exception


def meeting_json(status: str = "waiting", **more: Any) -> dict[str, Any]:
    return {
        "uuid": "4444AAAiAAAAAiAiAiiAii==",
        "id": MEETING_ID,
        "host_id": "host1",
        "host_email": "anna@school.test",
        "topic": "Алгебра",
        "type": 2,
        "status": status,
        "start_time": "2026-03-04T10:00:00Z",
        "created_at": "2026-03-04T10:00:01Z",
        "agenda": MARK,
        "start_url": "https://zoom.test/s/85746065432?zak=zak-secret",
        "join_url": "https://zoom.test/j/85746065432?pwd=pwd-secret",
        "password": "passcode-secret",
        "settings": {"use_pmi": False},
        **more,
    }


def waiting() -> httpx.Response:
    return httpx.Response(200, json=meeting_json())


def started() -> httpx.Response:
    return httpx.Response(200, json=meeting_json("started"))


class Zoom:
    """Answers each call from its list; the last answer of a list is given again and again."""

    def __init__(self) -> None:
        self.answers: dict[tuple[str, str], list[Answer | Callable[[httpx.Request], Answer]]] = {}
        self.calls: list[httpx.Request] = []
        self.tokens = 0

    def on(self, method: str, path: str, *answers: Answer | Callable[[httpx.Request], Answer]) -> None:
        self.answers[method, path] = list(answers)

    def count(self, method: str) -> int:
        return sum(call.method == method for call in self.calls)

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        if request.url.path == "/oauth/token":
            self.tokens += 1
            return httpx.Response(200, json={"access_token": f"token-{self.tokens}", "expires_in": 3600})
        self.calls.append(request)
        left = self.answers[request.method, request.url.path]
        answer = left.pop(0) if len(left) > 1 else left[0]
        if callable(answer):
            answer = answer(request)
        if isinstance(answer, Exception):
            raise answer
        return httpx.Response(answer.status_code, headers=answer.headers, content=answer.content)


def settings(**more: Any) -> Settings:
    return Settings(
        zoom_api_base=more.pop("api_base", "http://zoom.test/v2"),
        zoom_oauth_base="http://zoom.test",
        **more,
    )


async def failed(call: Awaitable[object]) -> ZoomError:
    with pytest.raises(ZoomError) as caught:
        await asyncio.wait_for(call, 10)
    return caught.value
