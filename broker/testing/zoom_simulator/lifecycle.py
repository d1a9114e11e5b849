"""The life of a meeting: it starts with the first one in, runs, and ends; with everything that follows from that."""

from __future__ import annotations

import base64
import functools
import random
from collections import deque
from collections.abc import Callable
from typing import Any

from broker.testing.zoom_simulator import payloads
from broker.testing.zoom_simulator.entities import (
    INSTANT,
    Event,
    Host,
    Meeting,
    MeetingStatus,
    Participant,
    PastMeeting,
    zulu,
)
from broker.testing.zoom_simulator.judge import Consequence, Judge
from broker.testing.zoom_simulator.schedule import Schedule
from broker.testing.zoom_simulator.settings import OverCapacity, SimulatorSettings, UserType

PAST_KEPT = 50_000
TOKENS_KEPT = 10_000
LEFT = "left the meeting."
ENDED_BY_HOST = "Host ended the meeting."
ANOTHER_STARTED = "Host started a new meeting."
TIME_IS_UP = "Free meeting time limit reached."


class HostBusy(Exception):
    """The meeting does not start, because its host runs as many as it may."""


class Lifecycle:
    """What happens to meetings. It asks no questions: who may do what is the world's to decide.

    Args:
        settings: switches and delays.
        judge: is told of everything that it judges.
        schedule: for what follows later.
        emit: is told of everything that webhooks tell.
        chance: of names and keys.
    """

    def __init__(
        self,
        settings: SimulatorSettings,
        judge: Judge,
        *,
        schedule: Schedule,
        emit: Callable[[Event], None],
        chance: random.Random,
    ) -> None:
        self._settings = settings
        self._judge = judge
        self._schedule = schedule
        self._emit = emit
        self._chance = chance
        self._past_order: deque[str] = deque()
        self.download_tokens: deque[str] = deque(maxlen=TOKENS_KEPT)
        self.past: dict[str, PastMeeting] = {}
        """Instances that are over, by uuid."""
        self.meetings: dict[int, Meeting] = {}
        """What exists."""

    def create(self, meeting: Meeting) -> None:
        """Let a meeting exist."""
        self.meetings[meeting.id] = meeting.host.meetings[meeting.id] = meeting
        self._judge.created(meeting)
        self._tell("meeting.created", meeting, payloads.event_definition(meeting), meeting.created_at_s)

    def new_uuid(self) -> str:
        """The name of an instance, in Base64 as Zoom's: `/` and `+` are part of it now and then."""
        return base64.b64encode(self._chance.randbytes(16)).decode()

    def start(self, meeting: Meeting, now: float) -> None:
        """Start a meeting, whose host may run out of room by that.

        Raises:
            HostBusy: there is no room, and the settings say to reject it.
        """
        host = meeting.host
        if len(host.running) >= host.capacity:
            self._make_room(meeting, now)
        meeting.status = MeetingStatus.STARTED
        meeting.started_at_s = now
        meeting.attended = 0
        meeting.empty_since_s = None
        host.running.append(meeting)
        self._judge.started(meeting)
        self._tell("meeting.started", meeting, payloads.event_meeting(meeting), now)
        if host.type is UserType.BASIC:
            limit_s = self._settings.basic_limit_s * self._settings.time_scale
            self._schedule.add(now + limit_s, functools.partial(self._cut_off, meeting, meeting.uuid))

    def _make_room(self, meeting: Meeting, now: float) -> None:
        host = meeting.host
        running = tuple(host.running)
        if self._settings.over_capacity is OverCapacity.REJECT:
            self._judge.overlapped(running, meeting, now, Consequence.REFUSED_START, 0)
            raise HostBusy
        victims = running[: len(running) - host.capacity + 1]
        thrown_out = sum(len(victim.participants) for victim in victims)
        self._judge.overlapped(running, meeting, now, Consequence.ENDED_OTHER, thrown_out)
        for victim in victims:
            self.end(victim, now, ANOTHER_STARTED)

    def admit(self, meeting: Meeting, person: Participant, now: float) -> None:
        """Let somebody in."""
        person.joined_at_s = now
        meeting.participants[person.id] = person
        meeting.attended += 1
        meeting.empty_since_s = None
        more = {"join_time": zulu(now)}
        self._tell("meeting.participant_joined", meeting, payloads.event_participant(meeting, person, more), now)

    def depart(self, meeting: Meeting, person: Participant, now: float) -> None:
        """Let somebody who is in go; some time after the last one the meeting ends."""
        del meeting.participants[person.id]
        self._tell_left(meeting, person, now, f"{person.name} {LEFT}")
        if meeting.participants:
            return
        meeting.empty_since_s = now
        end_after_s = self._settings.end_after_s * self._settings.time_scale
        self._schedule.add(now + end_after_s, functools.partial(self._end_if_empty, meeting, now))

    def _end_if_empty(self, meeting: Meeting, since_s: float, at_s: float) -> None:
        if meeting.started and not meeting.participants and meeting.empty_since_s == since_s:
            self.end(meeting, at_s, LEFT)

    def _cut_off(self, meeting: Meeting, uuid: str, at_s: float) -> None:
        if meeting.started and meeting.uuid == uuid:
            self.end(meeting, at_s, TIME_IS_UP)

    def end(self, meeting: Meeting, at_s: float, reason: str) -> None:
        """End a meeting that runs. It waits again under a new uuid, except an instant one, which is gone."""
        host = meeting.host
        host.running.remove(meeting)
        for person in list(meeting.participants.values()):
            self._tell_left(meeting, person, at_s, reason)
        meeting.participants.clear()
        past = PastMeeting(
            uuid=meeting.uuid,
            id=meeting.id,
            account_id=host.account_id,
            host=host,
            topic=meeting.topic,
            type=meeting.type,
            started_at_s=meeting.started_at_s,
            ended_at_s=at_s,
            participants=meeting.attended,
        )
        self._remember(past)
        self._judge.ended(meeting)
        over = payloads.event_meeting(meeting) | {"end_time": zulu(at_s)}
        self._tell("meeting.ended", meeting, over, at_s)
        meeting.ends += 1
        meeting.uuid = self.new_uuid()
        meeting.status = MeetingStatus.WAITING
        if meeting.settings["auto_recording"] == "cloud" and host.type is UserType.LICENSED:
            ready_after_s = self._settings.recording_after_s * self._settings.time_scale
            recording = payloads.event_recording(meeting, past, self._settings.link_base)
            self._schedule.add(at_s + ready_after_s, functools.partial(self._tell_recording, host, recording))
        if meeting.type == INSTANT:
            self._forget(meeting)

    def delete(self, meeting: Meeting, now: float) -> None:
        """Let a meeting that does not run exist no more."""
        self._forget(meeting)
        self._tell("meeting.deleted", meeting, payloads.event_definition(meeting), now)

    def _forget(self, meeting: Meeting) -> None:
        del self.meetings[meeting.id], meeting.host.meetings[meeting.id]
        self._judge.gone(meeting)

    def _remember(self, past: PastMeeting) -> None:
        self.past[past.uuid] = past
        self._past_order.append(past.uuid)
        if len(self._past_order) > PAST_KEPT:
            del self.past[self._past_order.popleft()]

    # Telling of it

    def _tell(self, name: str, meeting: Meeting, thing: dict[str, Any], at_s: float) -> None:
        self._emit(Event(name, at_s, meeting.host.account_id, thing, host_email=meeting.host.email))

    def _tell_left(self, meeting: Meeting, person: Participant, at_s: float, reason: str) -> None:
        more = {"leave_time": zulu(at_s), "leave_reason": reason}
        self._tell("meeting.participant_left", meeting, payloads.event_participant(meeting, person, more), at_s)

    def _tell_recording(self, host: Host, recording: dict[str, Any], at_s: float) -> None:
        token = self.new_uuid()
        self.download_tokens.append(token)
        self._emit(
            Event("recording.completed", at_s, host.account_id, recording, host.email, {"download_token": token})
        )
