"""Zoom's HTTP routes: what every call passes through, and what each answers.

A call passes, in this order: a fault rule, half of its latency, its effect (authorisation and rate limits first), the
other half, the fault rule again. Half of the latency before and half after means that a client that gives up in between
does not know, as in life, whether its call had an effect.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import parse_qsl, unquote

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from broker.testing.zoom_simulator import payloads, refusals
from broker.testing.zoom_simulator.connections import Connections, NoAnswer
from broker.testing.zoom_simulator.entities import Meeting
from broker.testing.zoom_simulator.faults import FaultAction, FaultRule, Faults, When, draw_s
from broker.testing.zoom_simulator.limits import RateLimiter
from broker.testing.zoom_simulator.operations import TERMS, Operation
from broker.testing.zoom_simulator.refusals import Refused
from broker.testing.zoom_simulator.requests import read_create
from broker.testing.zoom_simulator.settings import SimulatorSettings
from broker.testing.zoom_simulator.tokens import Tokens
from broker.testing.zoom_simulator.world import World

API = "/v2"
LISTS = ("scheduled", "live", "upcoming")
MEETINGS_PAGE, MEETINGS_PAGE_MAX = 30, 300
USERS_PAGE, USERS_PAGE_MAX = 30, 2000

Effect = Callable[[Request, bytes, str], Response]
"""Takes the request, its body, and the account of the calling app."""


class ZoomApi:
    """The routes of the token endpoint and of the API.

    Args:
        settings: latencies, switches, limits.
        world: what the calls act upon.
        tokens: who may call.
        faults: what goes wrong.
        connections: to give no answer.
        clock: seconds since the epoch.
    """

    def __init__(
        self,
        settings: SimulatorSettings,
        world: World,
        tokens: Tokens,
        faults: Faults,
        connections: Connections,
        clock: Callable[[], float],
    ) -> None:
        self.calls: Counter[str] = Counter()
        """Calls that arrived, by operation."""
        self.limiter = RateLimiter(settings.rate_limits, clock)
        self._settings = settings
        self._world = world
        self._tokens = tokens
        self._faults = faults
        self._connections = connections
        self._chance = random.Random(f"{settings.seed}/latency")

    def routes(self) -> list[Route]:
        """All routes; what no route takes is refused as Zoom refuses it."""
        user, meeting = f"{API}/users/{{user}}", f"{API}/meetings/{{meeting}}"
        return [
            self._route("/oauth/token", "POST", Operation.TOKEN, self._token),
            self._route(f"{user}/meetings", "POST", Operation.CREATE_MEETING, self._create_meeting),
            self._route(f"{user}/meetings", "GET", Operation.LIST_MEETINGS, self._list_meetings),
            self._route(user, "GET", Operation.GET_USER, self._get_user),
            self._route(f"{API}/users", "GET", Operation.LIST_USERS, self._list_users),
            self._route(meeting, "GET", Operation.GET_MEETING, self._get_meeting),
            self._route(meeting, "DELETE", Operation.DELETE_MEETING, self._delete_meeting),
            self._route(f"{meeting}/status", "PUT", Operation.MEETING_STATUS, self._meeting_status),
            self._route(f"{API}/past_meetings/{{uuid:path}}", "GET", Operation.PAST_MEETING, self._past_meeting),
            Route(f"{API}/{{rest:path}}", _unknown, methods=["GET", "POST", "PUT", "PATCH", "DELETE"]),
        ]

    def _route(self, path: str, method: str, operation: Operation, effect: Effect) -> Route:
        async def endpoint(request: Request) -> Response:
            return await self._serve(request, operation, effect)

        # Starlette adds HEAD to GET; nobody sends it here, and it would count as a call.
        route = Route(path, endpoint, methods=[method])
        route.methods = {method}
        return route

    async def _serve(self, request: Request, operation: Operation, effect: Effect) -> Response:
        body = await request.body()
        self.calls[operation] += 1
        fault = self._faults.match(request.method, request.url.path, self._hosts_of(request))
        if fault is not None and fault.when is When.BEFORE:
            replaced = await self._suffer(fault)
            if replaced is not None:
                return replaced
        latency = self._settings.route_latency.get(operation, self._settings.latency)
        half_s = draw_s(latency, self._chance) / 2
        await _pass(half_s)
        response = self._answer(request, body, operation, effect)
        await _pass(half_s)
        if fault is not None and fault.when is When.AFTER:
            return await self._suffer(fault) or response
        return response

    async def _suffer(self, fault: FaultRule) -> Response | None:
        """Let a fault happen; return what is answered instead."""
        await _pass(fault.delay_ms / 1000)
        match fault.action:
            case FaultAction.DELAY:
                return None
            case FaultAction.HANG:
                return NoAnswer(self._connections, self._settings.hold_s)
            case FaultAction.RESET:
                return NoAnswer(self._connections)
            case FaultAction.RESPOND:
                if fault.body is None:
                    return Response(status_code=fault.status, headers=fault.headers)
                if isinstance(fault.body, str):
                    return Response(fault.body, fault.status, fault.headers, "text/html")
                return JSONResponse(fault.body, fault.status, fault.headers)

    def _answer(self, request: Request, body: bytes, operation: Operation, effect: Effect) -> Response:
        headers: dict[str, str] = {}
        try:
            account = ""
            if operation in TERMS:
                account, headers = self._admit(request, operation)
            response = effect(request, body, account)
        except Refused as refusal:
            return JSONResponse(refusal.body, refusal.status, headers | refusal.headers)
        response.headers.update(headers)
        return response

    def _admit(self, request: Request, operation: Operation) -> tuple[str, dict[str, str]]:
        """Return the account that may make this call, and the headers of its rate limit.

        Raises:
            Refused: 401 with code 124, 400 with code 4711, or 429.
        """
        token = self._tokens.authenticate(request.headers.get("authorization", ""))
        terms = TERMS[operation]
        if terms.scope not in token.scopes:
            raise refusals.missing_scopes([terms.scope])
        category = terms.category
        if operation is Operation.CREATE_MEETING:
            category = self._settings.rate_limits.create_category
        return token.app.account_id, self.limiter.take(token.app.account_id, category)

    def _hosts_of(self, request: Request) -> frozenset[str]:
        """The names of the host that a call concerns."""
        if (user := request.path_params.get("user")) is not None:
            host = self._world.hosts.look_up(user)
            return host.names if host else frozenset({user})
        meeting = self._world.meetings.get(_integer(request.path_params.get("meeting", "")))
        return meeting.host.names if meeting else frozenset()

    # What each call answers

    def _token(self, request: Request, body: bytes, account: str) -> Response:
        # Only the body counts: with parameters in the query, some of Zoom's users get a 400.
        form = dict(parse_qsl(body.decode("utf-8", "replace")))
        return JSONResponse(self._tokens.issue(request.headers.get("authorization", ""), form))

    def _create_meeting(self, request: Request, body: bytes, account: str) -> Response:
        meeting = self._world.create_meeting(account, request.path_params["user"], lambda: read_create(body))
        return JSONResponse(self._describe(meeting), 201)

    def _get_meeting(self, request: Request, body: bytes, account: str) -> Response:
        return JSONResponse(self._describe(self._world.meeting_of(account, _meeting_id(request))))

    def _meeting_status(self, request: Request, body: bytes, account: str) -> Response:
        try:
            action = json.loads(body)["action"]
        except (ValueError, KeyError, TypeError):
            action = None
        if action != "end":
            raise refusals.validation_failed(("action", "Invalid field."))
        self._world.end_by_api(account, _meeting_id(request))
        return Response(status_code=204)

    def _delete_meeting(self, request: Request, body: bytes, account: str) -> Response:
        self._world.delete_by_api(account, _meeting_id(request))
        return Response(status_code=204)

    def _list_meetings(self, request: Request, body: bytes, account: str) -> Response:
        kind = request.query_params.get("type", "scheduled")
        if kind not in LISTS:
            raise refusals.validation_failed(("type", "Invalid field."))
        meetings = self._world.list_meetings(account, request.path_params["user"], kind)
        size, offset = _page(request, MEETINGS_PAGE, MEETINGS_PAGE_MAX)
        listed = [payloads.listed_meeting(each, self._settings.link_base) for each in meetings[offset : offset + size]]
        return JSONResponse({**_page_of(size, offset, len(meetings)), "meetings": listed})

    def _past_meeting(self, request: Request, body: bytes, account: str) -> Response:
        past = self._world.past_meeting(account, _past_uuid(request))
        return JSONResponse(payloads.past_meeting(past))

    def _get_user(self, request: Request, body: bytes, account: str) -> Response:
        return JSONResponse(payloads.user(self._world.hosts.find(account, request.path_params["user"])))

    def _list_users(self, request: Request, body: bytes, account: str) -> Response:
        status = request.query_params.get("status", "active")
        users = [host for host in self._world.hosts.of(account) if host.status == status]
        size, offset = _page(request, USERS_PAGE, USERS_PAGE_MAX)
        listed = [payloads.user(host) for host in users[offset : offset + size]]
        return JSONResponse({**_page_of(size, offset, len(users)), "users": listed})

    def _describe(self, meeting: Meeting) -> dict[str, Any]:
        return payloads.meeting(meeting, links=self._settings.link_base, zak=self._world.zak(meeting))


async def _unknown(request: Request) -> Response:
    refusal = refusals.unknown_endpoint()
    return JSONResponse(refusal.body, refusal.status)


def _pass(seconds: float) -> Awaitable[None]:
    return asyncio.sleep(seconds)


def _integer(text: str) -> int:
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 20 else 0


def _meeting_id(request: Request) -> int:
    text = request.path_params["meeting"]
    number = _integer(text)
    if not 0 < number < 2**63:
        raise refusals.unknown_meeting(text)
    return number


def _past_uuid(request: Request) -> str:
    """The uuid of the path. One that begins with `/` or contains `//` must be percent-encoded twice."""
    raw = request.scope.get("raw_path") or request.url.path.encode()
    once = unquote(raw.decode("ascii", "replace").partition("?")[0].removeprefix(f"{API}/past_meetings/"))
    if once.startswith("/") or "//" in once:
        raise refusals.unknown_meeting(once)
    return unquote(once)


def _page(request: Request, default: int, most: int) -> tuple[int, int]:
    """Size and offset of the wanted page.

    Raises:
        Refused: 400 with code 300.
    """
    text = request.query_params.get("page_size", str(default))
    size = _integer(text)
    if not 1 <= size <= most:
        raise refusals.validation_failed(("page_size", "Invalid field."))
    token = request.query_params.get("next_page_token", "")
    if not token:
        return size, 0
    try:
        offset = _integer(base64.urlsafe_b64decode(token).decode())
    except (binascii.Error, UnicodeDecodeError, ValueError):
        offset = 0
    if not offset:
        raise refusals.validation_failed(("next_page_token", "The next page token is invalid or expired."))
    return size, offset


def _page_of(size: int, offset: int, total: int) -> dict[str, Any]:
    after = offset + size
    token = base64.urlsafe_b64encode(str(after).encode()).decode() if after < total else ""
    return {"page_size": size, "total_records": total, "next_page_token": token}
