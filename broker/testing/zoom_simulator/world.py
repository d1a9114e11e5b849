"""The simulated Zoom itself: meetings that are made, start, run and end. No I/O, and no clock of its own.

Everything that happens later (the end after the last one left, the cut of a Basic user's meeting, a recording) is in a
schedule; `settle` carries out what is due. Every method settles first, so the order of things never depends on when
somebody looks.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import itertools
import random
import string
from collections import deque
from collections.abc import Callable

from broker.testing.zoom_simulator import refusals
from broker.testing.zoom_simulator.directory import Directory
from broker.testing.zoom_simulator.entities import INSTANT, Event, Host, Meeting, Participant, PastMeeting, Role
from broker.testing.zoom_simulator.judge import Judge
from broker.testing.zoom_simulator.lifecycle import ENDED_BY_HOST, TOKENS_KEPT, Lifecycle
from broker.testing.zoom_simulator.requests import CreateBody
from broker.testing.zoom_simulator.schedule import Schedule
from broker.testing.zoom_simulator.settings import InactiveUser, Refusal, SimulatorSettings, UserStatus

ZAK_LIFE_S = 7200.0


class World:
    """All accounts, with their hosts and meetings.

    Args:
        settings: switches, delays, the first hosts.
        judge: is told of everything that it judges.
        clock: seconds since the epoch.
        emit: is told of everything that webhooks tell.
        wake: is called when something was put on the schedule.
    """

    def __init__(
        self,
        settings: SimulatorSettings,
        judge: Judge,
        *,
        clock: Callable[[], float],
        emit: Callable[[Event], None],
        wake: Callable[[], None] = lambda: None,
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._chance = random.Random(f"{settings.seed}/world")
        self._zak_key = self._chance.randbytes(32)
        self._zaks: deque[str] = deque(maxlen=TOKENS_KEPT)
        self._schedule = Schedule(clock, wake)
        self._life = Lifecycle(settings, judge, schedule=self._schedule, emit=emit, chance=self._chance)
        self._user_ids = itertools.count(16778240, 1024)  # as Zoom counts them
        self.meetings = self._life.meetings
        """Those that exist, by id."""
        self.hosts = Directory(clock, emit)
        for spec in settings.hosts:
            self.hosts.add(spec)

    # What the API does

    def create_meeting(self, account_id: str, host_key: str, read: Callable[[], CreateBody]) -> Meeting:
        """Make a meeting.

        Args:
            account_id: of the calling app.
            host_key: user id or e-mail.
            read: reads the body; refused bodies count against the host's daily limit too.

        Raises:
            Refused: unknown host, host not allowed, daily limit, or bad body.
        """
        self.settle()
        host = self.hosts.find(account_id, host_key)
        self._demand_hosting(host)
        self.hosts.count_change(host, self._settings.rate_limits.host_daily)
        body, now = read(), self._clock()
        password = body.password
        if password is None:
            password = "".join(self._chance.choice(string.ascii_letters + string.digits) for _ in range(6))
        meeting = Meeting(
            id=self._new_id(),
            uuid=self._life.new_uuid(),
            host=host,
            topic=body.topic,
            agenda=body.agenda,
            type=body.type,
            start_time_s=body.start_s(now),
            duration_min=body.duration,
            timezone=body.timezone,
            password=password,
            settings=body.all_settings(),
            tracking_fields=[item.model_dump() for item in body.tracking_fields],
            created_at_s=now,
        )
        self._life.create(meeting)
        return meeting

    def meeting_of(self, account_id: str, meeting_id: int) -> Meeting:
        """A meeting of the account.

        Raises:
            Refused: there is none (3001), or its host lost the right to have meetings (3161).
        """
        self.settle()
        meeting = self.meetings.get(meeting_id)
        if meeting is None or meeting.host.account_id != account_id:
            raise refusals.unknown_meeting(meeting_id)
        self._demand_hosting(meeting.host)
        return meeting

    def end_by_api(self, account_id: str, meeting_id: int) -> None:
        """End a meeting for everybody.

        Raises:
            Refused: as `meeting_of`; and 3000 if it does not run, where the settings say so.
        """
        meeting = self.meeting_of(account_id, meeting_id)
        if meeting.started:
            self._life.end(meeting, self._clock(), ENDED_BY_HOST)
        elif self._settings.end_idle is Refusal.REFUSE:
            raise refusals.cannot_end()

    def delete_by_api(self, account_id: str, meeting_id: int) -> None:
        """Delete a meeting: nobody can start it any more.

        Raises:
            Refused: as `meeting_of`; and 3002 if it runs, where the settings say so.
        """
        meeting = self.meeting_of(account_id, meeting_id)
        if meeting.started:
            if self._settings.delete_live is Refusal.REFUSE:
                raise refusals.cannot_delete_live()
            self._life.end(meeting, self._clock(), ENDED_BY_HOST)
        if meeting.id in self.meetings:
            self._life.delete(meeting, self._clock())

    def list_meetings(self, account_id: str, host_key: str, kind: str) -> list[Meeting]:
        """A host's meetings of a kind: `live`, `scheduled` (all but instant ones) or `upcoming` (not yet over).

        Raises:
            Refused: unknown host, or host not allowed.
        """
        self.settle()
        host, now = self.hosts.find(account_id, host_key), self._clock()
        self._demand_hosting(host)
        known = [each for each in host.meetings.values() if each.created_at_s + self._settings.listed_after_s <= now]
        if kind == "live":
            return [meeting for meeting in host.running if meeting in known]
        scheduled = [meeting for meeting in known if meeting.type != INSTANT]
        if kind == "scheduled":
            return scheduled
        return [each for each in scheduled if each.started or each.start_time_s + each.duration_min * 60 > now]

    def past_meeting(self, account_id: str, uuid: str) -> PastMeeting:
        """An instance that is over.

        Raises:
            Refused: there is none, or it still runs (3001).
        """
        self.settle()
        past = self._life.past.get(uuid)
        if past is None or past.account_id != account_id:
            raise refusals.unknown_meeting(uuid)
        return past

    def zak(self, meeting: Meeting) -> str:
        """A fresh host key for a start_url, good for two hours."""
        expires = str(round(self._clock() + ZAK_LIFE_S))
        zak = f"{expires}.{self._sign(meeting.host, expires)}"
        self._zaks.append(zak)
        return zak

    def handed_out(self) -> dict[str, list[str]]:
        """The newest keys that were handed out, by their kinds."""
        return {"zaks": list(self._zaks), "download_tokens": list(self._life.download_tokens)}

    def is_zak(self, meeting: Meeting, zak: str) -> bool:
        """Whether this makes its holder the host."""
        expires, _, signature = zak.partition(".")
        return (
            expires.isdecimal()
            and self._clock() < int(expires)
            and hmac.compare_digest(signature.encode(), self._sign(meeting.host, expires).encode())
        )

    # What people do

    def join(self, meeting_id: int, name: str, role: Role, *, zak: str | None = None) -> tuple[Participant, bool]:
        """Somebody comes. The first one in starts the meeting.

        Args:
            meeting_id: where to.
            name: who.
            role: host or guest.
            zak: of a start_url; a wrong one makes a guest of whoever holds it.

        Returns:
            The stay, and whether they are in; a guest may have to wait for the host.

        Raises:
            Refused: 3001.
            HostBusy: it would be one meeting too many, and the settings say to reject it.
        """
        self.settle()
        meeting, now = self._existing(meeting_id), self._clock()
        if zak is not None:
            role = Role.HOST if self.is_zak(meeting, zak) else Role.GUEST
        person = Participant(str(next(self._user_ids)), self._life.new_uuid(), name, role, now)
        if not meeting.started:
            if role is Role.GUEST and not meeting.settings["join_before_host"]:
                meeting.lobby[person.id] = person
                return person, False
            self._life.start(meeting, now)
        self._life.admit(meeting, person, now)
        for waiting in list(meeting.lobby.values()):
            self._life.admit(meeting, waiting, now)
        meeting.lobby.clear()
        return person, True

    def leave(self, meeting_id: int, who: str) -> bool:
        """Somebody goes; some time after the last one left, the meeting ends.

        Args:
            meeting_id: where from.
            who: id or name.

        Returns:
            Whether they were there.

        Raises:
            Refused: 3001.
        """
        self.settle()
        meeting, now = self._existing(meeting_id), self._clock()
        for person in [*meeting.lobby.values(), *meeting.participants.values()]:
            if who in (person.id, person.name):
                if meeting.lobby.pop(person.id, None) is None:
                    self._life.depart(meeting, person, now)
                return True
        return False

    def end_by_host(self, meeting_id: int) -> bool:
        """The host presses "end for all"; return whether it ran.

        Raises:
            Refused: 3001.
        """
        self.settle()
        meeting = self._existing(meeting_id)
        if not meeting.started:
            return False
        self._life.end(meeting, self._clock(), ENDED_BY_HOST)
        return True

    def remove_host(self, host: Host) -> None:
        """Delete a user with all meetings."""
        self.settle()
        now = self._clock()
        for meeting in list(host.meetings.values()):
            if meeting.started:
                self._life.end(meeting, now, ENDED_BY_HOST)
            if meeting.id in self.meetings:
                self._life.delete(meeting, now)
        self.hosts.remove(host)

    # What happens by itself

    def settle(self) -> None:
        """Carry out all that is due."""
        self._schedule.settle()

    @property
    def next_due_s(self) -> float | None:
        """When `settle` has something to do next, in seconds since the epoch."""
        return self._schedule.next_due_s

    # Names and keys

    def _existing(self, meeting_id: int) -> Meeting:
        meeting = self.meetings.get(meeting_id)
        if meeting is None:
            raise refusals.unknown_meeting(meeting_id)
        return meeting

    def _new_id(self) -> int:
        while True:
            # Eleven digits, as today's: beyond 32 bits, which is where careless code breaks.
            number = self._chance.randrange(80_000_000_000, 100_000_000_000)
            if number not in self.meetings:
                return number

    def _sign(self, host: Host, expires: str) -> str:
        digest = hmac.new(self._zak_key, f"{host.id}.{expires}".encode(), hashlib.sha256).digest()
        return base64.urlsafe_b64encode(digest).decode().rstrip("=")

    def _demand_hosting(self, host: Host) -> None:
        if host.can_host:
            return
        if host.status is UserStatus.INACTIVE:
            match self._settings.inactive_user:
                case InactiveUser.NOT_ON_ACCOUNT:
                    raise refusals.user_of_another_account()
                case InactiveUser.UNKNOWN:
                    raise refusals.unknown_user(host.id)
        raise refusals.not_allowed_to_host()
