"""The users of the simulated Zoom accounts, and their limit of changes a day."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Iterator

from pydantic import BaseModel, ConfigDict, Field

from broker.errors import ConfigurationError
from broker.testing.zoom_simulator import payloads, refusals
from broker.testing.zoom_simulator.entities import Event, Host
from broker.testing.zoom_simulator.limits import DAY_S
from broker.testing.zoom_simulator.settings import HostSpec, Plan, UserStatus, UserType


class HostPatch(BaseModel):
    """What to change about a host; what is left out stays."""

    model_config = ConfigDict(extra="forbid")

    type: UserType | None = None
    plan: Plan | None = None
    status: UserStatus | None = None
    capacity: int | None = Field(default=None, ge=1)


class Directory:
    """All users of all accounts.

    Args:
        clock: seconds since the epoch.
        emit: is told what webhooks tell.
    """

    def __init__(self, clock: Callable[[], float], emit: Callable[[Event], None]) -> None:
        self._clock = clock
        self._emit = emit
        self._by_id: dict[str, Host] = {}
        self._by_email: dict[str, Host] = {}

    def __iter__(self) -> Iterator[Host]:
        return iter(list(self._by_id.values()))

    def __len__(self) -> int:
        return len(self._by_id)

    def add(self, spec: HostSpec) -> Host:
        """Make a user.

        Raises:
            ConfigurationError: the e-mail or id is taken.
        """
        host_id = spec.id or _id_of(spec.email)
        if spec.email in self._by_email or host_id in self._by_id:
            raise ConfigurationError(f"a simulated host {spec.email} exists already; patch it instead")
        host = Host(
            id=host_id,
            email=spec.email,
            display_name=spec.display_name or spec.email.partition("@")[0].capitalize(),
            account_id=spec.account_id,
            type=spec.type,
            plan=spec.plan,
            status=spec.status,
            set_capacity=spec.capacity,
            created_at_s=self._clock(),
        )
        self._by_id[host.id] = self._by_email[host.email] = host
        return host

    def look_up(self, key: str) -> Host | None:
        """The user with this id or e-mail, whichever account it is of."""
        return self._by_id.get(key) or self._by_email.get(key)

    def of(self, account_id: str) -> list[Host]:
        """The users of one account."""
        return [host for host in self._by_id.values() if host.account_id == account_id]

    def find(self, account_id: str, key: str) -> Host:
        """The user of an account with this id or e-mail. `me` is nobody: a Server-to-Server app acts for no user.

        Raises:
            Refused: there is none (1001), or it is of another account (1010).
        """
        host = self.look_up(key)
        if host is None:
            raise refusals.unknown_user(key)
        if host.account_id != account_id:
            raise refusals.user_of_another_account()
        return host

    def patch(self, host: Host, patch: HostPatch) -> None:
        """Change a user as an administrator of the account would; webhooks tell of it."""
        before = host.status
        changes = patch.model_dump(exclude_none=True)
        if "capacity" in changes:
            host.set_capacity = changes.pop("capacity")
        for name, value in changes.items():
            setattr(host, name, value)
        if host.status is not before:
            self._tell("user.activated" if host.status is UserStatus.ACTIVE else "user.deactivated", host)
        if "type" in changes or "plan" in changes:
            self._tell("user.updated", host)

    def remove(self, host: Host) -> None:
        """Delete a user. Meetings are the world's to end first."""
        del self._by_id[host.id], self._by_email[host.email]
        self._tell("user.deleted", host)

    def count_change(self, host: Host, limit: int) -> None:
        """Count one create or update call of a host.

        Args:
            host: whose.
            limit: calls a UTC day; 0 means none.

        Raises:
            Refused: 429, the limit is reached.
        """
        today = int(self._clock() // DAY_S)
        if host.changes_on != today:
            host.changes_on, host.changes = today, 0
        if limit and host.changes >= limit:
            raise refusals.host_daily_limit(limit)
        host.changes += 1

    def _tell(self, name: str, host: Host) -> None:
        self._emit(Event(name, self._clock(), host.account_id, payloads.event_user(host)))


def _id_of(email: str) -> str:
    """A user id in Zoom's style, the same for the same e-mail in every run."""
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    chance = random.Random(hashlib.sha256(email.encode()).digest())
    return chance.choice(alphabet[:-2]) + "".join(chance.choice(alphabet) for _ in range(21))
