"""Every Redis key, spelled once.

All keys of one pool share the hash tag `{pool}`, so that a pool lives on one cluster slot and a script may touch all
of it. Scripts take `Keys.base` as their one key and append the suffixes below; a test holds the suffixes used in `lua/`
against this class.
"""

from __future__ import annotations

from broker.models import check_name

ROOT = "zp"


class Keys:
    """The keys of one pool.

    Raises:
        InvalidName: the pool's name cannot be part of a key.
    """

    FREE = "free"
    LEASED = "leased"
    SUSPECT = "suspect"
    PARKED = "parked"
    SLOT = "slot:"
    LESSONS = "lessons"
    MEETINGS = "meetings"
    OWNER = "owner:"
    ACCOUNT = "account:"
    ACCOUNTS = "accounts"
    FENCE = "fence"
    EVENTS = "events"
    OUTCOME = "outcome:"

    def __init__(self, pool: str) -> None:
        self.pool = check_name("pool", pool)
        self.base = f"{ROOT}:{{{pool}}}:"

    @property
    def free(self) -> str:
        """ZSET slot → rank, no TTL. The best slot has the lowest rank: its account's load, then time of last use.

        Rank is `load * 1e14 + ms`. The free slots of an account whose load is L carry the loads L, L+1, …, so that
        granting one leaves the others right.
        """
        return self.base + self.FREE

    @property
    def leased(self) -> str:
        """ZSET slot → deadline in ms, no TTL. Leases that run."""
        return self.base + self.LEASED

    @property
    def suspect(self) -> str:
        """ZSET slot → since when in ms, no TTL. Expired while a meeting may exist: nobody gets these."""
        return self.base + self.SUSPECT

    @property
    def parked(self) -> str:
        """ZSET slot → until when in ms (+inf: until an operator), no TTL. Empty slots of accounts out of rotation."""
        return self.base + self.PARKED

    def slot(self, slot: str) -> str:
        """HASH, no TTL: the lease on `slot`. Exists exactly while the slot is in `leased` or `suspect`."""
        return self.base + self.SLOT + slot

    @property
    def lessons(self) -> str:
        """HASH lesson → lease id, no TTL. One entry for each leased or suspect slot."""
        return self.base + self.LESSONS

    @property
    def meetings(self) -> str:
        """HASH Zoom meeting id → lease id, no TTL. One entry for each lease whose meeting is known."""
        return self.base + self.MEETINGS

    def owner(self, owner: str) -> str:
        """SET of lease ids, no TTL: what this owner holds, for the quota. Gone when empty."""
        return self.base + self.OWNER + owner

    def account(self, account: str) -> str:
        """HASH, no TTL: e-mail, zoom_user_id, credential, capacity, state, reason, until_ms."""
        return self.base + self.ACCOUNT + account

    @property
    def accounts(self) -> str:
        """SET of account ids, no TTL."""
        return self.base + self.ACCOUNTS

    @property
    def looked(self) -> str:
        """ZSET account → ms, no TTL: when the reconciler last asked Zoom about it. Long unasked ones drop out."""
        return self.base + "looked"

    @property
    def inspected(self) -> str:
        """ZSET account → ms, no TTL: when the reconciler last looked at the account as a whole."""
        return self.base + "inspected"

    @property
    def lowered(self) -> str:
        """HASH account → capacity before the reconciler lowered it to what the user's licence allows, no TTL."""
        return self.base + "lowered"

    def stray(self, meeting_id: int) -> str:
        """STRING, TTL an hour: since when (ms) the reconciler sees this meeting that no lease wants."""
        return f"{self.base}stray:{meeting_id}"

    @property
    def fence(self) -> str:
        """Integer, no TTL: the last fence minted. Never reset, never lowered."""
        return self.base + self.FENCE

    @property
    def events(self) -> str:
        """STREAM, capped at about `events_maxlen`: every change of state."""
        return self.base + self.EVENTS

    def outcome(self, lesson: str) -> str:
        """HASH, TTL `outcome_ttl`: how the last lease of this lesson ended and why."""
        return self.base + self.OUTCOME + lesson

    def guard(self, job: str) -> str:
        """STRING, short TTL: held while a periodic job runs on this pool, so that two runs never overlap."""
        return self.base + "guard:" + job


POOLS = f"{ROOT}:pools"
"""SET of pool names, no TTL. Outside any pool's hash tag."""


def credential(name: str) -> str:
    """HASH, no TTL: account_id, client_id, client_secret (encrypted)."""
    return f"{ROOT}:credential:{check_name('credential', name)}"


CREDENTIALS = f"{ROOT}:credentials"
"""SET of credential names, no TTL."""


def token(name: str) -> str:
    """STRING, TTL below the token's own life: the shared Zoom access token of a credential, encrypted."""
    return f"{ROOT}:credential:{{{check_name('credential', name)}}}:token"


def token_refresh(name: str) -> str:
    """STRING, TTL of one token request: whoever set it is refreshing the token of this credential."""
    return f"{ROOT}:credential:{{{check_name('credential', name)}}}:refresh"


def idempotency(owner: str, key: str) -> str:
    """STRING, TTL `idempotency_ttl`: the lesson id that an `Idempotency-Key` of this owner created.

    `key` is a digest of what the client sent, because that may hold anything.
    """
    return f"{ROOT}:idempotency:{owner}:{key}"
