"""A school's day as the service sees it: requests of its web app, for teachers and on its own account."""

from __future__ import annotations

from typing import Any

import httpx

from broker.testing.school import School
from broker.testing.stack import Stack

LESSONS = "/api/schedule/lessons/"
POOL = "/api/pools/default/"
PATIENT = {"Prefer": "wait=20"}
TIMEOUT_S = 40.0


class Day:
    """The web app's requests.

    Attributes:
        answers: every answer, with its request.
    """

    def __init__(self, stack: Stack, school: School) -> None:
        self.answers: list[httpx.Response] = []
        self._school = school
        self._http = httpx.AsyncClient(base_url=stack.api_url, timeout=TIMEOUT_S, trust_env=False)

    async def ask(self, method: str, path: str, who: str, role: str = "teacher", **more: Any) -> httpx.Response:
        """Send a request for somebody."""
        headers = {"Authorization": f"Bearer {self._school.token(who, role)}", **more.pop("headers", {})}
        answer = await self._http.request(method, path, headers=headers, **more)
        self.answers.append(answer)
        return answer

    async def web(self, method: str, path: str, **more: Any) -> Any:
        """What the web app's own account does; it must be done."""
        answer = await self.ask(method, path, "web", "service", **more)
        assert answer.is_success, answer.text
        return answer.json()

    async def links(self, path: str, who: str, **more: Any) -> dict[str, Any]:
        """Start a lesson."""
        answer = await self.ask("POST", LESSONS + path, who, headers=PATIENT, **more)
        assert answer.status_code == httpx.codes.OK, answer.text
        found: dict[str, Any] = answer.json()
        return found

    async def free(self) -> int:
        """How many slots of the school's pool are free."""
        return int((await self.web("GET", POOL))["free"])

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()
