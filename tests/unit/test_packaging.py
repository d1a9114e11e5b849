"""What is delivered: the wheel's packages, the pinned versions, and a compose file that names what exists."""

from __future__ import annotations

import importlib
import re
import tomllib
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import typer.main
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from broker.cli import app
from broker.jobs import QueueName
from broker.settings import Settings

ROOT = Path(__file__).parents[2]
COMPOSE = (ROOT / "docker-compose.yml").read_text("utf-8")
ONLY_FOR_COMPOSE = {"ZOOMPOOL_PORT"}


@pytest.fixture
def project() -> dict[str, Any]:
    """pyproject.toml."""
    return tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))


def pins() -> dict[str, str]:
    """constraints.txt: name → version."""
    lines = (ROOT / "constraints.txt").read_text("utf-8").split()
    return {str(canonicalize_name(name)): version for name, _, version in (line.partition("==") for line in lines)}


def needed(requirement: Requirement, seen: set[str]) -> set[str]:
    """The names of everything that pip installs here for a requirement, itself included."""
    for extra in ("", *requirement.extras):
        name = str(canonicalize_name(requirement.name))
        key = f"{name}[{extra}]"
        if key in seen:
            continue
        seen.add(key)
        for text in metadata.requires(name) or ():
            below = Requirement(text)
            # Without an extra, `extra == ...` in a marker is false.
            if below.marker is None or below.marker.evaluate({"extra": extra}):
                needed(below, seen)
    return {key.partition("[")[0] for key in seen}


def test_wheel_carries_the_four_packages(project: dict[str, Any]) -> None:
    packages = project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    assert sorted(packages) == ["api", "broker", "lua", "workers"]


def test_scripts_lie_where_the_wheel_takes_them_from() -> None:
    scripts = importlib.import_module("lua").__path__[0]
    assert (Path(scripts) / "claim.lua").is_file()


@pytest.mark.parametrize("package", ["broker", "workers", "api"])
def test_package_says_that_it_is_typed(package: str) -> None:
    assert (ROOT / package / "py.typed").is_file()


def test_console_script_can_be_called(project: dict[str, Any]) -> None:
    module, _, name = project["project"]["scripts"]["zoompool"].partition(":")
    assert callable(getattr(importlib.import_module(module), name))


def test_everything_that_gets_installed_has_a_pinned_version() -> None:
    missing = needed(Requirement("zoompool[dev]"), set()) - {"zoompool"} - set(pins())
    assert not missing, f"constraints.txt pins no version of {sorted(missing)}"


def test_pins_are_exact_versions_and_name_no_host() -> None:
    for line in (ROOT / "constraints.txt").read_text("utf-8").splitlines():
        assert re.fullmatch(r"[A-Za-z0-9._-]+==[0-9][0-9A-Za-z.]*", line), line


def test_pins_satisfy_what_pyproject_asks_for(project: dict[str, Any]) -> None:
    pinned = pins()
    extras = project["project"]["optional-dependencies"]
    for text in (*project["project"]["dependencies"], *extras["demo"], *extras["dev"]):
        asked = Requirement(text)
        if asked.name != "zoompool":
            assert asked.specifier.contains(pinned[canonicalize_name(asked.name)]), text


def test_compose_sets_only_settings_that_exist() -> None:
    known = {f"ZOOMPOOL_{name.upper()}" for name in Settings.model_fields} | ONLY_FOR_COMPOSE
    assert set(re.findall(r"\bZOOMPOOL_[A-Z_]*[A-Z]\b", COMPOSE)) <= known


def test_compose_runs_only_commands_that_exist() -> None:
    commands = set(getattr(typer.main.get_command(app), "commands", {}))
    run = re.findall(r'command: \["([a-z-]+)"', COMPOSE)
    assert {"serve", "worker", "scheduler", "simulate-zoom"} <= set(run)
    assert set(run) <= commands


def test_compose_has_one_worker_for_each_queue() -> None:
    queues = re.findall(r'command: \["worker", "([a-z]+)"\]', COMPOSE)
    assert sorted(queues) == sorted(QueueName)
