"""Errors as people and programs get them: form, language, codes; and requests that nobody sane would send."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from api.messages import PROBLEMS, choose_language
from broker.cli.explanations import EXPLANATIONS
from tests.api.acting import AT_ONCE, bearer

LESSONS = "/api/schedule/lessons/"
START = f"{LESSONS}7/start-new/"


async def test_problem_has_the_members_of_rfc_9457_and_ours(http: httpx.AsyncClient) -> None:
    answer = await http.post(START, headers=bearer() | {"X-Request-ID": "r-1"})
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json() == {
        "type": "about:blank",
        "title": "Service Unavailable",
        "status": 503,
        "detail": "В пуле нет ни одного Zoom аккаунта",
        "code": "pool_empty",
        "instance": START,
        "request_id": "r-1",
    }


@pytest.mark.parametrize(
    ("accept", "language"),
    [
        ("", "ru"),
        ("en", "en"),
        ("en-GB,en;q=0.9", "en"),
        ("ru;q=0.3, en;q=0.8", "en"),
        ("en;q=0.3, RU;q=0.8", "ru"),
        ("de, fr", "ru"),
        ("de, en;q=0.1", "en"),
        ("*", "ru"),
        ("en;q=0", "ru"),
        ("en;q=rubbish, ,;;=", "ru"),
        ("en;q=nan", "ru"),
    ],
)
async def test_reader_chooses_the_language(http: httpx.AsyncClient, accept: str, language: str) -> None:
    answer = await http.post(START, headers=bearer() | {"Accept-Language": accept})
    assert answer.headers["content-language"] == language
    assert "Accept-Language" in answer.headers["vary"]
    assert answer.json()["detail"] == PROBLEMS["pool_empty"][language]
    assert answer.json()["code"] == "pool_empty"


def test_default_language_is_a_setting() -> None:
    assert choose_language("", "en") == "en"
    assert choose_language("de", "en") == "en"


def test_busy_pool_is_said_in_exactly_these_words() -> None:
    assert PROBLEMS["pool_exhausted"].russian == "Все Zoom аккаунты заняты"


def test_every_code_is_explained_to_operators() -> None:
    assert not PROBLEMS.keys() - EXPLANATIONS.keys()


def test_every_problem_has_an_error_status_and_both_texts() -> None:
    for text in PROBLEMS.values():
        assert 400 <= text.status < 600
        assert text.russian
        assert text.english.isascii()


NASTY = ["%00", "%20", "%2E%2E", "%2e%2e%2f", "a%2Fb", "x" * 5000, "%D1%83%D1%80%D0%BE%D0%BA", "%F0%9F%98%80", "a{b}",
         "a%0D%0Ab", "*", "'", "%ff", "-7", "a%00b", "7%0A"]  # fmt: skip


@pytest.mark.parametrize("id", NASTY)
@pytest.mark.parametrize(("method", "tail"), [("GET", ""), ("POST", "start-new/"), ("POST", "end/")])
async def test_id_that_cannot_be_one_is_the_callers_fault(
    http: httpx.AsyncClient, method: str, tail: str, id: str
) -> None:
    answer = await http.request(method, f"{LESSONS}{id}/{tail}", headers=bearer() | AT_ONCE)
    assert answer.status_code in (404, 405, 422)
    assert answer.headers["content-type"] == "application/problem+json"


BODIES: dict[str, tuple[bytes, str]] = {
    "not json": (b"{", "application/json"),
    "not text": (b"\xff\xfe\xff", "application/json"),
    "a list": (b"[]", "application/json"),
    "too deep": (b"[" * 100_000, "application/json"),
    "huge number": (b'{"duration": ' + b"9" * 10_000 + b"}", "application/json"),
    "infinite": (b'{"duration": Infinity}', "application/json"),
    "half a character": (b'{"title": "\\ud800"}', "application/json"),
    "long title": (b'{"title": "' + b"x" * 201 + b'"}', "application/json"),
    "no minute": (b'{"duration": 0}', "application/json"),
    "a form": (b"title=Algebra", "application/x-www-form-urlencoded"),
    "unknown type": (b"{}", "rubbish"),
}


@pytest.mark.parametrize(("raw", "type"), BODIES.values(), ids=BODIES)
@pytest.mark.parametrize("path", ["7/start-new/", "quick-start/"])
async def test_body_that_cannot_be_read_is_422_and_not_quoted(
    http: httpx.AsyncClient, path: str, raw: bytes, type: str
) -> None:
    answer = await http.post(LESSONS + path, headers=bearer() | {"Content-Type": type}, content=raw)
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")
    assert len(answer.content) < 2000


async def test_wrong_fields_are_named_and_their_values_are_not(http: httpx.AsyncClient) -> None:
    body = {"title": "secret " * 100, "duration": "secret"}
    answer = await http.post(START, headers=bearer(), json=body)
    assert {error["field"] for error in answer.json()["errors"]} == {"body.title", "body.duration"}
    assert "secret" not in answer.text


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_body_of_many_megabytes_is_413_on_any_route(http: httpx.AsyncClient, method: str) -> None:
    raw = b'{"title": "' + b"x" * 3 * 1024 * 1024 + b'"}'
    for path in (START, f"{LESSONS}quick-start/", "/api/me/", "/healthz"):
        answer = await http.request(method, path, headers=bearer() | {"Content-Type": "application/json"}, content=raw)
        assert (answer.status_code, answer.json()["code"]) == (413, "too_large")


async def test_body_without_a_length_is_413_once_it_is_too_long(http: httpx.AsyncClient) -> None:
    async def chunks() -> Any:
        yield b'{"title": "'
        for _ in range(100):
            yield b"x" * 65536

    answer = await http.post(START, headers=bearer() | {"Content-Type": "application/json"}, content=chunks())
    assert (answer.status_code, answer.json()["code"]) == (413, "too_large")


async def test_address_without_its_last_slash_leads_to_the_one_with_it(http: httpx.AsyncClient) -> None:
    answer = await http.post(START.rstrip("/"), headers=bearer(), json={"title": "Algebra"})
    assert answer.status_code == 307, "the method and the body are kept"
    assert httpx.URL(answer.headers["location"]).path == START


async def test_what_does_not_exist_is_a_problem_too(http: httpx.AsyncClient) -> None:
    missing = await http.get("/nowhere")
    assert (missing.status_code, missing.json()["code"]) == (404, "not_found")
    wrong = await http.delete(START)
    assert (wrong.status_code, wrong.json()["code"]) == (405, "method_not_allowed")
    assert wrong.headers["allow"] == "POST"
    elsewhere = await http.post("/api/schedule/lessons/algebra/", headers=bearer())
    assert elsewhere.headers["allow"] == "DELETE, GET, PUT"
    assert (await http.post("/static/zoompool.js")).headers["allow"] == "GET, HEAD"


async def test_invalid_owner_is_the_callers_fault(http: httpx.AsyncClient) -> None:
    answer = await http.post(START, headers=bearer("web", role="service"), json={"owner": "a b"})
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_name")
