"""Every failure is one clear line on stderr and exit code 1, and shows no secret."""

from __future__ import annotations

import pytest

from tests.unit.cli.running import Run, refused


def test_a_wrong_setting_is_one_line_without_its_value(zoompool: Run) -> None:
    said = refused(zoompool("status", env={"ZOOMPOOL_CLAIM_TTL_S": "HIDDEN"}), "configuration_error")
    assert "claim_ttl_s" in said
    assert "HIDDEN" not in said


COMMANDS = [["status"], ["accounts", "list"], ["credentials", "list"], ["pools", "list"]]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_an_unreachable_redis_is_one_line_without_the_url(command: list[str], zoompool: Run) -> None:
    result = zoompool(*command, env={"REDIS_URL": "redis://:HIDDEN@127.0.0.1:1/0"})
    assert "HIDDEN" not in refused(result, "broker_unavailable")


@pytest.mark.parametrize("command", [*COMMANDS, ["worker", "periodic"], ["scheduler"]], ids=" ".join)
@pytest.mark.parametrize("url", ["http://:HIDDEN@nowhere", "unix:///nowhere?HIDDEN=1", "redis://:HIDDEN@nowhere:port"])
def test_an_unusable_redis_url_is_one_line_without_the_url(url: str, command: list[str], zoompool: Run) -> None:
    assert "HIDDEN" not in refused(zoompool(*command, env={"REDIS_URL": url}), "configuration_error")


def test_an_unusable_pool_name_is_one_line(zoompool: Run) -> None:
    refused(zoompool("status", "--pool", "no spaces"), "invalid_name")
