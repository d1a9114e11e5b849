"""`Prefer` as RFC 7240 writes it."""

from __future__ import annotations

import time

import httpx
import pytest
from fastapi import FastAPI

from api.prefer import chosen_wait, preferences
from tests.api.acting import add_account, bearer


@pytest.mark.parametrize(
    ("lines", "seconds", "applied"),
    [
        ([], 15, ""),
        (["respond-async"], 0, "respond-async"),
        (["RESPOND-Async"], 0, "respond-async"),
        (["wait=5"], 5, "wait=5"),
        (['wait="5"'], 5, "wait=5"),
        (["wait = 5"], 5, "wait=5"),
        (["wait=0"], 0, "wait=0"),
        (["wait=3600"], 30, "wait=30"),
        (["respond-async, wait=10"], 10, "respond-async, wait=10"),
        (["respond-async", "wait=10"], 10, "respond-async, wait=10"),
        (['wait=10; q=1, respond-async; x="a,b"'], 10, "respond-async, wait=10"),
        (["wait=4, wait=9"], 4, "wait=4"),
        (["return=minimal"], 15, ""),
        (['foo="wait=1, respond-async"'], 15, ""),
        (["wait=-1"], 15, ""),
        (["wait=1.5"], 15, ""),
        (["wait=١"], 15, ""),
        (["wait"], 15, ""),
        ([",,; ;=,wait=3"], 3, "wait=3"),
        (['wait="5'], 15, ""),
        (["not-respond-async"], 15, ""),
    ],
)
def test_wait_that_is_asked_for(lines: list[str], seconds: float, applied: str) -> None:
    wait = chosen_wait(lines, 15, 30)
    assert (wait.seconds, wait.applied) == (seconds, applied)


def test_quoted_values_are_unquoted() -> None:
    assert preferences([r'foo="a \"b\", c"; d=e']) == {"foo": 'a "b", c'}


@pytest.mark.parametrize("nasty", ["; " * 30_000, '"' * 60_000, '"\\' * 30_000, "a =" + " " * 60_000, "a,;" * 20_000])
def test_long_rubbish_costs_no_time(nasty: str) -> None:
    began = time.process_time()
    preferences([nasty, nasty + "!"])
    assert time.process_time() - began < 1, "the patterns must not backtrack over whole headers"


async def test_several_header_lines_count_as_one(app: FastAPI, http: httpx.AsyncClient) -> None:
    await add_account(app)
    headers = [*bearer().items(), ("Prefer", "respond-async"), ("Prefer", "wait=0")]
    answer = await http.post("/api/schedule/lessons/7/start-new/", headers=headers)
    assert (answer.status_code, answer.headers["preference-applied"]) == (202, "respond-async, wait=0")
