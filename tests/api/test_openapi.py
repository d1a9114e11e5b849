"""The OpenAPI document tells every answer that there is."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from api.app import create_app
from api.messages import PROBLEMS
from broker.secrets import new_key
from broker.settings import Settings

ROOT = Path(__file__).parents[2]
PUBLIC = {"/healthz", "/readyz", "/metrics", "/schedule/api/zoom/webhook/", "/schedule/api/zoom/webhook/{credential}/"}


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    settings = Settings(environment="development", secret_keys=(SecretStr(new_key()),))
    found: dict[str, Any] = create_app(settings).openapi()
    return found


def operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield path, method, operation


def test_every_operation_is_described_and_filed(document: dict[str, Any]) -> None:
    known = {tag["name"] for tag in document["tags"]}
    ids = [operation["operationId"] for _, _, operation in operations(document)]
    assert len(ids) == len(set(ids)) > 5
    for path, method, operation in operations(document):
        assert operation["summary"], (method, path)
        assert operation["description"], (method, path)
        assert set(operation["tags"]) <= known, (method, path)


def test_every_operation_tells_the_problems_that_any_can_meet(document: dict[str, Any]) -> None:
    for path, method, operation in operations(document):
        told = operation["responses"].keys()
        assert told >= {"413", "422", "500", "503"}, (method, path)
        if path not in PUBLIC:
            assert "401" in told, (method, path)
            assert operation["security"] == [{"HTTPBearer": []}], (method, path)


def test_every_error_is_a_problem_with_known_codes(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    assert "HTTPValidationError" not in schemas
    for path, _method, operation in operations(document):
        for status, response in operation["responses"].items():
            if int(status) < 400 or (path, status) == ("/readyz", "503"):
                continue
            ((media, content),) = response["content"].items()
            assert media == "application/problem+json"
            assert content["schema"]["$ref"].rsplit("/", 1)[-1] in schemas
            for code in content["examples"]:
                assert PROBLEMS[code].status == int(status)


def test_retries_are_announced_where_they_help(document: dict[str, Any]) -> None:
    for path, _method, operation in operations(document):
        if path != "/readyz":
            assert "Retry-After" in operation["responses"]["503"]["headers"]
    start = document["paths"]["/api/schedule/lessons/{lesson}/start-new/"]["post"]["responses"]
    assert start["202"]["headers"].keys() == {"Location", "Retry-After"}
    assert {"pool_exhausted", "pool_empty", "start_lapsed"} <= start["503"]["content"]["application/problem+json"][
        "examples"
    ].keys()


@pytest.mark.parametrize("route", [("put", "{account}/"), ("post", "import/"), ("post", "import-from-zoom/")])
def test_every_way_to_add_accounts_tells_that_a_host_may_be_taken(
    document: dict[str, Any], route: tuple[str, str]
) -> None:
    method, path = route
    responses = document["paths"][f"/api/pools/{{pool}}/accounts/{path}"][method]["responses"]
    assert "host_taken" in responses["409"]["content"]["application/problem+json"]["examples"]


def test_every_reference_leads_somewhere(document: dict[str, Any]) -> None:
    references = set(re.findall(r"#/components/schemas/(\w+)", str(document)))
    assert references <= document["components"]["schemas"].keys()


def test_every_code_that_the_service_raises_is_in_the_catalogue() -> None:
    sources = "\n".join(path.read_text("utf-8") for path in (ROOT / "api").rglob("*.py"))
    raised = set(re.findall(r'Problem\(\s*"(\w+)"', sources))
    assert len(raised) > 8
    assert not raised - PROBLEMS.keys()
