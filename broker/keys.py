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
    LINKS = "links:"
    LESSONS = "lessons"
    MEETINGS = "meetings"
    OWNERS = "owners"
    ACCOUNT = "account:"
    ACCOUNTS = "accounts"
    HOSTS = "hosts"
    FENCE = "fence"
    EVENTS = "events"
    OUTCOME = "outcome:"
    WAITING = "waiting"
    PATIENCE = "patience"
    TICKET = "ticket:"
    PACE = "pace"
    DUE = "due"
    RESERVATIONS = "reservations"
    RESERVATION = "reservation:"
    BOOKED = "booked"
    EXHAUSTED = "exhausted"
    PAST = "past:"

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

    def links(self, slot: str) -> str:
        """HASH, no TTL: join_url, passcode, start_url (encrypted), start_url_ms of the meeting of a slot's lease."""
        return self.base + self.LINKS + slot

    @property
    def lessons(self) -> str:
        """HASH lesson → lease id, no TTL. One entry for each leased or suspect slot."""
        return self.base + self.LESSONS

    @property
    def meetings(self) -> str:
        """HASH Zoom meeting id → lease id, no TTL. One entry for each lease whose meeting is known."""
        return self.base + self.MEETINGS

    @property
    def owners(self) -> str:
        """HASH owner → the leases that he holds and the lessons for which he waits, with spaces between; no TTL.

        The quota counts them. A lease id has a `#`, a lesson id never does.
        """
        return self.base + self.OWNERS

    def account(self, account: str) -> str:
        """HASH, no TTL: e-mail, zoom_user_id, credential, capacity, state, reason, until_ms."""
        return self.base + self.ACCOUNT + account

    @property
    def accounts(self) -> str:
        """SET of account ids, no TTL."""
        return self.base + self.ACCOUNTS

    @property
    def hosts(self) -> str:
        """HASH name of a Zoom user → account id, no TTL. One entry for each name in `Account.names`."""
        return self.base + self.HOSTS

    @property
    def probes(self) -> str:
        """HASH account → `{count}:{ms}`, no TTL: its probes in a row, and the last one. Long unprobed ones drop out."""
        return self.base + "probes"

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
        """Integer, no TTL: the last fence minted, which is the pool's clock in microseconds. Never reset or lowered."""
        return self.base + self.FENCE

    @property
    def events(self) -> str:
        """STREAM, capped at about `events_maxlen`: every change of state."""
        return self.base + self.EVENTS

    def outcome(self, lesson: str) -> str:
        """STRING, TTL `outcome_ttl`: how the last lease of this lesson ended, in words: lease, lesson, owner, reason,
        phase, granted_ms, released_ms, meeting id or -, and the rest is the detail."""
        return self.base + self.OUTCOME + lesson

    @property
    def waiting(self) -> str:
        """ZSET lesson → place, no TTL: the queue. A place is when it was asked for, in ticks of `fence`, minus its head
        start: first in line has the lowest."""
        return self.base + self.WAITING

    @property
    def patience(self) -> str:
        """ZSET lesson → ms when its ticket lapses unless it is heard of again, no TTL. Lessons as in `waiting`."""
        return self.base + self.PATIENCE

    def ticket(self, lesson: str) -> str:
        """HASH, no TTL: owner, tick, head_start_ms, asked_ms, until_ms of a lesson that waits. Never beside a lease."""
        return self.base + self.TICKET + lesson

    @property
    def pace(self) -> str:
        """HASH, no TTL: at_ms when somebody who waited was last served, gap_ms the mean time between two."""
        return self.base + self.PACE

    @property
    def due(self) -> str:
        """ZSET lesson → from_ms, no TTL: reservations not used yet; from that moment on a slot is kept free."""
        return self.base + self.DUE

    @property
    def reservations(self) -> str:
        """ZSET lesson → ms when the reservation goes, no TTL: unused, when it lapses; used, at its planned end."""
        return self.base + self.RESERVATIONS

    def reservation(self, lesson: str) -> str:
        """HASH, no TTL: start_ms, end_ms, from_ms, lapse_ms, and used_ms once its lesson has a lease."""
        return self.base + self.RESERVATION + lesson

    @property
    def booked(self) -> str:
        """HASH quarter of an hour since the epoch → how many reservations cover it, no TTL. Follows from them."""
        return self.base + self.BOOKED

    @property
    def exhausted(self) -> str:
        """STRING, TTL a minute: set when a lesson found no free slot and the event stream was told."""
        return self.base + self.EXHAUSTED

    def past(self, meeting_id: int) -> str:
        """HASH, TTL 3 days: lesson and owner of a meeting, for the recording that comes when its lease is over."""
        return f"{self.base}{self.PAST}{meeting_id}"

    def guard(self, job: str) -> str:
        """STRING, short TTL: held while a job that must not run beside itself works on this pool; an import's id."""
        return self.base + "guard:" + job


POOLS = f"{ROOT}:pools"
"""SET of pool names, no TTL. Outside any pool's hash tag."""


def credential(name: str) -> str:
    """HASH, no TTL: account_id, client_id, client_secret and webhook_secret (encrypted), saved_ms."""
    return f"{ROOT}:credential:{check_name('credential', name)}"


CREDENTIALS = f"{ROOT}:credentials"
"""SET of credential names, no TTL."""


def webhook_secrets(account_digest: str) -> str:
    """SET of the names of credentials with a webhook secret of their own, by a digest of their Zoom account id; no TTL.

    A hint where to look, for nobody has verified that id yet: what the credential itself says counts.
    """
    return f"{ROOT}:webhook-secrets:{account_digest}"


RETIRING = f"{ROOT}:pools:retiring"
"""SET of personal pools that are being taken out of `POOLS`, no TTL. Empty unless somebody was killed doing it."""
CLOSING_GUARD = f"{ROOT}:pools:guard:close"
"""STRING, short TTL: held while personal pools are being closed, so that only one process does it."""


def personal_lesson(lesson: str) -> str:
    """STRING, TTL `max_hold` and `outcome_ttl`: the personal pool in which this lesson was started last."""
    return f"{ROOT}:personal:{check_name('lesson', lesson)}"


TEACHERS = f"{ROOT}:teachers"
"""ZSET of teacher ids, all with score 0, which makes it an ordered set; no TTL."""


def teacher(id: str) -> str:
    """HASH, no TTL: subscription_until_ms, zoom_user_id, capacity. Secrets are in `credential`."""
    return f"{ROOT}:teacher:{check_name('teacher', id)}"


LESSONS = f"{ROOT}:lessons"
"""ZSET lesson → position (ms): its start, or when it was registered; no TTL, old ones drop out."""


def lesson(id: str) -> str:
    """HASH, TTL `lesson_keep_days` after it: teacher, title, group, starts_ms, duration_min, created_ms."""
    return f"{ROOT}:lesson:{check_name('lesson', id)}"


def lessons_of_teacher(id: str) -> str:
    """ZSET, the part of `LESSONS` that one teacher gives. May name one too many: the lesson's own record counts."""
    return f"{LESSONS}:teacher:{check_name('teacher', id)}"


def lessons_of_group(id: str) -> str:
    """ZSET, the part of `LESSONS` that one group has; otherwise the same."""
    return f"{LESSONS}:group:{check_name('group', id)}"


def token(name: str) -> str:
    """STRING, TTL below the token's own life: the shared Zoom access token of a credential, encrypted."""
    return f"{ROOT}:credential:{{{check_name('credential', name)}}}:token"


def token_refresh(name: str) -> str:
    """STRING, TTL of one token request: whoever set it is refreshing the token of this credential."""
    return f"{ROOT}:credential:{{{check_name('credential', name)}}}:refresh"


def budget(account_id: str, category: str) -> str:
    """HASH, TTL two minutes: `n` calls so far, and the moments (ms) of the last ones in a ring; see lua/spend.lua.

    Beside it, with `:` and the number of the UTC day, a HASH, TTL until an hour after that day: `calls`, `used_up` if
    Zoom said so, and `host:{host}` → creations on that host.
    """
    return f"{ROOT}:zoom:{{{account_id}}}:{category}"


def starts(owner: str) -> str:
    """STRING, TTL one minute: how often this owner asked to start a lesson in it."""
    return f"{ROOT}:starts:{check_name('owner', owner)}"


def idempotency(owner: str, key: str) -> str:
    """STRING, TTL `idempotency_ttl`: the lesson id that an `Idempotency-Key` of this owner created.

    `key` is a digest of what the client sent, because that may hold anything.
    """
    return f"{ROOT}:idempotency:{owner}:{key}"
