"""`zoompool explain`: every word that people meet has an explanation."""

from __future__ import annotations

import importlib
import json
import pkgutil
import re
from enum import StrEnum
from pathlib import Path

import pytest
from typer.testing import CliRunner

import broker
from broker.cli import app
from broker.cli.explanations import EXPLANATIONS
from broker.errors import ZoomPoolError
from broker.models import AccountState, Change, Granted, Phase, ReleaseReason

ROOT = Path(__file__).parents[3]


def all_errors() -> list[type[ZoomPoolError]]:
    """Every error class of the package; its modules are imported, so that none hides."""
    for module in pkgutil.walk_packages(broker.__path__, "broker."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    found, todo = [], [ZoomPoolError]
    while todo:
        found.append(todo.pop())
        todo += found[-1].__subclasses__()
    return found


def test_every_error_code_is_explained() -> None:
    codes = {error.code for error in all_errors() if error.__module__.partition(".")[0] in ("broker", "workers", "api")}
    assert len(codes) > 10
    assert not codes - EXPLANATIONS.keys()


def test_every_code_of_zooms_errors_is_explained() -> None:
    sources = [path for folder in ("broker/zoom", "workers") for path in (ROOT / folder).glob("*.py")]
    texts = [re.sub(r'log\.\w+\(\s*"\w+"', "", path.read_text("utf-8")) for path in sources]
    codes = {code for text in texts for code in re.findall(r'"(zoom_[a-z_]+)"', text)}
    assert len(codes) > 12
    assert not codes - EXPLANATIONS.keys() - {"zoom_user_id"}


@pytest.mark.parametrize("words", [Phase, AccountState, ReleaseReason, Granted, Change], ids=lambda enum: enum.__name__)
def test_every_phase_state_reason_and_answer_is_explained(words: type[StrEnum]) -> None:
    assert not {word.value for word in words} - EXPLANATIONS.keys()


def test_says_what_it_means_and_what_to_do() -> None:
    result = CliRunner().invoke(app, ["explain", "zoom-daily-limit"])
    assert result.exit_code == 0
    assert "zoom_daily_limit - error of Zoom" in result.stdout
    assert "What to do: " in result.stdout


def test_json_has_the_same() -> None:
    result = CliRunner().invoke(app, ["explain", "suspect", "--json"])
    assert json.loads(result.stdout)["kind"] == "phase of a lease"


def test_a_mistyped_code_gets_a_suggestion() -> None:
    result = CliRunner().invoke(app, ["explain", "suspekt"])
    assert result.exit_code == 1
    assert "did you mean suspect" in result.stderr


def test_without_a_code_lists_all() -> None:
    result = CliRunner().invoke(app, ["explain", "--json"])
    assert json.loads(result.stdout).keys() == EXPLANATIONS.keys()
