"""Loads the Lua scripts and reads their headers.

The header of a script is data: its first comment lines say, in one fixed form, what the script is called and does, its
keys, its arguments in order, every form of its result and its errors. Callers give arguments by name and the header
puts them in order, so that a header that is wrong cannot stay unnoticed.

    -- claim: take the best free slot of a pool.        name and purpose
    -- include lease                                     text of include_lease.lua comes first; further down: there
    -- key base: the pool's prefix                       KEYS[1], KEYS[2], …
    -- arg lesson: lesson id                             ARGV[1], ARGV[2], …
    -- arg leases...: lease ids                          the rest of ARGV; the last one only
    -- returns {'busy', now_ms}: no slot is free         one line for each form
    -- error NAME: when                                  or "error none"
"""

from __future__ import annotations

import functools
import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files

from broker.errors import ScriptError

NAMES = (
    "claim",
    "cancel",
    "advance",
    "renew",
    "release",
    "reap",
    "move",
    "set_account",
    "reserve",
    "unreserve",
    "forecast",
    "find",
    "list",
    "status",
    "dashboard",
    "spend",
)

Argument = str | int | float

_INCLUDE = re.compile(r"^-- include (?P<part>\w+)\n", re.MULTILINE)
_LINE = re.compile(r"-- (?P<kind>include|key|arg|returns|error) (?P<rest>.+)")
_NAMED = re.compile(r"(?P<name>[A-Za-z_]+)(?P<many>\.\.\.)?: (?P<text>.+)")


@dataclass(frozen=True)
class Script:
    """One script: its text as the server gets it, and its header as data."""

    name: str
    purpose: str
    keys: tuple[str, ...]
    args: tuple[str, ...]
    rest: str
    """Name of the arguments that follow the fixed ones; empty when there are none."""
    returns: tuple[str, ...]
    errors: tuple[str, ...]
    text: str
    body: str
    """The script's own text, without what it includes."""
    sha: str

    def arguments(self, given: Mapping[str, Argument], rest: Sequence[Argument] = ()) -> tuple[Argument, ...]:
        """Put named arguments in the header's order.

        Raises:
            ScriptError: an argument is missing or unknown, or the script takes no further ones.
        """
        if given.keys() != set(self.args):
            wrong = sorted(given.keys() ^ set(self.args))
            raise ScriptError(self.name, f"the header and the caller differ about the arguments {wrong}")
        if rest and not self.rest:
            raise ScriptError(self.name, "takes no further arguments")
        return (*(given[name] for name in self.args), *rest)


@functools.cache
def load(name: str) -> Script:
    """Return the script `name` from the folder `lua`.

    Raises:
        ScriptError: there is no such script, or its header is not in the fixed form.
    """
    folder = files("lua")
    try:
        body = folder.joinpath(f"{name}.lua").read_text("utf-8")
    except FileNotFoundError:
        raise ScriptError(name, "there is no such file in the folder lua") from None
    return parse(name, body, lambda part: folder.joinpath(f"include_{part}.lua").read_text("utf-8"))


def parse(name: str, body: str, include: Callable[[str], str]) -> Script:
    """Read the header of the script text `body`; `include(part)` returns the text of an included part.

    Raises:
        ScriptError: the header is not in the fixed form.
    """
    header = []
    for line in body.splitlines():
        if not line.startswith("-- "):
            break
        header.append(line)
    title = f"-- {name}: "
    if not header or not header[0].startswith(title):
        raise ScriptError(name, f"the first line does not start with {title!r}")
    found: dict[str, list[str]] = {"include": [], "key": [], "arg": [], "returns": [], "error": []}
    rest = ""
    for line in header[1:]:
        match = _LINE.fullmatch(line)
        if match is None:
            raise ScriptError(name, f"the header line {line!r} has no known form")
        kind, text = match["kind"], match["rest"]
        if kind in ("key", "arg"):
            named = _NAMED.fullmatch(text)
            if named is None or rest:
                raise ScriptError(name, f"the header line {line!r} has no known form")
            if named["many"]:
                rest = named["name"]
                continue
            text = named["name"]
        found[kind].append(text)
    if not found["returns"] or not found["error"]:
        raise ScriptError(name, "the header says nothing about its results or its errors")
    front = "".join(include(part) for part in found["include"])
    top = "\n".join(header) + "\n"
    text = front + top + _INCLUDE.sub(lambda match: include(match["part"]), body.removeprefix(top))
    return Script(
        name=name,
        purpose=header[0].removeprefix(title),
        keys=tuple(found["key"]),
        args=tuple(found["arg"]),
        rest=rest,
        returns=tuple(found["returns"]),
        errors=tuple(found["error"]),
        text=text,
        body=body,
        # Redis names scripts by SHA-1; nothing is protected by it here.
        sha=hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest(),
    )


def load_all() -> tuple[Script, ...]:
    """Return every script of the broker."""
    return tuple(load(name) for name in NAMES)
