"""Looks for secrets wherever a system leaves something: in logs, files, answers, and every value in Redis."""

from __future__ import annotations

import base64
import binascii
import contextlib
import json
import zlib
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote

SHORTEST = 8
"""A shorter secret would be found by chance."""
DEEPEST = 4


class Search:
    """Looks for some secrets, as they are and as they look when written in a URL, in JSON or in Base64.

    Args:
        secrets: by names that tell what was found; none shorter than `SHORTEST`.

    Attributes:
        found: the places of secrets, each with the secret's name.
        looked: how many bytes were looked through.
    """

    def __init__(self, secrets: Mapping[str, str]) -> None:
        assert all(len(secret) >= SHORTEST for secret in secrets.values())
        self.found: set[tuple[str, str]] = set()
        self.looked = 0
        self._forms = [(form, name) for name, secret in secrets.items() for form in forms(secret)]

    def look(self, place: str, content: str | bytes) -> None:
        """Look through something that was left somewhere; what is packed is unpacked."""
        for raw in unpacked(content.encode() if isinstance(content, str) else content):
            self.looked += len(raw)
            self.found |= {(place, name) for form, name in self._forms if form in raw}

    def look_into_redis(self, connection: Any) -> None:
        """Look through every key and every value, of whatever type.

        Args:
            connection: one that does not decode answers.
        """
        for key in connection.scan_iter(count=1000):
            place = f"Redis key {key!r}"
            self.look(place, key)
            for value in values(connection, key):
                self.look(place, value)


def forms(secret: str) -> set[bytes]:
    """How a secret can look inside a text."""
    raw = secret.encode()
    found = {raw, quote(secret, safe="").encode(), quote(secret).encode(), json.dumps(secret)[1:-1].encode()}
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        for before in range(3):
            # Base64 writes three bytes as four letters; letters that depend on a neighbour are left out.
            text = encode(bytes(before) + raw).rstrip(b"=")
            first = -(-before * 8 // 6)
            last = (before + len(raw)) * 8 // 6
            found.add(text[first:last])
    return found


def unpacked(content: bytes, depth: int = 0) -> Iterator[bytes]:
    """Something, and what it is when it is unpacked, as RQ packs jobs and results."""
    yield content
    if depth == DEEPEST:
        return
    with contextlib.suppress(zlib.error):
        yield from unpacked(zlib.decompress(content), depth + 1)
    with contextlib.suppress(binascii.Error):
        yield from unpacked(base64.b64decode(content, validate=True), depth + 1)


def values(connection: Any, key: bytes) -> list[bytes]:
    """Every value of a key, with the names of its fields."""
    match connection.type(key):
        case b"string":
            value = connection.get(key)
            return [] if value is None else [value]
        case b"hash":
            return [part for pair in connection.hgetall(key).items() for part in pair]
        case b"list":
            return list(connection.lrange(key, 0, -1))
        case b"set":
            return list(connection.smembers(key))
        case b"zset":
            return list(connection.zrange(key, 0, -1))
        case b"stream":
            return [part for _, fields in connection.xrange(key) for pair in fields.items() for part in pair]
        case b"none":
            return []
        case other:
            raise AssertionError(f"no way is known to look into a {other!r}")
