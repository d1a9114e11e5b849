"""What the tests of the command line share: how a command is run and how its result is read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from cryptography.fernet import Fernet
from typer.testing import Result

from broker.client import Broker
from broker.models import Lease
from broker.operations import Pool

ROOT = Path(__file__).parents[3]
KEY = Fernet.generate_key().decode()
JWT_KEY = "0123456789abcdef0123456789abcdef"
SECRET = "hush-hush-client-secret"

Run = Callable[..., Result]


def ok(result: Result) -> str:
    assert result.exit_code == 0, result.output
    return result.stdout


def refused(result: Result, code: str) -> str:
    """Exit code 1, one line on stderr that ends with the error's code, nothing on stdout."""
    assert result.exit_code == 1, result.output
    assert result.stdout == ""
    assert result.stderr.count("\n") == 1, result.stderr
    assert result.stderr.startswith("zoompool: ")
    assert result.stderr.rstrip().endswith(f"[{code}]")
    return result.stderr


def claim(broker: Broker, pool: Pool, lesson: str) -> Lease:
    lease = broker.run(pool.claim(lesson, "teacher-1")).lease
    assert lease is not None
    return lease


def make_ready(broker: Broker, pool: Pool, lease: Lease, meeting_id: int) -> None:
    broker.run(pool.begin_creating(lease.id, "attempt"))
    broker.run(
        pool.made_ready(
            lease.id,
            meeting_id=meeting_id,
            meeting_uuid="uuid==",
            join_url="https://zoom.example/JOINURL",
            passcode="PASSCODE",
            sealed_start_url="SEALED",
            start_url_ms=1,
        )
    )
