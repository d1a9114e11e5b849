"""A fake Zoom that ships with the package: for tests, demonstrations and load tests.

    simulator = ZoomSimulator(SimulatorSettings(hosts=example_hosts(3)))
    async with simulator.serving() as base_url:
        ...  # zoom_oauth_base=base_url, zoom_api_base=base_url + "/v2"
    assert simulator.judge.verdict()["double_booked"] == 0

It answers as Zoom's documentation says, lets people join and leave (`/sim`, see `control`), sends signed webhooks, and
takes rules by which calls go wrong (see `faults`). Its judge records every moment in which a host was made to run more
meetings than it may, and every meeting that was left behind. It is no place for real data: whoever reaches its port may
do everything.
"""

from broker.testing.zoom_simulator.entities import Event, Host, Meeting, Role
from broker.testing.zoom_simulator.faults import FaultAction, FaultRule, When
from broker.testing.zoom_simulator.settings import (
    AppSpec,
    HostSpec,
    InactiveUser,
    Latency,
    LatencyKind,
    OverCapacity,
    Plan,
    RateLimits,
    Refusal,
    SimulatorSettings,
    Switches,
    TokenPolicy,
    UserStatus,
    UserType,
    WebhookConfig,
    example_hosts,
    load_hosts,
)
from broker.testing.zoom_simulator.simulator import SimulatorFailed, ZoomSimulator

__all__ = [
    "AppSpec",
    "Event",
    "FaultAction",
    "FaultRule",
    "Host",
    "HostSpec",
    "InactiveUser",
    "Latency",
    "LatencyKind",
    "Meeting",
    "OverCapacity",
    "Plan",
    "RateLimits",
    "Refusal",
    "Role",
    "SimulatorFailed",
    "SimulatorSettings",
    "Switches",
    "TokenPolicy",
    "UserStatus",
    "UserType",
    "WebhookConfig",
    "When",
    "ZoomSimulator",
    "example_hosts",
    "load_hosts",
]
