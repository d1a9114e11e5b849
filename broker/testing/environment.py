"""What a private system is set up with: settings, example hosts, a Zoom, and how its processes are told of them.

Everything reaches them by environment variables, as in a deployment; nothing secret stands on a command line.
"""

from __future__ import annotations

import os
import secrets
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import SecretStr
from pydantic_core import to_json
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource

from broker.models import Account
from broker.secrets import new_key
from broker.settings import Settings
from broker.testing.zoom_simulator import (
    HostSpec,
    Latency,
    LatencyKind,
    RateLimits,
    SimulatorSettings,
    WebhookConfig,
    example_hosts,
)

HOST = "127.0.0.1"
PREFIX = "ZOOMPOOL_"
REDIS_URL = "REDIS_URL"

FAST: Mapping[str, Any] = {
    "environment": "development",
    "log_level": "INFO",
    "reap_interval_s": 2,
    "reconcile_interval_s": 3,
    "reconcile_grace_s": 3,
    "scheduler_interval_s": 1,
    "claim_ttl_s": 15,
    "zoom_timeout_s": 3,
    "attempt_ttl_s": 4,
    "create_ttl_s": 20,
    "start_grace_s": 60,
    "live_ttl_s": 60,
}
"""Times so short that a run of a minute sees every repair; in proportion they are like the defaults."""


class GivenSettings(Settings):
    """Settings as given, whatever the environment of this process says: what a shell exports for a real deployment must
    not leak into a private system."""

    @classmethod
    def settings_customise_sources(
        cls, settings_cls: type[BaseSettings], init_settings: PydanticBaseSettingsSource, *others: Any, **more: Any
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Take what the constructor is given, and nothing else."""
        return (init_settings,)


def private_settings(redis_url: str, zoom_url: str, changes: Mapping[str, Any]) -> Settings:
    """Settings with random secrets for one run.

    Args:
        redis_url: the private Redis.
        zoom_url: the simulated Zoom.
        changes: what shall differ from `FAST`, by the names of `Settings`.
    """
    return GivenSettings(
        **{
            **FAST,
            "redis_url": redis_url,
            "secret_keys": (SecretStr(new_key()),),
            "jwt_key": SecretStr(secrets.token_urlsafe(48)),
            "webhook_secret": SecretStr(secrets.token_urlsafe(24)),
            "zoom_oauth_base": zoom_url,
            "zoom_api_base": f"{zoom_url}/v2",
            **changes,
        }
    )


def example_accounts(count: int, capacities: Sequence[int] = (1, 2)) -> tuple[Account, ...]:
    """Accounts for the simulator's example hosts, with capacities taken in turn."""
    return tuple(
        Account(
            id=host.email.partition("@")[0],
            email=host.email,
            zoom_user_id="",
            credential="default",
            capacity=host.capacity or 1,
        )
        for host in example_hosts(count, capacities)
    )


def everyday_zoom(accounts: Sequence[Account]) -> SimulatorSettings:
    """A Zoom with latencies as measured, and whose delays pass ten times as fast; some webhooks come twice or late."""
    return SimulatorSettings(
        time_scale=0.1,
        latency=Latency(kind=LatencyKind.UNIFORM, ms=225, spread=75),
        hosts=tuple(HostSpec(email=account.email, capacity=account.capacity) for account in accounts),
        rate_limits=RateLimits(host_daily=0),  # a rush packs the lessons of days into a minute
        webhooks=WebhookConfig(
            delay=Latency(kind=LatencyKind.UNIFORM, ms=60, spread=60),
            duplication=0.1,
            reorder=0.1,
            reorder_window_s=10,
            retry_after_s=(10, 20, 40, 80),
        ),
    )


def process_environment(settings: Settings) -> dict[str, str]:
    """The environment variables of a process of ours with these settings."""
    given = {
        PREFIX + name.upper(): _text(getattr(settings, name))
        for name in type(settings).model_fields
        if name != "redis_url" and getattr(settings, name) is not None
    }
    return {**_inherited(), **given, REDIS_URL: settings.redis_url}


def simulator_environment(
    zoom: SimulatorSettings, file: Path, *, client_secret: SecretStr, webhook_secret: SecretStr, webhook_url: str
) -> dict[str, str]:
    """The environment variables of the simulator's process. It knows what Zoom knows, and none of our own secrets.

    Its settings are written to `file`: those of a thousand hosts are too long for a variable.
    """
    file.write_text(zoom.model_dump_json(exclude={"apps": True, "webhooks": {"secret"}}), "utf-8")
    return {
        **_inherited(),
        "ZOOM_SIMULATOR_SETTINGS": str(file),
        "ZOOM_SIMULATOR_CLIENT_SECRET": client_secret.get_secret_value(),
        "ZOOM_SIMULATOR_WEBHOOK_SECRET": webhook_secret.get_secret_value(),
        "ZOOM_SIMULATOR_WEBHOOK_URL": webhook_url,
    }


def _inherited() -> dict[str, str]:
    """This process's environment without any settings of ours."""
    theirs = (PREFIX, "ZOOM_SIMULATOR_", REDIS_URL)
    # Whoever reads a log while a process runs, or after it was killed, shall find all of it.
    return {name: value for name, value in os.environ.items() if not name.startswith(theirs)} | {
        "PYTHONUNBUFFERED": "1"
    }


def _text(value: object) -> str:
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    if isinstance(value, tuple):
        return ",".join(_text(part) for part in value)
    if isinstance(value, dict):
        return to_json(value).decode()
    return str(value)


def free_ports(count: int) -> list[int]:
    """Ports of the loopback interface that nobody listens on; all different, as they are held until all are known."""
    probes = [socket.socket() for _ in range(count)]
    try:
        for probe in probes:
            probe.bind((HOST, 0))
        return [int(probe.getsockname()[1]) for probe in probes]
    finally:
        for probe in probes:
            probe.close()
