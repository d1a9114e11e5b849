"""Access tokens: shared, encrypted, and fetched once, whoever asks and whoever dies."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import parse_qs

import httpx
import pytest
import redis.asyncio
import structlog.testing
from pydantic import SecretStr
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from broker import keys
from broker.errors import BrokerUnavailable
from broker.models import Credential
from broker.secrets import SecretBox, new_key
from broker.zoom import auth
from broker.zoom.auth import TokenSource
from broker.zoom.errors import Kind, ZoomError

CREDENTIAL = Credential("main", "acc-1", "client-1", SecretStr("client-secret-1"))
BOX = SecretBox([SecretStr(new_key())])
KEY = keys.token("main")
GUARD = keys.token_refresh("main")


class TokenEndpoint:
    """Counts token requests and answers `token-1`, `token-2`, …; `before` runs while a request is under way."""

    def __init__(self, expires_in: object = 3600, before: Callable[[int], Awaitable[Any]] | None = None) -> None:
        self.requests: list[httpx.Request] = []
        self.expires_in = expires_in
        self.before = before
        self.answer: httpx.Response | Exception | None = None
        self.same_token = False

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        number = len(self.requests)
        if self.before is not None:
            await self.before(number)
        if isinstance(self.answer, Exception):
            raise self.answer
        if self.answer is not None:
            return httpx.Response(self.answer.status_code, content=self.answer.content)
        token = "token-1" if self.same_token else f"token-{number}"
        return httpx.Response(200, json={"access_token": token, "token_type": "bearer", "expires_in": self.expires_in})

    def source(
        self,
        aredis: redis.asyncio.Redis,
        box: SecretBox = BOX,
        *,
        request_timeout_s: float = 5,
        base: str = "http://zoom.test",
    ) -> TokenSource:
        http = httpx.AsyncClient(transport=httpx.MockTransport(self))
        return TokenSource(aredis, box, http, base, request_timeout_s=request_timeout_s)


async def a_moment(_: int) -> None:
    await asyncio.sleep(0.05)


async def test_the_request_is_a_form_with_basic_authorisation(aredis: redis.asyncio.Redis) -> None:
    zoom = TokenEndpoint()
    assert (await zoom.source(aredis, base="http://zoom.test/").token(CREDENTIAL)).get_secret_value() == "token-1"
    [request] = zoom.requests
    assert (request.method, str(request.url)) == ("POST", "http://zoom.test/oauth/token")
    assert request.headers["authorization"] == "Basic Y2xpZW50LTE6Y2xpZW50LXNlY3JldC0x"  # base64 by hand
    assert parse_qs(request.content.decode()) == {"grant_type": ["account_credentials"], "account_id": ["acc-1"]}


async def test_a_second_process_uses_the_first_ones_token(aredis: redis.asyncio.Redis) -> None:
    zoom = TokenEndpoint()
    await zoom.source(aredis).token(CREDENTIAL)
    assert (await zoom.source(aredis).token(CREDENTIAL)).get_secret_value() == "token-1"
    assert len(zoom.requests) == 1


@pytest.mark.parametrize(("expires_in", "life_s"), [(3600, 3540), (100, 90), (10, 9), (0.5, 0.45)])
async def test_a_token_is_forgotten_before_it_expires(
    aredis: redis.asyncio.Redis, expires_in: float, life_s: float
) -> None:
    await TokenEndpoint(expires_in).source(aredis).token(CREDENTIAL)
    left_ms = await aredis.pttl(KEY)
    assert life_s * 1000 - 400 < left_ms <= life_s * 1000


async def test_the_token_in_redis_cannot_be_read(aredis: redis.asyncio.Redis) -> None:
    await TokenEndpoint().source(aredis).token(CREDENTIAL)
    for key in await aredis.keys("*"):
        stored = str(await aredis.get(key))
        assert "token-1" not in stored
        assert "client" not in stored
    assert await aredis.exists(KEY) == 1


async def test_a_token_under_a_lost_key_is_replaced(aredis: redis.asyncio.Redis) -> None:
    zoom = TokenEndpoint()
    await zoom.source(aredis).token(CREDENTIAL)
    other = SecretBox([SecretStr(new_key())])
    assert (await zoom.source(aredis, other).token(CREDENTIAL)).get_secret_value() == "token-2"


async def test_a_credential_that_became_another_app_gets_its_own_token(aredis: redis.asyncio.Redis) -> None:
    zoom = TokenEndpoint()
    await zoom.source(aredis).token(CREDENTIAL)
    changed = Credential("main", "acc-1", "client-2", SecretStr("client-secret-2"))
    assert (await zoom.source(aredis).token(changed)).get_secret_value() == "token-2"


async def test_a_token_is_remembered_for_a_moment(aredis: redis.asyncio.Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    zoom = TokenEndpoint()
    source, other = zoom.source(aredis), zoom.source(aredis)
    first = await source.token(CREDENTIAL)
    second = await other.token(CREDENTIAL, refresh_of=first.get_secret_value())
    assert first != second
    assert await source.token(CREDENTIAL) == first
    assert await source.token(CREDENTIAL, look=True) == second
    assert await source.token(CREDENTIAL) == second, "what it saw last"
    changed = Credential("main", "acc-1", "client-2", SecretStr("client-secret-2"))
    assert (await source.token(changed)).get_secret_value() == "token-3"
    monkeypatch.setattr(auth, "REMEMBERED_S", 0)
    third = await other.token(CREDENTIAL, refresh_of=second.get_secret_value())
    forgetful = zoom.source(aredis)
    assert await forgetful.token(CREDENTIAL) == third
    fourth = await other.token(CREDENTIAL, refresh_of=third.get_secret_value())
    assert await forgetful.token(CREDENTIAL) == fourth


async def test_a_crowd_makes_one_request(aredis: redis.asyncio.Redis) -> None:
    zoom = TokenEndpoint(before=a_moment)
    sources = [zoom.source(aredis), zoom.source(aredis)]
    tokens = await asyncio.gather(*(source.token(CREDENTIAL) for source in sources for _ in range(50)))
    assert {token.get_secret_value() for token in tokens} == {"token-1"}
    assert len(zoom.requests) == 1
    assert not await aredis.exists(GUARD)


@pytest.mark.parametrize("same_token", [False, True], ids=["new token", "zoom hands the same token out again"])
async def test_a_crowd_of_refusals_makes_one_refresh(aredis: redis.asyncio.Redis, same_token: bool) -> None:
    zoom = TokenEndpoint(before=a_moment)
    zoom.same_token = same_token
    sources = [zoom.source(aredis), zoom.source(aredis)]
    await sources[0].token(CREDENTIAL)
    tokens = await asyncio.gather(*(s.token(CREDENTIAL, refresh_of="token-1") for s in sources for _ in range(50)))
    assert {token.get_secret_value() for token in tokens} == {"token-1" if same_token else "token-2"}
    assert len(zoom.requests) == 2


async def test_a_late_refusal_of_an_old_token_gets_the_one_that_replaced_it(aredis: redis.asyncio.Redis) -> None:
    zoom = TokenEndpoint()
    source = zoom.source(aredis)
    await source.token(CREDENTIAL)
    await source.token(CREDENTIAL, refresh_of="token-1")
    assert (await source.token(CREDENTIAL, refresh_of="token-1")).get_secret_value() == "token-2"
    assert len(zoom.requests) == 2


async def test_another_takes_over_when_the_winner_died_in_mid_refresh(aredis: redis.asyncio.Redis) -> None:
    """The dead process is its guard, left behind for the rest of its life."""
    await aredis.set(GUARD, "a-process-that-is-no-more", px=300)
    zoom = TokenEndpoint(before=a_moment)
    sources = [zoom.source(aredis, request_timeout_s=0.5) for _ in range(2)]
    tokens = await asyncio.gather(*(source.token(CREDENTIAL) for source in sources for _ in range(10)))
    assert {token.get_secret_value() for token in tokens} == {"token-1"}
    assert len(zoom.requests) == 1


async def test_the_guard_outlives_a_request_but_not_by_much(aredis: redis.asyncio.Redis) -> None:
    """Shorter, and two would fetch at once; longer, and a dead process would hold everybody up."""
    left_ms: list[int] = []

    async def look(_: int) -> None:
        left_ms.append(await aredis.pttl(GUARD))

    await TokenEndpoint(before=look).source(aredis, request_timeout_s=2).token(CREDENTIAL)
    assert 2000 < left_ms[0] <= 2500


async def test_another_takes_over_at_once_when_the_winner_is_stopped(aredis: redis.asyncio.Redis) -> None:
    under_way = asyncio.Event()

    async def hang_first(number: int) -> None:
        if number == 1:
            under_way.set()
            await asyncio.Event().wait()

    zoom = TokenEndpoint(before=hang_first)
    winner, other = zoom.source(aredis, request_timeout_s=30), zoom.source(aredis, request_timeout_s=30)
    first = asyncio.create_task(winner.token(CREDENTIAL))
    await asyncio.wait_for(under_way.wait(), 5)
    second = asyncio.create_task(other.token(CREDENTIAL))
    await winner.aclose()
    assert (await asyncio.wait_for(second, 5)).get_secret_value() == "token-2"
    with pytest.raises(asyncio.CancelledError):
        await first


async def test_a_caller_that_gives_up_does_not_take_the_others_token_away(aredis: redis.asyncio.Redis) -> None:
    under_way, go_on = asyncio.Event(), asyncio.Event()

    async def wait(_: int) -> None:
        under_way.set()
        await go_on.wait()

    source = TokenEndpoint(before=wait).source(aredis)
    impatient, patient = (asyncio.create_task(source.token(CREDENTIAL)) for _ in range(2))
    await asyncio.wait_for(under_way.wait(), 5)
    impatient.cancel()
    await asyncio.wait([impatient])
    go_on.set()
    assert (await asyncio.wait_for(patient, 5)).get_secret_value() == "token-1"


async def test_a_winner_that_was_too_slow_does_not_overwrite_its_successors_token(aredis: redis.asyncio.Redis) -> None:
    async def another_takes_over(_: int) -> None:
        await aredis.set(GUARD, "the-successor", px=5000)

    zoom = TokenEndpoint(before=another_takes_over)
    assert (await zoom.source(aredis).token(CREDENTIAL)).get_secret_value() == "token-1"
    assert not await aredis.exists(KEY)
    assert await aredis.get(GUARD) == "the-successor"


async def test_waiting_for_a_token_has_an_end(aredis: redis.asyncio.Redis) -> None:
    await aredis.set(GUARD, "never-ready", px=60_000)
    with pytest.raises(ZoomError) as caught:
        await asyncio.wait_for(TokenEndpoint().source(aredis, request_timeout_s=0.05).token(CREDENTIAL), 10)
    assert (caught.value.code, caught.value.kind) == ("zoom_token_busy", Kind.TRANSIENT)


@pytest.mark.parametrize(
    ("answer", "code", "kind"),
    [
        (
            httpx.Response(400, json={"reason": "Invalid client_id or client_secret", "error": "invalid_client"}),
            "zoom_credential_rejected",
            Kind.CREDENTIAL,
        ),
        (httpx.Response(503), "zoom_unavailable", Kind.TRANSIENT),
        (httpx.Response(429), "zoom_rate_limited", Kind.TRANSIENT),
        (httpx.Response(200, json={"expires_in": 3600}), "zoom_answer_unreadable", Kind.TRANSIENT),
        (
            httpx.Response(200, json={"access_token": "token-x", "expires_in": 0}),
            "zoom_answer_unreadable",
            Kind.TRANSIENT,
        ),
        (httpx.Response(200, content=b"<html>"), "zoom_answer_unreadable", Kind.TRANSIENT),
        (httpx.ConnectError("no route"), "zoom_unavailable", Kind.TRANSIENT),
        (httpx.ReadTimeout("late"), "zoom_timeout", Kind.TRANSIENT),
    ],
)
async def test_a_failed_request_is_shared_by_its_crowd_and_leaves_the_way_free(
    aredis: redis.asyncio.Redis, answer: httpx.Response | Exception, code: str, kind: Kind
) -> None:
    zoom = TokenEndpoint(before=a_moment)
    zoom.answer = answer
    source = zoom.source(aredis)
    errors = await asyncio.gather(*(source.token(CREDENTIAL) for _ in range(20)), return_exceptions=True)
    assert len(zoom.requests) == 1
    for error in errors:
        assert isinstance(error, ZoomError)
        assert (error.code, error.kind, error.outcome_unknown) == (code, kind, False)
        assert "client-secret-1" not in str(error)
        assert "token-x" not in str(error)
    zoom.answer = None
    assert (await source.token(CREDENTIAL)).get_secret_value() == "token-2"


async def test_a_request_that_hangs_is_cut_off(aredis: redis.asyncio.Redis) -> None:
    async def hang(_: int) -> None:
        await asyncio.Event().wait()

    with pytest.raises(ZoomError) as caught:
        await asyncio.wait_for(TokenEndpoint(before=hang).source(aredis, request_timeout_s=0.1).token(CREDENTIAL), 5)
    assert caught.value.code == "zoom_timeout"
    assert not await aredis.exists(GUARD)


async def test_without_redis_there_is_no_token() -> None:
    nowhere = redis.asyncio.Redis(
        host="127.0.0.1", port=1, decode_responses=True, retry=Retry(NoBackoff(), 0), socket_connect_timeout=1
    )
    zoom = TokenEndpoint()
    with pytest.raises(BrokerUnavailable):
        await zoom.source(nowhere).token(CREDENTIAL)
    assert zoom.requests == []


async def test_nothing_secret_is_logged_or_shown(aredis: redis.asyncio.Redis) -> None:
    zoom = TokenEndpoint()
    source = zoom.source(aredis)
    with structlog.testing.capture_logs() as logs:
        token = await source.token(CREDENTIAL)
        await source.token(CREDENTIAL, refresh_of="token-1")
    shown = f"{logs} {source!r} {token} {token!r} {CREDENTIAL!r} {source._flights!r}"
    assert [entry["event"] for entry in logs] == ["zoom_token_refreshed"] * 2
    for secret in ("token-1", "token-2", "client-secret-1"):
        assert secret not in shown
