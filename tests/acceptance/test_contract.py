"""The service keeps to its OpenAPI document: requests made from it, good and bad, against the running system.

Schemathesis asks every operation as an operator, who may do everything, and as a teacher: first one by one, then in the
order in which ids flow from one to the next. No answer may have a status, a body or a header that the document does not
tell, none may be the service's own failure, and what the document forbids must be refused.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from broker.jobs import QueueName
from broker.testing.environment import example_accounts
from broker.testing.school import mint_token
from broker.testing.stack import Stack
from broker.testing.zoom_simulator import HostSpec, Latency, SimulatorSettings
from tests.acceptance import contract_hooks

ACCOUNTS = example_accounts(40, (2,))
ZOOM = SimulatorSettings(
    time_scale=0.02,
    latency=Latency(ms=5),
    hosts=tuple(HostSpec(email=account.email, capacity=account.capacity) for account in ACCOUNTS),
)
EXAMPLES = 5
"""How many requests are made up for each operation, beside the documented examples and every edge of its schema."""
DEADLINE_S = 100.0


@pytest.fixture(scope="module")
def together() -> Iterator[Stack]:
    """A pool with room for whatever is made up here."""
    settings = {"wait_default_s": 1, "wait_max_s": 1}
    with Stack(ACCOUNTS, workers=dict.fromkeys(QueueName, 1), settings=settings, zoom=ZOOM) as stack:
        yield stack


@pytest.mark.parametrize("role", ["ops", "teacher"])
def test_contract(together: Stack, role: str) -> None:
    token = mint_token(together.settings.jwt_key, "anna", role)
    options = (
        *("--header", f"Authorization: Bearer {token}"),
        *("--max-examples", str(EXAMPLES)),
        *("--seed", "1"),
        "--generation-deterministic",
        "--continue-on-failure",
        "--no-color",
    )
    done = subprocess.run(
        [sys.executable, "-m", "schemathesis.cli", "run", f"{together.api_url}/openapi.json", *options],
        env=os.environ | {"SCHEMATHESIS_HOOKS": contract_hooks.__name__},
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
