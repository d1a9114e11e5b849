"""Imports point inward, `api → broker ← workers`, and every module says by its name what it is for."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("broker", "workers", "api", "lua")
OURS = (*PACKAGES, "tests")
NAMES_THAT_SAY_NOTHING = {"util", "utils", "helper", "helpers", "manager", "managers", "common", "misc", "shared"}
WEB = {"fastapi", "starlette", "uvicorn"}
JOBS = {"rq", "rq_scheduler"}


@dataclass(frozen=True)
class Import:
    """One imported module.

    Attributes:
        module: its full dotted name. Of `from broker import testing` both `broker` and `broker.testing` are imported.
        line: where.
        at_start: executed when the importing module is; false inside functions.
    """

    module: str
    line: int
    at_start: bool


def imports(source: str, package: str = "") -> list[Import]:
    """What a module imports, also for type checkers only; `package` is where relative imports start."""
    found: list[Import] = []

    def visit(node: ast.AST, at_start: bool) -> None:
        if isinstance(node, ast.Import):
            found.extend(Import(alias.name, node.lineno, at_start) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            found.append(Import(base, node.lineno, at_start))
            found.extend(Import(f"{base}.{alias.name}", node.lineno, at_start) for alias in node.names)
        inside = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        for child in ast.iter_child_nodes(node):
            visit(child, at_start and not inside)

    visit(ast.parse(source), at_start=True)
    return found


def forbidden(path: str) -> tuple[set[str], set[str]]:
    """What the module at `path` must not import anywhere, and what it must not import at its start."""
    everywhere: set[str]
    match path.split("/"):
        case ["broker", "cli", *_]:
            # The outermost layer starts the others, but only when a command needs them.
            return {"fastapi", "starlette", *JOBS}, {"api", "workers", "uvicorn"}
        case ["broker", "testing", *_]:
            # The fake Zoom is a small web server; the system under test is started as processes, not imported.
            everywhere = {"api", "workers", "fastapi", "broker.cli", *JOBS}
        case ["broker", "__main__.py"]:
            everywhere = {"api", "workers", *WEB, *JOBS}
        case ["broker", *_]:
            everywhere = {"api", "workers", "broker.cli", "broker.testing", "typer", "rich", *WEB, *JOBS}
        case ["workers", *_]:
            everywhere = {"api", "broker.cli", "broker.testing", "typer", "rich", *WEB}
        case ["api", "jobs.py"]:
            everywhere = {"workers", "broker.cli", "broker.testing", "typer", "rich", "rq_scheduler"}
        case ["api", *_]:
            # One place of the API enqueues jobs, by their names; nothing else there knows what runs them.
            everywhere = {"workers", "broker.cli", "broker.testing", "typer", "rich", *JOBS}
        case _:
            everywhere = {"api", "workers", "broker", *WEB, *JOBS}
    return everywhere, set()


def violations(path: str, source: str) -> list[str]:
    """What is wrong with the imports of the module at `path`, in words."""
    everywhere, at_start = forbidden(path)

    def hits(module: str, names: set[str]) -> bool:
        return any(module == name or module.startswith(f"{name}.") for name in names)

    package = ".".join(path.split("/")[:-1])
    wrong: dict[int, str] = {}
    for found in imports(source, package):
        if hits(found.module, everywhere):
            wrong.setdefault(found.line, f"{path}:{found.line} must not import {found.module}")
        elif found.at_start and hits(found.module, at_start):
            wrong.setdefault(found.line, f"{path}:{found.line} may import {found.module} inside a command only")
    return list(wrong.values())


def modules(*packages: str) -> list[str]:
    """All Python files of these packages, relative to the project."""
    return sorted(str(path.relative_to(ROOT)) for package in packages for path in (ROOT / package).rglob("*.py"))


def test_imports_point_inward() -> None:
    wrong = [line for path in modules(*PACKAGES) for line in violations(path, (ROOT / path).read_text("utf-8"))]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("broker/client.py", "import fastapi"),
        ("broker/client.py", "from rq.job import Job"),
        ("broker/client.py", "def f():\n    from workers import queues"),
        ("broker/client.py", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import api.app"),
        ("broker/client.py", "from broker import testing"),
        ("broker/client.py", "from .cli import app"),
        ("broker/zoom/client.py", "from ..testing import redis_server"),
        ("broker/cli/processes.py", "from workers.run import run_worker"),
        ("broker/cli/processes.py", "class Command:\n    import api.app"),
        ("broker/cli/processes.py", "def serve():\n    import fastapi"),
        ("broker/testing/stack.py", "def f():\n    import api"),
        ("workers/reap.py", "from api.deps import current"),
        ("workers/reap.py", "import starlette.requests"),
        ("api/routes/lessons.py", "from rq import Queue"),
        ("api/routes/lessons.py", "import workers.queues"),
        ("api/jobs.py", "from workers.queues import enqueue"),
        ("lua/__init__.py", "import broker.keys"),
    ],
)
def test_rule_notices(path: str, source: str) -> None:
    assert violations(path, source)


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("broker/client.py", "import redis\nfrom broker.models import Lease"),
        ("broker/client.py", "import rqlite, apiary, fastapi_like"),
        ("broker/client.py", "from . import jobs\nfrom .models import api"),
        ("broker/cli/processes.py", "def worker():\n    from workers.run import run_worker"),
        ("broker/testing/zoom_simulator/app.py", "from starlette.routing import Route"),
        ("workers/queues.py", "from rq import Queue\nfrom broker.jobs import REAP"),
        ("api/jobs.py", "from rq import Queue"),
        ("api/app.py", "from fastapi import FastAPI\nfrom broker.client import AsyncBroker"),
    ],
)
def test_rule_allows(path: str, source: str) -> None:
    assert violations(path, source) == []


def test_no_module_is_named_for_nothing() -> None:
    vague = [path for path in modules(*OURS) if NAMES_THAT_SAY_NOTHING & set(Path(path).with_suffix("").parts)]
    assert not vague, f"name them for what they do: {vague}"


def test_there_is_no_python_beside_the_packages_and_the_tests() -> None:
    folders = {
        path.parent.name
        for path in ROOT.glob("*/*.py")
        if not path.parent.name.startswith(".") and not (path.parent / "pyvenv.cfg").exists()
    }
    assert folders == set(OURS)
    assert not list(ROOT.glob("*.py"))


def test_every_folder_with_modules_is_a_package() -> None:
    folders = {(ROOT / path).parent for path in modules(*OURS)}
    bare = sorted(str(folder.relative_to(ROOT)) for folder in folders if not (folder / "__init__.py").exists())
    assert not bare, f"__init__.py is missing in {bare}"


@pytest.mark.parametrize("package", ["broker", "broker/zoom", "workers", "api"])
def test_readme_of_a_package_lists_its_modules(package: str) -> None:
    here = {path.name for path in (ROOT / package).glob("*.py") if not path.name.startswith("__")}
    if here:
        text = (ROOT / package / "README.md").read_text("utf-8")
        missing = sorted(name for name in here if f"`{name}`" not in text)
        assert not missing, f"{package}/README.md does not list {missing}"
