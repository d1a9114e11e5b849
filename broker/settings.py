"""All settings, read from the environment by a factory, never at import.

Names are `ZOOMPOOL_` plus the field's name in capitals; Redis alone is `REDIS_URL`, as everywhere else.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict
from redis.connection import parse_url

from broker.errors import ConfigurationError

# A shared HS256 key shorter than its hash can be found by brute force: RFC 7518, section 3.2.
MIN_JWT_SECRET_BYTES = 32
WEAK_SECRETS = frozenset({"secret", "changeme", "change-me", "password", "test", "zoompool"})


class RateLimit(BaseModel):
    """How often one category of calls may be made for one Zoom account; 0 is no limit."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    per_s: int = Field(default=0, ge=0)
    per_day: int = Field(default=0, ge=0)
    """In a UTC day."""


class Settings(BaseSettings):
    """What a process needs to know. Times are in seconds here (`_s`), in milliseconds towards Redis."""

    model_config = SettingsConfigDict(env_prefix="ZOOMPOOL_", extra="ignore", populate_by_name=True)

    environment: Literal["development", "production"] = "production"
    log_level: str = "INFO"

    # Redis
    redis_url: str = Field(
        default="redis://localhost:6379/0", validation_alias=AliasChoices("REDIS_URL", "ZOOMPOOL_REDIS_URL")
    )
    redis_timeout_s: float = Field(default=5.0, gt=0, description="connect and answer time-out of one command")
    redis_max_connections: int = Field(default=50, ge=2)

    # Leases
    default_pool: str = "default"
    claim_ttl_s: float = Field(default=30, gt=0, description="claimed, Zoom not called: then the slot is free at once")
    create_ttl_s: float = Field(default=60, gt=0, description="creation under way: then suspect")
    attempt_ttl_s: float = Field(default=15, gt=0, description="a worker's sole right to try creating")
    start_grace_s: float = Field(default=20 * 60, gt=0, description="meeting exists but nobody came: then suspect")
    live_ttl_s: float = Field(default=15 * 60, gt=0, description="meeting runs; renewed by Zoom's signs of life")
    max_hold_s: float = Field(default=6 * 3600, gt=0, description="no lease lives longer")
    max_leases_per_owner: int = Field(default=2, ge=1)
    ticket_ttl_s: float = Field(default=10, gt=0, description="who waits must be heard of so often")
    queue_max: int = Field(default=1000, ge=0, description="no more may wait in one pool")
    reserve_lessons: bool = Field(default=True, description="keep a host for lessons that are registered with a time")
    reserve_lead_s: float = Field(default=10 * 60, ge=0, description="a reserved slot is kept so long before")
    outcome_ttl_s: float = Field(default=24 * 3600, gt=0, description="how long the end of a lease is remembered")
    events_maxlen: int = Field(default=10_000, ge=100)

    # Secrets and who may call
    secret_keys: Annotated[tuple[SecretStr, ...], NoDecode] = ()
    jwt_key: SecretStr = SecretStr("")
    jwt_algorithm: Literal["HS256", "RS256"] = "HS256"
    jwt_jwks_url: str = ""
    jwt_audience: str = ""
    jwt_issuer: str = ""
    jwt_leeway_s: float = Field(default=30, ge=0)

    # Zoom
    zoom_oauth_base: str = "https://zoom.us"
    zoom_api_base: str = "https://api.zoom.us/v2"
    zoom_timeout_s: float = Field(default=10, gt=0, description="one call to Zoom, from connect to last byte")
    default_credential: str = "default"
    zoom_plan: Literal["free", "pro", "business"] = Field(
        default="business", description="what the Zoom accounts pay for; sets how often Zoom may be called"
    )
    zoom_plans: dict[str, Literal["free", "pro", "business"]] = Field(
        default={}, description="the plan by credential, where it is another: a JSON object"
    )
    zoom_limits: dict[Literal["light", "medium", "heavy"], RateLimit] = Field(
        default={}, description='instead of the plan\'s: a JSON object, such as {"medium": {"per_s": 10, "per_day": 0}}'
    )
    zoom_create_category: Literal["light", "medium"] = Field(
        default="medium", description="which limit creating counts against; Zoom documents both"
    )
    zoom_host_daily: int = Field(default=100, ge=0, description="creations of one host in a UTC day; 0: not counted")
    zoom_reserve: float = Field(
        default=0.5, ge=0, lt=1, description="share of each limit that background work leaves to lessons"
    )
    auto_recording: Literal["none", "local", "cloud"] = "none"
    webhook_secret: SecretStr = SecretStr("")
    webhook_secret_previous: SecretStr = SecretStr("")
    webhook_window_s: float = Field(default=100 * 60, gt=0, description="older or newer webhooks are refused")
    webhook_max_bytes: int = Field(default=512 * 1024, gt=0)

    # Registries
    subscription_guard: bool = Field(default=True, description="refuse starts of teachers whose subscription is over")
    subscription_claim: str = Field(
        default="subscription_until", description="the token's claim that says so, for teachers without a record"
    )
    lesson_keep_days: int = Field(default=90, ge=1, description="how long past lessons stay registered")
    personal_idle_s: float = Field(
        default=600, ge=0, description="after so long without use a teacher's own pool is closed"
    )

    # API
    default_language: Literal["ru", "en"] = "ru"
    timezone: str = "UTC"
    wait_default_s: float = Field(default=15, ge=0)
    wait_max_s: float = Field(default=30, ge=0)
    idempotency_ttl_s: float = Field(default=24 * 3600, gt=0)
    queue_starts: Literal["asked", "always", "never"] = Field(
        default="asked", description="who waits in line when no host is free; asked: those who say Prefer"
    )
    starts_per_min: int = Field(default=120, ge=0, description="starts of one owner, repetitions included; 0: no limit")
    creations_per_s: float | None = Field(
        default=None, ge=0, description="how many meetings Zoom lets us make; 0: no limit; by default the plan's"
    )
    request_max_bytes: int = Field(default=1024 * 1024, gt=0, description="a larger body is refused with 413")

    # Telling the web app
    notify_url: str = Field(default="", description="where notifications go; empty: nobody is told")
    notify_secret: SecretStr = Field(default=SecretStr(""), description="signs them: whsec_ and base64")
    notify_secret_previous: SecretStr = Field(default=SecretStr(""), description="signs them too, for a change")
    notify_allowed_hosts: Annotated[tuple[str, ...], NoDecode] = ()
    notify_timeout_s: float = Field(default=10, gt=0, le=25)
    relay_interval_s: int = Field(default=10, ge=1, description="how often the relay is started; it listens as long")

    # Workers
    worker_concurrency: int = Field(default=200, ge=1, description="most jobs at a time of one worker process")
    worker_drain_s: float = Field(default=25, ge=0, description="how long a stopping worker lets its jobs go on")
    reap_interval_s: int = Field(default=10, ge=1)
    reconcile_interval_s: int = Field(default=60, ge=1)
    probe_interval_s: int = Field(
        default=300, ge=1, description="how often quarantined accounts are looked at; the first pause between probes"
    )
    probe_longest_s: int = Field(default=3600, ge=1, description="longest pause between two probes of one account")
    scheduler_interval_s: int = Field(default=2, ge=1, description="how often rq-scheduler looks for due jobs")
    reconcile_grace_s: float = Field(default=30, ge=0, description="younger leases are left to their own jobs")
    reconcile_look_gap_s: float | None = Field(
        default=None, ge=0, description="least time between the two looks that end a live lease; half the interval"
    )
    reconcile_rotation_s: float = Field(
        default=600, gt=0, description="every account is looked at as a whole about this often"
    )
    overrun_policy: Literal["extend", "warn", "end"] = Field(
        default="end", description="a lesson that still runs at max_hold: more time, only a warning, or its end"
    )
    overrun_extension_s: float = Field(default=30 * 60, gt=0, description="with extend: how much more time at once")
    licensed_capacity: int = Field(
        default=2, ge=1, le=10, description="most meetings at a time of a Licensed user: 1 on Pro, 2 on Business and up"
    )

    @field_validator("secret_keys", "notify_allowed_hosts", mode="before")
    @classmethod
    def _split_list(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(part.strip() for part in value.split(",") if part.strip())
        return value

    @field_validator("redis_url")
    @classmethod
    def _readable_url(cls, value: str) -> str:
        try:
            parse_url(value)
        except ValueError:
            # Neither the URL nor the cause is quoted, because they may hold a password.
            raise ValueError("it is not a Redis URL; it looks like redis://localhost:6379/0") from None
        return value

    @model_validator(mode="after")
    def _safe(self) -> Self:
        if self.attempt_ttl_s <= self.zoom_timeout_s:
            raise ValueError(
                "attempt_ttl_s must be longer than zoom_timeout_s: a second worker may try only when the first one's "
                "call can no longer be under way"
            )
        if self.create_ttl_s <= 2 * self.attempt_ttl_s:
            raise ValueError("create_ttl_s must leave room for more than two attempts of attempt_ttl_s")
        if self.notify_url and not self.notify_secret.get_secret_value():
            raise ValueError("notify_url needs notify_secret; make one with 'zoompool notifications secret'")
        if self.environment == "production":
            self._refuse_weak_secrets()
        return self

    def _refuse_weak_secrets(self) -> None:
        jwt = self.jwt_key.get_secret_value()
        if jwt and self.jwt_algorithm == "HS256" and len(jwt.encode()) < MIN_JWT_SECRET_BYTES:
            raise ValueError(f"ZOOMPOOL_JWT_KEY is shorter than {MIN_JWT_SECRET_BYTES} bytes; use a longer random text")
        for name in ("jwt_key", "webhook_secret", "webhook_secret_previous"):
            if getattr(self, name).get_secret_value().lower() in WEAK_SECRETS:
                raise ValueError(f"ZOOMPOOL_{name.upper()} is a placeholder; set a random secret")


def load_settings(**overrides: object) -> Settings:
    """Read the settings from the environment.

    Raises:
        ConfigurationError: a value is missing, malformed or unsafe. The message names the setting, never its value.
    """
    from pydantic import ValidationError
    from pydantic_settings import SettingsError

    try:
        return Settings(**overrides)  # type: ignore[arg-type]
    except SettingsError as error:
        # It names the field and the source; its cause, which may quote the value, is left behind.
        raise ConfigurationError(f"settings: {error}; give it as JSON") from None
    except ValidationError as error:
        lines = "; ".join(
            f"{'.'.join(str(part) for part in item['loc']) or 'settings'}: {item['msg'].removeprefix('Value error, ')}"
            for item in error.errors(include_input=False, include_url=False)
        )
        raise ConfigurationError(f"settings: {lines}") from None
