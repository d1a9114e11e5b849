"""Every error of the broker, under one root.

Each class carries a stable `code` for programs and a sentence for people that says what happened, to which thing, and
what to do next. Expected answers ("no host is free", "this lesson already has one") are not errors: they are typed
values in `broker.models`. Zoom's own failures have their own branch in `broker.zoom.errors`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence


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


class HostTaken(ZoomPoolError):
    """Accounts were not added, because their Zoom users are in the pool already, as other accounts.

    Attributes:
        taken: account that was to be added → the account that has its Zoom user.
    """

    code = "host_taken"

    def __init__(self, pool: str, taken: Mapping[str, str]) -> None:
        self.taken = dict(taken)
        some = ", ".join(f"that of {account!r} is account {by!r}" for account, by in list(taken.items())[:5])
        more = f", and so are {len(taken) - 5} more" if len(taken) > 5 else ""
        super().__init__(
            f"a Zoom user can be one account of a pool only, and in pool {pool!r} {some} already{more}; change that "
            f"account, or remove it with 'zoompool accounts remove {next(iter(taken.values()))} --pool {pool}' first"
        )


class UnknownCredential(ZoomPoolError):
    """No credential of that name is registered."""

    code = "unknown_credential"

    def __init__(self, name: str) -> None:
        self.name = name
        super().__init__(f"credential {name!r} is not registered; add it with 'zoompool credentials add {name}'")


class CredentialInUse(ZoomPoolError):
    """Accounts would be left without a way to Zoom.

    Attributes:
        users: those accounts, as `pool/account`.
    """

    code = "credential_in_use"

    def __init__(self, name: str, users: Sequence[str]) -> None:
        self.users = tuple(users)
        some = ", ".join(users[:5]) + (f" and {len(users) - 5} more" if len(users) > 5 else "")
        super().__init__(
            f"credential {name!r} is used by {some}; give them another with 'zoompool accounts add', "
            "or repeat 'zoompool credentials remove' with --force"
        )


class UnknownTeacher(ZoomPoolError):
    """No teacher of that id is registered."""

    code = "unknown_teacher"

    def __init__(self, id: str) -> None:
        super().__init__(f"teacher {id!r} is not registered; the web app does that with PUT /api/teachers/{id}/")


class UnknownLesson(ZoomPoolError):
    """No lesson of that id is registered."""

    code = "lesson_unknown"

    def __init__(self, id: str) -> None:
        super().__init__(f"lesson {id!r} is not registered; PUT /api/schedule/lessons/{id}/ does that")


class ImportRefused(ZoomPoolError):
    """A list of accounts has mistakes; none of it was imported.

    Attributes:
        mistakes: one sentence each, with the line that it is about.
    """

    code = "import_refused"

    def __init__(self, mistakes: Sequence[str]) -> None:
        self.mistakes = tuple(mistakes)
        more = f", and {len(mistakes) - 5} more mistakes" if len(mistakes) > 5 else ""
        super().__init__(f"nothing was imported: {'; '.join(mistakes[:5])}{more}")


class SecretUnreadable(ZoomPoolError):
    """A stored secret cannot be decrypted with any of the configured keys."""

    code = "secret_unreadable"

    def __init__(self, what: str) -> None:
        super().__init__(
            f"{what} was encrypted with a key that is not in ZOOMPOOL_SECRET_KEYS; add the old key behind the new one"
        )
