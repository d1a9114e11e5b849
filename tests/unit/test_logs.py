"""Logging: machine-readable in production, and without secrets everywhere."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
import structlog
from pydantic import SecretStr

from broker import logs
from broker.settings import Settings

MASK = logs.MASK


@pytest.fixture(autouse=True)
def restored_logging() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


class Written:
    """What was written to stderr so far."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys
        self._text = ""

    @property
    def text(self) -> str:
        self._text += self._capsys.readouterr().err
        return self._text

    @property
    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.text.splitlines()]


@pytest.fixture
def written(capsys: pytest.CaptureFixture[str]) -> Written:
    return Written(capsys)


def test_production_writes_one_json_object_a_line(written: Written) -> None:
    logs.configure(Settings(environment="production"))
    structlog.get_logger("broker.x").info("урок готов", lesson="lesson-1")
    (line,) = written.lines
    assert line["event"] == "урок готов"
    assert line["lesson"] == "lesson-1"
    assert line["level"] == "info"
    assert line["logger"] == "broker.x"
    assert line["timestamp"].endswith("Z")


def test_development_writes_readable_lines(written: Written) -> None:
    logs.configure(Settings(environment="development"))
    structlog.get_logger("broker.x").warning("slow", wait_s=3)
    assert "slow" in written.text
    assert "wait_s=3" in written.text


@pytest.mark.parametrize("environment", ["production", "development"])
def test_secrets_are_hidden_however_deep(environment: str, written: Written) -> None:
    logs.configure(Settings(environment=environment))  # type: ignore[arg-type]
    structlog.get_logger("x").info(
        "made",
        start_url="https://zoom.example/s/1?zak=HIDE1",
        meeting={"Passcode": "HIDE2", "list": [{"client-secret": "HIDE3"}], "id": 7},
        note="see https://zoom.example/s/1?zak=HIDE4&x=1 or Bearer HIDE5HIDE5",
        url="redis://:HIDE6@localhost:6379/0",
        key=SecretStr("HIDE7"),
        body=b"HIDE8",
    )
    assert "HIDE" not in written.text
    assert MASK in written.text
    assert "7" in written.text


@pytest.mark.parametrize("environment", ["production", "development"])
def test_a_traceback_shows_neither_local_variables_nor_links(environment: str, written: Written) -> None:
    logs.configure(Settings(environment=environment))  # type: ignore[arg-type]
    passcode = "HIDE" + "LOCAL"
    try:
        raise ValueError(f"GET /x?access_token={'HIDE' + 'TOKEN'} failed for {len(passcode)}")
    except ValueError:
        structlog.get_logger("x").exception("broke")
    assert "ValueError" in written.text
    assert "HIDELOCAL" not in written.text
    assert "HIDETOKEN" not in written.text


def test_records_of_libraries_take_the_same_form_and_are_masked(written: Written) -> None:
    logs.configure(Settings(environment="production"))
    logging.getLogger("some.library").info("job for %s", "https://zoom.example/j/1?pwd=HIDE")
    (line,) = written.lines
    assert line["event"] == f"job for https://zoom.example/j/1?pwd={MASK}"
    assert line["logger"] == "some.library"


def test_http_clients_do_not_log_their_urls(written: Written) -> None:
    logs.configure(Settings(environment="production"))
    logging.getLogger("httpx").info("HTTP Request: GET https://api.zoom.example/v2/meetings/1")
    assert written.text == ""


def test_level_comes_from_the_settings(written: Written) -> None:
    logs.configure(Settings(environment="production", log_level="warning"))
    structlog.get_logger("x").info("quiet")
    structlog.get_logger("x").warning("loud")
    assert [line["event"] for line in written.lines] == ["loud"]


def test_configuring_twice_does_not_double_the_lines(written: Written) -> None:
    settings = Settings(environment="production")
    logs.configure(settings)
    logs.configure(settings)
    structlog.get_logger("x").info("once")
    assert len(written.lines) == 1
