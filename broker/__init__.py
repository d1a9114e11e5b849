"""A broker for a scarce pool: Zoom hosts as slots in Redis, claimed by Lua scripts, held by leases that expire."""

from broker.client import AsyncBroker, Broker
from broker.errors import ZoomPoolError
from broker.models import (
    Account,
    AccountChange,
    AccountState,
    Change,
    ChangeResult,
    ClaimResult,
    Granted,
    Lease,
    LeaseId,
    Outcome,
    Phase,
    ReleaseReason,
)
from broker.operations import Operation, Pool
from broker.settings import Settings, load_settings

__all__ = [
    "Account",
    "AccountChange",
    "AccountState",
    "AsyncBroker",
    "Broker",
    "Change",
    "ChangeResult",
    "ClaimResult",
    "Granted",
    "Lease",
    "LeaseId",
    "Operation",
    "Outcome",
    "Phase",
    "Pool",
    "ReleaseReason",
    "Settings",
    "ZoomPoolError",
    "load_settings",
]
