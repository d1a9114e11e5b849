"""Requests go where they were meant to go, and nowhere inside."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest

from broker import outbound
from broker.errors import ConfigurationError
from tests.web_app import listening_web_app

HEADERS = {"content-type": "application/json"}


@pytest.mark.parametrize(
    "url",
    [
        "http://web.example/hook",
        "ftp://web.example/hook",
        "https://",
        "https://user:made-up@web.example/",
        "web.example/hook",
        "https://web.example:port/",
        "",
    ],
)
def test_address_that_is_not_https_is_refused_and_not_quoted(url: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        outbound.check_url(url, ())
    assert "made-up" not in str(caught.value)


def test_plain_http_is_for_hosts_that_are_allowed_by_name() -> None:
    assert outbound.check_url("http://web.internal:8000/hook", ("web.internal",)).host == "web.internal"
    with pytest.raises(ConfigurationError, match=r"other\.internal"):
        outbound.check_url("http://other.internal/hook", ("web.internal",))


INSIDE = (
    "127.0.0.1 10.1.2.3 192.168.0.1 169.254.169.254 100.64.0.1 0.0.0.0 224.0.0.1 ::1 fe80::1%1 fd00::1 ::ffff:10.0.0.1"
)


@pytest.mark.parametrize("address", INSIDE.split())
async def test_host_that_leads_inside_is_refused(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def resolve(self: object, host: str, port: int, **options: Any) -> list[Any]:
        return [(0, 0, 0, "", ("93.184.216.34", port)), (0, 0, 0, "", (address, port))]

    monkeypatch.setattr(asyncio.BaseEventLoop, "getaddrinfo", resolve)
    url = outbound.check_url("https://web.example/hook", ())
    with pytest.raises(outbound.AddressRefused, match=r"web\.example"):
        await outbound.post(url, "{}", HEADERS, timeout_s=5, allowed_hosts=())


async def test_address_that_was_checked_is_the_one_connected_to(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that resolves to somewhere else at the second look gains nothing: there is no second look."""
    with listening_web_app("whsec_bWFkZS11cA==") as app:
        real = asyncio.BaseEventLoop.getaddrinfo
        asked: list[str] = []

        async def resolve(self: Any, host: str, port: int, **options: Any) -> Any:
            asked.append(host)
            target = "127.0.0.1" if host == "web.internal" else host
            return await real(self, target, port, **options)

        monkeypatch.setattr(asyncio.BaseEventLoop, "getaddrinfo", resolve)
        url = outbound.check_url(app.url.replace("127.0.0.1", "web.internal"), ("web.internal",))
        with pytest.raises(outbound.NotDelivered, match="answered 400"):  # unsigned
            await outbound.post(url, "{}", HEADERS, timeout_s=5, allowed_hosts=("web.internal",))
        assert asked.count("web.internal") == 1


async def test_redirect_is_not_followed() -> None:
    with listening_web_app("whsec_bWFkZS11cA==") as app:
        app.take = lambda headers, body: 307  # type: ignore[method-assign]
        url = outbound.check_url(app.url, ("127.0.0.1",))
        with pytest.raises(outbound.NotDelivered, match="answered 307"):
            await outbound.post(url, "{}", HEADERS, timeout_s=5, allowed_hosts=("127.0.0.1",))


async def test_silence_has_a_deadline() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = outbound.check_url(f"http://127.0.0.1:{silent.getsockname()[1]}/", ("127.0.0.1",))
        with pytest.raises(outbound.NotDelivered):
            await outbound.post(url, "{}", HEADERS, timeout_s=0.2, allowed_hosts=("127.0.0.1",))


async def test_closed_door_and_unknown_name_are_not_delivered() -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    for host in (f"127.0.0.1:{port}", "no-such-host.invalid"):
        url = outbound.check_url(f"http://{host}/", (host.split(":")[0],))
        with pytest.raises(outbound.NotDelivered):
            await outbound.post(url, "{}", HEADERS, timeout_s=5, allowed_hosts=(url.host,))
