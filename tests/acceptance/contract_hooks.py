"""What Schemathesis has to know of the service beyond its OpenAPI document; see test_contract.py."""

from __future__ import annotations

from typing import Any

import schemathesis
from schemathesis.core.failures import Failure, ServerError
from schemathesis.generation.meta import TestPhase
from schemathesis.openapi.checks import AllowHeaderMismatch, RejectedPositiveData

RULES = frozenset(
    {
        "owner_missing",
        "secret_missing",
        "invalid_name",
        "import_refused",
        "idempotency_key_reused",
        "zoom_credentials_missing",
    }
)
"""Codes of a refusal for what a JSON schema cannot say, such as "the e-mail or the user's id"."""
MEANT = frozenset({"pool_exhausted", "zoom_credential_rejected"})
"""Codes of the 5xx that say how the pool is: requests that are made up fill it, and spoil its Zoom app's secret."""
SHARED_PATHS = frozenset(
    {
        "/api/schedule/lessons/quick-start/",
        "/api/pools/{pool}/accounts/import/",
        "/api/pools/{pool}/accounts/import-from-zoom/",
    }
)
"""A lesson or an account can be called so, too, and `Allow` counts what can be asked of that."""


@schemathesis.hook
def filter_failure(
    context: schemathesis.HookContext, failure: Failure, case: schemathesis.Case[Any], response: schemathesis.Response
) -> bool:
    """Whether something that looks like a failure is one."""
    match failure:
        case RejectedPositiveData():
            # Which ids flow from one operation to the next is guessed by names, and one guess is a whole account.
            guessed = case.meta is not None and case.meta.phase.name is TestPhase.STATEFUL
            return not guessed and response.json()["code"] not in RULES
        case ServerError():
            return response.json()["code"] not in MEANT
        case AllowHeaderMismatch():
            return case.operation.path not in SHARED_PATHS
        case _:
            return True
