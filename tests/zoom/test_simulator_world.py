"""The life of simulated meetings, and the judge that nothing escapes. A clock of the test's own, no I/O."""

from __future__ import annotations

from typing import Any

import pytest

from broker.testing.zoom_simulator import (
    Event,
    HostSpec,
    OverCapacity,
    Role,
    SimulatorSettings,
    UserType,
    ZoomSimulator,
)
from broker.testing.zoom_simulator.entities import Meeting
from broker.testing.zoom_simulator.lifecycle import HostBusy
from broker.testing.zoom_simulator.requests import CreateBody

HOST, PAIR = "host@school.example", "pair@school.example"
ACCOUNT = "demo-account"


class Stage:
    """A simulator with its clock, and what webhooks would tell."""

    def __init__(self, **changes: Any) -> None:
        self.now = 1_700_000_000.0
        hosts = (HostSpec(email=HOST), HostSpec(email=PAIR, capacity=2))
        self.simulator = ZoomSimulator(SimulatorSettings(**({"hosts": hosts} | changes)), clock=lambda: self.now)
        self.world = self.simulator.world
        self.events: list[Event] = []
        self.simulator.events.append(self.events.append)

    def create(self, host: str = HOST, **body: Any) -> Meeting:
        return self.world.create_meeting(ACCOUNT, host, lambda: CreateBody.model_validate(body))

    def start(self, host: str = HOST, **body: Any) -> Meeting:
        meeting = self.create(host, **body)
        self.world.join(meeting.id, "teacher", Role.HOST)
        return meeting

    def names(self) -> list[str]:
        return [event.name for event in self.events]

    def verdict(self) -> dict[str, Any]:
        return self.simulator.judge.verdict()


def test_first_one_in_starts_the_meeting_and_it_ends_a_while_after_the_last_left() -> None:
    stage = Stage()
    meeting = stage.create()
    assert not meeting.started
    teacher, _ = stage.world.join(meeting.id, "teacher", Role.HOST)
    stage.world.join(meeting.id, "pupil", Role.GUEST)
    assert meeting.started
    assert stage.world.leave(meeting.id, teacher.id)
    stage.now += 3600
    stage.world.settle()
    assert meeting.started, "the teacher leaving is not the end"
    assert stage.world.leave(meeting.id, "pupil")
    stage.now += 20.9
    stage.world.settle()
    assert meeting.started
    stage.now += 0.1
    stage.world.settle()
    assert not meeting.started
    assert stage.names() == [
        "meeting.created",
        "meeting.started",
        "meeting.participant_joined",
        "meeting.participant_joined",
        "meeting.participant_left",
        "meeting.participant_left",
        "meeting.ended",
    ]


def test_somebody_who_comes_back_in_time_keeps_the_meeting_alive() -> None:
    stage = Stage()
    meeting = stage.start()
    stage.world.leave(meeting.id, "teacher")
    stage.now += 20
    stage.world.join(meeting.id, "teacher", Role.HOST)
    stage.now += 20
    stage.world.settle()
    assert meeting.started
    stage.world.leave(meeting.id, "teacher")
    stage.now += 20
    stage.world.settle()
    assert meeting.started, "the wait began anew"
    stage.now += 1
    stage.world.settle()
    assert not meeting.started


def test_pupils_wait_for_the_host_unless_they_may_join_before() -> None:
    stage = Stage()
    meeting = stage.create()
    _, inside = stage.world.join(meeting.id, "early pupil", Role.GUEST)
    assert not inside
    assert not meeting.started
    stage.world.join(meeting.id, "teacher", Role.HOST)
    assert {person.name for person in meeting.participants.values()} == {"teacher", "early pupil"}

    open_door = stage.create(PAIR, settings={"join_before_host": True})
    _, inside = stage.world.join(open_door.id, "pupil", Role.GUEST)
    assert inside
    assert open_door.started


def test_a_meeting_has_a_new_uuid_after_each_end_and_the_same_id() -> None:
    stage = Stage()
    meeting = stage.start()
    uuids = {meeting.uuid}
    for _ in range(2):
        assert stage.world.end_by_host(meeting.id)
        uuids.add(meeting.uuid)
        stage.world.join(meeting.id, "teacher", Role.HOST)
    assert len(uuids) == 3
    ended = [event.object for event in stage.events if event.name == "meeting.ended"]
    assert [thing["id"] for thing in ended] == [str(meeting.id)] * 2
    assert {thing["uuid"] for thing in ended} == uuids - {meeting.uuid}


def test_end_zoom_first_counts_as_double_booking_and_throws_people_out() -> None:
    stage = Stage()
    first = stage.start(agenda="lesson one")
    stage.world.join(first.id, "pupil", Role.GUEST)
    second = stage.start(agenda="lesson two")
    assert (first.started, second.started) == (False, True)
    verdict = stage.verdict()
    assert verdict["double_booked"] == 1
    booking = verdict["double_bookings"][0]
    assert (booking["host"], booking["capacity"], booking["meetings"]) == (HOST, 1, (first.id, second.id))
    assert booking["agendas"] == ("lesson one", "lesson two")
    assert (booking["consequence"], booking["thrown_out"]) == ("ended_other", 2)
    assert verdict["peak_concurrent"] == {HOST: 2}
    left = [event.object["participant"] for event in stage.events if event.name == "meeting.participant_left"]
    assert {person["leave_reason"] for person in left} == {"Host started a new meeting."}


def test_refused_start_counts_as_double_booking_and_leaves_the_other_alone() -> None:
    stage = Stage(over_capacity=OverCapacity.REJECT)
    first = stage.start()
    second = stage.create()
    with pytest.raises(HostBusy):
        stage.world.join(second.id, "teacher", Role.HOST)
    assert (first.started, second.started, second.participants) == (True, False, {})
    verdict = stage.verdict()
    assert (verdict["double_booked"], verdict["peak_concurrent"]) == (1, {HOST: 1})
    assert verdict["double_bookings"][0]["consequence"] == "refused_start"


def test_an_old_link_opened_again_on_a_busy_host_is_double_booking() -> None:
    stage = Stage()
    old = stage.start()
    stage.world.end_by_host(old.id)
    stage.start()
    assert stage.verdict()["double_booked"] == 0
    stage.world.join(old.id, "pupil with an old link", Role.HOST)
    assert stage.verdict()["double_booked"] == 1


def test_a_host_may_run_as_many_as_its_capacity() -> None:
    stage = Stage()
    for _ in range(2):
        stage.start(PAIR)
    assert (stage.verdict()["double_booked"], stage.verdict()["peak_concurrent"]) == (0, {PAIR: 2})
    stage.start(PAIR)
    assert (stage.verdict()["double_booked"], stage.verdict()["peak_concurrent"]) == (1, {PAIR: 3})


def test_what_exists_at_the_end_is_left_behind_with_its_marker() -> None:
    stage = Stage()
    waiting, ended, deleted = (stage.create(PAIR, agenda=f"[marker {n}]") for n in range(3))
    instant = stage.start(type=1)
    stage.world.end_by_host(instant.id)
    stage.world.join(ended.id, "teacher", Role.HOST)
    stage.world.end_by_host(ended.id)
    stage.world.delete_by_api(ACCOUNT, deleted.id)
    verdict = stage.verdict()
    assert verdict["orphan_meetings"] == 2, "who has the link can start an ended meeting again; an instant one is gone"
    assert {orphan["id"] for orphan in verdict["orphans"]} == {waiting.id, ended.id}
    assert {orphan["agenda"] for orphan in verdict["orphans"]} == {"[marker 0]", "[marker 1]"}
    assert (verdict["meetings_created"], verdict["meetings_ended"]) == (4, 2)


def test_meeting_of_a_basic_user_is_cut_off_after_forty_minutes() -> None:
    stage = Stage(hosts=(HostSpec(email=HOST, type=UserType.BASIC),))
    meeting = stage.start()
    stage.now += 40 * 60 - 1
    stage.world.settle()
    assert meeting.started
    stage.now += 1
    stage.world.settle()
    assert not meeting.started


def test_cloud_recording_is_announced_after_the_end() -> None:
    stage = Stage()
    meeting = stage.start(settings={"auto_recording": "cloud"})
    uuid = meeting.uuid
    stage.now += 600
    stage.world.end_by_host(meeting.id)
    stage.now += 120
    stage.world.settle()
    event = stage.events[-1]
    assert (event.name, event.object["id"], event.object["uuid"]) == ("recording.completed", meeting.id, uuid)
    assert event.object["duration"] == 10
    assert event.object["recording_files"][0]["status"] == "completed"
    assert event.extra["download_token"]


def test_ids_are_numbers_where_zoom_has_numbers_and_text_where_it_has_text() -> None:
    stage = Stage()
    meeting = stage.start()
    stage.world.end_by_host(meeting.id)
    stage.world.delete_by_api(ACCOUNT, meeting.id)
    ids = {event.name: event.object["id"] for event in stage.events}
    text, number = str(meeting.id), meeting.id
    assert ids == {
        "meeting.created": number,
        "meeting.started": text,
        "meeting.participant_joined": text,
        "meeting.participant_left": text,
        "meeting.ended": text,
        "meeting.deleted": number,
    }


def test_same_seed_makes_the_same_meetings() -> None:
    def ids(seed: int) -> list[int]:
        stage = Stage(seed=seed)
        return [stage.create().id for _ in range(3)]

    assert ids(1) == ids(1)
    assert ids(1) != ids(2)
