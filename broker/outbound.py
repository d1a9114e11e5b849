"""Requests to an address that somebody configured, kept away from what only we can reach (SSRF).

Only https, and only hosts whose every address is public; hosts that a setting allows by name may be anything. The
address that was checked is the one that is connected to, so a name that resolves differently a moment later gains
nothing. Redirects are not followed, and an answer's body is not read.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Collection, Mapping

import httpx

from broker.errors import ConfigurationError, ZoomPoolError


class AddressRefused(ZoomPoolError):
    """A name leads to an address that requests must not go to."""

    code = "address_refused"

    def __init__(self, host: str) -> None:
        super().__init__(
            f"host {host!r} leads to an address that is not public; if that is meant, add the host to "
            "ZOOMPOOL_NOTIFY_ALLOWED_HOSTS"
        )


class NotDelivered(ZoomPoolError):
    """The receiver did not take a request. Repeating it is safe."""

    code = "not_delivered"

    def __init__(self, host: str, why: str) -> None:
        super().__init__(f"{host} did not take the notification: {why}")


def check_url(url: str, allowed_hosts: Collection[str]) -> httpx.URL:
    """Read a configured address.

    Raises:
        ConfigurationError: it is no URL, or not https and its host is not allowed by name. The URL is not quoted,
            because it may hold a token.
    """
    try:
        parsed = httpx.URL(url)
    except (httpx.InvalidURL, TypeError):
        raise ConfigurationError("the address for notifications is not a URL") from None
    if parsed.scheme not in ("http", "https") or not parsed.host or parsed.userinfo:
        raise ConfigurationError("the address for notifications must look like https://host/path, without a user name")
    if parsed.scheme == "http" and parsed.host not in allowed_hosts:
        raise ConfigurationError(
            f"notifications go over https; to send them to {parsed.host!r} in the clear, add it to "
            "ZOOMPOOL_NOTIFY_ALLOWED_HOSTS"
        )
    return parsed


async def post(
    url: httpx.URL, body: str, headers: Mapping[str, str], *, timeout_s: float, allowed_hosts: Collection[str]
) -> None:
    """Send `body`, and return when the receiver answered 2xx.

    Args:
        url: checked by `check_url`.
        body: sent as UTF-8.
        headers: in addition to the usual ones.
        timeout_s: for all of it, from the look-up of the name to the answer.
        allowed_hosts: hosts whose addresses need not be public.

    Raises:
        AddressRefused: the host leads to an address that is not public.
        NotDelivered: any other answer, or none.
    """
    try:
        async with asyncio.timeout(timeout_s):
            address = await _resolve(url, allowed_hosts)
            # The address takes the name's place in the URL; the name stays in Host and in TLS, which checks it.
            target = url.copy_with(host=address)
            given = {"host": url.netloc.decode("ascii"), "user-agent": "zoompool", **headers}
            async with (
                httpx.AsyncClient(timeout=timeout_s, trust_env=False) as client,
                client.stream(
                    "POST", target, content=body.encode(), headers=given, extensions={"sni_hostname": url.host}
                ) as answer,
            ):
                if not answer.is_success:
                    raise NotDelivered(url.host, f"it answered {answer.status_code}")
    except (httpx.HTTPError, TimeoutError, OSError) as error:
        # The cause is not quoted: it may carry the URL.
        raise NotDelivered(url.host, type(error).__name__) from None


async def _resolve(url: httpx.URL, allowed_hosts: Collection[str]) -> str:
    port = url.port or (443 if url.scheme == "https" else 80)
    found = await asyncio.get_running_loop().getaddrinfo(url.host, port, type=socket.SOCK_STREAM)
    addresses = [str(entry[4][0]) for entry in found]
    if url.host not in allowed_hosts and not all(_is_public(address) for address in addresses):
        raise AddressRefused(url.host)
    return addresses[0]


def _is_public(address: str) -> bool:
    ip = ipaddress.ip_address(address.split("%")[0])
    mapped = ip.ipv4_mapped if isinstance(ip, ipaddress.IPv6Address) else None
    return (mapped or ip).is_global and not ip.is_multicast
