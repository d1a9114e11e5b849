"""`Prefer` and `Preference-Applied` (RFC 7240): how long a caller wants to wait."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Annotated

from fastapi import Depends, Header, Request

from api.deps import SettingsDep

MOST_CHARACTERS = 1000
"""Of a header line that are looked at: nobody has that many preferences."""

# preference = token [ "=" word ] *( ";" [ parameter ] ), where a word may be a quoted string with commas in it.
_WORD = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_QUOTED = r'"(?:[^"\\]|\\.)*"'
_ELEMENT = re.compile(rf'(?:{_QUOTED}|[^",])+')
_PREFERENCE = re.compile(rf"\s*(?P<name>{_WORD})\s*(?:=\s*(?P<value>{_QUOTED}|{_WORD})?\s*)?(?:;|$)")
_SECONDS = re.compile(r"\d{1,9}", re.ASCII)


@dataclass(frozen=True)
class Wait:
    """How long an answer may take.

    Attributes:
        seconds: what it came to, within our bounds.
        applied: what `Preference-Applied` says; empty where nothing was asked for.
        patient: whether the caller said that the result may come later; None if they said nothing.
        request: of the caller, who may hang up.
    """

    seconds: float
    applied: str = ""
    patient: bool | None = None
    request: Request | None = field(default=None, repr=False, compare=False)

    @property
    def headers(self) -> dict[str, str]:
        """The header that says so."""
        return {"Preference-Applied": self.applied} if self.applied else {}


def preferences(lines: Iterable[str]) -> dict[str, str]:
    """The preferences of all header lines by their names in lower case; the first of a name counts (section 2)."""
    found: dict[str, str] = {}
    for line in lines:
        for element in _ELEMENT.findall(line[:MOST_CHARACTERS]):
            if match := _PREFERENCE.match(element):
                value = match["value"] or ""
                if value.startswith('"'):
                    value = re.sub(r"\\(.)", r"\1", value[1:-1])
                found.setdefault(match["name"].lower(), value)
    return found


def chosen_wait(lines: Iterable[str], default_s: float, most_s: float) -> Wait:
    """The wait that `Prefer` asks for.

    `wait=N` says how long the caller wants to wait; `respond-async` alone, that it does not want to wait at all; both
    together, that it wants 202 after N seconds (section 4.3). What cannot be read is ignored, as section 2 demands.
    """
    asked = preferences(lines)
    applied = ["respond-async"] if "respond-async" in asked else []
    patient = True if applied else None
    seconds = 0.0 if applied else default_s
    if _SECONDS.fullmatch(asked.get("wait", "")):
        seconds = float(asked["wait"])
        patient = patient or seconds > 0
        applied.append(f"wait={min(seconds, most_s):g}")
    return Wait(min(seconds, most_s), ", ".join(applied), patient)


async def _wait(
    request: Request,
    settings: SettingsDep,
    prefer: Annotated[
        str,
        Header(
            description="RFC 7240: `wait=N` waits up to N seconds for the result, `respond-async` answers 202 at once."
        ),
    ] = "",
) -> Wait:
    # `prefer` is for the OpenAPI document, which has no word for a header that may come on several lines.
    wait = chosen_wait(request.headers.getlist("prefer"), settings.wait_default_s, settings.wait_max_s)
    return replace(wait, request=request)


WaitDep = Annotated[Wait, Depends(_wait)]
"""The wait that this request asks for."""
