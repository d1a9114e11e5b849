"""Every error of the broker, under one root.

Each class carries a stable `code` for programs and a sentence for people that says what happened, to which thing, and
what to do next. Expected answers ("no host is free", "this lesson already has one") are not errors: they are typed
values in `broker.models`. Zoom's own failures have their own branch in `broker.zoom.errors`.
"""

from __future__ import annotations


class ZoomPoolError(Exception):
    """Root of all errors raised by this project.

    Attributes:
        code: stable machine-readable name; never translated, never reused for something else.
    """

    code = "zoompool_error"


class InvalidName(ZoomPoolError, ValueError):
    """A pool, account, lesson, owner or lease name that cannot be part of a Redis key."""

    code = "invalid_name"

    def __init__(self, kind: str, value: object, rule: str) -> None:
        self.kind = kind
        self.value = value
        super().__init__(f"{kind} {value!r} is not usable: {rule}")


class ConfigurationError(ZoomPoolError):
    """A setting is missing, malformed or unsafe; the process should not start."""

    code = "configuration_error"


class BrokerUnavailable(ZoomPoolError):
    """Redis could not be reached, or did not answer in time. Nothing is known about the effect of the call.

    Every operation may simply be repeated: the scripts are right when they run twice.
    """

    code = "broker_unavailable"


class BrokerMisconfigured(ZoomPoolError):
    """Redis answers, but must not be used as it is set up (eviction, version, missing scripts, read-only replica)."""

    code = "broker_misconfigured"


class ScriptError(ZoomPoolError):
    """A Lua script refused its input or met data it does not understand."""

    code = "script_error"

    def __init__(self, script: str, message: str) -> None:
        self.script = script
        super().__init__(f"script {script!r}: {message}")


class PoolDamaged(ZoomPoolError):
    """The data of a pool contradict themselves: a key of a wrong type, a lease that is no whole lease.

    The script that met it changed nothing, and no other will until somebody has looked.

    Attributes:
        key: the Redis key that is wrong.
    """

    code = "pool_damaged"

    def __init__(self, script: str, key: str, what: str) -> None:
        self.script = script
        self.key = key
        super().__init__(
            f"script {script!r} refuses the pool: {key} {what}; see all that is wrong with 'zoompool doctor', "
            "then repair or remove that key"
        )


class UnknownAccount(ZoomPoolError):
    """The named account is not in the pool."""

    code = "unknown_account"

    def __init__(self, pool: str, account: str) -> None:
        self.pool = pool
        self.account = account
        super().__init__(f"account {account!r} is not in pool {pool!r}; see 'zoompool accounts list --pool {pool}'")


class UnknownCredential(ZoomPoolError):
    """No credential of that name is registered."""

    code = "unknown_credential"

    def __init__(self, name: str) -> None:
        self.name = name
        super().__init__(f"credential {name!r} is not registered; add it with 'zoompool credentials add {name}'")


class SecretUnreadable(ZoomPoolError):
    """A stored secret cannot be decrypted with any of the configured keys."""

    code = "secret_unreadable"

    def __init__(self, what: str) -> None:
        super().__init__(
            f"{what} was encrypted with a key that is not in ZOOMPOOL_SECRET_KEYS; add the old key behind the new one"
        )
