"""How a simulated Zoom is set up: its hosts and apps, its clocks, and the switches for what is not known for sure.

Where Zoom's behaviour is documented there is no switch. Where sources conflict or nothing is written there is one, and
a client has to be right under both of its positions.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Sequence
from enum import IntEnum, StrEnum
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, SecretStr, TypeAdapter, ValidationError

from broker.errors import ConfigurationError

DEMO_ACCOUNT = "demo-account"
DEMO_CLIENT = "demo-client"


class UserType(IntEnum):
    """Zoom's licence of a user. Only the first two can host."""

    BASIC = 1
    LICENSED = 2
    UNASSIGNED = 4
    NONE = 99


class UserStatus(StrEnum):
    """Zoom's `status` of a user."""

    ACTIVE = "active"
    INACTIVE = "inactive"
    PENDING = "pending"


class Plan(StrEnum):
    """What the account pays for; it decides how many meetings a licensed user can run at a time."""

    BASIC = "basic"
    PRO = "pro"
    BUSINESS = "business"
    EDUCATION = "education"
    ENTERPRISE = "enterprise"


class TokenPolicy(StrEnum):
    """What a new access token does to the one before."""

    MULTI = "multi"
    """Nothing: both are good until they expire."""
    SINGLE_VALID = "single-valid"
    """The previous one of the same app is refused from then on."""


class OverCapacity(StrEnum):
    """What happens when a host starts one meeting more than it may run."""

    END_FIRST = "end-first"
    """The oldest one is ended, and whoever is in it is thrown out."""
    REJECT = "reject"
    """The new one does not start: "the host has another meeting in progress"."""


class Refusal(StrEnum):
    """Whether Zoom refuses a call that makes little sense, or takes it."""

    REFUSE = "refuse"
    ACCEPT = "accept"


class InactiveUser(StrEnum):
    """With which of Zoom's refusals calls about a deactivated user are answered; `GET /users/{id}` still finds it."""

    NOT_ALLOWED = "not-allowed"
    """3161, as without a licence."""
    NOT_ON_ACCOUNT = "not-on-account"
    """1010."""
    UNKNOWN = "unknown"
    """1001."""


class Scope(StrEnum):
    """The OAuth scopes that the simulated calls ask for."""

    CREATE = "meeting:write:meeting:admin"
    READ = "meeting:read:meeting:admin"
    READ_PAST = "meeting:read:past_meeting:admin"
    LIST = "meeting:read:list_meetings:admin"
    UPDATE = "meeting:update:meeting:admin"
    STATUS = "meeting:update:status:admin"
    DELETE = "meeting:delete:meeting:admin"
    READ_USER = "user:read:user:admin"
    LIST_USERS = "user:read:list_users:admin"


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid")


class HostSpec(_Model):
    """A Zoom user who can (or cannot) host meetings."""

    email: str = Field(min_length=3)
    id: str = ""
    """Zoom's user id; made from the e-mail when empty."""
    display_name: str = ""
    account_id: str = DEMO_ACCOUNT
    type: UserType = UserType.LICENSED
    plan: Plan = Plan.PRO
    status: UserStatus = UserStatus.ACTIVE
    capacity: int | None = Field(default=None, ge=1)
    """How many meetings can run at a time; by plan and type when None (two on Business and above, else one)."""


class AppSpec(_Model):
    """A Server-to-Server OAuth app."""

    account_id: str = DEMO_ACCOUNT
    client_id: str = DEMO_CLIENT
    client_secret: SecretStr = Field(default_factory=lambda: SecretStr(secrets.token_urlsafe(24)))
    scopes: tuple[str, ...] = tuple(Scope)
    enabled: bool = True


class LatencyKind(StrEnum):
    """Shape of a latency distribution."""

    FIXED = "fixed"
    UNIFORM = "uniform"
    LOGNORMAL = "lognormal"


class Latency(_Model):
    """How long an answer takes. Half of it passes before the call has its effect, half after."""

    kind: LatencyKind = LatencyKind.FIXED
    ms: float = Field(default=0, ge=0)
    """The time itself; the middle for `uniform`, the median for `lognormal`."""
    spread: float = Field(default=0, ge=0)
    """For `uniform` plus or minus milliseconds; for `lognormal` the sigma of the logarithm."""


class RateLimits(_Model):
    """Zoom's limits. Numbers are those of a Business account; 0 means no limit."""

    enabled: bool = False
    """Whether per-second and per-day limits of the account apply. The limit per host and day always does."""
    per_second: dict[str, int] = {"light": 80, "medium": 60, "heavy": 40}
    per_day: dict[str, int] = {"heavy": 60_000}
    create_category: str = "medium"
    """Creating a meeting is documented both as Light and as Medium."""
    headers: bool = False
    """Whether answers carry `X-RateLimit-*` and `Retry-After`; Zoom often leaves them out."""
    host_daily: int = Field(default=100, ge=0)
    """Create and update calls per host and UTC day."""


class WebhookConfig(_Model):
    """Where events go, and what goes wrong on the way. Probabilities are between 0 and 1, drawn from the seed."""

    url: str = ""
    """Empty: nothing is sent."""
    secret: SecretStr = SecretStr("")
    loss: Annotated[float, Field(ge=0, le=1)] = 0
    """An event that is never sent."""
    drop: tuple[str, ...] = ()
    """Names of events that are never sent, whatever `loss` says."""
    duplication: Annotated[float, Field(ge=0, le=1)] = 0
    """An event that is sent twice."""
    reorder: Annotated[float, Field(ge=0, le=1)] = 0
    """An event that is held back, so that later ones overtake it."""
    reorder_window_s: float = Field(default=60, ge=0)
    """For how long at most, before `time_scale`."""
    delay: Latency = Latency()
    """Added to the delays Zoom is known for; not touched by `time_scale`."""
    delays_s: dict[str, float] = {
        "meeting.started": 0.3,
        "meeting.participant_joined": 2.5,
        "meeting.participant_left": 3.0,
    }
    """How late events come, before `time_scale`; as seen in a trace of a real meeting."""
    retry_after_s: tuple[float, ...] = (300, 1200, 3600)
    """Pauses before each further try, before `time_scale`."""
    fresh_timestamp_on_retry: bool = True
    """Whether a retry is signed anew with the present time; Zoom does not say."""
    host_email: bool = False
    """Whether meeting events name the host's e-mail; some of Zoom's do."""
    timeout_s: float = Field(default=3, gt=0)


class Switches(_Model):
    """What can be changed while the simulator runs, by `PUT /sim/switches`; what is None stays as it is.

    Each is described where it stands in `SimulatorSettings`.
    """

    token_policy: TokenPolicy | None = None
    over_capacity: OverCapacity | None = None
    inactive_user: InactiveUser | None = None
    end_idle: Refusal | None = None
    delete_live: Refusal | None = None
    listed_after_s: float | None = Field(default=None, ge=0)
    latency: Latency | None = None
    route_latency: dict[str, Latency] | None = None
    rate_limits: RateLimits | None = None


class SimulatorSettings(_Model):
    """A whole simulated Zoom."""

    seed: int = 1
    """Of everything left to chance: ids, passwords, latencies, faults, webhook losses."""
    time_scale: float = Field(default=1.0, gt=0)
    """Zoom's own delays (event delays, retries, the end after the last one left) are multiplied by it."""
    hosts: tuple[HostSpec, ...] = ()
    apps: tuple[AppSpec, ...] = Field(default_factory=lambda: (AppSpec(),))
    token_ttl_s: int = Field(default=3600, ge=1)
    token_policy: TokenPolicy = TokenPolicy.MULTI
    over_capacity: OverCapacity = OverCapacity.END_FIRST
    inactive_user: InactiveUser = InactiveUser.NOT_ALLOWED
    end_idle: Refusal = Refusal.REFUSE
    """Ending a meeting that does not run."""
    delete_live: Refusal = Refusal.REFUSE
    """Deleting a meeting that runs; when accepted, it is ended."""
    listed_after_s: float = Field(default=0, ge=0)
    """How long after its creation a meeting appears in lists; not touched by `time_scale`. Asked for by its id, it is
    there at once."""
    end_after_s: float = Field(default=21, ge=0)
    """How long a meeting runs on after the last one left, before `time_scale`."""
    recording_after_s: float = Field(default=120, ge=0)
    """How long after the end a cloud recording is ready, before `time_scale`."""
    basic_limit_s: float = Field(default=40 * 60, gt=0)
    """When the meeting of a Basic user is cut off, before `time_scale`."""
    latency: Latency = Latency()
    route_latency: dict[str, Latency] = {}
    """By name of the operation, such as `create_meeting`; see `operations.Operation`."""
    rate_limits: RateLimits = RateLimits()
    webhooks: WebhookConfig = WebhookConfig()
    link_base: str = "https://zoom.example"
    """What join and start links begin with. They lead nowhere; `/sim/meetings/{id}/join` lets people in."""
    hold_s: float = Field(default=120, gt=0)
    """How long a hanging call is held at most, if the client does not give up before."""


def example_hosts(count: int, capacities: Sequence[int] = (1,)) -> tuple[HostSpec, ...]:
    """Make `host01@school.example` and so on, with capacities taken in turn.

    Raises:
        ConfigurationError: there are no capacities, or one is below 1.
    """
    if not capacities or min(capacities) < 1:
        raise ConfigurationError("capacities of example hosts must be one or more numbers from 1 up, such as 1,2")
    return tuple(
        HostSpec(
            email=f"host{number:02d}@school.example",
            display_name=f"Host {number:02d}",
            plan=Plan.EDUCATION if capacity > 1 else Plan.PRO,
            capacity=capacity,
        )
        for number, capacity in ((n + 1, capacities[n % len(capacities)]) for n in range(count))
    )


def load_hosts(source: str) -> tuple[HostSpec, ...]:
    """Read hosts from a JSON list, given inline or as the path of a file.

    Args:
        source: such as `[{"email": "anna@school.example", "capacity": 2}]` or `hosts.json`.

    Raises:
        ConfigurationError: it can be neither read nor understood.
    """
    text = source.strip()
    try:
        if not text.startswith("["):
            text = Path(text).read_text(encoding="utf-8")
        return TypeAdapter(tuple[HostSpec, ...]).validate_python(json.loads(text))
    except OSError as error:
        raise ConfigurationError(
            f"hosts of the simulator: {source!r} is neither a JSON list nor a file ({error})"
        ) from error
    except (ValueError, ValidationError) as error:
        raise ConfigurationError(f"hosts of the simulator are not a JSON list of hosts: {error}") from error
