"""The calls to Zoom that the broker needs.

Every method ends within `settings.zoom_timeout_s`, with all its tries, pages, waits and a token refresh; so a caller
can say for sure when a call is no longer under way. All raise `ZoomError`, and `BrokerUnavailable` if the shared token
or budget cannot be read from Redis.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import quote

import httpx
import redis.asyncio

from broker.errors import InvalidName
from broker.models import Credential
from broker.secrets import SecretBox
from broker.settings import Settings
from broker.zoom.auth import REQUEST_TIMEOUT_S, TokenSource
from broker.zoom.connections import ManyPools
from broker.zoom.errors import Kind, ZoomError, unexpected_answer
from broker.zoom.limits import Budgets, Category
from broker.zoom.models import CreateMeeting, Meeting, MeetingList, MeetingPage, User, UserPage
from broker.zoom.transport import Deadline, Repeat, Transport, read

CONNECT_TIMEOUT_S = 3.0
PAGE_SIZE = 300
MAX_PAGES = 100
LOOKS_AFTER_S = (0.0, 0.2, 0.5)
"""Pauses before each look at a meeting that was ended: Zoom's word may come a moment after its deed."""
END_TRIES = 2


class ZoomClient:
    """Zoom's API for many credentials on one connection pool.

    Args:
        http: the connection pool; see `open_zoom`.
        tokens: where access tokens come from.
        budgets: how often Zoom may be called.
        settings: address of the API and time limit.
    """

    def __init__(self, http: httpx.AsyncClient, tokens: TokenSource, budgets: Budgets, settings: Settings) -> None:
        self._http = http
        self._tokens = tokens
        self._budgets = budgets
        self._settings = settings
        self._transport = Transport(
            http, tokens, budgets, api_base=settings.zoom_api_base, timeout_s=settings.zoom_timeout_s
        )

    def in_background(self) -> ZoomClient:
        """The same client for work that nobody waits for: it leaves a share of every budget to others."""
        return ZoomClient(self._http, self._tokens, self._budgets.in_background(), self._settings)

    async def create_meeting(self, credential: Credential, host: str, request: CreateMeeting) -> Meeting:
        """Create a meeting on a host. Sent once: Zoom has no idempotency key, so a repeat could make a second one.

        Args:
            credential: the OAuth app that may act for the host.
            host: Zoom user id or e-mail.
            request: what to create.

        Raises:
            ZoomError: with `outcome_unknown`, look with `find_by_marker` before creating again.
            InvalidName: `host` is empty or `me`.
        """
        path = f"/users/{_host(host)}/meetings"
        async with self._transport.deadline(f"create a meeting on {host}") as deadline:
            response = await self._transport.call(
                deadline,
                credential,
                "POST",
                path,
                category=self._budgets.of_creations,
                creates_on=host,
                repeat=Repeat.NEVER,
                json=request.body(),
            )
        return read(Meeting, response, changes=True)

    async def get_meeting(self, credential: Credential, meeting_id: int) -> Meeting:
        """Return a meeting with its status and a fresh start_url.

        Raises:
            ZoomError: `zoom_meeting_missing` if Zoom does not know it (any more).
        """
        async with self._transport.deadline(f"get meeting {meeting_id}") as deadline:
            return await self._get_meeting(deadline, credential, meeting_id)

    async def end_meeting(self, credential: Credential, meeting_id: int) -> None:
        """End a meeting if it runs, and make sure that it ended: Zoom may answer 204 without ending it.

        A meeting that Zoom does not know counts as ended; where that matters, `live_meetings` is the last word.

        Raises:
            ZoomError: what Zoom answered while the meeting runs on, or `zoom_still_running`.
        """
        async with self._transport.deadline(f"end meeting {meeting_id}") as deadline:
            for last_try in (number == END_TRIES for number in range(1, END_TRIES + 1)):
                refusal = await self._ask_to_end(deadline, credential, meeting_id)
                if refusal is not None and refusal.code == "zoom_meeting_missing":
                    return
                # Whatever Zoom said, only the meeting's own state counts: an idle one is refused, and is just as over.
                if await self._is_over(deadline, credential, meeting_id):
                    return
                if refusal is not None and (last_try or refusal.kind is not Kind.TRANSIENT):
                    raise refusal
        raise ZoomError(
            f"meeting {meeting_id} still runs although Zoom accepted its end; try again",
            code="zoom_still_running",
            kind=Kind.TRANSIENT,
            outcome_unknown=True,
        )

    async def delete_meeting(self, credential: Credential, meeting_id: int) -> None:
        """Delete a meeting; one that does not exist is as good as deleted. End a running one first."""
        async with self._transport.deadline(f"delete meeting {meeting_id}") as deadline:
            try:
                await self._transport.call(
                    deadline,
                    credential,
                    "DELETE",
                    f"/meetings/{meeting_id}",
                    category=Category.LIGHT,
                    repeat=Repeat.SAFE,
                )
            except ZoomError as error:
                if error.code != "zoom_meeting_missing":
                    raise

    async def live_meetings(self, credential: Credential, host: str) -> list[Meeting]:
        """The meetings that run on a host now."""
        return await self.meetings_of(credential, host, MeetingList.LIVE)

    async def meetings_of(self, credential: Credential, host: str, kind: MeetingList) -> list[Meeting]:
        """All pages of one of a host's meeting lists."""
        async with self._transport.deadline(f"list {kind} meetings of {host}") as deadline:
            return [meeting async for meeting in self._list(deadline, credential, host, kind)]

    async def find_by_marker(self, credential: Credential, host: str, marker: str) -> list[Meeting]:
        """The meetings on a host that bear this marker; more than one only if somebody created twice.

        Upcoming, scheduled and live lists are read, because a meeting may be in any one of them alone. Entries have no
        start_url: get the meeting for it.
        """
        found: dict[int, Meeting] = {}
        async with self._transport.deadline(f"look for a marked meeting of {host}") as deadline:
            for kind in MeetingList:
                async for meeting in self._list(deadline, credential, host, kind):
                    if marker in meeting.agenda:
                        found.setdefault(meeting.id, meeting)
        return sorted(found.values(), key=lambda meeting: meeting.id)

    async def get_user(self, credential: Credential, host: str) -> User:
        """Return a host's licence and status.

        Raises:
            ZoomError: `zoom_host_unknown` if there is no such user.
        """
        async with self._transport.deadline(f"get user {host}") as deadline:
            response = await self._transport.call(
                deadline, credential, "GET", f"/users/{_host(host)}", category=Category.LIGHT, repeat=Repeat.SAFE
            )
        return read(User, response)

    async def list_users(self, credential: Credential) -> list[User]:
        """The active users of a credential's Zoom account.

        Raises:
            ZoomError: Zoom gave no whole list.
        """
        found: list[User] = []
        params: dict[str, str | int] = {"status": "active", "page_size": PAGE_SIZE}
        async with self._transport.deadline("list users") as deadline:
            for _ in range(MAX_PAGES):
                response = await self._transport.call(
                    deadline, credential, "GET", "/users", category=Category.MEDIUM, repeat=Repeat.SAFE, params=params
                )
                page = read(UserPage, response)
                found += page.users
                if not page.next_page_token or page.next_page_token == params.get("next_page_token"):
                    return found
                params["next_page_token"] = page.next_page_token
        raise unexpected_answer(response, f"the list has more than {MAX_PAGES} pages", changes=False)

    async def scopes(self, credential: Credential) -> frozenset[str]:
        """The OAuth scopes that this app has now; empty if Zoom does not tell. Fetches a new token.

        Raises:
            ZoomError: `zoom_credential_rejected` if Zoom refuses the app.
        """
        async with self._transport.deadline(f"get the scopes of credential {credential.name!r}"):
            return await self._tokens.scopes(credential)

    async def _get_meeting(self, deadline: Deadline, credential: Credential, meeting_id: int) -> Meeting:
        response = await self._transport.call(
            deadline, credential, "GET", f"/meetings/{meeting_id}", category=Category.LIGHT, repeat=Repeat.SAFE
        )
        return read(Meeting, response)

    async def _ask_to_end(self, deadline: Deadline, credential: Credential, meeting_id: int) -> ZoomError | None:
        """Send one "end"; return what Zoom had against it. The meeting is looked at either way."""
        path = f"/meetings/{meeting_id}/status"
        try:
            await self._transport.call(
                deadline,
                credential,
                "PUT",
                path,
                category=Category.LIGHT,
                repeat=Repeat.NEVER,
                json={"action": "end"},
            )
        except ZoomError as error:
            if error.kind is Kind.CREDENTIAL:
                raise
            return error
        return None

    async def _is_over(self, deadline: Deadline, credential: Credential, meeting_id: int) -> bool:
        for pause_s in LOOKS_AFTER_S:
            await asyncio.sleep(pause_s)
            try:
                meeting = await self._get_meeting(deadline, credential, meeting_id)
            except ZoomError as error:
                if error.code == "zoom_meeting_missing":
                    return True
                raise
            if not meeting.started:
                return True
        return False

    async def _list(
        self, deadline: Deadline, credential: Credential, host: str, kind: MeetingList
    ) -> AsyncIterator[Meeting]:
        params: dict[str, str | int] = {"type": kind.value, "page_size": PAGE_SIZE}
        for _ in range(MAX_PAGES):
            response = await self._transport.call(
                deadline,
                credential,
                "GET",
                f"/users/{_host(host)}/meetings",
                category=Category.MEDIUM,
                repeat=Repeat.SAFE,
                params=params,
            )
            page = read(MeetingPage, response)
            for meeting in page.meetings:
                yield meeting
            if not page.next_page_token or page.next_page_token == params.get("next_page_token"):
                return
            params["next_page_token"] = page.next_page_token
        raise unexpected_answer(response, f"the list has more than {MAX_PAGES} pages", changes=False)


@asynccontextmanager
async def open_zoom(settings: Settings, aredis: redis.asyncio.Redis, box: SecretBox) -> AsyncIterator[ZoomClient]:
    """A client with its own connection pool, for the life of a process.

    Args:
        settings: addresses and time limits.
        aredis: where access tokens and budgets are shared; must decode responses.
        box: encrypts the tokens there.
    """
    # The whole call is limited by `Transport.deadline`; this is for the steps that ought to be quicker.
    timeout = httpx.Timeout(settings.zoom_timeout_s, connect=min(CONNECT_TIMEOUT_S, settings.zoom_timeout_s / 2))
    async with httpx.AsyncClient(
        transport=ManyPools(settings.zoom_api_base),
        timeout=timeout,
        follow_redirects=False,
        headers={"User-Agent": "zoompool"},
    ) as http:
        tokens = TokenSource(
            aredis,
            box,
            http,
            settings.zoom_oauth_base,
            request_timeout_s=min(REQUEST_TIMEOUT_S, settings.zoom_timeout_s / 2),
        )
        try:
            yield ZoomClient(http, tokens, Budgets(aredis, settings), settings)
        finally:
            await tokens.aclose()


def _host(host: str) -> str:
    """A host as part of a path.

    Raises:
        InvalidName: empty, dots that would climb the path, or `me`, which is not reliable for Server-to-Server apps.
    """
    if not host.strip(".") or host == "me":
        raise InvalidName("Zoom host", host, "give a Zoom user id or an e-mail")
    return quote(host, safe="@")
