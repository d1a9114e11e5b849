"""The people of a school, as the system meets them: teachers in the web app, everybody in Zoom's meetings."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

import httpx
import jwt
from pydantic import SecretStr

TOKEN_TTL_S = 12 * 3600
ZOOM_S = 10.0
MOST_CONNECTIONS = 500


class School:
    """Sends what people do. An async context manager.

    Args:
        api_url: where the API listens.
        zoom_url: where the simulated Zoom listens.
        jwt_key: what the API checks HS256 tokens with.

    Attributes:
        statuses: how often the API answered with each HTTP status.
    """

    def __init__(self, api_url: str, zoom_url: str, jwt_key: SecretStr) -> None:
        self.statuses: Counter[int] = Counter()
        limits = httpx.Limits(max_connections=MOST_CONNECTIONS)
        # Whatever proxy the environment names, it does not lead to this machine.
        self._api = httpx.AsyncClient(base_url=api_url, limits=limits, trust_env=False)
        self._zoom = httpx.AsyncClient(base_url=zoom_url, limits=limits, timeout=ZOOM_S, trust_env=False)
        self._jwt_key = jwt_key

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._api.aclose()
        await self._zoom.aclose()

    def token(self, user: str, role: str = "teacher") -> str:
        """A bearer token as the web app would mint it."""
        return mint_token(self._jwt_key, user, role)

    # In the web app

    async def start(
        self, lesson: str, teacher: str, *, headers: Mapping[str, str] | None = None, timeout_s: float = 40
    ) -> httpx.Response:
        """Press "start lesson"."""
        return await self._post(lesson, "start-new", teacher, headers or {}, timeout_s)

    async def end(self, lesson: str, teacher: str, *, timeout_s: float = 40) -> httpx.Response:
        """Press "end lesson"."""
        return await self._post(lesson, "end", teacher, {}, timeout_s)

    async def look(self, lesson: str, teacher: str) -> httpx.Response:
        """Ask how the lesson is."""
        return await self._api.get(f"/api/schedule/lessons/{lesson}/", headers=self._bearer(teacher), timeout=ZOOM_S)

    async def _post(
        self, lesson: str, verb: str, teacher: str, headers: Mapping[str, str], timeout_s: float
    ) -> httpx.Response:
        answer = await self._api.post(
            f"/api/schedule/lessons/{lesson}/{verb}/",
            headers={**self._bearer(teacher), "Accept-Language": "en", **headers},
            timeout=timeout_s,
        )
        self.statuses[answer.status_code] += 1
        return answer

    def _bearer(self, user: str) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token(user)}"}

    # In Zoom

    async def join(self, meeting: int, name: str, *, start_url: str = "", host: bool = False) -> str:
        """Come into a meeting; returns the participant's id. With a start_url, its key decides who is the host."""
        role = "host" if host else "guest"
        body = {"name": name, "start_url": start_url} if start_url else {"name": name, "role": role}
        answer = await self._zoom.post(f"/sim/meetings/{meeting}/join", json=body)
        answer.raise_for_status()
        return str(answer.json()["participant_id"])

    async def leave(self, meeting: int, participant: str) -> None:
        """Go. Whoever was thrown out before has nothing to leave, and a meeting may be deleted by then."""
        answer = await self._zoom.post(f"/sim/meetings/{meeting}/leave", json={"participant_id": participant})
        if answer.status_code != httpx.codes.NOT_FOUND:
            answer.raise_for_status()

    async def end_in_zoom(self, meeting: int) -> None:
        """The host presses "end for all"."""
        answer = await self._zoom.post(f"/sim/meetings/{meeting}/end")
        if answer.status_code != httpx.codes.NOT_FOUND:
            answer.raise_for_status()

    async def meetings(self) -> list[dict[str, Any]]:
        """Every meeting that exists at Zoom."""
        found: list[dict[str, Any]] = (await self._ask("GET", "/sim/meetings"))["meetings"]
        return found

    async def is_inside(self, meeting: int, participant: str) -> bool:
        """Whether somebody is in a meeting, now."""
        answer = await self._zoom.get(f"/sim/meetings/{meeting}")
        if answer.status_code == httpx.codes.NOT_FOUND:
            return False
        answer.raise_for_status()
        return participant in (person["participant_id"] for person in answer.json()["participants"])

    async def verdict(self) -> dict[str, Any]:
        """What Zoom's judge says."""
        return await self._ask("GET", "/sim/judge")

    async def webhooks(self, **changes: Any) -> dict[str, Any]:
        """Change what happens to webhooks, by the names of the simulator's `WebhookConfig`; returns their state."""
        return await self._ask("PUT", "/sim/webhooks", changes)

    async def add_fault(self, **rule: Any) -> int:
        """Let calls to Zoom go wrong, by the names of the simulator's `FaultRule`; returns the rule's id."""
        return int((await self._ask("POST", "/sim/faults", rule))["id"])

    async def fault_applied(self, id: int) -> int:
        """How often a rule was applied."""
        rules = (await self._ask("GET", "/sim/faults"))["faults"]
        return next(int(rule["applied"]) for rule in rules if rule["id"] == id)

    async def remove_fault(self, id: int) -> None:
        """Let what one rule spoilt go right again."""
        await self._ask("DELETE", f"/sim/faults/{id}")

    async def clear_faults(self) -> None:
        """Let everything go right again."""
        await self._ask("DELETE", "/sim/faults")

    async def change_host(self, host: str, **changes: Any) -> None:
        """Change a user's licence or status, by the names of the simulator's `HostPatch`."""
        await self._ask("PATCH", f"/sim/hosts/{host}", changes)

    async def switch(self, **switches: Any) -> None:
        """Change how Zoom behaves, by the names of the simulator's `Switches`."""
        await self._ask("PUT", "/sim/switches", switches)

    async def revoke_tokens(self) -> None:
        """Zoom refuses every access token that it gave so far."""
        await self._ask("DELETE", "/sim/tokens")

    async def _ask(self, method: str, path: str, body: Any = None) -> dict[str, Any]:
        answer = await self._zoom.request(method, path, json=body)
        answer.raise_for_status()
        found: dict[str, Any] = answer.json()
        return found


def mint_token(jwt_key: SecretStr, user: str, role: str = "teacher") -> str:
    """Sign a bearer token as the web app does."""
    now = int(time.time())
    claims = {"user_id": user, "role": role, "iat": now, "exp": now + TOKEN_TTL_S}
    return jwt.encode(claims, jwt_key.get_secret_value(), algorithm="HS256")
