"""One call to Zoom: the budget, the token, the time limit, the one forced refresh, and the one place where failures of
the network become ours.

Repeating is for calls that may run twice. `Repeat.NEVER` sends once (again only when Zoom refused the token, which it
does before anything else); `Repeat.SAFE` makes up to three tries.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, TypeVar

import httpx
import stamina
import structlog
from pydantic import BaseModel, SecretStr, ValidationError

from broker.models import Credential
from broker.zoom.auth import TokenSource
from broker.zoom.errors import Kind, ZoomError, classify, timed_out, transport_failed, unexpected_answer
from broker.zoom.limits import Budgets, Category

TRIES = 3
FIRST_PAUSE_S = 0.1
"""Before the second try, plus as much at random; doubled before the third."""
LONGEST_PAUSE_S = 2.0
"""A longer `Retry-After` is the caller's to plan: the error carries it."""

log = structlog.get_logger(__name__)

M = TypeVar("M", bound=BaseModel)


class Repeat(Enum):
    """Whether a call may be sent again after it failed."""

    NEVER = "never"
    SAFE = "safe"


class Transport:
    """Sends authorised calls to Zoom's API.

    Args:
        http: the connection pool; it sets the time limits of connecting.
        tokens: where access tokens come from.
        budgets: when the next call may be made.
        api_base: address of the API, such as `https://api.zoom.us/v2`.
        timeout_s: limit of one `deadline`, with everything that happens inside.
    """

    def __init__(
        self, http: httpx.AsyncClient, tokens: TokenSource, budgets: Budgets, *, api_base: str, timeout_s: float
    ) -> None:
        self._http = http
        self._tokens = tokens
        self._budgets = budgets
        self._base = api_base.rstrip("/")
        self._timeout_s = timeout_s

    @contextlib.asynccontextmanager
    async def deadline(self, what: str) -> AsyncIterator[Deadline]:
        """Limit everything inside to `timeout_s`, down to the last byte of a slow body.

        Args:
            what: the operation, for the error.

        Raises:
            ZoomError: the time ran out: `zoom_timeout`, or in the pause after a failed try, that try's failure.
        """
        deadline = Deadline(what, asyncio.get_running_loop().time() + self._timeout_s)
        try:
            async with asyncio.timeout_at(deadline.at):
                yield deadline
        except TimeoutError:
            if deadline.last is not None and not deadline.sending:
                raise deadline.last from None
            raise timed_out(what, self._timeout_s, outcome_unknown=deadline.in_doubt) from None

    async def call(
        self,
        deadline: Deadline,
        credential: Credential,
        method: str,
        path: str,
        *,
        category: Category,
        repeat: Repeat,
        creates_on: str = "",
        json: Mapping[str, Any] | None = None,
        params: Mapping[str, str | int] | None = None,
    ) -> httpx.Response:
        """Return Zoom's answer if it is a success.

        Args:
            deadline: the open `deadline` that this call belongs to.
            credential: the OAuth app to call with.
            method: HTTP method.
            path: below the API's address, already percent-encoded.
            category: the budget that it counts against.
            creates_on: for a creation: the host, whose creations are counted by day.
            repeat: whether transient failures may be tried again.
            json: the body.
            params: the query.

        Raises:
            ZoomError: see `broker.zoom.errors`.
            BrokerUnavailable: the access token or the budget could not be read from Redis.
        """
        what = _Call(credential, category, creates_on, method, path, json, params)
        tries = TRIES if repeat is Repeat.SAFE else 1
        # Zoom may refuse the token on a second try too (it expired just then), but one refresh has to be enough.
        authorised = _Authorised(self._tokens, credential)
        async for attempt in stamina.retry_context(
            on=deadline.pause_after,
            attempts=tries,
            timeout=None,
            wait_initial=FIRST_PAUSE_S,
            wait_max=1.0,
            wait_jitter=FIRST_PAUSE_S,
        ):
            with attempt:
                try:
                    return await self._try(deadline, authorised, what)
                except ZoomError as error:
                    await self._budgets.learn(credential, category, error, host=creates_on)
                    raise
        raise AssertionError("the last try returns or raises")

    async def _try(self, deadline: Deadline, authorised: _Authorised, call: _Call) -> httpx.Response:
        token = await authorised.token()
        answer = await self._send(deadline, token, call)
        while isinstance(answer, ZoomError) and answer.token_refused and authorised.may_refresh:
            token = await authorised.another(token)
            answer = await self._send(deadline, token, call)
        if isinstance(answer, ZoomError):
            deadline.last = answer
            raise answer
        deadline.last = None
        return answer

    async def _send(self, deadline: Deadline, token: SecretStr, call: _Call) -> httpx.Response | ZoomError:
        changes = call.method != "GET"
        try:
            # Half of the time that is left is for the call itself.
            patience_s = (deadline.at - asyncio.get_running_loop().time()) / 2
            await self._budgets.spend(call.credential, call.category, patience_s=patience_s, host=call.creates_on)
        except ZoomError as refusal:
            return refusal
        with deadline.sends(changes):
            try:
                response = await self._http.request(
                    call.method,
                    self._base + call.path,
                    headers={"Authorization": f"Bearer {token.get_secret_value()}"},
                    json=call.json,
                    params=call.params,
                )
            except httpx.HTTPError as failure:
                # Returned, so that the caller raises it outside of the handler: httpx's error carries our headers.
                return transport_failed(failure, deadline.what, changes=changes)
        return response if response.is_success else classify(response, changes=changes)


@dataclass(frozen=True)
class _Call:
    """What is sent, and which budget it counts against."""

    credential: Credential
    category: Category
    creates_on: str
    method: str
    path: str
    json: Mapping[str, Any] | None
    params: Mapping[str, str | int] | None


class Deadline:
    """The running time limit of one operation, and what it knows when the time runs out."""

    def __init__(self, what: str, at: float) -> None:
        self.what = what
        self.at = at
        self.last: ZoomError | None = None
        """The failure of the last try, until another one succeeds."""
        self.sending = False
        self.in_doubt = False
        """A change is on its way to Zoom, and no answer has come."""

    @contextlib.contextmanager
    def sends(self, changes: bool) -> Iterator[None]:
        """Surround a request; when it is cancelled inside, the change stays in doubt."""
        self.sending, self.in_doubt = True, changes
        yield
        self.sending, self.in_doubt = False, False

    def pause_after(self, error: Exception) -> bool | float:
        """How long to wait before the next try; False if there must be none."""
        if not isinstance(error, ZoomError) or error.kind is not Kind.TRANSIENT:
            return False
        if error.retry_after_s is None:
            return True
        left_s = self.at - asyncio.get_running_loop().time()
        return error.retry_after_s if error.retry_after_s <= min(LONGEST_PAUSE_S, left_s) else False


class _Authorised:
    """The token of one call, which may be refreshed once.

    One that another process stored meanwhile is tried first, and proves nothing if it is refused, too: where Zoom knows
    only the newest token, a process that is killed between getting one and storing it leaves a dead one in Redis.
    Only a token that was asked for because of a refusal, and is refused itself, is the credential's fault.
    """

    def __init__(self, tokens: TokenSource, credential: Credential) -> None:
        self._tokens = tokens
        self._credential = credential
        self._took_stored = False
        self.may_refresh = True

    async def token(self) -> SecretStr:
        return await self._tokens.token(self._credential)

    async def another(self, refused: SecretStr) -> SecretStr:
        stored = await self._tokens.token(self._credential, look=True)
        if stored != refused and not self._took_stored:
            self._took_stored = True
            return stored
        log.info("zoom_token_refused", credential=self._credential.name)
        fresh = await self._tokens.token(self._credential, refresh_of=refused.get_secret_value())
        # Not before: where the refresh itself failed, the next try finds the dead token again.
        self.may_refresh = False
        return fresh


def read(model: type[M], response: httpx.Response, *, changes: bool = False) -> M:
    """Read an answer's body.

    Raises:
        ZoomError: it is not what it must be (`zoom_answer_unreadable`).
    """
    try:
        return model.model_validate_json(response.content)
    except ValidationError as failure:
        places = sorted({".".join(str(part) for part in item["loc"]) or "body" for item in failure.errors()})
    # Outside of the handler: the validation error quotes the body, which may hold a start_url.
    raise unexpected_answer(response, f"{model.__name__}: {', '.join(places[:5])}", changes=changes)
