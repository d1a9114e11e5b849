"""Access tokens of Zoom's Server-to-Server OAuth apps, shared by all processes through Redis.

Sources differ on whether a new token makes Zoom forget the previous one. Right either way: one token per credential,
kept encrypted in Redis, fetched by one process at a time, and replaced before it expires or when Zoom refuses it.

One process at a time: a refresh begins with `SET guard nonce NX PX`. Those who do not get the guard look for the new
token again and again, and try for the guard each time, so that they take over when the first one failed (it removes
the guard) or died (the guard expires; it lives a little longer than a token request may last). The guard is removed and
the token stored in one WATCH/MULTI transaction, only while the guard still holds our nonce: the compare-and-delete
commands are newer than Redis 6.2, and a script would gain nothing, as nobody queues for this at speed. Within a process
all callers share one task, so a crowd makes one attempt and shares its outcome, good or bad.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import random
import secrets
from dataclasses import dataclass

import httpx
import redis.asyncio
import structlog
from pydantic import SecretStr, ValidationError
from redis.exceptions import WatchError

from broker import keys
from broker.client import translated
from broker.errors import SecretUnreadable, ZoomPoolError
from broker.models import Credential
from broker.secrets import SecretBox
from broker.zoom.errors import Kind, ZoomError, classify, timed_out, transport_failed, unexpected_answer
from broker.zoom.models import TokenAnswer

REQUEST_TIMEOUT_S = 5.0
MARGIN_S = 60.0
MARGIN_SHARE = 0.1
REMEMBERED_S = 5.0
"""So long a process uses a token without looking whether another one stored a newer. Shorter than `MARGIN_S`, so that a
token does not expire meanwhile; if Zoom refuses it, whoever was refused looks."""
_GUARD_SLACK_S = 0.5
_POLL_FIRST_S = 0.01
_POLL_MOST_S = 0.2

log = structlog.get_logger(__name__)


@dataclass(frozen=True, repr=False)
class _Held:
    """The token in Redis, and the encrypted text it came from, which differs after every refresh."""

    token: str
    sealed: str
    scope: str


class TokenSource:
    """Hands out access tokens.

    Args:
        redis: a client that decodes responses.
        box: encrypts the tokens at rest.
        http: the client for token requests.
        oauth_base: where `/oauth/token` is, without a slash at the end.
        request_timeout_s: most time for one token request. Callers with less patience may cancel.
    """

    def __init__(
        self,
        redis: redis.asyncio.Redis,
        box: SecretBox,
        http: httpx.AsyncClient,
        oauth_base: str,
        *,
        request_timeout_s: float = REQUEST_TIMEOUT_S,
    ) -> None:
        self._redis = redis
        self._box = box
        self._http = http
        self._url = oauth_base.rstrip("/") + "/oauth/token"
        self._request_timeout_s = request_timeout_s
        self._guard_ms = int((request_timeout_s + _GUARD_SLACK_S) * 1000)
        # Time for one winner to die and for one full attempt of our own after it.
        self._wait_s = 2 * (request_timeout_s + _GUARD_SLACK_S)
        self._flights: dict[tuple[Credential, str | None], asyncio.Task[SecretStr]] = {}
        self._remembered: dict[Credential, tuple[SecretStr, float]] = {}

    async def token(self, credential: Credential, *, refresh_of: str | None = None, look: bool = False) -> SecretStr:
        """Return an access token of this credential.

        Args:
            credential: the OAuth app.
            refresh_of: a token that Zoom refused. If somebody has replaced it already, that one is returned; else a
                new one is fetched. So a thousand refusals make one request.
            look: the one that is stored now, and not one that this process used a moment ago.

        Raises:
            ZoomError: Zoom gives no token.
            BrokerUnavailable: Redis does not answer.
        """
        if refresh_of is None and not look and (known := self._remembered.get(credential)) is not None:
            token, until = known
            if asyncio.get_running_loop().time() < until:
                return token
        held = await self._read(credential)
        if held is not None and held.token != refresh_of:
            return self._remember(credential, SecretStr(held.token))
        flight = self._flights.get((credential, refresh_of))
        if flight is None:
            flight = asyncio.create_task(
                self._renew(credential, refresh_of, held), name=f"zoom-token-{credential.name}"
            )
            self._flights[credential, refresh_of] = flight
            flight.add_done_callback(lambda done: self._landed((credential, refresh_of), done))
        # Shielded, because a caller that gives up must not take the others' token away.
        return self._remember(credential, await asyncio.shield(flight))

    def _remember(self, credential: Credential, token: SecretStr) -> SecretStr:
        now = asyncio.get_running_loop().time()
        # Of a credential that was changed, what was remembered under its old form goes as well.
        self._remembered = {known: entry for known, entry in self._remembered.items() if now < entry[1]}
        self._remembered[credential] = (token, now + REMEMBERED_S)
        return token

    async def scopes(self, credential: Credential) -> frozenset[str]:
        """The scopes that this OAuth app has now; empty if Zoom does not tell.

        A token keeps the scopes that it was issued with, so a new one is fetched, for everybody.

        Raises:
            ZoomError: Zoom gives no token.
            BrokerUnavailable: Redis does not answer.
        """
        held = await self._read(credential)
        await self.token(credential, refresh_of=held.token if held else None)
        fresh = await self._read(credential)
        return frozenset(fresh.scope.split()) if fresh else frozenset()

    async def aclose(self) -> None:
        """Stop refreshes under way; call it before the HTTP client is closed."""
        flights = list(self._flights.values())
        for flight in flights:
            flight.cancel()
        await asyncio.gather(*flights, return_exceptions=True)

    def _landed(self, key: tuple[Credential, str | None], flight: asyncio.Task[SecretStr]) -> None:
        self._flights.pop(key, None)
        if not flight.cancelled():
            flight.exception()  # Marks it as seen: every caller may have given up by now.

    async def _renew(self, credential: Credential, refresh_of: str | None, before: _Held | None) -> SecretStr:
        """Fetch a token, or get the one that another process fetches meanwhile."""
        nonce = secrets.token_hex(16)
        clock = asyncio.get_running_loop().time
        deadline = clock() + self._wait_s
        pause_s = _POLL_FIRST_S
        while True:
            won = await self._take_guard(credential, nonce)
            # Read after trying for the guard: whoever had it before us stored the token and let go at one moment.
            held = await self._read(credential)
            if held is not None and (held.token != refresh_of or _replaced(before, held)):
                if won:
                    await self._finish(credential, nonce)
                return SecretStr(held.token)
            if won:
                return await self._fetch_as_winner(credential, nonce)
            if clock() >= deadline:
                raise ZoomError(
                    f"the token of credential {credential.name!r} is being refreshed elsewhere without end; try again",
                    code="zoom_token_busy",
                    kind=Kind.TRANSIENT,
                )
            await asyncio.sleep(pause_s * random.uniform(0.8, 1.2))  # noqa: S311 - spreads polls, guards nothing
            pause_s = min(pause_s * 1.5, _POLL_MOST_S)

    async def _fetch_as_winner(self, credential: Credential, nonce: str) -> SecretStr:
        try:
            answer = await self._request(credential)
        except BaseException:
            # Also when cancelled: let the next one try at once. If Redis fails too, the guard's life ends it.
            with contextlib.suppress(ZoomPoolError):
                await self._finish(credential, nonce)
            raise
        await self._finish(credential, nonce, answer)
        log.info("zoom_token_refreshed", credential=credential.name, expires_in_s=answer.expires_in)
        return answer.access_token

    async def _request(self, credential: Credential) -> TokenAnswer:
        what = f"token request for credential {credential.name!r}"
        try:
            async with asyncio.timeout(self._request_timeout_s):
                response = await self._http.post(
                    self._url,
                    # As a form: in the query string it would be logged by proxies, and some users get a 400.
                    data={"grant_type": "account_credentials", "account_id": credential.account_id},
                    auth=httpx.BasicAuth(credential.client_id, credential.client_secret.get_secret_value()),
                )
        except TimeoutError:
            raise timed_out(what, self._request_timeout_s, outcome_unknown=False) from None
        except httpx.HTTPError as failure:
            raise transport_failed(failure, what, changes=False) from None
        if response.status_code != httpx.codes.OK:
            raise classify(response, changes=False)
        try:
            answer = TokenAnswer.model_validate_json(response.content)
        except ValidationError:
            answer = None
        if answer is None:  # Outside of the handler, so that no error that quotes the body hangs on ours.
            raise unexpected_answer(response, "it holds no access token", changes=False)
        return answer

    async def _read(self, credential: Credential) -> _Held | None:
        with translated("zoom token"):
            sealed = await self._redis.get(keys.token(credential.name))
        if not isinstance(sealed, str):
            return None
        try:
            entry = json.loads(self._box.open(sealed, f"the token of credential {credential.name!r}"))
        except SecretUnreadable:
            # The encryption key was changed. A token is only a cached thing: fetch another.
            log.info("zoom_token_unreadable", credential=credential.name)
            return None
        if entry["app"] != _app(credential):
            return None  # The credential was given a new app under its old name.
        return _Held(entry["token"], sealed, entry.get("scope", ""))

    async def _take_guard(self, credential: Credential, nonce: str) -> bool:
        key = keys.token_refresh(credential.name)
        with translated("zoom token guard"):
            if await self._redis.set(key, nonce, nx=True, px=self._guard_ms):
                return True
            # The connection repeats a command whose answer was lost; then the refusal comes from our own first try.
            return bool(await self._redis.get(key) == nonce)

    async def _finish(self, credential: Credential, nonce: str, answer: TokenAnswer | None = None) -> None:
        """Store the new token, if there is one, and remove the guard; both only while the guard is ours.

        If it is not, we were too slow and another process has taken over: its token is the later one.
        """
        guard = keys.token_refresh(credential.name)
        with translated("zoom token guard"):
            async with self._redis.pipeline(transaction=True) as pipe:
                try:
                    await pipe.watch(guard)
                    if await pipe.get(guard) != nonce:
                        return
                    pipe.multi()
                    pipe.delete(guard)
                    if answer is not None:
                        token = answer.access_token.get_secret_value()
                        entry = {"token": token, "app": _app(credential), "scope": answer.scope}
                        pipe.set(keys.token(credential.name), self._box.seal(json.dumps(entry)), px=_life_ms(answer))
                    await pipe.execute()
                except WatchError:
                    return


def _replaced(before: _Held | None, now: _Held) -> bool:
    """Whether somebody has stored a token since: even one that reads the same, should Zoom hand it out twice."""
    return before is not None and before.sealed != now.sealed


def _life_ms(answer: TokenAnswer) -> int:
    """How long to keep a token: less than it lives, so that none expires on its way to Zoom."""
    margin_s = min(MARGIN_S, answer.expires_in * MARGIN_SHARE)
    return max(1, int((answer.expires_in - margin_s) * 1000))


def _app(credential: Credential) -> str:
    """Which OAuth app a token belongs to, as a digest."""
    return hashlib.sha256(f"{credential.account_id}\0{credential.client_id}".encode()).hexdigest()
