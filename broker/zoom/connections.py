"""Connections to Zoom: several small pools instead of a large one.

A pool of httpcore looks at each of its connections on every request, with a system call for each idle one. With
hundreds of calls in flight that costs more than the calls; in small pools it does not.
"""

from __future__ import annotations

import asyncio
import functools
import itertools
import ssl
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import httpx

POOLS = 16
KEEPALIVE_S = 30.0


class ManyPools(httpx.AsyncBaseTransport):
    """Hands requests to its pools in turn. How many there are in flight is limited by who calls: a job has one.

    Args:
        url: where they go; whether that is by a proxy, the environment says (`HTTPS_PROXY`, `NO_PROXY`).
        pools: how many.
    """

    def __init__(self, url: str, pools: int = POOLS) -> None:
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=None, keepalive_expiry=KEEPALIVE_S)
        proxy = proxy_for(url)
        self._pools = [httpx.AsyncHTTPTransport(verify=ssl_context(), limits=limits, proxy=proxy) for _ in range(pools)]
        self._turns = itertools.cycle(self._pools)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request by the pool whose turn it is."""
        return await next(self._turns).handle_async_request(request)

    async def aclose(self) -> None:
        """Close every connection."""
        await asyncio.gather(*(pool.aclose() for pool in self._pools))


def proxy_for(url: str) -> str | None:
    """The proxy that the environment names for a URL; httpx leaves that to who brings a transport."""
    parts = urlsplit(url)
    if proxy_bypass(parts.hostname or ""):
        return None
    return getproxies().get(parts.scheme)


@functools.cache
def ssl_context() -> ssl.SSLContext:
    """The certificates to trust; read once per process, because reading them takes tens of milliseconds."""
    return httpx.create_ssl_context()
